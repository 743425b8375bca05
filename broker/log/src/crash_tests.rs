//! Random work on a disk that loses what was not synced, against a model: what was acknowledged is there after any
//! crash, nothing else is, and recovering twice gives the same bytes.
//!
//! The threads are real here, so a seed gives the same choices but not the same interleaving; `tests/sim` runs the
//! log deterministically.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidemill_records::{
    Compression, LeaderEpoch, Offset, ProducerEpoch, ProducerId, RecordBatch, RecordBatchBuilder,
    Sequence,
};
use tidemill_storage::clock::ManualClock;
use tidemill_storage::fs::{Fs, SimFaults, SimFs};
use tidemill_storage::wal::Lsn;

use crate::testing::*;
use crate::{
    AppendOrigin, LogConfig, LogDir, LogDirConfig, PartitionLog, RecoveryReport, Verified,
    verify_log_dir,
};

const TOPICS: usize = 3;
const PRODUCER: i64 = 5;

/// xorshift64*: small, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What one incarnation of a topic should hold.
#[derive(Clone, Default)]
struct Model {
    id: u128,
    /// Every batch that was appended, from offset 0 on.
    batches: Vec<RecordBatch>,
    acked_end: i64,
    /// How far the start was ever asked to move.
    start_max: i64,
    start_acked: i64,
    /// What was there before a cut that may not be durable.
    before_cut: Option<Vec<RecordBatch>>,
    /// It was deleted, durably or not.
    deleted: Option<bool>,
}

impl Model {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.next_offset().0)
    }

    fn next_sequence(&self) -> i32 {
        self.end() as i32
    }
}

/// What becomes true once the write-ahead log is durable up to a position.
#[derive(Clone, Copy)]
enum Ack {
    Appended(i64),
    Started(i64),
    Cut,
}

struct World {
    rng: Rng,
    config: LogDirConfig,
    models: Vec<Model>,
    /// Incarnations that were deleted in this life.
    ghosts: Vec<Model>,
    waiting: BTreeMap<Lsn, Vec<(usize, Ack)>>,
    next_id: u128,
    disk: SimFs,
}

fn world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let mut config = dir_config();
    config.wal.file_bytes = 16 << (10 + rng.below(3));
    config.checkpoint_wal_bytes = 8 << (10 + rng.below(8));
    config.checkpoint_interval = Duration::from_millis(1 + rng.below(50));
    config.drain_delay = Duration::from_millis(rng.below(4));
    config.drain_run_bytes = 1 << (8 + rng.below(8));
    config.tail_cache_bytes = 1 << (10 + rng.below(12));
    config.undrained_bytes_max = 64 << 10;
    config.open_files_max = 8;
    config.recovered_config.segment_bytes = 8192;
    World {
        rng,
        config,
        models: Vec::new(),
        ghosts: Vec::new(),
        waiting: BTreeMap::new(),
        next_id: 1,
        disk: SimFs::new(seed),
    }
}

fn name(topic: usize) -> String {
    format!("topic-{topic}")
}

impl World {
    /// None once the disk is gone; before that nothing may fail.
    fn unless_gone<T, E: std::fmt::Debug>(&self, result: Result<T, E>) -> Option<T> {
        match result {
            Err(error) if !self.disk.is_crashed() => panic!("{error:?}"),
            result => result.ok(),
        }
    }

    fn open(&self, fs: &SimFs) -> (Arc<LogDir>, RecoveryReport) {
        let fs: Arc<dyn Fs> = Arc::new(fs.clone());
        let clock = Arc::new(ManualClock::new(NOW_MS));
        LogDir::open(fs, self.config.clone(), clock).expect("it opens after any crash")
    }

    fn create(&mut self, dir: &LogDir, topic: usize) -> Option<()> {
        let config = LogConfig {
            max_message_bytes: 1 << 20,
            ..log_config()
        };
        let config = Arc::new(LogConfig {
            segment_bytes: 2000 + self.rng.below(6000) as u32,
            ..config
        });
        self.next_id += 1;
        let id = topic_id(self.next_id);
        self.unless_gone(dir.create(tp(&name(topic), 0), id, config))?;
        self.models[topic] = Model {
            id: self.next_id,
            ..Model::default()
        };
        Some(())
    }

    /// Works until the disk is gone or enough is done. None when it is gone.
    async fn work(&mut self, dir: &LogDir, steps: u64) -> Option<()> {
        for topic in 0..TOPICS {
            if self.models.len() <= topic {
                self.models.push(Model::default());
            }
            if dir.get(&tp(&name(topic), 0)).is_none() {
                self.create(dir, topic)?;
            }
        }
        for _ in 0..steps {
            self.admit(dir).await?;
            let topic = self.rng.below(TOPICS as u64) as usize;
            let log = dir.get(&tp(&name(topic), 0)).expect("it was made above");
            match self.rng.below(100) {
                0..70 => self.append(&log, topic)?,
                70..78 => self.check_read(&log, topic)?,
                78..84 => self.trim(&log, topic)?,
                84..88 => self.settle(dir).await?,
                88..92 => self.unless_gone(dir.checkpoint().await)?,
                92..94 => self.cut(&log, topic)?,
                94..95 => self.delete(dir, topic)?,
                _ => tokio::task::yield_now().await,
            }
            if self.rng.percent(30) {
                self.settle(dir).await?;
            }
        }
        Some(())
    }

    /// Waits until appends are admitted, which never comes when only the drain has met the end of the disk.
    async fn admit(&self, dir: &LogDir) -> Option<()> {
        loop {
            match tokio::time::timeout(Duration::from_millis(20), dir.admit()).await {
                Ok(admitted) => return self.unless_gone(admitted),
                Err(_) if self.disk.is_crashed() => return None,
                Err(_) => {}
            }
        }
    }

    fn append(&mut self, log: &PartitionLog, topic: usize) -> Option<()> {
        let bytes = match self.rng.below(10) {
            0 => 18_000.min(self.config.wal.file_bytes as usize / 2),
            _ => self.rng.below(700) as usize,
        };
        let bytes = bytes.min(log.config().segment_bytes as usize - 200);
        let model = &self.models[topic];
        let sequence = Sequence(model.next_sequence());
        let builder = RecordBatchBuilder::new(Compression::None);
        let builder = builder.producer(ProducerId(PRODUCER), ProducerEpoch(0), sequence);
        let mut batch = fill(builder, NOW_MS + i64::from(sequence.0), 1, bytes);
        let batches = vec![batch.clone()];
        let info = log.append_as_leader(batches, LeaderEpoch(0), AppendOrigin::Client, NOW_MS);
        let info = self.unless_gone(info)?;
        assert_eq!((info.base_offset.0, info.duplicate), (model.end(), false));
        batch.assign(info.base_offset, LeaderEpoch(0));
        self.models[topic].batches.push(batch);
        self.wait_for(info.lsn, topic, Ack::Appended(info.next_offset.0));
        Some(())
    }

    fn wait_for(&mut self, lsn: Lsn, topic: usize, ack: Ack) {
        self.waiting.entry(lsn).or_default().push((topic, ack));
    }

    /// Waits until everything is durable.
    async fn settle(&mut self, dir: &LogDir) -> Option<()> {
        if let Some((last, _)) = self.waiting.last_key_value() {
            let waited = dir.wal().wait_durable(*last).await;
            self.take_acks(dir.wal().durable());
            self.unless_gone(waited)?;
        }
        Some(())
    }

    fn take_acks(&mut self, durable: Lsn) {
        let later = self.waiting.split_off(&Lsn(durable.0 + 1));
        for (topic, ack) in std::mem::replace(&mut self.waiting, later)
            .into_values()
            .flatten()
        {
            let model = &mut self.models[topic];
            match ack {
                Ack::Appended(end) => model.acked_end = model.acked_end.max(end),
                Ack::Started(start) => model.start_acked = model.start_acked.max(start),
                Ack::Cut => model.before_cut = None,
            }
        }
    }

    fn trim(&mut self, log: &PartitionLog, topic: usize) -> Option<()> {
        log.set_high_watermark(log.durable_end_offset());
        let hw = log.high_watermark().0;
        let start = log.log_start_offset().0;
        let to = start + self.rng.below((hw - start + 1) as u64) as i64 / 2;
        let lsn = self.unless_gone(log.delete_records_before(Offset(to)))?;
        self.models[topic].start_max = self.models[topic].start_max.max(to);
        self.wait_for(lsn, topic, Ack::Started(to));
        if self.rng.percent(30) {
            let config = LogConfig {
                retention_bytes: Some(10_000),
                ..LogConfig::clone(&log.config())
            };
            self.unless_gone(log.set_config(Arc::new(config)))?;
            self.unless_gone(log.apply_retention(NOW_MS))?;
            let model = &mut self.models[topic];
            model.start_max = model.start_max.max(log.log_start_offset().0);
        }
        Some(())
    }

    fn cut(&mut self, log: &PartitionLog, topic: usize) -> Option<()> {
        let model = &self.models[topic];
        let start = log.log_start_offset().0;
        if model.before_cut.is_some() || model.end() <= start {
            return Some(());
        }
        let end = start + self.rng.below((model.end() - start) as u64) as i64;
        let end = end.max(log.high_watermark().0);
        if end >= model.end() {
            return Some(());
        }
        self.unless_gone(log.truncate_to(Offset(end)))?;
        let lsn = log.with_state(|state| state.last_lsn);
        let model = &mut self.models[topic];
        model.before_cut = Some(model.batches.clone());
        model.batches.truncate(end as usize);
        model.acked_end = model.acked_end.min(end);
        for acks in self.waiting.values_mut() {
            acks.retain(|(at, ack)| *at != topic || !matches!(ack, Ack::Appended(_)));
        }
        self.wait_for(lsn, topic, Ack::Cut);
        Some(())
    }

    fn delete(&mut self, dir: &LogDir, topic: usize) -> Option<()> {
        for acks in self.waiting.values_mut() {
            acks.retain(|(at, _)| *at != topic);
        }
        let mut ghost = std::mem::take(&mut self.models[topic]);
        ghost.deleted = Some(false);
        let deleted = dir.delete(&tp(&name(topic), 0));
        self.ghosts.push(ghost);
        self.unless_gone(deleted)?;
        self.create(dir, topic)
    }

    fn check_read(&mut self, log: &PartitionLog, topic: usize) -> Option<()> {
        let model = &self.models[topic];
        let (start, end) = (log.log_start_offset().0, model.end());
        if start == end {
            return Some(());
        }
        let from = start + self.rng.below((end - start) as u64) as i64;
        let max_bytes = 1 << self.rng.below(16);
        let read = self.unless_gone(log.read(Offset(from), Offset(end), max_bytes, true))?;
        let batches = read.into_batches().expect("whole batches");
        assert!(!batches.is_empty());
        let expected = &model.batches[from as usize..][..batches.len()];
        assert_eq!(batches, expected);
        Some(())
    }

    /// Compares what recovery found with the model, and lets the model be that.
    fn check_recovered(&mut self, dir: &LogDir, report: &RecoveryReport) {
        assert!(report.quarantined.is_empty(), "{:?}", report.quarantined);
        self.waiting.clear();
        let ghosts = std::mem::take(&mut self.ghosts);
        for topic in 0..self.models.len() {
            let Some(log) = dir.get(&tp(&name(topic), 0)) else {
                let model = &self.models[topic];
                assert_eq!(
                    model.acked_end, 0,
                    "{topic}: an acknowledged partition is gone"
                );
                self.models[topic] = Model::default();
                continue;
            };
            let current = self.models[topic].id == log.topic_id().0.as_u128();
            if !current {
                assert_eq!(
                    self.models[topic].acked_end, 0,
                    "{topic}: replaced by an older one"
                );
                let ghost = ghosts
                    .iter()
                    .find(|ghost| ghost.id == log.topic_id().0.as_u128());
                self.models[topic] = ghost.expect("one of ours").clone();
            }
            self.models[topic].deleted = None;
            self.check_log(&log, topic);
        }
    }

    fn check_log(&mut self, log: &PartitionLog, topic: usize) {
        let model = &mut self.models[topic];
        let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
        assert!(
            end >= model.acked_end,
            "{topic}: ends at {end}, {} was acked",
            model.acked_end
        );
        assert!(
            (model.start_acked..=model.start_max).contains(&start),
            "{topic}: {start}"
        );
        let found = read_all(log, Offset(start), 5_000);
        let matches = |batches: &[RecordBatch]| {
            batches.len() >= end as usize && batches[start as usize..end as usize] == found
        };
        if !matches(&model.batches) {
            let before = model.before_cut.take().unwrap_or_default();
            assert!(
                matches(&before),
                "{topic}: other batches than were appended"
            );
            model.batches = before;
        }
        model.batches.truncate(end as usize);
        model.before_cut = None;
        model.acked_end = end;
        (model.start_acked, model.start_max) = (start, start);
        // What producers did is known, too.
        if let Some(last) = found.last() {
            let mut again = last.clone();
            again.assign(Offset(0), LeaderEpoch(0));
            let info = append(log, again);
            assert!(info.duplicate);
            assert_eq!(info.base_offset, last.base_offset());
        }
    }
}

fn topic_files(fs: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = fs.contents();
    files.retain(|(path, _)| {
        path.starts_with("/data/topics") && !path.to_string_lossy().contains("-delete")
    });
    files
}

/// The disk after a recovery that was interrupted right after it was done.
fn recovered_disk(world: &World, fs: &SimFs) -> SimFs {
    let mut config = world.config.clone();
    config.checkpoint_interval = Duration::from_secs(3600);
    config.checkpoint_wal_bytes = u64::MAX;
    let for_dir: Arc<dyn Fs> = Arc::new(fs.clone());
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let (dir, _) = LogDir::open(for_dir, config, clock).expect("it opens");
    fs.kill();
    drop(dir);
    fs.clone()
}

async fn run(seed: u64) {
    let mut world = world(seed);
    let mut fs = SimFs::new(seed);
    for life in 0..4 {
        let (dir, report) = world.open(&fs);
        if life > 0 {
            world.check_recovered(&dir, &report);
        }
        let crash_at_op = Some(fs.ops() + 1 + world.rng.below(600));
        fs.set_faults(SimFaults {
            crash_at_op,
            ..SimFaults::default()
        });
        world.disk = fs.clone();
        world.work(&dir, 300).await;
        world.take_acks(dir.wal().durable());
        fs.crash();
        drop(dir);
        // Indexes that a reader was rebuilding meanwhile may not be synced: a reader mends them again.
        let mut crashed = verified(&world, &fs.reboot());
        crashed
            .faults
            .retain(|fault| fault.path.extension().is_some_and(|found| found == "log"));
        assert!(crashed.faults.is_empty(), "seed {seed}: {crashed:?}");
        let first = topic_files(&recovered_disk(&world, &fs.reboot()));
        let again = fs.reboot();
        recovered_disk(&world, &again);
        let second = topic_files(&recovered_disk(&world, &again.reboot()));
        let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
            let name = |(path, bytes): &(PathBuf, Vec<u8>)| (path.clone(), bytes.len());
            files.iter().map(name).collect()
        };
        assert_eq!(names(&second), names(&first), "seed {seed}");
        for (second, first) in second.iter().zip(&first) {
            assert!(second == first, "seed {seed}: {}", first.0.display());
        }
        fs = fs.reboot();
    }
    let (dir, report) = world.open(&fs);
    world.check_recovered(&dir, &report);
    dir.close().await.expect("closes");
    let verified = verified(&world, &fs);
    assert!(verified.faults.is_empty(), "seed {seed}: {verified:?}");
    assert_eq!(verified.unfinished_bytes, 0, "seed {seed}");
    let (dir, report) = world.open(&fs.reboot());
    assert!(report.clean);
    world.check_recovered(&dir, &report);
}

fn verified(world: &World, fs: &SimFs) -> Verified {
    verify_log_dir(fs, &world.config).expect("readable")
}

/// One runtime for a range of seeds; ranges run in parallel as tests do.
fn run_seeds(seeds: std::ops::Range<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let runtime = runtime.expect("a runtime");
    for seed in seeds {
        runtime.block_on(run(seed));
    }
}

#[test]
fn acknowledged_records_survive_crashes_at_random_points() {
    run_seeds(0..120);
}

#[test]
fn acknowledged_records_survive_crashes_at_other_random_points() {
    run_seeds(1_000..1_120);
}
