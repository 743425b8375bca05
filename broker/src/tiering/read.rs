//! Reading what is no longer on this disk.

use std::sync::Arc;

use tidemill_log::{LogRead, TimestampedOffset};
use tidemill_metadata::{MetadataLog, RemoteLog};
use tidemill_records::{Extent, Offset, PartitionId, TopicId};
use tidemill_tiered_store::footer::Aborted;
use tidemill_tiered_store::{ReadRange, StoreError};

use super::Tier;
use crate::broker::Broker;
use crate::partition::Partition;

/// Extents after the one that is read, for reading ahead.
const EXTENTS_AHEAD: usize = 64;
/// One step of a search by time.
const SCAN_BYTES: usize = 1 << 20;

/// Why the tier does not give what is asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Records(#[from] tidemill_log::ReadError),
    /// The metadata does not have it either, as when the log's start has just moved.
    #[error("offset {0} is not in the tier")]
    Absent(Offset),
}

/// What is wanted of a partition's remote log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoteWanted {
    pub(crate) from: Offset,
    pub(crate) up_to: Offset,
    pub(crate) bytes_max: usize,
    pub(crate) at_least_one: bool,
}

impl Tier {
    /// Counts a read that failed, and tells who runs the broker.
    pub(crate) fn note_read_error(&self, partition: &Partition, error: &RemoteError) {
        // The log's start may have moved meanwhile, which is no failure of the tier.
        if !matches!(error, RemoteError::Absent(_)) {
            self.counts.failed(error);
        }
        tracing::debug!(partition = %partition.name, %error, "cannot read from the tier");
    }

    /// Reads whole batches from the tier, with the aborted transactions that overlap them.
    pub(crate) async fn read(
        &self,
        broker: &Broker,
        partition: &Partition,
        wanted: RemoteWanted,
    ) -> Result<(LogRead, Vec<Aborted>), RemoteError> {
        let key = (partition.log.topic_id(), partition.name.partition);
        let mut from = wanted.from;
        loop {
            let image = broker.metadata.image();
            let remote = image.remote_log(key.0, key.1).cloned();
            let remote = remote.ok_or(RemoteError::Absent(from))?;
            let extents = self.extents_from(key, &remote, from).await?;
            if extents.is_empty() {
                return Err(RemoteError::Absent(from));
            }
            let range = ReadRange {
                topic: key.0,
                partition: key.1,
                from,
                up_to: wanted.up_to,
                max_bytes: wanted.bytes_max,
                at_least_one: wanted.at_least_one,
            };
            let read = self.store.read(&extents, range).await?;
            self.counts.succeeded();
            // A hole at the end of an extent, as compaction leaves it: go on behind it.
            if read.bytes == 0 && read.next > from && read.next < remote.end {
                from = read.next;
                continue;
            }
            let records = LogRead {
                chunks: read.chunks,
                bytes: read.bytes,
                next: read.next,
            };
            return Ok((records, read.aborted));
        }
    }

    /// The extent that holds `from`, and some of those after it; nothing where there is none.
    async fn extents_from(
        &self,
        (topic, partition): (TopicId, PartitionId),
        remote: &Arc<RemoteLog>,
        from: Offset,
    ) -> Result<Vec<Extent>, StoreError> {
        let at = remote.pages.partition_point(|page| page.end <= from);
        let mut found = Vec::new();
        if let Some(reference) = remote.pages.get(at).filter(|page| page.base <= from) {
            let page = self.store.page(topic, partition, reference).await?;
            let first = page.find(from).unwrap_or(page.extents.len());
            found.extend(page.extents[first..].iter().take(EXTENTS_AHEAD).cloned());
            if at + 1 < remote.pages.len() {
                return Ok(found);
            }
        }
        let inline = remote.extents().into_iter();
        let left = EXTENTS_AHEAD.saturating_sub(found.len());
        found.extend(inline.filter(|extent| extent.end > from).take(left));
        found.truncate(EXTENTS_AHEAD);
        // An extent further on does not help who wants one that is gone.
        if found.first().is_some_and(|first| first.base > from) {
            found.clear();
        }
        Ok(found)
    }

    /// The first record in the tier, not before `first` and below `up_to`, that is as late as `timestamp`.
    pub(crate) async fn offset_for_timestamp(
        &self,
        broker: &Broker,
        partition: &Partition,
        timestamp: i64,
        up_to: Offset,
    ) -> Result<Option<TimestampedOffset>, RemoteError> {
        let key = (partition.log.topic_id(), partition.name.partition);
        let image = broker.metadata.image();
        let Some(remote) = image.remote_log(key.0, key.1).cloned() else {
            return Ok(None);
        };
        let is_late = |newest_ms: i64| newest_ms >= timestamp;
        for page in remote
            .pages
            .iter()
            .filter(|page| is_late(page.newest.timestamp))
        {
            let page = self.store.page(key.0, key.1, page).await?;
            let found = self.find_in(
                partition,
                key,
                &page.extents,
                timestamp,
                remote.start,
                up_to,
            );
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
        }
        let inline = remote.extents();
        self.find_in(partition, key, &inline, timestamp, remote.start, up_to)
            .await
    }

    async fn find_in(
        &self,
        partition: &Partition,
        key: (TopicId, PartitionId),
        extents: &[Extent],
        timestamp: i64,
        first: Offset,
        up_to: Offset,
    ) -> Result<Option<TimestampedOffset>, RemoteError> {
        let may_have = |extent: &&Extent| {
            extent.newest.timestamp >= timestamp && extent.end > first && extent.base < up_to
        };
        for extent in extents.iter().filter(may_have) {
            let footer = self.store.footer(key.0, key.1, extent).await?;
            let mut from = footer.offset_before_time(timestamp);
            while from < extent.end.min(up_to) {
                let range = ReadRange {
                    topic: key.0,
                    partition: key.1,
                    from,
                    up_to,
                    max_bytes: SCAN_BYTES,
                    at_least_one: true,
                };
                let read = self.store.read(std::slice::from_ref(extent), range).await?;
                if read.next <= from {
                    break;
                }
                from = read.next;
                let records = LogRead {
                    chunks: read.chunks,
                    bytes: read.bytes,
                    next: read.next,
                };
                let found = partition.log.find_in_read(records, timestamp, first)?;
                if found.is_some_and(|found| found.offset < up_to) {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp in the tier.
    pub(crate) async fn max_timestamp(
        &self,
        broker: &Broker,
        partition: &Partition,
        up_to: Offset,
    ) -> Result<Option<TimestampedOffset>, RemoteError> {
        let key = (partition.log.topic_id(), partition.name.partition);
        let image = broker.metadata.image();
        let newest = image
            .remote_log(key.0, key.1)
            .and_then(|remote| remote.newest());
        match newest.filter(|newest| newest.timestamp >= 0) {
            None => Ok(None),
            Some(newest) => {
                self.offset_for_timestamp(broker, partition, newest.timestamp, up_to)
                    .await
            }
        }
    }
}
