//! Records that go: by time, by size, by request; and the segments that they are in.

use std::path::Path;
use std::time::Duration;

use tidemill_protocol::ErrorCode;
use tidemill_protocol::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidemill_tests::records::{batch, keyed, now_ms, stamped};
use tidemill_tests::{TestBroker, Wire, until};

const HOUR_MS: i64 = 3_600_000;

async fn eager() -> (TestBroker, Wire) {
    let broker = TestBroker::start_with(|config| {
        config.log_retention_check_interval = Duration::from_millis(10);
    })
    .await;
    let wire = broker.wire().await;
    (broker, wire)
}

/// Waits until the log starts at or behind an offset, and says where.
async fn start_reaches(wire: &mut Wire, offset: i64) -> i64 {
    let mut found = 0;
    for _ in 0..2_000 {
        found = wire.list_offset("t", 0, -2).await.offset;
        if found >= offset {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the log still starts at {found}");
}

fn segments(data_dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(data_dir.join("topics/t-0")).expect("the partition's directory");
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut logs: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
    logs.sort();
    logs
}

#[tokio::test]
async fn old_records_go_and_young_ones_stay() {
    let (_broker, mut wire) = eager().await;
    wire.must_create("t", 1, &[("retention.ms", "-1"), ("segment.bytes", "100")])
        .await;
    for at in 0..4 {
        wire.must_produce(
            "t",
            0,
            &stamped(&[(now_ms() - 2 * HOUR_MS, &format!("old {at}"))]),
        )
        .await;
    }
    wire.must_produce("t", 0, &stamped(&[(now_ms(), "young")]))
        .await;
    assert_eq!(wire.list_offset("t", 0, -2).await.offset, 0, "-1 keeps all");
    assert_eq!(
        wire.set_config("t", "retention.ms", &HOUR_MS.to_string())
            .await
            .0,
        0
    );
    assert_eq!(start_reaches(&mut wire, 4).await, 4);
    assert_eq!(wire.values("t", 0).await, ["young"]);
    let below = wire.fetch("t", 0, 3).await;
    assert_eq!(below.error_code, ErrorCode::OffsetOutOfRange.code());
}

#[tokio::test]
async fn a_log_that_is_old_as_a_whole_goes_as_a_whole_and_keeps_its_end() {
    let (mut broker, mut wire) = eager().await;
    wire.must_create("t", 1, &[("retention.ms", "1000")]).await;
    for _ in 0..3 {
        wire.must_produce("t", 0, &stamped(&[(now_ms() - HOUR_MS, "old")]))
            .await;
    }
    assert_eq!(start_reaches(&mut wire, 3).await, 3);
    assert_eq!(
        wire.must_produce("t", 0, &stamped(&[(now_ms() + HOUR_MS / 2, "next")]))
            .await,
        3
    );
    broker.restart().await;
    let mut wire = broker.wire().await;
    assert_eq!(wire.read_from("t", 0, 3).await, [(3, "next".to_owned())]);
}

#[tokio::test]
async fn what_is_over_the_size_goes_oldest_first() {
    let (broker, mut wire) = eager().await;
    let configs = [
        ("segment.bytes", "2000"),
        ("retention.bytes", "6000"),
        ("retention.ms", "-1"),
    ];
    wire.must_create("t", 1, &configs).await;
    let value = "x".repeat(900);
    for _ in 0..40 {
        wire.must_produce("t", 0, &batch(&[&value])).await;
    }
    let start = start_reaches(&mut wire, 30).await;
    let kept = wire.values("t", 0).await;
    assert_eq!(kept.len() as i64, 40 - start);
    assert!(
        kept.len() * 900 >= 6000 - 2000,
        "{} records are too few",
        kept.len()
    );
    until("the files are gone", async || {
        (segments(broker.data_dir()).len() <= 6).then_some(())
    })
    .await;
}

#[tokio::test]
async fn segments_roll_by_size_and_reading_does_not_notice() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("segment.bytes", "1000"), ("retention.ms", "-1")])
        .await;
    let mut expected = Vec::new();
    for at in 0..30 {
        let value = format!("{at:0300}");
        wire.must_produce("t", 0, &batch(&[&value])).await;
        expected.push(value);
    }
    assert_eq!(wire.values("t", 0).await, expected);
    broker.restart().await;
    let logs = segments(broker.data_dir());
    assert!(logs.len() >= 10, "{logs:?}");
    assert_eq!(logs[0], "00000000000000000000.log");
    for log in &logs {
        let bytes = std::fs::metadata(broker.data_dir().join("topics/t-0").join(log))
            .unwrap()
            .len();
        assert!(bytes <= 1000, "{log} has {bytes} bytes");
    }
    // From files now, and from the middle of each.
    let mut wire = broker.wire().await;
    assert_eq!(wire.values("t", 0).await, expected);
    for from in 0..30 {
        let found = wire.read_from("t", 0, from).await;
        assert_eq!(found.len() as i64, 30 - from);
        assert_eq!(found[0], (from, expected[from as usize].clone()));
    }
}

/// A topic that is only compacted keeps its records whatever their age; nothing is compacted yet.
#[tokio::test]
async fn compacted_topics_are_not_subject_to_retention() {
    let (_broker, mut wire) = eager().await;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("retention.ms", "1000"),
        ("segment.bytes", "100"),
    ];
    wire.must_create("t", 1, &compacted).await;
    wire.must_create("u", 1, &[("retention.ms", "1000")]).await;
    let old = keyed(now_ms() - HOUR_MS, "key", "old");
    for topic in ["t", "u"] {
        wire.must_produce(topic, 0, &old).await;
        wire.must_produce(topic, 0, &old).await;
    }
    // When the other topic's records are gone, retention has been at work on both twice.
    for passes in 0..2 {
        until("retention", async || {
            (wire.list_offset("u", 0, -2).await.offset == 2 + passes).then_some(())
        })
        .await;
        wire.must_produce("u", 0, &old).await;
    }
    assert_eq!(wire.values("t", 0).await, ["old", "old"]);
}

async fn delete_before(wire: &mut Wire, partition: i32, offset: i64) -> (i16, i64) {
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".into(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: partition,
                offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = wire
        .call(2, &request)
        .await
        .topics
        .remove(0)
        .partitions
        .remove(0);
    (answer.error_code, answer.low_watermark)
}

#[tokio::test]
async fn records_are_deleted_on_request_and_stay_deleted() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for value in ["a", "b", "c", "d"] {
        wire.must_produce("t", 0, &batch(&[value, value])).await;
    }
    assert_eq!(
        delete_before(&mut wire, 0, 3).await,
        (0, 3),
        "also in the middle of a batch"
    );
    assert_eq!(wire.list_offset("t", 0, -2).await.offset, 3);
    assert_eq!(
        wire.fetch("t", 0, 2).await.error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
    assert_eq!(wire.read_from("t", 0, 3).await.len(), 5);
    assert_eq!(delete_before(&mut wire, 0, 1).await, (0, 3), "never back");
    let out_of_range = (ErrorCode::OffsetOutOfRange.code(), -1);
    for wrong in [9, i64::MAX, -2] {
        assert_eq!(
            delete_before(&mut wire, 0, wrong).await,
            out_of_range,
            "{wrong}"
        );
    }
    let unknown = (ErrorCode::UnknownTopicOrPartition.code(), -1);
    assert_eq!(delete_before(&mut wire, 1, 0).await, unknown);
    broker.restart().await;
    let mut wire = broker.wire().await;
    assert_eq!(wire.list_offset("t", 0, -2).await.offset, 3);
    assert_eq!(
        delete_before(&mut wire, 0, -1).await,
        (0, 8),
        "-1 is the end"
    );
    assert!(wire.values("t", 0).await.is_empty());
    assert_eq!(wire.must_produce("t", 0, &batch(&["e"])).await, 8);
}
