//! Frames that no honest client sends. Their sender loses its connection, nobody else notices.

use tidemill_protocol::ApiKey;
use tidemill_protocol::metadata::MetadataRequest;
use tidemill_tests::records::batch;
use tidemill_tests::requests::{PRODUCE, bytes_of, metadata, produce};
use tidemill_tests::{TestBroker, Wire, get};

/// A frame with a header of version 1 and anything behind it.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7i32.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    frame.extend(body);
    let mut bytes = (frame.len() as i32).to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

async fn failed(broker: &TestBroker, reason: &str) -> u64 {
    let (_, text) = get(broker.addresses().admin, "/metrics").await;
    let name = format!("tidemill_connections_failed_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Sends it on a connection of its own and expects nothing but the end.
async fn is_refused(broker: &TestBroker, bytes: &[u8]) -> bool {
    let mut wire = broker.wire().await;
    wire.write(bytes).await;
    wire.is_closed().await
}

#[tokio::test]
async fn unknown_apis_end_the_connection() {
    let broker = TestBroker::start().await;
    let keys = [i16::MIN, -1, 4, 5, 6, 7, 24, 26, 29, 68, 76, 1000, i16::MAX];
    for key in keys {
        for version in [0, 3] {
            assert!(
                is_refused(&broker, &frame(key, version, &[0; 20])).await,
                "key {key}"
            );
        }
    }
    assert_eq!(failed(&broker, "unknown_api").await, 2 * keys.len() as u64);
}

#[tokio::test]
async fn unknown_versions_end_the_connection() {
    let broker = TestBroker::start().await;
    let served = broker.wire().await.served().await;
    let mut sent = 0;
    for (key, (min, max)) in served {
        if key == ApiKey::API_VERSIONS.0 {
            continue;
        }
        // Produce 0 to 2 are announced for librdkafka's sake and refused all the same.
        let refused = if key == 0 {
            vec![-1, 0, 1, 2, max + 1]
        } else {
            vec![min - 1, max + 1, i16::MAX]
        };
        for version in refused {
            assert!(
                is_refused(&broker, &frame(key, version, &[0; 20])).await,
                "{key} v{version}"
            );
            sent += 1;
        }
    }
    assert_eq!(failed(&broker, "unsupported_version").await, sent);
}

#[tokio::test]
async fn lengths_that_cannot_be_end_the_connection() {
    let broker = TestBroker::start().await;
    for length in [-1, i32::MIN, i32::MAX, (100 << 20) + 1] {
        assert!(is_refused(&broker, &length.to_be_bytes()).await, "{length}");
    }
    // Only Produce may be as large as that.
    let mut metadata = (17i32 << 20).to_be_bytes().to_vec();
    metadata.extend([0, 3, 0, 9]);
    assert!(is_refused(&broker, &metadata).await);
    assert_eq!(failed(&broker, "frame_too_large").await, 5);
    for short in [0, 1, 7] {
        let mut bytes = (short as i32).to_be_bytes().to_vec();
        bytes.resize(4 + short, 0);
        assert!(
            is_refused(&broker, &bytes).await,
            "{short} bytes hold no header"
        );
    }
}

#[tokio::test]
async fn other_protocols_end_the_connection() {
    let broker = TestBroker::start().await;
    let hello = [
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &hello,
    ] {
        assert!(is_refused(&broker, bytes).await);
    }
}

#[tokio::test]
async fn arrays_that_claim_more_than_there_is_end_the_connection() {
    let broker = TestBroker::start().await;
    let mut sent = 0;
    for (key, version) in [
        (0, 3),
        (1, 4),
        (2, 1),
        (3, 1),
        (8, 2),
        (19, 2),
        (32, 1),
        (42, 0),
    ] {
        for count in [i32::MAX, 1 << 30, 1_000_000, -2] {
            // Enough of zeros in front that every schema gets to its first array.
            for zeros in 0..24 {
                let mut body = vec![0; zeros];
                body.extend(count.to_be_bytes());
                body.extend([0; 3]);
                let mut wire = broker.wire().await;
                wire.write(&frame(key, version, &body)).await;
                // Some are answered: the number was something else in them.
                wire.finish_writing().await;
                let _ = wire.read_frame().await;
                sent += 1;
            }
        }
    }
    let refused = failed(&broker, "malformed").await;
    assert!(refused > sent / 4, "{refused} of {sent}");
    assert!(!broker.wire().await.served().await.is_empty());
}

#[tokio::test]
async fn a_frame_that_ends_early_is_nobodys_request() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let (_, whole) = wire.frame(PRODUCE, &produce("t", 0, bytes_of(&batch(&["a"]))));
    for end in 1..whole.len() {
        let mut torn = broker.wire().await;
        torn.write(&whole[..end]).await;
        torn.finish_writing().await;
        assert!(torn.is_closed().await);
    }
    assert!(wire.values("t", 0).await.is_empty());
    // What was whole before the tear counts.
    let mut torn = broker.wire().await;
    torn.write(&[&whole[..], &whole[..20]].concat()).await;
    torn.finish_writing().await;
    let mut answers = 0;
    while torn.read_frame().await.is_some() {
        answers += 1;
    }
    assert!(answers <= 1);
    tidemill_tests::until("the whole one", async || {
        (wire.values("t", 0).await.len() == 1).then_some(())
    })
    .await;
}

/// librdkafka 2.16 sends bytes behind Metadata 13. They are not taken for the next request.
#[tokio::test]
async fn trailing_bytes_are_passed_over() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let (id, whole) = wire.frame(12, &metadata(&["t"], false));
    for trailing in [1, 100] {
        let mut longer = (whole.len() as i32 - 4 + trailing).to_be_bytes().to_vec();
        longer.extend_from_slice(&whole[4..]);
        longer.resize(whole.len() + trailing as usize, 0xff);
        wire.write(&longer).await;
        let answer = wire.receive::<MetadataRequest>(id, 12).await;
        assert_eq!(answer.topics[0].error_code, 0);
    }
    assert!(wire.values("t", 0).await.is_empty());
}

/// One that is refused takes only its own connection with it.
#[tokio::test]
async fn neighbours_do_not_notice() {
    let broker = TestBroker::start().await;
    let kafka = broker.addresses().kafka;
    let mut honest = broker.wire().await;
    honest.must_create("t", 1, &[]).await;
    let attackers: Vec<_> = (0..50)
        .map(|n: u8| {
            tokio::spawn(async move {
                let mut wire = Wire::connect(kafka).await;
                let garbage: Vec<u8> = (0..200).map(|at: u8| at.wrapping_mul(n) ^ n).collect();
                // The peer may close before it has taken everything.
                let _ = wire.try_write(&garbage).await;
                wire
            })
        })
        .collect();
    for n in 0..50 {
        assert_eq!(honest.must_produce("t", 0, &batch(&["a"])).await, n);
    }
    for attacker in attackers {
        attacker.await.unwrap();
    }
    assert_eq!(honest.values("t", 0).await.len(), 50);
}
