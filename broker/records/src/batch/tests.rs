use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::builder::RecordBatchBuilder;
use crate::compression::Compression;
use crate::header::{
    AT_BASE_SEQUENCE, AT_LAST_OFFSET_DELTA, AT_LENGTH, AT_MAGIC, AT_PRODUCER_EPOCH, AT_PRODUCER_ID,
    AT_RECORD_COUNT, CONTROL, HeaderFault, TRANSACTIONAL, TimestampType,
};
use crate::ids::{ProducerEpoch, ProducerId, Sequence};
use crate::record::{DecodeLimit, Headers};

const BOTH: [BatchRules; 2] = [BatchRules::Produced, BatchRules::Stored];

/// A batch of `count` records.
fn batch(count: usize) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None).producer(
        ProducerId(7),
        ProducerEpoch(0),
        Sequence(0),
    );
    for at in 0..count {
        let value = format!("value {at}");
        builder.push(
            1000 + at as i64,
            Some(b"key"),
            Some(value.as_bytes()),
            &Headers::default(),
        );
    }
    builder.build().expect("a batch")
}

/// The batch of three records with fields overwritten, and a CRC that says so.
fn with(fields: &[(usize, &[u8])]) -> Bytes {
    let mut bytes = batch(3).to_bytes().to_vec();
    for (at, field) in fields {
        bytes[*at..*at + field.len()].copy_from_slice(field);
    }
    let crc = crc_fast::crc32_iscsi(&bytes[CRC_FROM..]);
    bytes[AT_CRC..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

fn parse(bytes: &Bytes, rules: BatchRules) -> Result<RecordBatch, BatchError> {
    RecordBatch::parse(bytes, rules).map(|(batch, _)| batch)
}

#[test]
fn every_cut_is_truncated_and_says_what_is_needed() {
    let whole = batch(3).to_bytes();
    for rules in BOTH {
        for cut in 0..whole.len() {
            let needed = if cut < HEADER_BYTES {
                HEADER_BYTES
            } else {
                whole.len()
            };
            let error = BatchError::Truncated {
                needed,
                available: cut,
            };
            assert_eq!(parse(&whole.slice(..cut), rules), Err(error));
        }
    }
}

#[test]
fn every_flipped_bit_under_the_crc_is_found() {
    let whole = batch(3).to_bytes();
    for bit in AT_CRC * 8..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = parse(&bytes.into(), BatchRules::Stored).expect_err("a flipped bit");
        // Some of them break the header's consistency too, which is looked at first.
        assert!(
            matches!(error, BatchError::Crc { .. } | BatchError::Header(_)),
            "{bit}: {error}"
        );
    }
}

#[test]
fn lengths_and_formats_that_cannot_be_are_corrupt_not_incomplete() {
    let length = |length: i32| with(&[(AT_LENGTH, &length.to_be_bytes())]);
    for rules in BOTH {
        for short in [i32::MIN, -1, 0, 48] {
            let error = BatchError::Header(HeaderFault::Length(short));
            assert_eq!(parse(&length(short), rules), Err(error));
        }
        assert!(matches!(
            parse(&length(i32::MAX), rules),
            Err(BatchError::Truncated { .. })
        ));
        assert_eq!(
            parse(&length(49), rules).map_err(|e| matches!(e, BatchError::Crc { .. })),
            Err(true)
        );
        let magic = |magic: i8| parse(&with(&[(AT_MAGIC, &magic.to_be_bytes())]), rules);
        assert_eq!(magic(0), Err(BatchError::UnsupportedMagic(0)));
        assert_eq!(magic(1), Err(BatchError::UnsupportedMagic(1)));
        assert_eq!(magic(3), Err(HeaderFault::Magic(3).into()));
        assert_eq!(magic(-1), Err(HeaderFault::Magic(-1).into()));
        // A file that was made longer and never written.
        let zeros = Bytes::from_static(&[0; 4096]);
        assert_eq!(parse(&zeros, rules), Err(HeaderFault::Length(0).into()));
    }
}

#[test]
fn offsets_and_counts_must_agree() {
    type Expected = (Result<(), HeaderFault>, Result<(), HeaderFault>);
    let check = |base: i64, delta: i32, count: i32, (produced, stored): Expected| {
        let bytes = with(&[
            (AT_BASE_OFFSET, &base.to_be_bytes()),
            (AT_LAST_OFFSET_DELTA, &delta.to_be_bytes()),
            (AT_RECORD_COUNT, &count.to_be_bytes()),
        ]);
        let found = BOTH.map(|rules| parse(&bytes, rules).map(|_| ()));
        let expected = [produced, stored].map(|result| result.map_err(BatchError::from));
        assert_eq!(found, expected, "base {base}, delta {delta}, count {count}");
    };
    let both = |fault| (Err(fault), Err(fault));
    check(0, 2, 3, (Ok(()), Ok(())));
    check(
        0,
        3,
        3,
        (Err(HeaderFault::Count { count: 3, delta: 3 }), Ok(())),
    );
    check(
        0,
        2,
        0,
        (Err(HeaderFault::Count { count: 0, delta: 2 }), Ok(())),
    );
    check(0, 1, 3, both(HeaderFault::Count { count: 3, delta: 1 }));
    check(
        0,
        2,
        -1,
        both(HeaderFault::Count {
            count: -1,
            delta: 2,
        }),
    );
    check(
        0,
        i32::MAX,
        i32::MIN,
        both(HeaderFault::Count {
            count: i32::MIN,
            delta: i32::MAX,
        }),
    );
    check(0, -1, 0, both(HeaderFault::Offsets { base: 0, delta: -1 }));
    check(5, 2, 3, (Err(HeaderFault::BaseOffset(5)), Ok(())));
    check(-1, 2, 3, both(HeaderFault::Offsets { base: -1, delta: 2 }));
    check(
        i64::MAX - 3,
        2,
        3,
        (Err(HeaderFault::BaseOffset(i64::MAX - 3)), Ok(())),
    );
    check(
        i64::MAX - 2,
        2,
        3,
        both(HeaderFault::Offsets {
            base: i64::MAX - 2,
            delta: 2,
        }),
    );
}

#[test]
fn attributes_are_held_to_what_they_mean() {
    let check = |attributes: i16, rules| {
        parse(&with(&[(AT_ATTRIBUTES, &attributes.to_be_bytes())]), rules).map(|_| ())
    };
    for rules in BOTH {
        for codec in 0..5 {
            assert_eq!(check(codec, rules), Ok(()));
        }
        for codec in 5..8 {
            assert_eq!(
                check(codec, rules),
                Err(HeaderFault::Codec(codec as u8).into())
            );
        }
        assert_eq!(check(TRANSACTIONAL, rules), Ok(()));
    }
    let produced = |attributes| check(attributes, BatchRules::Produced);
    assert_eq!(produced(CONTROL), Err(HeaderFault::Control.into()));
    assert_eq!(
        produced(LOG_APPEND_TIME),
        Err(HeaderFault::LogAppendTime.into())
    );
    for unused in 6..16 {
        let bit = (1u16 << unused) as i16;
        assert_eq!(produced(bit), Err(HeaderFault::Attributes(bit).into()));
        assert_eq!(
            check(bit, BatchRules::Stored),
            Ok(()),
            "a newer broker may have a use for it"
        );
    }
}

#[test]
fn producer_fields_come_together() {
    let check = |id: i64, epoch: i16, sequence: i32, attributes: i16, rules| {
        let fields: [(usize, &[u8]); 4] = [
            (AT_PRODUCER_ID, &id.to_be_bytes()),
            (AT_PRODUCER_EPOCH, &epoch.to_be_bytes()),
            (AT_BASE_SEQUENCE, &sequence.to_be_bytes()),
            (AT_ATTRIBUTES, &attributes.to_be_bytes()),
        ];
        parse(&with(&fields), rules).map(|_| ())
    };
    for (id, epoch, sequence) in [(-2, 0, 0), (7, -1, 0), (7, 0, -1)] {
        let fault = HeaderFault::Producer {
            id,
            epoch,
            sequence,
        };
        assert_eq!(
            check(id, epoch, sequence, 0, BatchRules::Produced),
            Err(fault.into())
        );
        assert_eq!(check(id, epoch, sequence, 0, BatchRules::Stored), Ok(()));
    }
    assert_eq!(
        check(-1, -1, 0, 0, BatchRules::Produced),
        Ok(()),
        "some clients leave the sequence 0"
    );
    assert_eq!(
        check(-1, -1, -1, TRANSACTIONAL, BatchRules::Produced),
        Err(HeaderFault::Transactional.into()),
    );
}

#[test]
fn assigning_changes_place_and_nothing_else() {
    let before = batch(3);
    let mut after = before.clone();
    after.assign(Offset(1000), LeaderEpoch(9));
    assert_eq!(
        (after.base_offset(), after.last_offset()),
        (Offset(1000), Offset(1002))
    );
    assert_eq!(
        (after.next_offset(), after.leader_epoch()),
        (Offset(1003), LeaderEpoch(9))
    );
    assert_eq!(
        parse(&after.to_bytes(), BatchRules::Stored).as_ref(),
        Ok(&after)
    );
    after.assign(before.base_offset(), before.leader_epoch());
    assert_eq!(after, before);
}

#[test]
#[should_panic(expected = "does not run out of offsets")]
fn offsets_do_not_run_over() {
    batch(3).assign(Offset(i64::MAX - 2), LeaderEpoch(0));
}

#[test]
fn append_time_is_under_a_new_crc() {
    let mut batch = batch(3);
    batch.set_log_append_time(77_000);
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(
        (batch.base_timestamp(), batch.max_timestamp()),
        (1000, 77_000)
    );
    let read = parse(&batch.to_bytes(), BatchRules::Stored).expect("the CRC is right");
    let records = read.records(DecodeLimit(0)).expect("opens");
    for record in records {
        assert_eq!(record.expect("decodes").timestamp, 77_000);
    }
}

#[test]
fn a_corrected_max_timestamp_is_under_a_new_crc() {
    let mut batch = batch(3);
    batch.set_max_timestamp(5000);
    let read = parse(&batch.to_bytes(), BatchRules::Produced).expect("the CRC is right");
    assert_eq!(read.max_timestamp(), 5000);
}

#[test]
fn batches_in_a_row_share_their_bytes() {
    let whole: Bytes = [
        batch(3).to_bytes(),
        batch(1).to_bytes(),
        batch(2).to_bytes(),
    ]
    .concat()
    .into();
    let batches = RecordBatch::parse_all(&whole, BatchRules::Produced).expect("three batches");
    assert_eq!(batches, [batch(3), batch(1), batch(2)]);
    for batch in &batches {
        let body = batch.body().as_ptr_range();
        assert!(whole.as_ptr_range().start <= body.start && body.end <= whole.as_ptr_range().end);
    }
    assert_eq!(
        RecordBatch::parse_all(&Bytes::new(), BatchRules::Produced),
        Ok(vec![])
    );
    let torn = whole.slice(..whole.len() - 1);
    assert!(matches!(
        RecordBatch::parse_all(&torn, BatchRules::Produced),
        Err(BatchError::Truncated { .. })
    ));
}

#[test]
fn a_header_is_read_without_its_records() {
    let batch = batch(3);
    let header = BatchHeader::read(batch.header()).expect("61 bytes are enough");
    assert_eq!(&header, &*batch);
    assert_eq!(header.size_bytes(), batch.to_bytes().len());
    assert_eq!(
        BatchHeader::read(&batch.header()[..60]),
        Err(BatchError::Truncated {
            needed: 61,
            available: 60
        }),
    );
}

proptest! {
    #[test]
    fn mutated_batches_never_panic(
        flips in prop::collection::vec((0..200usize, any::<u8>()), 1..8),
        repair: bool,
        cut in 0..260usize,
    ) {
        let mut bytes = batch(9).to_bytes().to_vec();
        bytes.truncate(cut);
        for (at, bits) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        // With the CRC put right, the damage reaches the rest of the checks and the records.
        if repair && bytes.len() > CRC_FROM {
            let crc = crc_fast::crc32_iscsi(&bytes[CRC_FROM..]);
            bytes[AT_CRC..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        }
        let bytes = Bytes::from(bytes);
        for rules in BOTH {
            if let Ok((batch, size)) = RecordBatch::parse(&bytes, rules) {
                prop_assert_eq!(batch.to_bytes(), bytes.slice(..size));
                prop_assert!(batch.next_offset() > batch.base_offset());
                let _ = batch.control_record();
                let _ = batch.validate_records(DecodeLimit(10_000));
                for record in batch.records(DecodeLimit(10_000)).into_iter().flatten().flatten() {
                    prop_assert!(record.offset < batch.next_offset());
                }
            }
        }
    }
}
