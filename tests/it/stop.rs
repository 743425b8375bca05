//! Ends, wanted and not, and what is there afterwards.

use std::time::{Duration, Instant};

use tempfile::tempdir;
use tidemill_protocol::fetch::FetchRequest;
use tidemill_protocol::produce::ProduceRequest;
use tidemill_tests::records::{batch, sequenced};
use tidemill_tests::requests::{FETCH, PRODUCE, bytes_of, fetch, produce};
use tidemill_tests::{ChildBroker, Wire, get, until};

/// A stop that nobody holds up takes less than this on a busy machine.
const PROMPT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn sigterm_ends_long_polls_and_keeps_everything() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for at in 0..20 {
        wire.must_produce("t", 0, &batch(&[&at.to_string()])).await;
    }
    let mut consumer = broker.wire().await;
    let mut request = fetch("t", 0, 20);
    request.max_wait_ms = 600_000;
    consumer.send(FETCH, &request).await;
    // The poll has begun when a request behind it on the same connection would have to wait for it: the
    // broker has read as much as was sent.
    let admin = broker.admin;
    until("the poll", async || {
        let (_, metrics) = get(admin, "/metrics").await;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("tidemill_request_memory_bytes "));
        line.and_then(|bytes| bytes.parse::<u64>().ok())
            .filter(|bytes| *bytes > 0)
    })
    .await;
    let began = Instant::now();
    broker.stop();
    assert!(began.elapsed() < PROMPT, "it took {:?}", began.elapsed());
    let again = ChildBroker::start(dir.path(), &[], &[]);
    let values = again.wire().await.values("t", 0).await;
    assert_eq!(values, (0..20).map(|at| at.to_string()).collect::<Vec<_>>());
    again.stop();
}

#[tokio::test]
async fn sigterm_answers_what_was_asked() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    // A producer that never stops by itself.
    let kafka = broker.kafka;
    let producing = tokio::spawn(async move {
        let mut wire = Wire::connect(kafka).await;
        let mut acked = 0i64;
        loop {
            let mut sent = Vec::new();
            for _ in 0..5 {
                let (id, frame) = wire.frame(PRODUCE, &produce("t", 0, bytes_of(&batch(&["x"]))));
                if wire.try_write(&frame).await.is_err() {
                    return acked;
                }
                sent.push(id);
            }
            for id in sent {
                let Some(frame) = wire.read_frame().await else {
                    return acked;
                };
                let decoded = tidemill_protocol::decode_response::<ProduceRequest>(frame, PRODUCE);
                let (header, answer) = decoded.unwrap();
                assert_eq!(header.correlation_id, id);
                let partition = &answer.responses[0].partition_responses[0];
                if partition.error_code == 0 {
                    acked = partition.base_offset + 1;
                }
            }
        }
    });
    until("records", async || {
        (wire.list_offset("t", 0, -1).await.offset > 50).then_some(())
    })
    .await;
    let began = Instant::now();
    broker.stop();
    assert!(began.elapsed() < PROMPT, "it took {:?}", began.elapsed());
    let acked = producing.await.unwrap();
    assert!(acked > 50);
    let again = ChildBroker::start(dir.path(), &[], &[]);
    let end = again.wire().await.list_offset("t", 0, -1).await.offset;
    assert!(end >= acked, "{acked} were acked, {end} are there");
    again.stop();
}

/// Everything that was acknowledged before a SIGKILL: records, topics, deletions, settings, offsets,
/// producers.
#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = tempdir().unwrap();
    let mut expected: Vec<String> = Vec::new();
    let mut producer = None;
    for round in 0..3 {
        let broker = ChildBroker::start(dir.path(), &[], &[]);
        let mut wire = broker.wire().await;
        if round == 0 {
            wire.must_create("t", 2, &[("retention.ms", "123456789")])
                .await;
            wire.must_create("gone", 1, &[]).await;
            wire.must_produce("gone", 0, &batch(&["x"])).await;
            assert_eq!(wire.delete("gone").await, 0);
        }
        assert_eq!(
            wire.metadata(&["gone"], false).await.topics[0].error_code,
            3
        );
        assert_eq!(wire.values("t", 0).await, expected);
        let id = match producer {
            Some(id) => id,
            None => wire.producer_id().await,
        };
        producer = Some(id);
        if round > 0 {
            // The last of the round before, sent again since its answer may have been lost.
            let last = expected.len() as i32 - 1;
            let again = sequenced(id, 0, last, &[&expected[last as usize]]);
            assert_eq!(wire.must_produce("t", 0, &again).await, i64::from(last));
        }
        for _ in 0..25 {
            let sequence = expected.len() as i32;
            let value = format!("{round}/{sequence}");
            wire.must_produce("t", 0, &sequenced(id, 0, sequence, &[&value]))
                .await;
            expected.push(value);
        }
        assert_eq!(
            wire.set_config("t", "segment.ms", &format!("{}", 70_000 + round))
                .await
                .0,
            0
        );
        broker.kill9();
    }
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    assert_eq!(wire.values("t", 0).await, expected);
    assert_eq!(
        wire.metadata(&["t"], false).await.topics[0]
            .partitions
            .len(),
        2
    );
    let mut client_config = tidemill_client::ClientConfig::new(vec![broker.kafka.to_string()]);
    client_config.deadline = Duration::from_secs(10);
    let client = tidemill_client::Client::new(client_config);
    let resource = tidemill_client::ConfigResource::Topic("t".to_owned());
    let configs = client.describe_configs(&resource).await.unwrap();
    let value = |name: &str| {
        configs
            .iter()
            .find(|config| config.name == name)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(value("retention.ms").as_deref(), Some("123456789"));
    assert_eq!(value("segment.ms").as_deref(), Some("70002"));
    broker.stop();
}

/// `flush.messages` above 1 is what Kafka does: the page cache keeps it when only the process dies.
#[tokio::test]
async fn kill_9_loses_nothing_of_a_topic_without_the_write_ahead_log() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("flush.messages", "1000000")])
        .await;
    for at in 0..50 {
        wire.must_produce("t", 0, &batch(&[&at.to_string()])).await;
    }
    broker.kill9();
    let again = ChildBroker::start(dir.path(), &[], &[]);
    let values = again.wire().await.values("t", 0).await;
    assert_eq!(values.len(), 50);
    again.stop();
}

/// The same when the broker dies between two requests of a pipeline.
#[tokio::test]
async fn kill_9_in_the_middle_of_a_pipeline() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let mut sent = Vec::new();
    for at in 0..200 {
        let request = produce("t", 0, bytes_of(&batch(&[&at.to_string()])));
        sent.push(wire.send(PRODUCE, &request).await);
    }
    let mut acked = 0;
    for id in &sent[..100] {
        let answer = wire.receive::<ProduceRequest>(*id, PRODUCE).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        acked += 1;
    }
    broker.kill9();
    while wire.read_frame().await.is_some() {
        acked += 1;
    }
    let again = ChildBroker::start(dir.path(), &[], &[]);
    let values = again.wire().await.values("t", 0).await;
    assert!(
        values.len() >= acked,
        "{acked} acked, {} there",
        values.len()
    );
    let expected: Vec<String> = (0..values.len()).map(|at| at.to_string()).collect();
    assert_eq!(values, expected);
    again.stop();
}

/// A consumer sees nothing that a crash could take back.
#[tokio::test]
async fn what_a_consumer_saw_is_still_there_after_kill_9() {
    let dir = tempdir().unwrap();
    let broker = ChildBroker::start(dir.path(), &[], &[]);
    broker.wire().await.must_create("t", 1, &[]).await;
    let kafka = broker.kafka;
    let producing = tokio::spawn(async move {
        let mut wire = Wire::connect(kafka).await;
        let batch = bytes_of(&batch(&["x"]));
        loop {
            // acks=0: nobody waits for the disk, so that the log end runs ahead of it.
            let mut request = produce("t", 0, batch.clone());
            request.acks = 0;
            let (_, frame) = wire.frame(PRODUCE, &request);
            if wire.try_write(&frame).await.is_err() {
                return;
            }
        }
    });
    let mut consumer = broker.wire().await;
    let mut seen = 0;
    while seen < 2_000 {
        let mut request = fetch("t", 0, seen);
        request.max_wait_ms = 10_000;
        let id = consumer.send(FETCH, &request).await;
        let answer = consumer.receive::<FetchRequest>(id, FETCH).await;
        let found = tidemill_tests::records::contents(&answer.responses[0].partitions[0].records);
        seen = found.last().map_or(seen, |(offset, _)| offset + 1);
    }
    broker.kill9();
    producing.await.unwrap();
    let again = ChildBroker::start(dir.path(), &[], &[]);
    let end = again.wire().await.list_offset("t", 0, -1).await.offset;
    assert!(end >= seen, "{seen} were seen, {end} are there");
    again.stop();
}
