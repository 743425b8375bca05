//! The drain: the one thread that changes segment files. It writes what is durable in the write-ahead log from memory into
//! them, in runs, without syncing, and makes the files follow retention, truncation and deletion.
//!
//! Only durable bytes are drained. A segment file then never holds what the write-ahead log could lose, and what is in a file
//! beyond a checkpoint's recovery point is what replay will write there again.
//!
//! Changes of files are made in the order in which they were logged, each after its own entry is durable and before
//! anything that was appended after it: a segment that is dropped and begun again at the same offset is not confused.

mod run;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_records::Offset;
use tidemill_storage::fs::OpenMode;
use tidemill_storage::wal::Lsn;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::files::{self, FileKind};
use crate::partition_log::PartitionLog;
use crate::segment::Unsynced;
use crate::shared::{Counters, Shared};

use run::{Run, RunError, write_run};

/// A segment file that could not be written is tried again after so long.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(250);
/// Files of a deleted partition that are removed before the drain looks for other work.
const REMOVED_AT_ONCE: usize = 8;
/// A list of cached runs is cleared of those that are gone when it has grown to this.
const CACHED_RUNS_MIN: usize = 1024;

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
