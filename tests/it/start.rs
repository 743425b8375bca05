//! Starts that are refused: each says what is wrong and what to do, and ends with the right code.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use tempfile::tempdir;
use tidemill_tests::records::batch;
use tidemill_tests::{ChildBroker, Refused, get, refused_start};

/// Exit codes that scripts rely on.
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// All of these words are in what was said, which is not a panic.
#[track_caller]
fn says(refused: &Refused, code: i32, words: &[&str]) {
    let Refused {
        code: found,
        stderr,
    } = refused;
    assert_eq!(*found, code, "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

fn refuse(dir: &Path, arguments: &[&str]) -> Refused {
    refused_start(dir, arguments, &[])
}

#[tokio::test]
async fn a_second_process_on_the_data_directory() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let first = ChildBroker::start(&data, &[], &[]);
    let mut wire = first.wire().await;
    wire.must_create("t", 1, &[]).await;
    let refused = refuse(&data, &[]);
    says(
        &refused,
        FAILED,
        &[
            &data.display().to_string(),
            "--data-dir",
            &first.pid().to_string(),
        ],
    );
    // The first one does not even notice.
    assert_eq!(wire.must_produce("t", 0, &batch(&["a"])).await, 0);
    first.stop();
    // The lock goes with its process, and also with a killed one.
    ChildBroker::start(&data, &[], &[]).kill9();
    ChildBroker::start(&data, &[], &[]).stop();
}

#[tokio::test]
async fn a_port_in_use() {
    let dir = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen", "--internal-listen"] {
        let refused = refuse(dir.path(), &[flag, &address]);
        says(&refused, FAILED, &[&address, flag, "in use"]);
    }
    // Nothing of the failed starts is in the way.
    ChildBroker::start(dir.path(), &[], &[]).stop();
}

#[test]
fn an_unknown_flag() {
    let dir = tempdir().unwrap();
    says(
        &refuse(dir.path(), &["--data-dri", "x"]),
        USAGE,
        &["--data-dri", "--data-dir"],
    );
    says(
        &refuse(dir.path(), &["--set", "num.partition=3"]),
        USAGE,
        &["num.partition", "did you mean num.partitions"],
    );
    says(
        &refuse(dir.path(), &["--set", "num.partitions"]),
        USAGE,
        &["NAME=VALUE"],
    );
    says(
        &refuse(dir.path(), &["--node-id", "minus one"]),
        USAGE,
        &["node-id", "minus one"],
    );
    says(
        &refuse(dir.path(), &["--listen", "nowhere"]),
        USAGE,
        &["listen", "nowhere"],
    );
}

#[test]
fn an_unknown_environment_variable() {
    let dir = tempdir().unwrap();
    let refused = refused_start(dir.path(), &[], &[("TIDEMILL_NUM_PARTITION", "3")]);
    says(
        &refused,
        USAGE,
        &["TIDEMILL_NUM_PARTITION", "did you mean num.partitions"],
    );
    let refused = refused_start(dir.path(), &[], &[("TIDEMILL_NUM_PARTITIONS", "many")]);
    says(&refused, USAGE, &["TIDEMILL_NUM_PARTITIONS", "many"]);
    let refused = refused_start(dir.path(), &[], &[("KAFKA_NUM_PARTITIONS", "0")]);
    says(&refused, USAGE, &["KAFKA_NUM_PARTITIONS", "at least 1"]);
}

/// Container images set `KAFKA_…` for many reasons.
#[tokio::test]
async fn kafkas_variables_are_taken_where_they_are_known_and_warned_about_where_not() {
    let dir = tempdir().unwrap();
    let variables = [
        ("KAFKA_NUM_PARTITIONS", "5"),
        ("KAFKA_HEAP_OPTS", "-Xmx1g"),
        ("KAFKA_ZOOKEEPER_CONNECT", "zk:2181"),
    ];
    let broker = ChildBroker::start(dir.path(), &[], &variables);
    let topic = broker
        .wire()
        .await
        .metadata(&["t"], true)
        .await
        .topics
        .remove(0);
    assert_eq!(topic.partitions.len(), 5);
    let said = broker.stop();
    for variable in ["KAFKA_HEAP_OPTS", "KAFKA_ZOOKEEPER_CONNECT"] {
        let warned = said
            .lines()
            .any(|line| line.contains("WARN") && line.contains(variable));
        assert!(warned, "{variable}: {said}");
    }
}

#[test]
fn a_configuration_file_that_is_none() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("tidemill.toml");
    let path = file.display().to_string();
    says(
        &refuse(&data, &["--config", &path]),
        USAGE,
        &[&path, "No such file"],
    );
    for (text, words) in [
        ("num.partitions = ", &["TOML"][..]),
        (
            "num.partition = 3",
            &["num.partition", "did you mean num.partitions"],
        ),
        (
            "[log]\nretention.mss = 3",
            &["log.retention.mss", "did you mean log.retention.ms"],
        ),
        ("num.partitions = [1, 2]", &["num.partitions"]),
        ("node-id = -3", &["node-id"]),
    ] {
        fs::write(&file, text).unwrap();
        let refused = refuse(&data, &["--config", &path]);
        says(&refused, USAGE, words);
        assert!(refused.stderr.contains(&path), "{}", refused.stderr);
    }
    assert!(!data.exists(), "nothing was begun");
}

/// Each source is merged into the one below it: flags over environment over file.
#[tokio::test]
async fn settings_come_from_everywhere() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("tidemill.toml");
    fs::write(
        &file,
        "num.partitions = 2\nnode_id = 5\n[log]\nretention.ms = 1000\n",
    )
    .unwrap();
    let data = dir.path().join("data");
    let path = file.display().to_string();
    let broker = ChildBroker::start(
        &data,
        &["--config", &path, "--set", "num.partitions=4"],
        &[("TIDEMILL_NUM_PARTITIONS", "3"), ("TIDEMILL_RACK", "north")],
    );
    let metadata = broker.wire().await.metadata(&["t"], true).await;
    assert_eq!(metadata.topics[0].partitions.len(), 4);
    let node = &metadata.brokers[0];
    assert_eq!((node.node_id, node.rack.as_deref()), (5, Some("north")));
    broker.stop();
}

#[tokio::test]
async fn a_data_directory_of_another_node() {
    let dir = tempdir().unwrap();
    let first = ChildBroker::start(dir.path(), &["--node-id", "3"], &[]);
    let mut wire = first.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["a"])).await;
    first.stop();
    let refused = refuse(dir.path(), &["--node-id", "4"]);
    says(&refused, FAILED, &["node 3", "--node-id 3"]);
    // The advice holds.
    let again = ChildBroker::start(dir.path(), &["--node-id", "3"], &[]);
    assert_eq!(again.wire().await.values("t", 0).await, ["a"]);
    again.stop();
}

#[test]
fn a_data_directory_that_cannot_be_used() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let path = file.join("data").display().to_string();
    says(
        &refuse(&file.join("data"), &[]),
        FAILED,
        &[&path, "data directory"],
    );
}

/// Logs whose metadata is lost would all be deleted as strangers.
#[tokio::test]
async fn logs_without_metadata() {
    let dir = tempdir().unwrap();
    let first = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = first.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["a"])).await;
    first.stop();
    let meta = dir.path().join("meta");
    let aside = dir.path().join("aside");
    fs::rename(&meta, &aside).unwrap();
    says(&refuse(dir.path(), &[]), FAILED, &["metadata", "meta"]);
    let _ = fs::remove_dir_all(&meta);
    fs::rename(&aside, &meta).unwrap();
    let again = ChildBroker::start(dir.path(), &[], &[]);
    assert_eq!(again.wire().await.values("t", 0).await, ["a"]);
    again.stop();
}

#[tokio::test]
async fn ready_means_ready() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/metrics", 200),
        ("/nothing", 404),
    ] {
        assert_eq!(get(broker.admin, path).await.0, status, "{path}");
    }
    let (_, metrics) = get(broker.admin, "/metrics").await;
    assert!(metrics.contains("\ntidemill_ready 1\n"));
    assert_eq!(
        broker.wire().await.metadata(&["t"], true).await.topics[0].error_code,
        0
    );
    broker.stop();
}
