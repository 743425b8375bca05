//! Verifies a partition's files without changing them: what `tidemill check` does while the broker is stopped.

use std::io;
use std::path::{Path, PathBuf};

use tidemill_records::{BatchError, Offset, RecordBatch};
use tidemill_storage::fs::{Fs, OpenMode, read_exact_at};

use crate::files::{FileKind, parse_segment_file, segment_file};
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};
use crate::scan::{Scan, ScanEnd};

/// What the files of a partition hold.
#[derive(Debug, Default)]
pub struct Verified {
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
    /// Bytes behind the last whole batch, which the write-ahead log completes.
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

/// Reads all files of the partition in `dir`. Before a flush the end of the last segment may be anything: the write-ahead
/// log has it; with `flushed` all must be whole.
pub fn verify_partition(fs: &dyn Fs, dir: &Path, flushed: bool) -> io::Result<Verified> {
    let names = fs.read_dir(dir)?;
    let names = names.iter().map(|entry| entry.name.to_string_lossy());
    let mut bases: Vec<Offset> = names
        .filter_map(|name| parse_segment_file(&name, FileKind::Log))
        .collect();
    bases.sort_unstable();
    let mut verified = Verified::default();
    let mut next = Offset::ZERO;
    for (at, base) in bases.iter().enumerate() {
        let segment = Segment {
            fs,
            dir,
            base: *base,
            settled: flushed || at + 1 < bases.len(),
        };
        next = segment.verify(next, &mut verified)?;
    }
    Ok(verified)
}

struct Segment<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    base: Offset,
    /// Nothing may be unfinished.
    settled: bool,
}

impl Segment<'_> {
    /// Verifies the batches and, along with them, the indexes. `next` is the first offset that may occur; the first after
    /// the segment is returned.
    fn verify(&self, next: Offset, verified: &mut Verified) -> io::Result<Offset> {
        let path = segment_file(self.dir, self.base, FileKind::Log);
        let file = self.fs.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let mut offsets = self.index::<OffsetEntry>(FileKind::Index, len > 0, verified)?;
        let mut times = self.index::<TimeEntry>(FileKind::TimeIndex, len > 0, verified)?;
        verified.segments += 1;
        let mut next = next.max(self.base);
        let mut largest = -1;
        let mut scan = Scan::new(&*file, 0, len);
        let end = loop {
            let position = scan.position();
            let (at, cause) = match scan.next_batch() {
                Ok(None) => break position,
                Ok(Some(batch)) if batch.base_offset() >= next => {
                    next = batch.next_offset();
                    largest = largest.max(batch.max_timestamp());
                    offsets.pass_offsets(position, &batch, verified);
                    times.pass_times(largest, &batch, verified);
                    verified.batches += 1;
                    verified.records += batch.record_count() as u64;
                    verified.bytes += batch.size_bytes() as u64;
                    continue;
                }
                Ok(Some(batch)) => {
                    let (found, expected) = (batch.base_offset(), next);
                    (position, FaultCause::Order { found, expected })
                }
                Err(ScanEnd::Bad(error)) => (position, error.into()),
                Err(ScanEnd::Io(error)) => return Err(error),
            };
            if self.settled {
                verified.fault(path, at, cause);
            } else {
                verified.unfinished_bytes += len - at;
            }
            break at;
        };
        // What lies beyond the batches is the write-ahead log's to settle.
        if self.settled && end == len {
            offsets.end(verified, OffsetEntry::fault);
            times.end(verified, TimeEntry::fault);
        }
        Ok(next)
    }

    fn index<E: IndexEntry>(
        &self,
        kind: FileKind,
        needed: bool,
        verified: &mut Verified,
    ) -> io::Result<Index<E>> {
        let path = segment_file(self.dir, self.base, kind);
        let mut bytes = Vec::new();
        match self.fs.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if needed && self.settled {
                    verified.fault(path.clone(), 0, FaultCause::Missing);
                }
            }
            file => {
                let file = file?;
                bytes.resize(file.len()? as usize, 0);
                read_exact_at(&*file, &mut bytes, 0)?;
            }
        }
        let entries = bytes.chunks_exact(E::BYTES);
        if self.settled && !entries.remainder().is_empty() {
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

    /// Adds what another partition's files hold.
    pub fn add(&mut self, other: Verified) {
        self.segments += other.segments;
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.index_entries += other.index_entries;
        self.unfinished_bytes += other.unfinished_bytes;
        self.faults.extend(other.faults);
    }
}

#[cfg(test)]
mod tests;
