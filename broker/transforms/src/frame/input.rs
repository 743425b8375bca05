//! The input frame: a run of records of one partition.

use std::sync::Arc;

use tidemill_records::{LeaderEpoch, PartitionId, Record, TimestampType};

use super::{Heap, INPUT_MAGIC, aligned, put_i64, put_u32};

/// The most records of a frame.
pub const FRAME_RECORDS_MAX: usize = 1_000;
/// Keys, values and headers of a frame take no more, but for a record that is larger: it has a frame alone.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 40;
const RECORD_HEADER_BYTES: usize = 16;

/// Where records come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The epoch in which its leader gave the records to the function.
    pub leader_epoch: LeaderEpoch,
}

/// A frame before it is written.
pub(crate) struct InputFrame<'a> {
    source: &'a Source,
    records: &'a [Record],
    stamped: TimestampType,
    heap_at: usize,
    bytes: usize,
}

/// How many of these records make the next frame: at least one.
pub fn fitting(records: &[Record]) -> usize {
    let mut bytes = 0;
    let first = records.first().map_or(0, |record| record.offset.0);
    let fits = |record: &&Record| {
        bytes += content_bytes(record);
        bytes <= FRAME_BYTES_MAX && record.offset.0 - first <= i64::from(u32::MAX)
    };
    let count = records.iter().take(FRAME_RECORDS_MAX).take_while(fits);
    count.count().max(1).min(records.len())
}

/// Bytes of key, value and headers.
#[inline]
pub fn content_bytes(record: &Record) -> usize {
    let of = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    if record.headers.is_empty() {
        return of(&record.key) + of(&record.value);
    }
    let headers = record.headers.slices();
    let headers = headers.map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
    of(&record.key) + of(&record.value) + headers.sum::<usize>()
}

impl<'a> InputFrame<'a> {
    pub(crate) fn new(source: &'a Source, records: &'a [Record], stamped: TimestampType) -> Self {
        let (mut headers, mut content) = (0, source.topic.len());
        for record in records {
            headers += record.headers.len();
            content += content_bytes(record);
        }
        let tables = HEADER_BYTES + RECORD_BYTES * records.len() + RECORD_HEADER_BYTES * headers;
        let heap_at = aligned(tables);
        Self {
            source,
            records,
            stamped,
            heap_at,
            bytes: heap_at + content,
        }
    }

    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn records(&self) -> &'a [Record] {
        self.records
    }

    /// Writes it into `out`, which has exactly [`InputFrame::bytes`] bytes.
    pub(crate) fn write(&self, out: &mut [u8]) {
        let base = self.records.first().map_or(0, |record| record.offset.0);
        let mut headers_at = HEADER_BYTES + RECORD_BYTES * self.records.len();
        // The padding before the heap is not the last frame's.
        out[(self.heap_at - 8).max(headers_at)..self.heap_at].fill(0);
        let (head, rest) = out.split_at_mut(HEADER_BYTES);
        self.write_header(base, head);
        let (table, rest) = rest.split_at_mut(headers_at - HEADER_BYTES);
        let mut heap = Heap {
            out: rest,
            before: headers_at,
            at: self.heap_at,
        };
        let (topic_at, topic_len) = heap.put(Some(self.source.topic.as_bytes()));
        put_u32(head, 48, topic_at);
        put_u32(head, 52, topic_len);
        let flags = u32::from(self.stamped == TimestampType::LogAppendTime);
        for (record, descriptor) in self
            .records
            .iter()
            .zip(table.chunks_exact_mut(RECORD_BYTES))
        {
            let (key_at, key_len) = heap.put(record.key.as_deref());
            let (value_at, value_len) = heap.put(record.value.as_deref());
            let fields = [
                (record.offset.0 - base) as u32,
                key_at,
                key_len,
                value_at,
                value_len,
                headers_at as u32,
                record.headers.len() as u32,
                flags,
            ];
            let (stamp, words) = descriptor.split_at_mut(8);
            stamp.copy_from_slice(&record.timestamp.to_le_bytes());
            for (word, field) in words.chunks_exact_mut(4).zip(fields) {
                word.copy_from_slice(&field.to_le_bytes());
            }
            if record.headers.is_empty() {
                continue;
            }
            for (key, value) in record.headers.slices() {
                heap.put_at(headers_at, Some(key));
                heap.put_at(headers_at + 8, value);
                headers_at += RECORD_HEADER_BYTES;
            }
        }
    }

    fn write_header(&self, base: i64, out: &mut [u8]) {
        out.fill(0);
        put_u32(out, 0, INPUT_MAGIC);
        put_u32(out, 4, HEADER_BYTES as u32);
        put_u32(out, 8, self.bytes as u32);
        put_u32(out, 12, self.records.len() as u32);
        put_u32(out, 16, HEADER_BYTES as u32);
        put_u32(out, 20, RECORD_BYTES as u32);
        put_u32(out, 28, self.source.partition.0 as u32);
        put_i64(out, 32, base);
        put_u32(out, 40, self.source.leader_epoch.0 as u32);
    }
}
