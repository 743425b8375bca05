//! What may go wrong, as data: this is the JSON of `POST /faults`.
//!
//! Each fault is one way in which a real store has failed its clients. Where a fault acts is told by its
//! name: before the operation, instead of it, after it, or on the way of its answer.

use std::num::NonZeroU64;

use hyper::StatusCode;
use s3s::{S3Error, S3ErrorCode};
use serde::Deserialize;

/// All faults of a double: the rules in their order, then the seeded mode for what no rule took.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// The first rule that fires decides; a request that it took is not counted by later rules.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Faults at random, the same ones for the same seed and order of requests.
    #[serde(default)]
    pub seeded: Option<Seeded>,
}

/// One fault for some of the requests that it matches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of the S3 operation, such as `PutObject`; `*` stands for any characters.
    pub op: String,
    /// Prefix of the object key. Operations on buckets, lists among them, have the key "".
    #[serde(default)]
    pub key: String,
    /// How often the fault strikes; without a number, always.
    #[serde(default)]
    pub times: Option<u64>,
    /// How many matching requests pass first.
    #[serde(default)]
    pub after: u64,
    /// Share of the matching requests that are struck, from 0 to 1.
    #[serde(default)]
    pub probability: Option<f64>,
    /// Decides which ones, together with their number among the matches.
    #[serde(default)]
    pub seed: u64,
    /// What happens to them.
    pub fault: Fault,
}

/// Faults at random over all operations.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeded {
    /// Decides, together with the number of the request since the faults were set.
    pub seed: u64,
    /// Share of the requests that are struck, from 0 to 1.
    pub probability: f64,
    /// What may happen; a request gets one of those that fit its operation.
    pub faults: Vec<Fault>,
}

/// An error that a store answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorAnswer {
    /// From 400 to 599.
    pub status: ErrorStatus,
    /// S3's error code, such as `SlowDown`; any text is allowed.
    pub code: String,
}

/// One way to fail.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Answers the error; the operation never takes effect.
    Status(ErrorAnswer),
    /// Does the operation, then answers the error.
    StatusAfterCommit(ErrorAnswer),
    /// Does the operation, says nothing for `hang_ms` and closes the connection.
    TimeoutAfterCommit { hang_ms: u64 },
    /// Says nothing for `hang_ms` and closes the connection; the operation never takes effect.
    Hang { hang_ms: u64 },
    /// A GET announces the whole length and ends the connection after `keep_bytes` (by default half).
    TruncatedBody {
        #[serde(default)]
        keep_bytes: Option<u64>,
    },
    /// A GET has one bit of its body turned over; the seed says which.
    WrongBytes {
        #[serde(default)]
        seed: u64,
    },
    /// A GET answers 206 for a range that ends `missing_bytes` (by default 1) too early, but never for
    /// less than one byte.
    ShortBody {
        #[serde(default = "one_byte")]
        missing_bytes: NonZeroU64,
    },
    /// Waits `first_byte_ms`, then sends the body at `bytes_per_s` (by default at once).
    Slow {
        #[serde(default)]
        first_byte_ms: u64,
        #[serde(default)]
        bytes_per_s: Option<NonZeroU64>,
    },
    /// A PUT is answered at once, with the error or by closing the connection, and takes effect
    /// `delay_ms` later. Its condition is checked then.
    LatePut {
        delay_ms: u64,
        #[serde(default)]
        answer: Option<ErrorAnswer>,
    },
    /// A PUT is answered with success and stores nothing.
    LostPut,
    /// A PUT checks its condition, pauses, and stores without checking again.
    NonAtomicConditionalPut { pause_ms: u64 },
}

fn one_byte() -> NonZeroU64 {
    NonZeroU64::MIN
}

impl Fault {
    /// Whether the fault can strike this operation at all.
    pub(crate) fn fits(&self, op: &str) -> bool {
        match self {
            Self::TruncatedBody { .. } | Self::WrongBytes { .. } | Self::ShortBody { .. } => {
                op == "GetObject"
            }
            Self::LatePut { .. } | Self::LostPut | Self::NonAtomicConditionalPut { .. } => {
                op == "PutObject"
            }
            _ => true,
        }
    }

    /// The name in JSON, for the log of requests.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::StatusAfterCommit(_) => "status_after_commit",
            Self::TimeoutAfterCommit { .. } => "timeout_after_commit",
            Self::Hang { .. } => "hang",
            Self::TruncatedBody { .. } => "truncated_body",
            Self::WrongBytes { .. } => "wrong_bytes",
            Self::ShortBody { .. } => "short_body",
            Self::Slow { .. } => "slow",
            Self::LatePut { .. } => "late_put",
            Self::LostPut => "lost_put",
            Self::NonAtomicConditionalPut { .. } => "non_atomic_conditional_put",
        }
    }
}

impl ErrorAnswer {
    pub(crate) fn to_error(&self) -> S3Error {
        let Ok(code) = self.code.parse::<S3ErrorCode>();
        let mut error = S3Error::with_message(code, "injected by the test's S3 double");
        error.set_status_code(self.status.into());
        error
    }
}

/// A status that says that a request failed: 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub struct ErrorStatus(StatusCode);

/// Refusal of a status that is not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnError(u16);

impl std::fmt::Display for NotAnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {} is not an error: use 400 to 599", self.0)
    }
}

impl std::error::Error for NotAnError {}

impl TryFrom<u16> for ErrorStatus {
    type Error = NotAnError;

    fn try_from(status: u16) -> Result<Self, NotAnError> {
        StatusCode::from_u16(status)
            .ok()
            .filter(|status| status.is_client_error() || status.is_server_error())
            .map(Self)
            .ok_or(NotAnError(status))
    }
}

impl From<ErrorStatus> for StatusCode {
    fn from(status: ErrorStatus) -> Self {
        status.0
    }
}
