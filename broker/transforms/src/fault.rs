//! Why a function did not get through a frame.

use std::time::Duration;

use crate::frame::FrameFault;

/// Why a call of a function failed. The instance is gone; a fresh one takes its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It trapped.
    #[error("the function trapped: {0}")]
    Trap(Box<str>),
    /// It ran longer than it may.
    #[error("the function used more than its {} ms of processor time", .0.as_millis())]
    Time(Duration),
    /// It wanted more memory than it may have, and trapped.
    #[error("the function wanted more than its {0} bytes of memory")]
    Memory(u64),
    /// It gave back a frame that breaks the rules.
    #[error("the function gave back a bad frame: {0}")]
    Frame(#[from] FrameFault),
    /// It refused the whole frame.
    #[error("the function refused the frame with code {code}: {message}")]
    Refused {
        /// Its own code.
        code: u32,
        /// What it says.
        message: Box<str>,
    },
    /// It refused its configuration.
    #[error("the function refused its configuration with code {code}: {message}")]
    Configuration {
        /// Its own code.
        code: u32,
        /// What it says.
        message: Box<str>,
    },
    /// It needs features that this host does not have.
    #[error("the function needs features {0:#x}, which this release does not have")]
    Features(u32),
    /// No instance could be made.
    #[error("no instance can be made: {0}")]
    Instantiate(Box<str>),
}

impl Fault {
    /// One word for metrics and dead letters.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Time(_) => "time",
            Self::Memory(_) => "memory",
            Self::Frame(FrameFault::TooManyOutputs(_) | FrameFault::TooManyBytes(_)) => "output",
            Self::Frame(_) => "frame",
            Self::Refused { .. } => "refused",
            Self::Configuration { .. } => "configuration",
            Self::Features(_) => "features",
            Self::Instantiate(_) => "instantiate",
        }
    }
}
