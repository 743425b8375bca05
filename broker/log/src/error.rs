//! What can go wrong, one variant wherever a caller acts differently.

use std::io;
use std::path::PathBuf;

use tidemill_records::{
    ControlError, Offset, ProducerEpoch, RecordError, Sequence, TopicPartition,
};
use tidemill_storage::atomic::AtomicFileError;
use tidemill_storage::fs::is_disk_full;
use tidemill_storage::wal::{WalError, WalFault};

/// Why a log directory or a partition of it cannot be opened, made or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint cannot be read, so nobody knows which segments are whole.
    #[error(transparent)]
    Checkpoint(#[from] AtomicFileError),
    /// The checkpoint's or a write-ahead log entry's checksum is right and its content is not.
    #[error("{what} is malformed ({cause}); run `tidemill check --data-dir DIR`")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        cause: FormatError,
    },
    /// The write-ahead log failed or is closed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The write-ahead log cannot be opened.
    #[error(transparent)]
    WalFault(#[from] WalFault),
    /// A file that a checkpoint needs could not be synced: the directory takes no more appends until a
    /// restart has read it again.
    #[error("a segment file could not be synced; restart the broker once the disk is well")]
    SyncFailed,
    /// The partition exists already.
    #[error("partition {0} exists already")]
    Exists(TopicPartition),
    /// There is no such partition.
    #[error("there is no partition {0}")]
    NoSuchPartition(TopicPartition),
    /// The partition is quarantined.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// An offset outside of the log.
    #[error("offset {offset} is outside of {start}..={end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// The largest offset allowed.
        end: Offset,
    },
    /// A segment that is needed cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory is closed.
    #[error("the log directory is closed")]
    Closed,
}

impl LogError {
    /// Whether it ends when there is space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if is_disk_full(source))
    }
}

/// Why a persisted format cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It ends before it should.
    #[error("it ends early")]
    Truncated,
    /// It goes on where it should end.
    #[error("{0} bytes are left over")]
    TrailingBytes(usize),
    /// Written by a later release.
    #[error("version {0} is not known to this release")]
    Version(u8),
    /// An enumeration's value that does not exist.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// A number that cannot be.
    #[error("a value is out of range")]
    Range,
    /// Text that is not UTF-8.
    #[error("a name is not UTF-8")]
    Utf8,
    /// Batches that are none.
    #[error("its batches are malformed")]
    Batches,
}

/// A partition is quarantined: its files contradict what is known to be durable. Its files are left as they
/// are; other partitions go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("partition {partition} is offline: {cause}; run `tidemill check --data-dir DIR`")]
pub struct Offline {
    /// The partition.
    pub partition: TopicPartition,
    /// Why.
    pub cause: OfflineCause,
}

/// Why a partition is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfflineCause {
    /// A segment file is missing.
    #[error("the segment that begins at offset {base} is missing")]
    SegmentMissing {
        /// The segment's base offset.
        base: Offset,
    },
    /// A segment file is shorter than what was synced.
    #[error("the segment that begins at offset {base} has {bytes} bytes, and {synced} were synced")]
    SegmentShort {
        /// The segment's base offset.
        base: Offset,
        /// Bytes there.
        bytes: u64,
        /// Bytes that were durable.
        synced: u64,
    },
    /// The write-ahead log continues elsewhere than where the partition ends.
    #[error("the write-ahead log continues at offset {entry}, and the log ends at {end}")]
    Gap {
        /// Where the entry begins.
        entry: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// The partition's files failed while recovery read or wrote them.
    #[error("its files cannot be used")]
    Unusable,
}

/// Why batches were not appended. Nothing of them is in the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The producer's sequence does not continue its last.
    #[error("sequence {found} where the producer's next is {expected}")]
    OutOfOrderSequence {
        /// What the batch carries.
        found: Sequence,
        /// What would continue.
        expected: Sequence,
    },
    /// The producer was fenced by a newer instance.
    #[error("producer epoch {found} is older than {current}")]
    InvalidProducerEpoch {
        /// What the batch carries.
        found: ProducerEpoch,
        /// The newest that was seen.
        current: ProducerEpoch,
    },
    /// A data batch outside of a transaction from a producer that has one open.
    #[error("the producer has an open transaction, and the batch does not belong to it")]
    InvalidTxnState,
    /// A transaction's marker from a coordinator that has been replaced.
    #[error("coordinator epoch {found} is older than {current}")]
    TransactionCoordinatorFenced {
        /// What the marker carries.
        found: i32,
        /// The newest that was seen.
        current: i32,
    },
    /// A batch is larger than `max.message.bytes`.
    #[error("a batch of {bytes} bytes is larger than the topic's bound of {max}")]
    MessageTooLarge {
        /// Bytes of the batch.
        bytes: usize,
        /// `max.message.bytes`.
        max: usize,
    },
    /// The batches together are larger than a segment or a write-ahead log file.
    #[error("{bytes} bytes of batches are more than the {max} that are appended at once")]
    RecordListTooLarge {
        /// Bytes of all batches.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A record's timestamp is too far from the broker's clock.
    #[error("timestamp {timestamp} is not within {earliest}..={latest}")]
    InvalidTimestamp {
        /// The record's or batch's.
        timestamp: i64,
        /// The earliest that the topic allows.
        earliest: i64,
        /// The latest that the topic allows.
        latest: i64,
    },
    /// No batches, or a control batch from a client.
    #[error("there is nothing to append, or a control batch from a client")]
    InvalidRecord,
    /// A record without a key for a topic that is to be compacted by key.
    #[error("Compacted topic cannot accept message without key")]
    Keyless,
    /// Records had to be decoded and cannot be.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// A control batch cannot be understood.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The log's leader epoch is newer than the one of the append.
    #[error("leader epoch {found} is older than {current}")]
    FencedLeaderEpoch {
        /// The append's.
        found: i32,
        /// The log's.
        current: i32,
    },
    /// The partition is quarantined.
    #[error(transparent)]
    Offline(#[from] Offline),
    /// The partition is deleted.
    #[error("the partition is deleted")]
    Deleted,
    /// The log ran out of offsets.
    #[error("the partition has no more offsets")]
    OffsetsExhausted,
    /// The write-ahead log failed or is full.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A segment file could not be synced; nothing is taken until a restart.
    #[error("the log directory failed; restart the broker once the disk is well")]
    DirFailed,
}

/// Why a read gave nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} is outside of {start}..={end}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// Log end offset (exclusive end of the log, and a valid place to wait at).
        end: Offset,
    },
    /// The offset is in the log and no longer on this disk: it is in the tier.
    #[error("offset {offset} is in the tier; this disk has the log from {local_start} on")]
    NotLocal {
        /// What was asked for.
        offset: Offset,
        /// Local log start offset.
        local_start: Offset,
    },
    /// A segment file holds something else than batches in order.
    #[error(
        "the segment that begins at offset {base} is corrupt at byte {position}; run `tidemill check --data-dir DIR`"
    )]
    Corrupt {
        /// The segment's base offset.
        base: Offset,
        /// Where.
        position: u64,
    },
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::sync::Arc<io::Error>,
    },
    /// A batch's records had to be decoded and cannot be.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// The partition is quarantined.
    #[error(transparent)]
    Offline(#[from] Offline),
}
