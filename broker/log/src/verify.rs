//! Verifies the files of a log directory without changing them: what `tidemill check` does while the broker is stopped.

mod expected;

use std::io;
use std::path::{Path, PathBuf};

use tidemill_records::{BatchError, Offset, RecordBatch};
use tidemill_storage::fs::{Fs, OpenMode, read_exact_at};

use crate::config::LogDirConfig;
use crate::error::LogError;
use crate::files::{FileKind, parse_segment_file, partition_dir, segment_file};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::scan::{Scan, ScanEnd};

use expected::Expected;

/// What the files of a log directory hold.
#[derive(Debug, Default)]
pub struct Verified {
    /// Partitions that a start would find.
    pub partitions: usize,
    /// Segments there.
    pub segments: usize,
    /// Whole batches, their checksums right.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Entries of offset and time indexes that agree with the batches.
    pub index_entries: u64,
    /// Bytes behind the last whole batch, which the next start completes from the write-ahead log, or cuts off.
    pub unfinished_bytes: u64,
    /// What is wrong.
    pub faults: Vec<FileFault>,
}

/// A file that is not what it must be.
#[derive(Debug, thiserror::Error)]
#[error("{} at byte {position}: {cause}", .path.display())]
pub struct FileFault {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub position: u64,
    /// What is wrong there.
    pub cause: FaultCause,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FaultCause {
    /// No whole, right batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// Offsets go back.
    #[error("offset {found} where {expected} or later must follow")]
    Order {
        /// The batch's base offset.
        found: Offset,
        /// What follows the batch before.
        expected: Offset,
    },
    /// Bytes that were synced are not there.
    #[error("the file has {bytes} bytes, and {synced} were synced")]
    Short {
        /// Bytes that it has.
        bytes: u64,
        /// Bytes that it had.
        synced: u64,
    },
    /// Bytes that nobody wrote.
    #[error("the segment ends here, the file goes on to byte {bytes}")]
    Beyond {
        /// Bytes that it has.
        bytes: u64,
    },
    /// A segment with batches is not there.
    #[error("the file is missing, and {synced} bytes were synced")]
    SegmentMissing {
        /// Bytes that it had.
        synced: u32,
    },
    /// A segment with batches lacks an index.
    #[error("the file is missing; the broker makes it anew when it reads the segment")]
    Missing,
    /// An index ends within an entry.
    #[error("the file ends within an entry")]
    Torn,
    /// An offset-index entry does not name a batch.
    #[error("the entry says that a batch which ends at offset {offset} begins at byte {position}")]
    OffsetEntry {
        /// The entry's offset.
        offset: Offset,
        /// The entry's position.
        position: u32,
    },
    /// A time-index entry does not name the largest timestamp up to a batch.
    #[error("the entry says that {timestamp} is the largest timestamp up to offset {offset}")]
    TimeEntry {
        /// The entry's timestamp.
        timestamp: i64,
        /// The entry's offset.
        offset: Offset,
    },
}

/// Reads all segment files and indexes. What the last checkpoint says to be synced must be there and right; what was written
/// after it is the next start's to settle, from the write-ahead log. The caller holds the directory's lock.
pub fn verify_log_dir(fs: &dyn Fs, config: &LogDirConfig) -> Result<Verified, LogError> {
    let mut verified = Verified::default();
    let mut partitions: Vec<_> = expected::read(fs, config)?.into_iter().collect();
    partitions.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (partition, expected) in partitions {
        let dir = partition_dir(&config.dir, &partition);
        verified.partitions += 1;
        verify_partition(fs, &dir, &expected, &mut verified)
            .map_err(|source| LogError::Io { path: dir, source })?;
    }
    Ok(verified)
}

fn verify_partition(
    fs: &dyn Fs,
    dir: &Path,
    expected: &Expected,
    verified: &mut Verified,
) -> io::Result<()> {
    let names = match fs.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let names = names.iter().map(|entry| entry.name.to_string_lossy());
    let mut bases: Vec<Offset> = names
        .filter_map(|name| parse_segment_file(&name, FileKind::Log))
        .collect();
    bases.sort_unstable();
    for &(base, _) in &expected.segments {
        if let Some((synced @ 1.., _)) = expected.certain(base)
            && bases.binary_search(&base).is_err()
        {
            let path = segment_file(dir, base, FileKind::Log);
            verified.fault(path, 0, FaultCause::SegmentMissing { synced });
        }
    }
    let first = expected
        .segments
        .first()
        .map_or(Offset::ZERO, |segment| segment.0);
    let mut next = Offset::ZERO;
    // What lies before the log's first segment was dropped, and nobody reads it.
    for base in bases.into_iter().filter(|base| *base >= first) {
        let (synced, whole) = expected.certain(base).unwrap_or((0, false));
        let segment = Segment {
            fs,
            dir,
            base,
            synced: synced.into(),
            whole: whole && synced > 0,
        };
        next = segment.verify(next, verified)?;
    }
    Ok(())
}

struct Segment<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    base: Offset,
    /// Bytes that must be there and right.
    synced: u64,
    /// They are all of it, and the indexes tell of all of them.
    whole: bool,
}

impl Segment<'_> {
    /// Verifies the batches and, along with them, the indexes. `next` is the first offset that may occur; the first after
    /// the segment is returned.
    fn verify(&self, next: Offset, verified: &mut Verified) -> io::Result<Offset> {
        let path = segment_file(self.dir, self.base, FileKind::Log);
        let file = self.fs.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let mut offsets = self.index::<OffsetEntry>(FileKind::Index, verified)?;
        let mut times = self.index::<TimeEntry>(FileKind::TimeIndex, verified)?;
        verified.segments += 1;
        let mut next = next.max(self.base);
        let mut largest = -1;
        let mut scan = Scan::new(&*file, 0, len);
        let (at, cause) = loop {
            let position = scan.position();
            match scan.next_batch() {
                Ok(None) if position < self.synced => {
                    let (bytes, synced) = (len, self.synced);
                    break (position, FaultCause::Short { bytes, synced });
                }
                Ok(None) => {
                    offsets.end(verified, OffsetEntry::fault);
                    times.end(verified, TimeEntry::fault);
                    return Ok(next);
                }
                _ if self.whole && position >= self.synced => {
                    break (position, FaultCause::Beyond { bytes: len });
                }
                Ok(Some(batch)) if batch.base_offset() >= next => {
                    next = batch.next_offset();
                    largest = largest.max(batch.max_timestamp());
                    offsets.pass_offsets(position, &batch, verified);
                    times.pass_times(largest, &batch, verified);
                    verified.batches += 1;
                    verified.records += batch.record_count() as u64;
                    verified.bytes += batch.size_bytes() as u64;
                }
                Ok(Some(batch)) => {
                    let (found, expected) = (batch.base_offset(), next);
                    break (position, FaultCause::Order { found, expected });
                }
                Err(ScanEnd::Bad(error)) => break (position, error.into()),
                Err(ScanEnd::Io(error)) => return Err(error),
            }
        };
        match at < self.synced || self.whole {
            true => verified.fault(path, at, cause),
            false => verified.unfinished_bytes += len - at,
        }
        Ok(next)
    }

    fn index<E: IndexEntry>(
        &self,
        kind: FileKind,
        verified: &mut Verified,
    ) -> io::Result<Index<E>> {
        let path = segment_file(self.dir, self.base, kind);
        let mut bytes = Vec::new();
        match self.fs.open(&path, OpenMode::Read) {
            // Until then it may hold anything.
            _ if !self.whole => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                verified.fault(path.clone(), 0, FaultCause::Missing);
            }
            file => {
                let file = file?;
                bytes.resize(file.len()? as usize, 0);
                read_exact_at(&*file, &mut bytes, 0)?;
            }
        }
        let entries = bytes.chunks_exact(E::BYTES);
        if !entries.remainder().is_empty() {
            let at = bytes.len() - entries.remainder().len();
            verified.fault(path.clone(), at as u64, FaultCause::Torn);
        }
        Ok(Index {
            path,
            entries: entries.map(|entry| E::decode(self.base, entry)).collect(),
            at: 0,
        })
    }
}

/// An index's entries and how many of them were compared with batches.
struct Index<E> {
    path: PathBuf,
    entries: Vec<E>,
    at: usize,
}

impl<E: IndexEntry> Index<E> {
    fn next(&mut self) -> Option<E> {
        self.entries.get(self.at).copied()
    }

    fn right(&mut self, verified: &mut Verified) {
        verified.index_entries += 1;
        self.at += 1;
    }

    /// One fault of an index is enough: what follows is compared no more.
    fn wrong(&mut self, cause: FaultCause, verified: &mut Verified) {
        let position = (self.at * E::BYTES) as u64;
        verified.fault(self.path.clone(), position, cause);
        self.at = self.entries.len();
    }

    /// Entries that no batch has met.
    fn end(&mut self, verified: &mut Verified, fault: fn(E) -> FaultCause) {
        if let Some(entry) = self.next() {
            self.wrong(fault(entry), verified);
        }
    }
}

impl Index<OffsetEntry> {
    fn pass_offsets(&mut self, position: u64, batch: &RecordBatch, verified: &mut Verified) {
        let Some(entry) = self.next().filter(|entry| {
            u64::from(entry.position) <= position || entry.offset <= batch.last_offset()
        }) else {
            return;
        };
        match u64::from(entry.position) == position && entry.offset == batch.last_offset() {
            true => self.right(verified),
            false => self.wrong(entry.fault(), verified),
        }
    }
}

impl Index<TimeEntry> {
    fn pass_times(&mut self, largest: i64, batch: &RecordBatch, verified: &mut Verified) {
        let Some(entry) = self
            .next()
            .filter(|entry| entry.offset <= batch.last_offset())
        else {
            return;
        };
        match entry.timestamp == largest && entry.offset == batch.last_offset() {
            true => self.right(verified),
            false => self.wrong(entry.fault(), verified),
        }
    }
}

impl OffsetEntry {
    fn fault(self) -> FaultCause {
        FaultCause::OffsetEntry {
            offset: self.offset,
            position: self.position,
        }
    }
}

impl TimeEntry {
    fn fault(self) -> FaultCause {
        FaultCause::TimeEntry {
            timestamp: self.timestamp,
            offset: self.offset,
        }
    }
}

impl Verified {
    fn fault(&mut self, path: PathBuf, position: u64, cause: FaultCause) {
        self.faults.push(FileFault {
            path,
            position,
            cause,
        });
    }
}

#[cfg(test)]
mod tests;
