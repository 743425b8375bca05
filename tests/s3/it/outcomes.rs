//! Faults about whether an operation takes effect and what is said of it.

use std::time::{Duration, Instant};

use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{
    BUCKET, ask, eventually, get, put, start, start_with, start_with_fault, store,
};

#[tokio::test]
async fn status_means_that_nothing_happened() {
    for (status, code) in [
        (503, "SlowDown"),
        (500, "InternalError"),
        (409, "ConditionalRequestConflict"),
        (403, "RequestTimeTooSkewed"),
        (404, "NoSuchBucket"),
        (418, "Teapot"),
    ] {
        let fault = json!({"kind": "status", "status": status, "code": code});
        let double = start_with_fault("Put*", fault).await;
        let path = format!("/{BUCKET}/a");
        let answer = ask(double.s3_address(), "PUT", &path, &[], "a")
            .await
            .unwrap();
        assert_eq!(answer.status, status);
        assert!(
            answer.text().contains(&format!("<Code>{code}</Code>")),
            "{}",
            answer.text()
        );
        assert!(double.objects("").is_empty());
        let log = double.log();
        assert_eq!(
            (log[0].op.as_str(), log[0].key.as_str()),
            ("PutObject", "a")
        );
        assert_eq!(
            (log[0].status, log[0].fault),
            (Some(status), Some("status"))
        );
    }
}

#[tokio::test]
async fn a_large_put_reads_its_early_refusal() {
    let fault = json!({"kind": "status", "status": 503, "code": "SlowDown"});
    let double = start_with_fault("PutObject", fault).await;
    let refusal = store(&double)
        .put(&Path::from("a"), vec![7; 8 << 20].into())
        .await
        .unwrap_err();
    assert!(refusal.to_string().contains("SlowDown"), "{refusal}");
}

#[tokio::test]
async fn status_after_commit_hides_a_success() {
    let fault = json!({"kind": "status_after_commit", "status": 500, "code": "InternalError"});
    let double = start_with_fault("PutObject", fault).await;
    let path = format!("/{BUCKET}/a");
    let answer = ask(
        double.s3_address(),
        "PUT",
        &path,
        &[("if-none-match", "*")],
        "a",
    )
    .await;
    assert_eq!(answer.unwrap().status, 500);
    assert_eq!(double.objects("")[0].key, "a");
    // Whoever repeats it sees its own object in the way.
    double.set_faults(Default::default());
    let again = ask(
        double.s3_address(),
        "PUT",
        &path,
        &[("if-none-match", "*")],
        "a",
    )
    .await;
    assert_eq!(again.unwrap().status, 412);
}

#[tokio::test]
async fn timeout_after_commit_says_nothing() {
    let double = start_with_fault(
        "PutObject",
        json!({"kind": "timeout_after_commit", "hang_ms": 100}),
    )
    .await;
    let started = Instant::now();
    let path = format!("/{BUCKET}/a");
    assert!(
        ask(double.s3_address(), "PUT", &path, &[], "a")
            .await
            .is_none()
    );
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(double.objects("")[0].key, "a");
    assert_eq!(double.requests().by_op["PutObject"]["closed"], 1);
}

#[tokio::test]
async fn hang_does_nothing_and_says_nothing() {
    let double = start_with_fault("*", json!({"kind": "hang", "hang_ms": 100})).await;
    let started = Instant::now();
    let path = format!("/{BUCKET}/a");
    assert!(
        ask(double.s3_address(), "PUT", &path, &[], "a")
            .await
            .is_none()
    );
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(double.objects("").is_empty());
}

#[tokio::test]
async fn a_late_put_takes_effect_after_its_answer() {
    for (answer, status) in [
        (json!(null), None),
        (json!({"status": 500, "code": "InternalError"}), Some(500)),
    ] {
        let fault = json!({"kind": "late_put", "delay_ms": 500, "answer": answer});
        let double = start_with_fault("PutObject", fault).await;
        let path = format!("/{BUCKET}/a");
        let answer = ask(double.s3_address(), "PUT", &path, &[], "late").await;
        assert_eq!(answer.map(|answer| answer.status), status);
        assert!(double.objects("").is_empty());
        eventually(|| !double.objects("").is_empty()).await;
        assert_eq!(get(&double, "a", &[]).await.unwrap().text(), "late");
    }
}

#[tokio::test]
async fn a_late_put_overwrites_what_came_between() {
    let double = start_with(json!({"rules": [
        {"op": "PutObject", "times": 1, "fault": {"kind": "late_put", "delay_ms": 500}},
    ]}))
    .await;
    let path = format!("/{BUCKET}/a");
    assert!(
        ask(double.s3_address(), "PUT", &path, &[], "late")
            .await
            .is_none()
    );
    put(&double, "a", "between").await;
    eventually(|| double.objects("")[0].size == 4).await;
    assert_eq!(get(&double, "a", &[]).await.unwrap().text(), "late");
}

#[tokio::test]
async fn a_lost_put_looks_like_any_other() {
    let double = start_with_fault("PutObject", json!({"kind": "lost_put"})).await;
    put(&double, "a", "a").await;
    assert!(double.objects("").is_empty());
    assert_eq!(get(&double, "a", &[]).await.unwrap().status, 404);
}

#[tokio::test]
async fn rules_choose_by_key_and_number() {
    let double = start_with(json!({"rules": [{
        "op": "PutObject", "key": "claims/", "after": 1, "times": 1,
        "fault": {"kind": "status", "status": 503, "code": "SlowDown"},
    }]}))
    .await;
    let mut statuses = Vec::new();
    for key in ["claims/1", "data/1", "claims/2", "claims/3"] {
        let path = format!("/{BUCKET}/{key}");
        statuses.push(
            ask(double.s3_address(), "PUT", &path, &[], "")
                .await
                .unwrap()
                .status,
        );
    }
    assert_eq!(statuses, [200, 200, 503, 200]);
}

#[tokio::test]
async fn seeded_faults_repeat() {
    let faults = json!({"seeded": {"seed": 11, "probability": 0.5, "faults": [
        {"kind": "status", "status": 503, "code": "SlowDown"},
        {"kind": "lost_put"},
    ]}});
    let mut runs = Vec::new();
    for _ in 0..2 {
        let double = start_with(faults.clone()).await;
        for number in 0..40 {
            ask(
                double.s3_address(),
                "PUT",
                &format!("/{BUCKET}/{number}"),
                &[],
                "",
            )
            .await
            .unwrap();
        }
        runs.push(
            double
                .log()
                .iter()
                .map(|entry| entry.fault)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(runs[0], runs[1]);
    for expected in [None, Some("status"), Some("lost_put")] {
        assert!(runs[0].contains(&expected), "{expected:?}");
    }
}

#[tokio::test]
async fn a_put_takes_effect_although_its_client_is_gone() {
    let fault = json!({"kind": "non_atomic_conditional_put", "pause_ms": 100});
    let double = start_with_fault("PutObject", fault).await;
    let mut stream = TcpStream::connect(double.s3_address()).await.unwrap();
    let request = format!("PUT /{BUCKET}/a HTTP/1.1\r\nHost: double\r\nContent-Length: 1\r\n\r\na");
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    eventually(|| double.objects("").len() == 1).await;
}

#[tokio::test]
async fn down_closes_connections() {
    let double = start().await;
    double.set_down(true);
    assert!(get(&double, "a", &[]).await.is_none());
    double.set_down(false);
    assert_eq!(get(&double, "a", &[]).await.unwrap().status, 404);
}
