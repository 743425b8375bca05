//! Connections: how many, how slow, by which listener.

use std::time::Duration;

use tidemill_protocol::ErrorCode;
use tidemill_protocol::describe_cluster::DescribeClusterRequest;
use tidemill_tests::records::batch;
use tidemill_tests::requests::{FETCH, PRODUCE, bytes_of, fetch, produce};
use tidemill_tests::{TestBroker, Wire, get, until};

/// Long enough for what is honest on a busy machine, short enough for a test.
const SHORT: Duration = Duration::from_millis(300);

async fn metric(broker: &TestBroker, name: &str) -> u64 {
    let (status, text) = get(broker.addresses().admin, "/metrics").await;
    assert_eq!(status, 200);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_is_free_again() {
    let broker = TestBroker::start_with(|config| config.network.connections_max = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut wire = broker.wire().await;
        wire.served().await;
        open.push(wire);
    }
    let mut refused = broker.wire().await;
    assert!(refused.is_closed().await);
    assert_eq!(
        metric(&broker, "tidemill_connections_refused_total").await,
        1
    );
    open[0].served().await;
    open.pop();
    let kafka = broker.addresses().kafka;
    until("a free place", async || {
        let mut wire = Wire::connect(kafka).await;
        wire.try_write(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff])
            .await
            .ok()?;
        wire.read_frame().await.map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let broker = TestBroker::start_with(|config| config.network.connections_per_ip_max = 1).await;
    let mut first = broker.wire().await;
    first.served().await;
    assert!(broker.wire().await.is_closed().await);
    first.served().await;
}

#[tokio::test]
async fn a_frame_that_does_not_get_on_costs_its_connection() {
    let broker = TestBroker::start_with(|config| config.network.stall_max = SHORT).await;
    let mut honest = broker.wire().await;
    honest.must_create("t", 1, &[]).await;
    // An announcement alone; half a header; a frame without its last byte.
    let mut whole = Vec::new();
    let (_, frame) = honest.frame(PRODUCE, &produce("t", 0, bytes_of(&batch(&["a"]))));
    whole.extend_from_slice(&frame);
    for part in [
        &(100i32 << 20).to_be_bytes()[..],
        &whole[..9],
        &whole[..whole.len() - 1],
    ] {
        let mut stalled = broker.wire().await;
        stalled.write(part).await;
        assert!(stalled.is_closed().await);
    }
    assert_eq!(
        metric(
            &broker,
            "tidemill_connections_failed_total{reason=\"stalled\"}"
        )
        .await,
        3
    );
    // Who only rests between frames is none of these.
    assert!(honest.values("t", 0).await.is_empty());
}

#[tokio::test]
async fn a_frame_in_pieces_is_a_frame() {
    let broker =
        TestBroker::start_with(|config| config.network.stall_max = Duration::from_secs(5)).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let (id, frame) = wire.frame(PRODUCE, &produce("t", 0, bytes_of(&batch(&["a"]))));
    for byte in frame.iter() {
        wire.write(&[*byte]).await;
    }
    let answer = wire
        .receive::<tidemill_protocol::produce::ProduceRequest>(id, PRODUCE)
        .await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_its_time() {
    let broker = TestBroker::start_with(|config| config.network.idle_max = SHORT).await;
    let mut wire = broker.wire().await;
    wire.served().await;
    assert!(wire.is_closed().await);
    assert_eq!(
        metric(
            &broker,
            "tidemill_connections_failed_total{reason=\"idle\"}"
        )
        .await,
        1
    );
}

/// A consumer that waits is not silent, and neither is its broker.
#[tokio::test]
async fn a_long_poll_is_not_idle() {
    let broker = TestBroker::start_with(|config| config.network.idle_max = SHORT).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let mut request = fetch("t", 0, 0);
    request.max_wait_ms = 4 * SHORT.as_millis() as i32;
    let answer = wire.call(FETCH, &request).await;
    assert_eq!(answer.error_code, 0);
}

#[tokio::test]
async fn who_does_not_take_its_answers_loses_its_connection() {
    let broker = TestBroker::start_with(|config| config.network.stall_max = SHORT).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let value = "x".repeat(500_000);
    for _ in 0..16 {
        wire.must_produce("t", 0, &batch(&[&value])).await;
    }
    let mut slow = broker.wire().await;
    let mut request = fetch("t", 0, 0);
    request.topics[0].partitions[0].partition_max_bytes = 16 << 20;
    const ASKED: usize = 20;
    for _ in 0..ASKED {
        slow.send(FETCH, &request).await;
    }
    let name = "tidemill_connections_failed_total{reason=\"slow_reader\"}";
    until("the end of the slow reader", async || {
        (metric(&broker, name).await == 1).then_some(())
    })
    .await;
    let mut got = 0;
    while slow.read_frame().await.is_some() {
        got += 1;
    }
    assert!(got < ASKED, "it got all {got} answers");
    assert_eq!(wire.list_offset("t", 0, -1).await.offset, 16);
}

#[tokio::test]
async fn each_listener_tells_of_itself() {
    let broker = TestBroker::start().await;
    let addresses = broker.addresses();
    for address in [addresses.kafka, addresses.internal] {
        let mut wire = Wire::connect(address).await;
        let metadata = wire.metadata(&[], false).await;
        let [node] = &metadata.brokers[..] else {
            panic!("{metadata:?}")
        };
        let told = (node.host.as_str(), node.port);
        assert_eq!(told, ("127.0.0.1", i32::from(address.port())));
        let cluster = wire
            .call(
                2,
                &DescribeClusterRequest {
                    endpoint_type: 1,
                    ..Default::default()
                },
            )
            .await;
        assert_eq!(cluster.brokers[0].port, i32::from(address.port()));
    }
}

#[tokio::test]
async fn an_advertised_address_is_told_to_clients_only() {
    let broker = TestBroker::start_with(|config| {
        config.advertise = Some(("kafka.example".to_owned(), 19092));
    })
    .await;
    let addresses = broker.addresses();
    let told = broker
        .wire()
        .await
        .metadata(&[], false)
        .await
        .brokers
        .remove(0);
    assert_eq!((told.host.as_str(), told.port), ("kafka.example", 19092));
    let mut internal = Wire::connect(addresses.internal).await;
    let told = internal.metadata(&[], false).await.brokers.remove(0);
    assert_eq!(
        (told.host.as_str(), told.port),
        ("127.0.0.1", i32::from(addresses.internal.port()))
    );
}

#[tokio::test]
async fn a_batch_over_the_topics_bound_is_refused_and_the_connection_lives() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("max.message.bytes", "1000")])
        .await;
    let answer = wire.produce("t", 0, &batch(&[&"x".repeat(1000)])).await;
    assert_eq!(answer.error_code, ErrorCode::MessageTooLarge.code());
    assert_eq!(answer.error_code, 10);
    let message = answer.error_message.unwrap_or_default();
    assert!(message.contains("1000"), "{message:?} names the bound");
    assert_eq!(wire.must_produce("t", 0, &batch(&["small"])).await, 0);
    // The bound can be raised, and holds from then on.
    assert_eq!(wire.set_config("t", "max.message.bytes", "5000").await.0, 0);
    assert_eq!(
        wire.must_produce("t", 0, &batch(&[&"x".repeat(1000)]))
            .await,
        1
    );
}

/// The frame limit bounds Produce; other requests have no use for so much.
#[tokio::test]
async fn a_frame_over_the_limit_is_not_even_read() {
    let broker = TestBroker::start_with(|config| config.network.request_bytes_max = 100_000).await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let (_, frame) = wire.frame(
        PRODUCE,
        &produce("t", 0, bytes_of(&batch(&[&"x".repeat(100_000)]))),
    );
    let mut greedy = broker.wire().await;
    greedy.write(&frame[..4]).await;
    assert!(greedy.is_closed().await);
    assert_eq!(
        metric(
            &broker,
            "tidemill_connections_failed_total{reason=\"frame_too_large\"}"
        )
        .await,
        1
    );
    assert_eq!(wire.must_produce("t", 0, &batch(&["a"])).await, 0);
}

/// More than a connection starts at a time, all buffered at once: whatever is answered when, nothing is left lying.
#[tokio::test]
async fn many_requests_in_one_write_are_answered_without_a_pause() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    for round in 0..300 {
        let mut bytes = Vec::new();
        for at in 0..64 {
            let records = bytes_of(&batch(&[&format!("{round}/{at}")]));
            let mut request = produce("t", 0, records);
            request.acks = 1;
            bytes.extend_from_slice(&wire.frame(PRODUCE, &request).1);
        }
        wire.write(&bytes).await;
        for at in 0..64 {
            let answered = wire.read_frame_within(Duration::from_secs(3)).await;
            assert!(answered.is_some(), "{round}/{at}");
        }
    }
}
