//! The object tier: what goes there comes back as it was, and what is not wanted there any more goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tidemill::config::BrokerConfig;
use tidemill_protocol::ErrorCode;
use tidemill_protocol::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidemill_tests::records::stamped;
use tidemill_tests::{TestBroker, Wire, get, until};

/// Topics whose segments have a few records, of which no sealed one stays here.
const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("segment.bytes", "400"),
    ("local.retention.bytes", "1"),
    ("retention.ms", "-1"),
];

const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

struct Tiered {
    broker: TestBroker,
    wire: Wire,
    store: tempfile::TempDir,
}

fn eager(config: &mut BrokerConfig, store: &Path) {
    config.tier.url = Some(
        format!("file://{}", store.display())
            .parse()
            .expect("a tier"),
    );
    config.tier.upload_merge_wait = Duration::ZERO;
    config.tier.check_interval = Duration::from_millis(5);
    config.tier.delete_grace = Duration::ZERO;
    config.log_retention_check_interval = Duration::from_millis(10);
}

impl Tiered {
    async fn start() -> Self {
        let store = tempfile::tempdir().expect("a directory");
        let broker = TestBroker::start_with(|config| eager(config, store.path())).await;
        let wire = broker.wire().await;
        Self {
            broker,
            wire,
            store,
        }
    }

    /// Writes records one by one, at times one second apart.
    async fn produce(&mut self, range: std::ops::Range<i64>) {
        for at in range {
            self.wire
                .must_produce("t", 0, &stamped(&[(at * 1_000, &format!("value {at}"))]))
                .await;
        }
    }

    /// Waits until this disk's part of the log begins at or after an offset.
    async fn trimmed_to(&mut self, offset: i64) {
        let wire = &mut self.wire;
        until("trimming", async || {
            (wire.list_offset("t", 0, EARLIEST_LOCAL).await.offset >= offset).then_some(())
        })
        .await;
    }

    async fn objects(&self) -> Vec<(String, String)> {
        let (status, body) = get(self.broker.addresses().admin, "/v1/tier/objects").await;
        assert_eq!(status, 200, "{body}");
        let objects: Vec<Value> = serde_json::from_str(&body).expect("a list");
        let text = |object: &Value, field: &str| object[field].as_str().expect(field).to_owned();
        objects
            .iter()
            .map(|object| (text(object, "key"), text(object, "state")))
            .collect()
    }

    /// Files of data and pages, claims left out.
    fn files(&self) -> BTreeSet<String> {
        let root = self.store.path();
        let mut open = vec![root.to_owned()];
        let mut found = BTreeSet::new();
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).expect("a directory") {
                let path: PathBuf = entry.expect("an entry").path();
                match path.is_dir() {
                    true => open.push(path),
                    false => {
                        let key = path
                            .strip_prefix(root)
                            .expect("below it")
                            .display()
                            .to_string();
                        found.insert(key);
                    }
                }
            }
        }
        found.retain(|key| !key.starts_with("claims/"));
        found
    }

    async fn delete_records_before(&mut self, offset: i64) -> i64 {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: "t".into(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: 0,
                    offset,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            timeout_ms: 10_000,
            ..Default::default()
        };
        let response = self.wire.call(2, &request).await;
        let partition = &response.topics[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.low_watermark
    }
}

fn name_of(key: &str) -> String {
    key.rsplit('/').next().expect("a name").to_owned()
}

fn values(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|at| format!("value {at}")).collect()
}

#[tokio::test]
async fn trimmed_records_are_read_from_the_tier_after_a_restart_too() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    tiered.produce(0..50).await;
    tiered.trimmed_to(40).await;
    assert_eq!(tiered.wire.values("t", 0).await, values(0..50));
    tiered.broker.restart_with(|_| {}).await;
    tiered.wire = tiered.broker.wire().await;
    assert_eq!(tiered.wire.values("t", 0).await, values(0..50));
    for from in [0, 1, 17, 39, 49] {
        let read = tiered.wire.read_from("t", 0, from).await;
        let first = read.first().map(|(offset, _)| *offset);
        assert_eq!(first, Some(from), "a read may begin anywhere");
    }
    tiered.produce(50..60).await;
    tiered.trimmed_to(52).await;
    assert_eq!(tiered.wire.values("t", 0).await, values(0..60));
}

#[tokio::test]
async fn offsets_are_found_in_the_tier_by_time_and_by_name() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    let nothing = tiered.wire.list_offset("t", 0, LATEST_TIERED).await;
    assert_eq!(nothing.offset, -1);
    tiered.produce(0..50).await;
    tiered.trimmed_to(40).await;
    let wire = &mut tiered.wire;
    assert_eq!(wire.list_offset("t", 0, EARLIEST).await.offset, 0);
    for at in [0, 1, 13, 38, 47] {
        // Just below zero lie the special offsets.
        let time = (at * 1_000 - 1).max(0);
        let found = wire.list_offset("t", 0, time).await;
        assert_eq!((found.offset, found.timestamp), (at, at * 1_000));
    }
    assert_eq!(wire.list_offset("t", 0, 50_000).await.offset, -1);
    let latest = wire.list_offset("t", 0, MAX_TIMESTAMP).await;
    assert_eq!((latest.offset, latest.timestamp), (49, 49_000));
    let tiered_to = wire.list_offset("t", 0, LATEST_TIERED).await.offset;
    let pending = wire
        .list_offset("t", 0, EARLIEST_PENDING_UPLOAD)
        .await
        .offset;
    assert_eq!(tiered_to + 1, pending);
    assert!((40..=50).contains(&pending), "{pending}");
}

#[tokio::test]
async fn the_newest_time_is_found_where_it_is() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    // The largest timestamp comes early, twice: the first counts.
    for at in 0..40 {
        let time = if at == 5 || at == 7 {
            99_000
        } else {
            at * 1_000
        };
        tiered
            .wire
            .must_produce("t", 0, &stamped(&[(time, "x")]))
            .await;
    }
    tiered.trimmed_to(30).await;
    let latest = tiered.wire.list_offset("t", 0, MAX_TIMESTAMP).await;
    assert_eq!((latest.offset, latest.timestamp), (5, 99_000));
}

#[tokio::test]
async fn deleted_records_and_topics_leave_the_tier() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    tiered.produce(0..50).await;
    tiered.trimmed_to(40).await;
    let before = tiered.files();
    assert_eq!(tiered.delete_records_before(25).await, 25);
    assert_eq!(tiered.wire.list_offset("t", 0, EARLIEST).await.offset, 25);
    let below = tiered.wire.fetch("t", 0, 24).await;
    assert_eq!(below.error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!(tiered.wire.read_from("t", 0, 25).await.len(), 25);
    until("the deletion of objects", async || {
        (tiered.files().len() < before.len()).then_some(())
    })
    .await;
    tiered.broker.restart_with(|_| {}).await;
    tiered.wire = tiered.broker.wire().await;
    assert_eq!(tiered.wire.list_offset("t", 0, EARLIEST).await.offset, 25);
    assert_eq!(tiered.wire.delete("t").await, 0);
    until("the deletion of all objects", async || {
        (tiered.files().is_empty() && tiered.objects().await.is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_deleted_leaves_a_page_that_has_other_records_too() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    for at in (0..200).step_by(5) {
        tiered.produce(at..at + 5).await;
        tiered.trimmed_to(at).await;
    }
    let data = |files: &BTreeSet<String>| files.iter().filter(|key| key.ends_with(".obj")).count();
    let before = data(&tiered.files());
    // As a broker that is killed while it writes an object leaves it.
    let files = tiered.files();
    let oldest = files.iter().find(|key| key.ends_with(".obj"));
    let oldest = tiered.store.path().join(oldest.expect("the first upload"));
    let mut staged = oldest.clone().into_os_string();
    staged.push("#1");
    std::fs::write(&staged, "half of it").expect("a file");
    assert_eq!(tiered.delete_records_before(100).await, 100);
    until("the deletion of objects", async || {
        let known: BTreeSet<String> = tiered
            .objects()
            .await
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        let files = tiered.files();
        (data(&files) <= before / 2 + 8 && files == known).then_some(())
    })
    .await;
    assert!(!oldest.exists() && !Path::new(&staged).exists());
    tiered.broker.restart_with(|_| {}).await;
    tiered.wire = tiered.broker.wire().await;
    assert_eq!(tiered.wire.list_offset("t", 0, EARLIEST).await.offset, 100);
    assert_eq!(tiered.wire.read_from("t", 0, 100).await.len(), 100);
}

#[tokio::test]
async fn a_log_that_begins_inside_a_batch_is_uploaded_from_there() {
    let mut tiered = Tiered::start().await;
    let all: Vec<_> = (0..10)
        .map(|at| (at * 1_000, "many in one batch"))
        .collect();
    tiered
        .wire
        .must_create("t", 1, &[("retention.ms", "-1")])
        .await;
    tiered.wire.must_produce("t", 0, &stamped(&all)).await;
    assert_eq!(tiered.delete_records_before(4).await, 4);
    for (name, value) in TIERED {
        assert_eq!(tiered.wire.set_config("t", name, value).await.0, 0);
    }
    tiered.produce(10..40).await;
    tiered.trimmed_to(30).await;
    tiered.broker.restart_with(|_| {}).await;
    tiered.wire = tiered.broker.wire().await;
    let below = tiered.wire.fetch("t", 0, 3).await;
    assert_eq!(below.error_code, ErrorCode::OffsetOutOfRange.code());
    // The whole batch comes, as from a local log; the client drops what is below.
    let read = tiered.wire.read_from("t", 0, 4).await;
    let offsets: Vec<i64> = read
        .iter()
        .map(|(offset, _)| *offset)
        .filter(|at| *at >= 4)
        .collect();
    assert_eq!(offsets, (4..40).collect::<Vec<i64>>());
    let found = tiered.wire.list_offset("t", 0, 5_000).await;
    assert_eq!(found.offset, 5);
    let before_the_start = tiered.wire.list_offset("t", 0, 0).await;
    assert_eq!(before_the_start.offset, 4, "never a record below the start");
}

#[tokio::test]
async fn retention_takes_the_oldest_from_the_tier() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    tiered.produce(0..50).await;
    tiered.trimmed_to(40).await;
    let bytes = 1_500;
    let set = tiered
        .wire
        .set_config("t", "retention.bytes", &bytes.to_string())
        .await;
    assert_eq!(set.0, 0, "{set:?}");
    let wire = &mut tiered.wire;
    let start = until("retention", async || {
        let start = wire.list_offset("t", 0, EARLIEST).await.offset;
        (start > 0).then_some(start)
    })
    .await;
    assert!(start < 45, "only what is too much: {start}");
    assert_eq!(wire.read_from("t", 0, start).await.len() as i64, 50 - start);
    // These records are from 1970.
    assert_eq!(wire.set_config("t", "retention.ms", "1000").await.0, 0);
    until("retention by time", async || {
        (wire.list_offset("t", 0, EARLIEST).await.offset >= 40).then_some(())
    })
    .await;
}

#[tokio::test]
async fn every_object_in_the_store_is_known_and_every_known_one_is_there() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    // One object per segment of a few records: so many that pages are written.
    for at in (0..200).step_by(5) {
        tiered.produce(at..at + 5).await;
        tiered.trimmed_to(at).await;
    }
    tiered.trimmed_to(190).await;
    let (_, metrics) = get(tiered.broker.addresses().admin, "/metrics").await;
    let pages = metrics
        .lines()
        .find(|line| line.starts_with("tidemill_tier_topic_pages{"));
    assert!(pages.is_some_and(|line| !line.ends_with(" 0")), "{pages:?}");
    until("a settled tier", async || {
        let objects = tiered.objects().await;
        let known: BTreeSet<String> = objects.iter().map(|(key, _)| key.clone()).collect();
        (objects.iter().all(|(_, state)| state == "live") && known == tiered.files()).then_some(())
    })
    .await;
    tiered.broker.restart_with(|_| {}).await;
    tiered.wire = tiered.broker.wire().await;
    assert_eq!(tiered.wire.values("t", 0).await, values(0..200));
    let found = tiered.wire.list_offset("t", 0, 3_000).await;
    assert_eq!(found.offset, 3, "by time out of a page");
}

#[tokio::test]
async fn nothing_is_referred_to_or_trimmed_before_it_is_in_the_store() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    tiered.produce(0..20).await;
    tiered.trimmed_to(10).await;
    // Where the directory of the data was there is a file.
    let files = tiered.files();
    let object = files.iter().find(|key| key.ends_with(".obj"));
    let object = tiered.store.path().join(object.expect("an upload"));
    let data = object.parent().expect("a directory").to_owned();
    let aside = data.with_extension("aside");
    std::fs::rename(&data, &aside).expect("a directory");
    std::fs::write(&data, "in the way").expect("a file");
    tiered.produce(20..70).await;
    until("attempts to upload", async || {
        let (_, metrics) = get(tiered.broker.addresses().admin, "/metrics").await;
        let failures = metrics
            .lines()
            .find_map(|line| line.strip_prefix("tidemill_tier_failures_total "));
        let failures: f64 = failures
            .expect("they are counted")
            .parse()
            .expect("a number");
        (failures >= 3.0).then_some(())
    })
    .await;
    let there: BTreeSet<String> = tiered.files().iter().map(|key| name_of(key)).collect();
    for (key, state) in tiered.objects().await {
        let is_there = there.contains(&name_of(&key));
        assert!(
            state != "live" || is_there,
            "referred to, and not there: {key}"
        );
    }
    let here = tiered.wire.list_offset("t", 0, EARLIEST_LOCAL).await.offset;
    let end = 1 + tiered.wire.list_offset("t", 0, LATEST_TIERED).await.offset;
    assert!(here <= end, "trimmed to {here}, uploaded to {end}");
    assert_eq!(
        tiered.wire.read_from("t", 0, here).await.len() as i64,
        70 - here
    );
    std::fs::remove_file(&data).expect("the file");
    std::fs::rename(&aside, &data).expect("a directory");
    tiered.trimmed_to(60).await;
    assert_eq!(tiered.wire.values("t", 0).await, values(0..70));
}

#[tokio::test]
async fn a_damaged_object_is_told_and_nothing_else_suffers() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    tiered.produce(0..50).await;
    tiered.trimmed_to(40).await;
    tiered.broker.restart_with(|_| {}).await;
    tiered.wire = tiered.broker.wire().await;
    // ULIDs are in order of time.
    let first = tiered.files().into_iter().next().expect("an object");
    let path = tiered.store.path().join(first);
    let good = std::fs::read(&path).expect("the object");
    let mut bad = good.clone();
    bad[60] ^= 1;
    std::fs::write(&path, &bad).expect("written");
    let read = tiered.wire.fetch("t", 0, 0).await;
    assert_eq!(read.error_code, ErrorCode::KafkaStorageError.code());
    assert_eq!(tiered.wire.read_from("t", 0, 45).await.len(), 5);
    tiered.produce(50..51).await;
    std::fs::write(&path, &good).expect("put back");
    assert_eq!(tiered.wire.values("t", 0).await, values(0..51));
}

#[tokio::test]
async fn a_log_that_lost_its_files_does_not_give_offsets_away_again() {
    let mut tiered = Tiered::start().await;
    tiered.wire.must_create("t", 1, TIERED).await;
    tiered.produce(0..50).await;
    tiered.trimmed_to(40).await;
    tiered.broker.stop().await;
    let objects = tiered.files();
    let data = tiered.broker.data_dir();
    std::fs::remove_dir_all(data.join("topics")).expect("the logs go");
    std::fs::remove_dir_all(data.join("wal")).expect("and what was ahead of them");
    std::fs::remove_file(data.join("log.checkpoint")).expect("and what told of them");
    tiered.broker.start_again().await;
    tiered.wire = tiered.broker.wire().await;
    let answer = tiered.wire.produce("t", 0, &stamped(&[(1, "new")])).await;
    assert_ne!(answer.error_code, 0, "{answer:?}");
    assert_eq!(
        tiered.files(),
        objects,
        "and nothing in the tier is touched"
    );
}

#[tokio::test]
async fn settings_that_a_tier_cannot_do_are_refused() {
    let mut tiered = Tiered::start().await;
    let remote = ("remote.storage.enable", "true");
    let refused = tiered
        .wire
        .create("c", 1, &[remote, ("cleanup.policy", "compact")])
        .await;
    assert_eq!(
        refused.topics[0].error_code,
        ErrorCode::InvalidConfig.code()
    );
    tiered.wire.must_create("t", 1, TIERED).await;
    let (code, message) = tiered
        .wire
        .set_config("t", "remote.storage.enable", "false")
        .await;
    assert_eq!(code, ErrorCode::InvalidConfig.code());
    assert!(message.is_some_and(|message| message.contains("remote.log.copy.disable")));
    let plain = TestBroker::start().await;
    let refused = plain.wire().await.create("t", 1, &[remote]).await;
    assert_eq!(
        refused.topics[0].error_code,
        ErrorCode::InvalidConfig.code()
    );
    let message = refused.topics[0].error_message.clone().expect("a message");
    assert!(message.contains("--tier-url"), "{}", message.as_str());
    let (status, body) = get(plain.addresses().admin, "/v1/tier").await;
    assert_eq!(status, 404);
    assert!(body.contains("\"hint\""), "{body}");
}
