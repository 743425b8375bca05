use proptest::prelude::*;
use tidemill_records::{
    Compression, Headers, ProducerEpoch, ProducerId, RecordBatchBuilder, Sequence,
};
use tidemill_storage::fs::{SimFaults, SimFs};

use super::*;
use crate::testing::{Bench, append, batch, dir_config, read_all, sequenced};

/// A partition's state after some appends, rolls and trims.
fn entry(number: i32, steps: &[(u8, i64)]) -> PartitionEntry {
    let mut state = State::new(Arc::new(LogConfig::default()), Offset::ZERO, 5);
    for (kind, value) in steps {
        match kind {
            0 => state.roll(state.log_end, *value),
            1 => {
                let start = Offset(state.log_end.0 * (value % 10) / 10);
                state.advance_start(start, start);
            }
            _ => {
                let builder = RecordBatchBuilder::new(Compression::None);
                let id = ProducerId(value % 3);
                let sequence = Sequence(*value as i32);
                let mut builder = builder.producer(id, ProducerEpoch(0), sequence);
                if *kind == 2 {
                    builder = builder.transactional();
                }
                builder.push(*value, None, Some(&[7; 100]), &Headers::default());
                let mut batch = builder.build().expect("a batch");
                batch.assign(state.log_end, LeaderEpoch(*value as i32 / 10));
                state.apply(&batch, None, *value, 100);
            }
        }
    }
    state.last_lsn = Lsn(steps.len() as u64);
    state.unlogged = number % 2 == 0;
    state.offline = [
        None,
        Some(OfflineCause::SegmentMissing { base: Offset(3) }),
        Some(OfflineCause::SegmentShort {
            base: Offset(3),
            bytes: 1,
            synced: 2,
        }),
        Some(OfflineCause::Gap {
            entry: Offset(9),
            end: Offset(4),
        }),
        Some(OfflineCause::Unusable),
    ][number as usize % 5];
    PartitionEntry {
        partition: TopicPartition::new(format!("topic-{}", number / 2), PartitionId(number)),
        topic_id: TopicId(Uuid::from_u128(77)),
        high_watermark: state.log_end,
        state,
    }
}

fn encode(from: Lsn, entries: &[PartitionEntry]) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.u64(from.0);
    payload.count(entries.len());
    for entry in entries {
        let (partition, state) = (&entry.partition, &entry.state);
        encode_entry(
            partition,
            entry.topic_id,
            entry.high_watermark,
            state,
            &mut payload,
        );
    }
    payload
}

proptest! {
    #[test]
    fn checkpoints_round_trip(
        partitions in proptest::collection::vec(proptest::collection::vec((0u8..6, 0i64..100), 0..30), 0..8),
    ) {
        let entries = partitions.iter().zip(0..).map(|(steps, at)| entry(at, steps));
        let entries: Vec<_> = entries.collect();
        let payload = encode(Lsn(9), &entries);
        let config = Arc::new(LogConfig::default());
        let (from, decoded) = decode(&payload, &config).expect("decodes");
        prop_assert_eq!(from, Lsn(9));
        prop_assert_eq!(encode(from, &decoded), payload.clone());
        for (decoded, entry) in decoded.iter().zip(&entries) {
            prop_assert_eq!(&decoded.partition, &entry.partition);
            prop_assert_eq!(decoded.state.log_start, entry.state.log_start);
            prop_assert_eq!(decoded.state.log_end, entry.state.log_end);
            prop_assert_eq!(&decoded.state.epochs, &entry.state.epochs);
            prop_assert_eq!(&decoded.state.producers, &entry.state.producers);
            prop_assert_eq!(decoded.state.offline, entry.state.offline);
            prop_assert_eq!(decoded.state.unlogged, entry.state.unlogged);
        }
        prop_assert!(decode(&payload[..payload.len() - 1], &config).is_err());
    }

    #[test]
    fn hostile_checkpoints_are_refused_without_panic(
        steps in proptest::collection::vec((0u8..6, 0i64..100), 0..20),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut payload = encode(Lsn(9), &[entry(1, &steps)]);
        for (at, byte) in flips {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let _ = decode(&payload, &Arc::new(LogConfig::default()));
    }
}

#[test]
fn ten_thousand_partitions_are_compact() {
    let steps: Vec<_> = (0..3).map(|at| (5, at)).collect();
    let mut entry = entry(1, &steps);
    entry.state.producers = Producers::default();
    let bytes = encode(Lsn(0), &[entry]).len();
    assert!(bytes < 250, "{bytes} bytes a partition");
}

/// The checkpoint is replaced after the files are synced, and the write-ahead log recycled after that: wherever the
/// power goes in between, one of them holds what was acknowledged.
#[tokio::test]
async fn a_checkpoint_that_ends_anywhere_loses_nothing() {
    for seed in 0..4 {
        for operation in 1.. {
            let bench = Bench::with(SimFs::new(seed), dir_config());
            let log = bench.create("t");
            let mut appended = Vec::new();
            for _ in 0..30 {
                let mut batch = batch(1, 300);
                let info = bench.append(&log, batch.clone()).await;
                batch.assign(info.base_offset, LeaderEpoch(0));
                appended.push(batch);
            }
            bench.fs.set_faults(SimFaults {
                crash_at_op: Some(bench.fs.ops() + operation),
                ..SimFaults::default()
            });
            let ended = bench.dir.checkpoint().await.is_ok() && !bench.fs.is_crashed();
            drop(log);
            let bench = bench.crash();
            let found = read_all(&bench.get("t"), Offset(0), 1000);
            assert!(found == appended, "seed {seed}, operation {operation}");
            if ended {
                break;
            }
        }
    }
}

/// No replay tells what producers did before the checkpoint.
#[tokio::test]
async fn a_checkpoint_remembers_what_producers_did() {
    let bench = Bench::new();
    let log = bench.create("t");
    for at in 0..3 {
        bench.append(&log, sequenced(7, at, 1)).await;
    }
    bench.dir.checkpoint().await.expect("a checkpoint");
    drop(log);
    let bench = bench.crash();
    assert_eq!(bench.report.replayed_entries, 0);
    let log = bench.get("t");
    let again = append(&log, sequenced(7, 2, 1));
    assert!(again.duplicate);
    assert_eq!(again.base_offset, Offset(2));
    assert_eq!(append(&log, sequenced(7, 3, 1)).base_offset, Offset(3));
}
