//! Small requests whose answers, or whose work, could be huge: each is held to proportion.

use std::time::{Duration, Instant};

use tidemill_protocol::ErrorCode;
use tidemill_protocol::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use tidemill_protocol::create_topics::CreateTopicsRequest;
use tidemill_protocol::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use tidemill_protocol::describe_groups::DescribeGroupsRequest;
use tidemill_protocol::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use tidemill_protocol::fetch::{FetchRequest, FetchResponse};
use tidemill_protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use tidemill_protocol::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup};
use tidemill_protocol::{Request, Str};
use tidemill_tests::records::{batch, contents};
use tidemill_tests::requests::{FETCH, create, fetch};
use tidemill_tests::{TestBroker, Wire};

/// As many as a hostile request repeats a thing.
const TIMES: usize = 20_000;
/// What a request of a few hundred KiB may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(5);

/// Sends it and says how large request and answer were.
async fn sizes<R: Request>(
    wire: &mut Wire,
    version: i16,
    request: &R,
) -> (usize, usize, R::Response) {
    let began = Instant::now();
    let (_, frame) = wire.frame(version, request);
    wire.write(&frame).await;
    let answer = wire.read_frame().await.expect("an answer");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    let (_, response) = tidemill_protocol::decode_response::<R>(answer.clone(), version)
        .unwrap_or_else(|error| panic!("{}: {error}", R::NAME));
    (frame.len(), answer.len(), response)
}

#[tokio::test]
async fn partitions_are_counted_before_they_are_made() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for count in [10_001, 1_000_000, i32::MAX] {
        for validate_only in [true, false] {
            let request = CreateTopicsRequest {
                validate_only,
                ..create("u", count, &[])
            };
            let (_, _, answer) = sizes(&mut wire, 7, &request).await;
            assert_eq!(
                answer.topics[0].error_code,
                ErrorCode::PolicyViolation.code(),
                "{count}"
            );
            let wider = CreatePartitionsRequest {
                topics: vec![CreatePartitionsTopic {
                    name: "t".into(),
                    // One is there already, and what counts is how many are added.
                    count: count.saturating_add(1),
                    assignments: None,
                    ..Default::default()
                }],
                validate_only,
                ..Default::default()
            };
            let (_, _, answer) = sizes(&mut wire, 3, &wider).await;
            assert_eq!(
                answer.results[0].error_code,
                ErrorCode::PolicyViolation.code(),
                "{count}"
            );
        }
    }
    // Nor may many topics together be more than one.
    let mut many = create("u-0", 5_000, &[]);
    many.topics
        .extend((1..4).flat_map(|n| create(&format!("u-{n}"), 5_000, &[]).topics));
    many.validate_only = true;
    let (_, _, answer) = sizes(&mut wire, 7, &many).await;
    let refused = answer
        .topics
        .iter()
        .filter(|topic| topic.error_code != 0)
        .count();
    assert!(refused >= 2, "{refused} of 4 refused");
    assert_eq!(wire.metadata(&["u"], false).await.topics[0].error_code, 3);
    assert_eq!(
        wire.metadata(&["t"], false).await.topics[0]
            .partitions
            .len(),
        1
    );
}

#[tokio::test]
async fn metadata_of_one_topic_is_told_once() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 50, &[]).await;
    let topic = MetadataRequestTopic {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![topic; TIMES]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let (asked, told, answer) = sizes(&mut wire, 12, &request).await;
    assert_eq!(answer.topics.len(), 1);
    assert!(told < asked, "{told} bytes for {asked}");
}

#[tokio::test]
async fn settings_of_one_resource_are_told_once() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for (kind, name) in [(2, "t"), (4, "1")] {
        let resource = DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: None,
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource; TIMES],
            include_synonyms: true,
            include_documentation: true,
            ..Default::default()
        };
        let (_, told, answer) = sizes(&mut wire, 4, &request).await;
        assert_eq!(answer.results.len(), 1);
        assert!(told < 100_000, "{told} bytes");
    }
}

#[tokio::test]
async fn groups_are_told_once() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let request = DescribeGroupsRequest {
        groups: vec![Str::from("g"); TIMES],
        ..Default::default()
    };
    let (_, _, answer) = sizes(&mut wire, 5, &request).await;
    assert_eq!(answer.groups.len(), 1);
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        topics: None,
        ..Default::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![group; TIMES],
        ..Default::default()
    };
    let (_, _, answer) = sizes(&mut wire, 9, &request).await;
    assert_eq!(answer.groups.len(), 1);
}

#[tokio::test]
async fn log_dirs_of_many_names_are_looked_up_not_searched() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 500, &[]).await;
    let topic = |n: usize| DescribableLogDirTopic {
        topic: format!("no-such-topic-{n}").into(),
        partitions: (0..10).collect(),
        ..Default::default()
    };
    let mut topics: Vec<_> = (0..5 * TIMES).map(topic).collect();
    topics.push(DescribableLogDirTopic {
        topic: "t".into(),
        partitions: (0..500).collect(),
        ..Default::default()
    });
    let request = DescribeLogDirsRequest {
        topics: Some(topics),
        ..Default::default()
    };
    let (_, _, answer) = sizes(&mut wire, 4, &request).await;
    assert_eq!(answer.results[0].topics.len(), 1);
    assert_eq!(answer.results[0].topics[0].partitions.len(), 500);
}

fn repeated_fetch(max_wait_ms: i32) -> FetchRequest {
    let mut request = fetch("t", 0, 0);
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = vec![partition; TIMES];
    request.max_wait_ms = max_wait_ms;
    request.min_bytes = i32::MAX;
    request
}

fn records_told(answer: &FetchResponse) -> usize {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| contents(&data.records).len()).sum()
}

/// A partition may be named twice in a fetch; the answer is bounded all the same.
#[tokio::test]
async fn a_fetch_that_names_a_partition_again_and_again() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&[&"x".repeat(10_000)]))
        .await;
    let mut request = repeated_fetch(0);
    request.max_bytes = 100_000;
    let (asked, told, answer) = sizes(&mut wire, FETCH, &request).await;
    assert!(records_told(&answer) <= 10);
    assert!(told < 4 * asked + 100_000, "{told} bytes for {asked}");
    // Many such that wait do not stand in each other's way.
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut consumer = broker.wire().await;
        let id = consumer.send(FETCH, &repeated_fetch(60_000)).await;
        waiting.push((consumer, id));
    }
    let began = Instant::now();
    for _ in 0..20 {
        wire.must_produce("t", 0, &batch(&["y"])).await;
    }
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

/// What decoding allocates is in proportion to the frame, whatever the frame claims.
#[tokio::test]
async fn empty_names_do_not_fill_the_memory() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let topic = MetadataRequestTopic {
        name: Some("".into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![topic; 1_000_000]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let (_, frame) = wire.frame(4, &request);
    assert!(frame.len() < 3_000_000);
    wire.write(&frame).await;
    // Refused, or answered in proportion.
    if let Some(answer) = wire.read_frame().await {
        assert!(answer.len() < 10_000_000);
    }
    assert!(!broker.wire().await.served().await.is_empty());
}
