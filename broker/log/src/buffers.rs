//! Buffers for long reads, used again: to fault in fresh memory for each costs more than to fill it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Buffers of one size. What is read into one is [`Bytes`] like any other, and the buffer comes back when the last piece of it is
/// dropped.
#[derive(Debug, Clone)]
pub struct ReadBuffers {
    free: Arc<Mutex<Vec<Box<[u8]>>>>,
    buffer_bytes: usize,
    free_max: usize,
}

impl ReadBuffers {
    /// Buffers of `buffer_bytes` each. So many are kept while nobody uses them.
    pub fn new(buffer_bytes: usize, free_max: usize) -> Self {
        Self {
            free: Arc::default(),
            buffer_bytes,
            free_max,
        }
    }

    /// A buffer for `count` bytes: one of these, or one that is not kept where that would be too short, or mostly empty.
    pub fn take(&self, count: usize) -> ReadBuffer {
        if count > self.buffer_bytes || count < self.buffer_bytes / 2 {
            return ReadBuffer {
                bytes: vec![0; count].into(),
                count,
                home: None,
            };
        }
        let free = self.free.lock().pop();
        ReadBuffer {
            bytes: free.unwrap_or_else(|| vec![0; self.buffer_bytes].into()),
            count,
            home: Some(self.clone()),
        }
    }

    /// Gives the memory of those back that nobody uses.
    pub fn release(&self) {
        self.free.lock().clear();
    }

    #[cfg(test)]
    fn free(&self) -> usize {
        self.free.lock().len()
    }
}

/// A buffer to be filled.
#[derive(Debug)]
pub struct ReadBuffer {
    bytes: Box<[u8]>,
    count: usize,
    home: Option<ReadBuffers>,
}

impl ReadBuffer {
    /// What is to be filled. It holds what was read into it before.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.count]
    }

    /// What it was filled with.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.count]
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        let mut free = home.free.lock();
        if free.len() < home.free_max {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_piece() {
        let buffers = ReadBuffers::new(100, 1);
        let filled = |byte: u8, count| {
            let mut buffer = buffers.take(count);
            buffer.space().fill(byte);
            buffer.freeze()
        };
        let (first, second) = (filled(1, 60), filled(2, 100));
        let piece = first.slice(10..20);
        drop(first);
        assert_eq!(buffers.free(), 0, "a piece is in use");
        assert_eq!(piece, [1; 10][..]);
        drop(piece);
        drop(second);
        assert_eq!(buffers.free(), 1, "no more are kept");
        assert_eq!(filled(3, 50), [3; 50][..]);
        let (kept, small) = (filled(5, 50), filled(6, 49));
        assert_eq!(buffers.free(), 0);
        drop(small);
        assert_eq!(buffers.free(), 0, "mostly empty ones are not kept");
        drop(kept);
        assert_eq!(filled(4, 101).len(), 101, "larger than they are");
        assert_eq!(buffers.free(), 1);
        buffers.release();
        assert_eq!(buffers.free(), 0);
    }
}
