//! One partition's log: a handle that the broker's threads share.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use tidemill_records::{LeaderEpoch, Offset, TopicId, TopicPartition};
use tidemill_storage::wal::{Lsn, WalError};
use tokio::time::Instant;

use crate::config::LogConfig;
use crate::error::{Offline, OfflineCause};
use crate::figures::PartitionFigures;
use crate::files::partition_dir;
use crate::producers::ProducerFigures;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::state::State;
use crate::transactions::AbortedTransaction;
use crate::wal_entry::{Change, LogKey, WalEntry};

/// Called when records become durable, with the durable end offset.
pub type OnDurable = Arc<dyn Fn(Offset) + Send + Sync>;

/// The log of one partition's replica on this broker.
///
/// Appending and reading at the tail make no file system call. Offsets that the getters give only grow, but
/// for truncation.
pub struct PartitionLog {
    partition: TopicPartition,
    topic_id: TopicId,
    /// Names its open files.
    pub(crate) number: u64,
    pub(crate) shared: Arc<Shared>,
    me: Weak<PartitionLog>,
    state: Mutex<State>,
    schedule: Mutex<Schedule>,
    on_durable: RwLock<Option<OnDurable>>,
    /// Held while its files are synced.
    pub(crate) syncing: Mutex<()>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    durable_end: AtomicI64,
    high_watermark: AtomicI64,
    /// Whether a transaction may hold back the last stable offset.
    unsettled: AtomicBool,
}

/// What of the log is durable, and when the drain writes it.
#[derive(Debug, Default)]
struct Schedule {
    /// Appends in order that the write-ahead log has not synced.
    undurable: VecDeque<Undurable>,
    /// Whether the log is on the list of those that wait for the write-ahead log.
    listed: bool,
    /// Bytes ever appended, ever durable, and ever taken by the drain: counts for deciding when to drain.
    appended_bytes: u64,
    durable_bytes: u64,
    taken_bytes: u64,
    queued: Queued,
}

#[derive(Debug, Clone, Copy)]
struct Undurable {
    lsn: Lsn,
    end: Offset,
    appended_bytes: u64,
}

/// Where the log is in the drain's queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Queued {
    #[default]
    No,
    /// For a later moment; the ticket tells this entry from older ones that still lie there.
    Waiting {
        ticket: u64,
    },
    Ready,
}

/// What an append leaves to be done once the lock is released.
#[must_use]
pub(crate) enum AfterAppend {
    /// The write-ahead log says when it is durable.
    Logged { lsn: Lsn, listed: bool },
    /// It is acknowledged once the drain has written it.
    Unlogged,
}

impl PartitionLog {
    pub(crate) fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        topic_id: TopicId,
        state: State,
        high_watermark: Offset,
    ) -> Arc<PartitionLog> {
        let number = shared.next_number();
        Arc::new_cyclic(|me| PartitionLog {
            partition,
            topic_id,
            number,
            shared,
            me: me.clone(),
            log_start: AtomicI64::new(state.log_start.0),
            log_end: AtomicI64::new(state.log_end.0),
            durable_end: AtomicI64::new(state.log_end.0),
            high_watermark: AtomicI64::new(high_watermark.0),
            unsettled: AtomicBool::new(!state.producers.transactions.is_settled()),
            state: Mutex::new(state),
            schedule: Mutex::new(Schedule::default()),
            on_durable: RwLock::new(None),
            syncing: Mutex::new(()),
        })
    }

    /// Topic and partition.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The topic's id.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    pub(crate) fn key(&self) -> LogKey {
        LogKey {
            topic_id: self.topic_id,
            partition: self.partition.partition,
        }
    }

    /// The directory of its files; made with the first of them.
    pub fn dir(&self) -> PathBuf {
        partition_dir(&self.shared.config.dir, &self.partition)
    }

    /// Runs `step` under the log's lock. It must not wait, and make no system call on the request path.
    pub(crate) fn with_state<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        step(&mut self.state.lock())
    }

    pub(crate) fn arc(&self) -> Arc<PartitionLog> {
        self.me.upgrade().expect("whoever calls holds the log")
    }

    /// The first offset that readers may ask for.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    /// The first offset on this disk; not below the log start offset.
    pub fn local_log_start_offset(&self) -> Offset {
        self.with_state(|state| state.local_log_start)
    }

    /// The offset that the next record gets.
    pub fn log_end_offset(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// End of what survives a power loss; where the write-ahead log is skipped, of what is written to segment files and
    /// survives the end of the process.
    pub fn durable_end_offset(&self) -> Offset {
        Offset(self.durable_end.load(Ordering::Acquire))
    }

    /// What [`Self::set_high_watermark`] set; after a restart what the last checkpoint held.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Notes how far the log is replicated. It never goes back, and not past the log's end.
    pub fn set_high_watermark(&self, offset: Offset) {
        let offset = offset.min(self.log_end_offset());
        self.high_watermark.fetch_max(offset.0, Ordering::AcqRel);
        if self.unsettled.load(Ordering::Acquire) {
            self.last_stable_offset(offset);
        }
    }

    /// The offset below which every transaction is decided and the decision is below `high_watermark`. Not above
    /// `high_watermark`.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        if !self.unsettled.load(Ordering::Acquire) {
            return high_watermark;
        }
        self.with_state(|state| {
            let transactions = &mut state.producers.transactions;
            let stable = transactions.last_stable_offset(high_watermark);
            self.unsettled
                .store(!transactions.is_settled(), Ordering::Release);
            stable
        })
    }

    /// Aborted transactions that overlap `from..to`, for a read_committed consumer that was given those records.
    pub fn aborted_transactions(&self, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
        self.with_state(|state| state.producers.transactions.aborted(from, to))
    }

    /// The largest leader epoch that is not larger than `epoch`, and where it ends (KIP-101, KIP-279). NONE and NONE for an epoch
    /// that is newer than all.
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> (LeaderEpoch, Offset) {
        self.with_state(|state| state.epochs.end_offset_for(epoch, state.log_end))
    }

    /// The newest leader epoch with a record, or NONE.
    pub fn latest_epoch(&self) -> LeaderEpoch {
        self.with_state(|state| state.epochs.latest())
    }

    /// The leader epoch of the record at `offset`, where it is known.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.with_state(|state| state.epochs.epoch_at(offset))
    }

    /// What is remembered of its producers.
    pub fn producers(&self) -> Vec<ProducerFigures> {
        self.with_state(|state| state.producers.figures())
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.with_state(|state| state.config.clone())
    }

    /// Whether the partition is quarantined, and why.
    pub fn offline(&self) -> Option<Offline> {
        self.with_state(|state| self.offline_of(state))
    }

    pub(crate) fn offline_of(&self, state: &State) -> Option<Offline> {
        Some(Offline {
            partition: self.partition.clone(),
            cause: state.offline?,
        })
    }

    /// Bytes of all its segments.
    pub fn size_bytes(&self) -> u64 {
        self.with_state(|state| state.size_bytes())
    }

    /// Figures at this moment.
    pub fn figures(&self) -> PartitionFigures {
        let high_watermark = self.high_watermark();
        let durable_end = self.durable_end_offset();
        self.with_state(|state| PartitionFigures {
            log_start: state.log_start,
            local_log_start: state.local_log_start,
            log_end: state.log_end,
            durable_end,
            high_watermark,
            segments: state.segments.len(),
            size_bytes: state.size_bytes(),
            undrained_bytes: state.undrained_bytes() as u64,
            cached_bytes: state.tail.bytes() as u64,
            producers: state.producers.len(),
            offline: state.offline,
        })
    }

    /// Registers who is told when records become durable: on the write-ahead log's thread, sometimes on the
    /// appending one, never under the log's lock. Calls may overlap and come out of order: take the largest.
    pub fn set_on_durable(&self, on_durable: OnDurable) {
        *self.on_durable.write() = Some(on_durable);
    }

    /// Notes, under the log's lock, that the log now ends at `end` with `bytes` more.
    pub(crate) fn note_appended(&self, state: &State, lsn: Lsn, bytes: usize) -> AfterAppend {
        self.log_end.store(state.log_end.0, Ordering::Release);
        if !state.producers.transactions.is_settled() {
            self.unsettled.store(true, Ordering::Release);
        }
        let mut schedule = self.schedule.lock();
        schedule.appended_bytes += bytes as u64;
        if state.unlogged {
            return AfterAppend::Unlogged;
        }
        let entry = Undurable {
            lsn,
            end: state.log_end,
            appended_bytes: schedule.appended_bytes,
        };
        schedule.undurable.push_back(entry);
        let listed = std::mem::replace(&mut schedule.listed, true);
        AfterAppend::Logged { lsn, listed }
    }

    /// What remains of an append without the log's lock.
    pub(crate) fn after_append(&self, after: AfterAppend) {
        match after {
            AfterAppend::Unlogged => self.queue_unlogged(),
            AfterAppend::Logged { lsn, listed } => {
                if !listed {
                    self.shared.await_durable(self.arc());
                }
                // Synced between being appended and being listed: nobody else would notice.
                let durable = self.shared.told_durable();
                if durable >= lsn {
                    self.advance_durable(durable);
                }
            }
        }
        self.shared
            .checkpoint
            .note_change(&self.shared.timer, &self.shared.config);
    }

    /// The write-ahead log is durable up to `lsn`. True while the log has appends that are not.
    pub(crate) fn on_wal_durable(&self, lsn: Lsn) -> bool {
        self.advance_durable(lsn);
        let mut schedule = self.schedule.lock();
        schedule.listed = !schedule.undurable.is_empty();
        schedule.listed
    }

    /// Notes that the write-ahead log is durable up to `lsn`, where nobody else did yet.
    pub(crate) fn advance_durable(&self, lsn: Lsn) {
        let mut durable = None;
        {
            let mut schedule = self.schedule.lock();
            while let Some(entry) = schedule
                .undurable
                .front()
                .copied()
                .filter(|entry| entry.lsn <= lsn)
            {
                schedule.undurable.pop_front();
                schedule.durable_bytes = entry.appended_bytes;
                durable = Some(entry.end);
            }
            if schedule.undurable.is_empty() {
                // What has skipped the write-ahead log since waits only for what it was not skipped for.
                schedule.durable_bytes = schedule.appended_bytes;
            }
            if let Some(end) = durable {
                self.durable_end.fetch_max(end.0, Ordering::AcqRel);
            }
        }
        if let Some(end) = durable {
            self.queue_for_drain();
            self.call_on_durable(end);
        }
    }

    /// Notes that everything below `end` is in segment files, of a log that skips the write-ahead log.
    pub(crate) fn note_written(&self, end: Offset) {
        self.durable_end.fetch_max(end.0, Ordering::AcqRel);
        self.call_on_durable(end);
    }

    /// The end of what the drain may write: nothing that the write-ahead log could lose, and in the order of the log.
    pub(crate) fn drainable_end(&self, state: &State) -> Offset {
        let waits = !self.schedule.lock().undurable.is_empty();
        match state.unlogged && !waits {
            true => state.log_end,
            false => self.durable_end_offset(),
        }
    }

    fn call_on_durable(&self, end: Offset) {
        let on_durable = self.on_durable.read().clone();
        if let Some(on_durable) = on_durable {
            on_durable(end);
        }
    }

    /// Puts the log into the drain's queue where its durable bytes ask for it.
    pub(crate) fn queue_for_drain(&self) {
        let shared = &self.shared;
        let mut schedule = self.schedule.lock();
        let bytes = schedule.durable_bytes.saturating_sub(schedule.taken_bytes);
        let enough = bytes >= shared.config.drain_run_bytes as u64;
        match schedule.queued {
            Queued::Ready => {}
            Queued::No | Queued::Waiting { .. } if enough => {
                schedule.queued = Queued::Ready;
                shared.drain.push_ready(self.arc());
            }
            Queued::No if bytes > 0 => {
                let due = shared.timer.after(shared.config.drain_delay);
                schedule.queued = self.queue_until(due, false);
            }
            Queued::No | Queued::Waiting { .. } => {}
        }
    }

    /// Puts the log into the drain's queue for at once, unless it waits there to be tried again.
    fn queue_unlogged(&self) {
        let mut schedule = self.schedule.lock();
        if schedule.queued == Queued::No {
            schedule.queued = Queued::Ready;
            self.shared.drain.push_ready(self.arc());
        }
    }

    /// Puts the log into the drain's queue for a later moment, because it failed.
    pub(crate) fn queue_for_retry(&self, due: Instant) {
        let mut schedule = self.schedule.lock();
        if schedule.queued == Queued::No {
            schedule.queued = self.queue_until(due, true);
        }
    }

    /// Puts the log into the drain's queue, whatever there is to drain.
    pub(crate) fn queue_now(&self) {
        let mut schedule = self.schedule.lock();
        if schedule.queued != Queued::Ready {
            schedule.queued = Queued::Ready;
            self.shared.drain.push_ready(self.arc());
        }
    }

    fn queue_until(&self, due: Instant, retry: bool) -> Queued {
        let ticket = self.shared.next_number();
        self.shared
            .drain
            .push_waiting(due, ticket, self.arc(), retry);
        Queued::Waiting { ticket }
    }

    /// Takes the log out of service: its files are not what they must be. Gives the place in the write-ahead log that says
    /// so: until that is durable nothing may be written over what tells of the damage.
    pub(crate) fn quarantine(&self, cause: OfflineCause) -> Result<Lsn, WalError> {
        let logged = self.with_state(|state| {
            state.offline = Some(cause);
            self.log_change(state, Change::Offline { cause })
        });
        tracing::error!(partition = %self.partition, %cause, "partition quarantined");
        logged
    }

    /// The drain turns to the log: true unless the queue's entry is an old one. What becomes durable from here on
    /// queues the log again.
    pub(crate) fn leave_queue(&self, ticket: Option<u64>) -> bool {
        let mut schedule = self.schedule.lock();
        let current = match (schedule.queued, ticket) {
            (Queued::Waiting { ticket: mine }, Some(ticket)) => mine == ticket,
            (Queued::Ready, None) => true,
            _ => false,
        };
        if current {
            schedule.queued = Queued::No;
            schedule.taken_bytes = schedule.durable_bytes;
        }
        current
    }

    /// Writes a change other than an append into the write-ahead log, under the log's lock.
    pub(crate) fn log_change(
        &self,
        state: &mut State,
        change: Change<'_>,
    ) -> Result<Lsn, WalError> {
        let entry = WalEntry {
            key: self.key(),
            change,
        }
        .encode();
        let lsn = self.shared.wal.append(&[std::io::IoSlice::new(&entry)])?;
        state.last_lsn = lsn;
        Ok(lsn)
    }

    /// Notes, under the log's lock, that the log's ends were moved by something else than an append.
    pub(crate) fn note_cut(&self, state: &State, lsn: Lsn) -> AfterAppend {
        let (start, end) = (state.log_start.0, state.log_end.0);
        let mut schedule = self.schedule.lock();
        let appended_bytes = schedule.appended_bytes;
        schedule.undurable.clear();
        schedule.undurable.push_back(Undurable {
            lsn,
            end: state.log_end,
            appended_bytes,
        });
        self.log_start.store(start, Ordering::Release);
        self.log_end.store(end, Ordering::Release);
        self.durable_end.fetch_min(end, Ordering::AcqRel);
        let high_watermark = self.high_watermark.load(Ordering::Acquire);
        self.high_watermark
            .store(high_watermark.clamp(start, end), Ordering::Release);
        self.unsettled.store(true, Ordering::Release);
        let listed = std::mem::replace(&mut schedule.listed, true);
        AfterAppend::Logged { lsn, listed }
    }

    /// Notes, under the log's lock, that the log begins later.
    pub(crate) fn note_start(&self, state: &State) {
        self.log_start.store(state.log_start.0, Ordering::Release);
    }

    /// Settles the shared counts for segments that were dropped with bytes that never were drained.
    pub(crate) fn forget_undrained(&self, dropped: &[Segment]) {
        let undrained = dropped.iter().map(|segment| segment.size - segment.drained);
        let undrained: usize = undrained.map(|bytes| bytes as usize).sum();
        if undrained > 0 {
            self.shared.sub_undrained(undrained);
        }
    }
}

impl std::fmt::Debug for PartitionLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionLog")
            .field("partition", &self.partition)
            .field("log_end", &self.log_end)
            .finish_non_exhaustive()
    }
}
