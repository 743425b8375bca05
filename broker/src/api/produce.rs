//! Produce (key 0): appends batches and answers when they are as durable as `acks` asks.
//!
//! Versions 3–13; 0–2 are advertised for old clients' sake and refused on receipt, since their records are
//! not in the v2 format. Version 13 names topics by id (KIP-516). From version 10 on a wrong leader is
//! answered with the right one (KIP-951). Version 7 brings zstd (KIP-110). A request holds one batch per
//! partition; `acks=0` has no answer, and an error under it closes the connection, as in Kafka.

use std::time::Duration;

use bytes::Bytes;
use tidemill_log::AppendOrigin;
use tidemill_protocol::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use tidemill_protocol::{ErrorCode, Records, Str};
use tidemill_records::{BatchError, BatchRules, Compression, LeaderEpoch, Offset, RecordBatch};
use tidemill_storage::wal::Lsn;
use tokio::time::Instant;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::partition::{Partition, PartitionError};
use crate::server::context::RequestContext;

/// The first version whose clients know zstd.
const ZSTD_FROM: i16 = 7;
/// A disk that takes longer than this is full or broken, and a producer wants to know. Its batch may still
/// become durable, as after any timeout.
const DURABLE_WITHIN: Duration = Duration::from_secs(5);

const NO_ROOM: &str = "the broker's disk has no room: data.dir.bytes.max is reached, or the disk is full, broken or too slow; see \
                       the broker's log and metrics, and send again";

/// What an answer must wait for.
struct Appended {
    /// Position of the answer: topic, partition.
    at: (usize, usize),
    partition: std::sync::Arc<Partition>,
    lsn: Lsn,
    end: Offset,
}

/// Appends at its first poll, if the logs have room; then waits.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ProduceRequest,
    version: i16,
) -> ProduceResponse {
    let acks = request.acks;
    let limit = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let (mut response, appended) = append_all(broker, context, request, version);
    if acks != 0 {
        wait(broker, &mut response, appended, acks, limit).await;
    }
    response
}

fn append_all(
    broker: &Broker,
    context: &RequestContext,
    request: ProduceRequest,
    version: i16,
) -> (ProduceResponse, Vec<Appended>) {
    let mut appended = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let by_id = version >= 13;
    let refusal = refuse_whole(&request);
    for topic in request.topic_data {
        let name = if by_id {
            broker.partitions.topic_name(topic.topic_id)
        } else {
            Some(topic.name.clone())
        };
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let mut answer = PartitionProduceResponse {
                index: data.index,
                base_offset: -1,
                log_append_time_ms: -1,
                log_start_offset: -1,
                ..Default::default()
            };
            let at = (responses.len(), partition_responses.len());
            let outcome = match (&refusal, &name) {
                (Some(code), _) => Err(Failure::Code(*code)),
                (None, _) if !context.logs_have_room => Err(Failure::NoRoom),
                (None, None) => Err(Failure::Code(ErrorCode::UnknownTopicId)),
                (None, Some(name)) => one_batch(data.records, version).and_then(|batch| {
                    append_one(broker, context, (name, data.index), batch, request.acks)
                }),
            };
            match outcome {
                Ok((partition, info)) => {
                    answer.base_offset = info.base_offset.0;
                    answer.log_append_time_ms = info.log_append_time_ms;
                    answer.log_start_offset = info.log_start_offset.0;
                    appended.push(Appended {
                        at,
                        partition,
                        lsn: info.lsn,
                        end: info.next_offset,
                    });
                }
                Err(failure) => failure.describe(broker, name.as_deref(), &mut answer),
            }
            partition_responses.push(answer);
        }
        let (name, topic_id) = (topic.name, topic.topic_id);
        responses.push(TopicProduceResponse {
            name,
            topic_id,
            partition_responses,
            ..Default::default()
        });
    }
    (
        ProduceResponse {
            responses,
            ..Default::default()
        },
        appended,
    )
}

enum Failure {
    Code(ErrorCode),
    Batch(BatchError),
    Partition(PartitionError),
    /// What was appended before cannot be written.
    NoRoom,
}

impl Failure {
    fn describe(
        &self,
        broker: &Broker,
        topic: Option<&str>,
        answer: &mut PartitionProduceResponse,
    ) {
        let (code, cause) = match self {
            Self::Code(code) => (*code, None),
            Self::Batch(error) => (super::error::batch(error), Some(error.to_string())),
            Self::Partition(error) => (ErrorCode::from(error), Some(error.to_string())),
            Self::NoRoom => (ErrorCode::KafkaStorageError, Some(NO_ROOM.to_owned())),
        };
        broker.metrics.produce_failed(code.name());
        answer.error_code = code.code();
        answer.error_message = cause.map(Str::from);
        if matches!(
            code,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        ) && let Some(partition) =
            topic.and_then(|topic| broker.partitions.get(topic, answer.index))
        {
            let (leader, epoch) = partition.leader();
            answer.current_leader.leader_id = leader.0;
            answer.current_leader.leader_epoch = epoch.0;
        }
    }
}

fn refuse_whole(request: &ProduceRequest) -> Option<ErrorCode> {
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::InvalidRequiredAcks);
    }
    // A transactional producer must not be told that its records are in when nothing will commit them.
    request
        .transactional_id
        .is_some()
        .then_some(ErrorCode::TransactionalIdAuthorizationFailed)
}

fn append_one(
    broker: &Broker,
    context: &RequestContext,
    (topic, index): (&str, i32),
    batch: RecordBatch,
    acks: i16,
) -> Result<(std::sync::Arc<Partition>, tidemill_log::AppendInfo), Failure> {
    if !broker
        .authorizer
        .allows(context, Operation::Write, Resource::Topic(topic))
    {
        return Err(Failure::Code(ErrorCode::TopicAuthorizationFailed));
    }
    if crate::topic::is_internal(topic) {
        return Err(Failure::Code(ErrorCode::InvalidTopicException));
    }
    let partition = broker
        .partitions
        .get(topic, index)
        .ok_or(Failure::Code(ErrorCode::UnknownTopicOrPartition))?;
    let (bytes, records) = (batch.size_bytes(), batch.record_count());
    let now_ms = broker.clock.now_ms();
    let info = partition
        .append(
            vec![batch],
            LeaderEpoch::NONE,
            AppendOrigin::Client,
            acks == -1,
            now_ms,
            // The whole of it for each batch: of many in a frame all but one may be refused.
            context.pinned_bytes,
        )
        .map_err(Failure::Partition)?;
    partition.traffic.count_in(bytes, records);
    broker.disk.appended(bytes);
    Ok((partition, info))
}

/// The format since version 3: exactly one v2 batch.
fn one_batch(records: Option<Records>, version: i16) -> Result<RecordBatch, Failure> {
    let bytes: Bytes = records.map(Records::into_bytes).unwrap_or_default();
    if bytes.is_empty() {
        return Err(Failure::Code(ErrorCode::InvalidRecord));
    }
    let (batch, consumed) =
        RecordBatch::parse(&bytes, BatchRules::Produced).map_err(Failure::Batch)?;
    if consumed != bytes.len() {
        return Err(Failure::Code(ErrorCode::InvalidRecord));
    }
    if batch.compression() == Compression::Zstd && version < ZSTD_FROM {
        return Err(Failure::Code(ErrorCode::UnsupportedCompressionType));
    }
    if batch.is_transactional() {
        return Err(Failure::Code(ErrorCode::InvalidTxnState));
    }
    Ok(batch)
}

/// Waits until everything appended is durable (acks=1), and committed by all in-sync replicas (acks=all).
async fn wait(
    broker: &Broker,
    response: &mut ProduceResponse,
    appended: Vec<Appended>,
    acks: i16,
    limit: Duration,
) {
    let Some(last) = appended.iter().map(|appended| appended.lsn).max() else {
        return;
    };
    let deadline = Instant::now() + limit;
    let durable = broker.logs.wal().wait_durable(last);
    let durable_by = Instant::now() + DURABLE_WITHIN;
    let durable = tokio::time::timeout_at(durable_by, durable).await;
    let logged = matches!(durable, Ok(Ok(())));
    for appended in appended {
        let (partition, end) = (&appended.partition, appended.end);
        let code = if !logged || !partition.wait_durable(end, durable_by).await {
            ErrorCode::KafkaStorageError
        } else if acks == -1 && !partition.wait_committed(end, deadline).await {
            ErrorCode::RequestTimedOut
        } else {
            continue;
        };
        let (topic, partition) = appended.at;
        let answer = &mut response.responses[topic].partition_responses[partition];
        answer.error_code = code.code();
        answer.base_offset = -1;
    }
}
