//! Batches that Kafka's own classes wrote (see `testdata/README.md`), read and built again.

use bytes::Bytes;

use crate::*;

const T: i64 = 1_357_034_400_000;

fn golden(name: &str) -> Bytes {
    let path = format!("{}/testdata/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).expect("hex digits are ASCII");
        u8::from_str_radix(pair, 16).expect("only hex digits were kept")
    };
    digits.chunks(2).map(byte).collect()
}

fn parsed(name: &str, rules: BatchRules) -> RecordBatch {
    let bytes = golden(name);
    let (batch, size) = RecordBatch::parse(&bytes, rules).expect(name);
    assert_eq!(size, bytes.len(), "{name} is one batch");
    assert_eq!(batch.to_bytes(), bytes, "{name} goes out as it came in");
    batch
}

fn decoded(batch: &RecordBatch) -> Vec<Record> {
    let records = batch.records(DecodeLimit(1 << 20)).expect("opens");
    records
        .collect::<Result<_, _>>()
        .expect("all records decode")
}

/// What `GoldenBatches.few` says.
fn few() -> Vec<Record> {
    let header = |key: &'static str, value: Option<&'static str>| RecordHeader {
        key: key.into(),
        value: value.map(Bytes::from),
    };
    let record = |offset, after, key: Option<&'static str>, value: Option<&'static str>| Record {
        offset: Offset(offset),
        timestamp: T + after,
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers: Headers::default(),
    };
    let headers = [
        header("trace", Some("a")),
        header("trace", Some("b")),
        header("", Some("")),
        header("Grüße", None),
    ];
    vec![
        Record {
            headers: headers.into_iter().collect(),
            ..record(0, 0, Some("UA"), Some("{\"flight\":1545}"))
        },
        record(1, 5, None, Some("no key")),
        record(2, -3, Some("tombstone"), None),
        record(3, 70_000, Some(""), Some("")),
    ]
}

/// What `GoldenBatches.many` says.
fn many() -> Vec<Record> {
    let record = |at: i64| Record {
        offset: Offset(at),
        timestamp: T + at,
        key: Some(format!("key-{at}").into()),
        value: Some(
            format!("row {at} of the flights of 2013; ").repeat(20)[..400]
                .to_owned()
                .into(),
        ),
        headers: Headers::default(),
    };
    (0..400).map(record).collect()
}

fn built(mut builder: RecordBatchBuilder, records: &[Record]) -> RecordBatch {
    for Record {
        timestamp,
        key,
        value,
        headers,
        ..
    } in records
    {
        builder.push(*timestamp, key.as_deref(), value.as_deref(), headers);
    }
    builder.build().expect("records of Kafka's make a batch")
}

#[test]
fn every_codec_of_kafkas_is_read() {
    for codec in Compression::ALL {
        let batch = parsed(&format!("few-{codec}"), BatchRules::Produced);
        assert_eq!(batch.compression(), codec);
        assert_eq!(
            (batch.base_offset(), batch.next_offset()),
            (Offset(0), Offset(4))
        );
        assert_eq!(
            (batch.base_timestamp(), batch.max_timestamp()),
            (T, T + 70_000)
        );
        assert_eq!(batch.leader_epoch(), LeaderEpoch::NONE);
        assert_eq!(batch.producer_id(), ProducerId::NONE);
        assert_eq!(batch.last_sequence(), Sequence::NONE);
        assert_eq!(decoded(&batch), few(), "{codec}");
        if codec != Compression::None {
            let batch = parsed(&format!("many-{codec}"), BatchRules::Produced);
            assert_eq!(decoded(&batch), many(), "{codec}");
        }
    }
}

#[test]
fn uncompressed_batches_are_built_byte_for_byte_as_kafka_builds_them() {
    let plain = || RecordBatchBuilder::new(Compression::None);
    let (id, epoch) = (ProducerId(4001), ProducerEpoch(3));
    assert_eq!(built(plain(), &few()).to_bytes(), golden("few-none"));
    let idempotent = plain().producer(id, epoch, Sequence(i32::MAX - 1));
    assert_eq!(built(idempotent, &few()).to_bytes(), golden("idempotent"));
    let transactional = plain().producer(id, epoch, Sequence(17)).transactional();
    assert_eq!(
        built(transactional, &few()).to_bytes(),
        golden("transactional")
    );
}

#[test]
fn producer_fields_are_read() {
    let batch = parsed("idempotent", BatchRules::Produced);
    assert_eq!(
        (batch.producer_id(), batch.producer_epoch()),
        (ProducerId(4001), ProducerEpoch(3))
    );
    assert_eq!(batch.base_sequence(), Sequence(i32::MAX - 1));
    assert_eq!(
        batch.last_sequence(),
        Sequence(1),
        "the sequence wraps to 0"
    );
    assert!(!batch.is_transactional());
    let batch = parsed("transactional", BatchRules::Produced);
    assert!(batch.is_transactional() && !batch.is_control());
    assert_eq!(batch.last_sequence(), Sequence(20));
}

#[test]
fn end_markers_are_read_and_built_as_kafkas() {
    let (id, epoch) = (ProducerId(4001), ProducerEpoch(3));
    let (twelve, thirteen) = (
        EndTransactionMarker {
            coordinator_epoch: 12,
        },
        EndTransactionMarker {
            coordinator_epoch: 13,
        },
    );
    for (name, offset, record, mut ours) in [
        (
            "commit",
            77,
            ControlRecord::Commit(twelve),
            twelve.commit(id, epoch, T),
        ),
        (
            "abort",
            78,
            ControlRecord::Abort(thirteen),
            thirteen.abort(id, epoch, T),
        ),
    ] {
        let batch = parsed(name, BatchRules::Stored);
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!(batch.control_record(), Ok(Some(record)));
        ours.assign(Offset(offset), LeaderEpoch(5));
        assert_eq!(ours.to_bytes(), golden(name));
        assert_eq!(
            RecordBatch::parse(&golden(name), BatchRules::Produced),
            Err(HeaderFault::BaseOffset(offset).into()),
        );
    }
}

#[test]
fn other_control_records_are_known_to_be_other() {
    let batch = parsed("leader-change", BatchRules::Stored);
    assert_eq!(batch.control_record(), Ok(Some(ControlRecord::Other(2))));
}

#[test]
fn append_time_rules_over_the_records_own() {
    let batch = parsed("append-time", BatchRules::Stored);
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
    for record in decoded(&batch) {
        assert_eq!(record.timestamp, batch.max_timestamp());
    }
}

#[test]
fn compacted_batches_are_read_with_their_gaps() {
    let batch = parsed("compacted", BatchRules::Stored);
    assert_eq!(
        (batch.base_offset(), batch.next_offset()),
        (Offset(500), Offset(504))
    );
    assert_eq!(batch.record_count(), 2);
    assert_eq!(batch.delete_horizon(), Some(T + 86_400_000));
    let kept: Vec<Record> = few()[1..3]
        .iter()
        .map(|record| Record {
            offset: record.offset + 500,
            ..record.clone()
        })
        .collect();
    assert_eq!(decoded(&batch), kept);
    let mut from_zero = batch.clone();
    from_zero.assign(Offset(0), LeaderEpoch(0));
    assert_eq!(
        RecordBatch::parse(&from_zero.to_bytes(), BatchRules::Produced),
        Err(HeaderFault::Count { count: 2, delta: 3 }.into()),
    );
}

#[test]
fn old_formats_are_named() {
    for (name, magic) in [("magic-0", 0), ("magic-1", 1)] {
        for rules in [BatchRules::Produced, BatchRules::Stored] {
            let parsed = RecordBatch::parse(&golden(name), rules);
            assert_eq!(parsed, Err(BatchError::UnsupportedMagic(magic)));
        }
    }
}

#[test]
fn keys_hash_as_kafka_hashes_them() {
    let lines = include_str!("../testdata/murmur2.txt");
    assert_eq!(lines.lines().count(), 40);
    for line in lines.lines() {
        let (key, hash) = line.split_once(' ').expect("key and hash");
        assert_eq!(
            murmur2(key.as_bytes()),
            hash.parse::<i32>().expect("a number"),
            "{key:?}"
        );
    }
}

/// The other direction: `GoldenBatches.java read` checks these files.
#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the seam would be a dependency for one file"
)]
#[ignore = "writes files for Kafka's classes to read; testdata/README.md says how"]
fn write_batches_for_kafka_to_read() {
    let out = std::env::var("TIDEMILL_GOLDEN_OUT").expect("TIDEMILL_GOLDEN_OUT names a directory");
    for (name, records) in [("few", few()), ("many", many())] {
        for codec in Compression::ALL {
            let path = format!("{out}/{name}-{codec}.bin");
            let batch = built(RecordBatchBuilder::new(codec), &records);
            std::fs::write(path, batch.to_bytes()).expect("the directory is there");
        }
    }
}
