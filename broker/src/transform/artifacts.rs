//! Artifacts as records: a function of any size, in chunks one behind the other in an internal topic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_log::AppendOrigin;
use tidemill_metadata::{
    ArtifactChunks, Carrier, FunctionId, FunctionImage, MetadataLog, ProposeError, Rejection,
};
use tidemill_records::{
    Compression, DecodeLimit, Headers, LeaderEpoch, Offset, RecordBatchBuilder,
};
use tokio::time::Instant;

use super::FUNCTIONS_TOPIC;
use super::trouble::Trouble;
use crate::broker::Broker;
use crate::partition::{Isolation, Partition};
use crate::topic;

/// One record's share of an artifact.
const CHUNK_BYTES: usize = 512 << 10;
/// What a batch of one chunk opens to at most.
const OPENED: DecodeLimit = DecodeLimit(CHUNK_BYTES + 4096);
const DURABLE_WITHIN: Duration = Duration::from_secs(30);

/// The way into the internal topic, for one artifact at a time: its chunks have no others between them.
#[derive(Default)]
pub(super) struct Artifacts(tokio::sync::Mutex<()>);

/// The id of an artifact: its SHA-256.
pub(super) fn id_of(artifact: &[u8]) -> FunctionId {
    let digest = ring::digest::digest(&ring::digest::SHA256, artifact);
    let bytes = digest.as_ref().try_into();
    FunctionId(bytes.expect("SHA-256 has 32 bytes"))
}

impl Artifacts {
    /// Writes an artifact; it is durable afterwards.
    pub(super) async fn store(
        &self,
        broker: &Broker,
        id: FunctionId,
        label: &str,
        carrier: Carrier,
        artifact: &Bytes,
    ) -> Result<FunctionImage, Trouble> {
        let _alone = self.0.lock().await;
        let partition = topic(broker).await?;
        let topic = partition.log.topic_id();
        let now_ms = broker.clock.now_ms();
        let mut written: Option<(Offset, Offset)> = None;
        let mut count = 0;
        for chunk in artifact.chunks(CHUNK_BYTES) {
            let admitted = tokio::time::timeout(DURABLE_WITHIN, broker.logs.admit()).await;
            if !matches!(admitted, Ok(Ok(()))) {
                return Err(Trouble::NoRoom);
            }
            let mut builder = RecordBatchBuilder::new(Compression::None);
            let key = format!("{id}/{count}");
            builder.push(
                now_ms,
                Some(key.as_bytes()),
                Some(chunk),
                &Headers::default(),
            );
            let batch = builder.build().expect("a chunk makes a batch");
            let appended = partition.append(
                vec![batch],
                LeaderEpoch::NONE,
                AppendOrigin::Coordinator,
                true,
                now_ms,
                0,
            )?;
            let first = written.map_or(appended.base_offset, |(first, _)| first);
            written = Some((first, appended.next_offset));
            count += 1;
        }
        let (first, end) = written.ok_or(Trouble::Artifact("it is empty"))?;
        let deadline = Instant::now() + DURABLE_WITHIN;
        if !partition.wait_committed(end, deadline).await {
            return Err(Trouble::NotDurable(FUNCTIONS_TOPIC.to_owned()));
        }
        Ok(FunctionImage {
            id,
            label: label.into(),
            size_bytes: artifact.len() as u64,
            carrier,
            chunks: ArtifactChunks {
                topic,
                first,
                count,
            },
            uploaded_at_ms: now_ms,
        })
    }

    /// Reads an artifact back, and proves that it is the one.
    pub(super) fn read(broker: &Broker, function: &FunctionImage) -> Result<Vec<u8>, Trouble> {
        let chunks = &function.chunks;
        let partition = broker.partitions.get(FUNCTIONS_TOPIC, 0);
        let partition = partition
            .filter(|partition| partition.log.topic_id() == chunks.topic)
            .ok_or_else(|| Trouble::NoTopic(FUNCTIONS_TOPIC.to_owned()))?;
        let end = Offset(chunks.first.0 + i64::from(chunks.count));
        let mut artifact = Vec::with_capacity(function.size_bytes as usize);
        let mut next = chunks.first;
        while next < end {
            let read = partition.read(
                next,
                LeaderEpoch::NONE,
                Isolation::Uncommitted,
                2 * CHUNK_BYTES,
                true,
            )?;
            let read_to = read.records.next;
            if read_to <= next {
                return Err(Trouble::Artifact("records are missing"));
            }
            let damaged = |_| Trouble::Artifact("a batch of them is damaged");
            for batch in read.records.into_batches().map_err(damaged)? {
                let records = batch.records(OPENED);
                for record in records.into_iter().flatten().flatten() {
                    if (next..end).contains(&record.offset) {
                        artifact.extend_from_slice(&record.value.unwrap_or_default());
                    }
                }
            }
            next = read_to;
        }
        match id_of(&artifact) == function.id {
            true => Ok(artifact),
            false => Err(Trouble::Artifact("their checksum is another")),
        }
    }
}

/// The internal topic's partition, which is made when it is first needed.
async fn topic(broker: &Broker) -> Result<Arc<Partition>, Trouble> {
    if broker.metadata.image().topic(FUNCTIONS_TOPIC).is_none() {
        let configs = [("retention.ms", "-1"), ("cleanup.policy", "delete")];
        let configs = configs.map(|(name, value)| (name.into(), value.into()));
        match topic::create(broker, FUNCTIONS_TOPIC, 1, configs.to_vec()).await {
            Ok(_) | Err(ProposeError::Rejected(Rejection::TopicExists(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let partition = broker.partitions.get(FUNCTIONS_TOPIC, 0);
    partition.ok_or_else(|| Trouble::NoTopic(FUNCTIONS_TOPIC.to_owned()))
}
