//! DescribeTopicPartitions (key 75): topics in name order, a page at a time (KIP-966).
//!
//! Version 0. No topics means all. A page ends at the partition limit, with a cursor to go on from.

use std::collections::BTreeSet;

use tidemill_metadata::{MetadataImage, MetadataLog, TopicImage};
use tidemill_protocol::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use tidemill_protocol::{ErrorCode, Str};
use tidemill_records::NodeId;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic;

/// Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: i32 = 2000;

/// Describes one image.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
    _version: i16,
) -> DescribeTopicPartitionsResponse {
    let image = broker.metadata.image();
    let names: BTreeSet<Str> = if request.topics.is_empty() {
        image
            .topics()
            .map(|topic| Str::from(&*topic.name))
            .collect()
    } else {
        request.topics.into_iter().map(|topic| topic.name).collect()
    };
    let (from, mut index) = match request.cursor {
        Some(cursor) => (cursor.topic_name, cursor.partition_index.max(0)),
        None => (Str::default(), 0),
    };
    let mut room = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names
        .into_iter()
        .filter(|name| name.as_str() >= from.as_str())
    {
        let first = if name == from { index } else { 0 };
        index = 0;
        if room == 0 {
            let cursor = Cursor {
                topic_name: name,
                partition_index: first,
                ..Default::default()
            };
            response.next_cursor = Some(cursor);
            break;
        }
        let topic = describe(broker, context, &image, &name, first, room);
        let next = first + topic.partitions.len() as i32;
        room -= topic.partitions.len() as i32;
        let count = image
            .topic(&name)
            .map_or(0, |topic| topic.partition_count());
        let is_cut = topic.error_code == 0 && next < count;
        response.topics.push(topic);
        if is_cut {
            let cursor = Cursor {
                topic_name: name,
                partition_index: next,
                ..Default::default()
            };
            response.next_cursor = Some(cursor);
            break;
        }
    }
    response
}

fn describe(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    name: &Str,
    first: i32,
    room: i32,
) -> DescribeTopicPartitionsResponseTopic {
    let error = |code: ErrorCode| DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.clone()),
        topic_authorized_operations: i32::MIN,
        ..Default::default()
    };
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Topic(name))
    {
        return error(ErrorCode::TopicAuthorizationFailed);
    }
    let Some(found) = image.topic(name) else {
        return error(ErrorCode::UnknownTopicOrPartition);
    };
    DescribeTopicPartitionsResponseTopic {
        name: Some(name.clone()),
        topic_id: found.id.0,
        is_internal: topic::is_internal(name),
        partitions: partitions(found, first, room),
        topic_authorized_operations: topic::TOPIC_OPERATIONS,
        ..Default::default()
    }
}

fn partitions(
    topic: &TopicImage,
    first: i32,
    room: i32,
) -> Vec<DescribeTopicPartitionsResponsePartition> {
    let nodes = |replicas: &[NodeId]| replicas.iter().map(|node| node.0).collect::<Vec<_>>();
    let describe = |(index, image): (
        tidemill_records::PartitionId,
        &tidemill_metadata::PartitionImage,
    )| {
        let has_leader = image.has_leader();
        let code = if has_leader {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        };
        DescribeTopicPartitionsResponsePartition {
            error_code: code.code(),
            partition_index: index.0,
            leader_id: image.leader.0,
            leader_epoch: image.leader_epoch.0,
            replica_nodes: nodes(&image.replicas),
            isr_nodes: nodes(&image.isr),
            eligible_leader_replicas: Some(nodes(&image.elr)),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        }
    };
    topic
        .partitions()
        .skip(first as usize)
        .take(room as usize)
        .map(describe)
        .collect()
}
