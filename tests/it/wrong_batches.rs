//! Batches that are none: the producer is told what is wrong, nothing is written, the connection lives.

use bytes::Bytes;
use tidemill_protocol::ErrorCode;
use tidemill_protocol::produce::ProduceRequest;
use tidemill_records::{Compression, RecordBatchBuilder};
use tidemill_tests::records::{batch, build, now_ms};
use tidemill_tests::requests::{PRODUCE, bytes_of, produce};
use tidemill_tests::{TestBroker, Wire};

/// Where fields stand in a batch's header.
const AT_LENGTH: usize = 8;
const AT_MAGIC: usize = 16;
const AT_CRC: usize = 17;
const AT_ATTRIBUTES: usize = 21;
const AT_LAST_OFFSET_DELTA: usize = 23;
const AT_COUNT: usize = 57;

fn good() -> Vec<u8> {
    bytes_of(&batch(&["a", "b", "c"])).to_vec()
}

/// Puts bytes into a good batch, and a checksum that fits if there is to be one.
fn changed(at: usize, bytes: &[u8], with_crc: bool) -> Bytes {
    let mut batch = good();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    if with_crc {
        let crc = crc32c(&batch[AT_ATTRIBUTES..]);
        batch[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_be_bytes());
    }
    batch.into()
}

/// CRC32C bit by bit, which is no code that the broker shares.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * carry);
        }
    }
    !crc
}

async fn code_of(wire: &mut Wire, records: Bytes) -> (ErrorCode, String) {
    let answer = wire.call(PRODUCE, &produce("t", 0, records)).await;
    let partition = &answer.responses[0].partition_responses[0];
    let code = ErrorCode::from_code(partition.error_code).expect("a known code");
    assert_eq!(partition.base_offset == -1, code != ErrorCode::None);
    (
        code,
        partition
            .error_message
            .clone()
            .unwrap_or_default()
            .as_str()
            .to_owned(),
    )
}

#[tokio::test]
async fn every_wrong_batch_is_refused_with_its_reason() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let length = good().len();
    let twice: Bytes = [good(), good()].concat().into();
    let cases: Vec<(&str, Bytes, ErrorCode)> = vec![
        (
            "a flipped record",
            changed(length - 3, b"!", false),
            ErrorCode::CorruptMessage,
        ),
        (
            "a wrong checksum",
            changed(AT_CRC, &[1, 2, 3, 4], false),
            ErrorCode::CorruptMessage,
        ),
        (
            "a flipped attribute",
            changed(AT_ATTRIBUTES, &[0x40], false),
            ErrorCode::CorruptMessage,
        ),
        (
            "a length of zero",
            changed(AT_LENGTH, &[0; 4], false),
            ErrorCode::CorruptMessage,
        ),
        (
            "a length beyond",
            changed(AT_LENGTH, &[0, 1, 0, 0], false),
            ErrorCode::CorruptMessage,
        ),
        (
            "a negative length",
            changed(AT_LENGTH, &[0xff; 4], false),
            ErrorCode::CorruptMessage,
        ),
        (
            "the end missing",
            good()[..length - 1].to_vec().into(),
            ErrorCode::CorruptMessage,
        ),
        (
            "a header alone",
            good()[..61].to_vec().into(),
            ErrorCode::CorruptMessage,
        ),
        (
            "a few bytes",
            Bytes::from_static(b"abc"),
            ErrorCode::CorruptMessage,
        ),
        (
            "magic 1",
            changed(AT_MAGIC, &[1], false),
            ErrorCode::InvalidRecord,
        ),
        (
            "magic 3",
            changed(AT_MAGIC, &[3], false),
            ErrorCode::CorruptMessage,
        ),
        (
            "too many counted",
            changed(AT_COUNT, &[0, 0, 0, 4], true),
            ErrorCode::InvalidRecord,
        ),
        (
            "too few counted",
            changed(AT_COUNT, &[0, 0, 0, 2], true),
            ErrorCode::InvalidRecord,
        ),
        (
            "none counted",
            changed(AT_COUNT, &[0; 4], true),
            ErrorCode::InvalidRecord,
        ),
        (
            "a negative count",
            changed(AT_COUNT, &[0xff; 4], true),
            ErrorCode::InvalidRecord,
        ),
        (
            "offsets that end elsewhere",
            changed(AT_LAST_OFFSET_DELTA, &[0, 0, 0, 9], true),
            ErrorCode::InvalidRecord,
        ),
        (
            "offsets that go down",
            changed(AT_LAST_OFFSET_DELTA, &[0xff; 4], true),
            ErrorCode::InvalidRecord,
        ),
        (
            "a base offset",
            changed(0, &5i64.to_be_bytes(), false),
            ErrorCode::InvalidRecord,
        ),
        (
            "an unknown codec",
            changed(AT_ATTRIBUTES, &[0, 7], true),
            ErrorCode::UnsupportedCompressionType,
        ),
        (
            "append time",
            changed(AT_ATTRIBUTES, &[0, 8], true),
            ErrorCode::InvalidTimestamp,
        ),
        (
            "a control batch",
            changed(AT_ATTRIBUTES, &[0, 0x20], true),
            ErrorCode::InvalidRecord,
        ),
        ("nothing", Bytes::new(), ErrorCode::InvalidRecord),
        ("two batches", twice, ErrorCode::InvalidRecord),
    ];
    for (what, records, expected) in cases {
        let (code, message) = code_of(&mut wire, records).await;
        assert_eq!(code, expected, "{what}: {message}");
    }
    // The same connection, and the first offset.
    assert_eq!(wire.must_produce("t", 0, &batch(&["good"])).await, 0);
    assert_eq!(wire.values("t", 0).await, ["good"]);
}

#[tokio::test]
async fn no_single_flipped_bit_gets_in_unnoticed() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let good = good();
    // All are sent before the first answer is read, in pieces that the broker takes without waiting.
    let bits: Vec<usize> = (0..good.len() * 8).collect();
    for some in bits.chunks(10) {
        let mut sent = Vec::new();
        for bit in some {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            sent.push((
                *bit,
                wire.send(PRODUCE, &produce("t", 0, flipped.into())).await,
            ));
        }
        for (bit, id) in sent {
            let answer = wire.receive::<ProduceRequest>(id, PRODUCE).await;
            let code = answer.responses[0].partition_responses[0].error_code;
            // The leader epoch (bytes 12 to 16) is the broker's to write, and no checksum covers it.
            let is_epoch = (12..16).contains(&(bit / 8));
            assert_eq!(code == 0, is_epoch, "bit {bit}: {code}");
        }
    }
    let values = wire.values("t", 0).await;
    assert_eq!(values.len(), 4 * 8 * 3);
    assert!(values.chunks(3).all(|three| three == ["a", "b", "c"]));
}

/// librdkafka of old asks with a version that has no zstd, and must not be given it.
#[tokio::test]
async fn zstd_needs_produce_7() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let zstd = build(
        RecordBatchBuilder::new(Compression::Zstd),
        &[(now_ms(), "a")],
    );
    for version in 3..=PRODUCE {
        let answer = wire.call(version, &produce("t", 0, bytes_of(&zstd))).await;
        let code = answer.responses[0].partition_responses[0].error_code;
        let expected = if version < 7 {
            ErrorCode::UnsupportedCompressionType.code()
        } else {
            0
        };
        assert_eq!(code, expected, "version {version}");
    }
}
