//! Writing: one batch to one partition, and a producer that gathers records into batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tidemill_protocol::init_producer_id::InitProducerIdRequest;
use tidemill_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use tidemill_protocol::{ApiKey, ErrorCode, Records, Str};
use tidemill_records::{
    Compression, HEADER_BYTES, Headers, Offset, PartitionId, ProducerEpoch, ProducerId,
    RecordBatch, RecordBatchBuilder, Sequence, TopicId, TopicPartition, murmur2_partition,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::client::{Client, Route, check, error_code};
use crate::connection::CallOptions;
use crate::error::ClientError;
use crate::metadata::TopicView;
use crate::topics::incomplete;

/// The last version of Produce that names topics by name, for brokers whose metadata has no topic ids.
const PRODUCE_BY_NAME: i16 = 12;
/// How long the broker may wait for its replicas.
const REPLICATION_TIMEOUT_MS: i32 = 15_000;

/// What must have happened before a batch counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Nothing: it was sent.
    None,
    /// The leader has it.
    Leader,
    /// All replicas in sync have it.
    All,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// What the broker says about a batch that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceAck {
    /// Offset of the batch's first record; [`Offset::NONE`] with [`Acks::None`].
    pub base_offset: Offset,
    /// The broker's time in ms where the topic takes it, else -1.
    pub log_append_time_ms: i64,
    /// The start of the log.
    pub log_start_offset: Offset,
}

impl ProduceAck {
    const UNKNOWN: ProduceAck = ProduceAck {
        base_offset: Offset::NONE,
        log_append_time_ms: -1,
        log_start_offset: Offset::NONE,
    };
}

impl Client {
    /// Writes a batch to the leader of `partition`. A batch without a producer id can be written twice when
    /// a connection breaks between the write and its answer.
    ///
    /// # Errors
    /// As every call; `Broker` with `MessageTooLarge`, `OutOfOrderSequenceNumber`, `InvalidRecord`…
    pub async fn produce(
        &self,
        partition: &TopicPartition,
        batch: &RecordBatch,
        acks: Acks,
    ) -> Result<ProduceAck, ClientError> {
        let header = bytes::Bytes::copy_from_slice(batch.header());
        let records = Records::from_chunks(vec![header, batch.body().clone()]);
        self.retry(|| self.produce_once(partition, records.clone(), acks))
            .await
    }

    async fn produce_once(
        &self,
        partition: &TopicPartition,
        records: Records,
        acks: Acks,
    ) -> Result<ProduceAck, ClientError> {
        let connection = self.connection(Route::Leader(partition)).await?;
        let topic_id = self
            .view()
            .topics
            .get(&partition.topic)
            .map_or(TopicId::ZERO, |t| t.id);
        let request = ProduceRequest {
            acks: acks.code(),
            timeout_ms: REPLICATION_TIMEOUT_MS,
            topic_data: vec![TopicProduceData {
                name: Str::from(&*partition.topic),
                topic_id: topic_id.0,
                partition_data: vec![PartitionProduceData {
                    index: partition.partition.0,
                    records: Some(records),
                    ..PartitionProduceData::default()
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let version_max = (topic_id == TopicId::ZERO).then_some(PRODUCE_BY_NAME);
        let options = CallOptions {
            version_max,
            ..CallOptions::default()
        };
        if acks == Acks::None {
            connection.send_without_answer(&request, options).await?;
            return Ok(ProduceAck::UNKNOWN);
        }
        let response = connection.send_with(&request, options).await?;
        let topic = response.responses.first();
        let result = topic.and_then(|topic| topic.partition_responses.first());
        read_ack(
            partition,
            result.ok_or_else(|| incomplete(ApiKey::PRODUCE, "the partition"))?,
        )
    }

    /// A producer id and epoch for an idempotent producer.
    ///
    /// # Errors
    /// As every call.
    pub async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        self.retry(|| async {
            let response = self
                .call(Route::Any, &request, CallOptions::default())
                .await?;
            check(
                ApiKey::INIT_PRODUCER_ID,
                "the request",
                response.error_code,
                None,
            )?;
            Ok((
                ProducerId(response.producer_id),
                ProducerEpoch(response.producer_epoch),
            ))
        })
        .await
    }
}

fn read_ack(
    partition: &TopicPartition,
    result: &PartitionProduceResponse,
) -> Result<ProduceAck, ClientError> {
    if error_code(result.error_code) == ErrorCode::DuplicateSequenceNumber {
        // An earlier attempt was written, and the broker no longer knows at which offset.
        return Ok(ProduceAck::UNKNOWN);
    }
    let message = result.error_message.as_deref();
    check(
        ApiKey::PRODUCE,
        partition.to_string(),
        result.error_code,
        message,
    )?;
    Ok(ProduceAck {
        base_offset: Offset(result.base_offset),
        log_append_time_ms: result.log_append_time_ms,
        log_start_offset: Offset(result.log_start_offset),
    })
}

/// Settings of a [`Producer`].
#[derive(Debug, Clone, Copy)]
pub struct ProducerConfig {
    /// When a batch counts as written.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// Whether the broker drops what a retry would write twice. Demands [`Acks::All`].
    pub idempotent: bool,
    /// A batch is sent when its records reach this size, uncompressed.
    pub batch_bytes_max: usize,
    /// Bound for everything that is gathered or under way; [`Producer::send`] waits at it.
    pub buffer_bytes_max: u32,
}

impl Default for ProducerConfig {
    fn default() -> ProducerConfig {
        ProducerConfig {
            acks: Acks::All,
            compression: Compression::None,
            idempotent: true,
            batch_bytes_max: 256 << 10,
            buffer_bytes_max: 32 << 20,
        }
    }
}

/// A record to write.
#[derive(Debug, Clone, Default)]
pub struct NewRecord<'a> {
    /// Where to; `None` lets the key decide, and without one the producer.
    pub partition: Option<PartitionId>,
    /// In ms since 1970.
    pub timestamp: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: Headers,
}

/// Gathers records of one topic into batches and writes them, in order within each partition: one batch of
/// a partition is under way at a time, partitions go side by side.
///
/// The first batch that fails for good stops the producer: what was sent later could not keep the order.
#[derive(Debug)]
pub struct Producer {
    client: Arc<Client>,
    topic: Arc<TopicView>,
    config: ProducerConfig,
    identity: Option<(ProducerId, ProducerEpoch)>,
    lanes: BTreeMap<PartitionId, Lane>,
    /// Where records without a key go until that batch is full.
    sticky: usize,
    gathered_bytes: usize,
    buffer: Arc<Semaphore>,
    progress: Arc<Progress>,
}

/// One partition's open batch and its way out.
#[derive(Debug)]
struct Lane {
    open: Option<RecordBatchBuilder>,
    next_sequence: Sequence,
    queue: mpsc::Sender<Sealed>,
}

#[derive(Debug)]
struct Sealed {
    batch: RecordBatch,
    _buffered: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
    failed: Mutex<Option<ClientError>>,
}

impl Producer {
    /// Batches of one partition that wait behind the one under way.
    const LANE_QUEUE_MAX: usize = 1;

    /// A producer for `topic`; asks for a producer id when it is to be idempotent.
    ///
    /// # Errors
    /// As every call.
    pub async fn open(
        client: Arc<Client>,
        topic: Arc<TopicView>,
        config: ProducerConfig,
    ) -> Result<Producer, ClientError> {
        let identity = match config.idempotent {
            true => Some(client.init_producer_id().await?),
            false => None,
        };
        Ok(Producer {
            client,
            topic,
            identity,
            lanes: BTreeMap::new(),
            sticky: 0,
            gathered_bytes: 0,
            buffer: Arc::new(Semaphore::new(config.buffer_bytes_max as usize)),
            progress: Arc::new(Progress::default()),
            config,
        })
    }

    /// Records that the broker has acknowledged.
    pub fn acked_records(&self) -> u64 {
        self.progress.records.load(Ordering::Relaxed)
    }

    /// Bytes of the batches that the broker has acknowledged, as they went over the wire.
    pub fn acked_bytes(&self) -> u64 {
        self.progress.bytes.load(Ordering::Relaxed)
    }

    /// Adds a record to its partition's batch, and sends that when it is full. Waits while the buffer is
    /// full.
    ///
    /// # Errors
    /// `UnknownPartition`; `ProducerStopped` after a batch failed.
    pub async fn send(&mut self, record: NewRecord<'_>) -> Result<(), ClientError> {
        self.check_running()?;
        let partition = self.choose(&record)?;
        let compression = self.config.compression;
        let lane = self.lane(partition);
        let open = lane
            .open
            .get_or_insert_with(|| RecordBatchBuilder::new(compression));
        let before = open.plain_bytes();
        open.push(record.timestamp, record.key, record.value, &record.headers);
        let after = open.plain_bytes();
        self.gathered_bytes += after - before;
        if after >= self.config.batch_bytes_max {
            self.sticky += 1;
            self.seal(partition).await?;
        } else if self.gathered_bytes >= self.config.buffer_bytes_max as usize / 2 {
            // Many partitions with a little each would fill memory without filling a batch.
            self.seal_all().await?;
        }
        Ok(())
    }

    /// Sends every batch that holds anything, without waiting for answers.
    ///
    /// # Errors
    /// `ProducerStopped` after a batch failed.
    pub async fn seal_all(&mut self) -> Result<(), ClientError> {
        let gathering = self.lanes.iter().filter(|(_, lane)| lane.open.is_some());
        let partitions: Vec<PartitionId> = gathering.map(|(partition, _)| *partition).collect();
        self.sticky += 1;
        for partition in partitions {
            self.seal(partition).await?;
        }
        Ok(())
    }

    /// Sends everything and waits until it is acknowledged.
    ///
    /// # Errors
    /// The error that stopped the producer.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        self.seal_all().await?;
        // Everything under way holds its bytes of the buffer: all of it is free when nothing is.
        let idle = self.buffer.acquire_many(self.config.buffer_bytes_max).await;
        drop(idle.expect("the semaphore is never closed"));
        self.check_running()
    }

    fn check_running(&self) -> Result<(), ClientError> {
        match &*self.progress.failed.lock() {
            Some(error) => Err(ClientError::ProducerStopped(Box::new(error.clone()))),
            None => Ok(()),
        }
    }

    fn choose(&self, record: &NewRecord<'_>) -> Result<PartitionId, ClientError> {
        let partitions = &self.topic.partitions;
        let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        let chosen = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, _) if count == 0 => PartitionId(0),
            (None, Some(key)) => murmur2_partition(key, count),
            (None, None) => partitions[self.sticky % partitions.len()].partition,
        };
        match self.topic.partition(chosen) {
            Some(_) => Ok(chosen),
            None => Err(ClientError::UnknownPartition {
                topic: self.topic.name.clone(),
                partition: chosen,
            }),
        }
    }

    fn lane(&mut self, partition: PartitionId) -> &mut Lane {
        self.lanes.entry(partition).or_insert_with(|| {
            let (queue, sealed) = mpsc::channel(Producer::LANE_QUEUE_MAX);
            let id = TopicPartition {
                topic: self.topic.name.clone(),
                partition,
            };
            let (client, progress) = (self.client.clone(), self.progress.clone());
            tokio::spawn(run_lane(client, id, self.config.acks, sealed, progress));
            Lane {
                open: None,
                next_sequence: Sequence(0),
                queue,
            }
        })
    }

    async fn seal(&mut self, partition: PartitionId) -> Result<(), ClientError> {
        let identity = self.identity;
        let lane = self.lane(partition);
        let Some(mut open) = lane.open.take() else {
            return Ok(());
        };
        let gathered = open.plain_bytes() - HEADER_BYTES;
        let records = i32::try_from(open.record_count()).unwrap_or(i32::MAX);
        if let Some((id, epoch)) = identity {
            open = open.producer(id, epoch, lane.next_sequence);
            lane.next_sequence = lane.next_sequence.advance(records);
        }
        let queue = lane.queue.clone();
        self.gathered_bytes -= gathered;
        let batch = open.build()?;
        let bytes = u32::try_from(batch.size_bytes()).unwrap_or(u32::MAX);
        let bytes = bytes.min(self.config.buffer_bytes_max);
        let buffered = self.buffer.clone().acquire_many_owned(bytes).await;
        let _buffered = buffered.expect("the semaphore is never closed");
        match queue.send(Sealed { batch, _buffered }).await {
            Ok(()) => Ok(()),
            Err(_) => self.check_running(),
        }
    }
}

/// Writes one partition's batches, one after the other. After a failure of any lane it only empties its
/// queue, so that nobody waits for room.
async fn run_lane(
    client: Arc<Client>,
    partition: TopicPartition,
    acks: Acks,
    mut sealed: mpsc::Receiver<Sealed>,
    progress: Arc<Progress>,
) {
    while let Some(Sealed { batch, _buffered }) = sealed.recv().await {
        if progress.failed.lock().is_some() {
            continue;
        }
        match client.produce(&partition, &batch, acks).await {
            Ok(_) => {
                progress
                    .records
                    .fetch_add(batch.record_count() as u64, Ordering::Relaxed);
                progress
                    .bytes
                    .fetch_add(batch.size_bytes() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                progress.failed.lock().get_or_insert(error);
            }
        }
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
