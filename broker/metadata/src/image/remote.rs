//! What of a partition is in the object tier, and which objects are on their way into the bucket or out of it.

use std::sync::Arc;

use tidemill_records::{Extent, LeaderEpoch, MaxTimestamp, Offset, PageRef, PartitionId, TopicId};

/// Extents that the metadata itself holds for one partition. Older ones are in pages.
pub const INLINE_EXTENTS_MAX: usize = 16;

/// The remote log of one partition: pages, then extents, without a gap from the first to the last.
///
/// What lies between `start` and `end` is in the tier. What a page or extent holds below `start` is no longer part of
/// the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteLog {
    /// Nothing below it may be read: the log start offset.
    pub start: Offset,
    /// Where the next upload begins, exclusive end of the last extent.
    pub end: Offset,
    /// Grows with every change of pages or extents.
    pub generation: u64,
    /// Sealed pages, oldest first.
    pub pages: Arc<[PageRef]>,
    /// Packed: there are many partitions, and few of them are looked at.
    pub(crate) extents: Arc<[u8]>,
    /// How many of them.
    pub(crate) extent_count: u8,
}

impl RemoteLog {
    /// An empty one.
    pub(crate) fn starting_at(start: Offset) -> Self {
        Self {
            start,
            end: start,
            generation: 0,
            pages: Arc::from([]),
            extents: Arc::from([]),
            extent_count: 0,
        }
    }

    /// The extents that are not in pages, oldest first.
    pub fn extents(&self) -> Vec<Extent> {
        let mut bytes = &self.extents[..];
        let mut extents = Vec::with_capacity(self.extent_count.into());
        while !bytes.is_empty() {
            extents.push(Extent::decode(&mut bytes).expect("packed by this type"));
        }
        extents
    }

    /// How many extents are not in pages.
    pub fn extent_count(&self) -> usize {
        self.extent_count.into()
    }

    /// Whether nothing is in the tier.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.extent_count == 0
    }

    pub(crate) fn set_extents(&mut self, extents: &[Extent]) {
        let mut bytes = Vec::new();
        extents.iter().for_each(|extent| extent.encode(&mut bytes));
        self.extents = bytes.into();
        self.extent_count = extents.len() as u8;
    }

    /// The leader epoch of the last record in the tier.
    pub fn last_epoch(&self) -> LeaderEpoch {
        let paged = self.pages.last().map(|page| page.last_epoch);
        let inline = self.extents().last().map(Extent::last_epoch);
        inline.or(paged).unwrap_or(LeaderEpoch::NONE)
    }

    /// Bytes of its batches; of a page or extent that `start` lies in all are counted.
    pub fn size_bytes(&self) -> u64 {
        let paged: u64 = self.pages.iter().map(|page| page.data_bytes).sum();
        let inline = self.extents();
        paged
            + inline
                .iter()
                .map(|extent| u64::from(extent.length))
                .sum::<u64>()
    }

    /// The largest timestamp in the tier.
    pub fn newest(&self) -> Option<MaxTimestamp> {
        let paged = self.pages.iter().map(|page| page.newest);
        let inline = self.extents();
        let all = paged.chain(inline.iter().map(|extent| extent.newest));
        MaxTimestamp::first_of_newest(all)
    }
}

/// An upload that was announced: the object may be in the bucket from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepare {
    /// The partition that it is for.
    pub topic: TopicId,
    /// Its index.
    pub partition: PartitionId,
    /// The leader epoch of who announced it; what is committed must still have it.
    pub leader_epoch: LeaderEpoch,
}

/// An object that nothing refers to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage {
    /// Index of the entry that made it so.
    pub since: u64,
    /// Of a page: whether the extents in it are garbage too. A page that was rewritten leaves them to the next one.
    pub with_extents: bool,
    /// Whether it never was committed: it may be in the bucket, or not, or yet come there.
    pub expired: bool,
}
