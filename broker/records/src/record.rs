//! The records inside a batch, decoded without copying.

use std::iter::FusedIterator;

use bytes::Bytes;

use crate::batch::RecordBatch;
use crate::compression::CompressionError;
use crate::header::TimestampType;
use crate::ids::Offset;
use crate::varint::{Cursor, VarintError, put_varlong};

/// The fewest bytes of a record: length, attributes, two deltas, two null lengths, header count.
const RECORD_BYTES_MIN: usize = 7;
/// The fewest bytes of a header: two lengths.
const HEADER_BYTES_MIN: usize = 2;

/// How many bytes opening a batch may bring into being. Uncompressed records are shared and cost none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimit(pub usize);

/// One record. Key, value and headers share the batch's memory, so one record kept keeps the whole batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// Milliseconds since the epoch; -1 for none.
    pub timestamp: i64,
    /// What the record is about.
    pub key: Option<Bytes>,
    /// None is a tombstone where the topic is compacted.
    pub value: Option<Bytes>,
    /// In the order in which the producer gave them.
    pub headers: Headers,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// UTF-8 by convention, which nobody checks; the same key may occur again.
    pub key: Bytes,
    /// May be null.
    pub value: Option<Bytes>,
}

/// A record's headers in their encoded form, known to be well-formed; decoded one by one.
#[derive(Clone, Default)]
pub struct Headers {
    encoded: Bytes,
    count: usize,
}

/// Iterates over [`Headers`].
#[derive(Clone)]
pub struct HeadersIter<'a> {
    encoded: &'a Bytes,
    cursor: Cursor<'a>,
    left: usize,
}

/// Why a batch's records cannot be read. The batch's CRC was right, so its producer wrote them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The batch cannot be decompressed within the limit, or not at all.
    #[error("cannot open the batch: {0}")]
    Compression(#[from] CompressionError),
    /// The bytes are not the records that the header promises.
    #[error("record {index} of the batch is malformed: {fault}")]
    Malformed {
        /// Which record of the batch, from 0.
        index: usize,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The bytes end before the record does.
    #[error("its bytes end early")]
    Truncated,
    /// A number has more bits than its field.
    #[error("a number is too large")]
    Number,
    /// A length or count below what it may be.
    #[error("a length of {0}")]
    Length(i32),
    /// More headers than bytes.
    #[error("{0} headers do not fit into it")]
    HeaderCount(i32),
    /// Offsets must grow, and stay within the batch's.
    #[error("offset delta {0} is out of order or range")]
    OffsetDelta(i32),
    /// More bytes than the record, or the last record, needs.
    #[error("{0} bytes are left over")]
    TrailingBytes(usize),
    /// The batch is too short for its record count.
    #[error("the batch is too short for its {0} records")]
    RecordCount(usize),
}

/// What a walk over all records tells without keeping any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    /// Smallest timestamp; -1 when there are no records.
    pub min_timestamp: i64,
    /// Largest timestamp; -1 when there are no records.
    pub max_timestamp: i64,
    /// The first record with the largest timestamp; [`Offset::NONE`] when there are no records.
    pub max_timestamp_offset: Offset,
    /// How many records have no key.
    pub keyless_records: usize,
    /// How many bytes the records take up uncompressed.
    pub plain_bytes: usize,
}

impl RecordBatch {
    /// Opens the batch. Errors in a record come from the iterator, which ends after the first.
    pub fn records(&self, limit: DecodeLimit) -> Result<RecordIter, RecordError> {
        let body = self.open(limit)?;
        Ok(RecordIter {
            walk: Walk::new(self),
            stamps: Stamps::new(self),
            body,
        })
    }

    /// Decodes every record without keeping it. Offsets are found to grow by one from record to record when the
    /// batch passed [`crate::BatchRules::Produced`], because there are as many records as offsets.
    pub fn validate_records(&self, limit: DecodeLimit) -> Result<RecordsSummary, RecordError> {
        let body = self.open(limit)?;
        let stamps = Stamps::new(self);
        let mut walk = Walk::new(self);
        let mut summary = RecordsSummary {
            min_timestamp: -1,
            max_timestamp: -1,
            max_timestamp_offset: Offset::NONE,
            keyless_records: 0,
            plain_bytes: body.len(),
        };
        while let Some(raw) = walk.next(&body)? {
            let timestamp = stamps.timestamp(&raw);
            let first = summary.max_timestamp_offset == Offset::NONE;
            if first || timestamp < summary.min_timestamp {
                summary.min_timestamp = timestamp;
            }
            if first || timestamp > summary.max_timestamp {
                summary.max_timestamp = timestamp;
                summary.max_timestamp_offset = stamps.offset(&raw);
            }
            summary.keyless_records += usize::from(raw.key.is_none());
        }
        Ok(summary)
    }

    fn open(&self, limit: DecodeLimit) -> Result<Bytes, RecordError> {
        let body = self.compression().decompress(self.body(), limit.0)?;
        // Counts are checked before anyone reserves memory by them.
        if body.len() / RECORD_BYTES_MIN < self.record_count() {
            let fault = RecordFault::RecordCount(self.record_count());
            return Err(RecordError::Malformed { index: 0, fault });
        }
        Ok(body)
    }
}

/// Iterates over the records of a batch, in order.
#[derive(Clone)]
pub struct RecordIter {
    walk: Walk,
    stamps: Stamps,
    body: Bytes,
}

impl Iterator for RecordIter {
    type Item = Result<Record, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.walk.next(&self.body) {
            Ok(None) => return None,
            Ok(Some(raw)) => Ok(self.stamps.record(&raw, &self.body)),
            Err(error) => Err(error),
        };
        if next.is_err() {
            // Nothing more comes out of an exhausted walk over nothing.
            self.body = Bytes::new();
            (self.walk.at, self.walk.left) = (0, 0);
        }
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for the error about trailing bytes.
        (0, Some(self.walk.left + 1))
    }
}

impl FusedIterator for RecordIter {}

/// A record as it lies in the batch's bytes.
struct RawRecord<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: usize,
    headers: &'a [u8],
}

impl<'a> RawRecord<'a> {
    #[inline]
    fn read(cursor: &mut Cursor<'a>) -> Result<Self, RecordFault> {
        let length = cursor.varint()?;
        let length = usize::try_from(length).map_err(|_| RecordFault::Length(length))?;
        let mut cursor = Cursor::new(cursor.take(length).ok_or(RecordFault::Truncated)?);
        // The record's attributes have no meaning yet.
        cursor.byte().ok_or(RecordFault::Truncated)?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = nullable(&mut cursor)?;
        let value = nullable(&mut cursor)?;
        let count = cursor.varint()?;
        let header_count = usize::try_from(count).map_err(|_| RecordFault::Length(count))?;
        if cursor.remaining() / HEADER_BYTES_MIN < header_count {
            return Err(RecordFault::HeaderCount(count));
        }
        let headers_cursor = cursor;
        for _ in 0..header_count {
            read_header(&mut cursor)?;
        }
        if cursor.remaining() > 0 {
            return Err(RecordFault::TrailingBytes(cursor.remaining()));
        }
        let headers = headers_cursor.rest();
        Ok(Self {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
        })
    }
}

fn nullable<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, RecordFault> {
    match cursor.varint()? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| RecordFault::Length(length))?;
            Ok(Some(cursor.take(length).ok_or(RecordFault::Truncated)?))
        }
    }
}

/// Reads one header's key and value.
fn read_header<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), RecordFault> {
    let key = nullable(cursor)?.ok_or(RecordFault::Length(-1))?;
    Ok((key, nullable(cursor)?))
}

impl From<VarintError> for RecordFault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::Overflow => Self::Number,
        }
    }
}

/// The walk over a batch's opened bytes.
#[derive(Clone)]
struct Walk {
    at: usize,
    index: usize,
    left: usize,
    previous_delta: i32,
    last_delta: i32,
}

impl Walk {
    fn new(batch: &RecordBatch) -> Self {
        Self {
            at: 0,
            index: 0,
            left: batch.record_count(),
            previous_delta: -1,
            last_delta: batch.delta(),
        }
    }

    #[inline]
    fn next<'a>(&mut self, body: &'a [u8]) -> Result<Option<RawRecord<'a>>, RecordError> {
        let mut cursor = Cursor::new(&body[self.at..]);
        if self.left == 0 {
            return match cursor.remaining() {
                0 => Ok(None),
                over => Err(self.malformed(RecordFault::TrailingBytes(over))),
            };
        }
        let raw = RawRecord::read(&mut cursor).map_err(|fault| self.malformed(fault))?;
        if raw.offset_delta <= self.previous_delta || raw.offset_delta > self.last_delta {
            return Err(self.malformed(RecordFault::OffsetDelta(raw.offset_delta)));
        }
        self.previous_delta = raw.offset_delta;
        self.at += cursor.position();
        self.left -= 1;
        self.index += 1;
        Ok(Some(raw))
    }

    fn malformed(&self, fault: RecordFault) -> RecordError {
        RecordError::Malformed {
            index: self.index,
            fault,
        }
    }
}

/// What a batch's header says about each record.
#[derive(Clone)]
struct Stamps {
    base_offset: Offset,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl Stamps {
    fn new(batch: &RecordBatch) -> Self {
        let by_leader = batch.timestamp_type() == TimestampType::LogAppendTime;
        Self {
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            append_time: by_leader.then(|| batch.max_timestamp()),
        }
    }

    fn offset(&self, raw: &RawRecord<'_>) -> Offset {
        self.base_offset + i64::from(raw.offset_delta)
    }

    /// Wraps around where a delta is absurd, as Kafka's own reader does.
    fn timestamp(&self, raw: &RawRecord<'_>) -> i64 {
        self.append_time
            .unwrap_or_else(|| self.base_timestamp.wrapping_add(raw.timestamp_delta))
    }

    #[inline]
    fn record(&self, raw: &RawRecord<'_>, body: &Bytes) -> Record {
        Record {
            offset: self.offset(raw),
            timestamp: self.timestamp(raw),
            key: raw.key.map(|key| body.slice_ref(key)),
            value: raw.value.map(|value| body.slice_ref(value)),
            headers: Headers {
                encoded: body.slice_ref(raw.headers),
                count: raw.header_count,
            },
        }
    }
}

impl Headers {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> HeadersIter<'_> {
        let cursor = Cursor::new(&self.encoded);
        HeadersIter {
            encoded: &self.encoded,
            cursor,
            left: self.count,
        }
    }

    /// The headers in order, as slices.
    pub fn slices(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut cursor = Cursor::new(&self.encoded);
        (0..self.count).map(move |_| {
            read_header(&mut cursor).expect("headers are checked when their record is decoded")
        })
    }

    /// Length of the wire form, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The wire form, without the count.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl Iterator for HeadersIter<'_> {
    type Item = RecordHeader;

    fn next(&mut self) -> Option<RecordHeader> {
        self.left = self.left.checked_sub(1)?;
        let (key, value) = read_header(&mut self.cursor)
            .expect("headers are checked when their record is decoded");
        Some(RecordHeader {
            key: self.encoded.slice_ref(key),
            value: value.map(|value| self.encoded.slice_ref(value)),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for HeadersIter<'_> {}

impl<'a> IntoIterator for &'a Headers {
    type Item = RecordHeader;
    type IntoIter = HeadersIter<'a>;

    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl FromIterator<RecordHeader> for Headers {
    fn from_iter<I: IntoIterator<Item = RecordHeader>>(headers: I) -> Self {
        let mut encoded = Vec::new();
        let mut count = 0;
        for header in headers {
            put_nullable(&mut encoded, Some(&header.key));
            put_nullable(&mut encoded, header.value.as_deref());
            count += 1;
        }
        Self {
            encoded: encoded.into(),
            count,
        }
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        // Numbers can be encoded longer than they need be, so equal headers can differ in bytes.
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Appends a length and the bytes, or -1 for null.
pub(crate) fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
