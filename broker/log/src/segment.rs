//! One segment as memory knows it: figures, and the index entries that its files do not have yet.
//!
//! Positions and index entries follow from the batches alone (Kafka's rules), so a replay of the write-ahead log or
//! a scan of the file gives the same bytes as the first time.

use tidemill_records::{BatchHeader, Offset};

use crate::codec::{Put, Reader};
use crate::error::FormatError;
use crate::index::{IndexEntry, OffsetEntry, TimeEntry};

/// Bytes that checkpoints hold per segment.
pub(crate) const ENCODED_BYTES: usize = 80;

/// A segment. `next_offset`, sizes and times include what is not drained yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Offset that its files are named after.
    pub(crate) base: Offset,
    /// End of its records (exclusive).
    pub(crate) next_offset: Offset,
    /// Bytes of its batches.
    pub(crate) size: u32,
    /// Bytes of them that are written to the file.
    pub(crate) drained: u32,
    /// Largest timestamp, with the last offset of the first batch that has it; -1 and the base for none.
    pub(crate) largest: TimeEntry,
    /// Max timestamp of the first batch, from which `segment.ms` counts; -1 for none.
    pub(crate) first_timestamp: i64,
    /// When it was begun: what `segment.ms` counts from when its records have no timestamps.
    pub(crate) created_ms: i64,
    /// When its last batch was appended: what its age counts from when its records have no timestamps.
    pub(crate) last_append_ms: i64,
    /// Entries of the offset index, those not written yet included.
    pub(crate) index_entries: u32,
    /// Position of the last entry, 0 without one.
    pub(crate) index_position: u32,
    /// Entries of the time index, those not written yet included.
    pub(crate) time_entries: u32,
    /// Timestamp of the last entry, -1 without one.
    pub(crate) time_last: i64,
    /// Entries that wait for their batch to be drained.
    pub(crate) index_pending: Vec<OffsetEntry>,
    pub(crate) time_pending: Vec<TimeEntry>,
    /// Which files have bytes that are not synced.
    pub(crate) unsynced: Unsynced,
    /// Bytes of the file that are reserved ahead; only a hint.
    pub(crate) allocated: u64,
}

/// A segment's three files, as flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unsynced {
    pub(crate) log: bool,
    pub(crate) index: bool,
    pub(crate) time: bool,
}

impl Unsynced {
    pub(crate) fn all() -> Unsynced {
        Unsynced {
            log: true,
            index: true,
            time: true,
        }
    }

    pub(crate) fn any(self) -> bool {
        self.log || self.index || self.time
    }
}

/// What makes a segment full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RollRules {
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: i64,
    pub(crate) index_bytes: u32,
}

/// What is about to be appended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming {
    pub(crate) bytes: usize,
    pub(crate) max_timestamp: i64,
    pub(crate) last_offset: Offset,
    pub(crate) now_ms: i64,
}

impl Segment {
    /// An empty segment.
    pub(crate) fn new(base: Offset, now_ms: i64) -> Segment {
        Segment {
            base,
            next_offset: base,
            size: 0,
            drained: 0,
            largest: TimeEntry {
                timestamp: -1,
                offset: base,
            },
            first_timestamp: -1,
            created_ms: now_ms,
            last_append_ms: now_ms,
            index_entries: 0,
            index_position: 0,
            time_entries: 0,
            time_last: -1,
            index_pending: Vec::new(),
            time_pending: Vec::new(),
            unsynced: Unsynced::default(),
            allocated: 0,
        }
    }

    /// Takes in the batch that follows, and decides whether it gets index entries: Kafka's `LogSegment.append`.
    pub(crate) fn push(&mut self, header: &BatchHeader, interval_bytes: u32, append_ms: i64) {
        let last_offset = header.last_offset();
        if self.size == 0 {
            self.first_timestamp = header.max_timestamp();
        }
        if header.max_timestamp() > self.largest.timestamp {
            self.largest = TimeEntry {
                timestamp: header.max_timestamp(),
                offset: last_offset,
            };
        }
        if self.size - self.index_position > interval_bytes {
            self.index_pending.push(OffsetEntry {
                offset: last_offset,
                position: self.size,
            });
            self.index_entries += 1;
            self.index_position = self.size;
            self.index_largest_time();
        }
        self.size += u32::try_from(header.size_bytes()).expect("a batch is smaller than 2 GiB");
        self.next_offset = header.next_offset();
        self.last_append_ms = append_ms;
    }

    /// Time entries only grow in timestamp.
    fn index_largest_time(&mut self) {
        if self.largest.timestamp > self.time_last {
            self.time_pending.push(self.largest);
            self.time_entries += 1;
            self.time_last = self.largest.timestamp;
        }
    }

    /// What changes when the segment stops being the active one: its time index ends with its largest timestamp.
    pub(crate) fn seal(&mut self) {
        self.index_largest_time();
    }

    /// Whether a new segment must begin before `incoming`: Kafka's `LogSegment.shouldRoll`.
    pub(crate) fn is_full_for(&self, incoming: &Incoming, rules: &RollRules) -> bool {
        if self.size == 0 {
            return false;
        }
        let waited_ms = match self.first_timestamp {
            first if first >= 0 => incoming.max_timestamp.saturating_sub(first),
            _ => incoming.now_ms.saturating_sub(self.created_ms),
        };
        let entries_max = |bytes: usize| rules.index_bytes / bytes as u32;
        u64::from(self.size) + incoming.bytes as u64
            > u64::from(rules.segment_bytes.min(i32::MAX as u32))
            || waited_ms > rules.segment_ms
            || self.index_entries >= entries_max(OffsetEntry::BYTES)
            || self.time_entries >= entries_max(TimeEntry::BYTES)
            || incoming.last_offset - self.base > i64::from(i32::MAX)
    }

    /// What its age counts from.
    pub(crate) fn newest_ms(&self) -> i64 {
        match self.largest.timestamp {
            timestamp if timestamp >= 0 => timestamp,
            _ => self.last_append_ms,
        }
    }

    /// Whether the file holds all of it, indexes included.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained == self.size && self.index_pending.is_empty() && self.time_pending.is_empty()
    }

    /// Entries that the index file has.
    pub(crate) fn index_written(&self) -> u32 {
        self.index_entries - self.index_pending.len() as u32
    }

    /// Entries that the time index file has.
    pub(crate) fn time_written(&self) -> u32 {
        self.time_entries - self.time_pending.len() as u32
    }

    /// The segment as it will be once all of it is drained: what a checkpoint holds.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.i64(self.base.0);
        out.i64(self.next_offset.0);
        out.u32(self.size);
        out.i64(self.largest.timestamp);
        out.i64(self.largest.offset.0);
        out.i64(self.first_timestamp);
        out.i64(self.last_append_ms);
        out.u32(self.index_entries);
        out.u32(self.index_position);
        out.u32(self.time_entries);
        out.i64(self.time_last);
        out.i64(self.created_ms);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Segment, FormatError> {
        let base = Offset(reader.i64_from_zero()?);
        let mut segment = Segment::new(base, 0);
        segment.next_offset = Offset(reader.i64_from_zero()?);
        segment.size = reader.u32()?;
        segment.largest.timestamp = reader.i64()?;
        segment.largest.offset = Offset(reader.i64_from_zero()?);
        segment.first_timestamp = reader.i64()?;
        segment.last_append_ms = reader.i64()?;
        segment.index_entries = reader.u32()?;
        segment.index_position = reader.u32()?;
        segment.time_entries = reader.u32()?;
        segment.time_last = reader.i64()?;
        segment.created_ms = reader.i64()?;
        segment.drained = segment.size;
        let ordered = segment.base <= segment.next_offset
            && segment.index_position <= segment.size
            && segment.largest.offset >= segment.base;
        match ordered {
            true => Ok(segment),
            false => Err(FormatError::Range),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_records::{Compression, Headers, LeaderEpoch, RecordBatch, RecordBatchBuilder};

    use super::*;

    fn batch(base: i64, timestamp: i64, value_bytes: usize) -> RecordBatch {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.push(
            timestamp,
            None,
            Some(&vec![7; value_bytes]),
            &Headers::default(),
        );
        let mut batch = builder.build().expect("a batch");
        batch.assign(Offset(base), LeaderEpoch(0));
        batch
    }

    const RULES: RollRules = RollRules {
        segment_bytes: 1_000,
        segment_ms: 100,
        index_bytes: 24,
    };

    fn incoming(bytes: usize, max_timestamp: i64) -> Incoming {
        Incoming {
            bytes,
            max_timestamp,
            last_offset: Offset(9),
            now_ms: 5_000,
        }
    }

    #[test]
    fn index_entries_come_after_more_than_the_interval() {
        let mut segment = Segment::new(Offset(10), 0);
        for at in 0..6 {
            segment.push(&batch(10 + at, 50 - at, 100), 150, 0);
        }
        let size = batch(0, 0, 100).size_bytes() as u32;
        assert_eq!(
            segment.index_pending,
            [
                OffsetEntry {
                    offset: Offset(11),
                    position: size
                },
                OffsetEntry {
                    offset: Offset(12),
                    position: 2 * size
                },
                OffsetEntry {
                    offset: Offset(13),
                    position: 3 * size
                },
                OffsetEntry {
                    offset: Offset(14),
                    position: 4 * size
                },
                OffsetEntry {
                    offset: Offset(15),
                    position: 5 * size
                },
            ]
        );
        assert_eq!(
            segment.time_pending,
            [TimeEntry {
                timestamp: 50,
                offset: Offset(10)
            }],
            "timestamps that do not grow get no entry"
        );
        segment.push(&batch(16, 60, 10), 1_000_000, 0);
        segment.seal();
        segment.seal();
        assert_eq!(
            segment.time_pending[1..],
            [TimeEntry {
                timestamp: 60,
                offset: Offset(16)
            }],
            "the largest timestamp closes the time index"
        );
    }

    #[test]
    fn rolls_by_size_time_and_index() {
        let mut segment = Segment::new(Offset(0), 0);
        assert!(
            !segment.is_full_for(&incoming(2_000, 1), &RULES),
            "an empty one never"
        );
        segment.push(&batch(0, 1_000, 100), 4_096, 4_000);
        let size = segment.size as usize;
        assert!(!segment.is_full_for(&incoming(1_000 - size, 1_100), &RULES));
        assert!(segment.is_full_for(&incoming(1_001 - size, 1_100), &RULES));
        assert!(
            segment.is_full_for(&incoming(1, 1_101), &RULES),
            "by the records' own time"
        );
        segment.time_entries = 2;
        assert!(segment.is_full_for(&incoming(1, 1_100), &RULES));
        segment.time_entries = 0;
        segment.index_entries = 3;
        assert!(segment.is_full_for(&incoming(1, 1_100), &RULES));
    }

    #[test]
    fn records_without_timestamps_roll_by_the_clock() {
        let mut segment = Segment::new(Offset(0), 4_900);
        segment.push(&batch(0, -1, 10), 4_096, 4_950);
        assert!(!segment.is_full_for(&incoming(1, -1), &RULES));
        segment.created_ms = 4_899;
        assert!(segment.is_full_for(&incoming(1, -1), &RULES));
    }

    #[test]
    fn offsets_stay_relative_to_the_base() {
        let mut segment = Segment::new(Offset(0), 0);
        segment.push(&batch(0, 0, 10), 4_096, 0);
        let far = Incoming {
            last_offset: Offset(1 << 31),
            ..incoming(1, 0)
        };
        assert!(segment.is_full_for(&far, &RULES));
    }

    #[test]
    fn encoding_round_trips_and_counts_its_bytes() {
        let mut segment = Segment::new(Offset(10), 0);
        for at in 0..6 {
            segment.push(&batch(10 + at, at, 100), 150, 77);
        }
        let mut bytes = Vec::new();
        segment.encode(&mut bytes);
        assert_eq!(bytes.len(), ENCODED_BYTES);
        let mut reader = Reader::new(&bytes);
        let decoded = Segment::decode(&mut reader).expect("decodes");
        reader.finish().expect("all is read");
        segment.drained = segment.size;
        segment.index_pending.clear();
        segment.time_pending.clear();
        assert_eq!(decoded, segment);
    }
}
