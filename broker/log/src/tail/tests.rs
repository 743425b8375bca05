use proptest::prelude::*;
use tidemill_records::{Compression, Headers, LeaderEpoch, RecordBatchBuilder};

use super::*;

const SEGMENT: Offset = Offset(0);

fn batch(base: i64, records: usize, value_bytes: usize) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    let value = vec![base as u8; value_bytes];
    for _ in 0..records {
        builder.push(base, None, Some(&value), &Headers::default());
    }
    let mut batch = builder.build().expect("a batch");
    batch.assign(Offset(base), LeaderEpoch(0));
    batch
}

/// A tail with batches of these (records, value bytes), and the batches.
fn filled(shapes: &[(usize, usize)]) -> (Tail, Vec<RecordBatch>) {
    let mut tail = Tail::default();
    let (mut base, mut position) = (0, 0);
    let mut batches = Vec::new();
    for &(records, bytes) in shapes {
        let batch = batch(base, records, bytes);
        tail.push(&batch, SEGMENT, position, 0);
        base = batch.next_offset().0;
        position += batch.size_bytes() as u32;
        batches.push(batch);
    }
    (tail, batches)
}

fn joined(chunks: &[Bytes]) -> Vec<u8> {
    chunks
        .iter()
        .flat_map(|chunk| chunk.iter().copied())
        .collect()
}

/// What a read must give, found the slow way.
fn expected(batches: &[RecordBatch], from: i64, up_to: i64, max: usize, one: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for batch in batches {
        let wanted = batch.next_offset().0 > from;
        let fits = bytes.len() + batch.size_bytes() <= max || (bytes.is_empty() && one);
        if wanted && (batch.next_offset().0 > up_to || !fits) {
            break;
        }
        if wanted {
            bytes.extend_from_slice(&batch.to_bytes());
        }
    }
    bytes
}

proptest! {
    #[test]
    fn reads_are_what_a_scan_of_the_batches_gives(
        shapes in proptest::collection::vec((1usize..4, prop_oneof![1usize..300, 15_000usize..18_000]), 1..40),
        reads in proptest::collection::vec((0i64..80, 0i64..90, 0usize..60_000, any::<bool>()), 1..10),
        evicted in 0i64..40,
    ) {
        let (mut tail, batches) = filled(&shapes);
        let total: usize = batches.iter().map(|batch| batch.size_bytes()).sum();
        prop_assert_eq!(tail.bytes(), total);
        tail.freeze();
        let freed = tail.evict(Offset(evicted));
        prop_assert_eq!(tail.bytes(), total - freed);
        let end = batches.last().map_or(0, |batch| batch.next_offset().0);
        for (from, up_to, max, one) in reads {
            let from = from.min(end - 1);
            let read = tail.read(Offset(from), Offset(up_to), max, one);
            let Some(start) = tail.start() else {
                prop_assert!(read.is_none());
                continue;
            };
            prop_assert_eq!(read.is_some(), from >= start.0);
            if let Some(read) = read {
                let bytes = expected(&batches, from, up_to, max, one);
                prop_assert_eq!(read.bytes, bytes.len());
                prop_assert_eq!(joined(&read.chunks), bytes);
            }
        }
    }

    #[test]
    fn truncation_keeps_what_is_before(
        shapes in proptest::collection::vec((1usize..3, prop_oneof![1usize..300, 16_000usize..17_000]), 1..30),
        keep in 0usize..30,
    ) {
        let (mut tail, batches) = filled(&shapes);
        let keep = keep.min(batches.len());
        let end = batches[..keep].last().map_or(Offset(0), |batch| batch.next_offset());
        tail.truncate(end);
        let kept: usize = batches[..keep].iter().map(|batch| batch.size_bytes()).sum();
        prop_assert_eq!(tail.bytes(), kept);
        if keep > 0 {
            let read = tail.read(Offset(0), Offset(i64::MAX), usize::MAX, true).expect("in memory");
            prop_assert_eq!(read.bytes, kept);
            prop_assert_eq!(read.next, Some(end));
        }
    }

    #[test]
    fn the_drain_gets_every_byte_once_in_order(
        shapes in proptest::collection::vec((1usize..3, prop_oneof![1usize..300, 16_000usize..17_000]), 1..40),
        durables in proptest::collection::vec((0i64..90, 1usize..40_000), 1..10),
    ) {
        let (mut tail, batches) = filled(&shapes);
        let mut file = Vec::new();
        for (durable, run) in durables.into_iter().chain([(i64::MAX, usize::MAX)]) {
            for chunk in tail.undrained(SEGMENT, file.len() as u32, Offset(durable), run) {
                prop_assert_eq!(chunk.position as usize, file.len());
                prop_assert!(chunk.next.0 <= durable);
                file.extend_from_slice(&chunk.head);
                file.extend_from_slice(&chunk.body);
                prop_assert_eq!(chunk.end_position() as usize, file.len());
            }
        }
        prop_assert_eq!(file, joined(&batches.iter().map(|batch| batch.to_bytes()).collect::<Vec<_>>()));
    }
}

#[test]
fn small_batches_share_a_buffer_and_large_ones_their_frame() {
    let (mut tail, batches) = filled(&[(1, 100), (1, 100), (1, 40_000), (1, 100)]);
    let read = tail
        .read(Offset(0), Offset(9), usize::MAX, true)
        .expect("in memory");
    assert_eq!(
        read.chunks.len(),
        4,
        "two together, a header and its body, one"
    );
    assert_eq!(
        read.chunks[2].as_ptr(),
        batches[2].body().as_ptr(),
        "not copied"
    );
}

#[test]
fn a_batch_that_pins_a_much_larger_frame_is_copied() {
    let mut tail = Tail::default();
    let batch = batch(0, 1, 20_000);
    tail.push(&batch, SEGMENT, 0, 200_000);
    let read = tail
        .read(Offset(0), Offset(9), usize::MAX, true)
        .expect("in memory");
    assert_eq!(read.chunks.len(), 1);
    assert_eq!(joined(&read.chunks), batch.to_bytes());
}

#[test]
fn appending_goes_on_while_readers_hold_chunks() {
    let mut tail = Tail::default();
    let mut held = Vec::new();
    for base in 0..2_000 {
        let batch = batch(base, 1, 30);
        tail.push(&batch, SEGMENT, base as u32 * batch.size_bytes() as u32, 0);
        let read = tail
            .read(Offset(base), Offset(base + 1), 1 << 20, true)
            .expect("in memory");
        assert_eq!(joined(&read.chunks), batch.to_bytes());
        held.extend(read.chunks);
    }
    let all = tail
        .read(Offset(0), Offset(2_000), usize::MAX, true)
        .expect("in memory");
    assert_eq!(joined(&all.chunks), joined(&held));
}

#[test]
fn segments_do_not_share_a_chunk() {
    let mut tail = Tail::default();
    tail.push(&batch(0, 1, 10), Offset(0), 0, 0);
    tail.push(&batch(1, 1, 10), Offset(1), 0, 0);
    assert_eq!(tail.undrained(Offset(0), 0, Offset(9), 1 << 20).len(), 1);
    let second = tail.undrained(Offset(1), 0, Offset(9), 1 << 20);
    assert_eq!((second.len(), second[0].base), (1, Offset(1)));
}
