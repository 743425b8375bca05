//! What the metadata holds of data in the object tier, and what a manifest page is made of.
//!
//! A partition's remote log is a row of [`Extent`]s without gaps. The newest ones are in the metadata itself; older ones
//! are in sealed *pages*, objects of their own of which the metadata holds a [`PageRef`]. Both answer retention and
//! lookups by time without opening anything. Keys in the bucket are derived, never stored.

use std::fmt;

use uuid::Uuid;

use crate::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::varint::{Cursor, VarintError, put_varlong};

/// Name of a data object: a ULID (48 bits of milliseconds, 80 random bits), so that listings are in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u128);

impl ObjectId {
    /// An id of this moment. Of `random` the lower 80 bits are taken.
    pub fn new(now_ms: i64, random: u128) -> Self {
        let ms = (now_ms.max(0) as u128) & ((1 << 48) - 1);
        Self(ms << 80 | random & ((1 << 80) - 1))
    }

    /// When it was made, in ms since the epoch.
    pub fn created_ms(self) -> i64 {
        (self.0 >> 80) as i64
    }
}

/// Crockford's base 32: 26 characters.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let mut text = [0u8; 26];
        for (at, digit) in text.iter_mut().rev().enumerate() {
            *digit = ALPHABET[(self.0 >> (5 * at) & 31) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// Where a leader epoch begins in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of its first record.
    pub start: Offset,
}

/// A record's time and its offset: the first record with the largest timestamp of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxTimestamp {
    /// In ms since the epoch; -1 where no record has one.
    pub timestamp: i64,
    /// Last offset of the first batch that has it.
    pub offset: Offset,
}

impl MaxTimestamp {
    /// The largest of a log's runs in their order. Of equal timestamps the first counts.
    pub fn first_of_newest(runs: impl IntoIterator<Item = Self>) -> Option<Self> {
        let larger = |first: Self, next: Self| match next.timestamp > first.timestamp {
            true => next,
            false => first,
        };
        runs.into_iter().reduce(larger)
    }
}

/// A run of whole batches in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its first offset.
    pub base: Offset,
    /// Its end, exclusive; the next extent begins there.
    pub end: Offset,
    /// The object.
    pub object: ObjectId,
    /// Where its batches begin in the object.
    pub position: u64,
    /// Bytes of its batches. Its footer follows them.
    pub length: u32,
    /// Bytes of the footer.
    pub footer_length: u32,
    /// CRC32C of the footer, which in turn has the checksums of the batches.
    pub footer_crc: u32,
    /// The largest timestamp.
    pub newest: MaxTimestamp,
    /// The leader epochs of its records; never empty.
    pub epochs: Vec<EpochStart>,
}

impl Extent {
    /// The leader epoch of its last record.
    pub fn last_epoch(&self) -> LeaderEpoch {
        self.epochs
            .last()
            .map_or(LeaderEpoch::NONE, |last| last.epoch)
    }
}

/// A sealed page of the manifest: extents without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// First offset of its first extent.
    pub base: Offset,
    /// End of its last extent, exclusive.
    pub end: Offset,
    /// CRC64-NVME of the page's bytes; part of its key.
    pub hash: u64,
    /// How many extents it has.
    pub extents: u32,
    /// Bytes of the batches of its extents.
    pub data_bytes: u64,
    /// Bytes of the page itself.
    pub length: u32,
    /// The largest timestamp.
    pub newest: MaxTimestamp,
    /// The leader epoch of its last record.
    pub last_epoch: LeaderEpoch,
}

/// An object that the cluster has put, or is about to put, into the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteObject {
    /// Batches with their footer.
    Data(ObjectId),
    /// A page of a partition's manifest.
    Page {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionId,
        /// Its first offset.
        first: Offset,
        /// CRC64-NVME of its bytes.
        hash: u64,
    },
}

/// Why bytes are no extent, page reference or object name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// They end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// A number is out of its range.
    #[error("a number is out of its range")]
    Range,
}

impl From<VarintError> for ManifestError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::Overflow => Self::Range,
        }
    }
}

/// Fields of a manifest, one after the other.
struct Fields<'a>(Cursor<'a>);

impl Fields<'_> {
    fn i64(&mut self) -> Result<i64, ManifestError> {
        Ok(self.0.varlong()?)
    }

    /// A number from zero up to `max`.
    fn up_to(&mut self, max: i64) -> Result<i64, ManifestError> {
        let value = self.i64()?;
        (0..=max)
            .contains(&value)
            .then_some(value)
            .ok_or(ManifestError::Range)
    }

    fn u32(&mut self) -> Result<u32, ManifestError> {
        Ok(self.up_to(u32::MAX.into())? as u32)
    }

    fn offset(&mut self) -> Result<Offset, ManifestError> {
        Ok(Offset(self.up_to(i64::MAX)?))
    }

    /// An offset that is written as its distance from an earlier one.
    fn offset_from(&mut self, earlier: Offset) -> Result<Offset, ManifestError> {
        Ok(Offset(earlier.0 + self.up_to(i64::MAX - earlier.0)?))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let taken = self.0.take(N).ok_or(ManifestError::Truncated)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    fn epoch(&mut self) -> Result<LeaderEpoch, ManifestError> {
        Ok(LeaderEpoch(self.up_to(i32::MAX.into())? as i32))
    }

    fn newest(&mut self, base: Offset) -> Result<MaxTimestamp, ManifestError> {
        Ok(MaxTimestamp {
            timestamp: self.i64()?,
            offset: self.offset_from(base)?,
        })
    }
}

fn put_newest(out: &mut Vec<u8>, newest: MaxTimestamp, base: Offset) {
    put_varlong(out, newest.timestamp);
    put_varlong(out, newest.offset - base);
}

impl Extent {
    /// Appends its bytes: offsets as distances, numbers as varints, about fifty in all.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varlong(out, self.base.0);
        put_varlong(out, self.end - self.base);
        out.extend_from_slice(&self.object.0.to_be_bytes());
        put_varlong(out, self.position as i64);
        put_varlong(out, self.length.into());
        put_varlong(out, self.footer_length.into());
        out.extend_from_slice(&self.footer_crc.to_le_bytes());
        put_newest(out, self.newest, self.base);
        put_varlong(out, self.epochs.len() as i64);
        for entry in &self.epochs {
            put_varlong(out, entry.epoch.0.into());
            put_varlong(out, entry.start - self.base);
        }
    }

    /// Takes an extent off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, ManifestError> {
        let mut fields = Fields(Cursor::new(bytes));
        let base = fields.offset()?;
        let end = fields.offset_from(base)?;
        let object = ObjectId(u128::from_be_bytes(fields.fixed()?));
        let position = fields.up_to(i64::MAX)? as u64;
        let length = fields.u32()?;
        let footer_length = fields.u32()?;
        let footer_crc = u32::from_le_bytes(fields.fixed()?);
        let newest = fields.newest(base)?;
        let mut epochs = Vec::new();
        for _ in 0..fields.u32()? {
            epochs.push(EpochStart {
                epoch: fields.epoch()?,
                start: fields.offset_from(base)?,
            });
        }
        let rises =
            |pair: &[EpochStart]| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start;
        let is_sound = base < end
            && epochs.first().is_some_and(|first| first.start == base)
            && epochs.last().is_some_and(|last| last.start < end)
            && epochs.windows(2).all(rises)
            && newest.offset < end
            && position
                .checked_add(u64::from(length) + u64::from(footer_length))
                .is_some();
        if !is_sound {
            return Err(ManifestError::Range);
        }
        *bytes = fields.0.rest();
        Ok(Self {
            base,
            end,
            object,
            position,
            length,
            footer_length,
            footer_crc,
            newest,
            epochs,
        })
    }
}

impl PageRef {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varlong(out, self.base.0);
        put_varlong(out, self.end - self.base);
        out.extend_from_slice(&self.hash.to_be_bytes());
        put_varlong(out, self.extents.into());
        put_varlong(out, self.data_bytes as i64);
        put_varlong(out, self.length.into());
        put_newest(out, self.newest, self.base);
        put_varlong(out, self.last_epoch.0.into());
    }

    /// Takes a reference off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, ManifestError> {
        let mut fields = Fields(Cursor::new(bytes));
        let base = fields.offset()?;
        let page = Self {
            base,
            end: fields.offset_from(base)?,
            hash: u64::from_be_bytes(fields.fixed()?),
            extents: fields.u32()?,
            data_bytes: fields.up_to(i64::MAX)? as u64,
            length: fields.u32()?,
            newest: fields.newest(base)?,
            last_epoch: fields.epoch()?,
        };
        if page.base >= page.end || page.extents == 0 {
            return Err(ManifestError::Range);
        }
        *bytes = fields.0.rest();
        Ok(page)
    }
}

impl RemoteObject {
    const DATA: u8 = 0;
    const PAGE: u8 = 1;

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Data(id) => {
                out.push(Self::DATA);
                out.extend_from_slice(&id.0.to_be_bytes());
            }
            Self::Page {
                topic,
                partition,
                first,
                hash,
            } => {
                out.push(Self::PAGE);
                out.extend_from_slice(topic.0.as_bytes());
                put_varlong(out, partition.0.into());
                put_varlong(out, first.0);
                out.extend_from_slice(&hash.to_be_bytes());
            }
        }
    }

    /// Takes a name off the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, ManifestError> {
        let mut fields = Fields(Cursor::new(bytes));
        let object = match fields.fixed::<1>()? {
            [Self::DATA] => Self::Data(ObjectId(u128::from_be_bytes(fields.fixed()?))),
            [Self::PAGE] => Self::Page {
                topic: TopicId(Uuid::from_bytes(fields.fixed()?)),
                partition: PartitionId(fields.up_to(i32::MAX.into())? as i32),
                first: fields.offset()?,
                hash: u64::from_be_bytes(fields.fixed()?),
            },
            _ => return Err(ManifestError::Range),
        };
        *bytes = fields.0.rest();
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn extents() -> impl Strategy<Value = Extent> {
        let numbers = (
            0..i64::MAX / 4,
            1..1i64 << 40,
            any::<u128>(),
            0..u64::MAX >> 2,
        );
        let sizes = (any::<u32>(), any::<u32>(), any::<u32>(), any::<i64>());
        (numbers, sizes, 0..i32::MAX - 9, 1usize..4).prop_map(
            |(
                (base, count, object, position),
                (length, footer_length, footer_crc, time),
                epoch,
                epochs,
            )| {
                let (base, epochs) = (Offset(base), epochs.min(count as usize));
                let start = |at: usize| EpochStart {
                    epoch: LeaderEpoch(epoch + at as i32),
                    start: base + at as i64,
                };
                Extent {
                    base,
                    end: base + count,
                    object: ObjectId(object),
                    position,
                    length,
                    footer_length,
                    footer_crc,
                    newest: MaxTimestamp {
                        timestamp: time,
                        offset: base + count / 2,
                    },
                    epochs: (0..epochs).map(start).collect(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn extents_round_trip_one_after_the_other(list in proptest::collection::vec(extents(), 0..5)) {
            let mut bytes = Vec::new();
            list.iter().for_each(|extent| extent.encode(&mut bytes));
            let mut rest = &bytes[..];
            for extent in &list {
                let decoded = Extent::decode(&mut rest);
                prop_assert_eq!(decoded.as_ref(), Ok(extent));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn cut_and_hostile_bytes_are_refused(extent in extents(), noise in proptest::collection::vec(any::<u8>(), 0..120)) {
            let mut bytes = Vec::new();
            extent.encode(&mut bytes);
            for len in 0..bytes.len() {
                prop_assert!(Extent::decode(&mut &bytes[..len]).is_err());
            }
            // What is taken for one can be written and read again.
            if let Ok(decoded) = Extent::decode(&mut &noise[..]) {
                let mut bytes = Vec::new();
                decoded.encode(&mut bytes);
                prop_assert_eq!(Extent::decode(&mut &bytes[..]), Ok(decoded));
            }
            let _ = PageRef::decode(&mut &noise[..]);
            let _ = RemoteObject::decode(&mut &noise[..]);
        }

        #[test]
        fn pages_and_names_round_trip(
            base in 0..i64::MAX / 2, count in 1..1i64 << 40, hash: u64, extents in 1..=u32::MAX,
            data_bytes in 0..u64::MAX >> 1, length: u32, time: i64, epoch in 0..i32::MAX, id: u128, partition in 0..i32::MAX,
        ) {
            let page = PageRef {
                base: Offset(base),
                end: Offset(base + count),
                hash,
                extents,
                data_bytes,
                length,
                newest: MaxTimestamp { timestamp: time, offset: Offset(base + count / 3) },
                last_epoch: LeaderEpoch(epoch),
            };
            let mut bytes = Vec::new();
            page.encode(&mut bytes);
            prop_assert_eq!(PageRef::decode(&mut &bytes[..]), Ok(page));
            let names = [
                RemoteObject::Data(ObjectId(id)),
                RemoteObject::Page {
                    topic: TopicId(Uuid::from_u128(id)),
                    partition: PartitionId(partition),
                    first: Offset(base),
                    hash,
                },
            ];
            for name in names {
                let mut bytes = Vec::new();
                name.encode(&mut bytes);
                prop_assert_eq!(RemoteObject::decode(&mut &bytes[..]), Ok(name));
                prop_assert!(RemoteObject::decode(&mut &bytes[..bytes.len() - 1]).is_err());
            }
        }
    }

    #[test]
    fn an_extent_keeps_its_bytes() {
        let extent = Extent {
            base: Offset(1_000),
            end: Offset(1_500),
            object: ObjectId::new(1_700_000_000_000, 0x0102_0304_0506_0708_090a),
            position: 16,
            length: 1 << 20,
            footer_length: 400,
            footer_crc: 0xdead_beef,
            newest: MaxTimestamp {
                timestamp: 1_357_034_400_000,
                offset: Offset(1_499),
            },
            epochs: vec![EpochStart {
                epoch: LeaderEpoch(3),
                start: Offset(1_000),
            }],
        };
        let mut bytes = Vec::new();
        extent.encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "d00fe807018bcfe568000102030405060708090a2080808001a006efbeadde80a4edd8fe4ee607020600"
        );
    }

    #[test]
    fn an_object_id_is_a_ulid() {
        // The example of the ULID specification: 1469918176385 ms.
        let id = ObjectId::new(1_469_918_176_385, 0);
        assert_eq!(id.to_string(), "01ARYZ6S410000000000000000");
        assert_eq!(
            ObjectId(u128::MAX).to_string(),
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
        );
        assert!(ObjectId::new(1, u128::MAX) < ObjectId::new(2, 0));
    }
}
