use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use tidemill_protocol::init_producer_id::InitProducerIdResponse;
use tidemill_protocol::produce::{ProduceResponse, TopicProduceResponse};
use tidemill_records::{BatchRules, DecodeLimit};

use super::*;
use crate::fake::{FakeBroker, Received, Reply};

/// Batches in the order in which they were acknowledged, with their partition.
type Written = Arc<Mutex<Vec<(i32, RecordBatch)>>>;

/// A broker that takes batches, unless `refuse` says otherwise for the n-th request.
async fn broker(
    refuse: impl Fn(usize, &Received) -> Option<Reply> + Send + Sync + 'static,
) -> (FakeBroker, Written) {
    let written = Written::default();
    let log = written.clone();
    let requests = AtomicUsize::new(0);
    let fake = FakeBroker::start(move |request| match request.key() {
        ApiKey::API_VERSIONS => request.versions(),
        ApiKey::METADATA => request.metadata(3),
        ApiKey::INIT_PRODUCER_ID => {
            request.answer::<InitProducerIdRequest>(&InitProducerIdResponse {
                producer_id: 77,
                producer_epoch: 4,
                ..InitProducerIdResponse::default()
            })
        }
        _ => match refuse(requests.fetch_add(1, Ordering::SeqCst), request) {
            Some(reply) => reply,
            None => {
                let mut log = log.lock();
                log.push(batch_of(request));
                acknowledge(request, ErrorCode::None, log.len() as i64)
            }
        },
    })
    .await;
    (fake, written)
}

fn batch_of(request: &Received) -> (i32, RecordBatch) {
    let request: ProduceRequest = request.request();
    let data = &request.topic_data[0].partition_data[0];
    let bytes: Bytes = data.records.clone().unwrap().into_bytes();
    let batches = RecordBatch::parse_all(&bytes, BatchRules::Produced).unwrap();
    assert_eq!(batches.len(), 1);
    (data.index, batches[0].clone())
}

fn acknowledge(request: &Received, code: ErrorCode, base_offset: i64) -> Reply {
    let asked: ProduceRequest = request.request();
    if asked.acks == 0 {
        return Reply::Silence;
    }
    request.answer::<ProduceRequest>(&ProduceResponse {
        responses: vec![TopicProduceResponse {
            partition_responses: vec![PartitionProduceResponse {
                index: asked.topic_data[0].partition_data[0].index,
                error_code: code.code(),
                base_offset,
                ..PartitionProduceResponse::default()
            }],
            ..TopicProduceResponse::default()
        }],
        ..ProduceResponse::default()
    })
}

async fn producer(fake: &FakeBroker, config: ProducerConfig) -> Producer {
    let client = fake.client();
    let topic = client.topic("t").await.unwrap();
    Producer::open(client, topic, config).await.unwrap()
}

async fn send(producer: &mut Producer, key: Option<&str>, value: &str) -> Result<(), ClientError> {
    let record = NewRecord {
        timestamp: 1,
        key: key.map(str::as_bytes),
        value: Some(value.as_bytes()),
        ..NewRecord::default()
    };
    producer.send(record).await
}

fn values(batch: &RecordBatch) -> Vec<String> {
    let records = batch.records(DecodeLimit(1 << 20)).unwrap();
    let values = records.map(|record| record.unwrap().value.unwrap());
    values
        .map(|value| String::from_utf8(value.to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn records_arrive_once_in_order_with_unbroken_sequences_though_connections_break() {
    let (fake, written) = broker(|request, received| match request % 3 {
        1 => Some(Reply::Hangup(Vec::new())),
        2 => Some(acknowledge(received, ErrorCode::NotLeaderOrFollower, -1)),
        _ => None,
    })
    .await;
    let config = ProducerConfig {
        batch_bytes_max: 100,
        ..ProducerConfig::default()
    };
    let mut producer = producer(&fake, config).await;
    for number in 0..60 {
        let key = format!("k{}", number % 7);
        send(&mut producer, Some(&key), &format!("value-{number}"))
            .await
            .unwrap();
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.acked_records(), 60);
    let written = written.lock();
    let mut seen = Vec::new();
    let mut sequences = [0; 3];
    for (partition, batch) in written.iter() {
        assert_eq!(
            (batch.producer_id(), batch.producer_epoch()),
            (ProducerId(77), ProducerEpoch(4))
        );
        let next = &mut sequences[*partition as usize];
        assert_eq!(
            batch.base_sequence(),
            Sequence(*next),
            "partition {partition}"
        );
        *next += batch.record_count() as i32;
        seen.extend(values(batch).into_iter().map(|value| (*partition, value)));
    }
    let number = |value: &str| {
        value
            .strip_prefix("value-")
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    for partition in 0..3 {
        let of_partition: Vec<u32> = seen
            .iter()
            .filter(|(at, _)| *at == partition)
            .map(|(_, v)| number(v))
            .collect();
        assert!(of_partition.is_sorted(), "{of_partition:?}");
        assert!(!of_partition.is_empty());
    }
    assert_eq!(seen.len(), 60);
}

#[tokio::test]
async fn a_refused_batch_stops_the_producer() {
    let (fake, written) = broker(|request, received| {
        (request > 0).then(|| acknowledge(received, ErrorCode::MessageTooLarge, -1))
    })
    .await;
    let config = ProducerConfig {
        batch_bytes_max: 1,
        ..ProducerConfig::default()
    };
    let mut producer = producer(&fake, config).await;
    send(&mut producer, Some("k"), "first").await.unwrap();
    producer.flush().await.unwrap();
    send(&mut producer, Some("k"), "second").await.unwrap();
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    let error = send(&mut producer, Some("k"), "third").await.unwrap_err();
    assert!(matches!(error, ClientError::ProducerStopped(_)), "{error}");
    assert_eq!(producer.acked_records(), 1);
    assert_eq!(written.lock().len(), 1);
}

#[tokio::test]
async fn what_is_gathered_and_under_way_is_bounded() {
    let (fake, _) = broker(|_, _| Some(Reply::Silence)).await;
    let config = ProducerConfig {
        batch_bytes_max: 1000,
        buffer_bytes_max: 4000,
        ..ProducerConfig::default()
    };
    let mut producer = producer(&fake, config).await;
    let value = "v".repeat(500);
    let all = async {
        for number in 0..1000 {
            send(&mut producer, Some(&format!("k{number}")), &value).await?;
        }
        Ok::<(), ClientError>(())
    };
    // The broker never answers, so the sender waits at the bound until the deadline fails the batch.
    let error = all.await.unwrap_err();
    assert!(matches!(error, ClientError::ProducerStopped(_)), "{error}");
    assert_eq!(producer.acked_records(), 0);
}

#[tokio::test]
async fn keys_choose_partitions_as_kafka_does_and_keyless_records_fill_batches() {
    let (fake, written) = broker(|_, _| None).await;
    let mut producer = producer(&fake, ProducerConfig::default()).await;
    for key in ["21", "foobar", "abc"] {
        send(&mut producer, Some(key), key).await.unwrap();
    }
    producer.flush().await.unwrap();
    for (partition, batch) in written.lock().drain(..) {
        for key in values(&batch) {
            assert_eq!(
                murmur2_partition(key.as_bytes(), 3),
                PartitionId(partition),
                "{key}"
            );
        }
    }
    for _ in 0..10 {
        send(&mut producer, None, "x").await.unwrap();
    }
    producer.flush().await.unwrap();
    let written = written.lock();
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].1.record_count(), 10);
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_refused() {
    let (fake, _) = broker(|_, _| None).await;
    let mut producer = producer(&fake, ProducerConfig::default()).await;
    let record = NewRecord {
        partition: Some(PartitionId(3)),
        ..NewRecord::default()
    };
    let error = producer.send(record).await.unwrap_err();
    assert!(
        matches!(error, ClientError::UnknownPartition { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn acks_0_does_not_wait_for_an_answer() {
    let (fake, written) = broker(|_, _| None).await;
    let config = ProducerConfig {
        acks: Acks::None,
        idempotent: false,
        ..ProducerConfig::default()
    };
    let mut producer = producer(&fake, config).await;
    send(&mut producer, Some("k"), "v").await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(producer.acked_records(), 1);
    // Requests of a connection are served in order: an answered one proves that the first arrived.
    let partition = TopicPartition::new("t", PartitionId(0));
    let mut batch = RecordBatchBuilder::new(Compression::None);
    batch.push(1, None, Some(b"v"), &Headers::default());
    producer
        .client
        .produce(&partition, &batch.build().unwrap(), Acks::Leader)
        .await
        .unwrap();
    assert_eq!(written.lock().len(), 2);
}
