//! ListOffsets, OffsetForLeaderEpoch and reading at offsets.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use tidemill_protocol::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidemill_tests::records::{batch, contents, stamped};
use tidemill_tests::requests::{FETCH, fetch};
use tidemill_tests::{TestBroker, Wire};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

async fn list(
    wire: &mut Wire,
    version: i16,
    isolation_level: i8,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![ListOffsetsPartition {
                current_leader_epoch: -1,
                timestamp,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.call(version, &request).await.topics[0].partitions[0].clone()
}

/// Six records in three batches, out of order in time; the log starts at 1.
async fn filled() -> (TestBroker, Wire) {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("retention.ms", "-1")]).await;
    for records in [
        [(1000, "a"), (1010, "b")],
        [(1030, "c"), (1020, "d")],
        [(1015, "e"), (1005, "f")],
    ] {
        wire.must_produce("t", 0, &stamped(&records)).await;
    }
    (broker, wire)
}

#[tokio::test]
async fn a_timestamp_finds_the_first_record_that_is_not_older() {
    let (_broker, mut wire) = filled().await;
    let expected = [
        (0, 0, 1000),
        (1000, 0, 1000),
        (1001, 1, 1010),
        (1010, 1, 1010),
        (1011, 2, 1030),
        (1021, 2, 1030),
        (1030, 2, 1030),
        (1031, -1, -1),
    ];
    for version in 1..=11 {
        for isolation in if version >= 2 { 0..=1 } else { 0..=0 } {
            for (timestamp, offset, found) in expected {
                let answer = list(&mut wire, version, isolation, timestamp).await;
                let got = (answer.error_code, answer.offset, answer.timestamp);
                assert_eq!(got, (0, offset, found), "{timestamp} in version {version}");
            }
        }
    }
}

#[tokio::test]
async fn special_offsets_are_known_from_their_versions_on() {
    let (broker, mut wire) = filled().await;
    let trimmed = tidemill_records::TopicPartition::new("t", tidemill_records::PartitionId(0));
    broker
        .client()
        .delete_records(&trimmed, tidemill_records::Offset(1))
        .await
        .unwrap();
    // Offset, timestamp, the version that knows it first.
    let special = [
        (LATEST, 6, -1, 1),
        (EARLIEST, 1, -1, 1),
        (MAX_TIMESTAMP, 2, 1030, 7),
        (EARLIEST_LOCAL, 1, -1, 8),
        (LATEST_TIERED, -1, -1, 9),
        (EARLIEST_PENDING_UPLOAD, -1, -1, 11),
    ];
    for version in 1..=11 {
        for (question, offset, timestamp, since) in special {
            let answer = list(&mut wire, version, 0, question).await;
            if version < since {
                let unsupported = ErrorCode::UnsupportedVersion.code();
                assert_eq!(
                    answer.error_code, unsupported,
                    "{question} in version {version}"
                );
            } else {
                let got = (answer.error_code, answer.offset, answer.timestamp);
                assert_eq!(
                    got,
                    (0, offset, timestamp),
                    "{question} in version {version}"
                );
            }
        }
    }
}

#[tokio::test]
async fn unknown_partitions_and_epochs_are_told_apart() {
    let (_broker, mut wire) = filled().await;
    assert_eq!(
        wire.list_offset("t", 1, LATEST).await.error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    assert_eq!(
        wire.list_offset("none", 0, LATEST).await.error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[tokio::test]
async fn an_empty_log_has_ends_and_no_timestamps() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for (question, offset) in [(LATEST, 0), (EARLIEST, 0), (MAX_TIMESTAMP, -1), (5, -1)] {
        let answer = list(&mut wire, 11, 0, question).await;
        assert_eq!(
            (answer.error_code, answer.offset, answer.timestamp),
            (0, offset, -1)
        );
    }
}

#[tokio::test]
async fn a_fetch_in_the_middle_of_a_batch_gets_the_whole_batch() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["a", "b", "c", "d"]))
        .await;
    wire.must_produce("t", 0, &batch(&["e", "f"])).await;
    for version in 4..=FETCH {
        let mut request = fetch("t", 0, 2);
        request.session_epoch = -1;
        let answer = wire.call(version, &request).await;
        let found = contents(&answer.responses[0].partitions[0].records);
        let offsets: Vec<i64> = found.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4, 5], "version {version}");
    }
    // Also when the batch is all that may come, and larger than what was asked for.
    let mut request = fetch("t", 0, 3);
    request.max_bytes = 1;
    request.topics[0].partitions[0].partition_max_bytes = 1;
    let answer = wire.call(FETCH, &request).await;
    assert_eq!(
        contents(&answer.responses[0].partitions[0].records).len(),
        4
    );
}

#[tokio::test]
async fn reading_outside_of_the_log_is_an_error_and_at_its_end_is_not() {
    let (_broker, mut wire) = filled().await;
    let at_end = wire.fetch("t", 0, 6).await;
    assert_eq!((at_end.error_code, at_end.high_watermark), (0, 6));
    assert!(contents(&at_end.records).is_empty());
    for outside in [7, i64::MAX, -1, -2, i64::MIN] {
        let answer = wire.fetch("t", 0, outside).await;
        assert_eq!(
            answer.error_code,
            ErrorCode::OffsetOutOfRange.code(),
            "{outside}"
        );
    }
}

async fn epoch_end(wire: &mut Wire, version: i16, current: i32, epoch: i32) -> EpochEndOffset {
    let request = OffsetForLeaderEpochRequest {
        replica_id: -2,
        topics: vec![OffsetForLeaderTopic {
            topic: "t".into(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: current,
                leader_epoch: epoch,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut request = request;
    if version < 3 {
        request.replica_id = OffsetForLeaderEpochRequest::default().replica_id;
    }
    wire.call(version, &request).await.topics[0].partitions[0].clone()
}

#[tokio::test]
async fn the_end_of_an_epoch_is_where_the_next_began() {
    let (mut broker, mut wire) = filled().await;
    let current = wire.metadata(&["t"], false).await.topics[0].partitions[0].leader_epoch;
    for version in 2..=4 {
        let answer = epoch_end(&mut wire, version, current, current).await;
        assert_eq!(
            (answer.error_code, answer.leader_epoch, answer.end_offset),
            (0, current, 6)
        );
        let later = epoch_end(&mut wire, version, -1, current + 5).await;
        assert_eq!(
            (later.error_code, later.leader_epoch, later.end_offset),
            (0, -1, -1)
        );
        let fenced = epoch_end(&mut wire, version, current + 1, current).await;
        assert_eq!(fenced.error_code, ErrorCode::UnknownLeaderEpoch.code());
    }
    // Epochs survive, and never go down.
    broker.restart().await;
    let mut wire = broker.wire().await;
    let later = wire.metadata(&["t"], false).await.topics[0].partitions[0].leader_epoch;
    assert!(later >= current, "{later} after {current}");
    wire.must_produce("t", 0, &batch(&["g"])).await;
    let old = epoch_end(&mut wire, 4, -1, current).await;
    let end = if later == current { 7 } else { 6 };
    assert_eq!(
        (old.error_code, old.leader_epoch, old.end_offset),
        (0, current, end)
    );
}
