use proptest::prelude::*;
use tidemill_records::{
    Compression, EndTransactionMarker, Headers, LeaderEpoch, RecordBatch, RecordBatchBuilder,
};

use super::*;

const ID: ProducerId = ProducerId(9);

fn batch(epoch: i16, sequence: i32, records: usize) -> RecordBatch {
    let builder = RecordBatchBuilder::new(Compression::None);
    fill(
        builder.producer(ID, ProducerEpoch(epoch), Sequence(sequence)),
        records,
    )
}

fn transactional(epoch: i16, sequence: i32) -> RecordBatch {
    let builder = RecordBatchBuilder::new(Compression::None)
        .producer(ID, ProducerEpoch(epoch), Sequence(sequence))
        .transactional();
    fill(builder, 1)
}

fn fill(mut builder: RecordBatchBuilder, records: usize) -> RecordBatch {
    for at in 0..records {
        builder.push(at as i64, None, Some(b"v"), &Headers::default());
    }
    builder.build().expect("a batch")
}

/// A log's worth of producers that hands out offsets.
#[derive(Default)]
struct Log {
    producers: Producers,
    end: i64,
}

impl Log {
    fn check(&self, batch: &RecordBatch) -> Result<Verdict, AppendError> {
        check_data(self.producers.get(ID), batch, true)
    }

    fn apply(&mut self, mut batch: RecordBatch) -> i64 {
        let base = self.end;
        batch.assign(Offset(base), LeaderEpoch(0));
        let control = batch.control_record().expect("a control record");
        self.producers.apply(&batch, control, 1_000, 100);
        self.end = batch.next_offset().0;
        base
    }

    fn append(&mut self, batch: RecordBatch) -> i64 {
        assert_eq!(self.check(&batch).expect("in order"), Verdict::Append);
        self.apply(batch)
    }
}

#[test]
fn the_last_five_batches_are_known_again() {
    let mut log = Log::default();
    for at in 0..6 {
        log.append(batch(0, at * 2, 2));
    }
    for at in 1..6 {
        let Ok(Verdict::Duplicate(mark)) = log.check(&batch(0, at * 2, 2)) else {
            panic!("batch {at} is a duplicate");
        };
        assert_eq!(
            (mark.base_offset, mark.next_offset),
            (i64::from(at) * 2, i64::from(at) * 2 + 2)
        );
    }
    assert!(
        matches!(
            log.check(&batch(0, 0, 2)),
            Err(AppendError::OutOfOrderSequence {
                found: Sequence(0),
                expected: Sequence(12)
            })
        ),
        "the sixth last is forgotten"
    );
    assert!(
        log.check(&batch(0, 10, 1)).is_err(),
        "the same base with another end is no duplicate"
    );
}

#[test]
fn a_gap_is_refused_and_a_new_epoch_begins_at_zero() {
    let mut log = Log::default();
    log.append(batch(3, 0, 1));
    assert!(matches!(
        log.check(&batch(3, 2, 1)),
        Err(AppendError::OutOfOrderSequence {
            expected: Sequence(1),
            ..
        })
    ));
    assert!(matches!(
        log.check(&batch(4, 1, 1)),
        Err(AppendError::OutOfOrderSequence {
            expected: Sequence(0),
            ..
        })
    ));
    log.append(batch(4, 0, 1));
    assert!(matches!(
        log.check(&batch(3, 1, 1)),
        Err(AppendError::InvalidProducerEpoch {
            found: ProducerEpoch(3),
            current: ProducerEpoch(4)
        })
    ));
    log.append(batch(4, 1, 1));
}

#[test]
fn sequences_wrap_and_an_unknown_producer_begins_anywhere() {
    let mut log = Log::default();
    log.append(batch(0, i32::MAX - 1, 2));
    log.append(batch(0, 0, 1));
    assert!(matches!(
        log.check(&batch(0, i32::MAX - 1, 2)),
        Ok(Verdict::Duplicate(_))
    ));
}

#[test]
fn a_transaction_ends_with_its_marker_and_fences_older_coordinators() {
    let mut log = Log::default();
    log.append(transactional(0, 0));
    assert!(matches!(
        log.check(&batch(0, 1, 1)),
        Err(AppendError::InvalidTxnState)
    ));
    assert_eq!(
        log.producers.transactions.last_stable_offset(Offset(1)),
        Offset(0)
    );
    let marker = |coordinator_epoch| EndTransactionMarker { coordinator_epoch };
    let abort = marker(5).abort(ID, ProducerEpoch(0), 7);
    assert!(check_marker(log.producers.get(ID), &abort, 5).is_ok());
    log.apply(abort);
    assert_eq!(
        log.producers.transactions.last_stable_offset(Offset(2)),
        Offset(2)
    );
    assert_eq!(
        log.producers
            .transactions
            .aborted(Offset(0), Offset(2))
            .len(),
        1
    );
    let older = marker(4).commit(ID, ProducerEpoch(0), 7);
    assert!(matches!(
        check_marker(log.producers.get(ID), &older, 4),
        Err(AppendError::TransactionCoordinatorFenced {
            found: 4,
            current: 5
        })
    ));
    log.append(batch(0, 1, 1));
}

#[test]
fn a_marker_of_a_newer_epoch_restarts_the_sequence() {
    let mut log = Log::default();
    log.append(transactional(0, 0));
    log.apply(
        EndTransactionMarker {
            coordinator_epoch: 1,
        }
        .commit(ID, ProducerEpoch(1), 7),
    );
    assert!(matches!(
        log.check(&transactional(1, 1)),
        Err(AppendError::OutOfOrderSequence {
            expected: Sequence(0),
            ..
        })
    ));
    log.append(transactional(1, 0));
}

#[test]
fn silent_producers_are_forgotten_but_never_with_an_open_transaction() {
    let mut log = Log::default();
    log.append(batch(0, 0, 1));
    assert_eq!(log.producers.expire(1_999, 1_000), 0);
    assert_eq!(log.producers.expire(2_000, 1_000), 1);
    log.append(transactional(0, 5));
    assert_eq!(log.producers.expire(i64::MAX, 1_000), 0);
}

#[test]
fn a_flood_of_ids_is_bounded_and_the_newest_stay() {
    let mut producers = Producers::default();
    for id in 0..1_000 {
        let builder = RecordBatchBuilder::new(Compression::None).producer(
            ProducerId(id),
            ProducerEpoch(0),
            Sequence(0),
        );
        producers.apply(&fill(builder, 1), None, id, 64);
        assert!(producers.len() <= 64);
        assert!(producers.get(ProducerId(id)).is_some());
    }
    assert!(producers.get(ProducerId(950)).is_some());
}

proptest! {
    #[test]
    fn snapshots_round_trip(steps in proptest::collection::vec((0i64..4, 0i16..3, 0u8..4), 0..60)) {
        let mut producers = Producers::default();
        let mut end = 0;
        for (id, epoch, kind) in steps {
            let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
            let builder = RecordBatchBuilder::new(Compression::None);
            let marker = EndTransactionMarker { coordinator_epoch: 3 };
            let mut batch = match kind {
                0 => fill(builder.producer(id, epoch, Sequence(end as i32)), 2),
                1 => fill(builder.producer(id, epoch, Sequence(end as i32)).transactional(), 1),
                2 => marker.commit(id, epoch, end),
                _ => marker.abort(id, epoch, end),
            };
            batch.assign(Offset(end), LeaderEpoch(0));
            producers.apply(&batch, batch.control_record().expect("control"), end, 100);
            end = batch.next_offset().0;
        }
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(&Producers::decode(&mut reader).expect("decodes"), &producers);
        reader.finish().expect("all is read");
        if !bytes.is_empty() {
            prop_assert!(Producers::decode(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
        }
    }

    #[test]
    fn hostile_snapshots_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Producers::decode(&mut Reader::new(&bytes));
    }
}
