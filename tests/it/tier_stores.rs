//! Stores that do not do what a tier needs: each is told with its cause, and what is on this disk goes on being served.

use std::path::Path;

use serde_json::{Value, json};
use tidemill_protocol::ErrorCode;
use tidemill_test_s3::{Faults, S3Double, Settings};
use tidemill_tests::records::stamped;
use tidemill_tests::{ChildBroker, Wire, get, refused_start, until};

const BUCKET: &str = "bucket";
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "testtest"),
    ("AWS_REGION", "us-east-1"),
];

async fn store() -> S3Double {
    let settings = Settings {
        buckets: vec![BUCKET.to_owned()],
        ..Settings::default()
    };
    S3Double::start(settings).await.expect("the store starts")
}

fn faults(faults: Value) -> Faults {
    serde_json::from_value(faults).expect("faults")
}

/// Flags of a broker that uploads and trims at once.
fn flags(store: &S3Double, bucket: &str) -> Vec<String> {
    let endpoint = format!("http://{}", store.s3_address());
    let mut flags = vec!["--tier-url".to_owned(), format!("s3://{bucket}/prefix")];
    flags.extend(["--tier-endpoint".to_owned(), endpoint]);
    for setting in [
        "tier.upload.merge.wait.ms=0",
        "tier.check.interval.ms=5",
        "tier.delete.grace.ms=0",
    ] {
        flags.extend(["--set".to_owned(), setting.to_owned()]);
    }
    flags
}

fn start(dir: &Path, flags: &[String], more: &[&str]) -> ChildBroker {
    let flags: Vec<&str> = flags
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    ChildBroker::start(dir, &flags, &KEYS)
}

fn refused(dir: &Path, flags: &[String], keys: &[(&str, &str)]) -> String {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let refused = refused_start(dir, &flags, keys);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    refused.stderr
}

async fn create(wire: &mut Wire) {
    let configs = [
        ("remote.storage.enable", "true"),
        ("segment.bytes", "400"),
        ("local.retention.bytes", "1"),
        ("retention.ms", "-1"),
    ];
    wire.must_create("t", 1, &configs).await;
}

async fn produce(wire: &mut Wire, range: std::ops::Range<i64>) {
    for at in range {
        wire.must_produce("t", 0, &stamped(&[(at, &format!("value {at}"))]))
            .await;
    }
}

async fn trimmed_to(wire: &mut Wire, offset: i64) {
    until("trimming", async || {
        (wire.list_offset("t", 0, -4).await.offset >= offset).then_some(())
    })
    .await;
}

fn values(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|at| format!("value {at}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_carry_a_tier_is_refused_at_the_first_start() {
    let store = store().await;
    let dir = tempfile::tempdir().expect("a directory");
    let said = refused(dir.path(), &flags(&store, "absent"), &KEYS);
    assert!(
        said.contains("no such bucket") && said.contains("--create-bucket"),
        "{said}"
    );
    let wrong = [KEYS[0], ("AWS_SECRET_ACCESS_KEY", "wrong"), KEYS[2]];
    let said = refused(dir.path(), &flags(&store, BUCKET), &wrong);
    assert!(said.contains("credentials are wrong"), "{said}");
    store.set_faults(faults(json!({"rules": [
        {"op": "*", "fault": {"kind": "status", "status": 403, "code": "AccessDenied"}}
    ]})));
    let said = refused(dir.path(), &flags(&store, BUCKET), &KEYS);
    assert!(
        said.contains("do not allow it") && said.contains("tier verify"),
        "{said}"
    );
    store.set_faults(faults(json!({"rules": [
        {"op": "*", "fault": {"kind": "status", "status": 403, "code": "RequestTimeTooSkewed"}}
    ]})));
    let said = refused(dir.path(), &flags(&store, BUCKET), &KEYS);
    assert!(said.contains("clock is wrong"), "{said}");
    store.set_faults(faults(json!({"rules": [
        {"op": "PutObject", "fault": {"kind": "non_atomic_conditional_put", "pause_ms": 50}}
    ]})));
    let said = refused(dir.path(), &flags(&store, BUCKET), &KEYS);
    assert!(said.contains("--tier-sole-owner"), "{said}");
    start(dir.path(), &flags(&store, BUCKET), &["--tier-sole-owner"]).stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_is_served_while_the_store_is_away_and_the_rest_when_it_is_back() {
    let store = store().await;
    let dir = tempfile::tempdir().expect("a directory");
    let flags = flags(&store, BUCKET);
    let broker = start(dir.path(), &flags, &[]);
    let mut wire = broker.wire().await;
    create(&mut wire).await;
    produce(&mut wire, 0..30).await;
    trimmed_to(&mut wire, 20).await;
    store.set_down(true);
    drop(wire);
    broker.kill9();
    // The start does not wait for a store that it has claimed before.
    let broker = start(dir.path(), &flags, &[]);
    let mut wire = broker.wire().await;
    produce(&mut wire, 30..60).await;
    let local = wire.list_offset("t", 0, -4).await.offset;
    assert_eq!(
        wire.read_from("t", 0, local.max(30)).await.len() as i64,
        60 - local.max(30)
    );
    let away = wire.fetch("t", 0, 0).await;
    let refused = away.error_code == ErrorCode::KafkaStorageError.code();
    assert!(
        refused || away.records.is_none_or(|records| records.is_empty()),
        "{}",
        away.error_code
    );
    let (_, metrics) = get(broker.admin, "/metrics").await;
    assert!(metrics.contains("tidemill_tier_up 0"), "{metrics}");
    store.set_down(false);
    trimmed_to(&mut wire, 50).await;
    assert_eq!(wire.values("t", 0).await, values(0..60));
    until("a tier that is well", async || {
        let (_, metrics) = get(broker.admin, "/metrics").await;
        metrics.contains("tidemill_tier_up 1").then_some(())
    })
    .await;
    broker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_come_cut_or_changed_are_fetched_again() {
    let store = store().await;
    let dir = tempfile::tempdir().expect("a directory");
    let flags = flags(&store, BUCKET);
    let broker = start(dir.path(), &flags, &[]);
    let mut wire = broker.wire().await;
    create(&mut wire).await;
    produce(&mut wire, 0..40).await;
    trimmed_to(&mut wire, 30).await;
    drop(wire);
    broker.stop();
    for fault in [
        json!({"kind": "wrong_bytes"}),
        json!({"kind": "truncated_body"}),
        json!({"kind": "short_body"}),
        json!({"kind": "status", "status": 503, "code": "SlowDown"}),
    ] {
        let broker = start(dir.path(), &flags, &[]);
        let mut wire = broker.wire().await;
        store.set_faults(faults(json!({"rules": [
            {"op": "GetObject", "key": "prefix/", "times": 2, "fault": fault}
        ]})));
        let read = until("all records", async || {
            let found = wire.fetch("t", 0, 0).await;
            (found.error_code == 0 && found.records.is_some_and(|records| !records.is_empty()))
                .then_some(())
        });
        read.await;
        assert_eq!(wire.values("t", 0).await, values(0..40), "{fault}");
        store.set_faults(Faults::default());
        drop(wire);
        broker.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_never_share_a_tier_and_a_cluster_never_changes_or_loses_its_own() {
    let store = store().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flags = flags(&store, BUCKET);
    start(first.path(), &flags, &[]).stop();
    let said = refused(second.path(), &flags, &KEYS);
    assert!(said.contains("belongs to the cluster"), "{said}");
    let said = refused(first.path(), &[], &KEYS);
    assert!(said.contains("with the same --tier-url"), "{said}");
    let mut other = flags.clone();
    other[1] = format!("s3://{BUCKET}/elsewhere");
    let said = refused(first.path(), &other, &KEYS);
    assert!(said.contains("has no claim of this cluster"), "{said}");
    start(first.path(), &flags, &[]).stop();
}
