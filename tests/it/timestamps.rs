//! Whose clock stamps records, and what is told about it.

use tidemill_protocol::ErrorCode;
use tidemill_records::TimestampType;
use tidemill_records::{BatchRules, RecordBatch};
use tidemill_tests::TestBroker;
use tidemill_tests::records::{batch, now_ms, records, stamped};
use tidemill_tests::requests::{PRODUCE, bytes_of, produce};

const APPEND_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

#[tokio::test]
async fn append_time_stands_in_the_answer_and_in_the_records() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[APPEND_TIME]).await;
    let long_ago = 1_000_000;
    let before = now_ms();
    // Every version has a place for it.
    for version in 3..=PRODUCE {
        let sent = stamped(&[(long_ago, "a"), (long_ago + 5, "b")]);
        let answer = wire.call(version, &produce("t", 0, bytes_of(&sent))).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        let appended_at = partition.log_append_time_ms;
        assert!((before..=now_ms()).contains(&appended_at), "{appended_at}");
        let stored = wire
            .fetch("t", 0, partition.base_offset)
            .await
            .records
            .unwrap()
            .into_bytes();
        let (header, _) = RecordBatch::parse(&stored, BatchRules::Stored).unwrap();
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.max_timestamp(), appended_at);
        assert!(
            records(&stored)
                .iter()
                .all(|record| record.timestamp == appended_at)
        );
    }
}

#[tokio::test]
async fn create_time_is_the_producers_and_the_answer_says_so() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("retention.ms", "-1")]).await;
    let answer = wire
        .produce("t", 0, &stamped(&[(17, "a"), (18, "b")]))
        .await;
    assert_eq!((answer.error_code, answer.log_append_time_ms), (0, -1));
    let stored = wire.fetch("t", 0, 0).await.records.unwrap().into_bytes();
    let stamps: Vec<i64> = records(&stored)
        .iter()
        .map(|record| record.timestamp)
        .collect();
    assert_eq!(stamps, [17, 18]);
}

#[tokio::test]
async fn the_topic_can_change_its_mind() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    assert_eq!(
        wire.produce("t", 0, &batch(&["a"]))
            .await
            .log_append_time_ms,
        -1
    );
    assert_eq!(
        wire.set_config("t", APPEND_TIME.0, APPEND_TIME.1).await,
        (0, None)
    );
    assert!(
        wire.produce("t", 0, &batch(&["b"]))
            .await
            .log_append_time_ms
            > 0
    );
}

#[tokio::test]
async fn records_from_the_future_are_refused() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("message.timestamp.before.max.ms", "1000")])
        .await;
    let hour_ms = 3_600_000;
    for stamp in [now_ms() + 2 * hour_ms, now_ms() - hour_ms] {
        let answer = wire.produce("t", 0, &stamped(&[(stamp, "x")])).await;
        assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
        assert!(
            answer
                .error_message
                .is_some_and(|message| !message.is_empty())
        );
    }
    assert!(wire.values("t", 0).await.is_empty());
}
