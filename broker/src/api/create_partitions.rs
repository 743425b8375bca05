//! CreatePartitions (key 37): makes a topic wider; never narrower.
//!
//! Versions 0–3. One request adds at most 10,000 partitions, as in Kafka.

use tidemill_metadata::{Command, MetadataLog};
use tidemill_protocol::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use tidemill_protocol::{ErrorCode, Str};
use tidemill_records::NodeId;

use super::create_topics::{plain, proposal, too_many_partitions};
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic;

/// Widens each topic on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: CreatePartitionsRequest,
    _version: i16,
) -> CreatePartitionsResponse {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut room = topic::CREATED_PARTITIONS_MAX;
    for wanted in request.topics {
        let outcome = widen(broker, context, &wanted, request.validate_only, &mut room).await;
        let (code, message) = match outcome {
            Ok(()) => (ErrorCode::None, None),
            Err((code, message)) => (code, Some(Str::from(message))),
        };
        results.push(CreatePartitionsTopicResult {
            name: wanted.name,
            error_code: code.code(),
            error_message: message,
            ..Default::default()
        });
    }
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

async fn widen(
    broker: &Broker,
    context: &RequestContext,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
    room: &mut usize,
) -> Result<(), (ErrorCode, String)> {
    if !broker
        .authorizer
        .allows(context, Operation::Alter, Resource::Topic(&wanted.name))
    {
        return Err(plain(ErrorCode::TopicAuthorizationFailed));
    }
    let image = broker.metadata.image();
    let topic = image
        .topic(&wanted.name)
        .ok_or(plain(ErrorCode::UnknownTopicOrPartition))?;
    let current = topic.partition_count();
    if wanted.count <= current {
        let message = format!(
            "Topic currently has {current} partitions, which is {} than the requested {}.",
            if wanted.count == current {
                "not lower"
            } else {
                "higher"
            },
            wanted.count
        );
        return Err((ErrorCode::InvalidPartitions, message));
    }
    let added = (wanted.count - current) as usize;
    *room = room.checked_sub(added).ok_or_else(too_many_partitions)?;
    let partitions = match &wanted.assignments {
        Some(assignments) if assignments.len() != added => {
            let message = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were \
                 specified.",
                assignments.len()
            );
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
        Some(assignments) => {
            let nodes = |ids: &[i32]| ids.iter().map(|id| NodeId(*id)).collect();
            assignments
                .iter()
                .map(|assignment| nodes(&assignment.broker_ids))
                .collect()
        }
        None => vec![vec![broker.node()]; added],
    };
    if validate_only {
        return Ok(());
    }
    let command = Command::CreatePartitions {
        id: topic.id,
        current,
        partitions,
    };
    topic::propose(broker, command)
        .await
        .map(|_| ())
        .map_err(|error| proposal(&error))
}
