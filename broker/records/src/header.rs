//! The 61 bytes in front of a batch's records (KIP-98): layout, getters, and what every header must hold.
//!
//! | at | field | | at | field |
//! |---|---|---|---|---|
//! | 0 | base offset i64 | | 27 | base timestamp i64 |
//! | 8 | length i32, of what follows | | 35 | max timestamp i64 |
//! | 12 | leader epoch i32 | | 43 | producer id i64 |
//! | 16 | magic i8 | | 51 | producer epoch i16 |
//! | 17 | CRC32C u32, of all from 21 | | 53 | base sequence i32 |
//! | 21 | attributes i16 | | 57 | record count i32 |
//! | 23 | last offset delta i32 | | 61 | records |

use crate::compression::Compression;
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Length of a batch header.
pub const HEADER_BYTES: usize = 61;

/// Offset and length: what the length field does not count.
const PREFIX_BYTES: usize = 12;
/// The length of a batch without records.
const LENGTH_MIN: i32 = (HEADER_BYTES - PREFIX_BYTES) as i32;
/// The shortest message of formats 0 and 1, after its length field.
const OLD_LENGTH_MIN: i32 = 14;
/// Where the bytes begin that the CRC covers.
pub(crate) const CRC_FROM: usize = 21;

pub(crate) const AT_BASE_OFFSET: usize = 0;
pub(crate) const AT_LENGTH: usize = 8;
pub(crate) const AT_LEADER_EPOCH: usize = 12;
pub(crate) const AT_MAGIC: usize = 16;
pub(crate) const AT_CRC: usize = 17;
pub(crate) const AT_ATTRIBUTES: usize = 21;
pub(crate) const AT_LAST_OFFSET_DELTA: usize = 23;
pub(crate) const AT_BASE_TIMESTAMP: usize = 27;
pub(crate) const AT_MAX_TIMESTAMP: usize = 35;
pub(crate) const AT_PRODUCER_ID: usize = 43;
pub(crate) const AT_PRODUCER_EPOCH: usize = 51;
pub(crate) const AT_BASE_SEQUENCE: usize = 53;
pub(crate) const AT_RECORD_COUNT: usize = 57;

const CODEC_MASK: i16 = 0x07;
pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
pub(crate) const TRANSACTIONAL: i16 = 0x10;
pub(crate) const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;
/// What a producer may set.
const PRODUCER_MASK: i16 = CODEC_MASK | TRANSACTIONAL;

/// Whose clock a batch's timestamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's; every record has its own.
    CreateTime,
    /// The leader's; all records have the batch's max timestamp.
    LogAppendTime,
}

/// Why bytes are not a batch. Recovery must tell the first from the others: a torn tail is cut off, the rest
/// is corruption.
///
/// A flipped length field can look like [`BatchError::Truncated`]: only who knows where the bytes must end can
/// tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does; nothing about it is known to be wrong.
    #[error("the batch needs {needed} bytes and only {available} are there")]
    Truncated {
        /// What is needed to decide further: the header's size, or the whole batch's.
        needed: usize,
        /// What was given.
        available: usize,
    },
    /// A message of the formats before 0.11, which Kafka 4 no longer takes either.
    #[error("record format {0} is no longer supported: only format 2 is")]
    UnsupportedMagic(i8),
    /// The bytes are not what their writer checksummed.
    #[error("the batch's CRC32C is {computed:08x} but its header says {stored:08x}")]
    Crc {
        /// The header's.
        stored: u32,
        /// The bytes'.
        computed: u32,
    },
    /// The header contradicts itself or the rules of where it came from.
    #[error("the batch's header is inconsistent: {0}")]
    Header(#[from] HeaderFault),
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The length field is too small for a header (zero, say, where a file was extended but never written).
    #[error("length {0} is shorter than a header")]
    Length(i32),
    /// Neither this format nor one of its predecessors.
    #[error("unknown record format {0}")]
    Magic(i8),
    /// Attributes name a codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// Offsets are negative or run past the largest one.
    #[error("base offset {base} with last offset delta {delta}")]
    Offsets {
        /// Base offset.
        base: i64,
        /// Last offset delta.
        delta: i32,
    },
    /// The count does not fit the offsets.
    #[error("{count} records with last offset delta {delta}")]
    Count {
        /// Record count.
        count: i32,
        /// Last offset delta.
        delta: i32,
    },
    /// A producer numbered its records itself.
    #[error("base offset {0} where producers send 0")]
    BaseOffset(i64),
    /// Attribute bits that a producer may not set.
    #[error("attributes {0:#06x} have bits that producers do not set")]
    Attributes(i16),
    /// Control records come from coordinators only.
    #[error("a control batch from a producer")]
    Control,
    /// Only the broker stamps append time.
    #[error("log append time from a producer")]
    LogAppendTime,
    /// Producer id, epoch and sequence must be there together.
    #[error("producer id {id} with epoch {epoch} and base sequence {sequence}")]
    Producer {
        /// Producer id.
        id: i64,
        /// Producer epoch.
        epoch: i16,
        /// Base sequence.
        sequence: i32,
    },
    /// A transaction without a producer id to belong to.
    #[error("a transactional batch without a producer id")]
    Transactional,
}

/// A checked batch header. Its own consistency is proven; whether body and CRC fit it, only
/// [`crate::RecordBatch`] proves.
#[derive(Clone, PartialEq, Eq)]
pub struct BatchHeader([u8; HEADER_BYTES]);

impl BatchHeader {
    /// Reads the header at the front of `bytes` and checks that offsets, count and codec are possible. The
    /// records need not be there: this is for walking files.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::read_layout(bytes)?;
        header.check_stored()?;
        Ok(header)
    }

    /// Reads a header of this format whose length is possible. Its other getters may panic until
    /// [`Self::check_stored`] has passed.
    pub(crate) fn read_layout(bytes: &[u8]) -> Result<Self, BatchError> {
        let truncated = BatchError::Truncated {
            needed: HEADER_BYTES,
            available: bytes.len(),
        };
        // Formats 0 and 1 have offset, length and magic at the same places, and can be shorter than our header.
        if bytes.len() <= AT_MAGIC {
            return Err(truncated);
        }
        let length = i32::from_be_bytes(field(bytes, AT_LENGTH));
        match i8::from_be_bytes([bytes[AT_MAGIC]]) {
            2 if length < LENGTH_MIN => return Err(HeaderFault::Length(length).into()),
            2 => {}
            0 | 1 if length < OLD_LENGTH_MIN => return Err(HeaderFault::Length(length).into()),
            old @ (0 | 1) => return Err(BatchError::UnsupportedMagic(old)),
            unknown => return Err(HeaderFault::Magic(unknown).into()),
        }
        Ok(Self(*bytes.first_chunk::<HEADER_BYTES>().ok_or(truncated)?))
    }

    /// What holds for any batch in a log, compacted ones included.
    pub(crate) fn check_stored(&self) -> Result<(), HeaderFault> {
        let codec = (self.attributes() & CODEC_MASK) as u8;
        if Compression::from_code(codec).is_none() {
            return Err(HeaderFault::Codec(codec));
        }
        let (base, delta, count) = (self.i64_at(AT_BASE_OFFSET), self.delta(), self.count());
        // The exclusive end must be a number too.
        if base < 0 || delta < 0 || base.checked_add(i64::from(delta) + 1).is_none() {
            return Err(HeaderFault::Offsets { base, delta });
        }
        // Compaction drops records and keeps the offsets; it may leave an empty batch.
        if count < 0 || i64::from(count) > i64::from(delta) + 1 {
            return Err(HeaderFault::Count { count, delta });
        }
        Ok(())
    }

    /// What Kafka demands of a batch that a producer sends, beyond [`Self::check_stored`].
    pub(crate) fn check_produced(&self) -> Result<(), HeaderFault> {
        let (base, delta, count) = (self.i64_at(AT_BASE_OFFSET), self.delta(), self.count());
        if base != 0 {
            return Err(HeaderFault::BaseOffset(base));
        }
        if i64::from(count) != i64::from(delta) + 1 {
            return Err(HeaderFault::Count { count, delta });
        }
        if self.is_control() {
            return Err(HeaderFault::Control);
        }
        if self.timestamp_type() == TimestampType::LogAppendTime {
            return Err(HeaderFault::LogAppendTime);
        }
        if self.attributes() & !PRODUCER_MASK != 0 {
            return Err(HeaderFault::Attributes(self.attributes()));
        }
        let (id, epoch) = (self.producer_id().0, self.producer_epoch().0);
        let sequence = self.base_sequence().0;
        // Without an id the other two say nothing: some clients leave the sequence at 0.
        if id < -1 || (id >= 0 && (epoch < 0 || sequence < 0)) {
            return Err(HeaderFault::Producer {
                id,
                epoch,
                sequence,
            });
        }
        if self.is_transactional() && id < 0 {
            return Err(HeaderFault::Transactional);
        }
        Ok(())
    }

    /// The bytes as they are in the log.
    pub fn as_bytes(&self) -> &[u8; HEADER_BYTES] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; HEADER_BYTES] {
        &mut self.0
    }

    /// Offset of the first record, as numbered before compaction.
    pub fn base_offset(&self) -> Offset {
        Offset(self.i64_at(AT_BASE_OFFSET))
    }

    /// Offset of the last record, as numbered before compaction (inclusive).
    pub fn last_offset(&self) -> Offset {
        self.base_offset() + i64::from(self.delta())
    }

    /// The offset after the batch: where the next one begins.
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// Epoch of the leader that appended the batch.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.i32_at(AT_LEADER_EPOCH))
    }

    /// The raw attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(&self.0, AT_ATTRIBUTES))
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Compression {
        Compression::from_code((self.attributes() & CODEC_MASK) as u8)
            .expect("a header with an unknown codec is refused when it is read")
    }

    /// Whose clock the timestamps come from.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes() & LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether the records are control records, which consumers never see.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// When the batch's tombstones may go, in ms since the epoch, once compaction has decided it (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes() & DELETE_HORIZON != 0).then(|| self.base_timestamp())
    }

    /// What the records' timestamp deltas count from, in ms since the epoch.
    pub fn base_timestamp(&self) -> i64 {
        self.i64_at(AT_BASE_TIMESTAMP)
    }

    /// The largest timestamp in the batch in ms since the epoch, as its producer or the broker says; -1 for none.
    pub fn max_timestamp(&self) -> i64 {
        self.i64_at(AT_MAX_TIMESTAMP)
    }

    /// The producer, or [`ProducerId::NONE`].
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(self.i64_at(AT_PRODUCER_ID))
    }

    /// The producer's epoch; means nothing without a producer id.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(field(&self.0, AT_PRODUCER_EPOCH)))
    }

    /// Sequence of the first record; means nothing without a producer id.
    pub fn base_sequence(&self) -> Sequence {
        Sequence(self.i32_at(AT_BASE_SEQUENCE))
    }

    /// Sequence of the last record (inclusive), or [`Sequence::NONE`] when the batch has none.
    pub fn last_sequence(&self) -> Sequence {
        match self.base_sequence() {
            base if base.0 < 0 => Sequence::NONE,
            base => base.advance(self.delta()),
        }
    }

    /// How many records the batch holds. Offsets span more than that after compaction.
    pub fn record_count(&self) -> usize {
        usize::try_from(self.count())
            .expect("a header with a negative count is refused when it is read")
    }

    /// Header and records together.
    pub fn size_bytes(&self) -> usize {
        let length = usize::try_from(self.i32_at(AT_LENGTH))
            .expect("a header with a negative length is refused when it is read");
        PREFIX_BYTES + length
    }

    pub(crate) fn crc(&self) -> u32 {
        u32::from_be_bytes(field(&self.0, AT_CRC))
    }

    /// Last offset delta; never negative.
    pub(crate) fn delta(&self) -> i32 {
        self.i32_at(AT_LAST_OFFSET_DELTA)
    }

    fn count(&self) -> i32 {
        self.i32_at(AT_RECORD_COUNT)
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(field(&self.0, at))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(field(&self.0, at))
    }
}

impl std::fmt::Debug for BatchHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchHeader")
            .field("base_offset", &self.base_offset().0)
            .field("next_offset", &self.next_offset().0)
            .field("leader_epoch", &self.leader_epoch().0)
            .field("attributes", &self.attributes())
            .field("max_timestamp", &self.max_timestamp())
            .field("producer_id", &self.producer_id().0)
            .field("producer_epoch", &self.producer_epoch().0)
            .field("base_sequence", &self.base_sequence().0)
            .field("record_count", &self.record_count())
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// The length of a batch's records as its length field says it.
pub(crate) fn length_field(body_bytes: usize) -> Option<i32> {
    i32::try_from(body_bytes.checked_add(HEADER_BYTES - PREFIX_BYTES)?).ok()
}

#[inline]
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk::<N>()
        .expect("the caller has checked the length")
}

/// Overwrites a field.
#[inline]
pub(crate) fn put<const N: usize>(header: &mut [u8; HEADER_BYTES], at: usize, value: [u8; N]) {
    header[at..at + N].copy_from_slice(&value);
}
