//! The one place where our errors become Kafka's codes.

use tidemill_log::{AppendError, LogError, ReadError};
use tidemill_metadata::{ProposeError, Rejection};
use tidemill_protocol::ErrorCode;
use tidemill_records::{BatchError, HeaderFault};

use crate::offset_by_time::TimeError;
use crate::partition::PartitionError;
use crate::tiering::RemoteError;

impl From<&PartitionError> for ErrorCode {
    fn from(error: &PartitionError) -> Self {
        match error {
            PartitionError::Retired => Self::UnknownTopicOrPartition,
            PartitionError::NotLeader => Self::NotLeaderOrFollower,
            PartitionError::FencedLeaderEpoch { .. } => Self::FencedLeaderEpoch,
            PartitionError::UnknownLeaderEpoch { .. } => Self::UnknownLeaderEpoch,
            PartitionError::NotEnoughReplicas { .. } => Self::NotEnoughReplicas,
            PartitionError::Append(error) => append(error),
            PartitionError::Read(error) => read(error),
            PartitionError::Log(error) => log(error),
        }
    }
}

fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::InvalidTxnState => ErrorCode::InvalidTxnState,
        AppendError::TransactionCoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
        AppendError::InvalidRecord | AppendError::Keyless => ErrorCode::InvalidRecord,
        AppendError::Records(_) | AppendError::Control(_) => ErrorCode::CorruptMessage,
        AppendError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
        AppendError::Offline(_)
        | AppendError::OffsetsExhausted
        | AppendError::Wal(_)
        | AppendError::DirFailed => ErrorCode::KafkaStorageError,
    }
}

fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        // Who reads from the tier comes first; this is for who cannot.
        ReadError::NotLocal { .. } => ErrorCode::KafkaStorageError,
        ReadError::Corrupt { .. } | ReadError::Records(_) => ErrorCode::CorruptMessage,
        ReadError::Io { .. } | ReadError::Offline(_) => ErrorCode::KafkaStorageError,
    }
}

/// What a consumer is told when the tier does not give its records: to try again.
pub(super) fn remote(error: &RemoteError) -> ErrorCode {
    match error {
        RemoteError::Absent(_) => ErrorCode::OffsetOutOfRange,
        RemoteError::Records(error) => read(error),
        RemoteError::Store(_) => ErrorCode::KafkaStorageError,
    }
}

/// What a consumer is told when a search by time fails.
pub(super) fn time(error: &TimeError) -> ErrorCode {
    match error {
        TimeError::Remote(error) => remote(error),
        TimeError::Read(error) => read(error),
    }
}

fn log(error: &LogError) -> ErrorCode {
    match error {
        LogError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LogError::NoSuchPartition(_) => ErrorCode::UnknownTopicOrPartition,
        LogError::Read(error) => read(error),
        _ => ErrorCode::KafkaStorageError,
    }
}

/// What a producer is told of a batch that is none.
pub(super) fn batch(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Crc { .. }
        | BatchError::Truncated { .. }
        | BatchError::Header(HeaderFault::Length(_) | HeaderFault::Magic(_)) => {
            ErrorCode::CorruptMessage
        }
        BatchError::Header(HeaderFault::Codec(_)) => ErrorCode::UnsupportedCompressionType,
        BatchError::Header(HeaderFault::LogAppendTime) => ErrorCode::InvalidTimestamp,
        BatchError::UnsupportedMagic(_) | BatchError::Header(_) => ErrorCode::InvalidRecord,
    }
}

/// What a client is told of a command that did not take effect.
pub(crate) fn proposal(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::Rejected(rejection) => rejected(rejection),
        ProposeError::NotController { .. } => ErrorCode::NotController,
        ProposeError::OutcomeUnknown => ErrorCode::RequestTimedOut,
        ProposeError::Shutdown => ErrorCode::NotController,
        ProposeError::Fatal(_) => ErrorCode::KafkaStorageError,
    }
}

fn rejected(rejection: &Rejection) -> ErrorCode {
    match rejection {
        Rejection::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        Rejection::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
        Rejection::InvalidTopicName(_) => ErrorCode::InvalidTopicException,
        Rejection::PartitionCount(_) | Rejection::PartitionCountChanged(_) => {
            ErrorCode::InvalidPartitions
        }
        Rejection::Assignment { .. } => ErrorCode::InvalidReplicaAssignment,
        Rejection::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Rejection::StaleBrokerEpoch(_) => ErrorCode::StaleBrokerEpoch,
        Rejection::ConfigTooLarge => ErrorCode::InvalidConfig,
        Rejection::CommandTooLarge(_) => ErrorCode::PolicyViolation,
        _ => ErrorCode::InvalidRequest,
    }
}
