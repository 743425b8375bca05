//! Idempotent producers: their sequences, their retries, their epochs.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::produce::{PartitionProduceResponse, ProduceRequest};
use tidemill_tests::records::sequenced;
use tidemill_tests::requests::{PRODUCE, bytes_of, produce};
use tidemill_tests::{TestBroker, Wire};

/// Sends all batches before it looks at the first answer.
async fn pipelined(
    wire: &mut Wire,
    id: i64,
    epoch: i16,
    sequences: &[i32],
) -> Vec<PartitionProduceResponse> {
    let mut sent = Vec::new();
    for sequence in sequences {
        let value = format!("{epoch}/{sequence}");
        let batch = sequenced(id, epoch, *sequence, &[&value]);
        sent.push(wire.send(PRODUCE, &produce("t", 0, bytes_of(&batch))).await);
    }
    let mut answers = Vec::new();
    for correlation_id in sent {
        let answer = wire
            .receive::<ProduceRequest>(correlation_id, PRODUCE)
            .await;
        answers.push(answer.responses[0].partition_responses[0].clone());
    }
    answers
}

fn outcomes(answers: &[PartitionProduceResponse]) -> Vec<(i16, i64)> {
    answers
        .iter()
        .map(|answer| (answer.error_code, answer.base_offset))
        .collect()
}

#[tokio::test]
async fn five_in_flight_and_all_sent_again_are_written_once() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = wire.producer_id().await;
    let first = pipelined(&mut wire, id, 0, &[0, 1, 2, 3, 4]).await;
    assert_eq!(outcomes(&first), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    // As after a broken connection: the same five, on another one.
    let mut other = broker.wire().await;
    let again = pipelined(&mut other, id, 0, &[0, 1, 2, 3, 4]).await;
    assert_eq!(
        outcomes(&again),
        outcomes(&first),
        "duplicates are answered as the originals were"
    );
    // Part of the window again, then on.
    let mixed = pipelined(&mut wire, id, 0, &[3, 4, 5, 6]).await;
    assert_eq!(outcomes(&mixed), [(0, 3), (0, 4), (0, 5), (0, 6)]);
    let values = wire.values("t", 0).await;
    assert_eq!(values, ["0/0", "0/1", "0/2", "0/3", "0/4", "0/5", "0/6"]);
}

#[tokio::test]
async fn a_gap_is_out_of_order_and_nothing_behind_it_is_written() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = wire.producer_id().await;
    let answers = pipelined(&mut wire, id, 0, &[0, 2, 3]).await;
    let out_of_order = (ErrorCode::OutOfOrderSequenceNumber.code(), -1);
    assert_eq!(out_of_order.0, 45);
    assert_eq!(outcomes(&answers), [(0, 0), out_of_order, out_of_order]);
    let answers = pipelined(&mut wire, id, 0, &[1, 2, 3]).await;
    assert_eq!(outcomes(&answers), [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(wire.values("t", 0).await, ["0/0", "0/1", "0/2", "0/3"]);
}

#[tokio::test]
async fn what_left_the_window_of_five_is_refused_and_never_written_twice() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = wire.producer_id().await;
    pipelined(&mut wire, id, 0, &[0, 1, 2, 3, 4, 5]).await;
    let answer = pipelined(&mut wire, id, 0, &[0]).await;
    let code = ErrorCode::from_code(answer[0].error_code);
    let refusals = [
        ErrorCode::OutOfOrderSequenceNumber,
        ErrorCode::DuplicateSequenceNumber,
    ];
    assert!(
        code.is_some_and(|code| refusals.contains(&code)),
        "{answer:?}"
    );
    assert_eq!(wire.values("t", 0).await.len(), 6);
}

#[tokio::test]
async fn a_new_epoch_starts_at_zero_and_ends_the_old_one() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = wire.producer_id().await;
    pipelined(&mut wire, id, 0, &[0, 1]).await;
    let wrong = pipelined(&mut wire, id, 1, &[2]).await;
    assert_eq!(
        wrong[0].error_code, 45,
        "a new epoch begins with sequence 0"
    );
    let right = pipelined(&mut wire, id, 1, &[0, 1]).await;
    assert_eq!(outcomes(&right), [(0, 2), (0, 3)]);
    let old = pipelined(&mut wire, id, 0, &[2]).await;
    assert_eq!(old[0].error_code, ErrorCode::InvalidProducerEpoch.code());
    assert_eq!(wire.values("t", 0).await, ["0/0", "0/1", "1/0", "1/1"]);
}

#[tokio::test]
async fn sequences_wrap_behind_the_largest_number() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = wire.producer_id().await;
    // A producer that the log has forgotten may go on anywhere.
    let batch = sequenced(id, 0, i32::MAX - 1, &["a", "b"]);
    assert_eq!(wire.must_produce("t", 0, &batch).await, 0);
    let wrapped = sequenced(id, 0, 0, &["c"]);
    assert_eq!(wire.must_produce("t", 0, &wrapped).await, 2);
    assert_eq!(
        wire.must_produce("t", 0, &wrapped).await,
        2,
        "and is recognised there too"
    );
}

#[tokio::test]
async fn producers_do_not_know_each_other() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 2, &[]).await;
    let (one, other) = (wire.producer_id().await, wire.producer_id().await);
    assert_ne!(one, other);
    assert_eq!(
        outcomes(&pipelined(&mut wire, one, 0, &[0]).await),
        [(0, 0)]
    );
    assert_eq!(
        outcomes(&pipelined(&mut wire, other, 0, &[0]).await),
        [(0, 1)]
    );
    // Nor do partitions.
    let batch = sequenced(one, 0, 0, &["elsewhere"]);
    assert_eq!(wire.must_produce("t", 1, &batch).await, 0);
    // Nobody gets an id twice, not even after a restart.
    let mut broker = broker;
    broker.restart().await;
    let third = broker.wire().await.producer_id().await;
    assert!(third > one.max(other), "{third} after {one} and {other}");
}

#[tokio::test]
async fn a_retry_is_recognised_after_a_restart() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let id = wire.producer_id().await;
    pipelined(&mut wire, id, 0, &[0, 1, 2]).await;
    broker.restart().await;
    let mut wire = broker.wire().await;
    let again = pipelined(&mut wire, id, 0, &[0, 1, 2, 3]).await;
    assert_eq!(outcomes(&again), [(0, 0), (0, 1), (0, 2), (0, 3)]);
    assert_eq!(wire.values("t", 0).await.len(), 4);
}

/// There are no transactions yet: their producers must not believe that something will commit their records.
#[tokio::test]
async fn transactions_are_refused() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let batch = sequenced(wire.producer_id().await, 0, 0, &["x"]);
    let mut request = produce("t", 0, bytes_of(&batch));
    request.transactional_id = Some("tx".into());
    let answer = wire.call(PRODUCE, &request).await;
    assert_ne!(answer.responses[0].partition_responses[0].error_code, 0);
    assert!(wire.values("t", 0).await.is_empty());
}
