//! Checkpoints: what recovery starts from instead of reading all segments.
//!
//! A checkpoint says, for every partition, how it was at one moment (its own; [`State::last_lsn`] tells replay what it
//! knows already), and that its segment files hold all of that, synced. After it the write-ahead log before the oldest of
//! those moments is not needed. The order of steps is the point: capture, wait until what was captured is durable,
//! drain it, sync the files, replace the checkpoint, recycle.
//!
//! The file is one atomic file of format 1, little-endian: the lsn from which replay starts u64, partition count u32, then per
//! partition what [`encode_partition`] writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidemill_records::{EpochStart, LeaderEpoch, Offset, PartitionId, TopicId, TopicPartition};
use tidemill_storage::atomic::{AtomicFileError, write_atomic};
use tidemill_storage::wal::{Lsn, WalError};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::codec::{Put, Reader};
use crate::config::{LogConfig, LogDirConfig};
use crate::error::{FormatError, OfflineCause};
use crate::files::{CHECKPOINT, topics_dir};
use crate::leader_epochs::LeaderEpochs;
use crate::partition_log::PartitionLog;
use crate::producers::Producers;
use crate::segment::{ENCODED_BYTES, Segment};
use crate::shared::{Counters, Shared, Timer};
use crate::state::State;
use crate::sync::SyncError;

/// The version of the payload.
pub(crate) const FORMAT: u32 = 1;
/// A failed checkpoint is tried again after so long.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a checkpoint was not taken. The one before stands.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// What it would say is not durable.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Segment files cannot be written now.
    #[error("segment files cannot be written")]
    NotDrained,
    /// A segment file or directory cannot be synced: the log directory takes no more appends.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The checkpoint file cannot be written.
    #[error(transparent)]
    File(#[from] AtomicFileError),
    /// A sync failed before.
    #[error("the log directory failed; restart the broker once the disk is well")]
    DirFailed,
    /// The directory is closed.
    #[error("the log directory is closed")]
    Closed,
}

/// When the next checkpoint is taken.
#[derive(Default)]
pub(crate) struct CheckpointTrigger {
    /// Whether anything changed since the last checkpoint.
    changed: AtomicBool,
    due: Mutex<Option<Instant>>,
    event: Notify,
    requests: Mutex<Vec<Request>>,
    /// Where the write-ahead log was at the last checkpoint.
    last: AtomicU64,
    topics_unsynced: AtomicBool,
    stop: AtomicBool,
}

type Request = oneshot::Sender<Result<(), CheckpointError>>;

impl CheckpointTrigger {
    /// Something changed. Cheap but for the first time since the last checkpoint.
    pub(crate) fn note_change(&self, timer: &Timer, config: &LogDirConfig) {
        if self.changed.load(Ordering::Relaxed) || self.changed.swap(true, Ordering::AcqRel) {
            return;
        }
        *self.due.lock() = Some(timer.after(config.checkpoint_interval));
        self.event.notify_one();
    }

    pub(crate) fn wake(&self) {
        self.event.notify_one();
    }

    /// A directory of a partition was made, renamed or removed.
    pub(crate) fn note_topics_unsynced(&self) {
        self.topics_unsynced.store(true, Ordering::Release);
    }

    pub(crate) fn start_from(&self, lsn: Lsn) {
        self.last.store(lsn.0, Ordering::Release);
    }

    /// Whether recovery would have to read as much as is allowed.
    pub(crate) fn is_behind(&self, shared: &Shared) -> bool {
        let since = shared
            .wal
            .durable()
            .0
            .saturating_sub(self.last.load(Ordering::Acquire));
        since >= shared.config.checkpoint_wal_bytes
    }

    /// Takes a checkpoint now.
    pub(crate) async fn request(&self) -> Result<(), CheckpointError> {
        let (reply, done) = oneshot::channel();
        self.requests.lock().push(reply);
        self.event.notify_one();
        done.await.unwrap_or(Err(CheckpointError::Closed))
    }

    /// Ends the thread after what it is doing.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.event.notify_one();
    }
}

/// Takes checkpoints until [`CheckpointTrigger::stop`].
pub(crate) async fn run(shared: Arc<Shared>) {
    let trigger = &shared.checkpoint;
    let mut not_before = None;
    while !trigger.stop.load(Ordering::Acquire) {
        let requests = std::mem::take(&mut *trigger.requests.lock());
        let now = shared.timer.now();
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        let wanted = trigger.changed.load(Ordering::Acquire)
            && (is_due(*trigger.due.lock()) || trigger.is_behind(&shared));
        let blocked = not_before.is_some_and(|instant| instant > now);
        if requests.is_empty() && (blocked || !wanted) {
            let due = match blocked {
                true => not_before,
                false => *trigger.due.lock(),
            };
            shared.timer.event_or(trigger.event.notified(), due).await;
            continue;
        }
        let result = take(&shared).await;
        not_before = match &result {
            Ok(()) => None,
            Err(error) => {
                Counters::add(&shared.counters.checkpoint_errors, 1);
                tracing::error!(%error, "no checkpoint, the last one stands");
                let retry = shared.timer.after(RETRY_AFTER);
                trigger.changed.store(true, Ordering::Release);
                *trigger.due.lock() = Some(retry);
                Some(retry)
            }
        };
        answer(requests, result);
    }
    trigger.requests.lock().clear();
}

/// All who asked together get the same answer; only the first gets the details of an error.
fn answer(requests: Vec<Request>, result: Result<(), CheckpointError>) {
    let failed = result.is_err();
    let mut result = Some(result);
    for request in requests {
        let again = || match failed {
            true => Err(CheckpointError::NotDrained),
            false => Ok(()),
        };
        // Nobody to tell: the one who asked has gone.
        let _ = request.send(result.take().unwrap_or_else(again));
    }
}

/// What a checkpoint says about one log, and must still be made true.
struct Captured {
    log: Arc<PartitionLog>,
    first_base: Offset,
    active_base: Offset,
    active_size: u32,
    cuts: u64,
    unlogged: bool,
}

async fn take(shared: &Shared) -> Result<(), CheckpointError> {
    if shared.has_failed() {
        return Err(CheckpointError::DirFailed);
    }
    let trigger = &shared.checkpoint;
    // First, so that a change from here on asks for the next one.
    trigger.changed.store(false, Ordering::Release);
    *trigger.due.lock() = None;
    let from = shared.wal.durable();
    let (payload, captured, needed) = capture(shared, from);
    shared.wal.wait_durable(needed).await?;
    let durable = shared.wal.durable();
    // Whoever appended may not have got so far as to ask to be told.
    captured
        .iter()
        .for_each(|captured| captured.log.advance_durable(durable));
    let flushed = shared.drain.flush().await;
    if !flushed || !captured.iter().all(Captured::is_drained) {
        return Err(CheckpointError::NotDrained);
    }
    sync(shared, &captured).inspect_err(|_| shared.fail())?;
    // What was dropped before it was drained or synced must not come back from a write-ahead log that lacks the drop. From here on
    // nothing that was captured is unsynced.
    if let Some(lsn) = captured.iter().filter_map(Captured::dropped_at).max() {
        shared.wal.wait_durable(lsn).await?;
    }
    let path = shared.config.dir.join(CHECKPOINT);
    write_atomic(&*shared.fs, &path, FORMAT, &payload)?;
    trigger.last.store(from.0, Ordering::Release);
    shared.wal.recycle_below(from);
    Counters::add(&shared.counters.checkpoints, 1);
    shared.notify_admission();
    Ok(())
}

fn sync(shared: &Shared, captured: &[Captured]) -> Result<(), SyncError> {
    for captured in captured {
        captured.log.sync_files()?;
    }
    if shared
        .checkpoint
        .topics_unsynced
        .swap(false, Ordering::AcqRel)
    {
        let path = topics_dir(&shared.config.dir);
        let synced = shared.fs.sync_dir(&path);
        synced.map_err(|source| SyncError { path, source })?;
    }
    Ok(())
}

/// Every partition as it is, one after the other under its own lock, and the position up to which the write-ahead log must
/// be durable for that to be true. A change at or below `from` is in it: its entry was appended before, and the state changes
/// under the same lock as the entry is appended.
fn capture(shared: &Shared, from: Lsn) -> (Vec<u8>, Vec<Captured>, Lsn) {
    let logs = shared.logs.all();
    let mut entries = Vec::new();
    let mut captured = Vec::with_capacity(logs.len());
    let mut needed = from;
    for log in logs {
        log.with_state(|state| {
            if state.deleted {
                return;
            }
            // A chunk that ends here can be drained without what is appended from here on.
            state.tail.freeze();
            needed = needed.max(state.last_lsn);
            encode_partition(&log, state, &mut entries);
            captured.push(Captured {
                log: log.clone(),
                first_base: state.segments[0].base,
                active_base: state.active().base,
                active_size: state.active().size,
                cuts: state.cuts,
                unlogged: state.unlogged,
            });
        });
    }
    let mut payload = Vec::with_capacity(entries.len() + 12);
    payload.u64(from.0);
    payload.count(captured.len());
    payload.bytes(&entries);
    (payload, captured, needed)
}

impl Captured {
    /// Where the write-ahead log tells that captured segments were dropped at either end, or all of the log.
    fn dropped_at(&self) -> Option<Lsn> {
        self.log.with_state(|state| {
            let dropped = state.deleted
                || state.cuts != self.cuts
                || state.segments[0].base != self.first_base;
            dropped.then_some(state.last_lsn)
        })
    }

    /// Whether the files hold what was captured, or will not be looked at. Of a log that was cut meanwhile, or that went
    /// over to the write-ahead log or from it, nobody knows.
    fn is_drained(&self) -> bool {
        self.log.with_state(|state| {
            if state.deleted || state.cuts != self.cuts || state.unlogged != self.unlogged {
                return state.deleted;
            }
            match state.segments.get(state.first_undrained()) {
                None => true,
                Some(first) => {
                    first.base > self.active_base
                        || (first.base == self.active_base && first.drained >= self.active_size)
                }
            }
        })
    }
}

/// A partition as a checkpoint holds it.
#[derive(Debug)]
pub(crate) struct PartitionEntry {
    pub(crate) partition: TopicPartition,
    pub(crate) topic_id: TopicId,
    pub(crate) high_watermark: Offset,
    pub(crate) state: State,
}

fn encode_partition(log: &PartitionLog, state: &State, out: &mut Vec<u8>) {
    let high_watermark = log.high_watermark().min(state.log_end);
    encode_entry(log.partition(), log.topic_id(), high_watermark, state, out);
}

/// Topic id, partition, topic, lsn, unlogged, offline cause, high watermark, log start, local log start, log end,
/// epochs, segments, producers with their transactions.
fn encode_entry(
    partition: &TopicPartition,
    topic_id: TopicId,
    high_watermark: Offset,
    state: &State,
    out: &mut Vec<u8>,
) {
    out.u128(topic_id.0.as_u128());
    out.i32(partition.partition.0);
    out.text(&partition.topic);
    out.u64(state.last_lsn.0);
    out.bool(state.unlogged);
    encode_offline(state.offline, out);
    out.i64(high_watermark.0);
    out.i64(state.log_start.0);
    out.i64(state.local_log_start.0);
    out.i64(state.log_end.0);
    out.count(state.epochs.entries().len());
    for entry in state.epochs.entries() {
        out.i32(entry.epoch.0);
        out.i64(entry.start.0);
    }
    out.count(state.segments.len());
    for segment in &state.segments {
        segment.encode(out);
    }
    state.producers.encode(out);
}

pub(crate) fn encode_offline(cause: Option<OfflineCause>, out: &mut Vec<u8>) {
    let (kind, offset, first, second) = match cause {
        None => (0, Offset::ZERO, 0, 0),
        Some(OfflineCause::SegmentMissing { base }) => (1, base, 0, 0),
        Some(OfflineCause::SegmentShort {
            base,
            bytes,
            synced,
        }) => (2, base, bytes, synced),
        Some(OfflineCause::Gap { entry, end }) => (3, entry, end.0.cast_unsigned(), 0),
        Some(OfflineCause::Unusable) => (4, Offset::ZERO, 0, 0),
    };
    out.u8(kind);
    if kind > 0 {
        out.i64(offset.0);
        out.u64(first);
        out.u64(second);
    }
}

pub(crate) fn decode_offline(reader: &mut Reader<'_>) -> Result<Option<OfflineCause>, FormatError> {
    let kind = reader.u8()?;
    if kind == 0 {
        return Ok(None);
    }
    let base = Offset(reader.i64_from_zero()?);
    let (first, second) = (reader.u64()?, reader.u64()?);
    match kind {
        1 => Ok(Some(OfflineCause::SegmentMissing { base })),
        2 => Ok(Some(OfflineCause::SegmentShort {
            base,
            bytes: first,
            synced: second,
        })),
        3 => Ok(Some(OfflineCause::Gap {
            entry: base,
            end: Offset(first.cast_signed()),
        })),
        4 => Ok(Some(OfflineCause::Unusable)),
        kind => Err(FormatError::Kind(kind)),
    }
}

/// Reads a checkpoint: where replay starts, and the partitions. `config` is what they get until they are told theirs.
pub(crate) fn decode(
    payload: &[u8],
    config: &Arc<LogConfig>,
) -> Result<(Lsn, Vec<PartitionEntry>), FormatError> {
    let mut reader = Reader::new(payload);
    let from = Lsn(reader.u64()?);
    let count = reader.count(100)?;
    let mut entries = Vec::with_capacity(count);
    // Partitions of a topic come one after the other and share its name.
    let mut topic: Arc<str> = Arc::from("");
    for _ in 0..count {
        let entry = decode_entry(&mut reader, config, &mut topic)?;
        entries.push(entry);
    }
    reader.finish()?;
    Ok((from, entries))
}

fn decode_entry(
    reader: &mut Reader<'_>,
    config: &Arc<LogConfig>,
    topic: &mut Arc<str>,
) -> Result<PartitionEntry, FormatError> {
    let topic_id = TopicId(Uuid::from_u128(reader.u128()?));
    let partition = PartitionId(reader.i32()?);
    let name = reader.text()?;
    if **topic != *name {
        *topic = Arc::from(name);
    }
    let mut state = State::new(config.clone(), Offset::ZERO, 0);
    state.last_lsn = Lsn(reader.u64()?);
    state.unlogged = reader.bool()?;
    state.offline = decode_offline(reader)?;
    let high_watermark = Offset(reader.i64_from_zero()?);
    state.log_start = Offset(reader.i64_from_zero()?);
    state.local_log_start = Offset(reader.i64_from_zero()?);
    state.log_end = Offset(reader.i64_from_zero()?);
    let mut epochs = Vec::new();
    for _ in 0..reader.count(12)? {
        epochs.push(EpochStart {
            epoch: LeaderEpoch(reader.i32()?),
            start: Offset(reader.i64_from_zero()?),
        });
    }
    state.epochs = LeaderEpochs::from_entries(epochs)?;
    state.segments.clear();
    for _ in 0..reader.count(ENCODED_BYTES)? {
        state.segments.push_back(Segment::decode(reader)?);
    }
    state.producers = Producers::decode(reader)?;
    let ordered = state
        .segments
        .iter()
        .is_sorted_by(|before, after| before.base < after.base && before.next_offset <= after.base);
    let ends = state.segments.back().map(|active| active.next_offset);
    if !ordered || ends != Some(state.log_end) || state.log_start > state.log_end {
        return Err(FormatError::Range);
    }
    Ok(PartitionEntry {
        partition: TopicPartition::new(topic.clone(), partition),
        topic_id,
        high_watermark,
        state,
    })
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a thread of a disk that is made to lag"
)]
mod order_tests;
#[cfg(test)]
mod tests;
