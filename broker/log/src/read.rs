//! Reading whole batches: from memory without a system call where the tail still has them, else from a segment file.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidemill_records::{BatchError, BatchHeader, BatchRules, HEADER_BYTES, Offset, RecordBatch};
use tidemill_storage::fs::{File, OpenMode};

use crate::buffers::ReadBuffers;
use crate::error::{OfflineCause, ReadError};
use crate::files::{FileKey, FileKind, segment_file};
use crate::index::{OffsetEntry, search};
use crate::partition_log::PartitionLog;
use crate::shared::Counters;
use crate::state::State;

/// The most that one read of a file brings into memory, but for a single larger batch.
const FILE_READ_BYTES_MAX: usize = 8 << 20;
/// A first read that begins at an index entry also covers the batches before the wanted one.
const INDEX_SLACK_BYTES: usize = 8 << 10;

/// Batches that were read, in pieces one after the other.
#[derive(Debug, Clone)]
pub struct LogRead {
    /// Whole batches; a piece may end inside of one.
    pub chunks: Vec<Bytes>,
    /// Bytes of all pieces.
    pub bytes: usize,
    /// The offset after the last batch; what was asked for when there is none.
    pub next: Offset,
}

/// Where a consumer that reads on from a file will go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadHint {
    from: Offset,
    segment: Offset,
    position: u32,
}

/// A segment file, and what of it may be read.
pub(crate) struct FilePlan {
    pub(crate) base: Offset,
    next_offset: Offset,
    pub(crate) drained: u32,
    pub(crate) index_entries: u32,
    position: Option<u32>,
    next_segment: Option<Offset>,
}

impl LogRead {
    fn nothing(next: Offset) -> LogRead {
        LogRead {
            chunks: Vec::new(),
            bytes: 0,
            next,
        }
    }

    /// The batches, their checksums verified. Copies where a batch is in more than one piece.
    pub fn into_batches(self) -> Result<Vec<RecordBatch>, BatchError> {
        let bytes = match &self.chunks[..] {
            [one] => one.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(self.bytes);
                many.iter()
                    .for_each(|chunk| joined.extend_from_slice(chunk));
                joined.freeze()
            }
        };
        RecordBatch::parse_all(&bytes, BatchRules::Stored)
    }
}

impl PartitionLog {
    /// Reads whole batches from the one that holds `from` on, of at most `max_bytes`, that end at or below `up_to`.
    /// `at_least_one` gives the first batch although it is larger. Nothing where `from` is at the log's end, or nothing ends
    /// below `up_to`.
    pub fn read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        self.read_through(None, from, up_to, max_bytes, at_least_one)
    }

    /// Like [`PartitionLog::read`], with files read into buffers that are used again.
    pub fn read_into(
        &self,
        buffers: &ReadBuffers,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        self.read_through(Some(buffers), from, up_to, max_bytes, at_least_one)
    }

    fn read_through(
        &self,
        buffers: Option<&ReadBuffers>,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<LogRead, ReadError> {
        let mut from_segment = from;
        loop {
            let planned = self.with_state(|state| {
                self.check_range(state, from)?;
                let end = up_to.min(state.log_end);
                if from >= end {
                    return Ok(Planned::Nothing);
                }
                if let Some(read) = state.tail.read(from_segment, end, max_bytes, at_least_one) {
                    let next = read.next.unwrap_or(from);
                    return Ok(Planned::Done(LogRead {
                        chunks: read.chunks,
                        bytes: read.bytes,
                        next,
                    }));
                }
                Ok::<_, ReadError>(Planned::File(plan_file(state, from_segment), end))
            })?;
            let (plan, end) = match planned {
                Planned::Nothing => return Ok(LogRead::nothing(from)),
                Planned::Done(read) => return Ok(read),
                Planned::File(plan, end) => (plan, end),
            };
            let want = Want {
                from,
                up_to: end,
                max_bytes,
                at_least_one,
            };
            match self.read_file(buffers, &plan, &want) {
                Ok(FileRead::Read(read)) => return Ok(read),
                // Compaction may leave a hole at a segment's end.
                Ok(FileRead::PastSegment(next)) => from_segment = next,
                Err(error) => match self.segment_is_gone(plan.base) {
                    // Retention took the segment while we were about to read it.
                    true => {}
                    false => return Err(error),
                },
            }
        }
    }

    fn check_range(&self, state: &State, from: Offset) -> Result<(), ReadError> {
        if let Some(offline) = self.offline_of(state) {
            return Err(offline.into());
        }
        if from < state.log_start || from > state.log_end {
            return Err(ReadError::OffsetOutOfRange {
                offset: from,
                start: state.log_start,
                end: state.log_end,
            });
        }
        match from < state.local_log_start {
            true => Err(ReadError::NotLocal {
                offset: from,
                local_start: state.local_log_start,
            }),
            false => Ok(()),
        }
    }

    fn segment_is_gone(&self, base: Offset) -> bool {
        self.with_state(|state| state.segment_mut(base).is_none())
    }

    fn read_file(
        &self,
        buffers: Option<&ReadBuffers>,
        plan: &FilePlan,
        want: &Want,
    ) -> Result<FileRead, ReadError> {
        let file = self.open_file(plan.base, FileKind::Log, OpenMode::ReadWrite)?;
        let mut reader = FileReader {
            log: self,
            file: &*file,
            plan,
            buffers,
            bytes: Bytes::new(),
            bytes_at: 0,
        };
        let found = match plan.position {
            Some(position) => reader.find(want, position.into(), 0)?,
            None => self.find_by_index(&mut reader, want)?,
        };
        let found = match found {
            Found::Range(found) => found,
            Found::PastSegment => {
                let next = plan.next_segment;
                let next = next.ok_or_else(|| reader.corrupt(plan.drained.into()))?;
                return Ok(FileRead::PastSegment(next));
            }
        };
        let bytes = reader.take(found.start, found.end)?;
        if bytes.is_empty() {
            return Ok(FileRead::Read(LogRead::nothing(want.from)));
        }
        self.leave_hint(plan, &found);
        Ok(FileRead::Read(LogRead {
            bytes: bytes.len(),
            next: found.next,
            chunks: vec![bytes],
        }))
    }

    fn find_by_index(&self, reader: &mut FileReader<'_>, want: &Want) -> Result<Found, ReadError> {
        let plan = reader.plan;
        let entry = self.index_entry(plan, want.from)?;
        let Some(entry) = entry else {
            return reader.find(want, 0, INDEX_SLACK_BYTES);
        };
        if reader.confirms(&entry, want)? {
            return reader.find(want, entry.position.into(), INDEX_SLACK_BYTES);
        }
        tracing::warn!(partition = %self.partition(), base = %plan.base, "rebuilding the indexes of a segment");
        self.rebuild_indexes(plan.base)?;
        reader.find(want, 0, INDEX_SLACK_BYTES)
    }

    /// The last index entry that is not after `offset`. A torn index is rebuilt.
    fn index_entry(
        &self,
        plan: &FilePlan,
        offset: Offset,
    ) -> Result<Option<OffsetEntry>, ReadError> {
        if plan.index_entries == 0 || offset <= plan.base {
            return Ok(None);
        }
        let search = || -> io::Result<Option<OffsetEntry>> {
            let path = self.segment_path(plan.base, FileKind::Index);
            let file = self.open_or(plan.base, FileKind::Index, || {
                self.shared.fs.open(&path, OpenMode::ReadWrite)
            })?;
            let at_or_before = |entry: &OffsetEntry| entry.offset <= offset;
            search(&*file, plan.base, plan.index_entries, at_or_before)
        };
        match search() {
            Err(error) if is_torn(&error) => {
                tracing::warn!(partition = %self.partition(), base = %plan.base, "rebuilding the torn indexes of a segment");
                self.rebuild_indexes(plan.base)?;
                Ok(None)
            }
            entry => entry.map_err(|error| self.io_error(plan.base, FileKind::Index, error)),
        }
    }

    /// A file of a segment that is drained at least in part, opened where it is not open.
    pub(crate) fn open_file(
        &self,
        base: Offset,
        kind: FileKind,
        mode: OpenMode,
    ) -> Result<Arc<dyn File>, ReadError> {
        let open = || self.shared.fs.open(&self.segment_path(base, kind), mode);
        let opened = self.open_or(base, kind, open);
        opened.map_err(|error| self.io_error(base, kind, error))
    }

    /// The open file, or what `open` opens.
    pub(crate) fn open_or<E>(
        &self,
        base: Offset,
        kind: FileKind,
        open: impl FnOnce() -> Result<Arc<dyn File>, E>,
    ) -> Result<Arc<dyn File>, E> {
        let key = FileKey {
            log: self.number,
            base,
            kind,
        };
        self.shared
            .open_files
            .get(key, self.shared.next_number(), open)
    }

    pub(crate) fn segment_path(&self, base: Offset, kind: FileKind) -> PathBuf {
        segment_file(&self.dir(), base, kind)
    }

    pub(crate) fn io_error(&self, base: Offset, kind: FileKind, source: io::Error) -> ReadError {
        ReadError::Io {
            path: self.segment_path(base, kind),
            source: Arc::new(source),
        }
    }

    fn leave_hint(&self, plan: &FilePlan, found: &FoundRange) {
        let hint = ReadHint {
            from: found.next,
            segment: plan.base,
            position: u32::try_from(found.end).expect("positions in a segment fit"),
        };
        self.with_state(|state| {
            state.read_hints.rotate_right(1);
            state.read_hints[0] = Some(hint);
        });
    }
}

/// Whether an index file is missing or shorter than it should be.
pub(crate) fn is_torn(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
    )
}

/// Where `from` is in the files. The caller has checked that it is in the log and not in memory.
pub(crate) fn plan_file(state: &State, from: Offset) -> FilePlan {
    let at = state.segment_at(from);
    let segment = &state.segments[at];
    let hints = state.read_hints.iter().flatten();
    let mut hints = hints.filter(|hint| hint.from == from && hint.segment == segment.base);
    FilePlan {
        base: segment.base,
        drained: segment.drained,
        next_offset: segment.next_offset,
        index_entries: segment.index_written(),
        position: hints.next().map(|hint| hint.position),
        next_segment: state.segments.get(at + 1).map(|next| next.base),
    }
}

enum Planned {
    Nothing,
    Done(LogRead),
    File(FilePlan, Offset),
}

enum FileRead {
    Read(LogRead),
    PastSegment(Offset),
}

struct Want {
    from: Offset,
    up_to: Offset,
    max_bytes: usize,
    at_least_one: bool,
}

/// Byte positions of whole batches, and the offset after them.
struct FoundRange {
    start: u64,
    end: u64,
    next: Offset,
}

enum Found {
    Range(FoundRange),
    PastSegment,
}

fn read_bytes(want: &Want) -> usize {
    want.max_bytes.clamp(HEADER_BYTES, FILE_READ_BYTES_MAX)
}

/// Reads a segment file through one buffer that is read again where it is too short.
struct FileReader<'a> {
    log: &'a PartitionLog,
    file: &'a dyn File,
    plan: &'a FilePlan,
    buffers: Option<&'a ReadBuffers>,
    bytes: Bytes,
    bytes_at: u64,
}

impl FileReader<'_> {
    /// Whether the batch that an index entry names is there: a torn index may hold anything.
    fn confirms(&mut self, entry: &OffsetEntry, want: &Want) -> Result<bool, ReadError> {
        let position = u64::from(entry.position);
        // No batch gets an entry at the beginning, but a file that was extended and never written holds zeros.
        if position == 0 || position >= self.plan.drained.into() {
            return Ok(false);
        }
        self.fill(position, read_bytes(want) + INDEX_SLACK_BYTES)?;
        let header = self.header(position);
        Ok(header.is_ok_and(|header| header.last_offset() == entry.offset))
    }

    /// Skips to the first wanted batch and goes on while batches fit.
    fn find(&mut self, want: &Want, start: u64, slack: usize) -> Result<Found, ReadError> {
        let end = u64::from(self.plan.drained);
        let mut position = start;
        let read_bytes = read_bytes(want);
        if !self.covers(position, HEADER_BYTES) {
            self.fill(position, read_bytes + slack)?;
        }
        let mut least = self.plan.base;
        let mut found: Option<FoundRange> = None;
        while position < end {
            if !self.covers(position, HEADER_BYTES) {
                // What follows is for the next read, unless nothing is found yet.
                if found.is_some() {
                    break;
                }
                self.fill(position, read_bytes)?;
            }
            let header = match self.batch_header(position, least) {
                // The next read is told.
                Err(_) if found.is_some() => break,
                header => header?,
            };
            let after = position + header.size_bytes() as u64;
            least = header.next_offset();
            if header.next_offset() <= want.from {
                position = after;
                continue;
            }
            let (from, taken) = match &found {
                Some(found) => (found.start, (position - found.start) as usize),
                None => (position, 0),
            };
            let fits = taken + header.size_bytes() <= want.max_bytes;
            let forced = taken == 0 && want.at_least_one;
            let buffered = taken == 0 || self.covers(position, header.size_bytes());
            if header.next_offset() > want.up_to || !(fits || forced) || !buffered {
                break;
            }
            let next = header.next_offset();
            found = Some(FoundRange {
                start: from,
                end: after,
                next,
            });
            position = after;
        }
        match found {
            Some(found) => Ok(Found::Range(found)),
            None if position >= end => Ok(Found::PastSegment),
            None => Ok(Found::Range(FoundRange {
                start: 0,
                end: 0,
                next: want.from,
            })),
        }
    }

    /// The header of a batch that lies where it must. The checksum does not cover its base offset.
    fn batch_header(&self, position: u64, least: Offset) -> Result<BatchHeader, ReadError> {
        let header = self.header(position)?;
        let after = position + header.size_bytes() as u64;
        let offsets = least..=self.plan.next_offset;
        match after <= self.plan.drained.into()
            && offsets.contains(&header.base_offset())
            && offsets.contains(&header.next_offset())
        {
            true => Ok(header),
            false => Err(self.corrupt(position)),
        }
    }

    fn header(&self, position: u64) -> Result<BatchHeader, ReadError> {
        let skip = (position - self.bytes_at) as usize;
        let header = BatchHeader::read(self.bytes.get(skip..).unwrap_or_default());
        header.map_err(|_| self.corrupt(position))
    }

    fn covers(&self, position: u64, count: usize) -> bool {
        let skip = position
            .checked_sub(self.bytes_at)
            .map(|skip| skip as usize);
        skip.is_some_and(|skip| skip + count <= self.bytes.len())
    }

    fn fill(&mut self, position: u64, count: usize) -> Result<(), ReadError> {
        let left = u64::from(self.plan.drained).saturating_sub(position);
        let count = count.min(left as usize);
        let (read, bytes) = match self.buffers {
            None => {
                let mut bytes = BytesMut::zeroed(count);
                (self.file.read_at(&mut bytes, position), bytes.freeze())
            }
            Some(buffers) => {
                let mut bytes = buffers.take(count);
                (self.file.read_at(bytes.space(), position), bytes.freeze())
            }
        };
        let read = read.map_err(|error| self.log.io_error(self.plan.base, FileKind::Log, error))?;
        let counters = &self.log.shared.counters;
        Counters::add(&counters.file_reads, 1);
        Counters::add(&counters.file_read_bytes, read as u64);
        if read < count {
            return Err(self.shorter(position + read as u64));
        }
        self.bytes = bytes;
        self.bytes_at = position;
        Ok(())
    }

    /// The bytes of a range, without pinning a much larger buffer.
    fn take(&mut self, start: u64, end: u64) -> Result<Bytes, ReadError> {
        let count = (end - start) as usize;
        if count == 0 {
            return Ok(Bytes::new());
        }
        if !self.covers(start, count) {
            self.fill(start, count)?;
        }
        let skip = (start - self.bytes_at) as usize;
        let bytes = self.bytes.slice(skip..skip + count);
        match self.bytes.len() > 2 * count + INDEX_SLACK_BYTES {
            true => Ok(Bytes::copy_from_slice(&bytes)),
            false => Ok(bytes),
        }
    }

    /// The file is shorter than what was written to it: the partition is quarantined, unless the segment is
    /// being deleted.
    fn shorter(&self, len: u64) -> ReadError {
        let base = self.plan.base;
        let offline = self.log.with_state(|state| {
            state.segment_mut(base)?;
            state.offline = Some(OfflineCause::SegmentShort {
                base,
                bytes: len,
                synced: self.plan.drained.into(),
            });
            self.log.offline_of(state)
        });
        match offline {
            Some(offline) => {
                tracing::error!(%offline, "partition quarantined");
                offline.into()
            }
            None => self.corrupt(len),
        }
    }

    fn corrupt(&self, position: u64) -> ReadError {
        ReadError::Corrupt {
            base: self.plan.base,
            position,
        }
    }
}
