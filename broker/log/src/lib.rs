//! One replica's log: segments in Kafka's format behind a write-ahead log that all partitions of a broker share.
//!
//! An append goes into memory ([`PartitionLog`]'s tail) and into the write-ahead log: no file system call on the way of a
//! request. The drain writes segment files behind it, a checkpoint syncs them now and then, and recovery replays what
//! the write-ahead log has beyond the checkpoint. What is acknowledged is what is below [`PartitionLog::durable_end_offset`].
//!
//! This crate knows neither Kafka's wire protocol nor who decides about the high watermark: it is told.
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod append;
mod buffers;
mod checkpoint;
mod codec;
mod config;
#[cfg(test)]
mod crash_tests;
mod drain;
mod error;
mod figures;
mod files;
mod flush_mode;
mod index;
mod leader_epochs;
mod log_dir;
mod logs;
mod partition_log;
mod producers;
mod read;
mod recovery;
mod replay_files;
mod retention;
mod scan;
mod segment;
mod shared;
mod state;
mod sync;
mod tail;
#[cfg(test)]
mod testing;
mod timestamps;
mod transactions;
mod truncate;
mod upload;
mod verify;
mod wal_entry;

pub use append::{AppendInfo, AppendOrigin};
pub use buffers::{ReadBuffer, ReadBuffers};
pub use checkpoint::CheckpointError;
pub use config::{LogConfig, LogDirConfig};
pub use error::{AppendError, FormatError, LogError, Offline, OfflineCause, ReadError};
pub use figures::{LogDirFigures, PartitionFigures};
pub use log_dir::LogDir;
pub use partition_log::{OnDurable, PartitionLog};
pub use producers::ProducerFigures;
pub use read::LogRead;
pub use recovery::RecoveryReport;
pub use retention::RetentionReport;
pub use sync::SyncError;
pub use timestamps::TimestampedOffset;
pub use transactions::AbortedTransaction;
pub use upload::{ProducerSnapshot, Uploadable};
pub use verify::{FaultCause, FileFault, Verified, verify_log_dir};
