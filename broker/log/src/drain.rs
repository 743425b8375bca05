//! The drain: the one thread that changes segment files. It writes what is durable in the write-ahead log from memory into
//! them, in runs, without syncing, and makes the files follow retention, truncation and deletion.
//!
//! Only durable bytes are drained. A segment file then never holds what the write-ahead log could lose, and what is in a file
//! beyond a checkpoint's recovery point is what replay will write there again.
//!
//! Changes of files are made in the order in which they were logged, each after its own entry is durable and before
//! anything that was appended after it: a segment that is dropped and begun again at the same offset is not confused.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_records::Offset;
use tidemill_storage::fs::{File, OpenMode};
use tidemill_storage::wal::Lsn;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::error::OfflineCause;
use crate::files::{self, FileKind};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry, encode_entries};
use crate::partition_log::PartitionLog;
use crate::segment::Unsynced;
use crate::shared::{Counters, Shared};
use crate::state::State;
use crate::tail::Chunk;

/// The most that one write takes.
const RUN_BYTES_MAX: usize = 4 << 20;
/// Space is reserved ahead of the writes from this size of a segment on: many small logs must not reserve much.
const ALLOCATE_FROM_BYTES: u64 = 256 << 10;
const ALLOCATE_BYTES_MAX: u64 = 16 << 20;
/// A segment file that could not be written is tried again after so long.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(250);
/// Files of a deleted partition that are removed before the drain looks for other work.
const REMOVED_AT_ONCE: usize = 8;
/// A list of cached runs is cleared of those that are gone when it has grown to this.
const CACHED_RUNS_MIN: usize = 1024;
/// One partition keeps at most this share of the cache, drained batches counted.
const CACHE_SHARE: usize = 4;

/// What the drain does next.
#[derive(Default)]
pub(crate) struct DrainQueue {
    inner: Mutex<Inner>,
    event: Notify,
}

#[derive(Default)]
struct Inner {
    commands: VecDeque<Command>,
    ready: VecDeque<Arc<PartitionLog>>,
    /// By deadline, for all wait equally long.
    waiting: VecDeque<Waiting>,
    stop: bool,
}

struct Waiting {
    due: Instant,
    ticket: u64,
    /// It failed before: it is not tried earlier because memory is short.
    retry: bool,
    log: Arc<PartitionLog>,
}

/// An order to the drain.
pub(crate) enum Command {
    /// Make files follow a change that the write-ahead log knows.
    Change(FileChange),
    /// Let a log's appends go through the write-ahead log again.
    StartLogging(Arc<PartitionLog>),
    /// Write everything that is durable; false when some of it cannot be written.
    Flush(oneshot::Sender<bool>),
}

/// A change of files that waits for its entry to be durable.
pub(crate) struct FileChange {
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) lsn: Lsn,
    pub(crate) kind: FileChangeKind,
}

pub(crate) enum FileChangeKind {
    /// Segments that are dropped, by base offset.
    Unlink(Vec<Offset>),
    /// A segment that is cut to `len`, whose indexes are to be written anew.
    Cut {
        base: Offset,
        len: u64,
    },
    /// The partition is gone.
    RemovePartition,
    PutAside,
}

impl DrainQueue {
    pub(crate) fn push_command(&self, command: Command) {
        let mut inner = self.inner.lock();
        if inner.stop {
            return;
        }
        inner.commands.push_back(command);
        drop(inner);
        self.event.notify_one();
    }

    pub(crate) fn push_ready(&self, log: Arc<PartitionLog>) {
        let mut inner = self.inner.lock();
        if inner.stop {
            return;
        }
        inner.ready.push_back(log);
        let first = inner.ready.len() == 1;
        drop(inner);
        if first {
            self.event.notify_one();
        }
    }

    pub(crate) fn push_waiting(
        &self,
        due: Instant,
        ticket: u64,
        log: Arc<PartitionLog>,
        retry: bool,
    ) {
        let mut inner = self.inner.lock();
        if inner.stop {
            return;
        }
        inner.waiting.push_back(Waiting {
            due,
            ticket,
            retry,
            log,
        });
        let first = inner.waiting.len() == 1;
        drop(inner);
        // The drain's timer is set for the first that waits.
        if first {
            self.event.notify_one();
        }
    }

    pub(crate) fn wake(&self) {
        self.event.notify_one();
    }

    /// Ends the drain after what it is doing. What is not drained stays in the write-ahead log. Logs in the queue are let
    /// go: they and the directory's shared state hold each other.
    pub(crate) fn stop(&self) {
        let stopped = Inner {
            stop: true,
            ..Inner::default()
        };
        // Dropped after the lock: what a log holds may come back here.
        let _let_go = std::mem::replace(&mut *self.inner.lock(), stopped);
        self.event.notify_one();
    }

    /// Writes everything that is durable now. False when some of it cannot be written.
    pub(crate) async fn flush(&self) -> bool {
        let (reply, done) = oneshot::channel();
        self.push_command(Command::Flush(reply));
        done.await.unwrap_or(false)
    }
}

/// The next piece of work.
enum Work {
    Stop,
    Command(Command),
    Drain(Arc<PartitionLog>, Option<u64>),
    Sync(Arc<PartitionLog>),
    Remove,
    Wait(Option<Instant>),
}

/// The drain's own state.
struct Drain {
    shared: Arc<Shared>,
    /// Drained runs that are still in memory, oldest first.
    cached: VecDeque<CachedRun>,
    cached_runs_max: usize,
    /// Directories of deleted partitions, renamed already.
    graveyard: VecDeque<PathBuf>,
    /// Logs to be synced by `flush.ms`, by deadline.
    syncs: BTreeMap<(Instant, u64), Arc<PartitionLog>>,
}

struct CachedRun {
    log: Arc<PartitionLog>,
    up_to: Offset,
}

/// Runs the drain until [`DrainQueue::stop`]. `graveyard` are directories that earlier deletions have left.
pub(crate) async fn run(shared: Arc<Shared>, graveyard: Vec<PathBuf>) {
    let mut drain = Drain {
        shared,
        cached: VecDeque::new(),
        cached_runs_max: CACHED_RUNS_MIN,
        graveyard: graveyard.into(),
        syncs: BTreeMap::new(),
    };
    loop {
        match drain.next_work() {
            Work::Stop => break,
            Work::Command(Command::Flush(reply)) => drain.flush_all(reply).await,
            Work::Command(Command::Change(change)) => drain.change(change).await,
            Work::Command(Command::StartLogging(log)) => drain.start_logging(&log),
            Work::Drain(log, ticket) => {
                drain.drain(&log, ticket).await;
            }
            Work::Sync(log) => drain.sync(&log),
            Work::Remove => drain.remove_some(),
            Work::Wait(due) => {
                let shared = &drain.shared;
                shared
                    .timer
                    .event_or(shared.drain.event.notified(), due)
                    .await;
            }
        }
        drain.evict();
    }
}

impl Drain {
    fn next_work(&mut self) -> Work {
        let now = self.shared.timer.now();
        let pressed = self.shared.is_drain_pressed();
        let mut inner = self.shared.drain.inner.lock();
        if inner.stop {
            return Work::Stop;
        }
        if let Some(command) = inner.commands.pop_front() {
            return Work::Command(command);
        }
        if let Some(log) = inner.ready.pop_front() {
            return Work::Drain(log, None);
        }
        let is_due = |first: &Waiting| first.due <= now || (pressed && !first.retry);
        if inner.waiting.front().is_some_and(is_due)
            && let Some(first) = inner.waiting.pop_front()
        {
            return Work::Drain(first.log, Some(first.ticket));
        }
        let due = inner.waiting.front().map(|first| first.due);
        drop(inner);
        if let Some(entry) = self
            .syncs
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            return Work::Sync(entry.remove());
        }
        if !self.graveyard.is_empty() {
            return Work::Remove;
        }
        let sync_due = self.syncs.first_key_value().map(|((due, _), _)| *due);
        Work::Wait(due.into_iter().chain(sync_due).min())
    }

    /// Drains every log in the queue once, whether or not its time has come, and tells those who asked for it.
    ///
    /// What was ordered before a log came into the queue is done first: the order may be to move the directory of a
    /// deleted partition away, and the log the next of that name.
    async fn flush_all(&mut self, reply: oneshot::Sender<bool>) {
        let mut replies = vec![reply];
        let (ready, waiting) = loop {
            let command = {
                let mut inner = self.shared.drain.inner.lock();
                match inner.commands.pop_front() {
                    Some(command) => command,
                    None => {
                        let ready = std::mem::take(&mut inner.ready);
                        break (ready, std::mem::take(&mut inner.waiting));
                    }
                }
            };
            match command {
                Command::Flush(reply) => replies.push(reply),
                Command::Change(change) => self.change(change).await,
                Command::StartLogging(log) => self.start_logging(&log),
            }
        };
        let ready = ready.into_iter().map(|log| (log, None));
        let waiting = waiting
            .into_iter()
            .map(|entry| (entry.log, Some(entry.ticket)));
        let mut whole = true;
        for (log, ticket) in ready.chain(waiting) {
            whole &= self.drain(&log, ticket).await;
            self.evict();
        }
        for reply in replies {
            // Nobody to tell: the one who asked has gone.
            let _ = reply.send(whole);
        }
    }

    /// Writes what is durable of one log. False when it cannot be written now.
    async fn drain(&mut self, log: &Arc<PartitionLog>, ticket: Option<u64>) -> bool {
        if !log.leave_queue(ticket) {
            return true;
        }
        while let Some(run) = log.take_run() {
            match write_run(log, &run) {
                Ok(()) => self.finish(log, run),
                Err(RunError::Damage(cause)) => {
                    log.abandon_run(&run);
                    // These bytes are good, and are written once a restart would know of the damage all the same.
                    let told = match log.quarantine(cause) {
                        Ok(lsn) => self.shared.wal.wait_durable(lsn).await,
                        Err(error) => Err(error),
                    };
                    if told.is_err() {
                        return false;
                    }
                }
                Err(RunError::Io(error)) => {
                    log.abandon_run(&run);
                    Counters::add(&self.shared.counters.drain_errors, 1);
                    let partition = log.partition();
                    tracing::error!(%partition, %error, "cannot write a segment file, will try again");
                    log.queue_for_retry(self.shared.timer.after(RETRY_AFTER));
                    return false;
                }
            }
        }
        true
    }

    fn finish(&mut self, log: &Arc<PartitionLog>, run: Run) {
        let counters = &self.shared.counters;
        Counters::add(&counters.drained_bytes, run.bytes as u64);
        Counters::add(&counters.drain_writes, 1);
        let finished = log.finish_run(&run);
        if finished.written {
            log.note_written(run.next);
        }
        self.cached.push_back(CachedRun {
            log: log.clone(),
            up_to: run.next,
        });
        if finished.sync_now {
            self.sync(log);
        } else if let Some(ms) = finished.sync_after_ms {
            let due = self
                .shared
                .timer
                .after(std::time::Duration::from_millis(ms));
            let known = self.syncs.values().any(|known| known.number == log.number);
            if !known {
                self.syncs.insert((due, log.number), log.clone());
            }
        }
    }

    fn sync(&self, log: &PartitionLog) {
        if let Err(error) = log.sync_files() {
            tracing::error!(partition = %log.partition(), %error, "cannot sync segment files");
            self.shared.fail();
        }
    }

    fn start_logging(&mut self, log: &Arc<PartitionLog>) {
        // Nobody else drains, so what is synced here is all that is drained.
        self.sync(log);
        if self.shared.has_failed() {
            return;
        }
        if let Err(error) = log.start_logging() {
            let partition = log.partition();
            tracing::error!(%partition, %error, "appends go on without the write-ahead log");
        }
    }

    /// Drops the oldest drained batches while the cache is over its bound.
    fn evict(&mut self) {
        while self.shared.cached_bytes() > self.shared.config.tail_cache_bytes {
            let Some(run) = self.cached.pop_front() else {
                break;
            };
            run.log.evict(run.up_to);
        }
        if self.cached.len() > self.cached_runs_max {
            self.cached
                .retain(|run| run.log.is_cached_before(run.up_to));
            self.cached_runs_max = CACHED_RUNS_MIN.max(2 * self.cached.len());
        }
    }

    async fn change(&mut self, change: FileChange) {
        let log = &change.log;
        if self.shared.wal.wait_durable(change.lsn).await.is_err() {
            // The files stay as they are; a restart replays what became durable.
            return;
        }
        let result = match &change.kind {
            FileChangeKind::Unlink(bases) => {
                bases.iter().try_for_each(|base| unlink_segment(log, *base))
            }
            FileChangeKind::Cut { base, len } => cut_segment(log, *base, *len),
            FileChangeKind::RemovePartition => self.remove_partition(log),
            FileChangeKind::PutAside => self.put_aside(log),
        };
        if let Err(error) = result {
            // Replay or `check` finds what is left; until then it only takes space.
            let partition = log.partition();
            tracing::error!(%partition, %error, "cannot change segment files");
        }
        log.with_state(|state| {
            state.file_changes_pending -= 1;
            state.dir_unsynced = true;
            if let FileChangeKind::Cut { base, .. } = change.kind
                && let Some(segment) = state.segment_mut(base)
                && segment.drained > 0
            {
                segment.unsynced = Unsynced::all();
            }
        });
        log.queue_now();
    }

    fn put_aside(&self, log: &PartitionLog) -> io::Result<()> {
        // No checkpoint will do that: the log is on its list no more.
        self.sync(log);
        let aside = files::stray_dir(&self.shared.config.dir, log.partition(), log.topic_id());
        self.shared.open_files.forget_log(log.number);
        if files::put_aside(&*self.shared.fs, &log.dir(), &aside)? {
            self.shared.checkpoint.note_topics_unsynced();
        }
        Ok(())
    }

    fn remove_partition(&mut self, log: &PartitionLog) -> io::Result<()> {
        let deleted = files::deleted_dir(&self.shared.config.dir, log.partition(), log.topic_id());
        let moved = files::move_away(&*self.shared.fs, &log.dir(), &deleted);
        self.shared.open_files.forget_log(log.number);
        if moved? {
            self.shared.checkpoint.note_topics_unsynced();
            self.graveyard.push_back(deleted);
        }
        Ok(())
    }

    /// Removes a few files of the first directory in the graveyard, and the directory after the last.
    fn remove_some(&mut self) {
        let Some(dir) = self.graveyard.front() else {
            return;
        };
        let step = || -> io::Result<bool> {
            let entries = self.shared.fs.read_dir(dir)?;
            if entries.len() <= REMOVED_AT_ONCE {
                self.shared.fs.remove_dir_all(dir)?;
                return Ok(true);
            }
            for entry in entries.iter().take(REMOVED_AT_ONCE) {
                self.shared.fs.remove_file(&dir.join(&entry.name))?;
            }
            Ok(false)
        };
        let done = match step() {
            Ok(done) => done,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => {
                let dir = dir.display();
                tracing::warn!(%dir, %error, "cannot remove a deleted partition before the next start");
                true
            }
        };
        if done {
            self.graveyard.pop_front();
        }
    }
}

fn unlink_segment(log: &PartitionLog, base: Offset) -> io::Result<()> {
    let removed = FileKind::ALL.into_iter().try_for_each(|kind| {
        match log.shared.fs.remove_file(&log.segment_path(base, kind)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    });
    log.shared.open_files.forget_segment(log.number, base);
    removed
}

fn cut_segment(log: &PartitionLog, base: Offset, len: u64) -> io::Result<()> {
    for (kind, len) in FileKind::ALL.into_iter().zip([len, 0, 0]) {
        match log
            .shared
            .fs
            .open(&log.segment_path(base, kind), OpenMode::ReadWrite)
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => file?.set_len(len)?,
        }
    }
    Ok(())
}

/// Consecutive bytes of one segment, and what its indexes get with them.
pub(crate) struct Run {
    base: Offset,
    position: u32,
    chunks: Vec<Chunk>,
    bytes: usize,
    records: i64,
    /// The offset after the run.
    next: Offset,
    index: Vec<OffsetEntry>,
    index_at: u32,
    time: Vec<TimeEntry>,
    time_at: u32,
    allocated: u64,
    segment_bytes: u64,
    /// The directory may not be there.
    makes_dir: bool,
    leader_epochs: Option<String>,
    /// The segment is sealed, and this run ends it.
    ends_segment: bool,
    /// [`State::cuts`] when the run was taken.
    cuts: u64,
}

/// What the drain does after a run.
#[derive(Default)]
pub(crate) struct Finished {
    /// Whether that is all that is waited for before the run is acknowledged.
    written: bool,
    sync_now: bool,
    sync_after_ms: Option<u64>,
}

impl PartitionLog {
    /// The next bytes to write. None when there are none, or files have to change first.
    pub(crate) fn take_run(&self) -> Option<Run> {
        self.with_state(|state| {
            if state.deleted || state.file_changes_pending > 0 {
                return None;
            }
            let at = state.first_undrained();
            let run = take_run(state, at, self.drainable_end(state))?;
            state.epochs_written = true;
            Some(run)
        })
    }

    /// Notes that a run is in the files.
    pub(crate) fn finish_run(&self, run: &Run) -> Finished {
        let shared = &self.shared;
        let finished = self.with_state(|state| {
            state.dir_made = true;
            state.dir_unsynced |= run.makes_dir || run.position == 0 || run.leader_epochs.is_some();
            // What was written lies where the log was cut meanwhile: it is written over.
            if state.cuts != run.cuts {
                return None;
            }
            let mut finished = Finished::default();
            if state.unlogged {
                finished.written = true;
                state.unflushed_records += run.records;
                finished.sync_now = state.unflushed_records >= state.config.flush_messages;
                let flush_ms = u64::try_from(state.config.flush_ms).unwrap_or(0);
                finished.sync_after_ms = (state.config.flush_ms != i64::MAX).then_some(flush_ms);
            }
            let segment = state.segment_mut(run.base)?;
            segment.drained += run.bytes as u32;
            segment.index_pending.drain(..run.index.len());
            segment.time_pending.drain(..run.time.len());
            segment.unsynced.log |= run.bytes > 0 || run.ends_segment;
            segment.unsynced.index |= run.position == 0 || !run.index.is_empty();
            segment.unsynced.time |= run.position == 0 || !run.time.is_empty();
            segment.allocated = run.allocated_after();
            // Under the lock, so that a segment that is dropped is settled here or there.
            shared.sub_undrained(run.bytes);
            let cached_max = shared.config.tail_cache_bytes / CACHE_SHARE;
            let freed = state.tail.evict_over(cached_max, run.next);
            shared.sub_cached(freed);
            Some(finished)
        });
        finished.unwrap_or_default()
    }

    /// Notes that a run is not in the files.
    pub(crate) fn abandon_run(&self, run: &Run) {
        if run.leader_epochs.is_some() {
            self.with_state(|state| state.epochs_written = false);
        }
    }

    /// Drops drained batches below `up_to` from memory.
    pub(crate) fn evict(&self, up_to: Offset) {
        let freed = self.with_state(|state| {
            // After a cut the same offsets may be undrained again.
            let drained = state.drained_place();
            state.tail.evict_drained(up_to, drained)
        });
        self.shared.sub_cached(freed);
    }

    fn is_cached_before(&self, offset: Offset) -> bool {
        self.with_state(|state| state.tail.start().is_some_and(|start| start < offset))
    }
}

fn take_run(state: &mut State, at: usize, durable: Offset) -> Option<Run> {
    let is_active = at + 1 == state.segments.len();
    let makes_dir = !state.dir_made;
    let leader_epochs = (!state.epochs_written).then(|| state.epochs.to_text());
    let segment_bytes = u64::from(state.config.segment_bytes);
    let cuts = state.cuts;
    let segment = state.segments.get(at)?;
    let chunks = state
        .tail
        .undrained(segment.base, segment.drained, durable, RUN_BYTES_MAX);
    let end = chunks.last().map_or(segment.drained, Chunk::end_position);
    let whole = end == segment.size;
    if chunks.is_empty() && !whole {
        return None;
    }
    let written: usize = chunks.iter().map(Chunk::len).sum();
    assert_eq!(
        written,
        (end - segment.drained) as usize,
        "what is not drained is in memory"
    );
    let next = match (chunks.last(), whole) {
        (_, true) => segment.next_offset,
        (Some(chunk), false) => chunk.next,
        (None, false) => return None,
    };
    let index = segment.index_pending.iter();
    let index = index
        .take_while(|entry| entry.position < end)
        .copied()
        .collect();
    let time = segment.time_pending.iter();
    let time = time
        .take_while(|entry| entry.offset < next)
        .copied()
        .collect();
    let base = chunks.first().map_or(next, |chunk| chunk.base);
    Some(Run {
        base: segment.base,
        position: segment.drained,
        bytes: (end - segment.drained) as usize,
        records: next - base,
        chunks,
        next,
        index,
        index_at: segment.index_written(),
        time,
        time_at: segment.time_written(),
        allocated: segment.allocated,
        segment_bytes,
        makes_dir,
        leader_epochs,
        ends_segment: whole && !is_active,
        cuts,
    })
}

impl Run {
    fn end(&self) -> u64 {
        u64::from(self.position) + self.bytes as u64
    }

    /// What is reserved of the file once the run is written.
    fn allocated_after(&self) -> u64 {
        let end = self.end();
        if self.ends_segment || end < ALLOCATE_FROM_BYTES || end <= self.allocated {
            return self.allocated;
        }
        let ahead = end.min(ALLOCATE_BYTES_MAX);
        (end + ahead).min(self.segment_bytes.max(end))
    }
}

/// Why a run was not written.
enum RunError {
    /// The segment's file lacks something of what was written before.
    Damage(OfflineCause),
    Io(io::Error),
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> RunError {
        let damage = error.get_ref().and_then(|cause| cause.downcast_ref());
        match damage {
            Some(cause) => RunError::Damage(*cause),
            None => RunError::Io(error),
        }
    }
}

fn write_run(log: &PartitionLog, run: &Run) -> Result<(), RunError> {
    if run.makes_dir {
        make_dir(log)?;
    }
    let file = segment_log(log, run)?;
    let allocated = run.allocated_after();
    if allocated > run.allocated {
        let end = run.allocated.max(u64::from(run.position));
        // Only a hint: a full disk is noticed by the write.
        if let Err(error) = file.allocate(end, allocated - end) {
            tracing::debug!(%error, "cannot reserve space for a segment");
        }
    }
    if run.bytes > 0 {
        let pieces = run
            .chunks
            .iter()
            .flat_map(|chunk| [&chunk.head, &chunk.body]);
        let slices = pieces
            .filter(|piece| !piece.is_empty())
            .map(|piece| IoSlice::new(piece));
        file.write_all_at(&slices.collect::<Vec<_>>(), run.position.into())?;
    }
    if run.ends_segment && run.allocated > run.end() {
        // Gives back what was reserved past the end.
        file.set_len(run.end())?;
    }
    write_entries(
        log,
        run.base,
        FileKind::Index,
        &run.index,
        run.index_at,
        run.position == 0,
    )?;
    write_entries(
        log,
        run.base,
        FileKind::TimeIndex,
        &run.time,
        run.time_at,
        run.position == 0,
    )?;
    if let Some(text) = &run.leader_epochs {
        files::write_leader_epochs(&*log.shared.fs, &log.dir(), text)?;
    }
    Ok(())
}

fn make_dir(log: &PartitionLog) -> io::Result<()> {
    let (fs, dir) = (&*log.shared.fs, log.dir());
    if files::belongs_to(fs, &dir, log.topic_id())? == Some(true) {
        return Ok(());
    }
    fs.create_dir_all(&dir)?;
    files::write_partition_metadata(fs, &dir, log.topic_id())?;
    log.shared.checkpoint.note_topics_unsynced();
    Ok(())
}

/// The log file of a run's segment: made with its first bytes, and from then on at least as long as what was written. A file that
/// is not is written to only when the partition is in quarantine.
fn segment_log(log: &PartitionLog, run: &Run) -> io::Result<Arc<dyn File>> {
    let base = run.base;
    log.open_or(base, FileKind::Log, || {
        let path = log.segment_path(base, FileKind::Log);
        if run.position == 0 {
            return create_empty(log, &path);
        }
        if log.offline().is_some() {
            return log.shared.fs.open(&path, OpenMode::Create);
        }
        let file = match log.shared.fs.open(&path, OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::other(OfflineCause::SegmentMissing { base }));
            }
            file => file?,
        };
        let (bytes, synced) = (file.len()?, u64::from(run.position));
        if bytes < synced {
            return Err(io::Error::other(OfflineCause::SegmentShort {
                base,
                bytes,
                synced,
            }));
        }
        Ok(file)
    })
}

fn write_entries<E: IndexEntry>(
    log: &PartitionLog,
    base: Offset,
    kind: FileKind,
    entries: &[E],
    at: u32,
    creates: bool,
) -> io::Result<()> {
    if entries.is_empty() && !creates {
        return Ok(());
    }
    let file = log.open_or(base, kind, || {
        let path = log.segment_path(base, kind);
        match at {
            0 => create_empty(log, &path),
            _ => log.shared.fs.open(&path, OpenMode::Create),
        }
    })?;
    if entries.is_empty() {
        return Ok(());
    }
    let bytes = encode_entries(base, entries);
    file.write_all_at(&[IoSlice::new(&bytes)], u64::from(at) * E::BYTES as u64)
}

/// Whatever a crash may have left under the name is not of this log.
fn create_empty(log: &PartitionLog, path: &std::path::Path) -> io::Result<Arc<dyn File>> {
    let file = log.shared.fs.open(path, OpenMode::Create)?;
    if file.len()? > 0 {
        file.set_len(0)?;
    }
    Ok(file)
}
