use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidemill_protocol::fetch::FetchableTopicResponse;
use tidemill_protocol::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use tidemill_protocol::{ErrorCode, Records};
use tidemill_records::{Compression, Headers, LeaderEpoch, RecordBatchBuilder};

use super::*;
use crate::fake::{FakeBroker, Received, Reply};

/// A batch of records `first..end`, whose values are their offsets.
fn batch(first: i64, end: i64) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::Zstd);
    for offset in first..end {
        builder.push(
            offset,
            None,
            Some(offset.to_string().as_bytes()),
            &Headers::default(),
        );
    }
    let mut batch = builder.build().unwrap();
    batch.assign(Offset(first), LeaderEpoch(5));
    batch
}

fn log() -> Vec<u8> {
    [batch(0, 10), batch(10, 20)]
        .iter()
        .flat_map(|batch| batch.to_bytes())
        .collect()
}

/// A broker whose partitions all answer fetches as `data` says.
async fn broker(
    data: impl Fn(&FetchPartition) -> (ErrorCode, Vec<u8>) + Send + Sync + 'static,
) -> FakeBroker {
    FakeBroker::start(move |request| match request.key() {
        ApiKey::API_VERSIONS => request.versions(),
        ApiKey::METADATA => request.metadata(2),
        ApiKey::LIST_OFFSETS => list_offsets(request),
        _ => fetched(request, &data),
    })
    .await
}

fn fetched(request: &Received, data: impl Fn(&FetchPartition) -> (ErrorCode, Vec<u8>)) -> Reply {
    let responses = request
        .request::<FetchRequest>()
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let (code, bytes) = data(partition);
                PartitionData {
                    partition_index: partition.partition,
                    error_code: code.code(),
                    high_watermark: 20,
                    records: Some(Records::from(Bytes::from(bytes))),
                    ..PartitionData::default()
                }
            });
            FetchableTopicResponse {
                partitions: partitions.collect(),
                topic_id: topic.topic_id,
                topic: topic.topic.clone(),
                ..FetchableTopicResponse::default()
            }
        });
    request.answer::<FetchRequest>(&FetchResponse {
        responses: responses.collect(),
        ..FetchResponse::default()
    })
}

/// The log reaches from 0 to 20.
fn list_offsets(request: &Received) -> Reply {
    let topics = request
        .request::<ListOffsetsRequest>()
        .topics
        .into_iter()
        .map(|topic| {
            let partitions =
                topic
                    .partitions
                    .iter()
                    .map(|partition| ListOffsetsPartitionResponse {
                        partition_index: partition.partition_index,
                        offset: if partition.timestamp == -1 { 20 } else { 0 },
                        ..ListOffsetsPartitionResponse::default()
                    });
            ListOffsetsTopicResponse {
                partitions: partitions.collect(),
                name: topic.name.clone(),
                ..ListOffsetsTopicResponse::default()
            }
        });
    request.answer::<ListOffsetsRequest>(&ListOffsetsResponse {
        topics: topics.collect(),
        ..ListOffsetsResponse::default()
    })
}

fn id(partition: i32) -> TopicPartition {
    TopicPartition::new("t", PartitionId(partition))
}

fn consumer(fake: &FakeBroker, positions: &[(i32, i64)], out_of_range: OutOfRange) -> Consumer {
    let positions = positions
        .iter()
        .map(|(partition, offset)| (id(*partition), Offset(*offset)));
    Consumer::new(
        fake.client(),
        positions.collect(),
        FetchLimits::default(),
        out_of_range,
    )
}

fn offsets(fetched: &FetchedPartition) -> Vec<i64> {
    let records = fetched.records().map(|record| {
        let record = record.unwrap();
        assert_eq!(
            record.value.unwrap(),
            record.offset.0.to_string().into_bytes()
        );
        record.offset.0
    });
    records.collect()
}

#[tokio::test]
async fn a_position_within_a_batch_skips_what_comes_before_it() {
    let fake = broker(|_| (ErrorCode::None, log())).await;
    let mut consumer = consumer(&fake, &[(0, 13), (1, 0)], OutOfRange::Fail);
    let mut fetched = consumer.poll().await.unwrap();
    fetched.sort_by_key(|partition| partition.partition.clone());
    assert_eq!(offsets(&fetched[0]), (13..20).collect::<Vec<_>>());
    assert_eq!(offsets(&fetched[1]), (0..20).collect::<Vec<_>>());
    assert_eq!(fetched[0].high_watermark, Offset(20));
    assert!(
        consumer
            .positions()
            .values()
            .all(|position| *position == Offset(20))
    );
}

#[tokio::test]
async fn a_last_batch_that_is_cut_off_waits_for_the_next_fetch() {
    let fake = broker(|_| (ErrorCode::None, log()[..log().len() - 3].to_vec())).await;
    let mut consumer = consumer(&fake, &[(0, 0)], OutOfRange::Fail);
    let fetched = consumer.poll().await.unwrap();
    assert_eq!(offsets(&fetched[0]), (0..10).collect::<Vec<_>>());
    assert_eq!(consumer.positions()[&id(0)], Offset(10));
}

#[tokio::test]
async fn an_answer_without_one_whole_batch_is_an_error_not_a_standstill() {
    let fake = broker(|_| (ErrorCode::None, log()[..70].to_vec())).await;
    let error = consumer(&fake, &[(0, 0)], OutOfRange::Fail)
        .poll()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Batch {
                source: BatchError::Truncated { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_keeps_no_record_of_the_others_back() {
    let fake = broker(|partition| match partition.partition {
        0 => (ErrorCode::KafkaStorageError, Vec::new()),
        _ if partition.fetch_offset >= 20 => (ErrorCode::None, Vec::new()),
        _ => (ErrorCode::None, log()),
    })
    .await;
    let mut consumer = consumer(&fake, &[(0, 0), (1, 0)], OutOfRange::Fail);
    let fetched = consumer.poll().await.unwrap();
    assert_eq!(fetched.len(), 1);
    assert_eq!(fetched[0].partition, id(1));
    assert_eq!(offsets(&fetched[0]).len(), 20);
    assert_eq!(consumer.positions()[&id(0)], Offset(0), "it waits");
}

#[tokio::test]
async fn a_flipped_bit_is_an_error_that_names_the_partition() {
    let fake = broker(|_| {
        let mut bytes = log();
        bytes[80] ^= 1;
        (ErrorCode::None, bytes)
    })
    .await;
    let error = consumer(&fake, &[(1, 0)], OutOfRange::Fail)
        .poll()
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Batch {
                source: BatchError::Crc { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("t-1"), "{error}");
}

#[tokio::test]
async fn a_position_outside_of_the_log_follows_the_rule() {
    for (rule, first, expected) in [
        (OutOfRange::ToStart, 99, Some(0)),
        (OutOfRange::ToEnd, 99, Some(20)),
        (OutOfRange::Fail, 99, None),
    ] {
        let fake = broker(|partition| match partition.fetch_offset {
            0..=20 => (ErrorCode::None, Vec::new()),
            _ => (ErrorCode::OffsetOutOfRange, Vec::new()),
        })
        .await;
        let mut consumer = consumer(&fake, &[(0, first), (1, 7)], rule);
        let result = consumer.poll().await;
        match expected {
            Some(offset) => assert_eq!(consumer.positions()[&id(0)], Offset(offset)),
            None => {
                assert_eq!(
                    result.unwrap_err().code(),
                    Some(ErrorCode::OffsetOutOfRange)
                );
            }
        }
        assert_eq!(consumer.positions()[&id(1)], Offset(7), "{rule:?}");
    }
}

#[tokio::test]
async fn an_answer_about_another_partition_is_refused() {
    let calls = AtomicUsize::new(0);
    let fake = FakeBroker::start(move |request| match request.key() {
        ApiKey::API_VERSIONS => request.versions(),
        ApiKey::METADATA => request.metadata(2),
        _ => {
            calls.fetch_add(1, Ordering::SeqCst);
            let topic = FetchableTopicResponse {
                topic_id: request.request::<FetchRequest>().topics[0].topic_id,
                partitions: vec![PartitionData {
                    partition_index: 77,
                    ..Default::default()
                }],
                ..FetchableTopicResponse::default()
            };
            let responses = vec![topic];
            request.answer::<FetchRequest>(&FetchResponse {
                responses,
                ..Default::default()
            })
        }
    })
    .await;
    let error = consumer(&fake, &[(0, 0)], OutOfRange::Fail)
        .poll()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Incomplete { .. }), "{error}");
}
