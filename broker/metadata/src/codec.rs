//! The bytes that everything this crate persists or sends is made of: unsigned LEB128 numbers, zigzag
//! for signed ones, length-prefixed text. Decoding takes hostile bytes: it never panics, and reserves
//! no more than the bytes that are there can hold.

use std::sync::Arc;

use tidemill_records::NodeId;
use uuid::Uuid;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// They go on after the end.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// A number does not fit, a tag is unknown, or text is not UTF-8.
    #[error("the bytes of {0} are not valid")]
    Invalid(&'static str),
    /// A newer release wrote them.
    #[error(
        "{what} {kind} version {version} is newer than this release understands: run the release that wrote it, or a later one"
    )]
    Newer {
        /// What they encode.
        what: &'static str,
        /// Its kind.
        kind: u16,
        /// Its version.
        version: u8,
    },
    /// The checksum disagrees.
    #[error("the checksum of {0} does not match its bytes")]
    Checksum(&'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.u64(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.i64(i64::from(value));
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn uuid(&mut self, id: Uuid) {
        self.raw(id.as_bytes());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn nodes(&mut self, nodes: &[NodeId]) {
        self.count(nodes.len());
        for node in nodes {
            self.i32(node.0);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Proves that nothing is left over.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(crate) fn raw(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.raw(1)?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid("a flag")),
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let digit = u64::from(byte & 0x7f);
            if shift == 63 && digit > 1 {
                break;
            }
            value |= digit << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid("a number"))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        let zigzag = self.u64()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.i64()?).map_err(|_| DecodeError::Invalid("a number of 32 bits"))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        u16::try_from(self.u64()?).map_err(|_| DecodeError::Invalid("a number of 16 bits"))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError::Invalid("a number of 32 bits"))
    }

    /// A count of things that take at least one byte each: more than the bytes left is a lie.
    pub(crate) fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.u64()?;
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.rest.len())
            .ok_or(DecodeError::Truncated)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count()?;
        self.raw(len)
    }

    pub(crate) fn text(&mut self) -> Result<Arc<str>, DecodeError> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Invalid("text"))?;
        Ok(text.into())
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        let bytes = self.raw(16)?.try_into().expect("sixteen bytes were taken");
        Ok(Uuid::from_bytes(bytes))
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count()?;
        // One element of memory may be larger than the byte that announced it: grow as they come.
        let mut list = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    pub(crate) fn nodes(&mut self) -> Result<Vec<NodeId>, DecodeError> {
        self.list(|r| r.i32().map(NodeId))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_and_text_come_back(u in any::<u64>(), i in any::<i64>(), s in ".*", o in any::<Option<i32>>()) {
            let mut w = Writer::default();
            w.u64(u);
            w.i64(i);
            w.text(&s);
            w.option(o, Writer::i32);
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(r.u64()?, u);
            prop_assert_eq!(r.i64()?, i);
            prop_assert_eq!(&*r.text()?, s.as_str());
            prop_assert_eq!(r.option(Reader::i32)?, o);
            r.end()?;
        }
    }

    #[test]
    fn a_lying_count_reserves_nothing() {
        let mut w = Writer::default();
        w.u64(u64::MAX);
        let bytes = w.finish();
        assert_eq!(Reader::new(&bytes).nodes(), Err(DecodeError::Truncated));
    }

    #[test]
    fn numbers_past_64_bits_are_refused() {
        let eleven = [0xffu8; 11];
        assert_eq!(
            Reader::new(&eleven).u64(),
            Err(DecodeError::Invalid("a number"))
        );
        let mut ten = [0xffu8; 10];
        ten[9] = 2;
        assert_eq!(
            Reader::new(&ten).u64(),
            Err(DecodeError::Invalid("a number"))
        );
        ten[9] = 1;
        assert_eq!(Reader::new(&ten).u64(), Ok(u64::MAX));
    }
}
