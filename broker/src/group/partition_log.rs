//! A coordinator's log over a partition of this broker.

use std::sync::Arc;
use std::time::Duration;

use tidemill_log::{AppendOrigin, LogDir, LogRead};
use tidemill_protocol::ErrorCode;
use tidemill_records::{
    BatchError, BuildError, Compression, DecodeLimit, Headers, LeaderEpoch, Offset, RecordBatch,
    RecordBatchBuilder, RecordError,
};
use tidemill_storage::clock::Clock;
use tokio::time::Instant;

use super::log::{Appending, CoordinatorLog, CoordinatorRecord};
use crate::partition::{Isolation, Partition};

/// How long the logs may have no room, and how long in-sync replicas may take (Kafka's
/// `offsets.commit.timeout.ms`).
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// A batch is sealed when it has reached this.
const BATCH_BYTES_MIN: usize = 256 << 10;
/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// What an encoded batch may bring into being; coordinators write batches of far less.
const DECODE_LIMIT: DecodeLimit = DecodeLimit(64 << 20);

pub(super) struct PartitionCoordinatorLog {
    partition: Arc<Partition>,
    logs: Arc<LogDir>,
    /// The epoch in which this coordinator leads; what it writes must not land in a later one.
    epoch: LeaderEpoch,
    clock: Arc<dyn Clock>,
}

impl PartitionCoordinatorLog {
    pub(super) fn new(partition: Arc<Partition>, logs: Arc<LogDir>, clock: Arc<dyn Clock>) -> Self {
        let epoch = partition.leader().1;
        Self {
            partition,
            logs,
            epoch,
            clock,
        }
    }

    async fn append_durably(&self, records: Vec<CoordinatorRecord>) -> Result<(), ErrorCode> {
        let now_ms = self.clock.now_ms();
        let batches = to_batches(&records, now_ms).map_err(|_| ErrorCode::RecordListTooLarge)?;
        drop(records);
        // On a full disk members are to be told, not to wait for as long as it is full.
        let admitted = tokio::time::timeout(APPEND_TIMEOUT, self.logs.admit()).await;
        let admitted = admitted.map_err(|_| ErrorCode::KafkaStorageError)?;
        admitted.map_err(|_| ErrorCode::KafkaStorageError)?;
        let appended = self
            .partition
            .append(
                batches,
                self.epoch,
                AppendOrigin::Coordinator,
                true,
                now_ms,
                0,
            )
            .map_err(|error| ErrorCode::from(&error))?;
        let deadline = Instant::now() + APPEND_TIMEOUT;
        let durable = self.logs.wal().wait_durable(appended.lsn).await;
        durable.map_err(|_| ErrorCode::KafkaStorageError)?;
        if self
            .partition
            .wait_committed(appended.next_offset, deadline)
            .await
        {
            Ok(())
        } else {
            Err(ErrorCode::RequestTimedOut)
        }
    }
}

impl CoordinatorLog for PartitionCoordinatorLog {
    fn append(&self, records: Vec<CoordinatorRecord>) -> Appending<'_> {
        Box::pin(self.append_durably(records))
    }

    fn read_all(&self, visit: &mut dyn FnMut(CoordinatorRecord)) -> Result<(), ErrorCode> {
        let mut next = self.partition.log.log_start_offset();
        let end = self.partition.log.log_end_offset();
        while next < end {
            let read = self
                .partition
                .read(next, self.epoch, Isolation::LogEnd, READ_BYTES, true);
            let read = read.map_err(|error| ErrorCode::from(&error))?.records;
            let read_to = read.next;
            if read_to <= next {
                break;
            }
            visit_records(read, next, visit).map_err(|error| {
                tracing::error!(%error, "cannot read a batch of groups");
                ErrorCode::CorruptMessage
            })?;
            next = read_to;
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.partition.log.log_start_offset() >= self.partition.log.log_end_offset()
    }
}

/// Batches that hold the records in their order.
fn to_batches(records: &[CoordinatorRecord], now_ms: i64) -> Result<Vec<RecordBatch>, BuildError> {
    let mut batches = Vec::new();
    let mut builder = RecordBatchBuilder::new(Compression::None);
    for record in records {
        if builder.plain_bytes() >= BATCH_BYTES_MIN {
            let full = std::mem::replace(&mut builder, RecordBatchBuilder::new(Compression::None));
            batches.push(full.build()?);
        }
        let value = record.value.as_deref();
        builder.push(now_ms, Some(&record.key), value, &Headers::default());
    }
    if builder.record_count() > 0 {
        batches.push(builder.build()?);
    }
    Ok(batches)
}

/// Why records of a coordinator cannot be read back.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Shows the records that were read, from offset `from` on.
fn visit_records(
    read: LogRead,
    from: Offset,
    visit: &mut dyn FnMut(CoordinatorRecord),
) -> Result<(), Unreadable> {
    for batch in read.into_batches()? {
        if batch.is_control() {
            continue;
        }
        for record in batch.records(DECODE_LIMIT)? {
            let record = record?;
            if record.offset >= from
                && let Some(key) = record.key
            {
                visit(CoordinatorRecord {
                    key,
                    value: record.value,
                });
            }
        }
    }
    Ok(())
}
