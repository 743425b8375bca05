//! Deleting what nothing refers to: named by the metadata, kept for a while for those who still read it, then deleted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tidemill_metadata::{Command, Garbage, MetadataLog};
use tidemill_records::{Extent, RemoteObject};
use tidemill_tiered_store::StoreError;

use super::Tier;
use crate::broker::Broker;

/// What one round deletes: whether the tier is still ours is asked for each round. A page that goes with its extents weighs more.
const ROUND_WEIGHT: usize = 200;
const PAGE_WEIGHT: usize = 50;
/// Requests at the same time, and of a page that goes with its extents so many more.
const OBJECTS_AT_ONCE: usize = 8;
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
        let due = self.due(tier, broker);
        if due.is_empty() || !tier.still_owns(broker).await {
            return;
        }
        let is_outage = AtomicBool::new(false);
        let tried: Vec<RemoteObject> = due.iter().map(|(object, _)| *object).collect();
        let deletes = stream::iter(due).map(|(object, garbage)| {
            let is_outage = &is_outage;
            async move {
                // One object that cannot be deleted does not keep the others; a store that is away does.
                if is_outage.load(Ordering::Relaxed) {
                    return None;
                }
                match delete(tier, &object, &garbage).await {
                    Ok(()) => Some(object),
                    Err(error) => {
                        is_outage.fetch_or(error.is_outage(), Ordering::Relaxed);
                        tier.counts.failed(&error);
                        tracing::warn!(key = tier.store.key_of(&object), %error, "cannot delete from the tier, will try again");
                        None
                    }
                }
            }
        });
        let deleted: Vec<RemoteObject> = deletes
            .buffer_unordered(OBJECTS_AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if !is_outage.into_inner() {
            // What cannot be deleted waits again, and lets others pass.
            let now = broker.clock.monotonic();
            self.since
                .extend(tried.into_iter().map(|object| (object, now)));
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

    /// What has been garbage long enough, at most so much as one round deletes.
    fn due(&mut self, tier: &Tier, broker: &Broker) -> Vec<(RemoteObject, Garbage)> {
        let image = broker.metadata.image();
        if image.garbage().len() == 0 {
            self.since.clear();
            return Vec::new();
        }
        self.since.retain(|object, _| image.is_garbage(object));
        let now = broker.clock.monotonic();
        let (mut due, mut weight) = (Vec::new(), 0);
        for (object, garbage) in image.garbage() {
            let since = *self.since.entry(*object).or_insert(now);
            let grace = match garbage.expired {
                true => EXPIRED_GRACE.max(tier.config.delete_grace),
                false => tier.config.delete_grace,
            };
            if now.saturating_sub(since) >= grace && weight < ROUND_WEIGHT {
                due.push((*object, *garbage));
                weight += match garbage.with_extents {
                    true => PAGE_WEIGHT,
                    false => 1,
                };
            }
        }
        due
    }
}

/// Deletes an object; a page after the objects that only it knows of.
async fn delete(tier: &Tier, object: &RemoteObject, garbage: &Garbage) -> Result<(), StoreError> {
    if garbage.with_extents {
        let extents = tier.extents_of_garbage(object).await?;
        stream::iter(&extents)
            .map(Ok)
            .try_for_each_concurrent(OBJECTS_AT_ONCE, |extent| {
                tier.store.delete(RemoteObject::Data(extent.object))
            })
            .await?;
    }
    tier.store.delete(*object).await
}

impl Tier {
    /// The extents that a page names which is garbage with them; none where it is deleted already, which comes last.
    pub(super) async fn extents_of_garbage(
        &self,
        object: &RemoteObject,
    ) -> Result<Vec<Extent>, StoreError> {
        let RemoteObject::Page {
            topic,
            partition,
            first,
            hash,
        } = *object
        else {
            return Ok(Vec::new());
        };
        match self.store.page_by_name(topic, partition, first, hash).await {
            Ok(page) => Ok(page.extents.clone()),
            Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
