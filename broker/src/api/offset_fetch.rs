//! OffsetFetch (key 9): committed offsets of groups. A partition without one answers -1 and no error, and so
//! does a group that does not exist.
//!
//! Versions 1–10. From 2 on null topics mean all, and errors of the group stand at the group; 7 lets the
//! reader insist on offsets that nothing in flight will change (KIP-447); 8 asks for many groups at once
//! (KIP-709); 10 names topics by id, where an offset committed for an earlier topic of that name does not
//! count.

use std::collections::HashSet;

use tidemill_metadata::{MetadataImage, MetadataLog};
use tidemill_protocol::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use tidemill_protocol::{ErrorCode, Str};
use tidemill_records::{PartitionId, TopicId};
use uuid::Uuid;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::offsets::{CommittedOffset, GroupOffsets};
use crate::server::context::RequestContext;

const NO_OFFSET: i64 = -1;

/// Answers group by group, each once, since all offsets of a group are a large answer to a small question;
/// the versions of one group are translated.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if version >= 8 {
        let mut groups = Vec::new();
        let mut seen = HashSet::new();
        for group in request.groups {
            if !seen.insert(group.group_id.clone()) {
                continue;
            }
            groups.push(fetch_group(broker, context, group, require_stable, version).await);
        }
        return OffsetFetchResponse {
            groups,
            ..Default::default()
        };
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        topics.collect()
    });
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..Default::default()
    };
    single(fetch_group(broker, context, group, require_stable, version).await)
}

/// The answer of the versions that know one group.
fn single(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .into_iter()
            .map(|found| OffsetFetchResponsePartition {
                partition_index: found.partition_index,
                committed_offset: found.committed_offset,
                committed_leader_epoch: found.committed_leader_epoch,
                metadata: found.metadata,
                error_code: found.error_code,
                ..Default::default()
            });
        OffsetFetchResponseTopic {
            partitions: partitions.collect(),
            name: topic.name,
            ..Default::default()
        }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..Default::default()
    }
}

async fn fetch_group(
    broker: &Broker,
    context: &RequestContext,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
    version: i16,
) -> OffsetFetchResponseGroup {
    let OffsetFetchRequestGroup {
        group_id, topics, ..
    } = group;
    let image = broker.metadata.image();
    let outcome =
        if broker
            .authorizer
            .allows(context, Operation::Describe, Resource::Group(&group_id))
        {
            let read = |offsets: Option<&GroupOffsets>| match &topics {
                Some(topics) => topics
                    .iter()
                    .map(|topic| asked(broker, context, &image, topic, offsets, version))
                    .collect(),
                None => offsets
                    .map(|found| all(broker, context, &image, found))
                    .unwrap_or_default(),
            };
            broker
                .groups
                .with_offsets(&group_id, require_stable, read)
                .await
        } else {
            Err(ErrorCode::GroupAuthorizationFailed)
        };
    match outcome {
        Ok(topics) => OffsetFetchResponseGroup {
            group_id,
            topics,
            ..Default::default()
        },
        // Version 1 has no place for it but the partitions.
        Err(code) if version < 2 => {
            let topics = topics.unwrap_or_default();
            let topics = topics.iter().map(|topic| refused(topic, code)).collect();
            OffsetFetchResponseGroup {
                group_id,
                topics,
                ..Default::default()
            }
        }
        Err(code) => OffsetFetchResponseGroup {
            group_id,
            error_code: code.code(),
            ..Default::default()
        },
    }
}

fn asked(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    topic: &OffsetFetchRequestTopics,
    offsets: Option<&GroupOffsets>,
    version: i16,
) -> OffsetFetchResponseTopics {
    let name = match image.topic_by_id(TopicId(topic.topic_id)) {
        _ if version < 10 => &*topic.name,
        Some(found) => &*found.name,
        None => return refused(topic, ErrorCode::UnknownTopicId),
    };
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Topic(name))
    {
        return refused(topic, ErrorCode::TopicAuthorizationFailed);
    }
    let partitions = topic.partition_indexes.iter().map(|index| {
        let committed = offsets.and_then(|offsets| offsets.get(name, PartitionId(*index)));
        let committed = committed.filter(|found| is_of(found, topic.topic_id));
        partition(*index, committed, ErrorCode::None)
    });
    OffsetFetchResponseTopics {
        partitions: partitions.collect(),
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        ..Default::default()
    }
}

/// Whether an offset is of the topic that is asked for; unknown ids fit.
fn is_of(committed: &CommittedOffset, topic_id: Uuid) -> bool {
    committed.topic_id.is_nil() || topic_id.is_nil() || committed.topic_id == topic_id
}

fn all(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    offsets: &GroupOffsets,
) -> Vec<OffsetFetchResponseTopics> {
    let mut topics = Vec::new();
    for (name, committed) in offsets.committed() {
        if !broker
            .authorizer
            .allows(context, Operation::Describe, Resource::Topic(name))
        {
            continue;
        }
        let partitions: Vec<_> = committed
            .map(|(index, committed)| partition(index.0, Some(committed), ErrorCode::None))
            .collect();
        if !partitions.is_empty() {
            let topic_id = image.topic(name).map_or(Uuid::nil(), |topic| topic.id.0);
            let name = Str::from(&**name);
            topics.push(OffsetFetchResponseTopics {
                name,
                topic_id,
                partitions,
                ..Default::default()
            });
        }
    }
    topics
}

fn refused(topic: &OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic
        .partition_indexes
        .iter()
        .map(|index| partition(*index, None, code));
    OffsetFetchResponseTopics {
        partitions: partitions.collect(),
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        ..Default::default()
    }
}

fn partition(
    index: i32,
    committed: Option<&CommittedOffset>,
    code: ErrorCode,
) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: committed.map_or(NO_OFFSET, |found| found.offset),
        committed_leader_epoch: committed.map_or(-1, |found| found.leader_epoch.0),
        metadata: Some(committed.map_or(Str::default(), |found| Str::from(&*found.metadata))),
        error_code: code.code(),
        ..Default::default()
    }
}
