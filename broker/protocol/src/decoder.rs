//! Reading Kafka's wire format from bytes that a stranger sent.
//!
//! Nothing here trusts a length: an array can only have as many elements as the remaining bytes can
//! hold at the least size of an element, and everything that decoding allocates is charged to a
//! budget of [`MEMORY_PER_BYTE`] × the frame's size + [`MEMORY_FREE`]. Strings, bytes and records are
//! views into the frame.

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use crate::records::Records;
use crate::text::Str;

/// How many bytes of memory decoding may allocate for each byte of the frame. Honest frames need at
/// most about 5; small elements in large structs (an empty string is one byte on the wire and 32 in
/// memory) are what hostile ones play with.
pub const MEMORY_PER_BYTE: usize = 16;

/// What decoding may allocate on top, so that small frames need not watch their proportions.
pub const MEMORY_FREE: usize = 256 * 1024;

/// Kafka's limit for strings, in compact encoding too.
pub(crate) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// What the allocator may add to an allocation.
const ALLOCATION_OVERHEAD: usize = 16;

/// What is wrong with a frame, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{problem} at byte {at}")]
pub struct DecodeError {
    /// Position in the decoded bytes.
    pub at: usize,
    /// What is wrong there.
    pub problem: DecodeProblem,
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The key has no schema here, so that not even the rest of the header can be read.
    #[error("unknown API key {0}")]
    UnknownApiKey(i16),
    /// The schema does not have this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The bytes end within the message.
    #[error("unexpected end")]
    Truncated,
    /// The message ends before the bytes.
    #[error("unexpected bytes after the end")]
    TrailingBytes,
    /// A negative length other than null, or a string over 32,767 bytes.
    #[error("invalid length")]
    InvalidLength,
    /// An array claims more elements than the remaining bytes can hold.
    #[error("array longer than the remaining bytes can hold")]
    ArrayTooLong,
    /// Null where this version does not allow it.
    #[error("null where it is not allowed")]
    UnexpectedNull,
    /// A string that is not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// A varint of more than 32 bits.
    #[error("varint of more than 32 bits")]
    InvalidVarint,
    /// Tagged fields out of order, or one of them twice.
    #[error("tagged fields out of order")]
    TagOrder,
    /// A tagged field that is shorter or longer than it says.
    #[error("tagged field of another size than announced")]
    TagSize,
    /// The decoded message would be out of proportion to the frame.
    #[error("decoded message out of proportion to its bytes")]
    OverBudget,
}

/// A position in a frame.
#[derive(Debug)]
pub struct Decoder {
    frame: Bytes,
    at: usize,
    /// Where reading must stop: the frame's end, or that of the tagged field being read.
    end: usize,
    /// Memory that may still be allocated.
    budget: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

impl Decoder {
    /// Reads from the start of `frame`, which does not include the four bytes of its length.
    pub fn new(frame: Bytes) -> Decoder {
        let end = frame.len();
        let budget = end
            .saturating_mul(MEMORY_PER_BYTE)
            .saturating_add(MEMORY_FREE);
        Decoder {
            frame,
            at: 0,
            end,
            budget,
        }
    }

    /// Bytes that have not been read.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// The bytes that have not been read.
    pub fn into_remaining(self) -> Bytes {
        self.frame.slice(self.at..)
    }

    /// Ends reading; it is an error if bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.remaining() > 0 {
            return Err(self.error(DecodeProblem::TrailingBytes));
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn error(&self, problem: DecodeProblem) -> DecodeError {
        DecodeError {
            at: self.at,
            problem,
        }
    }

    /// Moves on by `count` bytes and returns where they start.
    #[inline]
    fn advance(&mut self, count: usize) -> Result<usize> {
        if count > self.remaining() {
            return Err(self.error(DecodeProblem::Truncated));
        }
        let start = self.at;
        self.at += count;
        Ok(start)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let start = self.advance(N)?;
        let bytes = self.frame[start..start + N].try_into();
        Ok(bytes.expect("the range has N bytes"))
    }

    #[inline]
    fn slice(&mut self, count: usize) -> Result<Bytes> {
        let start = self.advance(count)?;
        Ok(self.frame.slice(start..start + count))
    }

    fn charge(&mut self, bytes: usize) -> Result<()> {
        let left = self
            .budget
            .checked_sub(bytes.saturating_add(ALLOCATION_OVERHEAD));
        self.budget = left.ok_or_else(|| self.error(DecodeProblem::OverBudget))?;
        Ok(())
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    pub(crate) fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    /// An unsigned varint of at most 32 bits in at most 5 bytes.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        match self.fixed()? {
            [byte @ 0..=0x0f] => Ok(value | u32::from(byte) << 28),
            _ => Err(self.error(DecodeProblem::InvalidVarint)),
        }
    }

    /// A length of one more than the value, 0 for null.
    fn compact_length(&mut self) -> Result<Option<usize>> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    /// A length of 32 bits, -1 for null.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible {
            return self.compact_length();
        }
        match self.i32()? {
            -1 => Ok(None),
            length => self.positive(length),
        }
    }

    /// A length of 16 bits (32 if compact), -1 for null.
    fn string_length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible {
            return self.compact_length();
        }
        match self.i16()? {
            -1 => Ok(None),
            length => self.positive(i32::from(length)),
        }
    }

    fn positive(&self, length: i32) -> Result<Option<usize>> {
        let length = usize::try_from(length);
        length
            .map(Some)
            .map_err(|_| self.error(DecodeProblem::InvalidLength))
    }

    #[inline]
    fn not_null<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(DecodeProblem::UnexpectedNull))
    }

    pub(crate) fn string(&mut self, flexible: bool) -> Result<Str> {
        let value = self.nullable_string(flexible)?;
        self.not_null(value)
    }

    pub(crate) fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>> {
        let Some(length) = self.string_length(flexible)? else {
            return Ok(None);
        };
        if length > STRING_BYTES_MAX {
            return Err(self.error(DecodeProblem::InvalidLength));
        }
        let text = Str::try_from(self.slice(length)?);
        text.map(Some)
            .map_err(|_| self.error(DecodeProblem::InvalidUtf8))
    }

    pub(crate) fn bytes(&mut self, flexible: bool) -> Result<Bytes> {
        let value = self.nullable_bytes(flexible)?;
        self.not_null(value)
    }

    pub(crate) fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>> {
        let length = self.length(flexible)?;
        length.map(|length| self.slice(length)).transpose()
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn records(&mut self, flexible: bool) -> Result<Records> {
        self.bytes(flexible).map(Records::from)
    }

    pub(crate) fn nullable_records(&mut self, flexible: bool) -> Result<Option<Records>> {
        Ok(self.nullable_bytes(flexible)?.map(Records::from))
    }

    /// A struct that may be null: one byte, -1 for null, goes before it.
    pub(crate) fn nullable_struct<T>(
        &mut self,
        read: impl FnOnce(&mut Decoder) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.i8()? {
            -1 => Ok(None),
            0.. => read(self).map(Some),
            _ => Err(self.error(DecodeProblem::InvalidLength)),
        }
    }

    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        size_min: usize,
        read: impl FnMut(&mut Decoder) -> Result<T>,
    ) -> Result<Vec<T>> {
        let value = self.nullable_array(flexible, size_min, read)?;
        self.not_null(value)
    }

    /// An array whose elements take at least `size_min` bytes each.
    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        size_min: usize,
        mut read: impl FnMut(&mut Decoder) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(length) = self.length(flexible)? else {
            return Ok(None);
        };
        if length > self.remaining() / size_min.max(1) {
            return Err(self.error(DecodeProblem::ArrayTooLong));
        }
        if length == 0 {
            return Ok(Some(Vec::new()));
        }
        self.charge(length.saturating_mul(size_of::<T>()))?;
        let mut elements = Vec::with_capacity(length);
        for _ in 0..length {
            elements.push(read(self)?);
        }
        Ok(Some(elements))
    }

    /// Tagged fields of a struct that knows none; nothing at all in versions that are not flexible.
    pub(crate) fn unknown_tagged_fields(&mut self, flexible: bool) -> Result<Vec<(u32, Bytes)>> {
        if !flexible {
            return Ok(Vec::new());
        }
        self.tagged_fields(|_, _| Ok(false))
    }

    /// Reads the tagged fields: `known` reads one, or returns false for a tag that it does not know.
    /// Returns the unknown ones.
    #[inline]
    pub(crate) fn tagged_fields(
        &mut self,
        known: impl FnMut(&mut Decoder, u32) -> Result<bool>,
    ) -> Result<Vec<(u32, Bytes)>> {
        match self.varint()? {
            0 => Ok(Vec::new()),
            count => self.some_tagged_fields(count as usize, known),
        }
    }

    fn some_tagged_fields(
        &mut self,
        count: usize,
        mut known: impl FnMut(&mut Decoder, u32) -> Result<bool>,
    ) -> Result<Vec<(u32, Bytes)>> {
        // A tagged field has a tag and a size of at least one byte each.
        if count > self.remaining() / 2 {
            return Err(self.error(DecodeProblem::ArrayTooLong));
        }
        let mut unknown = Vec::new();
        let mut last = None;
        for index in 0..count {
            let tag = self.varint()?;
            if last.is_some_and(|last| tag <= last) {
                return Err(self.error(DecodeProblem::TagOrder));
            }
            last = Some(tag);
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(self.error(DecodeProblem::Truncated));
            }
            let frame_end = std::mem::replace(&mut self.end, self.at + size);
            if known(self, tag)? {
                if self.at != self.end {
                    return Err(self.error(DecodeProblem::TagSize));
                }
            } else {
                if unknown.is_empty() {
                    let left = count - index;
                    self.charge(left.saturating_mul(size_of::<(u32, Bytes)>()))?;
                    unknown.reserve_exact(left);
                }
                let value = self.slice(size)?;
                unknown.push((tag, value));
            }
            self.end = frame_end;
        }
        Ok(unknown)
    }
}

#[cfg(test)]
mod tests;
