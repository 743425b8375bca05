//! Deleting what nothing refers to: named by the metadata, kept for a while for those who still read it, then deleted.

use std::collections::HashMap;
use std::time::Duration;

use tidemill_metadata::{Command, Garbage, MetadataLog};
use tidemill_records::RemoteObject;
use tidemill_tiered_store::StoreError;

use super::Tier;
use crate::broker::Broker;

/// Objects that one round deletes.
const DELETED_AT_ONCE: usize = 500;
/// What was announced and never committed may still arrive: a request that everybody has given up can be on its way. Its name
/// is kept so long, then it is deleted once.
const EXPIRED_GRACE: Duration = Duration::from_secs(24 * 3600);

/// Since when this process knows of each object that may go. A restart lets the wait begin anew, which harms nobody.
#[derive(Default)]
pub(super) struct Collector {
    since: HashMap<RemoteObject, Duration>,
}

impl Collector {
    pub(super) async fn round(&mut self, tier: &Tier, broker: &Broker) {
        let image = broker.metadata.image();
        let now = broker.clock.monotonic();
        if image.garbage().len() == 0 {
            self.since.clear();
            return;
        }
        self.since.retain(|object, _| image.is_garbage(object));
        let mut due = Vec::new();
        for (object, garbage) in image.garbage() {
            let since = *self.since.entry(*object).or_insert(now);
            let grace = match garbage.expired {
                true => EXPIRED_GRACE.max(tier.config.delete_grace),
                false => tier.config.delete_grace,
            };
            if now - since >= grace && due.len() < DELETED_AT_ONCE {
                due.push((*object, *garbage));
            }
        }
        if due.is_empty() || !tier.still_owns(broker).await {
            return;
        }
        let mut deleted = Vec::new();
        for (object, garbage) in due {
            match delete(tier, &object, &garbage).await {
                Ok(()) => deleted.push(object),
                Err(error) => {
                    tier.counts.failed(&error);
                    tracing::warn!(key = tier.store.key_of(&object), %error, "cannot delete from the tier, will try again");
                    // One object that cannot be deleted does not keep the others.
                    if error.is_outage() {
                        break;
                    }
                }
            }
        }
        if deleted.is_empty() {
            return;
        }
        tier.counts.deleted(deleted.len() as u64);
        let command = Command::ForgetGarbage { objects: deleted };
        if let Err(error) = broker.metadata.propose(command).await {
            // They are deleted again: deleting what is not there is no error.
            tracing::warn!(%error, "cannot note what was deleted from the tier");
        }
    }
}

/// Deletes an object; a page after the objects that only it knows of.
async fn delete(tier: &Tier, object: &RemoteObject, garbage: &Garbage) -> Result<(), StoreError> {
    if let (
        true,
        RemoteObject::Page {
            topic,
            partition,
            first,
            hash,
        },
    ) = (garbage.with_extents, *object)
    {
        match tier.store.page_by_name(topic, partition, first, hash).await {
            Ok(page) => {
                for extent in &page.extents {
                    tier.store.delete(RemoteObject::Data(extent.object)).await?;
                }
            }
            // Deleted before, together with what it named.
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    tier.store.delete(*object).await
}
