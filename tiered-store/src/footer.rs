//! The footer of an extent: how to find a record in it, how to tell that its bytes are right, and what a replica that has
//! nothing else needs to go on from its end.
//!
//! Little-endian, all of it covered by the CRC32C at its end, which the metadata holds too:
//!
//! | field | |
//! |---|---|
//! | magic | `TMFT` |
//! | version | u16, 1 |
//! | topic id, partition | 16 bytes, i32 |
//! | base, end | i64, i64 |
//! | length of the batches | u32 |
//! | newest: timestamp, offset | i64, i64 |
//! | leader epochs of the log up to the end | u32 count, each i32 epoch, i64 start |
//! | index | u32 count, each i64 base offset, u32 position, i64 largest timestamp before |
//! | aborted transactions that overlap | u32 count, each i64 producer id, i64 first offset, i64 last offset |
//! | checksums | u32 count, CRC32C of each 64 KiB of the batches |
//! | producers at the end | u32 length, a snapshot of the log's own format |
//! | CRC32C of all before | u32 |

use bytes::Bytes;
use tidemill_records::{
    BatchHeader, EpochStart, LeaderEpoch, MaxTimestamp, Offset, PartitionId, ProducerId, TopicId,
};
use uuid::Uuid;

use crate::codec::{Fields, FormatError, Put, crc32c};

/// So many bytes of batches have one checksum, and about so many one index entry.
pub const BLOCK_BYTES: usize = 64 << 10;

const MAGIC: &[u8; 4] = b"TMFT";
const VERSION: u16 = 1;
const EPOCH_BYTES: usize = 12;
const INDEX_BYTES: usize = 20;
const ABORTED_BYTES: usize = 24;
const CRC_BYTES: usize = 4;

/// A batch that reading may begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its base offset.
    pub offset: Offset,
    /// Where it is, from the beginning of the extent's batches.
    pub position: u32,
    /// The largest timestamp of all batches of the extent before it; -1 at the first.
    pub newest_before: i64,
}

/// A transaction that a read_committed consumer must skip (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first: Offset,
    /// Offset of its marker.
    pub last: Offset,
}

/// Which offsets of which partition an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentIdentity {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// First offset.
    pub base: Offset,
    /// End offset, exclusive.
    pub end: Offset,
}

/// A footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Whose it is.
    pub identity: ExtentIdentity,
    /// Bytes of the batches.
    pub length: u32,
    /// The largest timestamp.
    pub newest: MaxTimestamp,
    /// Every leader epoch of the log up to the end, so that a replica can go on from here.
    pub epochs: Vec<EpochStart>,
    /// Where reading may begin.
    pub index: Vec<IndexEntry>,
    /// Aborted transactions that overlap, by marker.
    pub aborted: Vec<Aborted>,
    /// CRC32C of each block of [`BLOCK_BYTES`] of the batches; the last may be shorter.
    pub block_crcs: Vec<u32>,
    /// The producers at the end, in the log's own format.
    pub producers: Bytes,
}

impl Footer {
    /// Its bytes, and their CRC32C.
    pub fn encode(&self) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(self.weight());
        out.raw(MAGIC);
        out.u16(VERSION);
        out.raw(self.identity.topic.0.as_bytes());
        out.i32(self.identity.partition.0);
        out.i64(self.identity.base.0);
        out.i64(self.identity.end.0);
        out.u32(self.length);
        out.i64(self.newest.timestamp);
        out.i64(self.newest.offset.0);
        out.count(self.epochs.len());
        for entry in &self.epochs {
            out.i32(entry.epoch.0);
            out.i64(entry.start.0);
        }
        out.count(self.index.len());
        for entry in &self.index {
            out.i64(entry.offset.0);
            out.u32(entry.position);
            out.i64(entry.newest_before);
        }
        out.count(self.aborted.len());
        for entry in &self.aborted {
            out.i64(entry.producer_id.0);
            out.i64(entry.first.0);
            out.i64(entry.last.0);
        }
        out.count(self.block_crcs.len());
        self.block_crcs.iter().for_each(|crc| out.u32(*crc));
        out.count(self.producers.len());
        out.raw(&self.producers);
        let crc = crc32c(&out);
        out.u32(crc);
        (out, crc)
    }

    /// Reads a footer, and proves that it is the one that the metadata speaks of.
    pub fn decode(bytes: &Bytes, expected_crc: u32) -> Result<Self, FormatError> {
        let covered = bytes.len().checked_sub(CRC_BYTES);
        let (covered, stored) = bytes.split_at(covered.ok_or(FormatError::Truncated)?);
        let computed = crc32c(covered);
        let stored = Fields(stored).u32()?;
        if computed != stored || stored != expected_crc {
            return Err(FormatError::Checksum {
                expected: expected_crc.into(),
                computed: computed.into(),
            });
        }
        let mut fields = Fields(covered);
        if fields.array()? != *MAGIC {
            return Err(FormatError::Magic);
        }
        match fields.u16()? {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let identity = ExtentIdentity {
            topic: TopicId(Uuid::from_bytes(fields.array()?)),
            partition: PartitionId(fields.i32()?),
            base: Offset(fields.i64()?),
            end: Offset(fields.i64()?),
        };
        let length = fields.u32()?;
        let newest = MaxTimestamp {
            timestamp: fields.i64()?,
            offset: Offset(fields.i64()?),
        };
        let epochs = list(&mut fields, EPOCH_BYTES, |fields| {
            Ok(EpochStart {
                epoch: LeaderEpoch(fields.i32()?),
                start: Offset(fields.i64()?),
            })
        })?;
        let index = list(&mut fields, INDEX_BYTES, |fields| {
            Ok(IndexEntry {
                offset: Offset(fields.i64()?),
                position: fields.u32()?,
                newest_before: fields.i64()?,
            })
        })?;
        let aborted = list(&mut fields, ABORTED_BYTES, |fields| {
            Ok(Aborted {
                producer_id: ProducerId(fields.i64()?),
                first: Offset(fields.i64()?),
                last: Offset(fields.i64()?),
            })
        })?;
        let block_crcs = list(&mut fields, CRC_BYTES, |fields| fields.u32())?;
        let producers = fields.count(1)?;
        let producers = bytes.slice_ref(fields.take(producers)?);
        fields.end()?;
        let footer = Self {
            identity,
            length,
            newest,
            epochs,
            index,
            aborted,
            block_crcs,
            producers,
        };
        footer.check()?;
        Ok(footer)
    }

    fn check(&self) -> Result<(), FormatError> {
        let rises = |pair: &[IndexEntry]| {
            pair[0].offset < pair[1].offset && pair[0].position < pair[1].position
        };
        let is_sound = self.identity.base < self.identity.end
            && self.block_crcs.len() == (self.length as usize).div_ceil(BLOCK_BYTES)
            && self.index.first().is_some_and(|first| first.position == 0)
            && self
                .index
                .last()
                .is_some_and(|last| last.position < self.length)
            && self.index.windows(2).all(rises);
        is_sound.then_some(()).ok_or(FormatError::Range)
    }

    /// About how much memory it takes.
    pub fn weight(&self) -> usize {
        200 + self.epochs.len() * EPOCH_BYTES
            + self.index.len() * 24
            + self.aborted.len() * ABORTED_BYTES
            + self.block_crcs.len() * CRC_BYTES
            + self.producers.len()
    }

    /// Where to begin reading for `offset`: at a batch that is not after it.
    pub fn position_of(&self, offset: Offset) -> u32 {
        let after = self.index.partition_point(|entry| entry.offset <= offset);
        self.index[after.saturating_sub(1)].position
    }

    /// Where to begin reading for the first record that is as late as `timestamp`: no record before is.
    pub fn offset_before_time(&self, timestamp: i64) -> Offset {
        let later = |entry: &&IndexEntry| entry.newest_before < timestamp;
        let entry = self.index.iter().take_while(later).last();
        entry.map_or(self.identity.base, |entry| entry.offset)
    }

    /// The aborted transactions that overlap `from..to`.
    pub fn aborted_in(&self, from: Offset, to: Offset) -> impl Iterator<Item = &Aborted> {
        let overlaps = move |entry: &&Aborted| entry.first < to && entry.last >= from;
        self.aborted.iter().filter(overlaps)
    }

    /// Whether `pieces`, one after the other, are the batches, byte for byte.
    pub fn is_of(&self, pieces: &[Bytes]) -> bool {
        let mut builder = FooterBuilder::new(self.identity.base);
        pieces.iter().for_each(|piece| builder.push_bytes(piece));
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        bytes == self.length as usize && builder.all_block_crcs() == self.block_crcs
    }

    /// Proves that `bytes` is block number `block` of the batches.
    pub fn check_block(&self, block: usize, bytes: &[u8]) -> Result<(), FormatError> {
        let expected = *self.block_crcs.get(block).ok_or(FormatError::Range)?;
        match crc32c(bytes) {
            computed if computed == expected => Ok(()),
            computed => Err(FormatError::Checksum {
                expected: expected.into(),
                computed: computed.into(),
            }),
        }
    }
}

fn list<T>(
    fields: &mut Fields<'_>,
    entry_bytes: usize,
    mut entry: impl FnMut(&mut Fields<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    let count = fields.count(entry_bytes)?;
    (0..count).map(|_| entry(fields)).collect()
}

/// Gathers what a footer says of batches, as they go by in pieces of any size.
#[derive(Debug)]
pub struct FooterBuilder {
    base: Offset,
    length: u32,
    newest: MaxTimestamp,
    epochs: Vec<EpochStart>,
    index: Vec<IndexEntry>,
    indexed_to: u32,
    block_crcs: Vec<u32>,
    block: crc_fast::Digest,
    block_filled: usize,
    end: Offset,
}

impl FooterBuilder {
    /// For batches from `base` on.
    pub fn new(base: Offset) -> Self {
        Self {
            base,
            length: 0,
            newest: MaxTimestamp {
                timestamp: -1,
                offset: base,
            },
            epochs: Vec::new(),
            index: Vec::new(),
            indexed_to: 0,
            block_crcs: Vec::new(),
            block: new_block(),
            block_filled: 0,
            end: base,
        }
    }

    /// Takes in the next batch's header; its bytes go to [`Self::push_bytes`].
    pub fn push_batch(&mut self, header: &BatchHeader) {
        if self.index.is_empty() || self.length - self.indexed_to >= BLOCK_BYTES as u32 {
            self.index.push(IndexEntry {
                offset: header.base_offset(),
                position: self.length,
                newest_before: match self.index.is_empty() {
                    true => -1,
                    false => self.newest.timestamp,
                },
            });
            self.indexed_to = self.length;
        }
        if header.max_timestamp() > self.newest.timestamp {
            self.newest = MaxTimestamp {
                timestamp: header.max_timestamp(),
                offset: header.last_offset(),
            };
        }
        let epoch = header.leader_epoch();
        if self.epochs.last().is_none_or(|last| last.epoch < epoch) {
            // The first batch may begin below the extent, where the log's start lies in it.
            let start = match self.epochs.is_empty() {
                true => self.base,
                false => header.base_offset(),
            };
            self.epochs.push(EpochStart { epoch, start });
        }
        self.length += u32::try_from(header.size_bytes()).expect("a batch is smaller than 2 GiB");
        self.end = header.next_offset();
    }

    /// Takes in the bytes of batches, in order.
    pub fn push_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.block_filled;
            let (taken, rest) = bytes.split_at(room.min(bytes.len()));
            self.block.update(taken);
            self.block_filled += taken.len();
            if self.block_filled == BLOCK_BYTES {
                self.finish_block();
            }
            bytes = rest;
        }
    }

    fn finish_block(&mut self) {
        let block = std::mem::replace(&mut self.block, new_block());
        self.block_crcs.push(block.finalize() as u32);
        self.block_filled = 0;
    }

    /// Bytes of the batches so far.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The offset after the last batch.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The leader epochs of the batches, for the extent.
    pub fn epochs(&self) -> &[EpochStart] {
        &self.epochs
    }

    /// The footer. `epochs` are those of the whole log up to the end.
    pub fn finish(
        mut self,
        identity: ExtentIdentity,
        epochs: Vec<EpochStart>,
        aborted: Vec<Aborted>,
        producers: Bytes,
    ) -> Footer {
        let block_crcs = self.all_block_crcs();
        Footer {
            identity,
            length: self.length,
            newest: self.newest,
            epochs,
            index: self.index,
            aborted,
            block_crcs,
            producers,
        }
    }

    fn all_block_crcs(&mut self) -> Vec<u32> {
        if self.block_filled > 0 {
            self.finish_block();
        }
        std::mem::take(&mut self.block_crcs)
    }
}

fn new_block() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi)
}

#[cfg(test)]
mod tests;
