//! OffsetCommit (key 8): stores how far a group has read; answered when it is durable.
//!
//! Versions 2–10. Up to 4 a client may ask for a retention of its own; 6 adds the leader epoch (KIP-320), 7
//! the group instance id (KIP-345); from 9 on an unknown group is answered with GROUP_ID_NOT_FOUND instead of
//! ILLEGAL_GENERATION (KIP-848); 10 names topics by id. Partitions that do not exist and metadata that is too
//! long are refused on their own; the rest is stored together or not at all.

use tidemill_metadata::{MetadataImage, MetadataLog};
use tidemill_protocol::ErrorCode;
use tidemill_protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use tidemill_records::{LeaderEpoch, PartitionId, TopicId};
use uuid::Uuid;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::offsets::CommittedOffset;
use crate::group::shard::{Commit, Committer};
use crate::server::context::RequestContext;

/// Checks every partition, then commits those that may be.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetCommitRequest,
    version: i16,
) -> OffsetCommitResponse {
    let group_id = request.group_id.detached();
    let committer = Committer {
        member_id: (&*request.member_id).into(),
        group_instance_id: request.group_instance_id.as_deref().map(Into::into),
        generation: request.generation_id_or_member_epoch,
    };
    if !broker
        .authorizer
        .allows(context, Operation::Read, Resource::Group(&group_id))
    {
        let code = ErrorCode::GroupAuthorizationFailed;
        return answer(request.topics, |_, _| code);
    }
    let (commits, codes) = check_all(broker, context, &request, version);
    let outcome = if commits.is_empty() {
        Ok(())
    } else {
        broker.groups.commit(&group_id, &committer, commits).await
    };
    let code = match outcome {
        Ok(()) => ErrorCode::None,
        Err(ErrorCode::GroupIdNotFound) if version < 9 => ErrorCode::IllegalGeneration,
        Err(code) => code,
    };
    answer(request.topics, |topic, partition| {
        codes[topic][partition].unwrap_or(code)
    })
}

/// The commits to make, and by topic and partition why one is not made.
fn check_all(
    broker: &Broker,
    context: &RequestContext,
    request: &OffsetCommitRequest,
    version: i16,
) -> (Vec<Commit>, Vec<Vec<Option<ErrorCode>>>) {
    let image = broker.metadata.image();
    let now_ms = broker.clock.now_ms();
    let retention_ms = request.retention_time_ms;
    let expires_at_ms = (retention_ms >= 0).then(|| now_ms.saturating_add(retention_ms));
    let metadata_bytes_max = broker.config.group.offset_metadata_bytes_max;
    let mut commits = Vec::new();
    let mut codes = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let found = find(&image, topic, version);
        let allowed = found.and_then(|name| {
            let topic = Resource::Topic(name);
            let allows = broker.authorizer.allows(context, Operation::Read, topic);
            if allows {
                Ok(name)
            } else {
                Err(ErrorCode::TopicAuthorizationFailed)
            }
        });
        // One copy of the name for all partitions, and none of the request's frame.
        let name = allowed.map(std::sync::Arc::<str>::from);
        let check = |partition: &OffsetCommitRequestPartition| {
            let name = name.clone()?;
            let index = PartitionId(partition.partition_index);
            let topic_image = image
                .topic(&name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?;
            topic_image
                .partition(index)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            if is_longer(metadata, metadata_bytes_max) {
                return Err(ErrorCode::OffsetMetadataTooLarge);
            }
            let committed = CommittedOffset {
                offset: partition.committed_offset,
                leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                metadata: metadata.into(),
                committed_at_ms: now_ms,
                expires_at_ms,
                topic_id: if version >= 10 {
                    topic.topic_id
                } else {
                    Uuid::nil()
                },
            };
            Ok(Commit {
                topic: name,
                partition: index,
                committed,
            })
        };
        let mut refusals = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            refusals.push(check(partition).map(|commit| commits.push(commit)).err());
        }
        codes.push(refusals);
    }
    (commits, codes)
}

/// Kafka counts UTF-16 units, which are never more than bytes.
fn is_longer(text: &str, units_max: usize) -> bool {
    text.len() > units_max && text.encode_utf16().count() > units_max
}

/// The topic's name, if there is such a topic.
fn find<'a>(
    image: &'a MetadataImage,
    topic: &'a OffsetCommitRequestTopic,
    version: i16,
) -> Result<&'a str, ErrorCode> {
    if version < 10 {
        return Ok(&topic.name);
    }
    let found = image.topic_by_id(TopicId(topic.topic_id));
    found
        .map(|topic| &*topic.name)
        .ok_or(ErrorCode::UnknownTopicId)
}

fn answer(
    topics: Vec<OffsetCommitRequestTopic>,
    code: impl Fn(usize, usize) -> ErrorCode,
) -> OffsetCommitResponse {
    let topics = topics.into_iter().enumerate().map(|(at, topic)| {
        let partitions = topic.partitions.iter().enumerate();
        let partitions = partitions.map(|(index, partition)| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: code(at, index).code(),
            ..Default::default()
        });
        OffsetCommitResponseTopic {
            partitions: partitions.collect(),
            name: topic.name,
            topic_id: topic.topic_id,
            ..Default::default()
        }
    });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}
