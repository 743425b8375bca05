//! What can go wrong with a store, told so that somebody can mend it.

use std::sync::Arc;

use crate::codec::FormatError;

/// Why an operation on the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("there is no object {key}")]
    NotFound {
        /// The object.
        key: String,
    },
    /// An object was to be created and is there already.
    #[error("the object {key} exists already")]
    Exists {
        /// The object.
        key: String,
    },
    /// The bytes are not what was written.
    #[error("the object {key} is damaged: {fault}")]
    Damaged {
        /// The object.
        key: String,
        /// What is wrong with it.
        fault: FormatError,
    },
    /// No answer within the time that is allowed.
    #[error("the store has not answered a {operation} of {key} within {seconds} s")]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// The object.
        key: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Closed,
    /// The store refused, or cannot be reached.
    #[error("cannot {operation} {key}: {trouble}")]
    Failed {
        /// What was asked.
        operation: &'static str,
        /// The object.
        key: String,
        /// What is known of the cause.
        trouble: Trouble,
    },
}

impl StoreError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Failed { trouble, .. } => trouble.kind.hint(),
            Self::TimedOut { .. } => TroubleKind::Unreachable.hint(),
            Self::Damaged { .. } => Some("restore the object from a copy or a bucket version"),
            Self::NotFound { .. } | Self::Exists { .. } | Self::Closed => None,
        }
    }

    /// Whether the store is away or overloaded, which passes without anybody's doing.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Failed { trouble, .. } => matches!(
                trouble.kind,
                TroubleKind::Unreachable | TroubleKind::Busy | TroubleKind::Other
            ),
            Self::NotFound { .. } | Self::Exists { .. } | Self::Damaged { .. } | Self::Closed => {
                false
            }
        }
    }

    /// Whether another write of the same key got in the way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Failed { trouble, .. } if trouble.kind == TroubleKind::Conflict)
    }

    pub(crate) fn of(
        operation: &'static str,
        key: &object_store::path::Path,
        error: object_store::Error,
    ) -> Self {
        let key = key.to_string();
        let trouble = Trouble::of(error);
        match &*trouble.source {
            // A missing bucket is no missing object.
            object_store::Error::NotFound { .. } if trouble.kind != TroubleKind::NoBucket => {
                Self::NotFound { key }
            }
            object_store::Error::AlreadyExists { .. }
            | object_store::Error::Precondition { .. } => Self::Exists { key },
            _ => Self::Failed {
                operation,
                key,
                trouble,
            },
        }
    }
}

/// What the store said.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}: {source}{}", root(&**.source))]
pub struct Trouble {
    /// What it means.
    pub kind: TroubleKind,
    source: Arc<object_store::Error>,
}

/// What lies below an error and does not show in its text: whether a connection was refused, or what TLS did not like.
fn root(error: &dyn std::error::Error) -> String {
    let below = std::iter::successors(error.source(), |error| error.source()).last();
    let below = below.map(ToString::to_string);
    match below.filter(|below| !error.to_string().contains(below)) {
        Some(below) => format!(": {below}"),
        None => String::new(),
    }
}

/// What an answer means for who runs the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TroubleKind {
    /// The bucket does not exist.
    #[error("there is no such bucket")]
    NoBucket,
    /// Nothing says what the credentials are, and this machine has no role.
    #[error("no credentials were found")]
    NoCredentials,
    /// The credentials are not known to the store, or the signature does not match them.
    #[error("the credentials are wrong")]
    Credentials,
    /// The credentials are good, and do not allow this.
    #[error("the credentials do not allow it")]
    Forbidden,
    /// This machine's clock and the store's are too far apart.
    #[error("this machine's clock is wrong")]
    Clock,
    /// The store has no room.
    #[error("the store is full")]
    Full,
    /// The store asks for fewer requests.
    #[error("the store asks to slow down")]
    Busy,
    /// Another request got in the way.
    #[error("another request got in the way")]
    Conflict,
    /// No connection, or none that lasts.
    #[error("the store cannot be reached")]
    Unreachable,
    /// Something else.
    #[error("the store failed")]
    Other,
}

impl TroubleKind {
    /// What to do about it.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::NoBucket => Some(
                "create the bucket, or let `tidemill tier verify --tier-url URL --create-bucket` do it",
            ),
            Self::NoCredentials | Self::Credentials => Some(
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role",
            ),
            Self::Forbidden => Some(
                "run `tidemill tier verify --tier-url URL` to see which permission is missing, and grant it",
            ),
            Self::Clock => Some("let this machine's clock be set by NTP"),
            Self::Full => Some("give the store more room or raise its quota"),
            Self::Busy | Self::Conflict => None,
            Self::Unreachable => Some("check --tier-endpoint, the network and the store itself"),
            Self::Other => None,
        }
    }
}

impl Trouble {
    fn of(error: object_store::Error) -> Self {
        let kind = kind_of(&error);
        Self {
            kind,
            source: Arc::new(error),
        }
    }
}

/// The library keeps the store's answer as text only.
fn kind_of(error: &object_store::Error) -> TroubleKind {
    match TroubleKind::of_text(&format!("{error:?} {error}")) {
        Some(kind) => kind,
        None => match error {
            object_store::Error::Unauthenticated { .. } => TroubleKind::Credentials,
            object_store::Error::PermissionDenied { .. } => TroubleKind::Forbidden,
            _ => TroubleKind::Other,
        },
    }
}

impl TroubleKind {
    pub(crate) fn of_answer(answer: &str, code: u16) -> Self {
        Self::of_text(answer).unwrap_or(match code {
            401 => Self::Credentials,
            403 => Self::Forbidden,
            429 | 503 => Self::Busy,
            _ => Self::Other,
        })
    }

    /// By the codes of S3 and the words of the HTTP client.
    fn of_text(text: &str) -> Option<Self> {
        const WORDS: &[(TroubleKind, &[&str])] = &[
            (TroubleKind::NoBucket, &["NoSuchBucket"]),
            (
                TroubleKind::Clock,
                &["RequestTimeTooSkewed", "RequestExpired"],
            ),
            (TroubleKind::NoCredentials, &["169.254.169.254"]),
            (
                TroubleKind::Credentials,
                &[
                    "InvalidAccessKeyId",
                    "SignatureDoesNotMatch",
                    "InvalidToken",
                    "ExpiredToken",
                ],
            ),
            (
                TroubleKind::Full,
                &[
                    "XMinioStorageFull",
                    "QuotaExceeded",
                    "StorageFull",
                    "No space left",
                ],
            ),
            (
                TroubleKind::Forbidden,
                &[
                    "AccessDenied",
                    "Permission denied",
                    "PermissionDenied",
                    "Read-only file system",
                    "ReadOnlyFilesystem",
                ],
            ),
            (
                TroubleKind::Busy,
                &["SlowDown", "TooManyRequests", "ServiceUnavailable"],
            ),
            (
                TroubleKind::Conflict,
                &["ConditionalRequestConflict", "OperationAborted"],
            ),
            (
                TroubleKind::Unreachable,
                &[
                    "Connect",
                    "dns error",
                    "Timeout",
                    "Interrupted",
                    "ConnectionRefused",
                ],
            ),
        ];
        let is_in = |words: &&[&str]| words.iter().any(|word| text.contains(word));
        WORDS
            .iter()
            .find(|(_, words)| is_in(words))
            .map(|(kind, _)| *kind)
    }
}
