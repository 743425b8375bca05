//! A whole batch: header and records whose CRC has been checked.

use std::ops::Deref;

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};

use crate::header::{
    AT_ATTRIBUTES, AT_BASE_OFFSET, AT_CRC, AT_LEADER_EPOCH, AT_MAX_TIMESTAMP, BatchError,
    BatchHeader, CRC_FROM, HEADER_BYTES, LOG_APPEND_TIME, put,
};
use crate::ids::{LeaderEpoch, Offset};

/// Where a batch's bytes come from, which decides how much is demanded of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchRules {
    /// A producer's request: base offset 0, a record for each offset, no control records, no append time, no
    /// unknown attribute bits, producer id and sequence together.
    Produced,
    /// A log, a leader's answer or a segment file: offsets may have gaps from compaction, attributes may be
    /// newer than we are.
    Stored,
}

/// A batch that is proven to be one: magic 2, a length that fits, the right CRC, a known codec, and offsets
/// and count that agree. Records stay as they came, compressed or not.
///
/// The getters are those of [`BatchHeader`]. Cloning copies the 61 header bytes and shares the records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordBatch {
    header: BatchHeader,
    body: Bytes,
}

impl RecordBatch {
    /// Takes the batch at the front of `bytes`, sharing them, and says how many bytes it occupies.
    pub fn parse(bytes: &Bytes, rules: BatchRules) -> Result<(Self, usize), BatchError> {
        let header = BatchHeader::read_layout(bytes)?;
        let size = header.size_bytes();
        let Some(covered) = bytes.get(CRC_FROM..size) else {
            return Err(BatchError::Truncated {
                needed: size,
                available: bytes.len(),
            });
        };
        let (stored, computed) = (header.crc(), crc_fast::crc32_iscsi(covered));
        if stored != computed {
            return Err(BatchError::Crc { stored, computed });
        }
        // After the CRC: what the wire has damaged is not the producer's fault, and it may try again.
        header.check_stored()?;
        if rules == BatchRules::Produced {
            header.check_produced()?;
        }
        Ok((
            Self {
                header,
                body: bytes.slice(HEADER_BYTES..size),
            },
            size,
        ))
    }

    /// Takes batches until `bytes` are used up to the last one. No bytes are no batches.
    pub fn parse_all(bytes: &Bytes, rules: BatchRules) -> Result<Vec<Self>, BatchError> {
        let mut rest = bytes.clone();
        let mut batches = Vec::new();
        while !rest.is_empty() {
            let (batch, size) = Self::parse(&rest, rules)?;
            rest = rest.slice(size..);
            batches.push(batch);
        }
        Ok(batches)
    }

    /// Joins a header whose CRC field is still open with its records.
    pub(crate) fn seal(header: BatchHeader, body: Bytes) -> Self {
        debug_assert_eq!(header.size_bytes(), HEADER_BYTES + body.len());
        let mut batch = Self { header, body };
        batch.write_crc();
        batch
    }

    /// Gives the batch its place in the log. The CRC covers neither field.
    ///
    /// # Panics
    /// When the batch's offsets would be negative or run past the largest one.
    pub fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        let end = base_offset
            .0
            .checked_add(i64::from(self.header.delta()) + 1);
        assert!(
            base_offset.0 >= 0 && end.is_some(),
            "a log does not run out of offsets"
        );
        let header = self.header.bytes_mut();
        put(header, AT_BASE_OFFSET, base_offset.0.to_be_bytes());
        put(header, AT_LEADER_EPOCH, leader_epoch.0.to_be_bytes());
    }

    /// Stamps the batch with the leader's clock, in ms since the epoch, and writes a new CRC.
    pub fn set_log_append_time(&mut self, ms: i64) {
        let attributes = self.header.attributes() | LOG_APPEND_TIME;
        put(
            self.header.bytes_mut(),
            AT_ATTRIBUTES,
            attributes.to_be_bytes(),
        );
        self.set_max_timestamp(ms);
    }

    /// Corrects the largest timestamp, which producers can get wrong, and writes a new CRC.
    pub fn set_max_timestamp(&mut self, ms: i64) {
        put(self.header.bytes_mut(), AT_MAX_TIMESTAMP, ms.to_be_bytes());
        self.write_crc();
    }

    /// The header's bytes, to be written before [`Self::body`].
    pub fn header(&self) -> &[u8; HEADER_BYTES] {
        self.header.as_bytes()
    }

    /// The records as they are in the log, compressed if the batch is.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Header and records in one piece: a copy.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size_bytes());
        bytes.extend_from_slice(self.header());
        bytes.extend_from_slice(&self.body);
        bytes.freeze()
    }

    fn write_crc(&mut self) {
        let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.header.as_bytes()[CRC_FROM..]);
        digest.update(&self.body);
        let crc = u32::try_from(digest.finalize()).expect("a CRC32 has 32 bits");
        put(self.header.bytes_mut(), AT_CRC, crc.to_be_bytes());
    }
}

impl Deref for RecordBatch {
    type Target = BatchHeader;

    fn deref(&self) -> &BatchHeader {
        &self.header
    }
}

#[cfg(test)]
mod tests;
