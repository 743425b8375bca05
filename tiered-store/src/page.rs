//! A sealed page of a partition's manifest: extents that the metadata itself no longer holds.
//!
//! Magic `TMPG`, u16 version 1, a nonce u64, topic id of 16 bytes, i32 partition, u32 count, then the extents as the metadata has
//! them, then the CRC32C of all before. The nonce gives each attempt at the same page a name of its own: a name that was given up
//! is never used again. The CRC64-NVME of the whole is part of its key, so a page is never written twice with
//! different content.

use bytes::Bytes;
use tidemill_records::{Extent, MaxTimestamp, Offset, PageRef, PartitionId, TopicId};

use crate::codec::{Fields, FormatError, Put, crc32c, crc64};

const MAGIC: &[u8; 4] = b"TMPG";
const VERSION: u16 = 1;
/// A page that has so many extents is followed by another.
pub const PAGE_EXTENTS_MAX: usize = 4_000;

/// Extents that have become a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Without gaps, oldest first.
    pub extents: Vec<Extent>,
}

impl Page {
    /// The extent that holds `offset`.
    pub fn find(&self, offset: Offset) -> Option<usize> {
        let at = self.extents.partition_point(|extent| extent.end <= offset);
        (self.extents.get(at)?.base <= offset).then_some(at)
    }

    /// About how much memory it takes.
    pub fn weight(&self) -> usize {
        self.extents.len() * (std::mem::size_of::<Extent>() + 16)
    }
}

/// A page's bytes and what the metadata will hold of it. `extents` are not empty and without gaps.
pub fn encode(
    topic: TopicId,
    partition: PartitionId,
    extents: &[Extent],
    nonce: u64,
) -> (PageRef, Bytes) {
    let mut out = Vec::with_capacity(64 + extents.len() * 64);
    out.raw(MAGIC);
    out.u16(VERSION);
    out.u64(nonce);
    out.raw(topic.0.as_bytes());
    out.i32(partition.0);
    out.count(extents.len());
    extents.iter().for_each(|extent| extent.encode(&mut out));
    let crc = crc32c(&out);
    out.u32(crc);
    let newest =
        |newest: MaxTimestamp, extent: &Extent| match extent.newest.timestamp > newest.timestamp {
            true => extent.newest,
            false => newest,
        };
    let (first, last) = (&extents[0], &extents[extents.len() - 1]);
    let page = PageRef {
        base: first.base,
        end: last.end,
        hash: crc64(&out),
        extents: extents.len() as u32,
        data_bytes: extents.iter().map(|extent| u64::from(extent.length)).sum(),
        length: out.len() as u32,
        newest: extents.iter().fold(first.newest, newest),
        last_epoch: last.last_epoch(),
    };
    (page, out.into())
}

/// Reads a page, and proves that it is the one whose hash the metadata has.
pub fn decode(
    bytes: &[u8],
    topic: TopicId,
    partition: PartitionId,
    hash: u64,
) -> Result<Page, FormatError> {
    let computed = crc64(bytes);
    if computed != hash {
        return Err(FormatError::Checksum {
            expected: hash,
            computed,
        });
    }
    let covered = bytes.len().checked_sub(4).ok_or(FormatError::Truncated)?;
    let mut fields = Fields(&bytes[..covered]);
    if fields.array()? != *MAGIC {
        return Err(FormatError::Magic);
    }
    match fields.u16()? {
        VERSION => {}
        other => return Err(FormatError::Version(other)),
    }
    fields.u64()?;
    let is_same = fields.array()? == *topic.0.as_bytes() && fields.i32()? == partition.0;
    let mut extents = Vec::new();
    for _ in 0..fields.count(20)? {
        extents.push(Extent::decode(&mut fields.0)?);
    }
    fields.end()?;
    if !is_same || extents.is_empty() {
        return Err(FormatError::Identity);
    }
    match extents.windows(2).all(|pair| pair[0].end == pair[1].base) {
        true => Ok(Page { extents }),
        false => Err(FormatError::Range),
    }
}

#[cfg(test)]
mod tests {
    use tidemill_records::{EpochStart, LeaderEpoch, ObjectId};
    use uuid::Uuid;

    use super::*;

    fn extents(count: i64) -> Vec<Extent> {
        let extent = |at: i64| Extent {
            base: Offset(at * 10),
            end: Offset(at * 10 + 10),
            object: ObjectId(at as u128),
            position: 24,
            length: 1_000,
            footer_length: 100,
            footer_crc: at as u32,
            newest: MaxTimestamp {
                timestamp: (at * 7) % 31,
                offset: Offset(at * 10 + 3),
            },
            epochs: vec![EpochStart {
                epoch: LeaderEpoch(1),
                start: Offset(at * 10),
            }],
        };
        (0..count).map(extent).collect()
    }

    #[test]
    fn a_full_page_comes_back_and_finds_its_extents() {
        let (topic, partition) = (TopicId(Uuid::from_u128(1)), PartitionId(2));
        let all = extents(PAGE_EXTENTS_MAX as i64);
        let (reference, bytes) = encode(topic, partition, &all, 1);
        assert_eq!(reference.data_bytes, 1_000 * PAGE_EXTENTS_MAX as u64);
        assert_eq!(reference.newest.timestamp, 30);
        assert!(
            bytes.len() < 60 * PAGE_EXTENTS_MAX,
            "about fifty bytes an extent"
        );
        let page = decode(&bytes, topic, partition, reference.hash).expect("it is whole");
        assert_eq!(page.extents, all);
        assert_eq!(page.find(Offset(0)), Some(0));
        assert_eq!(page.find(Offset(39_999)), Some(3_999));
        assert_eq!(page.find(Offset(40_000)), None);
        let again = encode(topic, partition, &all, 2).0;
        assert_ne!(
            again.hash, reference.hash,
            "another attempt has another name"
        );
        let stranger = decode(&bytes, topic, PartitionId(3), reference.hash);
        assert_eq!(stranger, Err(FormatError::Identity));
    }

    #[test]
    fn a_changed_page_is_refused() {
        let (topic, partition) = (TopicId(Uuid::from_u128(1)), PartitionId(2));
        let (reference, bytes) = encode(topic, partition, &extents(3), 2);
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1;
            assert!(decode(&flipped, topic, partition, reference.hash).is_err());
            assert!(decode(&bytes[..at], topic, partition, reference.hash).is_err());
        }
    }
}
