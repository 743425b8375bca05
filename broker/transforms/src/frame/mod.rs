//! The frames of ABI 1, which `wasm-sdk/ABI.md` defines: what the host writes, and what it reads back from guests that nobody
//! trusts.

mod answer;
mod config;
mod input;
mod output;
mod reader;

pub(crate) use answer::Answer;
pub use config::Manifest;
pub(crate) use input::InputFrame;
pub use input::{FRAME_BYTES_MAX, FRAME_RECORDS_MAX, Source, content_bytes, fitting};
pub(crate) use output::is_answer;
pub use output::{
    Changed, Content, FailedRecord, Output, OutputBounds, Outputs, PartitionChoice, parse_outputs,
};
pub use reader::FrameFault;
pub(crate) use reader::message;

/// `TMC1`.
const CONFIG_MAGIC: u32 = u32::from_le_bytes(*b"TMC1");
/// `TMA1`.
pub(crate) const ANSWER_MAGIC: u32 = u32::from_le_bytes(*b"TMA1");
/// `TMI1`.
const INPUT_MAGIC: u32 = u32::from_le_bytes(*b"TMI1");
/// `TMO1`.
const OUTPUT_MAGIC: u32 = u32::from_le_bytes(*b"TMO1");

/// What is kept of a guest's message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 10;

fn put_u32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_i64(out: &mut [u8], at: usize, value: i64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// The next multiple of 8.
fn aligned(at: usize) -> usize {
    at.next_multiple_of(8)
}

/// Copies bytes behind each other and says where in the frame.
struct Heap<'a> {
    out: &'a mut [u8],
    /// Bytes of the frame before `out`.
    before: usize,
    at: usize,
}

impl Heap<'_> {
    /// The place and length of `bytes`; null is (0, -1).
    #[inline]
    fn put(&mut self, bytes: Option<&[u8]>) -> (u32, u32) {
        let Some(bytes) = bytes else {
            return (0, -1i32 as u32);
        };
        let at = self.at;
        let from = at - self.before;
        self.out[from..from + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        (at as u32, bytes.len() as u32)
    }

    /// Puts bytes and notes place and length at `field`.
    fn put_at(&mut self, field: usize, bytes: Option<&[u8]>) {
        let (at, len) = self.put(bytes);
        put_u32(self.out, field - self.before, at);
        put_u32(self.out, field - self.before + 4, len);
    }
}
