//! Incremental fetch sessions (KIP-227) over the wire.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic,
};
use tidemill_tests::records::{batch, contents};
use tidemill_tests::requests::FETCH;
use tidemill_tests::{TestBroker, Wire};

fn wanted(partitions: &[(i32, i64)]) -> Vec<FetchTopic> {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        current_leader_epoch: -1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: "t".into(),
        partitions: partitions.iter().map(partition).collect(),
        ..Default::default()
    };
    if partitions.is_empty() {
        Vec::new()
    } else {
        vec![topic]
    }
}

fn request(id: i32, epoch: i32, partitions: &[(i32, i64)]) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: id,
        session_epoch: epoch,
        topics: wanted(partitions),
        ..Default::default()
    }
}

async fn ask(wire: &mut Wire, id: i32, epoch: i32, partitions: &[(i32, i64)]) -> FetchResponse {
    wire.call(FETCH, &request(id, epoch, partitions)).await
}

/// Partition and number of records of all partitions of an answer.
fn told(answer: &FetchResponse) -> Vec<(i32, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| (data.partition_index, contents(&data.records).len()))
        .collect()
}

async fn broker_with_topic(slots_max: usize) -> (TestBroker, Wire) {
    let broker = TestBroker::start_with(|config| config.fetch_session_slots_max = slots_max).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 3, &[]).await;
    (broker, wire)
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let (_broker, mut wire) = broker_with_topic(10).await;
    let first = ask(&mut wire, 0, 0, &[(0, 0), (1, 0), (2, 0)]).await;
    assert_eq!(
        (first.error_code, told(&first).len()),
        (0, 3),
        "a full fetch tells all"
    );
    let id = first.session_id;
    assert_ne!(id, 0);
    let second = ask(&mut wire, id, 1, &[]).await;
    assert_eq!((second.error_code, second.session_id), (0, id));
    assert_eq!(told(&second), []);
    wire.must_produce("t", 1, &batch(&["a", "b"])).await;
    let third = ask(&mut wire, id, 2, &[]).await;
    assert_eq!(told(&third), [(1, 2)]);
    // The consumer goes on; only the partition that moved is named.
    let fourth = ask(&mut wire, id, 3, &[(1, 2)]).await;
    assert_eq!(told(&fourth), []);
    wire.must_produce("t", 0, &batch(&["c"])).await;
    wire.must_produce("t", 1, &batch(&["d"])).await;
    let mut fifth = told(&ask(&mut wire, id, 4, &[]).await);
    fifth.sort_unstable();
    assert_eq!(fifth, [(0, 1), (1, 1)]);
}

#[tokio::test]
async fn forgotten_partitions_are_not_told_any_more() {
    let (_broker, mut wire) = broker_with_topic(10).await;
    let id = ask(&mut wire, 0, 0, &[(0, 0), (1, 0)]).await.session_id;
    let mut forget = request(id, 1, &[]);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: "t".into(),
        partitions: vec![0],
        ..Default::default()
    }];
    assert_eq!(wire.call(FETCH, &forget).await.error_code, 0);
    wire.must_produce("t", 0, &batch(&["a"])).await;
    wire.must_produce("t", 1, &batch(&["b"])).await;
    assert_eq!(told(&ask(&mut wire, id, 2, &[]).await), [(1, 1)]);
}

#[tokio::test]
async fn wrong_ids_and_epochs_are_errors_of_the_session() {
    let (_broker, mut wire) = broker_with_topic(10).await;
    let id = ask(&mut wire, 0, 0, &[(0, 0)]).await.session_id;
    let unknown = ask(&mut wire, id ^ 1, 1, &[]).await;
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound.code());
    let ahead = ask(&mut wire, id, 2, &[]).await;
    assert_eq!(ahead.error_code, ErrorCode::InvalidFetchSessionEpoch.code());
    assert!(ahead.responses.is_empty());
    // An error does not move the session on.
    assert_eq!(ask(&mut wire, id, 1, &[]).await.error_code, 0);
    let repeated = ask(&mut wire, id, 1, &[]).await;
    assert_eq!(
        repeated.error_code,
        ErrorCode::InvalidFetchSessionEpoch.code()
    );
    // The session belongs to nobody's connection: a consumer that dials again goes on with it.
    // The final epoch ends it.
    let last = ask(&mut wire, id, -1, &[(0, 0)]).await;
    assert_eq!((last.error_code, last.session_id), (0, 0));
    let gone = ask(&mut wire, id, 2, &[]).await;
    assert_eq!(gone.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[tokio::test]
async fn sessions_are_bounded_and_who_gets_none_is_served_in_full() {
    let (broker, mut wire) = broker_with_topic(2).await;
    wire.must_produce("t", 0, &batch(&["a"])).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let mut consumer = broker.wire().await;
        let answer = ask(&mut consumer, 0, 0, &[(0, 0)]).await;
        assert_eq!((answer.error_code, told(&answer)), (0, vec![(0, 1)]));
        ids.push(answer.session_id);
    }
    assert!(ids[0] != 0 && ids[1] != 0, "{ids:?}");
    assert_eq!(ids[2..], [0, 0, 0]);
    let (_, metrics) = tidemill_tests::get(broker.addresses().admin, "/metrics").await;
    assert!(
        metrics.contains("\ntidemill_fetch_sessions 2\n"),
        "{metrics}"
    );
}

/// From version 13 on topics are named by id, and a session keeps to one way of naming.
#[tokio::test]
async fn a_session_by_id_ends_with_its_topic() {
    let (_broker, mut wire) = broker_with_topic(10).await;
    let topic_id = wire.metadata(&["t"], false).await.topics[0].topic_id;
    let by_id = |id: i32, epoch: i32, offset: i64| {
        let mut request = request(id, epoch, &[(0, offset)]);
        request.topics[0].topic = Default::default();
        request.topics[0].topic_id = topic_id;
        request
    };
    for version in 13..=18 {
        let mut full = by_id(0, 0, 0);
        if version >= 15 {
            full.replica_id = FetchRequest::default().replica_id;
        }
        let answer = wire.call(version, &full).await;
        assert_eq!(answer.error_code, 0, "version {version}");
        assert_eq!(answer.responses[0].topic_id, topic_id);
        assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    }
    let id = wire.call(13, &by_id(0, 0, 0)).await.session_id;
    let by_name = ask(&mut wire, id, 1, &[(1, 0)]).await;
    assert_eq!(
        by_name.error_code,
        ErrorCode::FetchSessionTopicIdError.code()
    );
    // The id of a deleted topic is nobody's, not even when the name is taken again.
    assert_eq!(wire.delete("t").await, 0);
    wire.must_create("t", 3, &[]).await;
    let answer = wire.call(13, &by_id(0, -1, 0)).await;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicId.code());
}
