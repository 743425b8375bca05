//! DeleteRecords (key 21): moves the log start up; what lies below is gone for readers at once, and on disk
//! segment by segment.
//!
//! Versions 0–2. Offset -1 means the high watermark.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use tidemill_records::{LeaderEpoch, Offset};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::tiering;

const HIGH_WATERMARK: i64 = -1;

/// Answers every partition on its own, once the new start is durable.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteRecordsRequest,
    _version: i16,
) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let (low_watermark, code) = match delete(broker, context, &topic.name, wanted).await {
                Ok(start) => (start.0, ErrorCode::None),
                Err(code) => (-1, code),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark,
                error_code: code.code(),
                ..Default::default()
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
            ..Default::default()
        });
    }
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

async fn delete(
    broker: &Broker,
    context: &RequestContext,
    topic: &str,
    wanted: &DeleteRecordsPartition,
) -> Result<Offset, ErrorCode> {
    if !broker
        .authorizer
        .allows(context, Operation::Delete, Resource::Topic(topic))
    {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let partition = broker
        .partitions
        .get(topic, wanted.partition_index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    partition
        .check_leader(LeaderEpoch::NONE)
        .map_err(|error| ErrorCode::from(&error))?;
    let before = (wanted.offset != HIGH_WATERMARK).then_some(Offset(wanted.offset));
    if partition.log.config().tiered {
        // The whole cluster has to know: another leader must not bring the records back from the tier.
        let high_watermark = partition.log.high_watermark();
        let start = before.unwrap_or(high_watermark);
        if start >= Offset::ZERO && start <= high_watermark {
            tiering::advance_log_start(broker, &partition, start)
                .await
                .map_err(|error| super::error::proposal(&error))?;
        }
    }
    let (start, lsn) = partition
        .delete_records(before)
        .map_err(|error| ErrorCode::from(&error))?;
    broker
        .logs
        .wal()
        .wait_durable(lsn)
        .await
        .map_err(|_| ErrorCode::KafkaStorageError)?;
    Ok(start)
}
