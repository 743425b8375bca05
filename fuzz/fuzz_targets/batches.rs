//! Hostile record batches: nothing panics, nothing grows past its limit, and what can be read can be written
//! again and read the same.
//!
//! The first byte says what to make of the rest: 0 takes it as it is; anything else mends length, magic and
//! CRC first, so that the damage reaches what lies behind them. The seeds are the golden batches of
//! `broker/records/testdata` behind a byte of 1.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_records::{
    BatchRules, Compression, DecodeLimit, HEADER_BYTES, Record, RecordBatch, RecordBatchBuilder,
};

const LIMIT: DecodeLimit = DecodeLimit(1 << 20);

fuzz_target!(|input: &[u8]| {
    let Some((mend, bytes)) = input.split_first() else {
        return;
    };
    let bytes = if *mend == 0 {
        Bytes::copy_from_slice(bytes)
    } else {
        mended(bytes)
    };
    for rules in [BatchRules::Produced, BatchRules::Stored] {
        let mut rest = bytes.clone();
        while let Ok((batch, size)) = RecordBatch::parse(&rest, rules) {
            assert_eq!(batch.to_bytes(), rest.slice(..size));
            check(&batch, rules);
            rest = rest.slice(size..);
        }
    }
    for codec in Compression::ALL {
        if let Ok(plain) = codec.decompress(&bytes, LIMIT.0) {
            assert!(plain.len() <= LIMIT.0.max(bytes.len()));
        }
    }
});

/// The bytes as a batch whose length, magic and CRC are right, if there are enough of them.
fn mended(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= HEADER_BYTES {
        let length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.into()
}

/// Bit by bit, so that it shares nothing with what it tests.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

fn check(batch: &RecordBatch, rules: BatchRules) {
    let _ = batch.control_record();
    let summary = batch.validate_records(LIMIT);
    let records = batch
        .records(LIMIT)
        .and_then(|records| records.collect::<Result<Vec<_>, _>>());
    assert_eq!(summary.err(), records.as_ref().err().copied());
    let Ok(records) = records else { return };
    assert_eq!(records.len(), batch.record_count());
    for record in &records {
        assert!(record.offset >= batch.base_offset() && record.offset < batch.next_offset());
        assert_eq!(record.headers.iter().count(), record.headers.len());
    }
    if rules == BatchRules::Produced {
        let again = rebuilt(batch, &records);
        let (read, _) =
            RecordBatch::parse(&again.to_bytes(), rules).expect("we write what we read");
        let read = read.records(LIMIT).expect("it was within the limit");
        assert_eq!(
            read.collect::<Result<Vec<_>, _>>().as_deref(),
            Ok(&records[..])
        );
        assert_eq!(again.last_sequence(), batch.last_sequence());
    }
}

fn rebuilt(batch: &RecordBatch, records: &[Record]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None).producer(
        batch.producer_id(),
        batch.producer_epoch(),
        batch.base_sequence(),
    );
    if batch.is_transactional() {
        builder = builder.transactional();
    }
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
    builder.build().expect("it was a batch before")
}
