//! What functions say.

use std::sync::Arc;

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something looks wrong.
    Warn,
    /// Something happened.
    Info,
    /// Something for the author.
    Debug,
}

impl LogLevel {
    /// Unknown levels are taken for the quietest.
    pub(crate) fn of(level: u32) -> Self {
        match level {
            1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            _ => Self::Debug,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Takes the lines of a function; must not block. How many it takes is its own matter.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;
