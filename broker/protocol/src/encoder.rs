//! Writing Kafka's wire format as a chain of chunks.
//!
//! Small values are copied into one growing buffer; large [`Bytes`] (record batches, mostly) are
//! passed on by reference and end up in the frame as chunks of their own.

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use crate::decoder::STRING_BYTES_MAX;
use crate::records::Records;
use crate::text::Str;

/// From this size on bytes are chained instead of copied: below it a copy costs less than one more
/// entry in a vectored write.
const CHAIN_BYTES_MIN: usize = 1024;

/// Bytes of the frame's length, which the buffer starts with.
const LENGTH_BYTES: usize = 4;

/// Why a message cannot be written in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The schema does not have this version.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Name of the message.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field is set that the version lacks, and the reader must not miss it.
    #[error("{part}.{field} is set, but version {version} does not have it")]
    NotInVersion {
        /// Name of the struct.
        part: &'static str,
        /// Name of the field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A field is null that the version does not allow to be null.
    #[error("{part}.{field} is null, which version {version} does not allow")]
    UnexpectedNull {
        /// Name of the struct.
        part: &'static str,
        /// Name of the field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// A string over 32,767 bytes, or bytes, an array or a frame over 2 GiB.
    #[error("a value of length {0} is too long for the wire")]
    TooLong(usize),
    /// Unknown tagged fields out of order, or with the tag of a known one.
    #[error("tagged field {0} is out of order")]
    TagOrder(u32),
}

type Result<T> = std::result::Result<T, EncodeError>;

impl EncodeError {
    #[cold]
    pub(crate) fn not_in_version(
        part: &'static str,
        field: &'static str,
        version: i16,
    ) -> EncodeError {
        EncodeError::NotInVersion {
            part,
            field,
            version,
        }
    }
}

/// The value of a field that may be null, in a version where it may not.
pub(crate) fn required<'a, T>(
    value: &'a Option<T>,
    part: &'static str,
    field: &'static str,
    version: i16,
) -> Result<&'a T> {
    value.as_ref().ok_or(EncodeError::UnexpectedNull {
        part,
        field,
        version,
    })
}

/// An encoded frame: its length in four bytes, and what follows, to be written in one vectored write.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The parts, none of them empty.
    pub chunks: Vec<Bytes>,
    /// Bytes of all chunks together.
    pub len: usize,
}

impl Frame {
    /// Copies the chunks into one piece.
    pub fn to_bytes(&self) -> Bytes {
        self.chunks.concat().into()
    }
}

/// What has been written so far.
#[derive(Debug)]
pub struct Encoder {
    /// Everything that was copied; starts with room for the frame's length.
    copied: Vec<u8>,
    /// Everything that was not, each with the position in `copied` that it goes before.
    chained: Vec<(usize, Bytes)>,
    chained_bytes: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An empty frame.
    pub fn new() -> Encoder {
        let mut copied = Vec::with_capacity(256);
        copied.resize(LENGTH_BYTES, 0);
        Encoder {
            copied,
            chained: Vec::new(),
            chained_bytes: 0,
        }
    }

    /// The frame, with its length in front.
    pub fn finish(mut self) -> Result<Frame> {
        let body = self.body_bytes();
        let length = i32::try_from(body).map_err(|_| EncodeError::TooLong(body))?;
        self.copied[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        let mut chunks = Vec::with_capacity(2 * self.chained.len() + 1);
        let copied = Bytes::from(self.copied);
        let mut start = 0;
        for (position, bytes) in self.chained {
            if position > start {
                chunks.push(copied.slice(start..position));
                start = position;
            }
            chunks.push(bytes);
        }
        if start < copied.len() {
            chunks.push(copied.slice(start..));
        }
        Ok(Frame {
            chunks,
            len: LENGTH_BYTES + body,
        })
    }

    /// What was written in one piece, without a length in front.
    pub fn into_bytes(self) -> Bytes {
        if self.chained.is_empty() {
            return Bytes::from(self.copied).slice(LENGTH_BYTES..);
        }
        let mut joined = Vec::with_capacity(self.body_bytes());
        let mut start = LENGTH_BYTES;
        for (position, bytes) in &self.chained {
            joined.extend_from_slice(&self.copied[start..*position]);
            joined.extend_from_slice(bytes);
            start = *position;
        }
        joined.extend_from_slice(&self.copied[start..]);
        joined.into()
    }

    fn body_bytes(&self) -> usize {
        self.copied.len() - LENGTH_BYTES + self.chained_bytes
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.copied.push(u8::from(value));
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn u16(&mut self, value: u16) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn u32(&mut self, value: u32) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn f64(&mut self, value: f64) {
        self.copied.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.copied.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn varint(&mut self, value: u32) {
        let (bytes, count) = varint(value);
        self.copied.extend_from_slice(&bytes[..count]);
    }

    fn chain(&mut self, bytes: &Bytes) {
        if bytes.len() < CHAIN_BYTES_MIN {
            self.copied.extend_from_slice(bytes);
        } else {
            self.chained_bytes += bytes.len();
            self.chained.push((self.copied.len(), bytes.clone()));
        }
    }

    /// A length of one more than the value, 0 for null.
    fn compact_length(&mut self, length: Option<usize>) -> Result<()> {
        let Some(length) = length else {
            self.varint(0);
            return Ok(());
        };
        // As long as the value fits without compact encoding, so that versions do not differ.
        i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?;
        self.varint(length as u32 + 1);
        Ok(())
    }

    /// A length of 32 bits, -1 for null.
    fn length(&mut self, flexible: bool, length: Option<usize>) -> Result<()> {
        if flexible {
            return self.compact_length(length);
        }
        let length = length.map_or(Ok(-1), |length| {
            i32::try_from(length).map_err(|_| EncodeError::TooLong(length))
        });
        self.i32(length?);
        Ok(())
    }

    pub(crate) fn string(&mut self, flexible: bool, value: &Str) -> Result<()> {
        self.nullable_string(flexible, Some(value))
    }

    pub(crate) fn nullable_string(&mut self, flexible: bool, value: Option<&Str>) -> Result<()> {
        let length = value.map(|value| value.len());
        if let Some(length) = length.filter(|length| *length > STRING_BYTES_MAX) {
            return Err(EncodeError::TooLong(length));
        }
        if flexible {
            self.compact_length(length)?;
        } else {
            self.i16(length.map_or(-1, |length| length as i16));
        }
        self.copied
            .extend_from_slice(value.map_or(&[], |value| value.as_bytes()));
        Ok(())
    }

    pub(crate) fn bytes(&mut self, flexible: bool, value: &Bytes) -> Result<()> {
        self.nullable_bytes(flexible, Some(value))
    }

    pub(crate) fn nullable_bytes(&mut self, flexible: bool, value: Option<&Bytes>) -> Result<()> {
        self.length(flexible, value.map(Bytes::len))?;
        if let Some(value) = value {
            self.chain(value);
        }
        Ok(())
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn records(&mut self, flexible: bool, value: &Records) -> Result<()> {
        self.nullable_records(flexible, Some(value))
    }

    pub(crate) fn nullable_records(
        &mut self,
        flexible: bool,
        value: Option<&Records>,
    ) -> Result<()> {
        self.length(flexible, value.map(Records::len))?;
        if let Some(value) = value {
            value.chunks().for_each(|chunk| self.chain(chunk));
        }
        Ok(())
    }

    /// A struct that may be null: one byte, -1 for null and else 1, goes before it.
    pub(crate) fn nullable_struct<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Encoder, &T) -> Result<()>,
    ) -> Result<()> {
        let Some(value) = value else {
            self.i8(-1);
            return Ok(());
        };
        self.i8(1);
        write(self, value)
    }

    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        elements: &[T],
        write: impl FnMut(&mut Encoder, &T) -> Result<()>,
    ) -> Result<()> {
        self.nullable_array(flexible, Some(elements), write)
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        elements: Option<&[T]>,
        mut write: impl FnMut(&mut Encoder, &T) -> Result<()>,
    ) -> Result<()> {
        self.length(flexible, elements.map(<[T]>::len))?;
        elements
            .unwrap_or_default()
            .iter()
            .try_for_each(|element| write(self, element))
    }

    /// Starts the tagged fields of a struct: `known` of them follow by [`TaggedFields::field`] in
    /// ascending order, and `unknown` are merged in.
    pub(crate) fn tagged_fields<'a>(
        &'a mut self,
        known: usize,
        unknown: &'a [(u32, Bytes)],
    ) -> Result<TaggedFields<'a>> {
        let count = known + unknown.len();
        self.varint(u32::try_from(count).map_err(|_| EncodeError::TooLong(count))?);
        Ok(TaggedFields {
            encoder: self,
            unknown,
            last: None,
        })
    }
}

/// Tagged fields being written.
pub(crate) struct TaggedFields<'a> {
    encoder: &'a mut Encoder,
    unknown: &'a [(u32, Bytes)],
    last: Option<u32>,
}

impl TaggedFields<'_> {
    /// Writes the next known field, whose size goes before it.
    pub(crate) fn field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Encoder) -> Result<()>,
    ) -> Result<()> {
        self.unknown_below(tag)?;
        self.tag(tag)?;
        let encoder = &mut *self.encoder;
        let start = encoder.copied.len();
        let chained = encoder.chained.len();
        let before = encoder.body_bytes();
        write(encoder)?;
        let size = encoder.body_bytes() - before;
        let size = u32::try_from(size).map_err(|_| EncodeError::TooLong(size))?;
        // The size was not known, so what is there moves to make room for it; it is short.
        let (bytes, count) = varint(size);
        encoder
            .copied
            .splice(start..start, bytes[..count].iter().copied());
        for (position, _) in &mut encoder.chained[chained..] {
            *position += count;
        }
        Ok(())
    }

    /// Writes the unknown fields that are left.
    pub(crate) fn finish(mut self) -> Result<()> {
        while let Some((field, rest)) = self.unknown.split_first() {
            self.unknown = rest;
            self.unknown_field(field)?;
        }
        Ok(())
    }

    fn unknown_below(&mut self, tag: u32) -> Result<()> {
        while let Some((field, rest)) = self.unknown.split_first() {
            if field.0 >= tag {
                break;
            }
            self.unknown = rest;
            self.unknown_field(field)?;
        }
        Ok(())
    }

    fn unknown_field(&mut self, (tag, value): &(u32, Bytes)) -> Result<()> {
        self.tag(*tag)?;
        let size = value.len();
        self.encoder
            .varint(u32::try_from(size).map_err(|_| EncodeError::TooLong(size))?);
        self.encoder.chain(value);
        Ok(())
    }

    fn tag(&mut self, tag: u32) -> Result<()> {
        if self.last.is_some_and(|last| tag <= last) {
            return Err(EncodeError::TagOrder(tag));
        }
        self.last = Some(tag);
        self.encoder.varint(tag);
        Ok(())
    }
}

/// The bytes of an unsigned varint, and how many of them count.
fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut count = 0;
    while value >= 0x80 {
        bytes[count] = value as u8 | 0x80;
        value >>= 7;
        count += 1;
    }
    bytes[count] = value as u8;
    (bytes, count + 1)
}

#[cfg(test)]
mod tests;
