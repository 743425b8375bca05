//! Batches to send, and what is in those that come back.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidemill_protocol::Records;
use tidemill_records::{
    BatchRules, Compression, DecodeLimit, Headers, ProducerEpoch, ProducerId, Record, RecordBatch,
    RecordBatchBuilder, Sequence,
};

/// The wall clock in milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the end of time")
}

/// A batch of values without keys, stamped now.
pub fn batch(values: &[&str]) -> RecordBatch {
    let now = now_ms();
    stamped(&values.iter().map(|value| (now, *value)).collect::<Vec<_>>())
}

/// A batch of (timestamp, value).
pub fn stamped(records: &[(i64, &str)]) -> RecordBatch {
    build(RecordBatchBuilder::new(Compression::None), records)
}

/// A batch of one record with a key.
pub fn keyed(timestamp: i64, key: &str, value: &str) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    let (key, value) = (key.as_bytes(), value.as_bytes());
    builder.push(timestamp, Some(key), Some(value), &Headers::default());
    builder.build().expect("a record that makes a batch")
}

/// A batch of values with the number of its producer.
pub fn sequenced(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> RecordBatch {
    let builder = RecordBatchBuilder::new(Compression::None).producer(
        ProducerId(id),
        ProducerEpoch(epoch),
        Sequence(sequence),
    );
    let now = now_ms();
    build(
        builder,
        &values.iter().map(|value| (now, *value)).collect::<Vec<_>>(),
    )
}

/// Fills a builder and seals it.
pub fn build(mut builder: RecordBatchBuilder, records: &[(i64, &str)]) -> RecordBatch {
    for (timestamp, value) in records {
        builder.push(
            *timestamp,
            None,
            Some(value.as_bytes()),
            &Headers::default(),
        );
    }
    builder.build().expect("records that make a batch")
}

/// All records of whole batches.
pub fn records(bytes: &Bytes) -> Vec<Record> {
    let batches = RecordBatch::parse_all(bytes, BatchRules::Stored).expect("whole batches");
    let limit = DecodeLimit(64 << 20);
    let open = |batch: &RecordBatch| batch.records(limit).expect("a batch that opens").collect();
    let records: Vec<Result<Vec<Record>, _>> = batches.iter().map(open).collect();
    records
        .into_iter()
        .flat_map(|records| records.expect("whole records"))
        .collect()
}

/// (offset, value) of all records of an answer.
pub fn contents(records_field: &Option<Records>) -> Vec<(i64, String)> {
    let bytes = records_field.clone().unwrap_or_default().into_bytes();
    let text = |record: Record| {
        let value = record.value.unwrap_or_default();
        (
            record.offset.0,
            String::from_utf8_lossy(&value).into_owned(),
        )
    };
    records(&bytes).into_iter().map(text).collect()
}
