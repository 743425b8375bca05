//! `tidemill demo`: real records through a broker that is killed while they flow, through a function, and into the object tier.

mod broker;
mod mission;
mod sample;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tidemill_client::{
    Client, ClientConfig, Consumer, FetchLimits, NewRecord, NewTopic, OffsetSpec, OutOfRange,
    Producer, ProducerConfig,
};
use tidemill_records::{Compression, Headers, Offset, PartitionId, TopicPartition};

use super::exit::{Failure, command};
use super::http;
use super::output::human_bytes;
use super::record_json::ParsedRecord;
use super::stop::Stop;
use broker::DemoBroker;
use sample::Expected;

/// The demo's topic.
const TOPIC: &str = "flights";
const PARTITIONS: i32 = 6;
/// Small, so that segments are sealed for the tier.
const SEGMENT_BYTES: u32 = 16 << 10;
/// A scrape that takes longer has failed.
const SCRAPE_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Leave the broker running and its data in place.
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(args: DemoArgs) -> Result<(), Failure> {
    let records = sample::records()?;
    let dir = DemoDir::create(args.keep)?;
    let mut stop = Stop::new()?;
    tokio::select! {
        shown = show(&records, &dir.path, args.keep) => shown,
        () = stop.asked() => Err(Failure::new("interrupted")),
    }
}

/// The demo's directory, removed at the end unless it is kept.
#[derive(Debug)]
struct DemoDir {
    path: PathBuf,
    keep: bool,
}

impl DemoDir {
    fn create(keep: bool) -> Result<DemoDir, Failure> {
        let name = format!("tidemill-demo-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| {
            Failure::new(format!("cannot create {}", path.display())).because(&error)
        })?;
        Ok(DemoDir { path, keep })
    }
}

impl Drop for DemoDir {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed stays in the directory for temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// One line for each thing that was done: its name, what came of it, how long it took.
fn say(step: &str, text: &str, took: Duration) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(
        stdout,
        "{step:<9} {text:<66} {:>9.1} ms",
        took.as_secs_f64() * 1e3
    )?;
    stdout.flush()
}

async fn show(records: &[ParsedRecord], dir: &Path, keep: bool) -> Result<(), Failure> {
    let broker = DemoBroker::start(dir, "127.0.0.1:0", false).await?;
    let kafka = broker.kafka.clone();
    say(
        "start",
        &format!("broker ready, pid {}, Kafka on {kafka}", broker.pid()),
        broker.ready_after,
    )?;

    let client = Arc::new(Client::new(ClientConfig::new(vec![kafka.clone()])));
    create_topic(&client).await?;

    let mut producer = open_producer(&client).await?;
    let (first, rest) = records.split_at(records.len() / 2);
    let began = Instant::now();
    send(&mut producer, first).await?;
    producer.flush().await?;
    let acked = format!(
        "{} records acknowledged, {} as zstd, idempotent, fsynced",
        producer.acked_records(),
        human_bytes(producer.acked_bytes())
    );
    say("produce", &acked, began.elapsed())?;

    // The kill comes while batches are under way, before anybody knows whether they were written.
    let (under_way, last) = rest.split_at(rest.len() / 2);
    send(&mut producer, under_way).await?;
    producer.seal_all().await?;
    tokio::task::yield_now().await;
    let began = Instant::now();
    let pid = broker.pid();
    broker.kill_9()?;
    let text = format!(
        "broker {pid} killed with {} records under way",
        under_way.len()
    );
    say("kill -9", &text, began.elapsed())?;

    let broker = DemoBroker::start(dir, &kafka, keep).await?;
    let text = format!("broker ready again after recovery, pid {}", broker.pid());
    say("recover", &text, broker.ready_after)?;

    let began = Instant::now();
    send(&mut producer, last).await?;
    producer.flush().await?;
    if producer.acked_records() != records.len() as u64 {
        let acked = producer.acked_records();
        return Err(Failure::new(format!(
            "{acked} of {} records acknowledged",
            records.len()
        )));
    }
    let text = format!(
        "the same producer goes on: {} of {} acknowledged",
        records.len(),
        records.len()
    );
    say("produce", &text, began.elapsed())?;

    read_back(&client, records).await?;
    mission::delays(&broker, &client, records).await?;
    mission::tier(&broker, &client, dir, records).await?;
    scrape(&broker, records.len()).await?;
    match keep {
        true => explain(&broker, dir),
        false => {
            let began = Instant::now();
            broker.stop().await?;
            Ok(say("stop", "broker drained and stopped", began.elapsed())?)
        }
    }
}

async fn create_topic(client: &Client) -> Result<(), Failure> {
    let config = |name: &str, value: String| (name.to_owned(), value);
    let began = Instant::now();
    let topic = NewTopic {
        partitions: Some(PARTITIONS),
        // The flights are of 2013: nothing may expire, and no segment roll, by their timestamps.
        configs: vec![
            config("retention.ms", "-1".to_owned()),
            config("segment.ms", i64::MAX.to_string()),
            config("segment.bytes", SEGMENT_BYTES.to_string()),
            config("remote.storage.enable", "true".to_owned()),
            config("local.retention.bytes", "1".to_owned()),
        ],
        ..NewTopic::new(TOPIC)
    };
    client.create_topic(&topic).await?;
    let text = format!("{TOPIC} with {PARTITIONS} partitions, kept for ever in the tier");
    Ok(say("topic", &text, began.elapsed())?)
}

async fn open_producer(client: &Arc<Client>) -> Result<Producer, Failure> {
    let config = ProducerConfig {
        compression: Compression::Zstd,
        // Small, so that there are many batches for the kill to hit.
        batch_bytes_max: 16 << 10,
        ..ProducerConfig::default()
    };
    let topic = client.topic(TOPIC).await?;
    Ok(Producer::open(client.clone(), topic, config).await?)
}

async fn send(producer: &mut Producer, records: &[ParsedRecord]) -> Result<(), Failure> {
    for record in records {
        let record = NewRecord {
            partition: None,
            timestamp: record.timestamp.unwrap_or(-1),
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: Headers::default(),
        };
        producer.send(record).await?;
    }
    Ok(())
}

/// Reads everything from the start and holds it against the sample.
async fn read_back(client: &Arc<Client>, records: &[ParsedRecord]) -> Result<(), Failure> {
    let began = Instant::now();
    let partitions: Vec<PartitionId> = (0..PARTITIONS).map(PartitionId).collect();
    let ends = client
        .list_offsets(TOPIC, &partitions, OffsetSpec::End)
        .await?;
    let positions: BTreeMap<TopicPartition, Offset> = partitions
        .iter()
        .map(|partition| (TopicPartition::new(TOPIC, *partition), Offset::ZERO))
        .collect();
    let limits = FetchLimits::default();
    let mut consumer = Consumer::new(client.clone(), positions, limits, OutOfRange::Fail);
    let mut expected = Expected::new(records);
    let keys = expected.keys();
    let left = |consumer: &Consumer| {
        let at = |id: &TopicPartition| ends.get(&id.partition).map(|end| end.offset);
        consumer
            .positions()
            .iter()
            .any(|(id, offset)| at(id).is_some_and(|end| *offset < end))
    };
    while left(&consumer) {
        for fetched in consumer.poll().await? {
            expected.check(&fetched)?;
        }
    }
    let seen = expected.seen();
    expected.finish()?;
    let text = format!("{seen} records read back, each once, in order for each of {keys} keys");
    Ok(say("read", &text, began.elapsed())?)
}

/// Scrapes /metrics and holds its offsets against what was written.
async fn scrape(broker: &DemoBroker, records: usize) -> Result<(), Failure> {
    let began = Instant::now();
    let answer = http::get(&broker.admin, "/metrics", SCRAPE_WAIT_MAX).await?;
    let has_function = answer
        .body
        .lines()
        .any(|line| line.starts_with("tidemill_transform_records_in_total{transform=\"delays\""));
    if !has_function {
        return Err(Failure::new("/metrics says nothing of the function"));
    }
    let samples = answer
        .body
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let offsets: f64 = answer
        .body
        .lines()
        .filter(|line| line.starts_with("kafka_topic_partition_current_offset{"))
        .filter(|line| line.contains(&format!("topic=\"{TOPIC}\"")))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    if offsets != records as f64 {
        return Err(Failure::new(format!(
            "/metrics says {offsets} records, not {records}"
        )));
    }
    let address = &broker.admin;
    let text = format!(
        "http://{address}/metrics: {} series, they agree",
        samples.count()
    );
    Ok(say("metrics", &text, began.elapsed())?)
}

/// How to use a broker that is left running.
fn explain(broker: &DemoBroker, dir: &Path) -> Result<(), Failure> {
    let kafka = &broker.kafka;
    let mut stdout = io::stdout().lock();
    writeln!(stdout)?;
    writeln!(
        stdout,
        "The broker goes on, with its data in {}",
        dir.display()
    )?;
    writeln!(
        stdout,
        "  {} --bootstrap {kafka}",
        command(&format!("topic describe {TOPIC}"))
    )?;
    writeln!(
        stdout,
        "  {} --bootstrap {kafka}",
        command(&format!(
            "consume {TOPIC} --partition 0 --from -3 --until-end"
        ))
    )?;
    writeln!(stdout, "  curl http://{}/metrics", broker.admin)?;
    // The broker has its lock until it has drained; taking that waits for it.
    writeln!(
        stdout,
        "Stop it with: kill {} && flock {} rm -r {}",
        broker.pid(),
        dir.join("data/LOCK").display(),
        dir.display()
    )?;
    Ok(stdout.flush()?)
}
