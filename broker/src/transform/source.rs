//! The records that a task reads.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_log::{AbortedTransaction, ReadError};
use tidemill_records::{
    Compression, CompressionError, DecodeLimit, LeaderEpoch, Offset, Record, RecordBatch,
    RecordError, RecordIter, TimestampType,
};
use tidemill_transforms::{FRAME_BYTES_MAX, FRAME_RECORDS_MAX, content_bytes};

use super::trouble::Trouble;
use crate::broker::Broker;
use crate::partition::{Isolation, Partition, PartitionError};
use crate::tiering::RemoteWanted;

/// One read of the source.
const READ_BYTES: usize = 1 << 20;
/// A batch that opens to more is large: few tasks may hold such a one at a time.
const OPENED: DecodeLimit = DecodeLimit(4 << 20);
/// A batch that opens to more is not opened.
const OPENED_LARGE: DecodeLimit = DecodeLimit(64 << 20);

/// Opening so many bytes that are not compressed takes less than handing them to another thread.
const PLAIN_BYTES_SMALL: usize = 64 << 10;

/// Batches that were read and not yet given to the function. Records are taken from them frame by frame: a batch of a megabyte can
/// have a million of them.
pub(super) struct Batches {
    batches: VecDeque<RecordBatch>,
    /// Whose records were not all taken yet.
    half_taken: Option<HalfTaken>,
    aborted: Vec<AbortedTransaction>,
    /// What was not taken begins here; the first batch may begin earlier.
    from: Offset,
    /// Where the next read goes on.
    pub(super) next: Offset,
}

struct HalfTaken {
    batch: RecordBatch,
    records: RecordIter,
}

/// Records of one or more batches, no more than a frame has.
pub(super) struct Opened {
    pub(super) records: Vec<Record>,
    /// Where the task goes on behind them.
    pub(super) next: Offset,
    /// Their codec, for what is written.
    pub(super) compression: Compression,
    /// What their timestamps are.
    pub(super) stamped: TimestampType,
    /// The batch behind them cannot be opened.
    pub(super) unreadable: Option<Unreadable>,
}

/// A batch whose records nobody can read, though its checksum is right: its producer wrote it so.
pub(super) struct Unreadable {
    /// The first that cannot be read.
    pub(super) from: Offset,
    pub(super) batch: RecordBatch,
    pub(super) error: RecordError,
}

/// Where what can be read ends.
pub(super) fn end(partition: &Partition) -> Offset {
    partition.end_for(Isolation::Committed)
}

/// Reads from `from`, here or from the tier; nothing when there is nothing more. What retention has taken is passed over: then the
/// offset at which the log starts comes back too.
pub(super) async fn read(
    broker: &Broker,
    partition: &Arc<Partition>,
    from: Offset,
    epoch: LeaderEpoch,
) -> Result<(Batches, Option<Offset>), Trouble> {
    let start = partition.log.log_start_offset();
    let passed_over = (from < start).then_some(start);
    let from = from.max(start);
    let read = match partition.read(from, epoch, Isolation::Committed, READ_BYTES, true) {
        Err(PartitionError::Read(ReadError::NotLocal { .. })) => {
            let tier = broker.tier.as_ref().ok_or(Trouble::NoTier)?;
            let wanted = RemoteWanted {
                from,
                up_to: end(partition),
                bytes_max: READ_BYTES,
                at_least_one: true,
            };
            let read = tier.read(broker, partition, wanted).await;
            let (records, aborted) =
                read.inspect_err(|error| tier.note_read_error(partition, error))?;
            let aborted = aborted.into_iter().map(|entry| AbortedTransaction {
                producer_id: entry.producer_id,
                first_offset: entry.first,
                last_offset: entry.last,
            });
            partition.read_of_tier(records, aborted.collect(), Isolation::Committed)
        }
        read => read?,
    };
    let next = read.records.next;
    let batches = read.records.into_batches()?;
    let batches = Batches {
        batches: batches.into(),
        half_taken: None,
        aborted: read.aborted.unwrap_or_default(),
        from,
        next,
    };
    Ok((batches, passed_over))
}

impl Batches {
    /// Whether all their records were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.half_taken.is_none()
    }

    /// Whether taking records from them is nothing that others would have to wait for.
    pub(super) fn are_cheap(&self) -> bool {
        if self.half_taken.is_some() {
            return true;
        }
        let is_plain = |batch: &RecordBatch| batch.compression() == Compression::None;
        let bytes: usize = self.batches.iter().map(|batch| batch.size_bytes()).sum();
        bytes <= PLAIN_BYTES_SMALL && self.batches.iter().all(is_plain)
    }

    /// Takes as many records as make a frame; none when the first batch is large and the caller has no room for such.
    pub(super) fn open(&mut self, has_room: bool) -> Option<Opened> {
        let opened = self.frame(has_room)?;
        self.from = opened.next;
        Some(opened)
    }

    fn frame(&mut self, has_room: bool) -> Option<Opened> {
        let half_taken = self.half_taken.as_ref().map(|half| &half.batch);
        let first = half_taken.or(self.batches.front());
        let mut opened = Opened {
            records: Vec::new(),
            next: self.from,
            compression: first.map_or(Compression::None, |first| first.compression()),
            stamped: first.map_or(TimestampType::CreateTime, |first| first.timestamp_type()),
            unreadable: None,
        };
        let is_half_taken = half_taken.is_some();
        let mut bytes = 0;
        loop {
            let mut taken = match self.half_taken.take() {
                Some(half_taken) => half_taken,
                None if is_half_taken => return Some(opened),
                None => {
                    let next = |batch: &mut RecordBatch| {
                        batch.timestamp_type() == opened.stamped
                            && batch.compression() == opened.compression
                    };
                    let Some(batch) = self.batches.pop_front_if(next) else {
                        return Some(opened);
                    };
                    if !self.is_visible(&batch) {
                        opened.next = batch.next_offset();
                        continue;
                    }
                    match batch.records(if has_room { OPENED_LARGE } else { OPENED }) {
                        Ok(records) => HalfTaken { batch, records },
                        Err(RecordError::Compression(CompressionError::TooLarge { .. }))
                            if !has_room =>
                        {
                            self.batches.push_front(batch);
                            let is_first = opened.next == self.from;
                            return (!is_first).then_some(opened);
                        }
                        Err(error) => return Some(self.unreadable(opened, batch, error)),
                    }
                }
            };
            match self.fill(&mut opened, &mut bytes, &mut taken.records) {
                Ok(true) => opened.next = taken.batch.next_offset(),
                Ok(false) => {
                    self.half_taken = Some(taken);
                    return Some(opened);
                }
                Err(error) => return Some(self.unreadable(opened, taken.batch, error)),
            }
        }
    }

    /// Takes records until there are enough for a frame; whether all were taken.
    fn fill(
        &self,
        opened: &mut Opened,
        bytes: &mut usize,
        records: &mut RecordIter,
    ) -> Result<bool, RecordError> {
        while *bytes < FRAME_BYTES_MAX && opened.records.len() < FRAME_RECORDS_MAX {
            let Some(record) = records.next().transpose()? else {
                return Ok(true);
            };
            if record.offset >= self.from {
                *bytes += content_bytes(&record);
                opened.next = record.offset + 1;
                opened.records.push(record);
            }
        }
        Ok(false)
    }

    fn unreadable(&self, mut opened: Opened, batch: RecordBatch, error: RecordError) -> Opened {
        let from = opened.next.max(batch.base_offset());
        opened.next = batch.next_offset();
        opened.unreadable = Some(Unreadable { from, batch, error });
        opened
    }

    /// Whether it has records, of nobody's aborted transaction.
    fn is_visible(&self, batch: &RecordBatch) -> bool {
        let (producer, at) = (batch.producer_id(), batch.base_offset());
        let aborts = |aborted: &AbortedTransaction| {
            aborted.producer_id == producer
                && (aborted.first_offset..=aborted.last_offset).contains(&at)
        };
        let is_aborted = batch.is_transactional() && self.aborted.iter().any(aborts);
        !batch.is_control() && !is_aborted
    }
}
