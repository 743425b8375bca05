//! A data object: runs of batches, each with its footer, and a directory.
//!
//! | part | |
//! |---|---|
//! | header | magic `TMOB`, u16 version 1, u16 zero, cluster id of 16 bytes |
//! | per extent | batches verbatim, then the [footer](crate::footer) |
//! | directory | u32 count, each: topic id of 16 bytes, i32 partition, then the extent as the metadata has it |
//! | trailer | u32 length of the directory, u32 CRC32C of the directory, magic `TMOE` |
//!
//! Whoever knows an extent reads its batches and its footer directly. The directory serves those who know nothing: a restore, a
//! scrubber, a person. Today an object has one extent; the format allows for more.

use bytes::Bytes;
use tidemill_records::{Extent, ObjectId, PartitionId, TopicId};
use uuid::Uuid;

use crate::codec::{Fields, FormatError, Put, crc32c};
use crate::footer::{BLOCK_BYTES, Footer};

const MAGIC: &[u8; 4] = b"TMOB";
const END_MAGIC: &[u8; 4] = b"TMOE";
const VERSION: u16 = 1;

/// Bytes in front of the first extent.
pub const HEADER_BYTES: usize = 24;
/// Bytes at the very end.
pub const TRAILER_BYTES: usize = 12;

/// The bytes in front of the first extent.
pub fn encode_header(cluster: Uuid) -> [u8; HEADER_BYTES] {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.raw(MAGIC);
    out.u16(VERSION);
    out.u16(0);
    out.raw(cluster.as_bytes());
    out.try_into().expect("every byte has a field")
}

/// One extent of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The extent.
    pub extent: Extent,
}

/// What an object of one extent ends with: footer, directory, trailer. Also the extent as the metadata will hold it.
pub fn finish(
    object: ObjectId,
    footer: &Footer,
    epochs: &[tidemill_records::EpochStart],
) -> (Extent, Vec<u8>) {
    let (mut out, footer_crc) = footer.encode();
    let extent = Extent {
        base: footer.identity.base,
        end: footer.identity.end,
        object,
        position: HEADER_BYTES as u64,
        length: footer.length,
        footer_length: u32::try_from(out.len()).expect("a footer is small"),
        footer_crc,
        newest: footer.newest,
        epochs: epochs.to_vec(),
    };
    let entry = DirectoryEntry {
        topic: footer.identity.topic,
        partition: footer.identity.partition,
        extent,
    };
    encode_directory(std::slice::from_ref(&entry), &mut out);
    (entry.extent, out)
}

fn encode_directory(entries: &[DirectoryEntry], out: &mut Vec<u8>) {
    let mut directory = Vec::new();
    directory.count(entries.len());
    for entry in entries {
        directory.raw(entry.topic.0.as_bytes());
        directory.i32(entry.partition.0);
        entry.extent.encode(&mut directory);
    }
    out.raw(&directory);
    out.count(directory.len());
    out.u32(crc32c(&directory));
    out.raw(END_MAGIC);
}

/// Reads a whole object and proves all of it: header, directory, footers, batches.
pub fn check(object: &Bytes, cluster: Uuid) -> Result<Vec<DirectoryEntry>, FormatError> {
    let mut fields = Fields(object);
    if fields.array()? != *MAGIC {
        return Err(FormatError::Magic);
    }
    match fields.u16()? {
        VERSION => {}
        other => return Err(FormatError::Version(other)),
    }
    fields.u16()?;
    if fields.array()? != *cluster.as_bytes() {
        return Err(FormatError::Identity);
    }
    let entries = directory(object)?;
    for entry in &entries {
        let extent = &entry.extent;
        let from = usize::try_from(extent.position).map_err(|_| FormatError::Range)?;
        let to = from
            .checked_add(extent.length as usize)
            .ok_or(FormatError::Range)?;
        let batches = object.get(from..to).ok_or(FormatError::Truncated)?;
        let footer = object.get(to..to + extent.footer_length as usize);
        let footer = object.slice_ref(footer.ok_or(FormatError::Truncated)?);
        let footer = Footer::decode(&footer, extent.footer_crc)?;
        for (at, block) in batches.chunks(BLOCK_BYTES).enumerate() {
            footer.check_block(at, block)?;
        }
    }
    Ok(entries)
}

/// The directory of an object, from its last bytes.
pub fn directory(tail: &[u8]) -> Result<Vec<DirectoryEntry>, FormatError> {
    let at = tail
        .len()
        .checked_sub(TRAILER_BYTES)
        .ok_or(FormatError::Truncated)?;
    let (before, trailer) = tail.split_at(at);
    let mut fields = Fields(trailer);
    let (length, expected) = (fields.u32()? as usize, fields.u32()?);
    if fields.array()? != *END_MAGIC {
        return Err(FormatError::Magic);
    }
    let at = before
        .len()
        .checked_sub(length)
        .ok_or(FormatError::Truncated)?;
    let directory = &before[at..];
    let computed = crc32c(directory);
    if computed != expected {
        return Err(FormatError::Checksum {
            expected: expected.into(),
            computed: computed.into(),
        });
    }
    let mut fields = Fields(directory);
    let mut entries = Vec::new();
    for _ in 0..fields.count(20)? {
        entries.push(DirectoryEntry {
            topic: TopicId(Uuid::from_bytes(fields.array()?)),
            partition: PartitionId(fields.i32()?),
            extent: Extent::decode(&mut fields.0)?,
        });
    }
    fields.end()?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use tidemill_records::{
        Compression, EpochStart, Headers, LeaderEpoch, Offset, RecordBatch, RecordBatchBuilder,
    };

    use super::*;
    use crate::footer::{ExtentIdentity, FooterBuilder};

    const CLUSTER: Uuid = Uuid::from_u128(1);

    fn batch(base: i64) -> RecordBatch {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.push(base, None, Some(&[base as u8; 30_000]), &Headers::default());
        let mut batch = builder.build().expect("a batch");
        batch.assign(Offset(base), LeaderEpoch(0));
        batch
    }

    fn object() -> (Extent, Vec<u8>) {
        let mut builder = FooterBuilder::new(Offset(10));
        let mut bytes = encode_header(CLUSTER).to_vec();
        for base in 10..15 {
            let batch = batch(base);
            builder.push_batch(&batch);
            builder.push_bytes(&batch.to_bytes());
            bytes.extend_from_slice(&batch.to_bytes());
        }
        let identity = ExtentIdentity {
            topic: TopicId(Uuid::from_u128(2)),
            partition: PartitionId(0),
            base: Offset(10),
            end: builder.end(),
        };
        let epochs = vec![EpochStart {
            epoch: LeaderEpoch(0),
            start: Offset(10),
        }];
        let footer = builder.finish(identity, epochs.clone(), Vec::new(), Bytes::new());
        let (extent, end) = finish(ObjectId(77), &footer, &epochs);
        bytes.extend_from_slice(&end);
        (extent, bytes)
    }

    #[test]
    fn an_object_tells_all_about_itself() {
        let (extent, bytes) = object();
        let entries = check(&bytes.into(), CLUSTER).expect("it is whole");
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].extent, extent);
        assert_eq!((extent.base, extent.end), (Offset(10), Offset(15)));
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let (_, bytes) = object();
        // Bytes 6 and 7 are reserved.
        for at in (0..bytes.len())
            .filter(|at| !(6..8).contains(at))
            .step_by(97)
        {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(check(&flipped.into(), CLUSTER).is_err(), "byte {at}");
            assert!(
                check(&bytes[..at].to_vec().into(), CLUSTER).is_err(),
                "cut at {at}"
            );
        }
        assert_eq!(
            check(&bytes.into(), Uuid::from_u128(9)),
            Err(FormatError::Identity)
        );
    }
}
