//! Reading: one fetch over many partitions, and a consumer that keeps its positions.
//!
//! Fetches carry no session: each names all its partitions. That costs bytes for thousands of partitions,
//! which the command line and followers of a few do not have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tidemill_protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use tidemill_protocol::{ApiKey, ErrorCode, Str};
use tidemill_records::{
    BatchError, BatchRules, DecodeLimit, NodeId, Offset, PartitionId, Record, RecordBatch,
    RecordError, TopicId, TopicPartition,
};

use crate::client::{Client, Route, check};
use crate::connection::CallOptions;
use crate::error::ClientError;
use crate::offsets::OffsetSpec;
use crate::topics::incomplete;

/// The last version of Fetch that names topics by name, for brokers whose metadata has no topic ids.
const FETCH_BY_NAME: i16 = 12;
/// What one batch may come to when it is opened. Brokers take 1 MiB batches by default, compressed.
const BATCH_OPENED_BYTES_MAX: DecodeLimit = DecodeLimit(256 << 20);

/// How much to fetch, and how long the broker may wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// The broker answers after this at the latest.
    pub wait_max: Duration,
    /// The broker answers as soon as this much is there.
    pub bytes_min: i32,
    /// Bound for the answer; a first batch larger than this comes all the same.
    pub bytes_max: i32,
    /// Bound for one partition's share.
    pub partition_bytes_max: i32,
}

impl Default for FetchLimits {
    fn default() -> FetchLimits {
        FetchLimits {
            wait_max: Duration::from_millis(500),
            bytes_min: 1,
            bytes_max: 16 << 20,
            partition_bytes_max: 1 << 20,
        }
    }
}

/// What a fetch brought of one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchedPartition {
    /// Which partition.
    pub partition: TopicPartition,
    /// The offset that was asked for; the first batch may begin before it.
    pub from: Offset,
    /// The end of what consumers may see.
    pub high_watermark: Offset,
    /// The start of the log.
    pub log_start_offset: Offset,
    /// Whole batches, in order; none when there is nothing new.
    pub batches: Vec<RecordBatch>,
}

impl FetchedPartition {
    /// Where the next fetch goes on.
    pub fn next(&self) -> Offset {
        self.batches
            .last()
            .map_or(self.from, |batch| batch.next_offset().max(self.from))
    }

    /// The records from [`FetchedPartition::from`] on, without control records. An error
    /// stands for the rest of its batch.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, RecordError>> + '_ {
        let from = self.from;
        self.batches
            .iter()
            .filter(|batch| !batch.is_control())
            .flat_map(|batch| {
                let (opened, failed) = match batch.records(BATCH_OPENED_BYTES_MAX) {
                    Ok(records) => (Some(records), None),
                    Err(error) => (None, Some(Err(error))),
                };
                opened.into_iter().flatten().chain(failed)
            })
            .filter(move |record| record.as_ref().map_or(true, |record| record.offset >= from))
    }
}

impl Client {
    /// Fetches from all `positions` at once, one request to each leader.
    ///
    /// # Errors
    /// As every call; `Broker` with `OffsetOutOfRange` when a position is outside of its log. One
    /// partition's error fails all, but for one whose storage fails while others bring records.
    pub async fn fetch(
        &self,
        positions: &BTreeMap<TopicPartition, Offset>,
        limits: FetchLimits,
    ) -> Result<Vec<FetchedPartition>, ClientError> {
        self.retry(|| async {
            let mut by_leader: BTreeMap<NodeId, Vec<Wanted<'_>>> = BTreeMap::new();
            for (id, offset) in positions {
                let view = self.leader_of(id).await?;
                let topic_id = self.view().topics.get(&id.topic).map(|topic| topic.id);
                by_leader.entry(view.leader).or_default().push(Wanted {
                    id,
                    topic_id: topic_id.unwrap_or(TopicId::ZERO),
                    partition: FetchPartition {
                        partition: id.partition.0,
                        current_leader_epoch: view.leader_epoch.0,
                        fetch_offset: offset.0,
                        partition_max_bytes: limits.partition_bytes_max,
                        ..FetchPartition::default()
                    },
                });
            }
            let fetches = by_leader.into_iter().map(|(leader, wanted)| async move {
                let response = self.fetch_from(leader, &wanted, limits).await?;
                read_response(&wanted, response)
            });
            Ok(try_join_all(fetches).await?.into_iter().flatten().collect())
        })
        .await
    }

    async fn fetch_from(
        &self,
        leader: NodeId,
        wanted: &[Wanted<'_>],
        limits: FetchLimits,
    ) -> Result<FetchResponse, ClientError> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for Wanted {
            id,
            topic_id,
            partition,
        } in wanted
        {
            match topics.last_mut().filter(|last| *last.topic == *id.topic) {
                Some(topic) => topic.partitions.push(partition.clone()),
                None => topics.push(FetchTopic {
                    topic: Str::from(&*id.topic),
                    topic_id: topic_id.0,
                    partitions: vec![partition.clone()],
                    ..FetchTopic::default()
                }),
            }
        }
        let has_ids = wanted.iter().all(|wanted| wanted.topic_id != TopicId::ZERO);
        let request = FetchRequest {
            max_wait_ms: i32::try_from(limits.wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: limits.bytes_min,
            max_bytes: limits.bytes_max,
            topics,
            ..FetchRequest::default()
        };
        let options = CallOptions {
            version_max: (!has_ids).then_some(FETCH_BY_NAME),
            held_by_broker: limits.wait_max,
        };
        let response = self.call(Route::Fetch(leader), &request, options).await?;
        check(ApiKey::FETCH, "the request", response.error_code, None)?;
        Ok(response)
    }
}

/// A partition on its way into a request.
struct Wanted<'a> {
    id: &'a TopicPartition,
    topic_id: TopicId,
    partition: FetchPartition,
}

/// Finds each wanted partition in the answer, by the topic's name or id, whichever the version carries.
fn read_response(
    wanted: &[Wanted<'_>],
    response: FetchResponse,
) -> Result<Vec<FetchedPartition>, ClientError> {
    let mut fetched = Vec::with_capacity(wanted.len());
    let (mut cut_off, mut unreadable) = (None, None);
    for topic in response.responses {
        for data in topic.partitions {
            let of = wanted.iter().find(|wanted| {
                let same_topic = match topic.topic.is_empty() {
                    true => wanted.topic_id.0 == topic.topic_id,
                    false => *wanted.id.topic == *topic.topic,
                };
                same_topic && wanted.id.partition == PartitionId(data.partition_index)
            });
            let of = of.ok_or_else(|| incomplete(ApiKey::FETCH, "the partition asked for"))?;
            match read_partition(of, data, &mut cut_off) {
                // The others are no worse for it: it is told of once they bring nothing any more.
                Err(error) if error.code() == Some(ErrorCode::KafkaStorageError) => {
                    unreadable.get_or_insert(error);
                }
                partition => fetched.push(partition?),
            }
        }
    }
    // The first partition with records brings at least one whole batch: no answer of torn ones only.
    match unreadable.or(cut_off) {
        Some(error) if fetched.iter().all(|partition| partition.batches.is_empty()) => Err(error),
        _ => Ok(fetched),
    }
}

fn read_partition(
    of: &Wanted<'_>,
    data: PartitionData,
    cut_off: &mut Option<ClientError>,
) -> Result<FetchedPartition, ClientError> {
    check(ApiKey::FETCH, of.id.to_string(), data.error_code, None)?;
    let mut bytes = data
        .records
        .map(|records| records.into_bytes())
        .unwrap_or_default();
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let error = match RecordBatch::parse(&bytes, BatchRules::Stored) {
            Ok((batch, size)) => {
                batches.push(batch);
                bytes = bytes.slice(size..);
                continue;
            }
            Err(error) => error,
        };
        let truncated = matches!(error, BatchError::Truncated { .. });
        let (topic, partition) = (of.id.topic.clone(), of.id.partition);
        let error = ClientError::Batch {
            topic,
            partition,
            source: error,
        };
        if !truncated {
            return Err(error);
        }
        // A broker may cut the last batch off where the answer is full.
        *cut_off = Some(error);
        break;
    }
    Ok(FetchedPartition {
        partition: of.id.clone(),
        from: Offset(of.partition.fetch_offset),
        high_watermark: Offset(data.high_watermark),
        log_start_offset: Offset(data.log_start_offset),
        batches,
    })
}

/// What to do when a position is no longer, or not yet, in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfRange {
    /// Hand the error to the caller.
    Fail,
    /// Go on at the log start.
    ToStart,
    /// Go on at the end.
    ToEnd,
}

/// Reads partitions on from given positions, outside of any group.
#[derive(Debug)]
pub struct Consumer {
    client: Arc<Client>,
    positions: BTreeMap<TopicPartition, Offset>,
    limits: FetchLimits,
    out_of_range: OutOfRange,
}

impl Consumer {
    /// A consumer that begins at `positions`.
    pub fn new(
        client: Arc<Client>,
        positions: BTreeMap<TopicPartition, Offset>,
        limits: FetchLimits,
        out_of_range: OutOfRange,
    ) -> Consumer {
        Consumer {
            client,
            positions,
            limits,
            out_of_range,
        }
    }

    /// Where each partition goes on.
    pub fn positions(&self) -> &BTreeMap<TopicPartition, Offset> {
        &self.positions
    }

    /// Stops reading a partition.
    pub fn remove(&mut self, partition: &TopicPartition) {
        self.positions.remove(partition);
    }

    /// What is new in all partitions, after at most [`FetchLimits::wait_max`]; the positions move past it.
    /// Partitions without news are included, with their high watermark.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn poll(&mut self) -> Result<Vec<FetchedPartition>, ClientError> {
        if self.positions.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = match self.client.fetch(&self.positions, self.limits).await {
            Err(error) if self.resets(&error) => {
                self.reset().await?;
                return Ok(Vec::new());
            }
            fetched => fetched?,
        };
        for partition in &fetched {
            if let Some(position) = self.positions.get_mut(&partition.partition) {
                *position = partition.next();
            }
        }
        Ok(fetched)
    }

    fn resets(&self, error: &ClientError) -> bool {
        self.out_of_range != OutOfRange::Fail && error.code() == Some(ErrorCode::OffsetOutOfRange)
    }

    /// Moves every position that is outside of its log as [`OutOfRange`] says.
    async fn reset(&mut self) -> Result<(), ClientError> {
        let mut by_topic: BTreeMap<Arc<str>, Vec<PartitionId>> = BTreeMap::new();
        for id in self.positions.keys() {
            by_topic
                .entry(id.topic.clone())
                .or_default()
                .push(id.partition);
        }
        for (topic, partitions) in by_topic {
            let starts = self
                .client
                .list_offsets(&topic, &partitions, OffsetSpec::Start)
                .await?;
            let ends = self
                .client
                .list_offsets(&topic, &partitions, OffsetSpec::End)
                .await?;
            for partition in partitions {
                let (Some(start), Some(end)) = (starts.get(&partition), ends.get(&partition))
                else {
                    return Err(incomplete(ApiKey::LIST_OFFSETS, "a partition"));
                };
                let id = TopicPartition::new(topic.clone(), partition);
                let Some(position) = self.positions.get_mut(&id) else {
                    continue;
                };
                if *position < start.offset || *position > end.offset {
                    *position = match self.out_of_range {
                        OutOfRange::ToEnd => end.offset,
                        OutOfRange::ToStart | OutOfRange::Fail => start.offset,
                    };
                }
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
