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
    pub(crate) source: &'a Source,
    pub(crate) records: &'a [Record],
    pub(crate) stamped: TimestampType,
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

fn content_bytes(record: &Record) -> usize {
    let of = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    let headers = record.headers.slices();
    let headers = headers.map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len));
    of(&record.key) + of(&record.value) + headers.sum::<usize>()
}

impl InputFrame<'_> {
    /// Its length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let content: usize = self.records.iter().map(content_bytes).sum();
        self.heap_at() + self.source.topic.len() + content
    }

    fn headers_at(&self) -> usize {
        HEADER_BYTES + RECORD_BYTES * self.records.len()
    }

    fn heap_at(&self) -> usize {
        let headers = self.records.iter().map(|record| record.headers.len());
        aligned(self.headers_at() + RECORD_HEADER_BYTES * headers.sum::<usize>())
    }

    /// Writes it into `out`, which has exactly [`InputFrame::bytes`] bytes.
    pub(crate) fn write(&self, out: &mut [u8]) {
        let flags = u32::from(self.stamped == TimestampType::LogAppendTime);
        let base = self.records.first().map_or(0, |record| record.offset.0);
        let frame_bytes = out.len() as u32;
        out[..HEADER_BYTES].fill(0);
        put_u32(out, 0, INPUT_MAGIC);
        put_u32(out, 4, HEADER_BYTES as u32);
        put_u32(out, 8, frame_bytes);
        put_u32(out, 12, self.records.len() as u32);
        put_u32(out, 16, HEADER_BYTES as u32);
        put_u32(out, 20, RECORD_BYTES as u32);
        put_u32(out, 28, self.source.partition.0 as u32);
        put_i64(out, 32, base);
        put_u32(out, 40, self.source.leader_epoch.0 as u32);
        let mut headers_at = self.headers_at();
        let heap_at = self.heap_at();
        // The padding before the heap is not the last frame's.
        out[heap_at.saturating_sub(8).max(headers_at)..heap_at].fill(0);
        let mut heap = Heap { out, at: heap_at };
        heap.put_at(48, Some(self.source.topic.as_bytes()));
        for (index, record) in self.records.iter().enumerate() {
            let at = HEADER_BYTES + index * RECORD_BYTES;
            put_i64(heap.out, at, record.timestamp);
            put_u32(heap.out, at + 8, (record.offset.0 - base) as u32);
            heap.put_at(at + 12, record.key.as_deref());
            heap.put_at(at + 20, record.value.as_deref());
            put_u32(heap.out, at + 28, headers_at as u32);
            put_u32(heap.out, at + 32, record.headers.len() as u32);
            put_u32(heap.out, at + 36, flags);
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
}
