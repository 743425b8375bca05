use proptest::prelude::*;
use tidemill_records::{Compression, Headers, RecordBatch, RecordBatchBuilder};

use super::*;

fn identity(base: Offset, end: Offset) -> ExtentIdentity {
    ExtentIdentity {
        topic: TopicId(Uuid::from_u128(7)),
        partition: PartitionId(3),
        base,
        end,
    }
}

fn batch(base: i64, timestamp: i64, value_bytes: usize) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    builder.push(
        timestamp,
        None,
        Some(&vec![7; value_bytes]),
        &Headers::default(),
    );
    let mut batch = builder.build().expect("a batch");
    batch.assign(Offset(base), LeaderEpoch((base / 4) as i32));
    batch
}

/// The footer of batches with these timestamps and sizes, and their bytes.
fn footer_of(batches: &[(i64, usize)], piece_bytes: usize) -> (Footer, Vec<u8>) {
    let mut builder = FooterBuilder::new(Offset(0));
    let mut bytes = Vec::new();
    for (at, (timestamp, size)) in batches.iter().enumerate() {
        let batch = batch(at as i64, *timestamp, *size);
        builder.push_batch(&batch);
        bytes.extend_from_slice(&batch.to_bytes());
    }
    bytes
        .chunks(piece_bytes)
        .for_each(|piece| builder.push_bytes(piece));
    let identity = identity(Offset(0), builder.end());
    let epochs = builder.epochs().to_vec();
    let footer = builder.finish(
        identity,
        epochs,
        Vec::new(),
        Bytes::from_static(b"producers"),
    );
    (footer, bytes)
}

#[test]
fn reading_begins_at_a_batch_that_is_not_after_the_offset() {
    let sizes: Vec<_> = (0..40).map(|at| (1_000 + at, 10_000)).collect();
    let (footer, bytes) = footer_of(&sizes, 1_000);
    assert!(footer.index.len() > 3, "an entry about every 64 KiB");
    for offset in 0..40 {
        let position = footer.position_of(Offset(offset)) as usize;
        let header = BatchHeader::read(&bytes[position..]).expect("a batch begins there");
        assert!(header.base_offset() <= Offset(offset));
        assert!(
            header.base_offset() > Offset(offset - 8),
            "and not far before"
        );
    }
}

#[test]
fn no_record_before_the_indexed_start_is_as_late_as_the_time() {
    // Timestamps that go up and down.
    let stamps: Vec<_> = (0..60).map(|at| ((at * 37) % 50, 9_000)).collect();
    let (footer, _) = footer_of(&stamps, 77_777);
    for time in 0..50 {
        let start = footer.offset_before_time(time);
        let first = stamps
            .iter()
            .position(|(stamp, _)| *stamp >= time)
            .expect("one is");
        assert!(start <= Offset(first as i64), "{time}");
    }
    assert_eq!(footer.newest.timestamp, 49);
}

#[test]
fn a_changed_block_is_noticed() {
    let (footer, mut bytes) = footer_of(&[(1, 100_000), (2, 50_000)], 5);
    for (at, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
        assert_eq!(footer.check_block(at, block), Ok(()));
    }
    bytes[BLOCK_BYTES] ^= 1;
    let blocks: Vec<_> = bytes.chunks(BLOCK_BYTES).collect();
    assert_eq!(footer.check_block(0, blocks[0]), Ok(()));
    let fault = footer
        .check_block(1, blocks[1])
        .expect_err("a bit is flipped");
    assert!(matches!(fault, FormatError::Checksum { .. }));
    assert_eq!(footer.check_block(9, blocks[1]), Err(FormatError::Range));
}

#[test]
fn aborted_transactions_are_found_where_they_overlap() {
    let (mut footer, _) = footer_of(&[(1, 10); 12], 1_000);
    let aborted = |first, last| Aborted {
        producer_id: ProducerId(first),
        first: Offset(first),
        last: Offset(last),
    };
    footer.aborted = vec![aborted(0, 3), aborted(2, 9)];
    let found = |from, to| -> Vec<i64> {
        let found = footer.aborted_in(Offset(from), Offset(to));
        found.map(|entry| entry.first.0).collect()
    };
    assert_eq!(found(0, 2), [0]);
    assert_eq!(found(3, 4), [0, 2]);
    assert_eq!(found(4, 5), [2]);
    assert_eq!(found(10, 12), [] as [i64; 0]);
}

/// These bytes are in buckets out there: a change here makes them unreadable.
#[test]
fn the_bytes_stay_as_they_are() {
    let footer = Footer {
        identity: identity(Offset(5), Offset(9)),
        length: 70_000,
        newest: MaxTimestamp {
            timestamp: 1_357_034_400_000,
            offset: Offset(8),
        },
        epochs: vec![EpochStart {
            epoch: LeaderEpoch(2),
            start: Offset(0),
        }],
        index: vec![IndexEntry {
            offset: Offset(5),
            position: 0,
            newest_before: -1,
        }],
        aborted: vec![Aborted {
            producer_id: ProducerId(1),
            first: Offset(5),
            last: Offset(6),
        }],
        block_crcs: vec![0x0102_0304, 0x0506_0708],
        producers: Bytes::from_static(b"p"),
    };
    let (bytes, crc) = footer.encode();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = concat!(
        "544d4654",
        "0100",
        "00000000000000000000000000000007",
        "03000000",
        "0500000000000000",
        "0900000000000000",
        "70110100",
        "00a98df53b010000",
        "0800000000000000",
        "01000000",
        "02000000",
        "0000000000000000",
        "01000000",
        "0500000000000000",
        "00000000",
        "ffffffffffffffff",
        "01000000",
        "0100000000000000",
        "0500000000000000",
        "0600000000000000",
        "02000000",
        "04030201",
        "08070605",
        "01000000",
        "70",
    );
    assert_eq!(&hex[..hex.len() - 8], golden);
    assert_eq!(bytes[bytes.len() - 4..], crc.to_le_bytes());
    assert_eq!(Footer::decode(&bytes.into(), crc), Ok(footer));
}

#[test]
fn a_footer_knows_its_batches_however_they_are_cut() {
    let (footer, bytes) = footer_of(&[(1, 50_000), (2, 50_000), (3, 50_000)], 1_000);
    let bytes = Bytes::from(bytes);
    for piece in [7_777, BLOCK_BYTES, bytes.len()] {
        let pieces: Vec<Bytes> = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        assert!(footer.is_of(&pieces), "pieces of {piece}");
        assert!(!footer.is_of(&pieces[1..]), "cut");
    }
    for at in [0, BLOCK_BYTES, bytes.len() - 1] {
        let mut rotten = bytes.to_vec();
        rotten[at] ^= 1;
        assert!(!footer.is_of(&[rotten.into()]), "byte {at}");
    }
}

proptest! {
    #[test]
    fn footers_round_trip_and_no_byte_of_them_may_change(
        batches in proptest::collection::vec((0i64..1_000, 0usize..40_000), 1..20),
        piece in 1usize..100_000,
        flip in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let (footer, _) = footer_of(&batches, piece);
        let (bytes, crc) = footer.encode();
        prop_assert_eq!(Footer::decode(&bytes.clone().into(), crc), Ok(footer));
        let at = flip.index(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        prop_assert!(Footer::decode(&flipped.into(), crc).is_err());
        prop_assert!(Footer::decode(&bytes[..at].to_vec().into(), crc).is_err());
        prop_assert!(Footer::decode(&bytes.into(), crc ^ 1).is_err(), "another footer than is expected");
    }

    #[test]
    fn hostile_bytes_with_a_right_checksum_are_refused_without_panic(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &noise].concat();
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        let _ = Footer::decode(&bytes.into(), crc);
    }
}
