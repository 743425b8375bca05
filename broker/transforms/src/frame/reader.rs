//! Reading bytes that a guest wrote: every place and length is checked before it is used.

use super::MESSAGE_BYTES_MAX;

/// What is wrong with a frame that a guest gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The guest's answer is not inside of its memory.
    #[error("{length} bytes at {address} are not inside of the guest's memory")]
    Outside {
        /// Where it should be.
        address: u32,
        /// How long it should be.
        length: u32,
    },
    /// The magic is none that is expected here.
    #[error("it begins with {0:#010x}, which is no frame that is expected here")]
    Magic(u32),
    /// A table or range reaches beyond the frame.
    #[error("{what} at {at} with {length} bytes is not inside of the frame")]
    Range {
        /// Which one.
        what: &'static str,
        /// Where it should be.
        at: u32,
        /// How long it should be.
        length: i64,
    },
    /// A length below -1, or null where that is not allowed.
    #[error("{what} has a length of {length}")]
    Length {
        /// Of what.
        what: &'static str,
        /// The length.
        length: i32,
    },
    /// A section that has to be understood, and is not.
    #[error("section {0:#010x} must be understood and is unknown")]
    Section(u32),
    /// An operation of a kind that there is not.
    #[error("operation {index} is of the unknown kind {kind}")]
    Kind {
        /// Which operation.
        index: u32,
        /// Its kind.
        kind: u8,
    },
    /// Flags that the operation cannot have.
    #[error("operation {index} has the flags {flags:#04x}, which it cannot have")]
    Flags {
        /// Which operation.
        index: u32,
        /// Its flags.
        flags: u8,
    },
    /// A header change of a kind that there is not.
    #[error("a header change is of the unknown kind {0}")]
    HeaderChange(u32),
    /// An operation on a record that is not in the input frame.
    #[error("operation {index} is about record {record}; the frame has {records}")]
    Record {
        /// Which operation.
        index: u32,
        /// The record it names.
        record: u32,
        /// How many there are.
        records: u32,
    },
    /// The operations take more or fewer bytes than the header says.
    #[error("{operations} operations do not take {bytes} bytes")]
    OperationBytes {
        /// How many.
        operations: u32,
        /// How many bytes.
        bytes: u32,
    },
    /// A record passed, dropped, edited or failed twice.
    #[error("record {0} is disposed of twice")]
    TwoDispositions(u32),
    /// A record neither passed, dropped, edited nor failed.
    #[error("record {0} is neither passed, dropped, edited nor failed")]
    NoDisposition(u32),
    /// An answer with status 0 where outputs are expected.
    #[error("process answers with status 0 and no outputs")]
    NoOutputs,
    /// More outputs than the transform may have for one frame.
    #[error("more than {0} outputs")]
    TooManyOutputs(u32),
    /// More output bytes than the transform may have for one frame.
    #[error("more than {0} bytes of outputs")]
    TooManyBytes(u64),
}

/// A frame's bytes, from its magic on.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The fixed fields, at least `bytes_min` of them; tables are counted from the frame's start.
    pub(super) fn header(
        frame: &'a [u8],
        magic: u32,
        bytes_min: usize,
    ) -> Result<Self, FrameFault> {
        let reader = Reader(frame);
        let too_short = FrameFault::Range {
            what: "the frame's header",
            at: 0,
            length: bytes_min as i64,
        };
        if frame.len() < bytes_min {
            return Err(too_short);
        }
        let found = reader.u32(0);
        if found != magic {
            return Err(FrameFault::Magic(found));
        }
        let header_bytes = reader.u32(4);
        if (header_bytes as usize) < bytes_min || header_bytes as usize > frame.len() {
            return Err(FrameFault::Range {
                what: "the frame's header",
                at: 0,
                length: i64::from(header_bytes),
            });
        }
        Ok(reader)
    }

    /// Cuts the frame to the length that it says of itself at `field`.
    pub(super) fn cut(self, field: usize) -> Result<Self, FrameFault> {
        let length = self.u32(field);
        match self.0.get(..length as usize) {
            Some(frame) if frame.len() >= self.u32(4) as usize => Ok(Reader(frame)),
            _ => Err(FrameFault::Range {
                what: "the frame",
                at: 0,
                length: i64::from(length),
            }),
        }
    }

    /// A number at a place that is known to be there.
    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    pub(super) fn i64(self, at: usize) -> i64 {
        i64::from(self.u32(at)) | (i64::from(self.u32(at + 4)) << 32)
    }

    /// A run of bytes.
    pub(super) fn range(
        self,
        what: &'static str,
        at: u32,
        length: u64,
    ) -> Result<&'a [u8], FrameFault> {
        let end = u64::from(at) + length;
        match usize::try_from(end) {
            Ok(end) if end <= self.0.len() => Ok(&self.0[at as usize..end]),
            _ => Err(FrameFault::Range {
                what,
                at,
                length: length as i64,
            }),
        }
    }

    /// Bytes whose place and length stand at `field`; null is none.
    pub(super) fn nullable(
        self,
        what: &'static str,
        field: usize,
    ) -> Result<Option<&'a [u8]>, FrameFault> {
        let (at, length) = (self.u32(field), self.u32(field + 4) as i32);
        match length {
            -1 => Ok(None),
            ..-1 => Err(FrameFault::Length { what, length }),
            _ => self.range(what, at, length as u64).map(Some),
        }
    }

    /// A message for people, as much of it as is kept.
    pub(super) fn message(self, field: usize) -> Result<Box<str>, FrameFault> {
        let bytes = self.nullable("a message", field)?;
        Ok(message(bytes.unwrap_or_default()))
    }

    /// Passes over the sections, unless one must be understood.
    pub(super) fn sections(self, field: usize) -> Result<(), FrameFault> {
        const MUST_UNDERSTAND: u32 = 1 << 31;
        let mut at = self.u32(field);
        if at == 0 {
            return Ok(());
        }
        loop {
            let head = Reader(self.range("a section", at, 8)?);
            let (kind, length) = (head.u32(0), head.u32(4));
            if kind == 0 {
                return Ok(());
            }
            if kind & MUST_UNDERSTAND != 0 {
                return Err(FrameFault::Section(kind));
            }
            let payload = u64::from(length).next_multiple_of(8);
            self.range("a section", at, 8 + payload)?;
            // Within the frame, which is shorter than 4 GiB.
            at += 8 + payload as u32;
        }
    }
}

/// What is kept of a text that a guest gave.
pub(crate) fn message(bytes: &[u8]) -> Box<str> {
    let kept = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    String::from_utf8_lossy(kept).into()
}
