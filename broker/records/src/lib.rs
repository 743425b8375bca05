//! Kafka's record batches (magic 2) and the identifiers that everything else speaks in.
//!
//! A [`RecordBatch`] exists only after [`RecordBatch::parse`] has checked length, magic, CRC and the
//! header's own consistency once, or because a [`RecordBatchBuilder`] made it; from then on the type is
//! the proof and nobody checks again. Payloads stay closed: [`RecordBatch::records`] opens them under an
//! explicit [`DecodeLimit`]. This crate does no I/O and reads no clock.
#![warn(missing_docs, clippy::unwrap_used)]

mod batch;
mod builder;
mod compression;
mod control;
#[cfg(test)]
mod golden;
mod header;
mod ids;
mod partitioner;
mod record;
mod remote;
mod varint;

pub use batch::{BatchRules, RecordBatch};
pub use builder::{BuildError, RecordBatchBuilder};
pub use compression::{Compression, CompressionError};
pub use control::{ControlError, ControlRecord, EndTransactionMarker};
pub use header::{BatchError, BatchHeader, HEADER_BYTES, HeaderFault, TimestampType};
pub use ids::{
    LeaderEpoch, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId,
    TopicPartition,
};
pub use partitioner::{murmur2, murmur2_partition};
pub use record::{
    DecodeLimit, Headers, HeadersIter, Record, RecordError, RecordFault, RecordHeader, RecordIter,
    RecordsSummary,
};
pub use remote::{
    EpochStart, Extent, ManifestError, MaxTimestamp, ObjectId, PageRef, RemoteObject,
};
