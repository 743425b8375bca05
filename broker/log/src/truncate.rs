//! Cutting a log at its end: what a follower does whose log parts from its leader's (KIP-101).

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidemill_records::{BatchRules, Offset, RecordBatch};
use tidemill_storage::fs::{File, OpenMode};

use crate::drain::FileChangeKind;
use crate::error::{LogError, ReadError};
use crate::files::FileKind;
use crate::partition_log::PartitionLog;
use crate::producers::Producers;
use crate::scan::{Scan, ScanEnd};
use crate::segment::{Segment, Unsynced};
use crate::state::State;
use crate::wal_entry::Change;

/// Opens a segment's log file.
type OpenSegment<'a> = &'a mut dyn FnMut(Offset) -> io::Result<Arc<dyn File>>;

/// What files have to follow after a cut.
struct Cut {
    /// Segments that are gone.
    dropped: Vec<Segment>,
    /// The segment that was cut, now the active one, and the bytes that its file may keep.
    base: Offset,
    len: u64,
}

/// Why a segment could not be walked.
#[derive(Debug)]
pub(crate) struct WalkError {
    base: Offset,
    position: u64,
    end: ScanEnd,
}

impl WalkError {
    pub(crate) fn cannot_open(base: Offset, error: io::Error) -> WalkError {
        WalkError {
            base,
            position: 0,
            end: ScanEnd::Io(error),
        }
    }
}

impl PartitionLog {
    /// Drops everything from `end` on, back to the end of a batch. The caller lets nobody append meanwhile. Files
    /// follow in the background; the cut is durable once the write-ahead log is, before anything appended after it.
    pub fn truncate_to(&self, end: Offset) -> Result<(), LogError> {
        let after = self.with_state(|state| {
            if let Some(offline) = self.offline_of(state) {
                return Err(offline.into());
            }
            if end >= state.log_end {
                return Ok(None);
            }
            if end < state.log_start {
                return Err(LogError::OutOfRange {
                    offset: end,
                    start: state.log_start,
                    end: state.log_end,
                });
            }
            let undrained = state.undrained_bytes();
            let producers_max = self.shared.config.producers_per_partition_max;
            let mut open = |base| {
                let path = self.segment_path(base, FileKind::Log);
                self.open_or(base, FileKind::Log, || {
                    self.shared.fs.open(&path, OpenMode::ReadWrite)
                })
            };
            let mut next = prepare_cut(state, end, producers_max, &mut open)
                .map_err(|error| self.walk_error(error))?;
            let lsn = self.log_change(state, next.change())?;
            let freed = state.tail.truncate(next.end());
            self.shared.sub_cached(freed);
            let cut = next.commit(state);
            self.shared
                .sub_undrained(undrained - state.undrained_bytes());
            let dropped = cut.dropped.iter().map(|segment| segment.base);
            // Of a segment that was cut to nothing the names go too: an empty file would have to be synced.
            let emptied = (cut.len == 0).then_some(cut.base);
            let unlinked = FileChangeKind::Unlink(dropped.chain(emptied).collect());
            self.change_files(state, lsn, unlinked);
            if cut.len > 0 {
                let (base, len) = (cut.base, cut.len);
                self.change_files(state, lsn, FileChangeKind::Cut { base, len });
            }
            Ok::<_, LogError>(Some(self.note_cut(state, lsn)))
        })?;
        if let Some(after) = after {
            self.after_append(after);
        }
        Ok(())
    }

    /// Drops everything; the log begins, empty, at `start`.
    pub fn truncate_fully_and_start_at(&self, start: Offset) -> Result<(), LogError> {
        let now_ms = self.shared.clock.now_ms();
        let after = self.with_state(|state| {
            if let Some(offline) = self.offline_of(state) {
                return Err(LogError::from(offline));
            }
            let lsn = self.log_change(state, Change::Restart { start })?;
            let dropped = state.restart_at(start, now_ms);
            state.cuts += 1;
            let freed = state.tail.clear();
            self.shared.sub_cached(freed);
            self.drop_segments(state, &dropped, lsn);
            Ok(self.note_cut(state, lsn))
        })?;
        self.after_append(after);
        Ok(())
    }

    fn walk_error(&self, error: WalkError) -> ReadError {
        match error.end {
            ScanEnd::Io(source) => self.io_error(error.base, FileKind::Log, source),
            ScanEnd::Bad(fault) => {
                let (base, position) = (error.base, error.position);
                tracing::error!(partition = %self.partition(), %base, position, %fault, "corrupt segment");
                ReadError::Corrupt { base, position }
            }
        }
    }

    /// Writes a segment's indexes anew from its batches, where they were found torn.
    pub(crate) fn rebuild_indexes(&self, base: Offset) -> Result<(), ReadError> {
        let found = self.with_state(|state| {
            let is_active = base == state.active().base;
            let (interval, cuts) = (state.config.index_interval_bytes, state.cuts);
            let segment = state.segment_mut(base)?;
            let is_settled = !is_active && segment.is_drained();
            let (drained, created_ms) = (segment.drained, segment.created_ms);
            Some((drained, created_ms, is_settled, interval, cuts))
        });
        let Some((drained, created_ms, is_settled, interval, cuts)) = found else {
            return Ok(());
        };
        let file = self.open_file(base, FileKind::Log, OpenMode::ReadWrite)?;
        let mut rebuilt = Segment::new(base, created_ms);
        let walked = walk(&*file, base, drained.into(), &mut |batch| {
            rebuilt.push(batch, interval, created_ms);
        });
        walked.map_err(|error| self.walk_error(error))?;
        if is_settled {
            rebuilt.seal();
        }
        let is_wanted = self.with_state(|state| {
            if state.cuts != cuts {
                return false;
            }
            let Some(segment) = state.segment_mut(base) else {
                return false;
            };
            let entries = (rebuilt.index_entries, rebuilt.time_entries);
            if !is_settled {
                // The drain goes on behind what is there: only the same number of entries fits.
                return entries == (segment.index_written(), segment.time_written());
            }
            (segment.index_entries, segment.time_entries) = entries;
            true
        });
        if is_wanted {
            self.write_indexes(&rebuilt, is_settled)?;
            self.with_state(|state| {
                if let Some(segment) = state.segment_mut(base) {
                    segment.unsynced.index = true;
                    segment.unsynced.time = true;
                }
            });
        }
        Ok(())
    }

    /// `ends` where nothing follows the entries: the drain may have written behind them meanwhile.
    fn write_indexes(&self, rebuilt: &Segment, ends: bool) -> Result<(), ReadError> {
        let base = rebuilt.base;
        let index = crate::index::encode_entries(base, &rebuilt.index_pending);
        let time = crate::index::encode_entries(base, &rebuilt.time_pending);
        for (kind, bytes) in [(FileKind::Index, index), (FileKind::TimeIndex, time)] {
            let file = self.open_file(base, kind, OpenMode::Create)?;
            file.write_all_at(&[io::IoSlice::new(&bytes)], 0)
                .and_then(|()| match ends {
                    true => file.set_len(bytes.len() as u64),
                    false => Ok(()),
                })
                .map_err(|error| self.io_error(base, kind, error))?;
        }
        self.note_changed();
        Ok(())
    }
}

/// A cut that has been read and can no longer fail.
struct PreparedCut {
    segment: Segment,
    end: Offset,
    producers: Producers,
}

impl PreparedCut {
    /// What the write-ahead log has to know. Replay cannot read what was cut: later cuts may have gone deeper.
    fn change(&self) -> Change<'static> {
        Change::Truncate {
            end: self.end,
            segment_base: self.segment.base,
            position: self.segment.size,
        }
    }

    /// Where the log will end: `end` of the cut, or the base of the batch that it lies in.
    fn end(&self) -> Offset {
        self.end
    }

    /// Makes the cut in memory, but for the tail.
    fn commit(&mut self, state: &mut State) -> Cut {
        let at = state.segment_at(self.segment.base);
        let dropped = state.segments.drain(at + 1..).collect();
        let len = u64::from(self.segment.drained);
        let base = self.segment.base;
        state.segments[at] = self.segment.clone();
        state.producers = std::mem::take(&mut self.producers);
        state.log_end = self.end;
        state.epochs_written &= !state.epochs.truncate_end(self.end);
        state.read_hints = [None; 4];
        state.cuts += 1;
        Cut { dropped, base, len }
    }
}

/// Reads what the log will be when it is cut at `end`: the last segment's figures and indexes anew, and the
/// producers as its batches tell.
fn prepare_cut(
    state: &mut State,
    end: Offset,
    producers_max: usize,
    open: OpenSegment<'_>,
) -> Result<PreparedCut, WalkError> {
    let last = state.segment_at(end);
    let interval = state.config.index_interval_bytes;
    let mut producers = Producers::default();
    let mut cut_end = end;
    let mut cut = Segment::new(state.segments[last].base, state.segments[last].created_ms);
    for at in 0..=last {
        let (base, append_ms) = (state.segments[at].base, state.segments[at].last_append_ms);
        let mut take = |batch: &RecordBatch| {
            if batch.base_offset() < end && batch.next_offset() > end {
                cut_end = batch.base_offset();
            }
            if batch.next_offset() > end {
                return;
            }
            if at == last {
                cut.push(batch, interval, append_ms);
            }
            let control = batch.control_record().ok().flatten();
            producers.apply(batch, control, append_ms, producers_max);
        };
        let (drained, size) = (state.segments[at].drained, state.segments[at].size);
        if drained > 0 {
            let file = open(base).map_err(|error| WalkError::cannot_open(base, error))?;
            walk(&*file, base, drained.into(), &mut take)?;
        }
        if drained < size {
            for bytes in state.tail.segment_bytes(base, drained) {
                let batches = RecordBatch::parse_all(&bytes, BatchRules::Stored);
                batches
                    .expect("memory holds whole batches")
                    .iter()
                    .for_each(&mut take);
            }
        }
    }
    cut.drained = state.segments[last].drained.min(cut.size);
    // What of it is not synced yet, a checkpoint that is under way may still rely on.
    if cut.drained > 0 {
        cut.unsynced = Unsynced::all();
    }
    producers.transactions.truncate_start(state.log_start);
    Ok(PreparedCut {
        segment: cut,
        end: cut_end,
        producers,
    })
}

pub(crate) fn walk(
    file: &dyn File,
    base: Offset,
    end: u64,
    take: &mut dyn FnMut(&RecordBatch),
) -> Result<(), WalkError> {
    let mut scan = Scan::new(file, 0, end);
    loop {
        match scan.next_batch() {
            Ok(Some(batch)) => take(&batch),
            Ok(None) => return Ok(()),
            Err(end) => {
                let position = scan.position();
                return Err(WalkError {
                    base,
                    position,
                    end,
                });
            }
        }
    }
}

impl crate::tail::Tail {
    /// The batches of a segment from `position` on, each piece whole.
    fn segment_bytes(&mut self, segment: Offset, position: u32) -> Vec<Bytes> {
        let chunks = self.undrained(segment, position, Offset(i64::MAX), usize::MAX);
        let join = |chunk: &crate::tail::Chunk| {
            let mut bytes = BytesMut::with_capacity(chunk.len());
            bytes.extend_from_slice(&chunk.head);
            bytes.extend_from_slice(&chunk.body);
            bytes.freeze()
        };
        chunks.iter().map(join).collect()
    }
}
