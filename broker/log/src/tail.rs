//! The newest batches of a log in memory: what consumers at the tail read, and what waits for its segment file.
//!
//! Chunks are refcounted and never change, so readers, the drain and the network share them. A large batch is two
//! pieces, its patched header and its body as it came from the network; small batches are copied one after the other
//! into one buffer, because each would pin the frame that it came in. A reader or the drain that needs the buffer's end
//! freezes what is in it; appending goes on in the room that is left.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use tidemill_records::{BatchHeader, HEADER_BYTES, Offset, RecordBatch};

/// Batches from this size on are chained, smaller ones copied.
const CHAINED_BYTES_MIN: usize = 16 << 10;
/// A chained batch may pin at most so many times its size: the rest of the frame that it came in.
const PINNED_FACTOR_MAX: usize = 4;
/// The most of copied batches in one chunk: what a reader walks through to find an offset in it.
const CHUNK_BYTES_MAX: usize = 16 << 10;
/// A copy buffer begins so small, for the many logs that get little, and doubles.
const BUFFER_BYTES_MIN: usize = 512;

/// Whole batches, one after the other in one segment.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) segment: Offset,
    pub(crate) position: u32,
    /// One batch's header, or all the bytes of copied batches.
    pub(crate) head: Bytes,
    /// One batch's body, or nothing.
    pub(crate) body: Bytes,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// The position after its last byte.
    pub(crate) fn end_position(&self) -> u32 {
        self.position + u32::try_from(self.len()).expect("a chunk is smaller than a segment")
    }
}

/// Copied batches that may get company.
#[derive(Debug)]
struct OpenChunk {
    base: Offset,
    next: Offset,
    segment: Offset,
    position: u32,
}

/// What a read takes from memory.
#[derive(Debug, Default)]
pub(crate) struct TailRead {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) bytes: usize,
    pub(crate) next: Option<Offset>,
}

/// The cached end of one log.
#[derive(Debug)]
pub(crate) struct Tail {
    chunks: VecDeque<Chunk>,
    open: Option<OpenChunk>,
    /// Holds the open chunk's bytes, then room.
    buffer: BytesMut,
    buffer_bytes: usize,
    /// Bytes of all chunks, the open one included.
    bytes: usize,
}

impl Default for Tail {
    fn default() -> Tail {
        Tail {
            chunks: VecDeque::new(),
            open: None,
            buffer: BytesMut::new(),
            buffer_bytes: BUFFER_BYTES_MIN,
            bytes: 0,
        }
    }
}

impl Tail {
    /// Adds the batch that follows. `pinned_bytes` is what its body keeps alive.
    pub(crate) fn push(
        &mut self,
        batch: &RecordBatch,
        segment: Offset,
        position: u32,
        pinned_bytes: usize,
    ) {
        let size = batch.size_bytes();
        self.bytes += size;
        if size >= CHAINED_BYTES_MIN && pinned_bytes / PINNED_FACTOR_MAX <= size {
            self.push_chained(batch, segment, position);
        } else {
            self.push_copied(batch, segment, position);
        }
    }

    fn push_chained(&mut self, batch: &RecordBatch, segment: Offset, position: u32) {
        self.freeze();
        self.make_room(HEADER_BYTES);
        self.buffer.extend_from_slice(batch.header());
        self.chunks.push_back(Chunk {
            base: batch.base_offset(),
            next: batch.next_offset(),
            segment,
            position,
            head: self.buffer.split().freeze(),
            body: batch.body().clone(),
        });
    }

    fn push_copied(&mut self, batch: &RecordBatch, segment: Offset, position: u32) {
        let size = batch.size_bytes();
        let fits = self.buffer.capacity() - self.buffer.len() >= size
            && self.buffer.len() + size <= CHUNK_BYTES_MAX;
        if self
            .open
            .as_ref()
            .is_some_and(|open| !fits || open.segment != segment)
        {
            self.freeze();
        }
        self.make_room(size);
        self.buffer.extend_from_slice(batch.header());
        self.buffer.extend_from_slice(batch.body());
        let open = self.open.get_or_insert(OpenChunk {
            base: batch.base_offset(),
            next: batch.base_offset(),
            segment,
            position,
        });
        open.next = batch.next_offset();
    }

    /// Only with an empty open chunk, or where there is room: a buffer is never moved.
    fn make_room(&mut self, bytes: usize) {
        if self.buffer.capacity() - self.buffer.len() < bytes {
            debug_assert!(self.open.is_none(), "the open chunk is frozen first");
            self.buffer = BytesMut::with_capacity(self.buffer_bytes.max(bytes));
            self.buffer_bytes = (self.buffer_bytes * 2).min(CHUNK_BYTES_MAX);
        }
    }

    /// Closes the open chunk, so that its bytes can be shared.
    pub(crate) fn freeze(&mut self) {
        if let Some(open) = self.open.take() {
            self.chunks.push_back(Chunk {
                base: open.base,
                next: open.next,
                segment: open.segment,
                position: open.position,
                head: self.buffer.split().freeze(),
                body: Bytes::new(),
            });
        }
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first offset in memory; None when there is nothing.
    pub(crate) fn start(&self) -> Option<Offset> {
        match self.chunks.front() {
            Some(chunk) => Some(chunk.base),
            None => self.open.as_ref().map(|open| open.base),
        }
    }

    /// Whole batches from the one that holds `from` on, that end at or below `up_to`, of `max_bytes` together; the
    /// first is taken although it is larger when `at_least_one`. None when `from` is not in memory.
    pub(crate) fn read(
        &mut self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<TailRead> {
        if self.start().is_none_or(|start| from < start) {
            return None;
        }
        if self.open.as_ref().is_some_and(|open| open.base < up_to) {
            self.freeze();
        }
        let mut read = TailRead::default();
        let first = self.chunks.partition_point(|chunk| chunk.next <= from);
        for chunk in self.chunks.range(first..) {
            let whole = chunk.base >= from || !chunk.body.is_empty();
            if whole && chunk.next <= up_to && read.bytes + chunk.len() <= max_bytes {
                read.take(chunk.head.clone(), chunk.next);
                if !chunk.body.is_empty() {
                    read.take(chunk.body.clone(), chunk.next);
                }
                continue;
            }
            let wanted = Wanted {
                from,
                up_to,
                max_bytes,
                at_least_one,
            };
            let range = wanted.range_of(chunk, read.bytes);
            let goes_on = range.next == chunk.next;
            if range.end > range.start {
                read.take_range(chunk, range);
            }
            if !goes_on {
                break;
            }
        }
        Some(read)
    }

    /// Chunks of one segment from `position` on that end at or below `durable`, up to about `max_bytes`: what the
    /// drain writes next. They stay in memory.
    pub(crate) fn undrained(
        &mut self,
        segment: Offset,
        position: u32,
        durable: Offset,
        max_bytes: usize,
    ) -> Vec<Chunk> {
        if self.open.as_ref().is_some_and(|open| open.next <= durable) {
            self.freeze();
        }
        let place = |chunk: &Chunk| (chunk.segment, chunk.position);
        let first = self
            .chunks
            .partition_point(|chunk| place(chunk) < (segment, position));
        let mut taken = Vec::new();
        let mut bytes = 0;
        for chunk in self.chunks.range(first..) {
            if chunk.segment != segment || chunk.next > durable || bytes >= max_bytes {
                break;
            }
            bytes += chunk.len();
            taken.push(chunk.clone());
        }
        taken
    }

    /// Drops chunks that end at or below `up_to`, oldest first, and says how many bytes that freed.
    pub(crate) fn evict(&mut self, up_to: Offset) -> usize {
        self.evict_while(|chunk| chunk.next <= up_to)
    }

    /// [`Self::evict`], but not past a place in the segments that the drain has not come to.
    pub(crate) fn evict_drained(&mut self, up_to: Offset, drained: (Offset, u32)) -> usize {
        self.evict_while(|chunk| {
            chunk.next <= up_to && (chunk.segment, chunk.end_position()) <= drained
        })
    }

    fn evict_while(&mut self, goes: impl Fn(&Chunk) -> bool) -> usize {
        let mut freed = 0;
        while self.chunks.front().is_some_and(&goes) {
            freed += self.chunks.pop_front().map_or(0, |chunk| chunk.len());
        }
        self.bytes -= freed;
        if self.bytes == 0 {
            // An idle log keeps no buffer.
            *self = Tail::default();
        }
        freed
    }

    /// Drops chunks that end at or below `up_to`, oldest first, while there are more than `bytes_max`; says how
    /// many bytes that freed.
    pub(crate) fn evict_over(&mut self, bytes_max: usize, up_to: Offset) -> usize {
        let (mut left, mut limit) = (self.bytes, None);
        for chunk in self.chunks.iter().take_while(|chunk| chunk.next <= up_to) {
            if left <= bytes_max {
                break;
            }
            left -= chunk.len();
            limit = Some(chunk.next);
        }
        limit.map_or(0, |limit| self.evict(limit))
    }

    /// Drops what begins at or past `end`, and says how many bytes that freed. A chunk that holds `end` keeps the
    /// batches before it.
    pub(crate) fn truncate(&mut self, end: Offset) -> usize {
        self.freeze();
        let mut freed = 0;
        while self.chunks.back().is_some_and(|chunk| chunk.base >= end) {
            freed += self.chunks.pop_back().map_or(0, |chunk| chunk.len());
        }
        if let Some(chunk) = self.chunks.back_mut().filter(|chunk| chunk.next > end) {
            let keep = position_of(&chunk.head, end);
            freed += chunk.head.len() - keep;
            chunk.head.truncate(keep);
            chunk.next = end;
        }
        self.bytes -= freed;
        freed
    }

    /// Drops everything, and says how many bytes that freed.
    pub(crate) fn clear(&mut self) -> usize {
        std::mem::take(self).bytes
    }
}

impl TailRead {
    fn take(&mut self, bytes: Bytes, next: Offset) {
        self.bytes += bytes.len();
        self.chunks.push(bytes);
        self.next = Some(next);
    }

    fn take_range(&mut self, chunk: &Chunk, range: ByteRange) {
        match chunk.body.is_empty() {
            true => self.take(chunk.head.slice(range.start..range.end), range.next),
            false => {
                self.take(chunk.head.clone(), range.next);
                self.take(chunk.body.clone(), range.next);
            }
        }
    }
}

/// A range of a chunk's bytes that holds whole batches, and the offset after them.
struct ByteRange {
    start: usize,
    end: usize,
    next: Offset,
}

struct Wanted {
    from: Offset,
    up_to: Offset,
    max_bytes: usize,
    at_least_one: bool,
}

impl Wanted {
    /// The batches of `chunk` that may be taken when `taken` bytes are taken already.
    fn range_of(&self, chunk: &Chunk, taken: usize) -> ByteRange {
        let mut range = ByteRange {
            start: 0,
            end: 0,
            next: chunk.base,
        };
        if !chunk.body.is_empty() {
            if chunk.next <= self.up_to && self.admits(taken, chunk.len()) {
                (range.end, range.next) = (chunk.len(), chunk.next);
            }
            return range;
        }
        for (position, header) in Batches(&chunk.head, 0) {
            if header.next_offset() <= self.from {
                (range.start, range.end) = (
                    position + header.size_bytes(),
                    position + header.size_bytes(),
                );
                continue;
            }
            let so_far = taken + range.end - range.start;
            if header.next_offset() > self.up_to || !self.admits(so_far, header.size_bytes()) {
                break;
            }
            (range.end, range.next) = (position + header.size_bytes(), header.next_offset());
        }
        range
    }

    fn admits(&self, taken: usize, size: usize) -> bool {
        taken + size <= self.max_bytes || (taken == 0 && self.at_least_one)
    }
}

/// Walks over whole batches that we have put there ourselves: position and header of each.
struct Batches<'a>(&'a [u8], usize);

impl Iterator for Batches<'_> {
    type Item = (usize, BatchHeader);

    fn next(&mut self) -> Option<(usize, BatchHeader)> {
        let position = self.1;
        let header = BatchHeader::read(self.0.get(position..)?).ok()?;
        self.1 += header.size_bytes();
        Some((position, header))
    }
}

/// Where the batch begins that holds `offset`, in a chunk of copied batches.
fn position_of(bytes: &[u8], offset: Offset) -> usize {
    Batches(bytes, 0)
        .find(|(_, header)| header.next_offset() > offset)
        .map_or(bytes.len(), |(position, _)| position)
}

#[cfg(test)]
mod tests;
