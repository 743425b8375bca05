//! Answers: how `init` ends, and how `process` refuses a frame.

use super::reader::Reader;
use super::{ANSWER_MAGIC, FrameFault};

const HEADER_BYTES: usize = 24;

/// What a guest says instead of outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 is done, all else the guest's own codes.
    pub(crate) status: u32,
    /// Feature bits that the guest needs.
    pub(crate) features: u32,
    pub(crate) message: Box<str>,
}

impl Answer {
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, FrameFault> {
        let reader = Reader::header(frame, ANSWER_MAGIC, HEADER_BYTES)?;
        Ok(Self {
            status: reader.u32(8),
            features: reader.u32(12),
            message: reader.message(16)?,
        })
    }
}
