//! Pages of a manifest in the bucket: moving the oldest extents of a remote log there out of the metadata, and dropping from the
//! first one what lies below the log's start.

use tidemill_metadata::{Command, MetadataLog, PageSeal, ProposeError, RemoteLog};
use tidemill_records::{Extent, ObjectId, Offset, PageRef, RemoteObject};
use tidemill_tiered_store::StoreError;
use tidemill_tiered_store::page::{self, PAGE_EXTENTS_MAX};

use super::upload::{UploadError, expire};
use super::{Led, Tier};
use crate::broker::Broker;

/// Extents that stay in the metadata, so that the newest data is found without a page.
const KEPT_INLINE: usize = 4;
/// Dead extents for which a page is written anew: so many, and such a part of it. Each costs storage, each writing two requests.
const DEAD_MIN: usize = 4;
const DEAD_PART: usize = 8;

impl Tier {
    /// Writes a page of the last page's extents and the oldest of those in the metadata, or a new one where that is full.
    pub(super) async fn seal_page(&self, broker: &Broker, led: &Led) -> Result<(), UploadError> {
        let Some(remote) = &led.remote else {
            return Ok(());
        };
        let inline = remote.extents();
        let moved = &inline[..inline.len().saturating_sub(KEPT_INLINE)];
        let last = remote.pages.last();
        let last = last.filter(|last| last.extents as usize + moved.len() <= PAGE_EXTENTS_MAX);
        match self.rewrite(broker, led, remote, last, moved).await {
            // What cannot be read cannot be added to, but must not keep what comes after it from the tier.
            Err(UploadError::Store(
                error @ (StoreError::NotFound { .. } | StoreError::Damaged { .. }),
            )) if last.is_some() => {
                self.counts.failed(&error);
                tracing::error!(partition = %led.partition.name, %error, "the last page of the manifest cannot be read");
                self.rewrite(broker, led, remote, None, moved).await
            }
            result => result,
        }
    }

    /// Writes the first page anew without the extents that retention or DeleteRecords has given up, if they are worth it.
    pub(super) async fn drop_dead(&self, broker: &Broker, led: &Led) -> Result<(), UploadError> {
        // As it is now: the start has just been moved.
        let image = broker.metadata.image();
        let Some(remote) = image.remote_log(led.key.0, led.key.1) else {
            return Ok(());
        };
        let Some(first) = remote.pages.first() else {
            return Ok(());
        };
        if first.base == remote.start {
            return Ok(());
        }
        let page = self.store.page(led.key.0, led.key.1, first).await?;
        let dead = dead(&page.extents, remote.start).len();
        if dead < DEAD_MIN.max(page.extents.len() / DEAD_PART) {
            return Ok(());
        }
        self.rewrite(broker, led, remote, Some(first), &[]).await
    }

    /// Puts a page in the place of `replaced`, or behind the last one: its extents that are not dead, then `moved`.
    async fn rewrite(
        &self,
        broker: &Broker,
        led: &Led,
        remote: &RemoteLog,
        replaced: Option<&PageRef>,
        moved: &[Extent],
    ) -> Result<(), UploadError> {
        let (topic, partition) = led.key;
        let (mut extents, mut dropped) = (Vec::new(), Vec::new());
        if let Some(replaced) = replaced {
            let page = self.store.page(topic, partition, replaced).await?;
            dropped = dead(&page.extents, remote.start);
            extents.extend_from_slice(&page.extents[dropped.len()..]);
        }
        extents.extend_from_slice(moved);
        let (reference, bytes) = page::encode(topic, partition, &extents, broker.random.next_u64());
        let object = RemoteObject::Page {
            topic,
            partition,
            first: reference.base,
            hash: reference.hash,
        };
        self.announce(broker, led, object).await?;
        self.store.put(object, vec![bytes]).await?;
        let command = Command::SealPage(PageSeal {
            topic,
            partition,
            leader_epoch: led.leader_epoch,
            generation: remote.generation,
            page: reference,
            replaces: replaced.map(|replaced| replaced.hash),
            dropped,
            moved: moved.len() as u32,
        });
        match broker.metadata.propose(command).await {
            Ok(_) => Ok(()),
            Err(ProposeError::Rejected(rejection)) => {
                expire(broker, vec![object]).await?;
                Err(ProposeError::Rejected(rejection).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The extents, oldest first, that lie wholly below `start`.
fn dead(extents: &[Extent], start: Offset) -> Vec<ObjectId> {
    let dead = extents.iter().take_while(|extent| extent.end <= start);
    dead.map(|extent| extent.object).collect()
}
