use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::batch::BatchRules;
use crate::builder::{BuildError, RecordBatchBuilder};
use crate::compression::Compression;
use crate::header::{AT_CRC, AT_LENGTH, CRC_FROM, HEADER_BYTES, HeaderFault};
use crate::ids::{ProducerEpoch, ProducerId, Sequence};

const LIMIT: DecodeLimit = DecodeLimit(1 << 20);

/// A batch whose header promises `count` records and whose body is `body`, with a CRC to match.
fn with_body(count: usize, body: &[u8]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    for _ in 0..count {
        builder.push(1000, None, None, &Headers::default());
    }
    let mut bytes = builder.build().expect("a batch").header().to_vec();
    bytes.extend_from_slice(body);
    let length = (bytes.len() - 12) as i32;
    bytes[AT_LENGTH..AT_LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&bytes[CRC_FROM..]);
    bytes[AT_CRC..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    RecordBatch::parse(&bytes.into(), BatchRules::Produced)
        .expect("the header is right")
        .0
}

/// Decodes in both ways, which must agree.
fn decode(batch: &RecordBatch) -> Result<Vec<Record>, RecordError> {
    let records = batch
        .records(LIMIT)
        .and_then(|records| records.collect::<Result<Vec<_>, _>>());
    let summary = batch.validate_records(LIMIT);
    assert_eq!(records.as_ref().err(), summary.as_ref().err());
    records
}

/// How decoding one record of these bytes, after its length, fails.
fn fault_of(record: &[u8]) -> RecordFault {
    let mut body = Vec::new();
    put_varlong(&mut body, record.len() as i64);
    body.extend_from_slice(record);
    match decode(&with_body(1, &body)) {
        Err(RecordError::Malformed { index: 0, fault }) => fault,
        other => panic!("expected a fault of record 0: {other:?}"),
    }
}

#[test]
fn malformed_records_are_told_apart() {
    // Attributes, timestamp delta 0, offset delta 0, key null, value "x", no headers: this one is good.
    let good = [0, 0, 0, 1, 2, b'x', 0];
    assert_eq!(
        decode(&with_body(1, &[&[14], &good[..]].concat())).map(|records| records.len()),
        Ok(1)
    );
    assert_eq!(fault_of(&[0, 0, 0, 1, 4, b'x', 0]), RecordFault::Truncated);
    assert_eq!(fault_of(&[0, 0, 0, 1, 6, b'x', 0]), RecordFault::Truncated);
    assert_eq!(fault_of(&[0, 0, 0, 3, 2, b'x', 0]), RecordFault::Length(-2));
    assert_eq!(fault_of(&[0, 0, 0, 1, 3, b'x', 0]), RecordFault::Length(-2));
    assert_eq!(fault_of(&[0, 0, 0, 1, 2, b'x', 1]), RecordFault::Length(-1));
    assert_eq!(
        fault_of(&[0, 0, 0, 1, 2, b'x', 2]),
        RecordFault::HeaderCount(1)
    );
    assert_eq!(
        fault_of(&[0, 0, 0, 1, 2, b'x', 2, 1, 1]),
        RecordFault::Length(-1)
    );
    assert_eq!(
        fault_of(&[0, 0, 0, 1, 2, b'x', 2, 2, b'k', 4]),
        RecordFault::Truncated
    );
    assert_eq!(
        fault_of(&[0, 0, 0, 1, 2, b'x', 0, 0]),
        RecordFault::TrailingBytes(1)
    );
    assert_eq!(
        fault_of(&[0, 0, 2, 1, 2, b'x', 0]),
        RecordFault::OffsetDelta(1)
    );
    assert_eq!(
        fault_of(&[0, 0, 1, 1, 2, b'x', 0]),
        RecordFault::OffsetDelta(-1)
    );
    assert_eq!(
        fault_of(&[0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 0]),
        RecordFault::Number
    );
    let timestamp_of_11_bytes = [
        0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 1, 1, 0,
    ];
    assert_eq!(fault_of(&timestamp_of_11_bytes), RecordFault::Number);
}

#[test]
fn the_batch_must_hold_its_records_and_nothing_else() {
    let first = [14, 0, 0, 0, 1, 2, b'x', 0];
    let second = [14, 0, 0, 2, 1, 2, b'y', 0];
    let both = [first, second].concat();
    let malformed = |index, fault| Err(RecordError::Malformed { index, fault });
    assert_eq!(
        decode(&with_body(2, &both)).map(|records| records.len()),
        Ok(2)
    );
    assert_eq!(
        decode(&with_body(1, &both)),
        malformed(1, RecordFault::TrailingBytes(8))
    );
    assert_eq!(
        decode(&with_body(3, &both)),
        malformed(0, RecordFault::RecordCount(3))
    );
    assert_eq!(
        decode(&with_body(2, &both[..15])),
        malformed(1, RecordFault::Truncated)
    );
    let swapped = [second, first].concat();
    assert_eq!(
        decode(&with_body(2, &swapped)),
        malformed(1, RecordFault::OffsetDelta(0))
    );
    let repeated = [first, first].concat();
    assert_eq!(
        decode(&with_body(2, &repeated)),
        malformed(1, RecordFault::OffsetDelta(0))
    );
    let negative_length = [&[1][..], &first, &second].concat();
    assert_eq!(
        decode(&with_body(2, &negative_length)),
        malformed(0, RecordFault::Length(-1))
    );
}

#[test]
fn a_hostile_count_reserves_nothing() {
    // The header may promise two thousand million records; the body says otherwise.
    let batch = with_body(50_000, &[14, 0, 0, 0, 1, 2, b'x', 0]);
    let fault = RecordFault::RecordCount(50_000);
    assert_eq!(
        decode(&batch),
        Err(RecordError::Malformed { index: 0, fault })
    );
}

#[test]
fn iteration_ends_with_the_first_error() {
    let batch = with_body(2, &[14, 0, 0, 0, 1, 2, b'x', 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let mut records = batch.records(LIMIT).expect("opens");
    assert!(matches!(records.next(), Some(Ok(_))));
    assert!(matches!(records.next(), Some(Err(_))));
    assert!(records.next().is_none() && records.next().is_none());
}

#[test]
fn records_share_the_batch() {
    let batch = with_body(1, &[24, 0, 0, 0, 2, b'k', 2, b'x', 2, 2, b'h', 2, b'v']);
    let body = batch.body().as_ptr_range();
    let record = decode(&batch).expect("one record").remove(0);
    let header = record.headers.iter().next().expect("one header");
    for part in [record.key, record.value, Some(header.key), header.value] {
        assert!(body.contains(&part.expect("not null").as_ptr()));
    }
}

#[test]
fn a_limit_holds_for_compressed_records_only() {
    let mut packed = RecordBatchBuilder::new(Compression::Zstd);
    let mut plain = RecordBatchBuilder::new(Compression::None);
    for builder in [&mut packed, &mut plain] {
        builder.push(1, None, Some(&[0; 5000]), &Headers::default());
    }
    let (packed, plain) = (
        packed.build().expect("a batch"),
        plain.build().expect("a batch"),
    );
    let too_large = CompressionError::TooLarge { bytes_max: 5000 };
    assert_eq!(
        packed.records(DecodeLimit(5000)).map(|_| ()),
        Err(too_large.into())
    );
    assert!(packed.records(DecodeLimit(5100)).is_ok());
    assert!(plain.records(DecodeLimit(0)).is_ok());
}

#[test]
fn a_summary_finds_the_first_largest_timestamp() {
    let mut builder = RecordBatchBuilder::new(Compression::Lz4);
    for (timestamp, key) in [
        (50, Some(&b"k"[..])),
        (90, None),
        (-1, Some(b"")),
        (90, None),
    ] {
        builder.push(timestamp, key, None, &Headers::default());
    }
    let plain_bytes = builder.plain_bytes() - HEADER_BYTES;
    let batch = builder.build().expect("a batch");
    let summary = RecordsSummary {
        min_timestamp: -1,
        max_timestamp: 90,
        max_timestamp_offset: Offset(1),
        keyless_records: 2,
        plain_bytes,
    };
    assert_eq!(batch.validate_records(LIMIT), Ok(summary));
}

#[test]
fn headers_compare_by_what_they_say() {
    let header = RecordHeader {
        key: "k".into(),
        value: None,
    };
    let short: Headers = [header.clone()].into_iter().collect();
    // The key's length, 1, in two bytes instead of one.
    let long = Headers {
        encoded: Bytes::from_static(&[0x82, 0x00, b'k', 1]),
        count: 1,
    };
    assert_eq!(short, long);
    assert_eq!((short.len(), short.is_empty()), (1, false));
    assert_ne!(short, [header.clone(), header].into_iter().collect());
    assert_eq!(format!("{:?}", Headers::default()), "[]");
}

#[test]
fn a_builder_refuses_what_kafka_would() {
    let mut records = RecordBatchBuilder::new(Compression::None);
    assert_eq!(records.clone().build(), Err(BuildError::Empty));
    records.push(1, None, None, &Headers::default());
    assert_eq!(
        records.clone().transactional().build(),
        Err(HeaderFault::Transactional.into()),
    );
    assert!(matches!(
        records
            .producer(ProducerId(1), ProducerEpoch(0), Sequence::NONE)
            .build(),
        Err(BuildError::Header(HeaderFault::Producer { .. })),
    ));
}

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn record() -> impl Strategy<Value = Record> {
    let header = (bytes(20), prop::option::of(bytes(20)))
        .prop_map(|(key, value)| RecordHeader { key, value });
    let headers = prop::collection::vec(header, 0..4).prop_map(Headers::from_iter);
    let timestamp = prop_oneof![4 => 1_300_000_000_000..1_400_000_000_000i64, 1 => any::<i64>()];
    (
        timestamp,
        prop::option::of(bytes(200)),
        prop::option::of(bytes(400)),
        headers,
    )
        .prop_map(|(timestamp, key, value, headers)| Record {
            offset: Offset::ZERO,
            timestamp,
            key,
            value,
            headers,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_was_pushed_comes_out(
        mut records in prop::collection::vec(record(), 1..40),
        codec in prop::sample::select(&Compression::ALL[..]),
        base in 0..i64::MAX - 100,
    ) {
        let mut builder = RecordBatchBuilder::new(codec);
        for (at, record) in records.iter_mut().enumerate() {
            let Record { timestamp, key, value, headers, .. } = &*record;
            builder.push(*timestamp, key.as_deref(), value.as_deref(), headers);
            record.offset = Offset(base) + at as i64;
        }
        let (plain_bytes, count) = (builder.plain_bytes(), builder.record_count());
        let mut batch = builder.build().expect("a batch");
        prop_assert_eq!(count, records.len());
        let (read, _) = RecordBatch::parse(&batch.to_bytes(), BatchRules::Produced).expect("proven");
        prop_assert_eq!(&read, &batch);
        batch.assign(Offset(base), crate::LeaderEpoch(1));
        prop_assert_eq!(&decode(&batch).expect("decodes"), &records);
        let summary = batch.validate_records(LIMIT).expect("decodes");
        prop_assert_eq!(summary.plain_bytes + HEADER_BYTES, plain_bytes);
        prop_assert_eq!(Some(summary.max_timestamp), records.iter().map(|r| r.timestamp).max());
        prop_assert_eq!(Some(summary.min_timestamp), records.iter().map(|r| r.timestamp).min());
        prop_assert_eq!(summary.max_timestamp, batch.max_timestamp());
        if codec == Compression::None {
            prop_assert_eq!(batch.size_bytes(), plain_bytes);
        }
    }

    #[test]
    fn random_bodies_never_panic(count in 1..30usize, body in prop::collection::vec(0..20u8, 0..300)) {
        let _ = decode(&with_body(count, &body));
    }
}
