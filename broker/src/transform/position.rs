//! How far a task has come: an offset in `__consumer_offsets` under the group `_tidemill.transform.NAME`.
//!
//! With the offset is stored which deployment and which generation of its origin it belongs to, as the commit's metadata. An offset
//! of another one is void: a rewind, or a transform that was deleted and deployed anew, begins at the origin.

use tidemill_metadata::{MetadataLog, TransformImage};
use tidemill_records::{LeaderEpoch, Offset, PartitionId, TopicId};

use super::GROUP_PREFIX;
use super::trouble::Trouble;
use crate::broker::Broker;
use crate::group;
use crate::group::offsets::CommittedOffset;
use crate::group::shard::{Commit, Committer};
use crate::topic::{self, CONSUMER_OFFSETS};

/// The group of a transform's offsets.
fn group_of(transform: &str) -> String {
    format!("{GROUP_PREFIX}{transform}")
}

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The next record to read.
    pub(super) offset: Offset,
    /// The source's leader epoch in which it was read up to there.
    pub(super) leader_epoch: LeaderEpoch,
}

/// Deployment and generation, as text.
fn mark(transform: &TransformImage) -> String {
    format!("{}/{}", transform.id, transform.origin.generation)
}

/// Where a task of `transform` begins.
pub(super) async fn load(
    broker: &Broker,
    transform: &TransformImage,
    (topic, partition): (TopicId, PartitionId),
) -> Result<Position, Trouble> {
    ready(broker, &transform.name).await?;
    let group = group_of(&transform.name);
    let mark = mark(transform);
    let committed = broker.groups.with_offsets(&group, true, |offsets| {
        let committed = offsets?.get(&transform.source, partition)?;
        let is_ours = *committed.metadata == *mark && committed.topic_id == topic.0;
        is_ours.then_some(Position {
            offset: Offset(committed.offset),
            leader_epoch: committed.leader_epoch,
        })
    });
    Ok(committed
        .await
        .map_err(Trouble::Offsets)?
        .unwrap_or_else(|| origin(transform, topic, partition)))
}

/// Where a partition begins that nothing was committed of. Of a topic that was made anew, and of a partition that was added, that is
/// the beginning.
fn origin(transform: &TransformImage, topic: TopicId, partition: PartitionId) -> Position {
    let origin = &transform.origin;
    let offset = usize::try_from(partition.0)
        .ok()
        .filter(|_| origin.topic == topic)
        .and_then(|at| origin.offsets.get(at).copied());
    Position {
        offset: offset.unwrap_or(Offset::ZERO),
        leader_epoch: LeaderEpoch::NONE,
    }
}

/// Commits, and waits until it is durable.
pub(super) async fn store(
    broker: &Broker,
    transform: &TransformImage,
    (topic, partition): (TopicId, PartitionId),
    position: Position,
) -> Result<(), Trouble> {
    ready(broker, &transform.name).await?;
    // A consumer outside of any group protocol.
    let committer = Committer {
        member_id: "".into(),
        group_instance_id: None,
        generation: -1,
    };
    let commit = Commit {
        topic: transform.source.clone(),
        partition,
        committed: CommittedOffset {
            offset: position.offset.0,
            leader_epoch: position.leader_epoch,
            metadata: mark(transform).into(),
            committed_at_ms: broker.clock.now_ms(),
            expires_at_ms: None,
            topic_id: topic.0,
        },
    };
    let group = group_of(&transform.name);
    let stored = broker.groups.commit(&group, &committer, vec![commit]).await;
    stored.map_err(Trouble::Offsets)
}

/// Forgets the offsets of a transform that is gone.
pub(super) async fn forget(broker: &Broker, transform: &str) {
    let group = group_of(transform);
    if let Err(code) = broker.groups.delete_group(&group).await {
        // They are void for another deployment of that name.
        tracing::debug!(%group, %code, "the offsets of a deleted transform stay");
    }
}

/// Makes sure that the group's partition of `__consumer_offsets` is there and served.
async fn ready(broker: &Broker, transform: &str) -> Result<(), Trouble> {
    let count = |broker: &Broker| {
        let image = broker.metadata.image();
        image
            .topic(CONSUMER_OFFSETS)
            .map(|topic| topic.partition_count())
    };
    if count(broker).is_none() {
        topic::auto_create(broker, CONSUMER_OFFSETS)
            .await
            .map_err(Trouble::Offsets)?;
    }
    if let Some(count) = count(broker) {
        let partition = group::partition_of(&group_of(transform), count);
        broker.groups.wait_until_served(partition).await;
    }
    Ok(())
}

/// Whether clients may only read what the group has committed.
pub(crate) fn is_transform_group(group: &str) -> bool {
    group.starts_with(GROUP_PREFIX)
}
