//! What tests of this crate share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_records::{
    Compression, Headers, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, RecordBatch,
    RecordBatchBuilder, Sequence, TopicId, TopicPartition,
};
use tidemill_storage::clock::ManualClock;
use tidemill_storage::fs::{Fs, OpenMode, SimFaults, SimFs};
use uuid::Uuid;

use crate::{
    AppendInfo, AppendOrigin, LogConfig, LogDir, LogDirConfig, PartitionLog, RecoveryReport,
};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

/// A batch of `records` records with values of `bytes` bytes, from `timestamp` on one ms apart.
pub(crate) fn batch_at(timestamp: i64, records: usize, bytes: usize) -> RecordBatch {
    let builder = RecordBatchBuilder::new(Compression::None);
    fill(builder, timestamp, records, bytes)
}

pub(crate) fn batch(records: usize, bytes: usize) -> RecordBatch {
    batch_at(NOW_MS, records, bytes)
}

/// A batch of a producer with epoch 0.
pub(crate) fn sequenced(producer: i64, sequence: i32, records: usize) -> RecordBatch {
    let builder = RecordBatchBuilder::new(Compression::None);
    let id = ProducerId(producer);
    let builder = builder.producer(id, ProducerEpoch(0), Sequence(sequence));
    fill(builder, NOW_MS, records, 10)
}

pub(crate) fn fill(
    mut builder: RecordBatchBuilder,
    timestamp: i64,
    records: usize,
    bytes: usize,
) -> RecordBatch {
    for at in 0..records {
        let value = vec![at as u8; bytes];
        builder.push(
            timestamp + at as i64,
            Some(b"key"),
            Some(&value),
            &Headers::default(),
        );
    }
    builder.build().expect("a batch")
}

pub(crate) fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, PartitionId(partition))
}

pub(crate) fn topic_id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

/// Small everything, and a drain and a checkpoint only when asked.
pub(crate) fn dir_config() -> LogDirConfig {
    let mut config = LogDirConfig::new(PathBuf::from("/data"));
    config.wal.file_bytes = 1 << 20;
    config.checkpoint_interval = Duration::from_secs(3600);
    config.drain_delay = Duration::from_secs(3600);
    config.recovered_config = log_config();
    config
}

pub(crate) fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 4096,
        index_interval_bytes: 200,
        retention_ms: None,
        ..LogConfig::default()
    }
}

/// A log directory on a simulated disk.
pub(crate) struct Bench {
    pub(crate) fs: SimFs,
    pub(crate) config: LogDirConfig,
    pub(crate) dir: Arc<LogDir>,
    pub(crate) report: RecoveryReport,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(SimFs::new(1), dir_config())
    }

    pub(crate) fn with(fs: SimFs, config: LogDirConfig) -> Bench {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let for_dir: Arc<dyn Fs> = Arc::new(fs.clone());
        let (dir, report) =
            LogDir::open(for_dir, config.clone(), clock).expect("the directory opens");
        Bench {
            fs,
            config,
            dir,
            report,
        }
    }

    /// Dies and starts again from what the disk kept.
    pub(crate) fn crash(self) -> Bench {
        self.fs.crash();
        let config = self.config.clone();
        let fs = self.fs.reboot();
        drop(self.dir);
        Bench::with(fs, config)
    }

    /// Closes in order and starts again.
    pub(crate) async fn restart(self) -> Bench {
        self.dir.close().await.expect("closes");
        let fs = self.fs.reboot();
        Bench::with(fs, self.config.clone())
    }

    pub(crate) fn create(&self, topic: &str) -> Arc<PartitionLog> {
        self.create_with(topic, log_config())
    }

    pub(crate) fn create_with(&self, topic: &str, config: LogConfig) -> Arc<PartitionLog> {
        let id = topic_id(topic.bytes().fold(7, |id, byte| id * 31 + u128::from(byte)));
        self.dir
            .create(tp(topic, 0), id, Arc::new(config))
            .expect("made")
    }

    pub(crate) fn get(&self, topic: &str) -> Arc<PartitionLog> {
        self.dir.get(&tp(topic, 0)).expect("the partition is there")
    }

    /// Appends and waits until it is durable.
    pub(crate) async fn append(&self, log: &PartitionLog, batch: RecordBatch) -> AppendInfo {
        let info = append(log, batch);
        self.dir
            .wal()
            .wait_durable(info.lsn)
            .await
            .expect("durable");
        info
    }

    /// Everything appended is in segment files, and not in memory.
    pub(crate) async fn drain_and_evict(&self, log: &PartitionLog) {
        self.dir.checkpoint().await.expect("a checkpoint");
        log.evict(log.log_end_offset());
        assert_eq!(log.figures().cached_bytes, 0);
    }

    /// The partition's file of that name.
    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        let found = self.fs.contents().into_iter();
        let mut found = found.filter(|(path, _)| path.ends_with(name));
        found.next().unwrap_or_else(|| panic!("no file {name}")).1
    }
}

pub(crate) fn append(log: &PartitionLog, batch: RecordBatch) -> AppendInfo {
    log.append_as_leader(vec![batch], LeaderEpoch(0), AppendOrigin::Client, NOW_MS)
        .expect("appended")
}

/// All batches from `from` on, read as a consumer does, so many bytes at once.
pub(crate) fn read_all(log: &PartitionLog, from: Offset, max_bytes: usize) -> Vec<RecordBatch> {
    let (mut next, mut batches) = (from, Vec::new());
    while next < log.log_end_offset() {
        let read = log
            .read(next, Offset(i64::MAX), max_bytes, true)
            .expect("readable");
        assert!(read.next > next, "a read goes on");
        assert_eq!(
            read.bytes,
            read.chunks.iter().map(|chunk| chunk.len()).sum::<usize>()
        );
        next = read.next;
        batches.extend(read.into_batches().expect("batches"));
    }
    batches
}

/// The space that the disk's files occupy: the least capacity with which they could be written over.
pub(crate) fn used_bytes(fs: &SimFs) -> u64 {
    let (mut low, mut high) = (0, 1 << 32);
    while low < high {
        let middle = (low + high) / 2;
        let probe = fs.clone_disk();
        let file = probe
            .open("/probe".as_ref(), OpenMode::Create)
            .expect("a file");
        probe.set_faults(SimFaults {
            capacity_bytes: Some(middle),
            ..SimFaults::default()
        });
        match file.write_all_at(&[], 0) {
            Ok(()) => high = middle,
            Err(_) => low = middle + 1,
        }
    }
    low
}

/// Waits until something that nobody tells about is so.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not so after ten seconds: {what}");
}
