//! Request frames off a connection: four bytes of length, then that many bytes.
//!
//! Bytes are charged to the shared budget as they arrive and buffers grow with what arrived, so a frame
//! that announces 100 MiB and stalls costs its sender a connection and us a few KiB.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::memory::{Charge, MemoryBudget};

/// Buffer of a connection that has nothing to say.
const IDLE_BUFFER_BYTES: usize = 1 << 10;
/// Read size while requests stream in.
const BUSY_BUFFER_BYTES: usize = 64 << 10;
/// Largest frame of any API but Produce: decoded, many small elements take a multiple of their bytes.
const OTHER_FRAME_BYTES_MAX: usize = 16 << 20;
/// `ApiKey::PRODUCE` on the wire.
const PRODUCE_KEY: [u8; 2] = [0, 0];
/// First allocation for a large frame; it doubles from here as bytes really arrive.
const GROWTH_BYTES: usize = 1 << 20;

/// One whole request, with the memory it is charged for.
#[derive(Debug)]
pub(super) struct RequestFrame {
    /// Everything behind the length.
    pub(super) bytes: Bytes,
    /// Given back when the request has been answered.
    pub(super) charge: Charge,
}

/// Why no frame came.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("frame of {announced} bytes is over the limit of {limit}")]
    TooLarge { announced: i64, limit: usize },
    #[error("connection ended inside a frame")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts frames out of a byte stream. `next` may be dropped and called again without losing bytes.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    budget: Arc<MemoryBudget>,
    charge: Charge,
    frame_bytes_max: usize,
    is_busy: bool,
    /// Size of the memory that `buffer` and the frames cut from it share, or more.
    allocated_bytes: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, budget: Arc<MemoryBudget>, frame_bytes_max: usize) -> Self {
        let charge = budget.charge();
        Self {
            io,
            buffer: BytesMut::new(),
            budget,
            charge,
            frame_bytes_max,
            is_busy: false,
            allocated_bytes: 0,
        }
    }

    /// Has a frame begun that is not whole yet?
    pub(super) fn is_inside_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Is a whole frame here already, or a length that will be refused?
    pub(super) fn is_frame_buffered(&self) -> bool {
        match self.announced() {
            Some(length) => length.is_err() || length.is_ok_and(|n| self.buffer.len() >= 4 + n),
            None => false,
        }
    }

    /// The next whole frame; `None` when the peer closed between frames.
    #[cfg(test)]
    async fn next(&mut self) -> Result<Option<RequestFrame>, FrameError> {
        loop {
            if let Some(frame) = self.cut()? {
                return Ok(Some(frame));
            }
            if self.read_some().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated)
                };
            }
        }
    }

    /// Waits for bytes once and says how many came; 0 at the end of the stream.
    pub(super) async fn read_some(&mut self) -> Result<usize, FrameError> {
        if !self.budget.is_available() {
            self.budget.available().await;
        }
        self.reserve()?;
        let count = self.io.read_buf(&mut self.buffer).await?;
        self.charge.grow(count);
        Ok(count)
    }

    /// A frame that is whole in the buffer already.
    pub(super) fn cut(&mut self) -> Result<Option<RequestFrame>, FrameError> {
        let Some(length) = self.announced().transpose()? else {
            return Ok(None);
        };
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        let bytes = self.buffer.split_to(length).freeze();
        self.is_busy = true;
        let mut rest = self.budget.charge();
        rest.grow(self.buffer.len());
        let mut charge = std::mem::replace(&mut self.charge, rest);
        charge.pin(self.allocated_bytes);
        if self.buffer.is_empty() && self.allocated_bytes > GROWTH_BYTES {
            // A small batch that is kept must not come to lie in what is left of a large buffer.
            self.drop_buffer();
        }
        Ok(Some(RequestFrame { bytes, charge }))
    }

    /// Drops the buffer of a connection that has gone quiet.
    pub(super) fn go_idle(&mut self) {
        if self.buffer.is_empty() {
            self.drop_buffer();
            self.is_busy = false;
        }
    }

    fn drop_buffer(&mut self) {
        self.buffer = BytesMut::new();
        self.allocated_bytes = 0;
    }

    fn announced(&self) -> Option<Result<usize, FrameError>> {
        let head: [u8; 4] = self
            .buffer
            .get(..4)?
            .try_into()
            .expect("four bytes were taken");
        let announced = i64::from(i32::from_be_bytes(head));
        // The API's key follows the length. Until it is here the length is held to the larger bound.
        let is_other = self.buffer.get(4..6).is_some_and(|key| key != PRODUCE_KEY);
        let other_max = if is_other {
            OTHER_FRAME_BYTES_MAX
        } else {
            usize::MAX
        };
        let limit = self.frame_bytes_max.min(other_max);
        Some(match usize::try_from(announced) {
            Ok(length) if length <= limit => Ok(length),
            _ => Err(FrameError::TooLarge { announced, limit }),
        })
    }

    fn reserve(&mut self) -> Result<(), FrameError> {
        let Some(length) = self.announced().transpose()? else {
            let bytes = if self.is_busy {
                BUSY_BUFFER_BYTES
            } else {
                IDLE_BUFFER_BYTES
            };
            if self.buffer.capacity() - self.buffer.len() < 4 {
                self.grow_buffer(bytes);
            }
            return Ok(());
        };
        let missing = (4 + length).saturating_sub(self.buffer.len());
        if self.buffer.capacity() - self.buffer.len() < missing.min(IDLE_BUFFER_BYTES) {
            self.grow_buffer(missing.min(GROWTH_BYTES.max(self.buffer.len())));
        }
        Ok(())
    }

    fn grow_buffer(&mut self, bytes: usize) {
        self.buffer.reserve(bytes);
        // A reservation may find room in the old memory, of which only a part shows.
        self.allocated_bytes = self.allocated_bytes.max(self.buffer.capacity());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8], limit: usize) -> FrameReader<&[u8]> {
        FrameReader::new(bytes, MemoryBudget::new(1 << 20), limit)
    }

    #[tokio::test]
    async fn frames_are_cut_and_charged_until_dropped() {
        let mut wire = Vec::new();
        for body in [b"one".as_slice(), b"", b"three"] {
            wire.extend((body.len() as i32).to_be_bytes());
            wire.extend(body);
        }
        let mut reader = reader(&wire, 100);
        let budget = reader.budget.clone();
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await.unwrap() {
            frames.push(frame);
        }
        let bodies: Vec<_> = frames.iter().map(|frame| &frame.bytes[..]).collect();
        assert_eq!(bodies, [b"one".as_slice(), b"", b"three"]);
        assert!(budget.used_bytes() >= 8);
        drop((frames, reader));
        assert_eq!(budget.used_bytes(), 0);
    }

    /// A batch of such a frame is copied before it is kept.
    #[tokio::test]
    async fn a_small_frame_behind_a_large_one_does_not_lie_in_its_memory() {
        let mut wire = (4i32 << 20).to_be_bytes().to_vec();
        wire.resize(4 + (4 << 20), 0);
        wire.extend(3i32.to_be_bytes());
        wire.extend(b"two");
        let mut reader = FrameReader::new(&wire[..], MemoryBudget::new(64 << 20), 100 << 20);
        let large = reader.next().await.unwrap().unwrap();
        assert!(large.charge.pinned_bytes() >= 4 << 20);
        let small = reader.next().await.unwrap().unwrap();
        assert_eq!(&small.bytes[..], b"two");
        let shares_memory = small.bytes.as_ptr() == large.bytes.as_ptr_range().end.wrapping_add(4);
        assert!(!shares_memory || small.charge.pinned_bytes() >= 4 << 20);
        assert!(shares_memory || small.charge.pinned_bytes() <= 2 * BUSY_BUFFER_BYTES);
    }

    #[tokio::test]
    async fn hostile_lengths_are_refused() {
        for announced in [-1, i32::MIN, 101, i32::MAX] {
            let wire = announced.to_be_bytes();
            let error = reader(&wire, 100).next().await.unwrap_err();
            assert!(
                matches!(error, FrameError::TooLarge { limit: 100, .. }),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn an_announcement_allocates_little() {
        let wire = (64i32 << 20).to_be_bytes();
        let mut reader = reader(&wire, 100 << 20);
        assert!(matches!(reader.next().await, Err(FrameError::Truncated)));
        assert!(reader.buffer.capacity() <= 2 * GROWTH_BYTES);
    }
}
