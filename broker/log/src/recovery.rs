//! Recovery: the checkpoint, then the write-ahead log beyond it, into the state and the files of the partitions that occur in
//! it. Flat in the size of the log: no other file is opened, but for partitions that skip the write-ahead log.
//!
//! Nothing is synced here and no checkpoint is written: after a crash during recovery, or right after it, the same
//! checkpoint and the same write-ahead log give the same bytes again.
//!
//! A partition whose files lack what was synced is quarantined, and the others go on. What the write-ahead log has of it is
//! still written to its files, for the log is recycled later.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_records::{BatchHeader, BatchRules, Offset, RecordBatch, TopicId, TopicPartition};
use tidemill_storage::atomic::{AtomicFileError, read_atomic};
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::Fs;
use tidemill_storage::wal::{Lsn, Wal, WalOpenError, WalRecovery};

use crate::checkpoint::{self, PartitionEntry};
use crate::config::{LogConfig, LogDirConfig};
use crate::error::{FormatError, LogError, Offline, OfflineCause};
use crate::files::{self, CHECKPOINT, DELETED_SUFFIX, parse_partition_dir, topics_dir};
use crate::producers::Producers;
use crate::replay_files::ReplayFiles;
use crate::scan::ScanEnd;
use crate::segment::Segment;
use crate::state::State;
use crate::truncate::{WalkError, walk};
use crate::wal_entry::{AppendHead, Change, LogKey, WalEntry};

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

/// A partition while entries are replayed.
struct Replayed {
    entry: PartitionEntry,
    files: ReplayFiles,
    touched: bool,
    /// The files lack something; a later entry may say that it is not needed.
    suspicion: Option<OfflineCause>,
    /// Segments that were cut.
    recount: BTreeSet<Offset>,
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
        let log = Replayed {
            entry,
            files,
            touched: false,
            suspicion: None,
            recount: BTreeSet::new(),
        };
        self.logs.insert(key, log);
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

impl Replayed {
    /// Looks at the files of a partition that has changed since the checkpoint, once.
    fn touch(&mut self) {
        if std::mem::replace(&mut self.touched, true) {
            return;
        }
        let active = self.entry.state.active();
        self.suspicion = self.files.check(active.base, active.size.into());
        self.files.begin_at(active.base);
    }

    /// What was not touched is not looked at, but for the file that the next append goes to: written to, it would no longer
    /// tell that it lacks something.
    fn look_at_active(&mut self) {
        if !self.touched {
            let active = self.entry.state.active();
            let cause = self.files.check(active.base, active.size.into());
            self.entry.state.offline = self.entry.state.offline.or(cause);
        }
    }

    /// Takes a partition out of quarantine whose file was put back: every byte of it is there and right.
    fn heal(&mut self) {
        let state = &mut self.entry.state;
        let Some(OfflineCause::SegmentMissing { base } | OfflineCause::SegmentShort { base, .. }) =
            state.offline
        else {
            return;
        };
        let size = state.segment_mut(base).map_or(0, |segment| segment.size);
        let Ok(file) = self.files.open_log(base) else {
            return;
        };
        let mut scan = crate::scan::Scan::new(&*file, 0, size.into());
        loop {
            match scan.next_batch() {
                Ok(Some(_)) => {}
                Ok(None) if scan.position() == u64::from(size) => break,
                Ok(None) | Err(_) => return,
            }
        }
        tracing::info!(partition = %self.entry.partition, "the segment was put back, the partition is online");
        state.offline = None;
    }

    fn sync_segments(&self) -> io::Result<()> {
        for segment in &self.entry.state.segments {
            match self.files.open_log(segment.base) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => file?.sync_data()?,
            }
        }
        Ok(())
    }

    fn apply(
        &mut self,
        change: Change<'_>,
        producers_max: usize,
        now_ms: i64,
        torn_bytes: &mut u64,
    ) -> Result<(), LogError> {
        let state = &mut self.entry.state;
        match change {
            Change::Append { head, batches } => self.append(&head, batches, producers_max)?,
            Change::Truncate {
                end,
                segment_base,
                position,
            } => {
                self.truncate(end, segment_base, position);
            }
            Change::Restart { start } => {
                let dropped = state.restart_at(start, now_ms);
                self.files.unlink(&dropped);
                self.files.begin_at(start);
                self.suspicion = None;
            }
            Change::Roll { base } => state.roll(base, now_ms),
            Change::LogStart {
                log_start,
                local_log_start,
            } => {
                self.files.write_buffered();
                let dropped = state.advance_start(log_start, local_log_start);
                self.files.unlink(&dropped);
                if self
                    .suspicion
                    .is_some_and(|cause| concerns(&cause, &dropped))
                {
                    self.suspicion = None;
                }
            }
            Change::Unlogged {
                unlogged,
                segment_base,
                position,
            } => {
                if state.unlogged && !unlogged {
                    self.scan_to(segment_base, position, producers_max, now_ms, torn_bytes);
                }
                self.entry.state.unlogged = unlogged;
            }
            Change::Offline { cause } => {
                state.offline.get_or_insert(cause);
            }
            Change::Create { .. } | Change::Delete { .. } => {
                unreachable!("the caller deals with partitions that come and go")
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        head: &AppendHead,
        batches: &[u8],
        producers_max: usize,
    ) -> Result<(), LogError> {
        let state = &mut self.entry.state;
        let first = BatchHeader::read(batches).map_err(|_| malformed(FormatError::Batches))?;
        if head.segment_base != state.active().base {
            state.roll(head.segment_base, head.append_time_ms);
        }
        let active = state.active();
        let place = (active.base, active.size, state.log_end);
        if place != (head.segment_base, head.position, first.base_offset()) {
            let gap = OfflineCause::Gap {
                entry: first.base_offset(),
                end: state.log_end,
            };
            // Nothing that follows can be placed either.
            state.offline.get_or_insert(gap);
            return Ok(());
        }
        let mut rest = batches;
        while !rest.is_empty() {
            let header = BatchHeader::read(rest).map_err(|_| malformed(FormatError::Batches))?;
            let (bytes, after) = rest
                .split_at_checked(header.size_bytes())
                .ok_or_else(|| malformed(FormatError::Batches))?;
            state.apply(
                &header,
                control_record(&header, bytes),
                head.append_time_ms,
                producers_max,
            );
            rest = after;
        }
        self.files.push(head.segment_base, head.position, batches);
        Ok(())
    }

    fn truncate(&mut self, end: Offset, base: Offset, position: u32) {
        self.files.write_buffered();
        let dropped = self.entry.state.cut_at(end, base, position);
        self.files.unlink(&dropped);
        self.files.begin_at(base);
        // What was missing lies perhaps behind the cut.
        self.suspicion = self.files.check(base, position.into());
        self.recount.insert(base);
    }

    /// Counts anew what cuts have left unknown.
    fn recount(&mut self, producers_max: usize) {
        if self.recount.is_empty() {
            return;
        }
        self.files.write_buffered();
        if let Err(error) = self.try_recount(producers_max) {
            tracing::error!(partition = %self.entry.partition, ?error, "cannot read a log that was cut");
            self.entry
                .state
                .offline
                .get_or_insert(OfflineCause::Unusable);
        }
    }

    fn try_recount(&mut self, producers_max: usize) -> Result<(), WalkError> {
        let state = &mut self.entry.state;
        let interval = state.config.index_interval_bytes;
        let last = state.segments.len() - 1;
        let mut producers = Producers::default();
        for (at, segment) in state.segments.iter_mut().enumerate() {
            let (base, append_ms) = (segment.base, segment.last_append_ms);
            let mut counted = Segment::new(base, segment.created_ms);
            if segment.size > 0 {
                let file = self.files.open_log(base);
                let file = file.map_err(|error| WalkError::cannot_open(base, error))?;
                walk(&*file, base, segment.size.into(), &mut |batch| {
                    counted.push(batch, interval, append_ms);
                    let control = batch.control_record().ok().flatten();
                    producers.apply(batch, control, append_ms, producers_max);
                })?;
            }
            if self.recount.contains(&base) {
                if at < last {
                    counted.seal();
                }
                *segment = counted;
            }
        }
        producers.transactions.truncate_start(state.log_start);
        state.producers = producers;
        Ok(())
    }

    fn write_buffered(&mut self) {
        self.files.write_buffered();
    }

    /// Takes in what segment files hold up to a place, of appends that have skipped the write-ahead log.
    fn scan_to(
        &mut self,
        base: Offset,
        position: u32,
        producers_max: usize,
        now_ms: i64,
        torn_bytes: &mut u64,
    ) {
        loop {
            let active = self.entry.state.active();
            let (at, size) = (active.base, active.size);
            if at > base || (at == base && size >= position) {
                break;
            }
            let to = (at == base).then(|| u64::from(position));
            self.scan_segment(to, producers_max, now_ms, torn_bytes);
            let state = &mut self.entry.state;
            let grown = state.active().size > size;
            if at != base && self.files.has_segment(state.log_end) {
                state.roll(state.log_end, now_ms);
            } else if !grown || at == base {
                break;
            }
        }
        let (active, end) = (self.entry.state.active(), self.entry.state.log_end);
        let begins_segment = position == 0 && base == end;
        if (active.base, active.size) != (base, position) && !begins_segment {
            let gap = OfflineCause::Gap {
                entry: base,
                end: self.entry.state.log_end,
            };
            self.entry.state.offline.get_or_insert(gap);
        }
    }

    /// Takes in what segment files hold beyond what is known, and cuts off the torn end, as Kafka does.
    fn scan_rest(&mut self, config: &LogDirConfig, now_ms: i64, torn_bytes: &mut u64) {
        let producers_max = config.producers_per_partition_max;
        self.files.write_buffered();
        loop {
            let torn = self.scan_segment(None, producers_max, now_ms, torn_bytes);
            let state = &mut self.entry.state;
            let next = state.log_end;
            if torn || next == state.active().base || !self.files.has_segment(next) {
                break;
            }
            state.roll(next, now_ms);
        }
        self.files.unlink_after(self.entry.state.active().base);
    }

    /// Takes in batches of the active segment's file, to its end or `to`. True when the rest of the file is torn.
    fn scan_segment(
        &mut self,
        to: Option<u64>,
        producers_max: usize,
        now_ms: i64,
        torn_bytes: &mut u64,
    ) -> bool {
        self.files.write_buffered();
        let (base, size) = (
            self.entry.state.active().base,
            self.entry.state.active().size,
        );
        let Ok(file) = self.files.open_log(base) else {
            return false;
        };
        let len = file.len().unwrap_or(0);
        let mut scan = crate::scan::Scan::new(&*file, size.into(), to.unwrap_or(len).min(len));
        let torn = loop {
            match scan.next_batch() {
                Ok(None) => break false,
                Ok(Some(batch)) if batch.base_offset() == self.entry.state.log_end => {
                    let control = batch.control_record().ok().flatten();
                    self.entry
                        .state
                        .apply(&batch, control, now_ms, producers_max);
                }
                Ok(Some(_)) | Err(ScanEnd::Bad(_)) => break true,
                Err(ScanEnd::Io(error)) => {
                    tracing::error!(partition = %self.entry.partition, %error, "cannot read a segment");
                    self.entry
                        .state
                        .offline
                        .get_or_insert(OfflineCause::Unusable);
                    break true;
                }
            }
        };
        if self.entry.state.active().size > size {
            self.files.take_in(base);
        }
        if torn && self.entry.state.offline.is_none() {
            *torn_bytes += len - u64::from(self.entry.state.active().size).min(len);
        }
        torn
    }

    /// Writes what is left, and makes files end where the log does.
    fn finish(&mut self) {
        let state = &mut self.entry.state;
        self.files.finish(state);
        let cause = self.suspicion.or(self.files.failure());
        if let Some(cause) = cause {
            state.offline.get_or_insert(cause);
        }
        self.entry.high_watermark = self
            .entry
            .high_watermark
            .clamp(state.log_start, state.log_end);
    }
}

/// Whether what is wrong is wrong with one of these segments.
fn concerns(cause: &OfflineCause, segments: &[Segment]) -> bool {
    let (OfflineCause::SegmentMissing { base } | OfflineCause::SegmentShort { base, .. }) = cause
    else {
        return false;
    };
    segments.iter().any(|segment| segment.base == *base)
}

fn control_record(header: &BatchHeader, bytes: &[u8]) -> Option<tidemill_records::ControlRecord> {
    if !header.is_control() {
        return None;
    }
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let (batch, _) = RecordBatch::parse(&bytes, BatchRules::Stored).ok()?;
    batch.control_record().ok().flatten()
}
