//! Metadata (key 3): brokers, topics, partitions and their leaders.
//!
//! Versions 0–13: null topics means all from 1, auto-creation is asked for from 4, authorized operations
//! 8 (for the cluster until 10), topic ids from 10 (KIP-516), a top-level error from 13. A topic that a
//! client may create is created here and answered at once with its partitions, not with a retriable error
//! (Kafka answers LEADER_NOT_AVAILABLE first; a client cannot tell the difference except that it is faster).

use std::collections::{HashMap, HashSet};

use tidemill_metadata::{MetadataImage, MetadataLog, PartitionImage, TopicImage};
use tidemill_protocol::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use tidemill_protocol::{ErrorCode, Str};
use tidemill_records::{NodeId, TopicId};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic;

/// Before this version a topic's name cannot be null in an answer, so ids are no way to ask.
const NULL_NAMES_FROM: i16 = 12;
/// Kafka's value for "not asked for".
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

/// Creates what may be created, then describes one image.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: MetadataRequest,
    version: i16,
) -> MetadataResponse {
    let mut refused = HashMap::new();
    // Version 0 says "all" with an empty list, later versions with null.
    let mut wanted = request
        .topics
        .filter(|topics| version > 0 || !topics.is_empty());
    if let Some(wanted) = &mut wanted {
        // As in Kafka, and because the answer may be much larger than the question.
        let mut seen = HashSet::new();
        wanted.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
    }
    if let Some(wanted) = &wanted
        && request.allow_auto_topic_creation
        && broker.config.auto_create_topics_enable
    {
        refused = create_missing(broker, context, wanted).await;
    }
    let image = broker.metadata.image();
    let with_operations = request.include_topic_authorized_operations;
    let topics = match wanted {
        None => all(broker, context, &image, with_operations),
        Some(wanted) => wanted
            .into_iter()
            .map(|mut wanted| {
                if version < NULL_NAMES_FROM {
                    wanted.name.get_or_insert_default();
                }
                wanted
            })
            .map(|wanted| named(broker, context, &image, wanted, &refused, with_operations))
            .collect(),
    };
    MetadataResponse {
        brokers: brokers(broker, context, &image),
        cluster_id: Some(topic::uuid_text(image.cluster_id()).into()),
        controller_id: broker.metadata.controller().map_or(-1, |node| node.0),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            topic::CLUSTER_OPERATIONS
        } else {
            OPERATIONS_UNKNOWN
        },
        ..Default::default()
    }
}

/// Creates the wanted topics that do not exist, as many as one request may; returns those that could not
/// be, with the reason.
async fn create_missing(
    broker: &Broker,
    context: &RequestContext,
    wanted: &[MetadataRequestTopic],
) -> HashMap<Str, ErrorCode> {
    let image = broker.metadata.image();
    let mut refused = HashMap::new();
    let mut room = topic::CREATED_PARTITIONS_MAX;
    for name in wanted.iter().filter_map(|topic| topic.name.as_ref()) {
        if image.topic(name).is_some() {
            continue;
        }
        let Some(left) = room.checked_sub(broker.config.num_partitions.max(1) as usize) else {
            break;
        };
        let code = if !broker
            .authorizer
            .allows(context, Operation::Create, Resource::Topic(name))
        {
            Err(ErrorCode::TopicAuthorizationFailed)
        } else {
            topic::auto_create(broker, name).await
        };
        match code {
            Ok(()) => room = left,
            Err(code) => drop(refused.insert(name.clone(), code)),
        }
    }
    refused
}

fn brokers(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
) -> Vec<MetadataResponseBroker> {
    let describe = |node: NodeId, rack: Option<&str>| {
        let (host, port) = broker.address_of(node, context)?;
        Some(MetadataResponseBroker {
            node_id: node.0,
            host: host.into(),
            port: i32::from(port),
            rack: rack.map(Str::from),
            ..Default::default()
        })
    };
    image
        .brokers()
        .filter(|broker| !broker.fenced)
        .filter_map(|broker| describe(broker.id, broker.rack.as_deref()))
        .collect()
}

fn all(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    with_operations: bool,
) -> Vec<MetadataResponseTopic> {
    image
        .topics()
        .filter(|topic| {
            broker
                .authorizer
                .allows(context, Operation::Describe, Resource::Topic(&topic.name))
        })
        .map(|topic| describe(topic, with_operations))
        .collect()
}

fn named(
    broker: &Broker,
    context: &RequestContext,
    image: &MetadataImage,
    wanted: MetadataRequestTopic,
    refused: &HashMap<Str, ErrorCode>,
    with_operations: bool,
) -> MetadataResponseTopic {
    let (found, absent) = match &wanted.name {
        Some(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
        None => (
            image.topic_by_id(TopicId(wanted.topic_id)),
            ErrorCode::UnknownTopicId,
        ),
    };
    let error = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        name: wanted.name.clone(),
        topic_id: wanted.topic_id,
        topic_authorized_operations: OPERATIONS_UNKNOWN,
        ..Default::default()
    };
    if let Some(name) = found.map(|topic| &*topic.name).or(wanted.name.as_deref())
        && !broker
            .authorizer
            .allows(context, Operation::Describe, Resource::Topic(name))
    {
        return error(ErrorCode::TopicAuthorizationFailed);
    }
    match found {
        Some(topic) => describe(topic, with_operations),
        None => {
            let reason = wanted.name.as_ref().and_then(|name| refused.get(name));
            error(reason.copied().unwrap_or(absent))
        }
    }
}

fn describe(topic: &TopicImage, with_operations: bool) -> MetadataResponseTopic {
    let mut partitions: Vec<_> = topic
        .partitions()
        .map(|(index, image)| describe_partition(index.0, image))
        .collect();
    partitions.sort_by_key(|partition| partition.partition_index);
    MetadataResponseTopic {
        name: Some(Str::from(&*topic.name)),
        topic_id: topic.id.0,
        is_internal: topic::is_internal(&topic.name),
        partitions,
        topic_authorized_operations: if with_operations {
            topic::TOPIC_OPERATIONS
        } else {
            OPERATIONS_UNKNOWN
        },
        ..Default::default()
    }
}

fn describe_partition(index: i32, image: &PartitionImage) -> MetadataResponsePartition {
    let nodes = |replicas: &[NodeId]| replicas.iter().map(|node| node.0).collect();
    let has_leader = image.has_leader();
    let code = if has_leader {
        ErrorCode::None
    } else {
        ErrorCode::LeaderNotAvailable
    };
    MetadataResponsePartition {
        error_code: code.code(),
        partition_index: index,
        leader_id: image.leader.0,
        leader_epoch: image.leader_epoch.0,
        replica_nodes: nodes(&image.replicas),
        isr_nodes: nodes(&image.isr),
        ..Default::default()
    }
}
