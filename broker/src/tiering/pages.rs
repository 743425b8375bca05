//! Moving the oldest extents of a remote log out of the metadata into a page in the bucket.

use tidemill_metadata::{Command, MetadataLog, PageSeal, ProposeError};
use tidemill_records::RemoteObject;
use tidemill_tiered_store::page::{self, PAGE_EXTENTS_MAX};

use super::upload::{UploadError, expire};
use super::{Led, Tier};
use crate::broker::Broker;

/// Extents that stay in the metadata, so that the newest data is found without a page.
const KEPT_INLINE: usize = 4;

impl Tier {
    /// Writes a page of the last page's extents and the oldest of those in the metadata, or a new one where that is full.
    pub(super) async fn seal_page(&self, broker: &Broker, led: &Led) -> Result<(), UploadError> {
        let (topic, partition) = led.key;
        let Some(remote) = &led.remote else {
            return Ok(());
        };
        let inline = remote.extents();
        let moved = &inline[..inline.len().saturating_sub(KEPT_INLINE)];
        let last = remote.pages.last();
        let last = last.filter(|last| last.extents as usize + moved.len() <= PAGE_EXTENTS_MAX);
        let mut extents = match last {
            Some(last) => self
                .store
                .page(topic, partition, last)
                .await?
                .extents
                .clone(),
            None => Vec::new(),
        };
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
            replaces_last: last.is_some(),
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
