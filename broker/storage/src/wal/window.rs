//! What one write and one sync make durable.
//!
//! Files are written past the page cache, in whole blocks: it costs less than half of the time on the
//! processor, and leaves the cache to segments. So a window begins with what its first block already
//! holds, from the end of the window before, and ends with zeros up to the end of its last block.

use crate::fs::BLOCK_BYTES;

/// A buffer grows by at least so much.
const GROWTH_BYTES_MIN: usize = 64 << 10;

/// Bytes in memory that begin at a multiple of the block size.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    storage: Vec<u8>,
    /// Where in the storage the first block begins.
    skip: usize,
    len: usize,
}

impl Blocks {
    pub(super) fn with_zeros(len: usize) -> Blocks {
        let mut blocks = Blocks::default();
        blocks.extend_zeros(len);
        blocks
    }

    pub(super) fn capacity(&self) -> usize {
        self.storage.len()
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.storage[self.skip..self.skip + self.len]
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.grow(bytes.len()).copy_from_slice(bytes);
    }

    pub(super) fn extend_zeros(&mut self, count: usize) {
        self.grow(count).fill(0);
    }

    /// Makes room for all of the next bytes at once.
    pub(super) fn reserve(&mut self, count: usize) {
        let needed = self.len + count + BLOCK_BYTES;
        if self.skip + self.len + count <= self.storage.len() {
            return;
        }
        let size = needed
            .max(2 * self.storage.len())
            .next_multiple_of(GROWTH_BYTES_MIN);
        let mut storage = vec![0; size];
        let skip = storage.as_ptr().align_offset(BLOCK_BYTES);
        storage[skip..skip + self.len].copy_from_slice(self.as_slice());
        (self.storage, self.skip) = (storage, skip);
    }

    fn grow(&mut self, count: usize) -> &mut [u8] {
        self.reserve(count);
        let start = self.skip + self.len;
        self.len += count;
        &mut self.storage[start..start + count]
    }

    /// All bytes, with zeros after them up to the end of the last block.
    pub(super) fn whole_blocks(&mut self) -> &[u8] {
        let len = self.len;
        self.extend_zeros(len.next_multiple_of(BLOCK_BYTES) - len);
        let end = self.skip + self.len;
        self.len = len;
        &self.storage[self.skip..end]
    }
}

/// Entries that are written and synced together. They are next to each other in one file.
#[derive(Debug)]
pub(super) struct Window {
    /// Base of the file.
    pub(super) base: u64,
    /// Position of the first entry.
    start: u64,
    /// Where in the file the first block is.
    pub(super) offset: u64,
    pub(super) blocks: Blocks,
    /// Whether the rest of the file stays unused.
    pub(super) last: bool,
}

impl Window {
    /// A window that begins at `start`, in an empty buffer. `carried` is what is in that block already.
    pub(super) fn new(base: u64, start: u64, mut blocks: Blocks, carried: &[u8]) -> Window {
        let within = start - base;
        let offset = within - within % BLOCK_BYTES as u64;
        debug_assert_eq!(within - offset, carried.len() as u64);
        blocks.extend(carried);
        Window {
            base,
            start,
            offset,
            blocks,
            last: false,
        }
    }

    /// Bytes of its own entries.
    pub(super) fn len(&self) -> usize {
        (self.end() - self.start) as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end() == self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.base + self.offset + self.blocks.len as u64
    }

    /// What its last block holds, when that is not full.
    pub(super) fn unfinished_block(&self) -> &[u8] {
        let bytes = self.blocks.as_slice();
        &bytes[bytes.len() - bytes.len() % BLOCK_BYTES..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stay_aligned_and_keep_their_bytes_while_they_grow() {
        let mut blocks = Blocks::default();
        let mut expected = Vec::new();
        for number in 0..300u32 {
            let bytes = vec![number as u8; number as usize * 3];
            blocks.extend(&bytes);
            blocks.extend_zeros(2);
            expected.extend_from_slice(&bytes);
            expected.extend_from_slice(&[0, 0]);
            assert_eq!(blocks.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0);
        }
        assert_eq!(blocks.as_slice(), expected);
        expected.resize(expected.len().next_multiple_of(BLOCK_BYTES), 0);
        assert_eq!(blocks.whole_blocks(), expected);
        let capacity = blocks.capacity();
        blocks.clear();
        // What an earlier use left must not show in the last block.
        blocks.extend(b"x");
        let whole = blocks.whole_blocks();
        assert_eq!((whole.len(), whole[0]), (BLOCK_BYTES, b'x'));
        assert!(whole[1..].iter().all(|byte| *byte == 0));
        assert_eq!(
            (blocks.as_slice(), blocks.capacity()),
            (&b"x"[..], capacity)
        );
    }

    #[test]
    fn a_window_carries_the_block_that_the_one_before_left_unfinished() {
        let first_block = BLOCK_BYTES as u64;
        let mut window = Window::new(1000, 1000 + first_block, Blocks::default(), &[]);
        assert!(window.is_empty());
        window.blocks.extend(&[7; BLOCK_BYTES + 24]);
        assert_eq!(
            (window.len(), window.end()),
            (BLOCK_BYTES + 24, 1000 + 2 * first_block + 24)
        );
        let next = Window::new(
            1000,
            window.end(),
            Blocks::default(),
            window.unfinished_block(),
        );
        assert!(next.is_empty());
        assert_eq!(
            (next.offset, next.blocks.as_slice()),
            (2 * first_block, &[7; 24][..])
        );
    }
}
