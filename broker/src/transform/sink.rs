//! Writing to the sinks: which partition, whether the sink takes the record, whole batches, and waiting until they are durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_log::{AppendOrigin, LogConfig};
use tidemill_metadata::MetadataLog;
use tidemill_records::{
    Compression, DecodeLimit, Headers, LeaderEpoch, Offset, PartitionId, Record, RecordBatch,
    RecordBatchBuilder, TimestampType, murmur2_partition,
};
use tidemill_storage::wal::Lsn;
use tidemill_transforms::{Changed, Content, FailedRecord, Output, Outputs, PartitionChoice};
use tokio::time::Instant;

use super::figures::TaskFigures;
use super::trouble::Trouble;
use crate::broker::Broker;
use crate::partition::Partition;

/// A batch is sealed before it grows past this, or past what the sink takes.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a batch has beside its one record: its header, and the record's own numbers at their longest.
const RECORD_OVERHEAD_MAX: usize = 61 + 40;
/// Writing waits so long for room and for the disk.
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// A topic to write to.
pub(super) struct Sink {
    pub(super) topic: Arc<str>,
    partitions: i32,
    config: Arc<LogConfig>,
    /// None keeps the source's.
    compression: Option<Compression>,
}

/// A record as it is written.
#[derive(Clone, Copy)]
pub(super) struct Outgoing<'a> {
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a Headers,
}

impl<'a> Outgoing<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self {
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
        }
    }

    fn of_output(output: &'a Output, records: &'a [Record]) -> Self {
        match &output.content {
            Content::Unchanged => Self::of(&records[output.record as usize]),
            Content::Changed(changed) => {
                let Changed {
                    key,
                    value,
                    headers,
                    timestamp,
                } = &**changed;
                Self {
                    timestamp: *timestamp,
                    key: key.as_deref(),
                    value: value.as_deref(),
                    headers,
                }
            }
        }
    }

    /// No less than what it takes in a batch of its own.
    pub(super) fn bytes(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        RECORD_OVERHEAD_MAX + length(self.key) + length(self.value) + self.headers.encoded_bytes()
    }
}

impl Sink {
    /// Looks a topic up. Its settings and partitions may change between two frames.
    pub(super) fn find(broker: &Broker, topic: &Arc<str>) -> Result<Self, Trouble> {
        let image = broker.metadata.image();
        let missing = || Trouble::NoTopic(topic.to_string());
        let found = image.topic(topic).ok_or_else(missing)?;
        let first = broker.partitions.get(topic, 0).ok_or_else(missing)?;
        let configs = image.topic_configs(topic);
        let compression = match configs.get("compression.type") {
            None | Some("producer") => None,
            Some("uncompressed") => Some(Compression::None),
            Some(name) => Compression::from_name(name),
        };
        Ok(Self {
            topic: topic.clone(),
            partitions: found.partition_count(),
            config: first.log.config(),
            compression,
        })
    }

    pub(super) fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The largest batch that it takes.
    fn bytes_max(&self) -> usize {
        let segment_bytes = self.config.segment_bytes as usize;
        self.config.max_message_bytes.min(segment_bytes)
    }

    /// Whether a record is too large even in a batch of its own. What the sink compares is the compressed batch.
    pub(super) fn is_too_large(&self, record: &Outgoing<'_>, compression: Compression) -> bool {
        let compression = self.compression.unwrap_or(compression);
        if record.bytes() <= self.bytes_max() {
            return false;
        }
        if compression == Compression::None {
            return true;
        }
        let mut alone = RecordBatchBuilder::new(compression);
        alone.push(record.timestamp, record.key, record.value, record.headers);
        seal(alone, usize::MAX).size_bytes() > self.bytes_max()
    }

    /// Why the sink would not take a record.
    pub(super) fn refusal(
        &self,
        record: &Outgoing<'_>,
        compression: Compression,
        now_ms: i64,
    ) -> Option<String> {
        let (topic, config) = (&self.topic, &self.config);
        if self.is_too_large(record, compression) {
            return Some(format!(
                "a record of {} bytes is larger than {topic} takes (max.message.bytes={}, segment.bytes={})",
                record.bytes(),
                config.max_message_bytes,
                config.segment_bytes
            ));
        }
        if config.compact && record.key.is_none() {
            return Some(format!(
                "{topic} is compacted and takes no record without a key"
            ));
        }
        let stamped = record.timestamp;
        (!self.takes_timestamp(stamped, now_ms))
            .then(|| format!("{topic} does not take the timestamp {stamped}"))
    }

    pub(super) fn takes_timestamp(&self, stamped: i64, now_ms: i64) -> bool {
        let config = &self.config;
        let earliest = now_ms.saturating_sub(config.timestamp_before_max_ms);
        let latest = now_ms.saturating_add(config.timestamp_after_max_ms);
        config.timestamp_type != TimestampType::CreateTime
            || stamped < 0
            || (earliest..=latest).contains(&stamped)
    }

    /// The partition that a guest chose; none where the sink has no such.
    fn partition(
        &self,
        choice: PartitionChoice,
        key: Option<&[u8]>,
        source: PartitionId,
    ) -> Option<PartitionId> {
        let same = PartitionId(source.0 % self.partitions);
        match (choice, key) {
            (PartitionChoice::Key, Some(key)) => Some(murmur2_partition(key, self.partitions)),
            (PartitionChoice::Key, None) | (PartitionChoice::Source, _) => Some(same),
            (PartitionChoice::Explicit(chosen), _) => {
                (0..self.partitions).contains(&chosen.0).then_some(chosen)
            }
        }
    }
}

/// Fails the records whose outputs a sink would refuse, before anything is written.
pub(super) fn refuse(
    sinks: &[Sink],
    records: &[Record],
    source: PartitionId,
    compression: Compression,
    now_ms: i64,
    outputs: &mut Outputs,
) {
    let mut refused = Vec::new();
    for output in &outputs.outputs {
        let sink = &sinks[usize::from(output.sink)];
        let record = Outgoing::of_output(output, records);
        let message = match sink.partition(output.partition, record.key, source) {
            Some(_) => sink.refusal(&record, compression, now_ms),
            None => Some(format!(
                "the function chose a partition that {} does not have; it has {}",
                sink.topic, sink.partitions
            )),
        };
        if let Some(message) = message {
            refused.push(FailedRecord {
                record: output.record,
                code: None,
                message: message.into(),
            });
        }
    }
    outputs.failed.append(&mut refused);
    outputs.drop_failed(records.len());
}

/// Batches for the sinks' partitions, in the order in which they are written.
#[derive(Default)]
pub(super) struct Batches {
    sealed: Vec<(Arc<str>, PartitionId, RecordBatch)>,
    open: BTreeMap<(Arc<str>, PartitionId), Open>,
}

struct Open {
    builder: RecordBatchBuilder,
    /// What the sink takes.
    bytes_max: usize,
}

impl Batches {
    /// Adds the outputs of a frame.
    pub(super) fn add_outputs(
        &mut self,
        sinks: &[Sink],
        records: &[Record],
        source: PartitionId,
        compression: Compression,
        outputs: &Outputs,
    ) {
        for output in &outputs.outputs {
            let sink = &sinks[usize::from(output.sink)];
            let record = Outgoing::of_output(output, records);
            let partition = sink.partition(output.partition, record.key, source);
            let partition = partition.expect("refused before");
            self.add(sink, partition, compression, record);
        }
    }

    /// Adds one record.
    pub(super) fn add(
        &mut self,
        sink: &Sink,
        partition: PartitionId,
        compression: Compression,
        record: Outgoing<'_>,
    ) {
        let compression = sink.compression.unwrap_or(compression);
        let fresh = || RecordBatchBuilder::new(compression);
        let bytes_max = sink.bytes_max();
        let open = self.open.entry((sink.topic.clone(), partition));
        let open = open.or_insert_with(|| Open {
            builder: fresh(),
            bytes_max,
        });
        let bytes = open.builder.plain_bytes() + record.bytes();
        if open.builder.record_count() > 0 && bytes > bytes_max.min(BATCH_BYTES_MAX) {
            let full = std::mem::replace(&mut open.builder, fresh());
            let full = seal(full, bytes_max);
            self.sealed.push((sink.topic.clone(), partition, full));
        }
        open.builder
            .push(record.timestamp, record.key, record.value, record.headers);
    }

    /// All batches.
    pub(super) fn seal(mut self) -> Vec<(Arc<str>, PartitionId, RecordBatch)> {
        for ((topic, partition), open) in self.open {
            if open.builder.record_count() > 0 {
                let batch = seal(open.builder, open.bytes_max);
                self.sealed.push((topic, partition, batch));
            }
        }
        self.sealed
    }
}

/// Makes the batch: plain where the codec makes it larger than it may be, as it does what is compressed already.
fn seal(builder: RecordBatchBuilder, bytes_max: usize) -> RecordBatch {
    const MADE: &str = "records within the bounds of a batch, and at least one";
    let plain_bytes = builder.plain_bytes();
    let batch = builder.build().expect(MADE);
    if batch.size_bytes() <= bytes_max || plain_bytes >= batch.size_bytes() {
        return batch;
    }
    let mut plain = RecordBatchBuilder::new(Compression::None);
    let records = batch.records(DecodeLimit(plain_bytes));
    for record in records.into_iter().flatten() {
        let record = record.expect("it was written just now");
        let Outgoing {
            timestamp,
            key,
            value,
            headers,
        } = Outgoing::of(&record);
        plain.push(timestamp, key, value, headers);
    }
    plain.build().expect(MADE)
}

/// What was appended since the last commit.
#[derive(Default)]
pub(super) struct Uncommitted {
    ends: BTreeMap<(Arc<str>, PartitionId), (Arc<Partition>, Offset)>,
    last: Option<Lsn>,
    pub(super) bytes: usize,
}

impl Uncommitted {
    /// Appends batches; they are durable after [`Uncommitted::durable`].
    pub(super) async fn append(
        &mut self,
        broker: &Broker,
        batches: Vec<(Arc<str>, PartitionId, RecordBatch)>,
        figures: &TaskFigures,
    ) -> Result<(), Trouble> {
        for (topic, index, batch) in batches {
            let room = async {
                broker.disk.admit().await;
                broker.logs.admit().await
            };
            let room = tokio::time::timeout(DURABLE_WITHIN, room).await;
            if !matches!(room, Ok(Ok(()))) {
                return Err(Trouble::NoRoom);
            }
            let partition = broker.partitions.get(&topic, index.0);
            let partition = partition.ok_or_else(|| Trouble::NoTopic(topic.to_string()))?;
            let (bytes, records) = (batch.size_bytes(), batch.record_count());
            let appended = partition.append(
                vec![batch],
                LeaderEpoch::NONE,
                AppendOrigin::Client,
                true,
                broker.clock.now_ms(),
                0,
            );
            let appended = appended.map_err(|source| Trouble::Sink {
                sink: partition.name.to_string(),
                source,
            })?;
            partition.traffic.count_in(bytes, records);
            broker.disk.appended(bytes);
            figures.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
            self.bytes += bytes;
            self.last = self.last.max(Some(appended.lsn));
            self.ends
                .insert((topic, index), (partition, appended.next_offset));
        }
        Ok(())
    }

    /// Adds what was appended before this.
    pub(super) fn add(&mut self, before: Self) {
        for (partition, end) in before.ends {
            self.ends.entry(partition).or_insert(end);
        }
        self.last = self.last.max(before.last);
        self.bytes += before.bytes;
    }

    /// Waits until all of it is durable, and committed by all in-sync replicas. After an error it is waited for again: what is not
    /// durable is never taken for it.
    pub(super) async fn durable(&mut self, broker: &Broker) -> Result<(), Trouble> {
        let deadline = Instant::now() + DURABLE_WITHIN;
        if let Some(last) = self.last {
            let durable = broker.logs.wal().wait_durable(last);
            let durable = tokio::time::timeout_at(deadline, durable).await;
            if !matches!(durable, Ok(Ok(()))) {
                return Err(Trouble::NotDurable("the write-ahead log".to_owned()));
            }
        }
        for (partition, end) in self.ends.values() {
            if !partition.wait_committed(*end, deadline).await {
                return Err(Trouble::NotDurable(partition.name.to_string()));
            }
        }
        *self = Self::default();
        Ok(())
    }
}
