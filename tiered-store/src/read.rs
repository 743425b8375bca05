//! Reading batches out of extents, with read-ahead for those who read on.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_records::{BatchHeader, Extent, HEADER_BYTES, Offset, PartitionId, TopicId};

use crate::chunks::{CHUNK_BYTES, Chunks, Section};
use crate::codec::FormatError;
use crate::error::StoreError;
use crate::footer::{Aborted, BLOCK_BYTES};
use crate::tiered_store::TieredStore;

/// The most that is read ahead of one reader.
const AHEAD_BYTES_MAX: usize = 32 << 20;
/// Readers whose pace is remembered.
const READERS_MAX: usize = 4_096;

/// Batches that were read, in pieces one after the other.
#[derive(Debug, Clone)]
pub struct RemoteRead {
    /// Whole batches; a piece may end inside of one.
    pub chunks: Vec<Bytes>,
    /// Bytes of all pieces.
    pub bytes: usize,
    /// The offset after the last batch, or where to go on when there is none.
    pub next: Offset,
    /// Aborted transactions that overlap the batches.
    pub aborted: Vec<Aborted>,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy)]
pub struct ReadRange {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The first offset wanted.
    pub from: Offset,
    /// Batches that end after it are not given.
    pub up_to: Offset,
    /// How many bytes at most,
    pub max_bytes: usize,
    /// but for the first batch, where that is wanted whatever its size.
    pub at_least_one: bool,
}

/// How far ahead each reader is read for, by where it will go on.
#[derive(Debug, Default)]
pub(crate) struct Readers(Mutex<HashMap<(TopicId, PartitionId, Offset), usize>>);

impl Readers {
    /// The window of who reads from here: it doubles with each read that goes on where the one before ended. None for a reader
    /// that may never come back.
    fn window(&self, range: &ReadRange) -> Option<usize> {
        let known = self
            .0
            .lock()
            .remove(&(range.topic, range.partition, range.from));
        known.map(|window| (2 * window).min(AHEAD_BYTES_MAX))
    }

    fn leave(&self, range: &ReadRange, next: Offset, window: usize) {
        let mut readers = self.0.lock();
        if readers.len() >= READERS_MAX {
            // Whoever is forgotten begins with a small window again.
            readers.clear();
        }
        // Two who read the same side by side keep the larger one.
        let known = readers.entry((range.topic, range.partition, next));
        let known = known.or_default();
        *known = window.max(*known);
    }
}

impl TieredStore {
    /// Reads whole batches. The first of `extents` holds `range.from`; those after it are where the reader will go on.
    ///
    /// It waits for the first batch, and takes what is there already of those after it.
    pub async fn read(
        &self,
        extents: &[Extent],
        range: ReadRange,
    ) -> Result<RemoteRead, StoreError> {
        let extent = &extents[0];
        let section = self.section(range.topic, range.partition, extent).await?;
        let window = self.inner.readers.window(&range);
        let start = section.footer.position_of(range.from) as usize;
        let chunks = &self.inner.chunks;
        // What lies ahead is fetched in long runs, not as the window moves on with each read: requests cost money.
        let ahead = window.filter(|window| !chunks.is_covered(&section, start..start + window / 2));
        // The first GET is not larger than it must be, and shares the way with no other: it is waited for.
        chunks.ensure(&section, start..start + 1, false);
        if let Some(window) = ahead {
            chunks.ensure(&section, start..start + window, true);
        }
        let mut walk = Walk {
            chunks,
            section: &section,
            held: Vec::new(),
        };
        let read = walk.read(&range, start).await?;
        let window_now = window.unwrap_or(CHUNK_BYTES);
        self.inner.readers.leave(&range, read.next, window_now);
        if let Some(window) = ahead {
            self.read_ahead(&section, extents, &range, start, window);
        }
        Ok(read)
    }

    /// Goes on into the extents after this one, as far as the window reaches.
    fn read_ahead(
        &self,
        section: &Section,
        extents: &[Extent],
        range: &ReadRange,
        start: usize,
        window: usize,
    ) {
        let mut left = (start + window).saturating_sub(section.len());
        for extent in &extents[1..] {
            if left == 0 {
                return;
            }
            let (this, extent, range, bytes) = (self.clone(), extent.clone(), *range, left);
            left = left.saturating_sub(extent.length as usize);
            self.inner.runtime.spawn(async move {
                // Whoever reads on will be told of an error.
                if let Ok(section) = this.section(range.topic, range.partition, &extent).await {
                    this.inner.chunks.ensure(&section, 0..bytes, true);
                }
            });
        }
    }
}

/// One walk through a section. Blocks are held until it ends, whatever the cache does.
struct Walk<'a> {
    chunks: &'a Arc<Chunks>,
    section: &'a Section,
    held: Vec<(usize, Bytes)>,
}

impl Walk<'_> {
    async fn read(&mut self, range: &ReadRange, start: usize) -> Result<RemoteRead, StoreError> {
        let identity = self.section.footer.identity;
        let mut position = start;
        let mut found: Option<usize> = None;
        let mut next = range.from;
        // The first batch may begin below the extent, where the log's start lies in it.
        let mut least = match start {
            0 => Offset::ZERO,
            _ => identity.base,
        };
        while position < self.section.len() {
            let wait = found.is_none();
            let Some(header) = self.header(position, least, wait).await? else {
                break;
            };
            let end = position + header.size_bytes();
            least = header.next_offset();
            if header.next_offset() <= range.from {
                position = end;
                continue;
            }
            let taken = end - found.unwrap_or(position);
            let fits = taken <= range.max_bytes || (found.is_none() && range.at_least_one);
            if header.next_offset() > range.up_to
                || !fits
                || !self.hold(position..end, wait).await?
            {
                break;
            }
            found.get_or_insert(position);
            next = header.next_offset();
            position = end;
        }
        let Some(first) = found else {
            // The extent may end with a hole; the reader goes on behind it.
            if position >= self.section.len() {
                next = identity.end;
            }
            return Ok(RemoteRead {
                chunks: Vec::new(),
                bytes: 0,
                next,
                aborted: Vec::new(),
            });
        };
        let footer = &self.section.footer;
        Ok(RemoteRead {
            chunks: self.pieces(first, position),
            bytes: position - first,
            next,
            aborted: footer.aborted_in(range.from, next).copied().collect(),
        })
    }

    async fn header(
        &mut self,
        position: usize,
        least: Offset,
        wait: bool,
    ) -> Result<Option<BatchHeader>, StoreError> {
        let end = position + HEADER_BYTES;
        if end > self.section.len() {
            return Err(self.damaged(FormatError::Truncated));
        }
        if !self.hold(position..end, wait).await? {
            return Ok(None);
        }
        let pieces = self.pieces(position, end);
        let header = match &pieces[..] {
            [one] => BatchHeader::read(one),
            many => BatchHeader::read(&many.concat()),
        };
        let header = header.map_err(|_| self.damaged(FormatError::Range))?;
        let offsets = least..=self.section.footer.identity.end;
        let is_inside = offsets.contains(&header.base_offset())
            && offsets.contains(&header.next_offset())
            && position + header.size_bytes() <= self.section.len();
        match is_inside {
            true => Ok(Some(header)),
            false => Err(self.damaged(FormatError::Identity)),
        }
    }

    /// Takes hold of the blocks of a range; false where one is not there and is not waited for.
    async fn hold(
        &mut self,
        range: std::ops::Range<usize>,
        wait: bool,
    ) -> Result<bool, StoreError> {
        let first = match self.held.last() {
            Some((last, _)) => (range.start / BLOCK_BYTES).max(last + 1),
            None => range.start / BLOCK_BYTES,
        };
        for block in first..range.end.div_ceil(BLOCK_BYTES) {
            if wait {
                self.chunks
                    .ensure(self.section, block * BLOCK_BYTES..range.end, false);
            }
            match self.chunks.block(self.section, block, wait).await? {
                Some(bytes) => self.held.push((block, bytes)),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn pieces(&self, from: usize, to: usize) -> Vec<Bytes> {
        let touches = |block: &usize| block * BLOCK_BYTES < to && (block + 1) * BLOCK_BYTES > from;
        let held = self.held.iter().filter(|(block, _)| touches(block));
        held.map(|(block, bytes)| {
            let start = block * BLOCK_BYTES;
            bytes.slice(from.saturating_sub(start)..(to - start).min(bytes.len()))
        })
        .collect()
    }

    fn damaged(&self, fault: FormatError) -> StoreError {
        StoreError::Damaged {
            key: self.section.key.to_string(),
            fault,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_reader_who_goes_on_is_read_further_ahead_and_nobody_takes_that_from_another() {
        let readers = Readers::default();
        let from = |offset| ReadRange {
            topic: TopicId(Uuid::nil()),
            partition: PartitionId(0),
            from: Offset(offset),
            up_to: Offset(i64::MAX),
            max_bytes: 1,
            at_least_one: true,
        };
        assert_eq!(
            readers.window(&from(0)),
            None,
            "nobody knows that it goes on"
        );
        readers.leave(&from(0), Offset(10), CHUNK_BYTES);
        assert_eq!(readers.window(&from(10)), Some(2 * CHUNK_BYTES));
        readers.leave(&from(10), Offset(20), 2 * CHUNK_BYTES);
        assert_eq!(
            readers.window(&from(10)),
            None,
            "the second at the same place"
        );
        readers.leave(&from(10), Offset(20), CHUNK_BYTES);
        assert_eq!(readers.window(&from(20)), Some(4 * CHUNK_BYTES));
        readers.leave(&from(20), Offset(30), AHEAD_BYTES_MAX);
        assert_eq!(readers.window(&from(30)), Some(AHEAD_BYTES_MAX));
    }
}
