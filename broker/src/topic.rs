//! Facts about topics that several APIs share: which are internal, how they come into being.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidemill_metadata::{Command, MetadataLog, Outcome, ProposeError, Rejection};
use tidemill_protocol::ErrorCode;
use tidemill_records::{NodeId, TopicId};
use uuid::Uuid;

use crate::broker::Broker;

/// Where groups keep their state, in Kafka's record format.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Topics of the broker's own begin so.
const OURS: &str = "_tidemill.";

/// Partitions that one request may create, as in Kafka: each costs memory and a directory.
pub(crate) const CREATED_PARTITIONS_MAX: usize = 10_000;

/// Kafka's bits of all operations on a topic: read, write, create, delete, alter, describe,
/// describe-configs, alter-configs.
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same for the cluster: create, alter, describe, cluster-action, describe-configs, alter-configs,
/// idempotent-write.
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);
/// The same for a group: read, delete, describe, describe-configs, alter-configs.
pub(crate) const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut at = 0;
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}

/// Topics that clients may read but not write.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | "__transaction_state") || is_broker_topic(name)
}

/// Topics that the broker has for itself.
pub(crate) fn is_broker_topic(name: &str) -> bool {
    name.starts_with(OURS)
}

/// A UUID as Kafka prints it: 22 characters of URL-safe base64.
pub(crate) fn uuid_text(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// Creates a topic with the broker's defaults, or as groups need it, and waits until it can be used.
/// Existing already is success.
pub(crate) async fn auto_create(broker: &Broker, name: &str) -> Result<(), ErrorCode> {
    let (partitions, configs) = if name == CONSUMER_OFFSETS {
        let segment_bytes = broker.config.group.offsets_topic_segment_bytes.to_string();
        let own = [
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("segment.bytes", &segment_bytes),
        ];
        let configs = own.map(|(name, value)| (Arc::from(name), Arc::from(value)));
        (
            broker.config.group.offsets_topic_partitions,
            configs.to_vec(),
        )
    } else {
        let factor = i64::from(broker.config.default_replication_factor);
        let brokers = broker
            .metadata
            .image()
            .brokers()
            .filter(|node| !node.fenced)
            .count();
        if usize::try_from(factor).is_ok_and(|factor| factor > brokers) {
            return Err(ErrorCode::InvalidReplicationFactor);
        }
        if collides(broker, name).is_some() || is_broker_topic(name) {
            return Err(ErrorCode::InvalidTopicException);
        }
        (broker.config.num_partitions, Vec::new())
    };
    match create(broker, name, partitions, configs).await {
        Ok(_) | Err(ProposeError::Rejected(Rejection::TopicExists(_))) => Ok(()),
        Err(error) => Err(crate::api::error::proposal(&error)),
    }
}

/// A topic whose name differs in nothing but periods and underscores, which are the same in the names of metrics.
pub(crate) fn collides(broker: &Broker, name: &str) -> Option<Arc<str>> {
    if !name.contains(['.', '_']) {
        return None;
    }
    let image = broker.metadata.image();
    let mut topics = image.topics();
    topics
        .find(|topic| collide(name, &topic.name))
        .map(|topic| Arc::clone(&topic.name))
}

/// Whether two names differ in nothing but that.
pub(crate) fn collide(one: &str, other: &str) -> bool {
    let same = |a: char, b: char| a == b || (matches!(a, '.' | '_') && matches!(b, '.' | '_'));
    one != other
        && one.len() == other.len()
        && one.chars().zip(other.chars()).all(|(a, b)| same(a, b))
}

/// Creates a topic with one replica a partition, here, and waits until it can be used.
pub(crate) async fn create(
    broker: &Broker,
    name: &str,
    partitions: i32,
    configs: Vec<(Arc<str>, Arc<str>)>,
) -> Result<TopicId, ProposeError> {
    let replicas = vec![NodeId(broker.config.node_id)];
    let count = usize::try_from(partitions).unwrap_or(0);
    let id = TopicId(broker.random.next_uuid());
    let command = Command::CreateTopic {
        name: name.into(),
        id,
        partitions: vec![replicas; count],
        configs,
    };
    propose(broker, command).await.map(|_| id)
}

/// Proposes a command and waits until this broker's partitions follow it.
pub(crate) async fn propose(broker: &Broker, command: Command) -> Result<Outcome, ProposeError> {
    let outcome = broker.metadata.propose(command).await?;
    broker
        .partitions
        .wait_applied(broker.metadata.image().index())
        .await;
    Ok(outcome)
}
