//! `tidemill bench produce`

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;
use tidemill_client::{Acks, Client, Connection, ConnectionConfig};
use tidemill_protocol::api_versions::ApiVersionsRequest;
use tidemill_protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidemill_protocol::{Records, Str, decode_response};
use tidemill_records::{Compression, Headers, RecordBatch, RecordBatchBuilder};
use tidemill_storage::clock::{Clock, SystemClock};

use super::super::exit::Failure;
use super::super::produce::{AcksArg, Codec};
use super::report::{Measured, Report};
use super::wire::{PreparedRequest, Wire};
use super::{Amount, LoadArgs, Share, measure, parse_amount, refused, shares, topic};

/// The last version of Produce that names topics by name.
const PRODUCE_BY_NAME: i16 = 12;
/// How long the broker may wait for its replicas.
const REPLICATION_TIMEOUT_MS: i32 = 30_000;
/// At a fixed rate, a connection sends at least this often: longer pauses would make a burst of each batch.
const RATED_INTERVAL_MAX: Duration = Duration::from_millis(20);
/// Bytes that a record costs beside its value, at most.
const RECORD_OVERHEAD: u64 = 16;

#[derive(Debug, Args)]
pub(super) struct ProduceBenchArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Partitions, if the topic has to be created.
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// Size of each record's value.
    #[arg(long, value_name = "N", value_parser = parse_amount, default_value = "1Ki")]
    record_size: u64,
    /// Size of a batch; a request has one. With --rate a batch is no more than 20 ms of it.
    #[arg(long, value_name = "N", value_parser = parse_amount, default_value = "256Ki")]
    batch_bytes: u64,
    /// Records in a batch, instead of --batch-bytes.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    batch_records: Option<u64>,
    /// When the broker answers: when all replicas have it, when the leader has it (1), never (0).
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// Requests of a connection that wait for their answer at once.
    #[arg(long, value_name = "N", default_value_t = 5)]
    in_flight: usize,
    /// How the batches are compressed, once, before the run.
    #[arg(long, value_enum, default_value = "none")]
    compression: Codec,
    /// Records per second, all connections together: an open loop, with latency from the intended time.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
}

/// A request with its batch's size.
#[derive(Debug, Clone)]
struct Prepared {
    request: PreparedRequest,
    records: u64,
    bytes: u64,
}

impl Prepared {
    fn new(
        args: &ProduceBenchArgs,
        partition: i32,
        batch: &RecordBatch,
        version: i16,
    ) -> Result<Prepared, Failure> {
        let request = request_for(&args.load.topic, partition, batch, args.acks.into());
        Ok(Prepared {
            request: PreparedRequest::new(&request, version)?,
            records: batch.record_count() as u64,
            bytes: batch.size_bytes() as u64,
        })
    }
}

/// What one connection does.
#[derive(Debug, Clone)]
struct Load {
    share: Share,
    /// One for each partition, sent in turns.
    requests: Vec<Prepared>,
    /// So many of them.
    batches: u64,
    /// A smaller one after them, where the amount is no multiple of a batch.
    rest: Option<Prepared>,
    version: i16,
    acks: Acks,
    in_flight: usize,
    /// First request and time between two of them, for an open loop.
    schedule: Option<(Duration, Duration)>,
}

pub(super) async fn run(client: &Client, args: &ProduceBenchArgs) -> Result<Report, Failure> {
    if args.in_flight == 0 || args.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
        return Err(Failure::usage("--in-flight and --rate must be positive"));
    }
    let view = topic(client, &args.load.topic, args.partitions).await?;
    let shares = shares(client, &view, args.load.connections)?;
    let connections = shares.len() as u64;
    let full = batch(args, batch_records(args, connections))?;
    let (records, bytes) = (full.record_count() as u64, full.size_bytes() as u64);
    let (batches, rest) = match args.load.amount() {
        Amount::Bytes(wanted) => (wanted.div_ceil(bytes), 0),
        Amount::Records(wanted) => (wanted / records, wanted % records),
    };
    let rest = (rest > 0).then(|| batch(args, rest)).transpose()?;
    let mut work = Vec::new();
    for (number, share) in (0..).zip(shares) {
        let version = version_at(&share.address).await?;
        let between = args.rate.map(|rate| {
            let batches_per_second = rate / records as f64 / connections as f64;
            Duration::from_secs_f64(1.0 / batches_per_second)
        });
        let prepare = |partition: &i32| Prepared::new(args, *partition, &full, version);
        let rest = match &rest {
            Some(rest) if number == 0 => {
                Some(Prepared::new(args, share.partitions[0], rest, version)?)
            }
            _ => None,
        };
        work.push(Load {
            requests: share
                .partitions
                .iter()
                .map(prepare)
                .collect::<Result<_, _>>()?,
            rest,
            share,
            version,
            acks: args.acks.into(),
            batches: batches / connections + u64::from(number < batches % connections),
            in_flight: args.in_flight,
            // Connections take turns within one interval.
            schedule: between
                .map(|between| (between.mul_f64(number as f64 / connections as f64), between)),
        });
    }
    let (measured, usage) = measure(args.load.broker_pid, work, produce).await?;
    Ok(Report::new("produce", &args.load.topic, &measured, &usage))
}

/// The version that the broker there speaks, by name.
async fn version_at(address: &str) -> Result<i16, Failure> {
    let connection = Connection::open(address, ConnectionConfig::default()).await;
    let connection = connection.map_err(tidemill_client::ClientError::from)?;
    let version = connection.version_of::<ProduceRequest>(Some(PRODUCE_BY_NAME));
    Ok(version.map_err(tidemill_client::ClientError::from)?)
}

/// Records of a full batch.
fn batch_records(args: &ProduceBenchArgs, connections: u64) -> u64 {
    let by_rate = args.rate.map_or(u64::MAX, |rate| {
        (rate / connections as f64 * RATED_INTERVAL_MAX.as_secs_f64()) as u64
    });
    let by_size = args.batch_bytes / (args.record_size + RECORD_OVERHEAD);
    args.batch_records.unwrap_or(by_size.min(by_rate)).max(1)
}

/// One batch of `count` values that do not compress.
fn batch(args: &ProduceBenchArgs, count: u64) -> Result<RecordBatch, Failure> {
    let now = SystemClock::new().now_ms();
    let mut builder = RecordBatchBuilder::new(Compression::from(args.compression));
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut value = vec![0; usize::try_from(args.record_size).unwrap_or(usize::MAX)];
    for _ in 0..count {
        noise.fill(&mut value);
        builder.push(now, None, Some(&value), &Headers::default());
    }
    builder
        .build()
        .map_err(|error| Failure::usage("no such batch").because(&error))
}

/// Bytes that look random and are the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

fn request_for(topic: &str, partition: i32, batch: &RecordBatch, acks: Acks) -> ProduceRequest {
    ProduceRequest {
        acks: match acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        },
        timeout_ms: REPLICATION_TIMEOUT_MS,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(batch.to_bytes())),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// Sends all batches of one connection and waits for their answers.
fn produce(mut load: Load) -> Result<Measured, Failure> {
    let mut wire = Wire::connect(&load.share.address)?;
    let mut measured = Measured::new();
    let mut waiting: VecDeque<Waiting> = VecDeque::with_capacity(load.in_flight);
    let began = Instant::now();
    let total = load.batches + u64::from(load.rest.is_some());
    let mut sent: u64 = 0;
    while sent < total || !waiting.is_empty() {
        let may_send = sent < total && waiting.len() < load.in_flight;
        let due = match load.schedule {
            Some((first, between)) => began + first + between.mul_f64(sent as f64),
            None => Instant::now(),
        };
        if may_send {
            let early = due.saturating_duration_since(Instant::now());
            if early.is_zero() {
                let correlation_id = (sent & 0x7fff_ffff) as i32;
                let turn = (sent % load.requests.len() as u64) as usize;
                let next = match &mut load.rest {
                    Some(rest) if sent == load.batches => rest,
                    _ => &mut load.requests[turn],
                };
                wire.send(&mut next.request, correlation_id)?;
                sent += 1;
                let sent = Waiting {
                    correlation_id,
                    due,
                    records: next.records,
                    bytes: next.bytes,
                };
                match load.acks {
                    Acks::None => sent.count(&mut measured),
                    Acks::Leader | Acks::All => waiting.push_back(sent),
                }
                continue;
            }
            if !wire.readable(early)? {
                continue;
            }
        }
        if let Some(sent) = waiting.pop_front() {
            let version = load.version;
            wire.receive(|frame| check_answer(frame, version, sent.correlation_id))?;
            sent.count(&mut measured);
        }
    }
    if load.acks == Acks::None {
        wait_until_read(&mut wire)?;
    }
    Ok(measured)
}

/// A batch that was sent.
struct Waiting {
    correlation_id: i32,
    /// When it should have been sent.
    due: Instant,
    records: u64,
    bytes: u64,
}

impl Waiting {
    fn count(&self, measured: &mut Measured) {
        measured.requests += 1;
        measured.records += self.records;
        measured.bytes += self.bytes;
        measured.latency(self.due.elapsed());
    }
}

fn check_answer(frame: bytes::Bytes, version: i16, correlation_id: i32) -> Result<(), Failure> {
    let (header, response) = decode_response::<ProduceRequest>(frame, version)
        .map_err(|error| Failure::new("the answer cannot be read").because(&error))?;
    if header.correlation_id != correlation_id {
        return Err(Failure::new("the broker answers out of order"));
    }
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            if partition.error_code != 0 {
                let said = partition.error_message.as_deref().unwrap_or_default();
                let name = topic.name.as_str();
                return Err(refused(name, partition.index, partition.error_code, said));
            }
        }
    }
    Ok(())
}

/// Requests of a connection are served in order: an answer to the last one says that all were read.
fn wait_until_read(wire: &mut Wire) -> Result<(), Failure> {
    wire.send_new(&ApiVersionsRequest::default(), 0, 0)?;
    wire.receive(|_| Ok(()))
}

#[cfg(test)]
mod tests {
    use tidemill_records::BatchRules;

    use super::*;

    #[test]
    fn noise_is_the_same_every_time_and_does_not_compress() {
        let fill = || {
            let mut bytes = vec![0; 10_001];
            Noise(7).fill(&mut bytes);
            bytes
        };
        assert_eq!(fill(), fill());
        let plain = bytes::Bytes::from(fill());
        assert!(Compression::Zstd.compress(&plain, None).len() > 10_000);
    }

    #[test]
    fn a_prepared_request_is_one_whole_batch() {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.push(1, None, Some(b"v"), &Headers::default());
        let batch = builder.build().unwrap();
        let request = request_for("t", 3, &batch, Acks::All);
        let records = request.topic_data[0].partition_data[0]
            .records
            .clone()
            .unwrap();
        let parsed = RecordBatch::parse_all(&records.into_bytes(), BatchRules::Produced).unwrap();
        assert_eq!(parsed, [batch]);
    }
}
