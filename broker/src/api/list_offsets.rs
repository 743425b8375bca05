//! ListOffsets (key 2): the offset of a timestamp, or one of Kafka's special offsets.
//!
//! Versions 1–11: isolation from 2, leader epochs from 4, `-3` max timestamp from 7 (KIP-734), `-4` earliest
//! local from 8 (KIP-405), `-5` latest tiered from 9 (KIP-1005), `-6` earliest pending upload from 11
//! (KIP-1023). A special offset that the version does not know is UNSUPPORTED_VERSION.
//!
//! A search by time may have to read from the tier: it ends with REQUEST_TIMED_OUT after the time that the request names (from 10,
//! KIP-1075), or after half a minute.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tidemill_log::TimestampedOffset;
use tidemill_metadata::MetadataLog;
use tidemill_protocol::ErrorCode;
use tidemill_protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use tidemill_records::{LeaderEpoch, Offset};
use tokio::time::Instant;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::offset_by_time::{by_timestamp, max_timestamp};
use crate::partition::{Isolation, Partition};
use crate::server::context::RequestContext;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The replica id that a consumer sends; others see up to the log end.
const CONSUMER: i32 = -1;

/// How long a search in the tier may take where the request does not say, as in Kafka (`remote.list.offsets.request.timeout.ms`).
const REMOTE_WAIT: Duration = Duration::from_secs(30);
/// Partitions that are searched at the same time.
const AT_ONCE: usize = 16;

struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: LeaderEpoch,
}

/// Answers every partition on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let isolation = if request.replica_id == CONSUMER {
        Isolation::of_consumer(request.isolation_level)
    } else {
        Isolation::LogEnd
    };
    let wait = match request.timeout_ms {
        ms @ 1.. => Duration::from_millis(ms as u64),
        _ => REMOTE_WAIT,
    };
    let deadline = Instant::now() + wait;
    let mut searches = Vec::new();
    for topic in &request.topics {
        for wanted in &topic.partitions {
            searches.push(async move {
                let found = find(broker, context, &topic.name, wanted, isolation, version);
                let found = tokio::time::timeout_at(deadline, found).await;
                let found = found.unwrap_or(Err(ErrorCode::RequestTimedOut));
                describe(wanted, found, version)
            });
        }
    }
    // Records that are in the tier only are looked for in several partitions at the same time.
    let searches = stream::iter(searches).buffered(AT_ONCE);
    let answers: Vec<_> = searches.collect().await;
    let mut answers = answers.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = answers.by_ref().take(topic.partitions.len()).collect();
        ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
            ..Default::default()
        }
    });
    ListOffsetsResponse {
        topics: topics.collect(),
        ..Default::default()
    }
}

fn describe(
    wanted: &ListOffsetsPartition,
    found: Result<Found, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let partition_index = wanted.partition_index;
    match found {
        Ok(found) => ListOffsetsPartitionResponse {
            partition_index,
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: if version >= 4 {
                found.leader_epoch.0
            } else {
                -1
            },
            ..Default::default()
        },
        Err(code) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: code.code(),
            ..Default::default()
        },
    }
}

async fn find(
    broker: &Broker,
    context: &RequestContext,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> Result<Found, ErrorCode> {
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Topic(topic))
    {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if wanted.timestamp < least_timestamp(version) {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let partition = broker
        .partitions
        .get(topic, wanted.partition_index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let asked = LeaderEpoch(wanted.current_leader_epoch);
    partition
        .check_leader(asked)
        .map_err(|error| ErrorCode::from(&error))?;
    look_up(broker, &partition, wanted.timestamp, isolation).await
}

/// The most negative special offset that a version knows.
fn least_timestamp(version: i16) -> i64 {
    match version {
        ..=6 => EARLIEST,
        7 => MAX_TIMESTAMP,
        8 => EARLIEST_LOCAL,
        9 | 10 => LATEST_TIERED,
        _ => EARLIEST_PENDING_UPLOAD,
    }
}

async fn look_up(
    broker: &Broker,
    partition: &Partition,
    timestamp: i64,
    isolation: Isolation,
) -> Result<Found, ErrorCode> {
    let log = &partition.log;
    let end = partition.end_for(isolation);
    let at = |offset: Offset| Found {
        offset: offset.0,
        timestamp: -1,
        leader_epoch: log.epoch_at(offset).unwrap_or(LeaderEpoch::NONE),
    };
    let nothing = Found {
        offset: -1,
        timestamp: -1,
        leader_epoch: LeaderEpoch::NONE,
    };
    let found = match timestamp {
        LATEST => at(end),
        EARLIEST => at(log.log_start_offset()),
        EARLIEST_LOCAL => at(log.local_log_start_offset()),
        LATEST_TIERED => match remote_end(broker, partition) {
            Some(end) if end > log.log_start_offset() => at(end + -1),
            _ => nothing,
        },
        EARLIEST_PENDING_UPLOAD if log.config().tiered => {
            at(remote_end(broker, partition).unwrap_or(log.log_start_offset()))
        }
        EARLIEST_PENDING_UPLOAD => nothing,
        MAX_TIMESTAMP => max_timestamp(broker, partition, end)
            .await
            .map_err(|error| super::error::time(&error))?
            .map_or(nothing, record),
        _ => by_timestamp(broker, partition, timestamp, end)
            .await
            .map_err(|error| super::error::time(&error))?
            .map_or(nothing, record),
    };
    Ok(found)
}

/// Where the partition's data in the tier ends; nothing where there is none.
fn remote_end(broker: &Broker, partition: &Partition) -> Option<Offset> {
    let image = broker.metadata.image();
    let remote = image.remote_log(partition.log.topic_id(), partition.name.partition)?;
    (!remote.is_empty()).then_some(remote.end)
}

fn record(found: TimestampedOffset) -> Found {
    Found {
        offset: found.offset.0,
        timestamp: found.timestamp,
        leader_epoch: found.leader_epoch,
    }
}
