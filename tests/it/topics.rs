//! Topics come into being, grow, end, and come again.

use tidemill_protocol::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use tidemill_protocol::create_topics::CreateTopicsRequest;
use tidemill_protocol::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidemill_protocol::metadata::MetadataRequest;
use tidemill_protocol::{ErrorCode, Str};
use tidemill_tests::records::batch;
use tidemill_tests::requests::{create, metadata};
use tidemill_tests::{TestBroker, Wire, until};
use uuid::Uuid;

async fn error_of(wire: &mut Wire, topic: &str, create: bool) -> i16 {
    wire.metadata(&[topic], create).await.topics[0].error_code
}

const UNKNOWN: i16 = 3;

#[tokio::test]
async fn a_topic_that_is_asked_for_can_be_used_at_once() {
    let broker = TestBroker::start_with(|config| config.num_partitions = 3).await;
    let mut wire = broker.wire().await;
    for version in 4..=13 {
        let name = format!("auto-{version}");
        let answer = wire.call(version, &metadata(&[&name], true)).await;
        let topic = &answer.topics[0];
        assert_eq!(
            (topic.error_code, topic.partitions.len()),
            (0, 3),
            "version {version}"
        );
        assert!(
            topic
                .partitions
                .iter()
                .all(|partition| partition.leader_id == 1)
        );
        for partition in 0..3 {
            assert_eq!(wire.must_produce(&name, partition, &batch(&["a"])).await, 0);
        }
    }
    // Another connection sees it as well, and nothing twice.
    let all = broker
        .wire()
        .await
        .call(
            12,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await;
    let names: Vec<&str> = all
        .topics
        .iter()
        .filter_map(|topic| topic.name.as_deref())
        .collect();
    assert_eq!(names.len(), 10, "{names:?}");
}

#[tokio::test]
async fn who_only_looks_creates_nothing() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    assert_eq!(error_of(&mut wire, "t", false).await, UNKNOWN);
    assert_eq!(error_of(&mut wire, "t", false).await, UNKNOWN);
    for wrong in [
        "",
        ".",
        "..",
        "no spaces",
        "ünicode",
        &"x".repeat(250),
        "a/b",
    ] {
        let code = error_of(&mut wire, wrong, true).await;
        assert_eq!(code, ErrorCode::InvalidTopicException.code(), "{wrong:?}");
    }
}

#[tokio::test]
async fn automatic_creation_can_be_turned_off() {
    let broker = TestBroker::start_with(|config| config.auto_create_topics_enable = false).await;
    let mut wire = broker.wire().await;
    assert_eq!(error_of(&mut wire, "t", true).await, UNKNOWN);
    let answer = wire.produce("t", 0, &batch(&["a"])).await;
    assert_eq!(answer.error_code, UNKNOWN);
}

#[tokio::test]
async fn many_who_ask_for_the_same_topic_get_one() {
    let broker = TestBroker::start().await;
    let kafka = broker.addresses().kafka;
    let askers: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let mut wire = Wire::connect(kafka).await;
                let topic = wire.metadata(&["t"], true).await.topics.remove(0);
                assert_eq!((topic.error_code, topic.partitions.len()), (0, 1));
                topic.topic_id
            })
        })
        .collect();
    let mut ids = Vec::new();
    for asker in askers {
        ids.push(asker.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_ne!(ids[0], Uuid::nil());
}

#[tokio::test]
async fn clients_do_not_write_internal_topics() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let answer = wire.metadata(&["__consumer_offsets"], true).await;
    let topic = &answer.topics[0];
    assert!(
        topic.is_internal && topic.partitions.len() == 4,
        "{answer:?}"
    );
    let refused = wire.produce("__consumer_offsets", 0, &batch(&["a"])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidTopicException.code());
}

#[tokio::test]
async fn what_cannot_be_created_says_why() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let replicated = |factor: i16| {
        let mut request = create("r", 1, &[]);
        request.topics[0].replication_factor = factor;
        request
    };
    let cases: Vec<(CreateTopicsRequest, ErrorCode, &str)> = vec![
        (create("t", 1, &[]), ErrorCode::TopicAlreadyExists, "exists"),
        (
            create("p", 0, &[]),
            ErrorCode::InvalidPartitions,
            "partitions",
        ),
        (
            create("p", -5, &[]),
            ErrorCode::InvalidPartitions,
            "partitions",
        ),
        (
            create("no name", 1, &[]),
            ErrorCode::InvalidTopicException,
            "name",
        ),
        (
            replicated(3),
            ErrorCode::InvalidReplicationFactor,
            "1 broker",
        ),
        (
            replicated(0),
            ErrorCode::InvalidReplicationFactor,
            "larger than 0",
        ),
        (
            create("c", 1, &[("retention.mss", "1")]),
            ErrorCode::InvalidConfig,
            "did you mean retention.ms",
        ),
        (
            create("c", 1, &[("retention.ms", "soon")]),
            ErrorCode::InvalidConfig,
            "retention.ms",
        ),
        (
            create("c", 1, &[("retention.ms", "-2")]),
            ErrorCode::InvalidConfig,
            "at least -1",
        ),
    ];
    for (request, code, words) in cases {
        for validate_only in [true, false] {
            let request = CreateTopicsRequest {
                validate_only,
                ..request.clone()
            };
            let answer = wire.call(7, &request).await.topics.remove(0);
            assert_eq!(answer.error_code, code.code(), "{request:?}");
            let message = answer.error_message.unwrap_or_default();
            assert!(
                message.to_lowercase().contains(words),
                "{message:?} for {code:?}"
            );
        }
    }
    let only_tried = CreateTopicsRequest {
        validate_only: true,
        ..create("v", 2, &[])
    };
    let answer = wire.call(7, &only_tried).await.topics.remove(0);
    assert_eq!((answer.error_code, answer.num_partitions), (0, 2));
    assert_eq!(error_of(&mut wire, "v", false).await, UNKNOWN);
}

#[tokio::test]
async fn a_name_twice_in_one_request_is_refused_once() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let mut request = create("t", 1, &[]);
    request.topics.push(request.topics[0].clone());
    request.topics.extend(create("u", 1, &[]).topics);
    let answer = wire.call(7, &request).await;
    let codes: Vec<(&str, i16)> = answer
        .topics
        .iter()
        .map(|topic| (topic.name.as_str(), topic.error_code))
        .collect();
    assert_eq!(codes, [("t", ErrorCode::InvalidRequest.code()), ("u", 0)]);
    assert_eq!(error_of(&mut wire, "t", false).await, UNKNOWN);
}

async fn widen(wire: &mut Wire, count: i32, validate_only: bool) -> (i16, String) {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "t".into(),
            count,
            assignments: None,
            ..Default::default()
        }],
        validate_only,
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = wire.call(3, &request).await.results.remove(0);
    (
        answer.error_code,
        answer.error_message.unwrap_or_default().as_str().to_owned(),
    )
}

#[tokio::test]
async fn topics_grow_and_never_shrink() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["a"])).await;
    assert_eq!(widen(&mut wire, 3, true).await.0, 0);
    let refused = wire.produce("t", 2, &batch(&["b"])).await;
    assert_eq!(refused.error_code, UNKNOWN, "it was only validated");
    assert_eq!(widen(&mut wire, 3, false).await.0, 0);
    assert_eq!(wire.must_produce("t", 2, &batch(&["b"])).await, 0);
    for count in [3, 2, 0, -1] {
        let (code, message) = widen(&mut wire, count, false).await;
        assert_eq!(code, ErrorCode::InvalidPartitions.code());
        assert!(message.contains("3 partitions"), "{message}");
    }
    broker.restart().await;
    let mut wire = broker.wire().await;
    assert_eq!(
        wire.metadata(&["t"], false).await.topics[0]
            .partitions
            .len(),
        3
    );
    assert_eq!(wire.values("t", 0).await, ["a"]);
    assert_eq!(wire.values("t", 2).await, ["b"]);
}

#[tokio::test]
async fn a_topic_that_is_made_again_has_nothing_of_the_old_one() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let mut ids = Vec::new();
    for round in 0..3 {
        wire.must_create("t", 2, &[("retention.ms", "-1")]).await;
        ids.push(wire.metadata(&["t"], false).await.topics[0].topic_id);
        assert_eq!(wire.values("t", 0).await, [""; 0]);
        let value = format!("round {round}");
        assert_eq!(wire.must_produce("t", 0, &batch(&[&value])).await, 0);
        assert_eq!(wire.values("t", 0).await, [value.as_str()]);
        assert_eq!(wire.delete("t").await, 0);
        assert_eq!(wire.delete("t").await, UNKNOWN);
        assert_eq!(
            wire.produce("t", 0, &batch(&["x"])).await.error_code,
            UNKNOWN
        );
        assert_eq!(error_of(&mut wire, "t", false).await, UNKNOWN);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    broker.restart().await;
    let mut wire = broker.wire().await;
    assert_eq!(error_of(&mut wire, "t", false).await, UNKNOWN);
    let topics = broker.data_dir().join("topics");
    until("the files are gone", async || {
        let left = std::fs::read_dir(&topics).unwrap().count();
        (left == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn deletion_goes_by_id_too_and_can_be_turned_off() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let topic_id = wire.metadata(&["t"], false).await.topics[0].topic_id;
    let by_id = |topic_id: Uuid| DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            topic_id,
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let unknown = wire.call(6, &by_id(Uuid::max())).await.responses.remove(0);
    assert_eq!(unknown.error_code, ErrorCode::UnknownTopicId.code());
    let deleted = wire.call(6, &by_id(topic_id)).await.responses.remove(0);
    assert_eq!(
        (deleted.error_code, deleted.name),
        (0, Some(Str::from("t")))
    );
    wire.must_create("kept", 1, &[]).await;
    broker
        .restart_with(|config| config.delete_topic_enable = false)
        .await;
    let mut wire = broker.wire().await;
    assert_eq!(
        wire.delete("kept").await,
        ErrorCode::TopicDeletionDisabled.code()
    );
    assert_eq!(wire.must_produce("kept", 0, &batch(&["a"])).await, 0);
}

/// As many at once as a framework creates when it starts.
#[tokio::test]
async fn a_hundred_topics_at_once() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let mut request = create("t-0", 2, &[]);
    request
        .topics
        .extend((1..100).flat_map(|n| create(&format!("t-{n}"), 2, &[]).topics));
    let answer = wire.call(7, &request).await;
    assert!(
        answer.topics.iter().all(|topic| topic.error_code == 0),
        "{answer:?}"
    );
    for n in [0, 50, 99] {
        wire.must_produce(&format!("t-{n}"), 1, &batch(&["a"]))
            .await;
    }
    broker.restart().await;
    let mut wire = broker.wire().await;
    assert_eq!(wire.values("t-99", 1).await, ["a"]);
}

#[tokio::test]
async fn names_that_metrics_could_not_tell_apart_collide() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("a.b_c", 1, &[]).await;
    let invalid = ErrorCode::InvalidTopicException.code();
    for name in ["a_b.c", "a_b_c", "a.b.c"] {
        let refused = wire.create(name, 1, &[]).await.topics.remove(0);
        assert_eq!(refused.error_code, invalid, "{name}");
        let message = refused.error_message.expect("a message");
        let message = message.as_str();
        assert!(
            message.contains("collides with existing topic: a.b_c"),
            "{message}"
        );
        let metadata = wire.metadata(&[name], true).await;
        assert_eq!(metadata.topics[0].error_code, invalid, "{name}");
    }
    wire.must_create("a.b-c", 1, &[]).await;
}

#[tokio::test]
async fn a_topic_that_is_to_be_compacted_wants_keys() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("k", 1, &[("cleanup.policy", "compact,delete")])
        .await;
    let refused = wire.produce("k", 0, &batch(&["no key"])).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRecord.code());
    wire.set_config("k", "cleanup.policy", "delete").await;
    assert_eq!(wire.must_produce("k", 0, &batch(&["no key"])).await, 0);
}
