//! A full disk: producers are told, readers go on, and when there is space again producing goes on.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::tempdir;
use tidemill_protocol::ErrorCode;
use tidemill_tests::records::batch;
use tidemill_tests::{ChildBroker, FullDisk, TestBroker, Wire, get};

/// Produces 1 MiB at a time until the broker refuses; how many it took, and the refusal.
async fn fill(wire: &mut Wire) -> (usize, i16) {
    const ENOUGH: usize = 1000;
    let value = "x".repeat(1 << 20).split_off(1000);
    for taken in 0..ENOUGH {
        let answer = wire.produce("t", 0, &batch(&[&value])).await;
        if answer.error_code != 0 {
            return (taken, answer.error_code);
        }
    }
    panic!("{ENOUGH} MiB did not fill the disk");
}

/// Waits until the broker takes records again; what it took meanwhile is counted in.
async fn taken_again(wire: &mut Wire) {
    for _ in 0..3_000 {
        if wire.produce("t", 0, &batch(&["after"])).await.error_code == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing is taken although there is space");
}

async fn records(wire: &mut Wire) -> usize {
    wire.values("t", 0).await.len()
}

/// Only what grows fails: files that have their space go on.
#[tokio::test]
async fn producing_stops_and_goes_on_with_the_space() {
    let disk = FullDisk::new();
    let mut broker = TestBroker::start_on(Arc::new(disk.clone()), |_| {}).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["before"])).await;
    disk.set_full(true);
    let (taken, code) = fill(&mut wire).await;
    assert_eq!(code, ErrorCode::KafkaStorageError.code());
    // Readers go on, and so does everything that only reads.
    let mut reader = broker.wire().await;
    assert_eq!(records(&mut reader).await, taken + 1);
    assert_eq!(get(broker.addresses().admin, "/livez").await.0, 200);
    assert_eq!(reader.metadata(&["t"], false).await.topics[0].error_code, 0);
    disk.set_full(false);
    taken_again(&mut wire).await;
    assert_eq!(records(&mut reader).await, taken + 2);
    broker.restart().await;
    assert_eq!(records(&mut broker.wire().await).await, taken + 2);
}

/// A topic that opted out of the write-ahead log writes its files itself.
#[tokio::test]
async fn a_topic_without_the_write_ahead_log_is_told_too() {
    let disk = FullDisk::new();
    let mut broker = TestBroker::start_on(Arc::new(disk.clone()), |_| {}).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("flush.messages", "1000000")])
        .await;
    wire.must_produce("t", 0, &batch(&["before"])).await;
    disk.set_full(true);
    let (taken, code) = fill(&mut wire).await;
    assert_eq!(code, ErrorCode::KafkaStorageError.code());
    assert!(taken < 100, "{taken} MiB were taken on a full disk");
    disk.set_full(false);
    taken_again(&mut wire).await;
    let there = records(&mut wire).await;
    // What was refused lay in memory already, and nobody knew whether it would be written: as after a time-out.
    assert!((taken + 2..=taken + 3).contains(&there), "{there}");
    broker.restart().await;
    assert_eq!(records(&mut broker.wire().await).await, there);
}

/// A small file system of its own, unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    /// None where mounting is not allowed.
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tidemill-test"])
            .arg(at)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // Lazily: a file may still be open in a broker that is being killed.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_real_disk_that_is_full() {
    let dir = tempdir().unwrap();
    // Files of the write-ahead log and of the metadata's, some 50 MiB of segments, and two ballasts: the running
    // broker may take up the first with files it prepares, the second is what a start needs to write the segments.
    let Some(mount) = Tmpfs::mount(dir.path(), "260m") else {
        eprintln!(
            "mounting is not allowed here; the other tests use a disk that only says it is full"
        );
        return;
    };
    let data = mount.0.join("data");
    let ballast = mount.0.join("ballast");
    let reserve = mount.0.join("reserve");
    std::fs::write(&ballast, vec![0; 20 << 20]).unwrap();
    std::fs::write(&reserve, vec![0; 40 << 20]).unwrap();
    let broker = ChildBroker::start(&data, &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["before"])).await;
    let (taken, code) = fill(&mut wire).await;
    assert_eq!(code, ErrorCode::KafkaStorageError.code());
    assert!(taken > 10, "{taken} MiB is less than there was space for");
    let mut reader = broker.wire().await;
    assert_eq!(records(&mut reader).await, taken + 1);
    // An operator makes space: records that nobody needs, since there is nothing else here.
    std::fs::remove_file(&ballast).unwrap();
    let trimmed = tidemill_records::TopicPartition::new("t", tidemill_records::PartitionId(0));
    let config = tidemill_client::ClientConfig::new(vec![broker.kafka.to_string()]);
    let client = tidemill_client::Client::new(config);
    let all_but_one = tidemill_records::Offset(taken as i64);
    let trimming = client.delete_records(&trimmed, all_but_one).await;
    drop(reader);
    drop(wire);
    // Whatever it takes: the broker comes back with every acknowledged record.
    let said = broker.kill9();
    assert!(said.contains("space"), "{said}");
    let broker = ChildBroker::start_and(&data, move |said| {
        if said.contains("no space") {
            let _ = std::fs::remove_file(&reserve);
        }
    });
    let mut wire = broker.wire().await;
    let start = wire.list_offset("t", 0, -2).await.offset;
    assert!(start == 0 || trimming.is_ok(), "{start} {trimming:?}");
    assert_eq!(records(&mut wire).await as i64, taken as i64 + 1 - start);
    taken_again(&mut wire).await;
    drop(wire);
    broker.stop();
}

/// A start needs a little space for what it writes down of itself: without it, it says so and waits.
#[tokio::test]
async fn a_start_on_a_full_disk_waits_for_space() {
    let dir = tempdir().unwrap();
    let Some(mount) = Tmpfs::mount(dir.path(), "260m") else {
        eprintln!("mounting is not allowed here");
        return;
    };
    let data = mount.0.join("data");
    let broker = ChildBroker::start(&data, &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for at in 0..10 {
        wire.must_produce("t", 0, &batch(&[&at.to_string()])).await;
    }
    drop(wire);
    broker.kill9();
    let ballast = mount.0.join("ballast");
    let mut filling = std::fs::File::create(&ballast).unwrap();
    let zeros = vec![0; 1 << 20];
    while std::io::Write::write_all(&mut filling, &zeros).is_ok() {}
    drop(filling);
    // Space is made as soon as it has said that there is none.
    let in_the_way = ballast.clone();
    let broker = ChildBroker::start_and(&data, move |said| {
        if said.contains("no space") {
            // The second line about it finds the file gone already.
            let _ = std::fs::remove_file(&in_the_way);
        }
    });
    assert!(
        !ballast.exists(),
        "it started without a word about the full disk"
    );
    let mut wire = broker.wire().await;
    assert_eq!(records(&mut wire).await, 10);
    taken_again(&mut wire).await;
    drop(wire);
    broker.stop();
}
