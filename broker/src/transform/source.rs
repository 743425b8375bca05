//! The records that a task reads.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_log::{AbortedTransaction, ReadError};
use tidemill_records::{
    Compression, CompressionError, DecodeLimit, LeaderEpoch, Offset, Record, RecordBatch,
    RecordError, TimestampType,
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

/// Batches that were read and not yet opened.
pub(super) struct Batches {
    batches: VecDeque<RecordBatch>,
    aborted: Vec<AbortedTransaction>,
    /// What is wanted begins here; the first batch may begin earlier.
    from: Offset,
    /// Where the next read goes on.
    pub(super) next: Offset,
}

/// Records of one or more batches.
pub(super) struct Opened {
    pub(super) records: Vec<Record>,
    /// Where the task goes on behind them.
    pub(super) next: Offset,
    /// The codec of the first batch, for what is written.
    pub(super) compression: Compression,
    /// What their timestamps are.
    pub(super) stamped: TimestampType,
    /// The batch behind them cannot be opened.
    pub(super) unreadable: Option<Unreadable>,
}

/// A batch whose records nobody can read, though its checksum is right: its producer wrote it so.
pub(super) struct Unreadable {
    pub(super) batch: RecordBatch,
    pub(super) error: RecordError,
}

/// Where what can be read ends.
pub(super) fn end(partition: &Partition) -> Offset {
    partition.end_for(Isolation::Committed)
}

/// Reads from `from`, here or from the tier; nothing when there is nothing more. What retention has taken is passed over, and
/// counted in what comes back.
pub(super) async fn read(
    broker: &Broker,
    partition: &Arc<Partition>,
    from: Offset,
    epoch: LeaderEpoch,
) -> Result<(Batches, u64), Trouble> {
    let start = partition.log.log_start_offset();
    let missed = start.0.saturating_sub(from.0).max(0) as u64;
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
        aborted: read.aborted.unwrap_or_default(),
        from,
        next,
    };
    Ok((batches, missed))
}

impl Batches {
    /// Whether all are opened.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether opening them is nothing that others would have to wait for.
    pub(super) fn are_cheap(&self) -> bool {
        let is_plain = |batch: &RecordBatch| batch.compression() == Compression::None;
        let bytes: usize = self.batches.iter().map(|batch| batch.size_bytes()).sum();
        bytes <= PLAIN_BYTES_SMALL && self.batches.iter().all(is_plain)
    }

    /// Opens as many batches as make a frame; none when the first is large and the caller has no room for such.
    pub(super) fn open(&mut self, has_room: bool) -> Option<Opened> {
        let limit = if has_room { OPENED_LARGE } else { OPENED };
        let first = self.batches.front();
        let mut opened = Opened {
            records: Vec::new(),
            next: self.from,
            compression: first.map_or(Compression::None, |first| first.compression()),
            stamped: first.map_or(TimestampType::CreateTime, |first| first.timestamp_type()),
            unreadable: None,
        };
        let mut bytes = 0;
        while let Some(batch) = self
            .batches
            .pop_front_if(|batch| batch.timestamp_type() == opened.stamped)
        {
            let next = batch.next_offset();
            if !self.is_visible(&batch) {
                opened.next = next;
                continue;
            }
            match self.records(&batch, limit) {
                Err(RecordError::Compression(CompressionError::TooLarge { .. })) if !has_room => {
                    self.batches.push_front(batch);
                    let is_first = opened.next == self.from;
                    return (!is_first).then_some(opened);
                }
                Ok(mut records) => {
                    opened.next = next;
                    bytes += records.iter().map(content_bytes).sum::<usize>();
                    opened.records.append(&mut records);
                }
                Err(error) => {
                    opened.next = next;
                    opened.unreadable = Some(Unreadable { batch, error });
                    break;
                }
            }
            if opened.records.len() >= FRAME_RECORDS_MAX || bytes >= FRAME_BYTES_MAX {
                break;
            }
        }
        Some(opened)
    }

    fn records(&self, batch: &RecordBatch, limit: DecodeLimit) -> Result<Vec<Record>, RecordError> {
        let from = self.from;
        let wanted = |record: &Result<Record, RecordError>| match record {
            Ok(record) => record.offset >= from,
            Err(_) => true,
        };
        batch.records(limit)?.filter(wanted).collect()
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
