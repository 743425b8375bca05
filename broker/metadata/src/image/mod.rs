//! The metadata image: what every replica holds after applying the same commands. It is immutable and
//! made of persistent maps, so a reader keeps one for as long as it likes and a new one shares all that
//! did not change.

mod broker;
mod changes;
pub(crate) mod codec;
mod config;
mod function;
mod remote;
pub(crate) mod retired;
pub(crate) mod topic;
mod transform;

use std::ops::Bound;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use tidemill_records::{NodeId, PartitionId, RemoteObject, TopicId, TopicPartition};
use uuid::Uuid;

pub use broker::{BrokerEpoch, BrokerImage, Listener};
pub use changes::ImageChanges;
pub use config::{ConfigResource, Configs};
pub use function::{ArtifactChunks, Carrier, FunctionId, FunctionIdFault, FunctionImage};
pub use remote::{Garbage, INLINE_EXTENTS_MAX, Prepare, RemoteLog};
pub use topic::{PartitionImage, TopicImage};
pub use transform::{OnError, Origin, TransformImage, TransformLimits, TransformVersion};

use crate::level::MetadataLevel;
use retired::RetiredEpochs;

/// The one configuration key that the metadata itself goes by: it decides who stays eligible to lead.
pub(crate) const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Deletions that are remembered, for brokers that were away or crashed meanwhile.
const DELETIONS_MAX: usize = 10_000;

/// The state of the cluster at one index of the metadata log.
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataImage {
    pub(crate) index: u64,
    pub(crate) cluster_id: Uuid,
    pub(crate) level: MetadataLevel,
    pub(crate) next_producer_id: i64,
    pub(crate) brokers: RedBlackTreeMapSync<NodeId, Arc<BrokerImage>>,
    pub(crate) topics: RedBlackTreeMapSync<Arc<str>, Arc<TopicImage>>,
    pub(crate) topic_names: RedBlackTreeMapSync<TopicId, Arc<str>>,
    pub(crate) configs: RedBlackTreeMapSync<ConfigResource, Configs>,
    pub(crate) retired_epochs: RetiredEpochs,
    /// The last [`DELETIONS_MAX`] topics that were deleted, in order, by the index of the entry that did it.
    pub(crate) deletions: RedBlackTreeMapSync<u64, TopicId>,
    /// Which incarnation of the cluster claims the tier; 0 without a tier.
    pub(crate) tier_incarnation: u64,
    pub(crate) remote_logs: RedBlackTreeMapSync<(TopicId, PartitionId), Arc<RemoteLog>>,
    pub(crate) prepares: RedBlackTreeMapSync<RemoteObject, Prepare>,
    pub(crate) garbage: RedBlackTreeMapSync<RemoteObject, Garbage>,
    pub(crate) functions: RedBlackTreeMapSync<FunctionId, Arc<FunctionImage>>,
    pub(crate) transforms: RedBlackTreeMapSync<Arc<str>, Arc<TransformImage>>,
}

impl MetadataImage {
    /// The image before the first command.
    pub fn empty() -> Self {
        Self {
            index: 0,
            cluster_id: Uuid::nil(),
            level: MetadataLevel::UNFORMED,
            next_producer_id: 0,
            brokers: RedBlackTreeMapSync::new_sync(),
            topics: RedBlackTreeMapSync::new_sync(),
            topic_names: RedBlackTreeMapSync::new_sync(),
            configs: RedBlackTreeMapSync::new_sync(),
            retired_epochs: RetiredEpochs::default(),
            deletions: RedBlackTreeMapSync::new_sync(),
            tier_incarnation: 0,
            remote_logs: RedBlackTreeMapSync::new_sync(),
            prepares: RedBlackTreeMapSync::new_sync(),
            garbage: RedBlackTreeMapSync::new_sync(),
            functions: RedBlackTreeMapSync::new_sync(),
            transforms: RedBlackTreeMapSync::new_sync(),
        }
    }

    /// Index of the last entry of the metadata log that is in it.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The cluster's id; nil before it is formed.
    pub fn cluster_id(&self) -> Uuid {
        self.cluster_id
    }

    /// The finalised level of `metadata.version`.
    pub fn level(&self) -> MetadataLevel {
        self.level
    }

    /// The next producer id that nobody has.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// A broker by id.
    pub fn broker(&self, id: NodeId) -> Option<&BrokerImage> {
        self.brokers.get(&id).map(|broker| &**broker)
    }

    /// All registered brokers by id, the fenced ones too.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &BrokerImage> {
        self.brokers.values().map(|broker| &**broker)
    }

    /// Whether `id` is registered and not fenced.
    pub fn is_live(&self, id: NodeId) -> bool {
        self.broker(id).is_some_and(|broker| !broker.fenced)
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.topic_names.get(&id)?)
    }

    /// Whether the topic was deleted lately: a log of a topic that is neither there nor was deleted tells that the
    /// metadata lacks something.
    pub fn was_deleted(&self, id: TopicId) -> bool {
        self.deletions.values().any(|deleted| *deleted == id)
    }

    pub(crate) fn note_deleted(&mut self, index: u64, id: TopicId) {
        self.deletions.insert_mut(index, id);
        if self.deletions.size() > DELETIONS_MAX {
            let oldest = self.deletions.first().map(|(index, _)| *index);
            oldest.map(|index| self.deletions.remove_mut(&index));
        }
    }

    /// All topics by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topics from `name` on, by name.
    pub fn topics_from<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<TopicImage>> {
        self.topics
            .range::<str, _>((Bound::Included(name), Bound::Unbounded))
            .map(|(_, topic)| topic)
    }

    /// The state of one partition.
    pub fn partition(&self, name: &TopicPartition) -> Option<&PartitionImage> {
        self.topic(&name.topic)?.partition(name.partition)
    }

    /// What a topic sets.
    pub fn topic_configs(&self, name: &str) -> Configs {
        self.configs_of(&ConfigResource::Topic(name.into()))
    }

    /// What one broker sets.
    pub fn broker_configs(&self, id: NodeId) -> Configs {
        self.configs_of(&ConfigResource::Broker(id))
    }

    /// What holds for every broker that sets nothing of its own.
    pub fn default_broker_configs(&self) -> Configs {
        self.configs_of(&ConfigResource::DefaultBroker)
    }

    /// What a resource sets; nothing when it is unknown.
    pub fn configs_of(&self, resource: &ConfigResource) -> Configs {
        self.configs.get(resource).cloned().unwrap_or_default()
    }

    /// How many replicas must be in sync for a write with acks=all, as far as the cluster's metadata
    /// says: the topic's `min.insync.replicas`, else the brokers' default, else 1.
    pub fn min_insync_replicas(&self, topic: &str) -> usize {
        let count = |configs: &Configs| {
            configs
                .get(MIN_INSYNC_REPLICAS)
                .and_then(|value| value.trim().parse().ok())
        };
        count(&self.topic_configs(topic))
            .or_else(|| count(&self.default_broker_configs()))
            .unwrap_or(1)
            .max(1)
    }

    /// Which incarnation of the cluster claims its tier; 0 as long as none was claimed.
    pub fn tier_incarnation(&self) -> u64 {
        self.tier_incarnation
    }

    /// What of a partition is in the tier; nothing was ever uploaded or trimmed where there is none.
    pub fn remote_log(&self, topic: TopicId, partition: PartitionId) -> Option<&Arc<RemoteLog>> {
        self.remote_logs.get(&(topic, partition))
    }

    /// All remote logs, by topic id and partition.
    pub fn remote_logs(
        &self,
    ) -> impl ExactSizeIterator<Item = (TopicId, PartitionId, &Arc<RemoteLog>)> {
        self.remote_logs
            .iter()
            .map(|((topic, partition), log)| (*topic, *partition, log))
    }

    /// Uploads that were announced and are neither committed nor expired.
    pub fn prepares(&self) -> impl ExactSizeIterator<Item = (&RemoteObject, &Prepare)> {
        self.prepares.iter()
    }

    /// Whether nothing refers to an object and nobody has deleted it yet.
    pub fn is_garbage(&self, object: &RemoteObject) -> bool {
        self.garbage.contains_key(object)
    }

    /// Objects that nothing refers to and that nobody has deleted yet.
    pub fn garbage(&self) -> impl ExactSizeIterator<Item = (&RemoteObject, &Garbage)> {
        self.garbage.iter()
    }

    /// A function by id.
    pub fn function(&self, id: FunctionId) -> Option<&Arc<FunctionImage>> {
        self.functions.get(&id)
    }

    /// All functions by id.
    pub fn functions(&self) -> impl ExactSizeIterator<Item = &Arc<FunctionImage>> {
        self.functions.values()
    }

    /// A transform by name.
    pub fn transform(&self, name: &str) -> Option<&Arc<TransformImage>> {
        self.transforms.get(name)
    }

    /// All transforms by name.
    pub fn transforms(&self) -> impl ExactSizeIterator<Item = &Arc<TransformImage>> {
        self.transforms.values()
    }

    /// A checksum of everything in it: replicas that applied the same commands have the same one.
    pub fn hash(&self) -> u64 {
        crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &codec::encode(self))
    }
}
