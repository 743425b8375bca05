//! Errors of a connection and of a client, with what a retry loop needs to know about them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::{ApiKey, DecodeError, EncodeError, ErrorCode};
use tidemill_records::{BatchError, BuildError, PartitionId};

/// Why one connection could not carry a request. Cloneable, since one broken socket fails every request
/// that is pending on it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectionError {
    /// No TCP connection came about.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port` that was dialled.
        address: Arc<str>,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The socket failed while it was in use.
    #[error("the connection to {address} broke")]
    Io {
        /// The peer.
        address: Arc<str>,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The peer closed, or this side did.
    #[error("the connection to {address} is closed")]
    Closed {
        /// The peer.
        address: Arc<str>,
    },
    /// No answer within the request's deadline.
    #[error("{address} did not answer {api} within {limit:?}")]
    Timeout {
        /// The peer.
        address: Arc<str>,
        /// The request that waited.
        api: &'static str,
        /// How long it waited.
        limit: Duration,
    },
    /// The peer announced a frame over the limit; nothing of it was allocated.
    #[error(
        "{address} announced an answer of {length} bytes (limit {limit}): is it a Kafka listener?"
    )]
    FrameLength {
        /// The peer.
        address: Arc<str>,
        /// The announced length.
        length: i64,
        /// The largest length that is taken.
        limit: usize,
    },
    /// Answers must come in the order of the requests; this one does not belong to the oldest request.
    #[error("{address} answered request {got} while {expected:?} was due")]
    Correlation {
        /// The peer.
        address: Arc<str>,
        /// The id that was due; `None` when no request was pending.
        expected: Option<i32>,
        /// The id that came.
        got: i32,
    },
    /// The answer's bytes are not what the protocol says.
    #[error("the answer of {address} to {api} v{version} cannot be read")]
    Decode {
        /// The peer.
        address: Arc<str>,
        /// The request.
        api: &'static str,
        /// The version spoken.
        version: i16,
        /// What is wrong with the bytes.
        source: DecodeError,
    },
    /// The request has a value that the negotiated version cannot carry.
    #[error("{api} v{version} cannot carry the request")]
    Encode {
        /// The request.
        api: &'static str,
        /// The negotiated version.
        version: i16,
        /// The field that does not fit.
        source: EncodeError,
    },
    /// No version in common.
    #[error("{address} does not speak {api} in a version that we know (it offers {offered:?})")]
    Unsupported {
        /// The peer.
        address: Arc<str>,
        /// The request.
        api: &'static str,
        /// Lowest and highest version that the peer offers; `None` when it lacks the API.
        offered: Option<(i16, i16)>,
    },
}

/// Why a call of the client failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// None of the known brokers takes connections.
    #[error("no broker answers at {addresses}")]
    Unreachable {
        /// What was tried, joined by commas.
        addresses: Arc<str>,
        /// Why the last attempt failed.
        source: ConnectionError,
    },
    /// A connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A broker answered with an error code.
    #[error("{api} {subject}: {}", broker_text(*code, message.as_deref()))]
    Broker {
        /// The request.
        api: &'static str,
        /// The topic, partition, group… that the code is about; may be empty.
        subject: Arc<str>,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker added.
        message: Option<Arc<str>>,
    },
    /// Fresh metadata does not have the topic.
    #[error("topic {topic:?} does not exist")]
    UnknownTopic {
        /// The name that was asked for.
        topic: Arc<str>,
    },
    /// The topic has fewer partitions.
    #[error("topic {topic:?} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition that was asked for.
        partition: PartitionId,
    },
    /// The call's total time, retries included, is used up.
    #[error("gave up after {limit:?}")]
    Deadline {
        /// The total time.
        limit: Duration,
        /// What the last attempt failed with; `None` when the first one was still under way.
        source: Option<Box<ClientError>>,
    },
    /// The batches in an answer do not verify.
    #[error("{topic}-{partition} holds a batch that does not verify")]
    Batch {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: PartitionId,
        /// What is wrong.
        source: BatchError,
    },
    /// The records do not make a batch.
    #[error("the records do not make a batch")]
    Build(#[from] BuildError),
    /// The answer is well-formed but lacks what was asked for.
    #[error("the answer to {api} lacks {what}")]
    Incomplete {
        /// The request.
        api: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// An earlier batch of this producer failed, so later sequences cannot be accepted either.
    #[error("the producer stopped at an earlier error")]
    ProducerStopped(#[source] Box<ClientError>),
}

fn broker_text(code: ErrorCode, message: Option<&str>) -> String {
    let message = message
        .filter(|message| !message.is_empty())
        .unwrap_or(code.message());
    format!("{message} ({})", code.name())
}

impl ClientError {
    /// An error code about `subject` in an answer to `api`.
    pub(crate) fn broker(
        api: ApiKey,
        subject: impl Into<Arc<str>>,
        code: ErrorCode,
        message: Option<&str>,
    ) -> ClientError {
        ClientError::Broker {
            api: api.name(),
            subject: subject.into(),
            code,
            message: message.map(Arc::from),
        }
    }

    /// The broker's error code, where one is the cause.
    pub fn code(&self) -> Option<ErrorCode> {
        self.broker_error().map(|(code, _)| code)
    }

    /// The broker's error code and the topic, partition or group that it is about, where one is the cause.
    pub fn broker_error(&self) -> Option<(ErrorCode, &str)> {
        match self {
            ClientError::Broker { code, subject, .. } => Some((*code, subject)),
            ClientError::Deadline {
                source: Some(source),
                ..
            } => source.broker_error(),
            ClientError::ProducerStopped(source) => source.broker_error(),
            _ => None,
        }
    }

    /// Whether nobody could be reached at all (as opposed to an answer that says no).
    pub fn is_unreachable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Connection(error) => {
                matches!(
                    error,
                    ConnectionError::Connect { .. } | ConnectionError::Timeout { .. }
                )
            }
            ClientError::Deadline { source, .. } => {
                source.as_ref().is_none_or(|source| source.is_unreachable())
            }
            ClientError::ProducerStopped(source) => source.is_unreachable(),
            _ => false,
        }
    }

    /// Whether the same call can succeed later, after a pause and with fresh metadata.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } => true,
            ClientError::Connection(error) => matches!(
                error,
                ConnectionError::Connect { .. }
                    | ConnectionError::Io { .. }
                    | ConnectionError::Closed { .. }
                    | ConnectionError::Timeout { .. }
            ),
            ClientError::Broker { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}
