use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant as WallClock;

use tidemill_protocol::create_topics::{
    CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use tidemill_protocol::find_coordinator::FindCoordinatorResponse;
use tidemill_protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use tidemill_protocol::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use tidemill_protocol::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use tidemill_records::PartitionId;

use super::*;
use crate::fake::{FakeBroker, Received, Reply};
use crate::offsets::OffsetSpec;
use crate::topics::NewTopic;

const PARTITIONS: i32 = 3;

/// Speaks ApiVersions and Metadata well, counts the latter, and leaves the rest to `script`.
async fn broker(
    script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (FakeBroker, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let metadata_requests = asked.clone();
    let fake = FakeBroker::start(move |request| match request.key() {
        ApiKey::API_VERSIONS => request.versions(),
        ApiKey::METADATA => {
            asked.fetch_add(1, Ordering::SeqCst);
            request.metadata(PARTITIONS)
        }
        _ => script(request),
    })
    .await;
    (fake, metadata_requests)
}

/// Answers every partition of a ListOffsets with this code and offset.
fn listed(request: &Received, code: ErrorCode, offset: i64) -> Reply {
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
                        error_code: code.code(),
                        offset: offset + i64::from(partition.partition_index),
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

const BOTH: [PartitionId; 2] = [PartitionId(0), PartitionId(2)];

#[tokio::test]
async fn metadata_is_asked_once_and_then_cached() {
    let (fake, metadata_requests) = broker(|request| listed(request, ErrorCode::None, 10)).await;
    let client = fake.client();
    for _ in 0..5 {
        let offsets = client
            .list_offsets("t", &BOTH, OffsetSpec::End)
            .await
            .unwrap();
        assert_eq!(offsets[&PartitionId(0)].offset.0, 10);
        assert_eq!(offsets[&PartitionId(2)].offset.0, 12);
    }
    assert_eq!(metadata_requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_moved_leader_is_looked_up_and_asked_again() {
    let attempts = AtomicUsize::new(0);
    let (fake, metadata_requests) =
        broker(
            move |request| match attempts.fetch_add(1, Ordering::SeqCst) {
                0 => listed(request, ErrorCode::NotLeaderOrFollower, 0),
                _ => listed(request, ErrorCode::None, 10),
            },
        )
        .await;
    let offsets = fake
        .client()
        .list_offsets("t", &BOTH, OffsetSpec::End)
        .await
        .unwrap();
    assert_eq!(offsets.len(), 2);
    assert_eq!(metadata_requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_broken_connection_is_dialled_again() {
    let attempts = AtomicUsize::new(0);
    let (fake, _) = broker(
        move |request| match attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Hangup(vec![0, 0]),
            _ => listed(request, ErrorCode::None, 10),
        },
    )
    .await;
    let offsets = fake
        .client()
        .list_offsets("t", &BOTH, OffsetSpec::End)
        .await
        .unwrap();
    assert_eq!(offsets.len(), 2);
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn retries_end_at_the_deadline_with_the_last_error() {
    let (fake, _) =
        broker(|request| listed(request, ErrorCode::CoordinatorLoadInProgress, 0)).await;
    let mut config = ClientConfig::new(vec![fake.address.clone()]);
    config.deadline = Duration::from_millis(400);
    let began = WallClock::now();
    let error = Client::new(config)
        .list_offsets("t", &BOTH, OffsetSpec::End)
        .await
        .unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "took {:?}",
        began.elapsed()
    );
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    assert_eq!(error.code(), Some(ErrorCode::CoordinatorLoadInProgress));
}

#[tokio::test]
async fn an_unknown_topic_is_final_at_once() {
    let (fake, metadata_requests) = broker(|_| Reply::Silence).await;
    let error = fake.client().topic("nothing").await.unwrap_err();
    assert!(matches!(error, ClientError::UnknownTopic { .. }), "{error}");
    let partition = [PartitionId(9)];
    let error = fake
        .client()
        .list_offsets("t", &partition, OffsetSpec::End)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::UnknownPartition { .. }),
        "{error}"
    );
    assert_eq!(metadata_requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nobody_there_is_an_error_at_once_and_the_next_address_is_tried() {
    let (fake, _) = broker(|_| Reply::Silence).await;
    let dead = {
        let listener = crate::net::listen("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let began = WallClock::now();
    let error = Client::new(ClientConfig::new(vec![dead.clone()]))
        .cluster()
        .await
        .unwrap_err();
    assert!(error.is_unreachable(), "{error}");
    assert!(error.to_string().contains(&dead), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "took {:?}",
        began.elapsed()
    );
    let both = Client::new(ClientConfig::new(vec![dead, fake.address.clone()]));
    let cluster = both.cluster().await.unwrap();
    assert_eq!(&*cluster.brokers[&NodeId(1)], fake.address.as_str());
}

#[tokio::test]
async fn a_lost_broker_is_waited_for_until_the_deadline() {
    let (fake, _) = broker(|request| listed(request, ErrorCode::None, 10)).await;
    let mut config = ClientConfig::new(vec![fake.address.clone()]);
    config.deadline = Duration::from_millis(400);
    let client = Client::new(config);
    client
        .list_offsets("t", &BOTH, OffsetSpec::End)
        .await
        .unwrap();
    drop(fake);
    let began = WallClock::now();
    let error = client
        .list_offsets("t", &BOTH, OffsetSpec::End)
        .await
        .unwrap_err();
    let took = began.elapsed();
    assert!(error.is_unreachable(), "{error}");
    assert!(
        took > Duration::from_millis(200) && took < Duration::from_secs(2),
        "took {took:?}"
    );
}

#[tokio::test]
async fn an_administrative_refusal_is_not_retried() {
    let (fake, _) = broker(|request| {
        assert_eq!(request.key(), ApiKey::CREATE_TOPICS);
        request.answer::<CreateTopicsRequest>(&CreateTopicsResponse {
            topics: vec![CreatableTopicResult {
                error_code: ErrorCode::TopicAlreadyExists.code(),
                error_message: Some(Str::from("Topic 't' already exists.")),
                ..CreatableTopicResult::default()
            }],
            ..CreateTopicsResponse::default()
        })
    })
    .await;
    let error = fake
        .client()
        .create_topic(&NewTopic::new("t"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TopicAlreadyExists));
    assert!(
        error.to_string().contains("Topic 't' already exists."),
        "{error}"
    );
}

#[tokio::test]
async fn a_coordinator_that_moved_is_found_again() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let found = lookups.clone();
    let fetches = AtomicUsize::new(0);
    let (fake, _) = broker(move |request| match request.key() {
        ApiKey::FIND_COORDINATOR => {
            found.fetch_add(1, Ordering::SeqCst);
            request.answer::<FindCoordinatorRequest>(&FindCoordinatorResponse {
                node_id: 1,
                host: Str::from("127.0.0.1"),
                port: i32::from(request.port),
                ..FindCoordinatorResponse::default()
            })
        }
        ApiKey::OFFSET_FETCH => {
            let first = fetches.fetch_add(1, Ordering::SeqCst) == 0;
            let code = if first {
                ErrorCode::NotCoordinator
            } else {
                ErrorCode::None
            };
            request.answer::<OffsetFetchRequest>(&OffsetFetchResponse {
                error_code: code.code(),
                ..OffsetFetchResponse::default()
            })
        }
        other => panic!("{other}"),
    })
    .await;
    let client = fake.client();
    assert!(client.committed_offsets("g").await.unwrap().is_empty());
    assert_eq!(lookups.load(Ordering::SeqCst), 2);
    client.committed_offsets("g").await.unwrap();
    assert_eq!(lookups.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn calls_at_the_same_time_share_one_connection() {
    let (fake, _) = broker(|request| {
        request.answer::<InitProducerIdRequest>(&InitProducerIdResponse::default())
    })
    .await;
    let client = fake.client();
    let calls = (0..20).map(|_| client.init_producer_id());
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(fake.connections(), 1);
}
