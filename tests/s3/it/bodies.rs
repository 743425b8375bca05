//! Faults in what a GET delivers.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{get, put, start_with, start_with_fault};

const BODY: &str = "0123456789abcdefghij";

#[tokio::test]
async fn a_truncated_body_is_announced_whole() {
    for (keep, kept) in [
        (json!(null), 10),
        (json!(3), 3),
        (json!(99), 19),
        (json!(0), 0),
    ] {
        let fault = json!({"kind": "truncated_body", "keep_bytes": keep});
        let double = start_with_fault("GetObject", fault).await;
        put(&double, "a", BODY).await;
        let answer = get(&double, "a", &[]).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("content-length")),
            (200, "20")
        );
        assert_eq!(answer.text(), &BODY[..kept]);
        assert!(!answer.is_whole);
        assert_eq!(double.requests().bytes_out, kept as u64);
    }
}

#[tokio::test]
async fn a_large_truncated_body_arrives_in_part() {
    let fault = json!({"kind": "truncated_body", "keep_bytes": 3 << 20});
    let double = start_with_fault("GetObject", fault).await;
    put(&double, "a", vec![7; 4 << 20]).await;
    let answer = get(&double, "a", &[]).await.unwrap();
    assert!(!answer.is_whole && !answer.body.is_empty());
    assert!(answer.body.len() <= 3 << 20);
}

#[tokio::test]
async fn wrong_bytes_differ_in_one_bit() {
    let double = start_with_fault("GetObject", json!({"kind": "wrong_bytes", "seed": 5})).await;
    put(&double, "a", BODY).await;
    let wrong = get(&double, "a", &[]).await.unwrap();
    assert!(wrong.is_whole);
    let bits: u32 = wrong
        .body
        .iter()
        .zip(BODY.as_bytes())
        .map(|(wrong, right)| (wrong ^ right).count_ones())
        .sum();
    assert_eq!((wrong.body.len(), bits), (BODY.len(), 1));
    assert_eq!(get(&double, "a", &[]).await.unwrap().body, wrong.body);
}

#[tokio::test]
async fn a_short_body_is_consistent() {
    let fault = json!({"kind": "short_body", "missing_bytes": 4});
    let double = start_with_fault("GetObject", fault).await;
    put(&double, "a", BODY).await;
    for (range, body, content_range) in [
        ("bytes=0-", "0123456789abcdef", "bytes 0-15/20"),
        ("bytes=2-9", "2345", "bytes 2-5/20"),
        ("bytes=2-4", "2", "bytes 2-2/20"),
    ] {
        let answer = get(&double, "a", &[("range", range)]).await.unwrap();
        assert_eq!(
            (answer.status, answer.text(), answer.is_whole),
            (206, body, true)
        );
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), body.len().to_string());
    }
    assert_eq!(get(&double, "a", &[]).await.unwrap().status, 206);
}

#[tokio::test]
async fn a_slow_body_takes_its_time() {
    let fault = json!({"kind": "slow", "first_byte_ms": 50, "bytes_per_s": 100});
    let double = start_with_fault("GetObject", fault).await;
    put(&double, "a", BODY).await;
    let started = Instant::now();
    let answer = get(&double, "a", &[]).await.unwrap();
    // 50 ms, and 20 bytes at 100 a second.
    assert!(
        started.elapsed() >= Duration::from_millis(250),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(
        (answer.text(), answer.header("content-length")),
        (BODY, "20")
    );
}

#[tokio::test]
async fn an_answer_without_a_body_is_not_struck() {
    let double = start_with(json!({"rules": [
        {"op": "*", "fault": {"kind": "wrong_bytes"}},
    ]}))
    .await;
    let missing = get(&double, "a", &[]).await.unwrap();
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("<Code>NoSuchKey</Code>"));
    assert_eq!(double.log()[0].fault, None);
}
