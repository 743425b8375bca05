//! The records of the demo, and the judgement whether all of them came back.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidemill_client::FetchedPartition;
use tidemill_records::Compression;

use super::super::exit::Failure;
use super::super::record_json::{self, ParsedRecord};

/// 5,000 of the flights that left New York in 2013 (tests/data/README.md says where they are from).
const SAMPLE: &[u8] = include_bytes!("../../../../tests/data/flights-sample.ndjson.gz");
/// The sample is this large at most when it is unpacked.
const SAMPLE_BYTES_MAX: usize = 16 << 20;

/// The sample as records, in order.
pub(super) fn records() -> Result<Vec<ParsedRecord>, Failure> {
    let packed = Bytes::from_static(SAMPLE);
    let plain = Compression::Gzip
        .decompress(&packed, SAMPLE_BYTES_MAX)
        .map_err(|error| Failure::new("the sample cannot be unpacked").because(&error))?;
    let lines = plain
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines
        .map(|line| record_json::parse(line).map_err(Failure::new))
        .collect()
}

type Key = Option<Vec<u8>>;

/// What is still to come of each key, in order.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    left: BTreeMap<Key, VecDeque<&'a ParsedRecord>>,
    seen: u64,
}

impl<'a> Expected<'a> {
    pub(super) fn new(records: &'a [ParsedRecord]) -> Expected<'a> {
        let mut left: BTreeMap<Key, VecDeque<&ParsedRecord>> = BTreeMap::new();
        for record in records {
            left.entry(record.key.clone())
                .or_default()
                .push_back(record);
        }
        Expected { left, seen: 0 }
    }

    pub(super) fn keys(&self) -> usize {
        self.left.len()
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Holds what was read against what must come next of its key: a lost, doubled, changed or overtaken
    /// record is an error.
    pub(super) fn check(&mut self, fetched: &FetchedPartition) -> Result<(), Failure> {
        for record in fetched.records() {
            let record =
                record.map_err(|error| Failure::new("a batch is broken").because(&error))?;
            let key = record.key.as_ref().map(|key| key.to_vec());
            let next = self.left.get_mut(&key).and_then(VecDeque::pop_front);
            let same = next.is_some_and(|next| {
                next.value.as_deref() == record.value.as_deref()
                    && next.timestamp == Some(record.timestamp)
            });
            if !same {
                let (partition, offset) = (&fetched.partition, record.offset);
                return Err(Failure::new(format!(
                    "{partition} at offset {offset} is not what was written next with its key"
                )));
            }
            self.seen += 1;
        }
        Ok(())
    }

    /// Fails unless everything has come.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self.left.values().map(VecDeque::len).sum::<usize>() {
            0 => Ok(()),
            missing => Err(Failure::new(format!(
                "{missing} acknowledged records are missing"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_records::{
        Headers, LeaderEpoch, Offset, PartitionId, RecordBatchBuilder, TopicPartition,
    };

    use super::*;

    fn fetched(records: &[&ParsedRecord]) -> FetchedPartition {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        for record in records {
            let timestamp = record.timestamp.unwrap();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push(timestamp, key, value, &Headers::default());
        }
        let mut batch = builder.build().unwrap();
        batch.assign(Offset(0), LeaderEpoch(0));
        FetchedPartition {
            partition: TopicPartition::new("t", PartitionId(0)),
            from: Offset(0),
            high_watermark: Offset(0),
            log_start_offset: Offset(0),
            batches: vec![batch],
        }
    }

    #[test]
    fn the_sample_is_whole() {
        let records = records().unwrap();
        assert_eq!(records.len(), 5000);
        assert_eq!(Expected::new(&records).keys(), 15);
        assert!(records.iter().all(|record| record.timestamp.is_some()));
        assert!(
            records[0]
                .value
                .as_deref()
                .unwrap()
                .starts_with(b"{\"year\":2013,")
        );
    }

    #[test]
    fn loss_doubles_changes_and_disorder_are_noticed() {
        let records = records().unwrap();
        let all: Vec<&ParsedRecord> = records.iter().collect();
        let judge = |read: &[&ParsedRecord]| {
            let mut expected = Expected::new(&records);
            expected.check(&fetched(read)).is_ok() && expected.finish().is_ok()
        };
        assert!(judge(&all));
        assert!(!judge(&all[..4999]));
        let mut doubled = all.clone();
        doubled.insert(7, all[7]);
        assert!(!judge(&doubled));
        let same_key = (1..).find(|at| records[*at].key == records[0].key).unwrap();
        let mut swapped = all.clone();
        swapped.swap(0, same_key);
        assert!(!judge(&swapped));
        let changed = ParsedRecord {
            value: Some(b"{}".to_vec()),
            ..record_json::parse(b"{}").unwrap()
        };
        let changed = ParsedRecord {
            key: records[3].key.clone(),
            timestamp: records[3].timestamp,
            ..changed
        };
        let mut with_change = all.clone();
        with_change[3] = &changed;
        assert!(!judge(&with_change));
    }
}
