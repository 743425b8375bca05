//! Settings: plain data that the broker fills from Kafka's and its own configuration.

use std::path::PathBuf;
use std::time::Duration;

use tidemill_records::TimestampType;
use tidemill_storage::wal::WalConfig;

/// Settings of one partition's log. Each carries the name of the topic configuration it comes from;
/// `LogConfig::default()` has Kafka's defaults, but for `flush.messages`, which is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it grows past this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when the timestamps of its batches span more than this.
    pub segment_ms: i64,
    /// `index.interval.bytes`: so many bytes of log have one index entry.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment is rolled when an index would grow past this.
    pub segment_index_bytes: u32,
    /// `retention.ms`; None keeps records for ever (Kafka's -1).
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; None sets no bound (Kafka's -1).
    pub retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` has `compact`: records without a key could never be compacted, and are refused.
    pub compact: bool,
    /// Whether retention deletes by age and size at all; false where `cleanup.policy` is only `compact`.
    pub delete_by_retention: bool,
    /// `remote.storage.enable` on a broker with a tier: what is deleted from this disk is decided by
    /// [`crate::PartitionLog::trim_local`], and where the log begins by whoever knows what the tier has.
    pub tiered: bool,
    /// `remote.log.copy.disable` of a tiered log: nothing more is uploaded.
    pub remote_copy_disabled: bool,
    /// `local.retention.ms` of a tiered log; None keeps records on this disk for as long as the log has them.
    pub local_retention_ms: Option<i64>,
    /// `local.retention.bytes` of a tiered log; None sets no bound.
    pub local_retention_bytes: Option<u64>,
    /// `max.message.bytes`: the largest batch that a client may append.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far in the past a record's CreateTime may lie.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far in the future a record's CreateTime may lie.
    pub timestamp_after_max_ms: i64,
    /// `flush.messages`: at 1 every append goes through the write-ahead log; above, it does not, and
    /// segment files are synced after so many records, as Kafka does.
    pub flush_messages: i64,
    /// `flush.ms`: where appends skip the write-ahead log, segment files are synced after so long.
    pub flush_ms: i64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            delete_by_retention: true,
            tiered: false,
            remote_copy_disabled: false,
            local_retention_ms: None,
            local_retention_bytes: None,
            compact: false,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            flush_messages: 1,
            flush_ms: i64::MAX,
        }
    }
}

impl LogConfig {
    /// Whether appends skip the write-ahead log.
    pub fn is_unlogged(&self) -> bool {
        self.flush_messages > 1
    }
}

/// Settings of a log directory. [`LogDirConfig::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct LogDirConfig {
    /// The data directory: `topics/`, `wal/` and `log.checkpoint` are made in it.
    pub dir: PathBuf,
    /// The write-ahead log.
    pub wal: WalConfig,
    /// A checkpoint is taken at the latest so long after the first change since the one before.
    pub checkpoint_interval: Duration,
    /// A checkpoint is taken when recovery would have to read so many bytes of write-ahead log.
    pub checkpoint_wal_bytes: u64,
    /// [`crate::LogDir::admit`] waits while recovery would have to read so many bytes: the bound when
    /// checkpoints fail.
    pub wal_bytes_max: u64,
    /// A partition is drained when so much of it waits for its segment file,
    pub drain_run_bytes: usize,
    /// or so long after the first of it came.
    pub drain_delay: Duration,
    /// Newest batches kept in memory, over all partitions: those not drained yet and those that
    /// consumers at the tail read.
    pub tail_cache_bytes: usize,
    /// [`crate::LogDir::admit`] waits while so much is not drained.
    pub undrained_bytes_max: usize,
    /// Open segment and index files, over all partitions.
    pub open_files_max: usize,
    /// `producer.id.expiration.ms`: an idempotent producer that is silent for so long is forgotten.
    pub producer_id_expiration_ms: i64,
    /// The most producers remembered per partition; those silent longest are forgotten first.
    pub producers_per_partition_max: usize,
    /// The settings of a partition that recovery found, until [`crate::PartitionLog::set_config`].
    pub recovered_config: LogConfig,
}

impl LogDirConfig {
    /// The defaults for a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> LogDirConfig {
        let dir = dir.into();
        LogDirConfig {
            wal: WalConfig::new(dir.join("wal")),
            dir,
            checkpoint_interval: Duration::from_secs(30),
            checkpoint_wal_bytes: 512 << 20,
            wal_bytes_max: 2 << 30,
            drain_run_bytes: 128 << 10,
            drain_delay: Duration::from_secs(1),
            tail_cache_bytes: 64 << 20,
            undrained_bytes_max: 32 << 20,
            open_files_max: 512,
            producer_id_expiration_ms: 24 * 3_600_000,
            producers_per_partition_max: 10_000,
            recovered_config: LogConfig::default(),
        }
    }
}
