//! The little-endian fields of what this crate persists in formats of its own.

use crate::error::FormatError;

/// Takes fields off the front of bytes; never reads past their end, never allocates by a length it read.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, FormatError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            kind => Err(FormatError::Kind(kind)),
        }
    }

    pub(crate) fn i16(&mut self) -> Result<i16, FormatError> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// An offset or another number that is never negative.
    pub(crate) fn i64_from_zero(&mut self) -> Result<i64, FormatError> {
        match self.i64()? {
            value if value >= 0 => Ok(value),
            _ => Err(FormatError::Range),
        }
    }

    pub(crate) fn u128(&mut self) -> Result<u128, FormatError> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A count of things that occupy at least `bytes_min` each: so many really follow.
    pub(crate) fn count(&mut self, bytes_min: usize) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        match count.checked_mul(bytes_min) {
            Some(needed) if needed <= self.0.len() => Ok(count),
            _ => Err(FormatError::Truncated),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, FormatError> {
        let len = self.count(1)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| FormatError::Utf8)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Says that everything must have been taken.
    pub(crate) fn finish(self) -> Result<(), FormatError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(FormatError::TrailingBytes(left)),
        }
    }
}

/// What [`Reader`] reads back.
pub(crate) trait Put {
    fn bytes(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    fn i16(&mut self, value: i16) {
        self.bytes(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("nothing persisted here has 2^32 members"));
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
