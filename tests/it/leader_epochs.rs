//! Leader epochs: what a client believes is checked, and they never go down.

use tidemill_protocol::ErrorCode;
use tidemill_records::{BatchRules, RecordBatch};
use tidemill_tests::records::batch;
use tidemill_tests::requests::{FETCH, fetch};
use tidemill_tests::{TestBroker, Wire};

async fn epoch_of(wire: &mut Wire, topic: &str) -> i32 {
    wire.metadata(&[topic], false).await.topics[0].partitions[0].leader_epoch
}

/// Clients compare epochs by the topic's name and take what is lower for stale metadata.
#[tokio::test]
async fn a_topic_that_is_made_again_does_not_begin_below_its_predecessor() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    let mut last = -1;
    for round in 0..4 {
        wire.must_create("t", 1, &[]).await;
        let epoch = epoch_of(&mut wire, "t").await;
        assert!(epoch > last, "round {round}: {epoch} after {last}");
        wire.must_produce("t", 0, &batch(&["x"])).await;
        let stored = wire.fetch("t", 0, 0).await.records.unwrap().into_bytes();
        let (stored, _) = RecordBatch::parse(&stored, BatchRules::Stored).unwrap();
        assert_eq!(
            stored.leader_epoch().0,
            epoch,
            "batches carry the epoch of their append"
        );
        assert_eq!(wire.delete("t").await, 0);
        last = epoch;
        if round == 1 {
            broker.restart().await;
            wire = broker.wire().await;
        }
    }
}

#[tokio::test]
async fn the_epoch_that_a_client_believes_in_is_checked() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    assert_eq!(wire.delete("t").await, 0);
    wire.must_create("t", 1, &[]).await;
    let current = epoch_of(&mut wire, "t").await;
    let expected = [
        (-1, 0),
        (current, 0),
        (current - 1, ErrorCode::FencedLeaderEpoch.code()),
        (current + 1, ErrorCode::UnknownLeaderEpoch.code()),
    ];
    for (believed, code) in expected {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = believed;
        let answer = wire.call(FETCH, &request).await;
        assert_eq!(
            answer.responses[0].partitions[0].error_code, code,
            "{believed}"
        );
    }
}
