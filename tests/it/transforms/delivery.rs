//! Records flow from the source to the sinks, and what an author changes is changed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidemill_records::{Compression, Headers, RecordBatchBuilder};
use tidemill_tests::{FullDisk, TestBroker, until};

use super::{DELAYS, HOSTILE, IDENTITY, Rig, batch, headers, text, with};

fn flight(delay: i64, dest: &str) -> String {
    json!({ "dep_delay": delay, "dest": dest }).to_string()
}

#[tokio::test]
async fn an_sdk_function_filters_and_gives_keys_from_the_beginning_and_live() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 2, &[]).await;
    let (late, early) = (flight(61, "IAH"), flight(60, "MIA"));
    let first = batch(&[
        (
            1_000,
            Some("old"),
            Some(&late),
            &[("trace", Some("1")), ("null", None)],
        ),
        (2_000, None, Some(&early), &[]),
    ]);
    rig.wire.must_produce("in", 0, &first).await;
    let deployed = rig.deploy(DELAYS, "delays", json!({})).await;
    assert_eq!(
        deployed,
        json!({"name": "delays", "version": 1, "created_topics": ["out", "delays.dlq"]})
    );
    rig.caught_up("delays").await;
    let live = flight(100, "IAH");
    rig.wire
        .must_produce("in", 1, &batch(&[(3_000, None, Some(&live), &[])]))
        .await;
    rig.caught_up("delays").await;
    // Kafka's default partitioner puts both keys there.
    let mut found = rig.all("out", 0).await;
    found.extend(rig.all("out", 1).await);
    let seen: Vec<_> = found
        .iter()
        .map(|r| (r.timestamp, text(&r.key).unwrap(), text(&r.value).unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            (1_000, "IAH".to_owned(), late),
            (3_000, "IAH".to_owned(), live)
        ]
    );
    assert_eq!(
        headers(&found[0]).keys().collect::<Vec<_>>(),
        ["null", "trace"]
    );
    let status = rig.status("delays").await;
    assert_eq!(
        (
            &status["lag"],
            &status["records_in"],
            &status["records_out"]
        ),
        (&json!(0), &json!(3), &json!(2))
    );
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    for round in 0..3 {
        let values = [format!("a{round}"), format!("b{round}")];
        rig.produce(0, &[&values[0], &values[1]]).await;
        rig.caught_up("copy").await;
        rig.restart().await;
    }
    rig.produce(0, &["last"]).await;
    rig.caught_up("copy").await;
    assert_eq!(
        rig.values("out").await,
        ["a0", "b0", "a1", "b1", "a2", "b2", "last"]
    );
}

#[tokio::test]
async fn compiled_code_that_was_damaged_is_made_anew() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    let cache = rig.broker.data_dir().join("cache/functions");
    let code = std::fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let code = code
        .filter(|path| path.extension().is_some_and(|kind| kind == "cwasm"))
        .collect::<Vec<_>>();
    assert_eq!(code.len(), 1);
    rig.broker.stop().await;
    let mut bytes = std::fs::read(&code[0]).unwrap();
    let at = bytes.len() / 2;
    bytes[at..].fill(0xcc);
    std::fs::write(&code[0], bytes).unwrap();
    rig.broker.start_again().await;
    rig.wire = rig.broker.wire().await;
    rig.produce(0, &["through"]).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["through"]);
}

#[tokio::test]
async fn an_artifact_whose_records_are_damaged_is_stored_again_by_an_upload() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.caught_up("copy").await;
    let data_dir = rig.broker.data_dir().to_owned();
    rig.broker.stop().await;
    std::fs::remove_dir_all(data_dir.join("cache/functions")).unwrap();
    let log = data_dir.join("topics/_tidemill.functions-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    rig.broker.start_again().await;
    rig.wire = rig.broker.wire().await;
    rig.produce(0, &["through"]).await;
    let failing = rig.in_state("copy", "failing").await;
    let told = failing["last_error"].as_str().unwrap();
    assert!(told.contains("cannot be read"), "{told}");
    rig.upload(IDENTITY).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["through"]);
    // From the new place alone.
    rig.broker.stop().await;
    std::fs::remove_dir_all(data_dir.join("cache/functions")).unwrap();
    rig.broker.start_again().await;
    rig.wire = rig.broker.wire().await;
    rig.produce(0, &["again"]).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["through", "again"]);
}

#[tokio::test]
async fn batches_that_open_to_much_more_go_through() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    let value = "x".repeat(900_000);
    let large = |count: usize| {
        let mut builder = RecordBatchBuilder::new(Compression::Zstd);
        for _ in 0..count {
            builder.push(5, None, Some(value.as_bytes()), &Headers::default());
        }
        builder.build().expect("a batch")
    };
    rig.produce(0, &["before"]).await;
    rig.wire.must_produce("in", 0, &large(10)).await;
    rig.produce(0, &["between"]).await;
    // More than anybody opens.
    let bomb = large(80);
    rig.wire.must_produce("in", 0, &bomb).await;
    rig.produce(0, &["behind"]).await;
    let mut many = RecordBatchBuilder::new(Compression::Zstd);
    for _ in 0..100_000 {
        many.push(5, None, Some(b"m"), &Headers::default());
    }
    let many = many.build().expect("a batch");
    rig.wire.must_produce("in", 0, &many).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.caught_up("copy").await;
    let mut found = rig.values("out").await;
    found.retain(|value| value != "m");
    assert_eq!(rig.status("copy").await["records_out"], 100_013);
    let short: Vec<&str> = found
        .iter()
        .filter(|found| **found != value)
        .map(|found| &**found)
        .collect();
    assert_eq!(
        (short, found.len()),
        (vec!["before", "between", "behind"], 13)
    );
    let letters = rig.all("copy.dlq", 0).await;
    assert_eq!(headers(&letters[0])["tidemill.dlq.kind"], "batch");
    assert_eq!(letters.len(), 1);
}

#[tokio::test]
async fn a_transform_begins_at_the_end_or_at_a_time() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    for at in 1..=3 {
        rig.wire
            .must_produce(
                "in",
                0,
                &batch(&[(at * 1_000, None, Some(&format!("v{at}")), &[])]),
            )
            .await;
    }
    let id = rig.upload(IDENTITY).await;
    let wanted = json!({ "function": id, "source": "in" });
    for (name, from) in [
        ("ended", json!({})),
        ("timed", json!({ "from": "@2000" })),
        ("dated", json!({ "from": "@1970-01-01T00:00:03Z" })),
    ] {
        let wanted = with(
            with(
                wanted.clone(),
                json!({ "name": name, "sinks": [format!("{name}-out")] }),
            ),
            from,
        );
        rig.must_post("/v1/transforms", &wanted).await;
    }
    rig.produce(0, &["live"]).await;
    for (name, expected) in [
        ("ended", &["live"][..]),
        ("timed", &["v2", "v3", "live"]),
        ("dated", &["v3", "live"]),
    ] {
        rig.caught_up(name).await;
        assert_eq!(rig.values(&format!("{name}-out")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn several_sinks_are_written_by_name() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &[r#"{"to":"a"}"#, r#"{"to":"b"}"#, r#"{"to":"c"}"#])
        .await;
    let wanted = json!({
        "name": "route", "stock": "route", "source": "in", "sinks": ["ta", "tb"], "from": "start",
        "config": { "by": "/to", "to.a": "ta", "to.b": "tb", "default": "drop" },
    });
    rig.must_post("/v1/transforms", &wanted).await;
    rig.caught_up("route").await;
    assert_eq!(rig.values("ta").await, [r#"{"to":"a"}"#]);
    assert_eq!(rig.values("tb").await, [r#"{"to":"b"}"#]);
}

#[tokio::test]
async fn partitions_that_are_added_are_read_from_their_start() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.deploy(IDENTITY, "copy", json!({ "from": "end" })).await;
    let request = tidemill_protocol::create_partitions::CreatePartitionsRequest {
        topics: vec![
            tidemill_protocol::create_partitions::CreatePartitionsTopic {
                name: "in".into(),
                count: 3,
                assignments: None,
                ..Default::default()
            },
        ],
        timeout_ms: 10_000,
        ..Default::default()
    };
    let answer = rig.wire.call(2, &request).await;
    assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
    rig.produce(2, &["new"]).await;
    until("three tasks", async || {
        let tasks = rig.status("copy").await["tasks"].as_array().unwrap().len();
        (tasks == 3).then_some(())
    })
    .await;
    rig.caught_up("copy").await;
    assert_eq!(
        rig.values("out").await,
        ["new"],
        "one partition, as the source had"
    );
}

#[tokio::test]
async fn what_is_only_in_the_tier_is_read_too() {
    let store = tempfile::tempdir().unwrap();
    let mut rig = Rig::start_with(|config| {
        config.tier.url = Some(
            format!("file://{}", store.path().display())
                .parse()
                .unwrap(),
        );
        config.tier.upload_merge_wait = std::time::Duration::ZERO;
        config.tier.check_interval = std::time::Duration::from_millis(5);
    })
    .await;
    let tiered = [
        ("remote.storage.enable", "true"),
        ("segment.bytes", "400"),
        ("local.retention.bytes", "1"),
        ("retention.ms", "-1"),
    ];
    rig.wire.must_create("in", 1, &tiered).await;
    let values: Vec<String> = (0..40).map(|at| format!("value {at}")).collect();
    for value in &values {
        rig.produce(0, &[value]).await;
    }
    let wire = &mut rig.wire;
    until("the trim of this disk", async || {
        (wire.list_offset("in", 0, -4).await.offset >= 30).then_some(())
    })
    .await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, values);
}

/// The outputs, and the offsets behind them, need space as well: the task says so and goes on by itself.
#[tokio::test]
async fn a_full_disk_holds_a_transform_back_and_loses_nothing() {
    // The task gives up waiting for space, twice, before it tells.
    const TOLD_WITHIN: Duration = Duration::from_secs(180);
    let disk = FullDisk::new();
    let broker = TestBroker::start_on(Arc::new(disk.clone()), |_| {}).await;
    let wire = broker.wire().await;
    let mut rig = Rig { broker, wire };
    rig.wire.must_create("in", 1, &[]).await;
    // The record that traps holds up those behind it until the disk is full.
    let patient = json!({ "retries": 1, "backoff_ms": 5_000 });
    rig.deploy(HOSTILE, "t", patient).await;
    let filler = "x".repeat(1_000_000);
    let mut number = 0;
    let mut send = async |rig: &mut Rig| {
        number += 1;
        let value = format!("{number} {filler}");
        let batch = tidemill_tests::records::batch(&[&value]);
        rig.wire.produce("in", 0, &batch).await.error_code == 0
    };
    assert!(send(&mut rig).await);
    rig.caught_up("t").await;
    rig.produce(0, &["trap"]).await;
    assert!(send(&mut rig).await);
    disk.set_full(true);
    while send(&mut rig).await {}
    let told = async {
        while rig.status("t").await["state"] != "failing" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(TOLD_WITHIN, told).await;
    told.expect("it tells that it cannot go on");
    disk.set_full(false);
    until("space for a record", async || {
        send(&mut rig).await.then_some(())
    })
    .await;
    rig.in_state("t", "running").await;
    rig.caught_up("t").await;
    // What the broker refused may have been written all the same, and outputs may come again.
    let number = |value: &String| value.split(' ').next()?.parse::<usize>().ok();
    let taken = rig.values("in").await;
    let taken: Vec<usize> = taken.iter().filter_map(number).collect();
    let came = rig.values("out").await;
    let mut came: Vec<usize> = came.iter().filter_map(number).collect();
    came.sort_unstable();
    came.dedup();
    assert_eq!(came, taken);
    assert!(!rig.all("t.dlq", 0).await.is_empty());
}
