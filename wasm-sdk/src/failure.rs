//! Why a configuration or a record is refused.

use std::borrow::Cow;
use std::fmt;

/// Why a configuration or a record is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u32,
    message: Cow<'static, str>,
}

impl Failure {
    /// The code of a failure that is made of a text alone.
    pub const UNSPECIFIED: u32 = 1;
    /// The code of a value that is not JSON.
    pub const NOT_JSON: u32 = 2;
    /// The code of a configuration that is refused.
    pub const CONFIGURATION: u32 = 3;
    /// The code of a frame of the host that cannot be read.
    pub const MALFORMED_FRAME: u32 = u32::MAX;

    /// A failure with a code of the function's own choice; 0 means success to a host and becomes
    /// [`UNSPECIFIED`](Self::UNSPECIFIED). Hosts keep up to 4 KiB of the message.
    pub fn new(code: u32, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code: code.max(Self::UNSPECIFIED),
            message: message.into(),
        }
    }

    /// The configuration is refused: the message names the key and what is allowed.
    pub fn configuration(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Self::CONFIGURATION, message)
    }

    /// Never 0.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<&'static str> for Failure {
    fn from(message: &'static str) -> Self {
        Self::new(Self::UNSPECIFIED, message)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::new(Self::UNSPECIFIED, message)
    }
}

impl From<crate::json::Error> for Failure {
    fn from(error: crate::json::Error) -> Self {
        Self::new(Self::NOT_JSON, format!("the value is not JSON: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for Failure {}
