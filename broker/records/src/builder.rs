//! Makes batches: for producers, coordinators and tests.

use crate::batch::RecordBatch;
use crate::compression::Compression;
use crate::header::{
    AT_ATTRIBUTES, AT_BASE_SEQUENCE, AT_BASE_TIMESTAMP, AT_LAST_OFFSET_DELTA, AT_LEADER_EPOCH,
    AT_LENGTH, AT_MAGIC, AT_MAX_TIMESTAMP, AT_PRODUCER_EPOCH, AT_PRODUCER_ID, AT_RECORD_COUNT,
    BatchError, BatchHeader, CONTROL, HEADER_BYTES, HeaderFault, TRANSACTIONAL, length_field, put,
};
use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};
use crate::record::{Headers, put_nullable};
use crate::varint::{put_varlong, varlong_len};

const MAGIC: i8 = 2;

/// Gathers records and seals them into a batch with base offset 0 and no leader epoch, as producers send it;
/// [`RecordBatch::assign`] gives it its place.
#[derive(Clone, Debug)]
pub struct RecordBatchBuilder {
    compression: Compression,
    level: Option<i32>,
    attributes: i16,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: Sequence,
    base_timestamp: i64,
    max_timestamp: i64,
    records: Vec<u8>,
    count: usize,
}

/// Why there is no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No record was pushed.
    #[error("a batch holds at least one record")]
    Empty,
    /// Kafka counts a batch's bytes in 31 bits.
    #[error("{0} bytes of records are more than a batch can hold")]
    TooLarge(usize),
    /// Producer, transaction and control flags contradict each other.
    #[error("the batch would break Kafka's rules: {0}")]
    Header(#[from] HeaderFault),
}

impl RecordBatchBuilder {
    /// A batch without producer id, to be compressed so when it is built.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            level: None,
            attributes: i16::from(compression.code()),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            base_timestamp: -1,
            max_timestamp: -1,
            records: Vec::new(),
            count: 0,
        }
    }

    /// Compresses at this level instead of the codec's default; see [`Compression::compress`].
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Numbers the batch as its producer's. Control batches carry [`Sequence::NONE`].
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base: Sequence) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base;
        self
    }

    /// Makes the batch part of its producer's transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL;
        self
    }

    /// Makes the records control records.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.attributes |= CONTROL;
        self
    }

    /// Adds a record. `timestamp` is in ms since the epoch, -1 for none.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> &mut Self {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = self.count as i64;
        let header_count = headers.len() as i64;
        let length = 1 // attributes
            + varlong_len(timestamp_delta)
            + varlong_len(offset_delta)
            + nullable_len(key)
            + nullable_len(value)
            + varlong_len(header_count)
            + headers.encoded().len();
        let out = &mut self.records;
        put_varlong(out, length as i64);
        out.push(0);
        put_varlong(out, timestamp_delta);
        put_varlong(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varlong(out, header_count);
        out.extend_from_slice(headers.encoded());
        self.count += 1;
        self
    }

    /// How many records there are so far.
    pub fn record_count(&self) -> usize {
        self.count
    }

    /// Size of the batch so far, were it not compressed.
    pub fn plain_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Compresses and seals.
    pub fn build(self) -> Result<RecordBatch, BuildError> {
        let plain_bytes = self.records.len();
        let too_large = BuildError::TooLarge(plain_bytes);
        // Nobody could open a batch whose plain records pass the limit, however well they compress.
        length_field(plain_bytes).ok_or(too_large)?;
        let last_delta = self.count.checked_sub(1).ok_or(BuildError::Empty)?;
        let header = self.header(i32::try_from(last_delta).map_err(|_| too_large)?);
        let body = self.compression.compress(&self.records.into(), self.level);
        let mut header = header;
        let length = length_field(body.len()).ok_or(too_large)?;
        put(&mut header, AT_LENGTH, length.to_be_bytes());
        let header = match BatchHeader::read(&header) {
            Ok(header) => header,
            Err(BatchError::Header(fault)) => return Err(fault.into()),
            Err(other) => unreachable!("61 bytes of format 2 were written: {other}"),
        };
        if !header.is_control() {
            header.check_produced()?;
        }
        Ok(RecordBatch::seal(header, body))
    }

    fn header(&self, last_delta: i32) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        put(
            &mut header,
            AT_LEADER_EPOCH,
            LeaderEpoch::NONE.0.to_be_bytes(),
        );
        put(&mut header, AT_MAGIC, MAGIC.to_be_bytes());
        put(&mut header, AT_ATTRIBUTES, self.attributes.to_be_bytes());
        put(&mut header, AT_LAST_OFFSET_DELTA, last_delta.to_be_bytes());
        put(
            &mut header,
            AT_BASE_TIMESTAMP,
            self.base_timestamp.to_be_bytes(),
        );
        put(
            &mut header,
            AT_MAX_TIMESTAMP,
            self.max_timestamp.to_be_bytes(),
        );
        put(
            &mut header,
            AT_PRODUCER_ID,
            self.producer_id.0.to_be_bytes(),
        );
        put(
            &mut header,
            AT_PRODUCER_EPOCH,
            self.producer_epoch.0.to_be_bytes(),
        );
        put(
            &mut header,
            AT_BASE_SEQUENCE,
            self.base_sequence.0.to_be_bytes(),
        );
        put(&mut header, AT_RECORD_COUNT, (last_delta + 1).to_be_bytes());
        header
    }
}

fn nullable_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varlong_len(bytes.len() as i64) + bytes.len())
}
