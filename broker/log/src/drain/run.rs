//! Runs: consecutive bytes of a log as one write to a segment file, with the index entries that belong to them.

use std::io::{self, IoSlice};
use std::sync::Arc;

use tidemill_records::Offset;
use tidemill_storage::fs::{File, OpenMode};

use crate::error::OfflineCause;
use crate::files::{self, FileKind};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry, encode_entries};
use crate::partition_log::PartitionLog;
use crate::state::State;
use crate::tail::Chunk;

/// The most that one write takes.
const RUN_BYTES_MAX: usize = 4 << 20;
/// Space is reserved ahead of the writes from this size of a segment on: many small logs must not reserve much.
const ALLOCATE_FROM_BYTES: u64 = 256 << 10;
const ALLOCATE_BYTES_MAX: u64 = 16 << 20;
/// One partition keeps at most this share of the cache, drained batches counted.
const CACHE_SHARE: usize = 4;

/// Consecutive bytes of one segment, and what its indexes get with them.
pub(super) struct Run {
    base: Offset,
    position: u32,
    chunks: Vec<Chunk>,
    pub(super) bytes: usize,
    records: i64,
    /// The offset after the run.
    pub(super) next: Offset,
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
pub(super) struct Finished {
    /// Whether that is all that is waited for before the run is acknowledged.
    pub(super) written: bool,
    pub(super) sync_now: bool,
    pub(super) sync_after_ms: Option<u64>,
}

impl PartitionLog {
    /// The next bytes to write. None when there are none, or files have to change first.
    pub(super) fn take_run(&self) -> Option<Run> {
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
    pub(super) fn finish_run(&self, run: &Run) -> Finished {
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
    pub(super) fn abandon_run(&self, run: &Run) {
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

    pub(super) fn is_cached_before(&self, offset: Offset) -> bool {
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
pub(super) enum RunError {
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

pub(super) fn write_run(log: &PartitionLog, run: &Run) -> Result<(), RunError> {
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
