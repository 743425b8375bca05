//! What `/v1/tier` and `tidemill tier status` show.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_metadata::{Garbage, MetadataLog};
use tidemill_records::RemoteObject;
use tidemill_tiered_store::StoreError;

use super::{Tier, TopicTierFigures, storage_dollars_a_month};
use crate::broker::Broker;

/// The tier at one moment.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TierStatus {
    pub(crate) url: String,
    pub(crate) incarnation: u64,
    pub(crate) is_claimed: bool,
    pub(crate) last_error: Option<String>,
    pub(crate) prepared_objects: u64,
    pub(crate) garbage_objects: u64,
    pub(crate) requests_dollars: f64,
    pub(crate) topics: Vec<TopicStatus>,
}

/// One topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopicStatus {
    pub(crate) topic: String,
    pub(crate) remote_bytes: u64,
    pub(crate) remote_only_bytes: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) waiting_seconds: f64,
    pub(crate) extents: u64,
    pub(crate) pages: u64,
    pub(crate) dollars_per_month: f64,
}

/// An object that the metadata knows of.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectStatus {
    pub(crate) key: String,
    /// `live`, `prepared`, `garbage`, or `expired`: announced, never committed, and there or not.
    pub(crate) state: &'static str,
}

impl Tier {
    pub(crate) fn status(&self, broker: &Broker) -> TierStatus {
        let image = broker.metadata.image();
        let topics = self.figures_by_topic(broker).into_iter();
        TierStatus {
            url: self.url().to_string(),
            incarnation: image.tier_incarnation(),
            is_claimed: self.is_claimed(),
            last_error: self.upload_figures().last_error,
            prepared_objects: image.prepares().len() as u64,
            garbage_objects: image.garbage().len() as u64,
            requests_dollars: self.store.counts().dollars(),
            topics: topics
                .map(|(topic, figures)| TopicStatus {
                    topic: topic.to_string(),
                    remote_bytes: figures.remote_bytes,
                    remote_only_bytes: figures.remote_only_bytes,
                    waiting_bytes: figures.waiting_bytes,
                    waiting_seconds: figures.waiting_seconds,
                    extents: figures.extents,
                    pages: figures.pages,
                    dollars_per_month: storage_dollars_a_month(figures.remote_bytes),
                })
                .collect(),
        }
    }

    /// Figures of all tiered topics, by name.
    pub(crate) fn figures_by_topic(&self, broker: &Broker) -> BTreeMap<Arc<str>, TopicTierFigures> {
        let mut by_topic: BTreeMap<Arc<str>, TopicTierFigures> = BTreeMap::new();
        for partition in broker.partitions.all() {
            if partition.log.config().tiered {
                let figures = by_topic.entry(partition.name.topic.clone()).or_default();
                self.add_figures(broker, &partition, figures);
            }
        }
        by_topic
    }

    /// Every object that the metadata refers to, or names as one that may be in the bucket. Reads all pages.
    pub(crate) async fn objects(&self, broker: &Broker) -> Result<Vec<ObjectStatus>, StoreError> {
        let image = broker.metadata.image();
        let mut objects = Vec::new();
        let mut add = |object: &RemoteObject, state| {
            objects.push(ObjectStatus {
                key: self.store.key_of(object),
                state,
            });
        };
        for (topic, partition, log) in image.remote_logs() {
            for page in log.pages.iter() {
                let name = RemoteObject::Page {
                    topic,
                    partition,
                    first: page.base,
                    hash: page.hash,
                };
                add(&name, "live");
                let extents = &self.store.page(topic, partition, page).await?.extents;
                let objects = extents
                    .iter()
                    .map(|extent| RemoteObject::Data(extent.object));
                objects.for_each(|object| add(&object, "live"));
            }
            let inline = log.extents();
            let data = inline
                .iter()
                .map(|extent| RemoteObject::Data(extent.object));
            data.for_each(|object| add(&object, "live"));
        }
        image
            .prepares()
            .for_each(|(object, _)| add(object, "prepared"));
        for (object, garbage) in image.garbage() {
            add(object, state_of(garbage));
            if garbage.with_extents {
                let extents = self.extents_of_garbage(object).await?;
                let objects = extents
                    .iter()
                    .map(|extent| RemoteObject::Data(extent.object));
                objects.for_each(|object| add(&object, "garbage"));
            }
        }
        Ok(objects)
    }
}

fn state_of(garbage: &Garbage) -> &'static str {
    match garbage.expired {
        true => "expired",
        false => "garbage",
    }
}
