//! The input frame and its records: slices of the frame, nothing is copied.

use crate::sections;
use crate::wire::{
    INPUT_HEADER, INPUT_MAGIC, Malformed, PAIR, RECORD, fixed, i32_at, i64_at, open, range,
    size_at, table, u32_at,
};

const APPEND_TIME: u32 = 1;

/// A run of records of one partition.
pub(crate) struct Batch<'a> {
    frame: &'a [u8],
    topic: &'a str,
    partition: i32,
    leader_epoch: i32,
    base_offset: i64,
    records_at: usize,
    stride: usize,
    count: u32,
}

impl<'a> Batch<'a> {
    pub(crate) fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        let (frame, header) = open::<INPUT_HEADER>(frame, INPUT_MAGIC)?;
        sections::check(frame, size_at(header, 24))?;
        let topic = range(frame, header, 48)?.ok_or(Malformed("the topic is null"))?;
        let stride = size_at(header, 20);
        if stride < RECORD {
            return Err(Malformed("the record stride is too short"));
        }
        let count = u32_at(header, 12);
        table(frame, size_at(header, 16), count as usize, stride)?;
        Ok(Self {
            frame,
            topic: std::str::from_utf8(topic).map_err(|_| Malformed("the topic is not UTF-8"))?,
            partition: i32_at(header, 28),
            leader_epoch: i32_at(header, 40),
            base_offset: i64_at(header, 32),
            records_at: size_at(header, 16),
            stride,
            count,
        })
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The record of an index below [`count`](Self::count).
    pub(crate) fn record(&'a self, index: u32) -> Result<Record<'a>, Malformed> {
        let at = self.records_at + index as usize * self.stride;
        let descriptor = fixed::<RECORD>(self.frame, at)?;
        Ok(Record {
            batch: self,
            offset: self
                .base_offset
                .wrapping_add(i64::from(u32_at(descriptor, 8))),
            timestamp: i64_at(descriptor, 0),
            key: range(self.frame, descriptor, 12)?,
            value: range(self.frame, descriptor, 20)?,
            headers: table(
                self.frame,
                size_at(descriptor, 28),
                size_at(descriptor, 32),
                PAIR,
            )?,
            flags: u32_at(descriptor, 36),
        })
    }
}

/// A record of the source partition.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    batch: &'a Batch<'a>,
    offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [u8],
    flags: u32,
}

impl<'a> Record<'a> {
    /// The source topic.
    pub fn topic(&self) -> &'a str {
        self.batch.topic
    }

    /// The source partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// The epoch of the source partition's leader.
    pub fn leader_epoch(&self) -> i32 {
        self.batch.leader_epoch
    }

    /// The offset in the source partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970; `None` where the producer gave none.
    pub fn timestamp(&self) -> Option<i64> {
        (self.timestamp != -1).then_some(self.timestamp)
    }

    /// Whether the timestamp is the broker's, from when the record was appended.
    pub fn is_append_time(&self) -> bool {
        self.flags & APPEND_TIME != 0
    }

    /// The key; `None` is null.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is null, a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers, in the producer's order.
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            frame: self.batch.frame,
            rows: self.headers.chunks_exact(PAIR),
        }
    }

    /// The value of the last header of a name; the outer `None` is a missing header, the inner one a
    /// null value.
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers()
            .filter(|header| header.name == name.as_bytes())
            .last()
            .map(|header| header.value)
    }
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name, UTF-8 where the producer kept to Kafka's rules.
    pub name: &'a [u8],
    /// Its value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record.
#[derive(Clone)]
pub struct Headers<'a> {
    frame: &'a [u8],
    rows: std::slice::ChunksExact<'a, u8>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    /// # Panics
    ///
    /// Where the host's frame is malformed, which ends the instance.
    fn next(&mut self) -> Option<Header<'a>> {
        let row = self.rows.next()?;
        let bytes = |field| range(self.frame, row, field).expect("headers lie inside of the frame");
        Some(Header {
            name: bytes(0).unwrap_or_default(),
            value: bytes(8),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }
}

impl ExactSizeIterator for Headers<'_> {}
