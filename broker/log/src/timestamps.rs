//! Offsets by time: what ListOffsets asks.

use tidemill_records::{
    CompressionError, DecodeLimit, LeaderEpoch, Offset, RecordBatch, RecordError,
};
use tidemill_storage::fs::OpenMode;

use crate::error::ReadError;
use crate::files::FileKind;
use crate::index::{TimeEntry, search};
use crate::partition_log::PartitionLog;
use crate::read::{LogRead, is_torn};
use crate::state::State;

/// One step of a search through batches.
const SCAN_BYTES: usize = 1 << 20;
/// What a batch may decompress to while we look for a record in it. Of one that becomes more, the answer is the first
/// offset: whoever reads from there misses nothing.
const DECODE_LIMIT: DecodeLimit = DecodeLimit(16 << 20);

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's offset.
    pub offset: Offset,
    /// Its timestamp, in ms since the epoch.
    pub timestamp: i64,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
}

/// A segment that may hold what is looked for.
struct Candidate {
    base: Offset,
    next_offset: Offset,
    start: Offset,
    time_entries: u32,
}

impl PartitionLog {
    /// The first record below `up_to` whose timestamp is `timestamp` or later.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        up_to: Offset,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let mut from = Offset::ZERO;
        while let Some(candidate) = self.with_state(|state| candidate(state, timestamp, from)) {
            let start = self.indexed_start(&candidate, timestamp)?;
            let end = up_to.min(candidate.next_offset);
            if let Some(found) = self.scan_for(timestamp, start, candidate.start, end)? {
                return Ok(Some(found));
            }
            from = candidate.next_offset;
            if from >= up_to {
                break;
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp below `up_to`.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimestampedOffset>, ReadError> {
        let largest = self.with_state(|state| {
            let largest = state.segments.iter().map(|segment| segment.largest);
            let visible = largest
                .filter(|entry| entry.timestamp >= 0 && entry.offset < up_to)
                .filter(|entry| entry.offset >= state.local_log_start);
            // Of equal timestamps the first counts, which `max_by_key` would not give.
            visible.rev().max_by_key(|entry| entry.timestamp)
        });
        match largest {
            None => Ok(None),
            Some(entry) => self.scan_for(entry.timestamp, entry.offset, Offset::ZERO, up_to),
        }
    }

    /// An offset before which no record of the segment is as late as `timestamp`.
    fn indexed_start(&self, candidate: &Candidate, timestamp: i64) -> Result<Offset, ReadError> {
        if candidate.time_entries == 0 {
            return Ok(candidate.start);
        }
        let (base, kind) = (candidate.base, FileKind::TimeIndex);
        let open = || {
            let path = self.segment_path(base, kind);
            self.shared.fs.open(&path, OpenMode::ReadWrite)
        };
        let at_or_before = |entry: &TimeEntry| entry.timestamp <= timestamp;
        let found = self
            .open_or(base, kind, open)
            .and_then(|file| search(&*file, base, candidate.time_entries, at_or_before));
        match found {
            Ok(entry) => Ok(entry.map_or(candidate.start, |entry| {
                candidate.start.max(entry.offset.min(candidate.next_offset))
            })),
            Err(error) if is_torn(&error) => {
                self.rebuild_indexes(base)?;
                Ok(candidate.start)
            }
            Err(error) => Err(self.io_error(base, kind, error)),
        }
    }

    /// The first record from `start` on, not before `first`, that is as late as `timestamp` and below `end`.
    fn scan_for(
        &self,
        timestamp: i64,
        start: Offset,
        first: Offset,
        end: Offset,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let mut from = start;
        while from < end {
            let read = self.read(from, end, SCAN_BYTES, true)?;
            if read.bytes == 0 {
                break;
            }
            let next = read.next;
            let batches = read.into_batches().map_err(|_| ReadError::Corrupt {
                base: from,
                position: 0,
            })?;
            if let Some(found) = self.first_as_late(&batches, timestamp, first)? {
                return Ok(Some(found));
            }
            from = next;
        }
        Ok(None)
    }

    /// The first record of what was read, not before `first`, that is as late as `timestamp`.
    pub fn find_in_read(
        &self,
        read: LogRead,
        timestamp: i64,
        first: Offset,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let corrupt = |_| ReadError::Corrupt {
            base: first,
            position: 0,
        };
        let batches = read.into_batches().map_err(corrupt)?;
        self.first_as_late(&batches, timestamp, first)
    }

    fn first_as_late(
        &self,
        batches: &[RecordBatch],
        timestamp: i64,
        first: Offset,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        for batch in batches {
            if batch.max_timestamp() < timestamp {
                continue;
            }
            let _alone = self.shared.opens_alone(batch);
            if let Some(found) = find_in_batch(batch, timestamp, first)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The first segment that ends after `from` and has a record as late as `timestamp`.
fn candidate(state: &State, timestamp: i64, from: Offset) -> Option<Candidate> {
    let mut segments = state.segments.iter();
    let segment = segments.find(|segment| {
        segment.next_offset > from
            && segment.next_offset > state.local_log_start
            && segment.largest.timestamp >= timestamp
    })?;
    Some(Candidate {
        base: segment.base,
        next_offset: segment.next_offset,
        start: segment.base.max(state.local_log_start),
        time_entries: segment.time_written(),
    })
}

fn find_in_batch(
    batch: &RecordBatch,
    timestamp: i64,
    first: Offset,
) -> Result<Option<TimestampedOffset>, ReadError> {
    let found = |offset, timestamp| TimestampedOffset {
        offset,
        timestamp,
        leader_epoch: batch.leader_epoch(),
    };
    let records = match batch.records(DECODE_LIMIT) {
        Err(RecordError::Compression(CompressionError::TooLarge { .. })) => {
            let offset = batch.base_offset().max(first);
            return Ok(Some(found(offset, batch.max_timestamp())));
        }
        records => records?,
    };
    for record in records {
        let record = record?;
        if record.timestamp >= timestamp && record.offset >= first {
            return Ok(Some(found(record.offset, record.timestamp)));
        }
    }
    Ok(None)
}
