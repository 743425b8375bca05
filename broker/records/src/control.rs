//! Control records: what coordinators and controllers write between the data.

use bytes::Bytes;

use crate::batch::RecordBatch;
use crate::builder::RecordBatchBuilder;
use crate::compression::Compression;
use crate::ids::{ProducerEpoch, ProducerId, Sequence};
use crate::record::{DecodeLimit, Headers, RecordError};

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
/// Nobody compresses control records; whoever does need not be given more.
const PLAIN_LIMIT: DecodeLimit = DecodeLimit(64 * 1024);

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// The producer's transaction is committed.
    Commit(EndTransactionMarker),
    /// The producer's transaction is aborted.
    Abort(EndTransactionMarker),
    /// Something of this type that concerns Kafka's own Raft (leader change, snapshot header and footer, voters)
    /// or is newer than we are. It counts as an offset and otherwise means nothing here.
    Other(i16),
}

/// The value of a transaction's end marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Leader epoch of the transaction coordinator's partition: fences older coordinators.
    pub coordinator_epoch: i32,
}

/// Why a control batch cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The record itself cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Its key or value is not what control records have.
    #[error("the control record's key or value is malformed")]
    Malformed,
}

impl EndTransactionMarker {
    /// The control batch that commits the producer's transaction. `timestamp` is in ms since the epoch.
    pub fn commit(self, id: ProducerId, epoch: ProducerEpoch, timestamp: i64) -> RecordBatch {
        self.batch(COMMIT, id, epoch, timestamp)
    }

    /// The control batch that aborts the producer's transaction. `timestamp` is in ms since the epoch.
    pub fn abort(self, id: ProducerId, epoch: ProducerEpoch, timestamp: i64) -> RecordBatch {
        self.batch(ABORT, id, epoch, timestamp)
    }

    fn batch(self, kind: i16, id: ProducerId, epoch: ProducerEpoch, timestamp: i64) -> RecordBatch {
        let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let value = [
            &VERSION.to_be_bytes()[..],
            &self.coordinator_epoch.to_be_bytes(),
        ]
        .concat();
        let mut builder = RecordBatchBuilder::new(Compression::None)
            .producer(id, epoch, Sequence::NONE)
            .transactional()
            .control();
        builder.push(timestamp, Some(&key), Some(&value), &Headers::default());
        builder
            .build()
            .expect("one small control record makes a batch")
    }
}

impl RecordBatch {
    /// What a control batch says; None for a data batch, and for a control batch that compaction has emptied.
    /// Control batches hold one record where it matters: a transaction's end.
    pub fn control_record(&self) -> Result<Option<ControlRecord>, ControlError> {
        if !self.is_control() {
            return Ok(None);
        }
        let Some(record) = self.records(PLAIN_LIMIT)?.next() else {
            return Ok(None);
        };
        let record = record?;
        let key = record.key.as_ref().ok_or(ControlError::Malformed)?;
        let kind = versioned(key)
            .and_then(|rest| rest.first_chunk())
            .ok_or(ControlError::Malformed)?;
        match i16::from_be_bytes(*kind) {
            COMMIT => Ok(Some(ControlRecord::Commit(marker(record.value.as_ref())?))),
            ABORT => Ok(Some(ControlRecord::Abort(marker(record.value.as_ref())?))),
            other => Ok(Some(ControlRecord::Other(other))),
        }
    }
}

fn marker(value: Option<&Bytes>) -> Result<EndTransactionMarker, ControlError> {
    let epoch = value
        .and_then(|value| versioned(value)?.first_chunk())
        .ok_or(ControlError::Malformed)?;
    Ok(EndTransactionMarker {
        coordinator_epoch: i32::from_be_bytes(*epoch),
    })
}

/// What follows the version. Later versions add fields behind those of the first, so they read alike.
fn versioned(bytes: &[u8]) -> Option<&[u8]> {
    let (version, rest) = bytes.split_first_chunk()?;
    (i16::from_be_bytes(*version) >= VERSION).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Option<ControlRecord>, ControlError> {
        let mut builder = RecordBatchBuilder::new(Compression::None).control();
        builder.push(0, key, value, &Headers::default());
        builder.build().expect("a batch").control_record()
    }

    #[test]
    fn later_versions_read_as_the_first() {
        let marker = EndTransactionMarker {
            coordinator_epoch: 258,
        };
        assert_eq!(
            control(Some(&[0, 9, 0, 1, 7]), Some(&[0, 9, 0, 0, 1, 2, 7, 7])),
            Ok(Some(ControlRecord::Commit(marker))),
        );
        assert_eq!(
            control(Some(&[0, 0, 0, 6]), None),
            Ok(Some(ControlRecord::Other(6)))
        );
    }

    #[test]
    fn malformed_control_records_are_refused() {
        let value = [0, 0, 0, 0, 0, 1];
        for key in [
            None,
            Some(&[][..]),
            Some(&[0, 0, 0]),
            Some(&[0xff, 0xff, 0, 0]),
        ] {
            assert_eq!(
                control(key, Some(&value)),
                Err(ControlError::Malformed),
                "{key:?}"
            );
        }
        for value in [
            None,
            Some(&[][..]),
            Some(&[0, 0, 0, 0, 0]),
            Some(&[0xff, 0xff, 0, 0, 0, 0]),
        ] {
            assert_eq!(
                control(Some(&[0, 0, 0, 0]), value),
                Err(ControlError::Malformed),
                "{value:?}"
            );
        }
    }

    #[test]
    fn data_batches_have_no_control_record() {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.push(0, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &Headers::default());
        assert_eq!(builder.build().expect("a batch").control_record(), Ok(None));
    }
}
