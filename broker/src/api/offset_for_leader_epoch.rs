//! OffsetForLeaderEpoch (key 23): where an epoch ended, so that a client or follower finds out what of its
//! log is not the leader's (KIP-101, KIP-279, KIP-320).
//!
//! Versions 2–4; librdkafka needs exactly 2.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition, OffsetForLeaderTopicResult,
};
use tidemill_records::LeaderEpoch;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;

/// Answers every partition on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: OffsetForLeaderEpochRequest,
    _version: i16,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let answer = |wanted: &OffsetForLeaderPartition| {
            find(broker, context, &topic.topic, wanted).unwrap_or_else(|code| EpochEndOffset {
                error_code: code.code(),
                partition: wanted.partition,
                leader_epoch: -1,
                end_offset: -1,
                ..Default::default()
            })
        };
        let partitions = topic.partitions.iter().map(answer).collect();
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions,
            ..Default::default()
        });
    }
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

fn find(
    broker: &Broker,
    context: &RequestContext,
    topic: &str,
    wanted: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Topic(topic))
    {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let partition = broker
        .partitions
        .get(topic, wanted.partition)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let asked = LeaderEpoch(wanted.current_leader_epoch);
    partition
        .check_leader(asked)
        .map_err(|error| ErrorCode::from(&error))?;
    let (epoch, end) = partition
        .log
        .end_offset_for_epoch(LeaderEpoch(wanted.leader_epoch));
    Ok(EpochEndOffset {
        partition: wanted.partition,
        leader_epoch: epoch.0,
        end_offset: end.0,
        ..Default::default()
    })
}
