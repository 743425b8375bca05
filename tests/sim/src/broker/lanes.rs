//! Producers: each writes its own values in order into one partition, up to five requests in flight, and
//! sends again what was not acknowledged.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use tidemill_client::{CallOptions, Connection, ConnectionConfig, NewTopic};
use tidemill_protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidemill_protocol::{ErrorCode, Records, Str};
use tidemill_records::{
    Compression, Headers, PartitionId, ProducerEpoch, ProducerId, RecordBatch, RecordBatchBuilder,
    Sequence, TopicPartition,
};
use turmoil::Sim;

use super::KAFKA;
use super::history;
use super::stage::{Now, Shared, client};
use crate::choices::Choices;
use crate::clock::wall_ms;

/// A topic whose records stay.
pub(super) const KEPT: &str = "kept";
/// A topic that retention and DeleteRecords shorten.
pub(super) const TRIMMED: &str = "trimmed";
/// Partitions of both.
pub(super) const PARTITIONS: i32 = 3;
/// The last version that names topics by name.
const PRODUCE_BY_NAME: i16 = 12;
/// Kafka's bound for idempotent producers: the broker remembers so many batches.
const IN_FLIGHT_MAX: u64 = 5;

/// Registers two idempotent producers and one plain one for each partition of two topics.
pub(super) fn start(sim: &mut Sim<'_>, shared: &Rc<Shared>, choices: &mut Choices) {
    for topic in [KEPT, TRIMMED] {
        for partition in 0..PARTITIONS {
            for kind in 0..3 {
                let is_idempotent = kind < 2;
                let id = shared.history().lanes.len();
                let partition = TopicPartition::new(topic, PartitionId(partition));
                let known = history::Lane {
                    partition: partition.clone(),
                    is_idempotent,
                    attempted: 0,
                    acked: Default::default(),
                };
                shared.history_mut().lanes.push(known);
                let lane = Lane {
                    id,
                    partition,
                    acks: if is_idempotent { -1 } else { 1 },
                    is_idempotent,
                    identity: None,
                    unacked: VecDeque::new(),
                    shared: shared.clone(),
                    choices: choices.fork(),
                };
                // Not all of them at once: what one lane writes must not hide what another does not.
                if choices.percent(60) || id == 0 {
                    sim.client(format!("lane-{id}"), lane.run());
                }
            }
        }
    }
}

/// The topics, as the first client makes them.
pub(super) fn topics(choices: &mut Choices) -> Vec<NewTopic> {
    let segment_bytes = choices.pick(&[4 << 10, 16 << 10, 64 << 10]);
    let common = [
        ("segment.bytes", segment_bytes.to_string()),
        (
            "index.interval.bytes",
            choices.pick(&[100, 1000]).to_string(),
        ),
        ("retention.ms", "-1".to_owned()),
    ];
    let retained = ("retention.bytes", (8 << 10).to_string());
    let topic = |name: &str, configs: &[(&str, String)]| NewTopic {
        partitions: Some(PARTITIONS),
        configs: configs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect(),
        ..NewTopic::new(name)
    };
    let mut trimmed = common.to_vec();
    trimmed.push(retained);
    vec![topic(KEPT, &common), topic(TRIMMED, &trimmed)]
}

/// What a lane writes as its `number`th value.
pub(super) fn value(lane: usize, number: u64) -> String {
    let filler = (lane as u64 * 31 + number * 17) % 97;
    format!("{lane}/{number}/{}", "tide".repeat(filler as usize))
}

/// The lane and number of a value; none when it is not exactly what a lane writes.
pub(super) fn parse(text: &[u8]) -> Option<(usize, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('/');
    let (lane, number) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (value(lane, number) == text).then_some((lane, number))
}

struct Batch {
    batch: RecordBatch,
    first: u64,
    count: u64,
}

struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
    /// Whether the broker has acknowledged anything from it. Until then it takes any sequence number as the
    /// first (as Kafka does), so that a batch sent behind one that is refused would get in front of it.
    is_known: bool,
}

struct Lane {
    id: usize,
    partition: TopicPartition,
    is_idempotent: bool,
    acks: i16,
    identity: Option<Identity>,
    /// Sent in this order until all are acknowledged.
    unacked: VecDeque<Batch>,
    shared: Rc<Shared>,
    choices: Choices,
}

/// What came of sending everything that is not acknowledged.
enum Round {
    /// All of it is now.
    Done,
    /// The broker refuses for the moment, or is gone.
    Again,
}

impl Lane {
    async fn run(mut self) -> turmoil::Result {
        loop {
            if self.unacked.is_empty() {
                self.shared.until(Now::Working).await;
            }
            let config = ConnectionConfig {
                connect_timeout: Duration::from_secs(1),
                request_timeout: Duration::from_secs(5),
                ..ConnectionConfig::default()
            };
            if let Ok(connection) = Connection::open(KAFKA, config).await {
                let produced = self.produce(&connection).await;
                produced.map_err(|error| {
                    format!("lane {} to {}: {error:#}", self.id, self.partition)
                })?;
            }
            self.pause(50).await;
        }
    }

    async fn pause(&mut self, ms_max: u64) {
        tokio::time::sleep(Duration::from_millis(self.choices.below(ms_max + 1))).await;
    }

    /// Produces over a connection until it fails.
    async fn produce(&mut self, connection: &Connection) -> Result<()> {
        loop {
            if self.unacked.is_empty() && self.choices.percent(2) {
                // A producer that starts anew.
                self.identity = None;
            }
            if self.is_idempotent && self.identity.is_none() {
                let Ok((id, epoch)) = client(Duration::from_secs(5)).init_producer_id().await
                else {
                    return Ok(());
                };
                self.identity = Some(Identity {
                    id,
                    epoch,
                    next: Sequence(0),
                    is_known: false,
                });
            }
            let is_known = self
                .identity
                .as_ref()
                .is_none_or(|identity| identity.is_known);
            let depth = if is_known {
                self.choices.between(1, IN_FLIGHT_MAX) as usize
            } else {
                1
            };
            while self.shared.is_working() && self.unacked.len() < depth {
                let batch = self.next_batch()?;
                self.unacked.push_back(batch);
            }
            if self.unacked.is_empty() {
                return Ok(());
            }
            if let Round::Again = self.send_all(connection).await? {
                return Ok(());
            }
            self.pause(20).await;
        }
    }

    fn next_batch(&mut self) -> Result<Batch> {
        let first = self.shared.history().lanes[self.id].attempted;
        let count = self.choices.between(1, 6);
        let mut builder =
            RecordBatchBuilder::new(self.choices.pick(&[Compression::None, Compression::Zstd]));
        if let Some(identity) = &mut self.identity {
            builder = builder.producer(identity.id, identity.epoch, identity.next);
            identity.next = identity.next.advance(count as i32);
        }
        for number in first..first + count {
            builder.push(
                wall_ms(),
                None,
                Some(value(self.id, number).as_bytes()),
                &Headers::default(),
            );
        }
        self.shared.history_mut().lanes[self.id].attempted = first + count;
        Ok(Batch {
            batch: builder.build()?,
            first,
            count,
        })
    }

    /// Sends all batches in order without waiting in between, and takes in what is answered.
    async fn send_all(&mut self, connection: &Connection) -> Result<Round> {
        let options = CallOptions {
            version_max: Some(PRODUCE_BY_NAME),
            ..CallOptions::default()
        };
        let requests: Vec<ProduceRequest> = self
            .unacked
            .iter()
            .map(|batch| self.request(&batch.batch))
            .collect();
        let answers = join_all(
            requests
                .iter()
                .map(|request| connection.send_with(request, options)),
        )
        .await;
        for (at, answer) in answers.into_iter().enumerate() {
            let Ok(answer) = answer else {
                return Ok(Round::Again);
            };
            let partition = answer
                .responses
                .first()
                .and_then(|topic| topic.partition_responses.first());
            let partition = partition.context("an answer without the partition")?;
            match ErrorCode::from_code(partition.error_code).context("an unknown error code")? {
                ErrorCode::None => self.acknowledged(partition.base_offset)?,
                code @ (ErrorCode::OutOfOrderSequenceNumber
                | ErrorCode::DuplicateSequenceNumber
                | ErrorCode::UnknownProducerId) => {
                    // Behind a batch that was refused this is right; in front it means that something is lost.
                    ensure!(
                        at > 0,
                        "{code:?} for values from {}, all before them are acknowledged",
                        self.unacked[0].first
                    );
                    bail!("{code:?} behind batches that were acknowledged");
                }
                code if code.is_retriable() => return Ok(Round::Again),
                code => bail!("{code:?}: {:?}", partition.error_message),
            }
        }
        Ok(Round::Done)
    }

    fn acknowledged(&mut self, base_offset: i64) -> Result<()> {
        let batch = self
            .unacked
            .pop_front()
            .context("more answers than requests")?;
        if let Some(identity) = &mut self.identity {
            identity.is_known = true;
        }
        let mut history = self.shared.history_mut();
        let known = &mut history.lanes[self.id].acked;
        let before = known.insert(base_offset, (batch.first, batch.count));
        ensure!(
            before.is_none(),
            "offset {base_offset} was given twice: {before:?} and {}",
            batch.first
        );
        Ok(())
    }

    fn request(&self, batch: &RecordBatch) -> ProduceRequest {
        ProduceRequest {
            acks: self.acks,
            timeout_ms: 5_000,
            topic_data: vec![TopicProduceData {
                name: Str::from(&*self.partition.topic),
                partition_data: vec![PartitionProduceData {
                    index: self.partition.partition.0,
                    records: Some(Records::from(batch.to_bytes())),
                    ..PartitionProduceData::default()
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        }
    }
}
