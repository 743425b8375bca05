//! OffsetDelete (key 47): deletes committed offsets of single partitions (KIP-496); answered when that is
//! durable.
//!
//! Version 0. Offsets of topics that the group's members subscribe to stay: GROUP_SUBSCRIBED_TO_TOPIC.

use std::sync::Arc;

use tidemill_metadata::MetadataLog;
use tidemill_protocol::ErrorCode;
use tidemill_protocol::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use tidemill_records::PartitionId;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::classic::ClassicGroup;
use crate::group::offsets::Place;
use crate::server::context::RequestContext;

/// Checks every topic, then deletes what may be deleted.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetDeleteRequest,
    _version: i16,
) -> OffsetDeleteResponse {
    let group_id = &request.group_id;
    let refused = |code: ErrorCode| OffsetDeleteResponse {
        error_code: code.code(),
        ..Default::default()
    };
    if !broker
        .authorizer
        .allows(context, Operation::Delete, Resource::Group(group_id))
    {
        return refused(ErrorCode::GroupAuthorizationFailed);
    }
    let mut codes: Vec<_> = request
        .topics
        .iter()
        .map(|topic| check(broker, context, topic))
        .collect();
    let choose = |group: &ClassicGroup| {
        let mut places = Vec::new();
        for (topic, code) in request.topics.iter().zip(&mut codes) {
            if *code == ErrorCode::None && group.is_subscribed_to(&topic.name) {
                *code = ErrorCode::GroupSubscribedToTopic;
            }
            if *code == ErrorCode::None {
                places.extend(places_of(topic));
            }
        }
        places
    };
    match broker.groups.delete_offsets(group_id, choose).await {
        Ok(()) => OffsetDeleteResponse {
            topics: request.topics.into_iter().zip(codes).map(answer).collect(),
            ..Default::default()
        },
        Err(code) => refused(code),
    }
}

fn check(broker: &Broker, context: &RequestContext, topic: &OffsetDeleteRequestTopic) -> ErrorCode {
    if !broker
        .authorizer
        .allows(context, Operation::Read, Resource::Topic(&topic.name))
    {
        ErrorCode::TopicAuthorizationFailed
    } else if broker.metadata.image().topic(&topic.name).is_none() {
        ErrorCode::UnknownTopicOrPartition
    } else {
        ErrorCode::None
    }
}

fn places_of(topic: &OffsetDeleteRequestTopic) -> impl Iterator<Item = Place> {
    let name: Arc<str> = (&*topic.name).into();
    let partitions = topic.partitions.iter();
    partitions.map(move |partition| (name.clone(), PartitionId(partition.partition_index)))
}

fn answer((topic, code): (OffsetDeleteRequestTopic, ErrorCode)) -> OffsetDeleteResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| OffsetDeleteResponsePartition {
            partition_index: partition.partition_index,
            error_code: code.code(),
        });
    OffsetDeleteResponseTopic {
        partitions: partitions.collect(),
        name: topic.name,
    }
}
