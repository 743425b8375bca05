//! Figures as plain data: the broker makes metrics of them.

use tidemill_records::Offset;
use tidemill_storage::wal::WalStats;

use crate::error::OfflineCause;

/// One partition at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFigures {
    /// The first offset that readers may ask for.
    pub log_start: Offset,
    /// The first offset on this disk.
    pub local_log_start: Offset,
    /// The offset that the next record gets.
    pub log_end: Offset,
    /// End of what survives a power loss.
    pub durable_end: Offset,
    /// How far the log is replicated.
    pub high_watermark: Offset,
    /// Segments, the active one included.
    pub segments: usize,
    /// Bytes of all segments.
    pub size_bytes: u64,
    /// Bytes of them that are not in a segment file yet.
    pub undrained_bytes: u64,
    /// Bytes of them in memory.
    pub cached_bytes: u64,
    /// Producers remembered.
    pub producers: usize,
    /// Why it is quarantined.
    pub offline: Option<OfflineCause>,
}

/// The log directory at one moment; counts are since it was opened.
#[derive(Debug, Clone)]
pub struct LogDirFigures {
    /// Partitions.
    pub partitions: usize,
    /// Partitions in quarantine.
    pub offline_partitions: usize,
    /// The write-ahead log.
    pub wal: WalStats,
    /// Bytes that wait for their segment file.
    pub undrained_bytes: usize,
    /// Newest batches in memory.
    pub cached_bytes: usize,
    /// Bytes written to segment files.
    pub drained_bytes: u64,
    /// Runs written to segment files.
    pub drain_writes: u64,
    /// Runs that failed and are tried again.
    pub drain_errors: u64,
    /// Calls of fdatasync on files of partitions.
    pub file_syncs: u64,
    /// Reads of segment files.
    pub file_reads: u64,
    /// Bytes of them.
    pub file_read_bytes: u64,
    /// Segment and index files that are open.
    pub open_files: usize,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Checkpoints that failed.
    pub checkpoint_errors: u64,
    /// Appends are refused until a restart: a sync failed.
    pub failed: bool,
}
