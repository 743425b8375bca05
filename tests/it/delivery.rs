//! Produce and fetch as they meet: long polls, acks, several partitions, topics that opt out of the log.

use std::time::{Duration, Instant};

use tidemill_protocol::ErrorCode;
use tidemill_protocol::fetch::FetchRequest;
use tidemill_records::{Compression, RecordBatchBuilder};
use tidemill_tests::records::{batch, build, contents, now_ms};
use tidemill_tests::requests::{FETCH, PRODUCE, bytes_of, fetch, produce};
use tidemill_tests::{LIMIT, TestBroker, Wire};

/// Longer than any test may take.
const FOR_EVER_MS: i32 = 600_000;

/// A long poll that has begun: the broker has read it, since requests of one connection are in order and
/// another connection's answers come after it was written.
async fn poll(wire: &mut Wire, min_bytes: i32) -> i32 {
    let mut request = fetch("t", 0, 0);
    request.max_wait_ms = FOR_EVER_MS;
    request.min_bytes = min_bytes;
    wire.send(FETCH, &request).await
}

#[tokio::test]
async fn a_long_poll_wakes_at_the_first_record() {
    let broker = TestBroker::start().await;
    let mut producer = broker.wire().await;
    producer.must_create("t", 1, &[]).await;
    let mut consumer = broker.wire().await;
    let id = poll(&mut consumer, 1).await;
    let produced_at = Instant::now();
    producer.must_produce("t", 0, &batch(&["a"])).await;
    let answer = consumer.receive::<FetchRequest>(id, FETCH).await;
    assert_eq!(
        contents(&answer.responses[0].partitions[0].records).len(),
        1
    );
    assert!(
        produced_at.elapsed() < Duration::from_secs(5),
        "not by a timer"
    );
}

#[tokio::test]
async fn a_long_poll_waits_for_as_many_bytes_as_it_wants() {
    let broker = TestBroker::start().await;
    let mut producer = broker.wire().await;
    producer.must_create("t", 1, &[]).await;
    let value = "x".repeat(1000);
    let mut consumer = broker.wire().await;
    let id = poll(&mut consumer, 2500).await;
    for _ in 0..3 {
        producer.must_produce("t", 0, &batch(&[&value])).await;
    }
    let answer = consumer.receive::<FetchRequest>(id, FETCH).await;
    let found = contents(&answer.responses[0].partitions[0].records);
    assert_eq!(found.len(), 3, "one or two are too little");
}

#[tokio::test]
async fn a_long_poll_ends_after_its_time_with_what_there_is() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    wire.must_produce("t", 0, &batch(&["a"])).await;
    let mut request = fetch("t", 0, 0);
    request.max_wait_ms = 50;
    request.min_bytes = 1 << 20;
    let began = Instant::now();
    let answer = wire.call(FETCH, &request).await;
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(
        contents(&answer.responses[0].partitions[0].records).len(),
        1
    );
}

/// A partition that cannot be read must not make the others wait.
#[tokio::test]
async fn an_error_ends_a_long_poll() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = poll(&mut wire, 1).await;
    let mut other = broker.wire().await;
    assert_eq!(other.delete("t").await, 0);
    let answer = wire.receive::<FetchRequest>(id, FETCH).await;
    let code = answer.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition.code());
}

/// What a consumer leaves behind when it dials off in a long poll is nothing.
#[tokio::test]
async fn a_long_poll_ends_with_its_connection() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for _ in 0..20 {
        let mut consumer = broker.wire().await;
        poll(&mut consumer, 1).await;
    }
    let admin = broker.addresses().admin;
    tidemill_tests::until("only one connection", async || {
        let (_, metrics) = tidemill_tests::get(admin, "/metrics").await;
        metrics.contains("\ntidemill_connections 1\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn answers_of_one_connection_keep_the_order_of_its_requests() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    // A produce, a long poll that the next produce of another connection ends, a produce behind it.
    let first = wire
        .send(PRODUCE, &produce("t", 0, bytes_of(&batch(&["a"]))))
        .await;
    let mut waiting = fetch("t", 0, 1);
    waiting.max_wait_ms = FOR_EVER_MS;
    let second = wire.send(FETCH, &waiting).await;
    let third = wire
        .send(PRODUCE, &produce("t", 0, bytes_of(&batch(&["c"]))))
        .await;
    wire.receive::<tidemill_protocol::produce::ProduceRequest>(first, PRODUCE)
        .await;
    broker
        .wire()
        .await
        .must_produce("t", 0, &batch(&["b"]))
        .await;
    let answer = wire.receive::<FetchRequest>(second, FETCH).await;
    assert_eq!(
        contents(&answer.responses[0].partitions[0].records)[0].1,
        "b"
    );
    wire.receive::<tidemill_protocol::produce::ProduceRequest>(third, PRODUCE)
        .await;
    assert_eq!(wire.values("t", 0).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn all_codecs_come_back_as_they_were_sent() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let text = "so many words, so many words ".repeat(50);
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for codec in codecs {
        let sent = build(
            RecordBatchBuilder::new(codec),
            &[(now_ms(), &text), (now_ms(), "end")],
        );
        let base = wire.must_produce("t", 0, &sent).await;
        let stored = wire.fetch("t", 0, base).await.records.unwrap().into_bytes();
        // Offset and epoch in front are the broker's; the rest, CRC included, is the producer's.
        assert_eq!(stored[16..], sent.to_bytes()[16..], "{codec:?}");
    }
    assert_eq!(wire.values("t", 0).await.len(), 2 * codecs.len());
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_an_error_ends_the_connection() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let mut request = produce("t", 0, bytes_of(&batch(&["a"])));
    request.acks = 0;
    wire.send(PRODUCE, &request).await;
    wire.send(PRODUCE, &request).await;
    // The next answer is to this.
    assert_eq!(wire.list_offset("t", 0, -2).await.error_code, 0);
    let mut reader = broker.wire().await;
    tidemill_tests::until("both records", async || {
        (reader.values("t", 0).await.len() == 2).then_some(())
    })
    .await;
    let mut wrong = produce("none", 0, bytes_of(&batch(&["b"])));
    wrong.acks = 0;
    wire.send(PRODUCE, &wrong).await;
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn acks_are_minus_one_zero_or_one() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for acks in [2, -2, i16::MAX, i16::MIN] {
        let mut request = produce("t", 0, bytes_of(&batch(&["a"])));
        request.acks = acks;
        let answer = wire.call(PRODUCE, &request).await;
        let code = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::InvalidRequiredAcks.code());
    }
    for acks in [-1, 1] {
        let mut request = produce("t", 0, bytes_of(&batch(&["a"])));
        request.acks = acks;
        let answer = wire.call(PRODUCE, &request).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    assert_eq!(wire.values("t", 0).await.len(), 2);
}

#[tokio::test]
async fn one_partition_that_is_refused_does_not_spoil_the_others() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 2, &[]).await;
    let mut request = produce("t", 0, bytes_of(&batch(&["a"])));
    let again = request.topic_data[0].partition_data[0].clone();
    for index in [7, 1] {
        let mut data = again.clone();
        data.index = index;
        request.topic_data[0].partition_data.push(data);
    }
    let answer = wire.call(PRODUCE, &request).await;
    let codes: Vec<(i32, i16)> = answer.responses[0]
        .partition_responses
        .iter()
        .map(|partition| (partition.index, partition.error_code))
        .collect();
    assert_eq!(
        codes,
        [
            (0, 0),
            (7, ErrorCode::UnknownTopicOrPartition.code()),
            (1, 0)
        ]
    );
}

/// `flush.messages` above 1 is Kafka's own durability: no write-ahead log, the page cache instead.
#[tokio::test]
async fn a_topic_may_opt_out_of_the_write_ahead_log() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("flush.messages", "1000000")])
        .await;
    let mut consumer = broker.wire().await;
    let id = poll(&mut consumer, 1).await;
    for value in ["a", "b", "c"] {
        wire.must_produce("t", 0, &batch(&[value])).await;
    }
    let woken = consumer.receive::<FetchRequest>(id, FETCH).await;
    assert!(!contents(&woken.responses[0].partitions[0].records).is_empty());
    assert_eq!(wire.values("t", 0).await, ["a", "b", "c"]);
    assert_eq!(wire.list_offset("t", 0, -1).await.offset, 3);
    broker.restart().await;
    let mut wire = broker.wire().await;
    assert_eq!(wire.values("t", 0).await, ["a", "b", "c"]);
    // Back in: from here on every ack is on disk.
    assert_eq!(wire.set_config("t", "flush.messages", "1").await.0, 0);
    wire.must_produce("t", 0, &batch(&["d"])).await;
    broker.restart().await;
    assert_eq!(
        broker.wire().await.values("t", 0).await,
        ["a", "b", "c", "d"]
    );
}

#[tokio::test]
async fn twenty_producers_and_a_consumer_get_on_together() {
    const PRODUCERS: usize = 20;
    const EACH: usize = 50;
    let broker = TestBroker::start().await;
    broker.wire().await.must_create("t", 1, &[]).await;
    let kafka = broker.addresses().kafka;
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|number| {
            tokio::spawn(async move {
                let mut wire = Wire::connect(kafka).await;
                for at in 0..EACH {
                    wire.must_produce("t", 0, &batch(&[&format!("{number}/{at}")]))
                        .await;
                }
            })
        })
        .collect();
    let mut consumer = broker.wire().await;
    let mut read: Vec<String> = Vec::new();
    let reading = async {
        while read.len() < PRODUCERS * EACH {
            let mut request = fetch("t", 0, read.len() as i64);
            request.max_wait_ms = FOR_EVER_MS;
            let answer = consumer.call(FETCH, &request).await;
            let found = contents(&answer.responses[0].partitions[0].records);
            assert!(
                found
                    .iter()
                    .enumerate()
                    .all(|(at, (offset, _))| *offset == (read.len() + at) as i64)
            );
            read.extend(found.into_iter().map(|(_, value)| value));
        }
    };
    tokio::time::timeout(LIMIT, reading)
        .await
        .expect("all records in time");
    for producer in producers {
        producer.await.unwrap();
    }
    for number in 0..PRODUCERS {
        let prefix = format!("{number}/");
        let own: Vec<&String> = read
            .iter()
            .filter(|value| value.starts_with(&prefix))
            .collect();
        let expected: Vec<String> = (0..EACH).map(|at| format!("{number}/{at}")).collect();
        assert!(own.iter().zip(&expected).all(|(a, b)| **a == *b) && own.len() == EACH);
    }
}
