//! Recovery: the checkpoint, then the write-ahead log beyond it, into the state and the files of the partitions that occur in
//! it. Flat in the size of the log: of other partitions only the file that is appended to is looked at, but for those that skip
//! the write-ahead log.
//!
//! Nothing is synced here and no checkpoint is written: after a crash during recovery, or right after it, the same
//! checkpoint and the same write-ahead log give the same bytes again.
//!
//! A partition whose files lack what was synced is quarantined, and the others go on. What the write-ahead log has of it is
//! still written to its files, for the log is recycled later.

mod partition;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_records::{Offset, TopicId, TopicPartition};
use tidemill_storage::atomic::{AtomicFileError, read_atomic};
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::Fs;
use tidemill_storage::wal::{Lsn, Wal, WalOpenError, WalRecovery};

use crate::checkpoint::{self, PartitionEntry};
use crate::config::{LogConfig, LogDirConfig};
use crate::error::{FormatError, LogError, Offline};
use crate::files::{self, CHECKPOINT, DELETED_SUFFIX, parse_partition_dir, topics_dir};
use crate::replay_files::ReplayFiles;
use crate::state::State;
use crate::wal_entry::{Change, LogKey, WalEntry};

use partition::Replayed;

/// Bytes that replay gathers over all partitions before it writes them.
const BUFFERED_BYTES_MAX: usize = 32 << 20;

/// What recovery found and did.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// Partitions there.
    pub partitions: usize,
    /// Of them, those that the write-ahead log told of.
    pub replayed_partitions: usize,
    /// Entries of the write-ahead log that were read.
    pub replayed_entries: u64,
    /// Their bytes.
    pub replayed_bytes: u64,
    /// The write-ahead log was closed in order: nothing was lost, and nothing had to be repeated.
    pub clean: bool,
    /// Partitions in quarantine.
    pub quarantined: Vec<Offline>,
    /// Directories under `topics/` that belong to no partition; nobody touches them.
    pub strays: Vec<PathBuf>,
    /// Bytes cut off the ends of files that skip the write-ahead log: writes that a crash has torn.
    pub torn_bytes: u64,
    /// Milliseconds that it took.
    pub elapsed_ms: u64,
}

/// What the log directory goes on with.
pub(crate) struct Recovered {
    pub(crate) wal: Wal,
    pub(crate) partitions: Vec<PartitionEntry>,
    pub(crate) checkpoint_lsn: Lsn,
    pub(crate) report: RecoveryReport,
    pub(crate) graveyard: Vec<PathBuf>,
    pub(crate) topics_unsynced: bool,
}

/// Recovers a directory, which is made when it is missing.
pub(crate) fn recover(
    fs: &Arc<dyn Fs>,
    config: &LogDirConfig,
    clock: &dyn Clock,
) -> Result<Recovered, LogError> {
    let started = clock.monotonic();
    let topics = topics_dir(&config.dir);
    make_durable_dir(&**fs, &config.dir, &topics)?;
    let recovered_config = Arc::new(config.recovered_config.clone());
    let (from, entries) = read_checkpoint(&**fs, &config.dir, &recovered_config)?;
    let mut replay = Replay::new(fs, config, recovered_config, clock.now_ms(), entries);
    let opened = Wal::open(fs.clone(), config.wal.clone(), from, &mut |lsn, payload| {
        replay.entry(lsn, payload)
    });
    let (wal, wal_recovery) = opened.map_err(|error| match error {
        WalOpenError::Log(fault) => LogError::WalFault(fault),
        WalOpenError::Visit(error) => error,
    })?;
    if wal_recovery.torn {
        let end = wal_recovery.end;
        tracing::warn!(%end, "the write-ahead log ended in entries that are not whole, and were cut off: nothing says that they were acknowledged");
    }
    let mut recovered = replay.finish(wal, from, &wal_recovery)?;
    recovered.report.elapsed_ms = (clock.monotonic() - started).as_millis() as u64;
    Ok(recovered)
}

fn make_durable_dir(fs: &dyn Fs, data_dir: &Path, topics: &Path) -> Result<(), LogError> {
    let failed = |path: &Path, source| LogError::Io {
        path: path.to_owned(),
        source,
    };
    fs.create_dir_all(topics)
        .map_err(|error| failed(topics, error))?;
    fs.sync_dir(data_dir)
        .map_err(|error| failed(data_dir, error))?;
    let Some(parent) = data_dir.parent().filter(|parent| *parent != Path::new("")) else {
        return Ok(());
    };
    match fs.sync_dir(parent) {
        // Who may not read it has not made the data directory just now.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result.map_err(|error| failed(parent, error)),
    }
}

/// Where replay starts and the partitions at that point; nothing where no checkpoint was ever taken.
pub(crate) fn read_checkpoint(
    fs: &dyn Fs,
    data_dir: &Path,
    config: &Arc<LogConfig>,
) -> Result<(Lsn, Vec<PartitionEntry>), LogError> {
    match read_atomic(fs, &data_dir.join(CHECKPOINT), checkpoint::FORMAT) {
        Err(AtomicFileError::Missing { .. }) => Ok((Lsn(0), Vec::new())),
        Err(error) => Err(error.into()),
        Ok((_, payload)) => {
            checkpoint::decode(&payload, config).map_err(|cause| LogError::Malformed {
                what: "the checkpoint",
                cause,
            })
        }
    }
}

struct Replay<'a> {
    fs: &'a Arc<dyn Fs>,
    config: &'a LogDirConfig,
    log_config: Arc<LogConfig>,
    now_ms: i64,
    logs: HashMap<LogKey, Replayed>,
    buffered: usize,
    graveyard: Vec<PathBuf>,
    topics_changed: bool,
    torn_bytes: u64,
}

impl<'a> Replay<'a> {
    fn new(
        fs: &'a Arc<dyn Fs>,
        config: &'a LogDirConfig,
        log_config: Arc<LogConfig>,
        now_ms: i64,
        entries: Vec<PartitionEntry>,
    ) -> Replay<'a> {
        let mut replay = Replay {
            fs,
            config,
            log_config,
            now_ms,
            logs: HashMap::with_capacity(entries.len()),
            buffered: 0,
            graveyard: Vec::new(),
            topics_changed: false,
            torn_bytes: 0,
        };
        entries.into_iter().for_each(|entry| replay.insert(entry));
        replay
    }

    fn insert(&mut self, entry: PartitionEntry) {
        let key = LogKey {
            topic_id: entry.topic_id,
            partition: entry.partition.partition,
        };
        let dir = files::partition_dir(&self.config.dir, &entry.partition);
        let files = ReplayFiles::new(self.fs.clone(), dir, entry.topic_id);
        self.logs.insert(key, Replayed::new(entry, files));
    }

    fn entry(&mut self, lsn: Lsn, payload: &[u8]) -> Result<(), LogError> {
        let entry = WalEntry::decode(payload).map_err(malformed)?;
        if let Change::Create { unlogged, topic } = entry.change {
            return self.create(lsn, entry.key, unlogged, topic);
        }
        let Some(log) = self.logs.get_mut(&entry.key) else {
            // Deleted later, before the checkpoint was taken.
            return Ok(());
        };
        if lsn <= log.entry.state.last_lsn {
            return Ok(());
        }
        log.entry.state.last_lsn = lsn;
        match entry.change {
            Change::Delete { aside: false } => return self.delete(entry.key),
            Change::Delete { aside: true } => return self.put_aside(entry.key),
            _ => {}
        }
        log.touch();
        let buffered = log.files.buffered();
        let producers_max = self.config.producers_per_partition_max;
        log.apply(
            entry.change,
            producers_max,
            self.now_ms,
            &mut self.torn_bytes,
        )?;
        self.buffered = self.buffered + log.files.buffered() - buffered;
        if self.buffered > BUFFERED_BYTES_MAX {
            self.logs.values_mut().for_each(Replayed::write_buffered);
            self.buffered = 0;
        }
        Ok(())
    }

    fn create(
        &mut self,
        lsn: Lsn,
        key: LogKey,
        unlogged: bool,
        topic: &str,
    ) -> Result<(), LogError> {
        if self.logs.contains_key(&key) {
            // The checkpoint has it, made before and perhaps changed since.
            return Ok(());
        }
        let mut state = State::new(self.log_config.clone(), Offset::ZERO, self.now_ms);
        state.unlogged = unlogged;
        state.last_lsn = lsn;
        self.insert(PartitionEntry {
            partition: TopicPartition::new(topic, key.partition),
            topic_id: key.topic_id,
            high_watermark: Offset::ZERO,
            state,
        });
        Ok(())
    }

    fn delete(&mut self, key: LogKey) -> Result<(), LogError> {
        let Some(log) = self.logs.remove(&key) else {
            return Ok(());
        };
        self.buffered -= log.files.buffered();
        let (partition, id) = (&log.entry.partition, log.entry.topic_id);
        let dir = files::partition_dir(&self.config.dir, partition);
        let deleted = files::deleted_dir(&self.config.dir, partition, id);
        let moved = move_away(&**self.fs, &dir, &deleted, id);
        if moved.map_err(|source| LogError::Io { path: dir, source })? {
            self.topics_changed = true;
        }
        Ok(())
    }

    /// Renames a directory that nobody knows, once it holds all of its log.
    fn put_aside(&mut self, key: LogKey) -> Result<(), LogError> {
        let Some(mut log) = self.logs.remove(&key) else {
            return Ok(());
        };
        self.buffered -= log.files.buffered();
        let (partition, id) = (&log.entry.partition, log.entry.topic_id);
        let dir = files::partition_dir(&self.config.dir, partition);
        let aside = files::stray_dir(&self.config.dir, partition, id);
        let mut put = || -> io::Result<()> {
            if self.fs.read_dir(&aside).is_ok() {
                return Ok(());
            }
            log.touch();
            log.finish();
            log.sync_segments()?;
            // The names too: no checkpoint will look into a directory that nobody knows.
            files::sync_partition_dir(&**self.fs, &dir)?;
            self.topics_changed |= files::put_aside(&**self.fs, &dir, &aside)?;
            Ok(())
        };
        put().map_err(|source| LogError::Io { path: dir, source })
    }

    fn finish(
        mut self,
        wal: Wal,
        from: Lsn,
        wal_recovery: &WalRecovery,
    ) -> Result<Recovered, LogError> {
        let mut partitions = Vec::with_capacity(self.logs.len());
        let mut report = RecoveryReport {
            replayed_entries: wal_recovery.entries,
            replayed_bytes: wal_recovery.bytes,
            clean: wal_recovery.closed_in_order && wal_recovery.entries == 0,
            ..RecoveryReport::default()
        };
        let mut logs: Vec<_> = std::mem::take(&mut self.logs).into_values().collect();
        logs.sort_unstable_by(|a, b| a.entry.partition.cmp(&b.entry.partition));
        for mut log in logs {
            log.recount(self.config.producers_per_partition_max);
            if log.entry.state.unlogged {
                log.touch();
                log.scan_rest(self.config, self.now_ms, &mut self.torn_bytes);
            }
            if log.touched {
                report.replayed_partitions += 1;
                log.finish();
                self.topics_changed |= log.files.made_dir();
            }
            log.look_at_active();
            log.heal();
            if let Some((path, source)) = log.files.take_unwritten() {
                return Err(LogError::Io { path, source });
            }
            if let Some(cause) = log.entry.state.offline {
                let partition = log.entry.partition.clone();
                let offline = Offline { partition, cause };
                tracing::error!(%offline, "partition quarantined");
                report.quarantined.push(offline);
            }
            partitions.push(log.entry);
        }
        self.find_strays(&partitions, &mut report)?;
        report.partitions = partitions.len();
        report.torn_bytes = self.torn_bytes;
        Ok(Recovered {
            wal,
            partitions,
            checkpoint_lsn: from,
            report,
            graveyard: self.graveyard,
            topics_unsynced: self.topics_changed,
        })
    }

    /// Finds what earlier deletions have left, and directories that nobody knows.
    fn find_strays(
        &mut self,
        partitions: &[PartitionEntry],
        report: &mut RecoveryReport,
    ) -> Result<(), LogError> {
        let topics = topics_dir(&self.config.dir);
        let known: std::collections::HashSet<_> =
            partitions.iter().map(|entry| &entry.partition).collect();
        let entries = self.fs.read_dir(&topics);
        let entries = entries.map_err(|source| LogError::Io {
            path: topics.clone(),
            source,
        })?;
        for entry in entries {
            let name = entry.name.to_string_lossy();
            if name.ends_with(DELETED_SUFFIX) && name.contains('.') {
                self.graveyard.push(topics.join(&entry.name));
            } else if parse_partition_dir(&name).is_none_or(|found| !known.contains(&found)) {
                report.strays.push(topics.join(&entry.name));
            }
        }
        Ok(())
    }
}

/// Renames a deleted partition's directory, unless it belongs to a later incarnation already. True when it was there.
fn move_away(fs: &dyn Fs, dir: &Path, deleted: &Path, id: TopicId) -> io::Result<bool> {
    // A directory that does not say whose it is was made after the last checkpoint: replay has all of it, or it is this one.
    if files::belongs_to(fs, dir, id)? == Some(false) {
        return Ok(false);
    }
    files::move_away(fs, dir, deleted)
}

pub(crate) fn malformed(cause: FormatError) -> LogError {
    LogError::Malformed {
        what: "an entry of the write-ahead log",
        cause,
    }
}
