//! Frames on the wire: a length of four bytes, then that many bytes.

use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of the length in front of a frame.
const LENGTH_BYTES: usize = 4;
/// A read asks for at least this much room, so that small answers come in one call.
const READ_BYTES_MIN: usize = 16 << 10;
/// Most slices that one vectored write carries.
const SLICES_MAX: usize = 64;

/// Why no frame came.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The peer closed between two frames.
    End,
    /// The socket failed, or ended within a frame.
    Io(io::Error),
    /// The announced length is negative, too short for a correlation id, or over the limit.
    Length(i64),
}

/// Cuts frames out of a stream, holding at most about twice the bytes that came.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, frame_bytes_max: usize) -> FrameReader<R> {
        FrameReader {
            stream,
            buffer: BytesMut::new(),
            frame_bytes_max,
        }
    }

    /// The next frame without its length, and the correlation id that it begins with.
    pub(super) async fn next(&mut self) -> Result<(i32, Bytes), FrameError> {
        self.fill(LENGTH_BYTES).await?;
        let announced = i32::from_be_bytes([
            self.buffer[0],
            self.buffer[1],
            self.buffer[2],
            self.buffer[3],
        ]);
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| (size_of::<i32>()..=self.frame_bytes_max).contains(length))
            .ok_or(FrameError::Length(i64::from(announced)))?;
        self.fill(LENGTH_BYTES + length).await?;
        self.buffer.advance(LENGTH_BYTES);
        let frame = self.buffer.split_to(length).freeze();
        let correlation_id = frame.slice(..size_of::<i32>()).get_i32();
        Ok((correlation_id, frame))
    }

    /// Reads until `wanted` bytes are there. The buffer at most doubles at a time: an announced length
    /// alone allocates nothing.
    async fn fill(&mut self, wanted: usize) -> Result<(), FrameError> {
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            self.buffer
                .reserve(missing.min(self.buffer.len()).max(READ_BYTES_MIN));
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .map_err(FrameError::Io)?;
            if read == 0 {
                return Err(match self.buffer.is_empty() {
                    true => FrameError::End,
                    false => FrameError::Io(io::ErrorKind::UnexpectedEof.into()),
                });
            }
        }
        Ok(())
    }
}

/// Writes all chunks, many in one system call.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    stream: &mut W,
    chunks: &[Bytes],
) -> io::Result<()> {
    for group in chunks.chunks(SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|chunk| IoSlice::new(chunk)).collect();
        let mut rest = slices.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = stream.write_vectored(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}
