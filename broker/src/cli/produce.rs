//! `tidemill produce`: lines become records.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use tidemill_client::{Acks, NewRecord, Producer, ProducerConfig};
use tidemill_records::{Compression, Headers, PartitionId};
use tidemill_storage::clock::{Clock, SystemClock};

use super::ClientArgs;
use super::exit::Failure;
use super::input::Lines;
use super::output::{counted, human_bytes, note};
use super::progress;
use super::record_json;
use super::topic::topic_failure;

/// Longest line that becomes a record.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Records wait this long for company when no line follows.
const LINGER: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The topic.
    topic: String,
    /// Text that ends the key in each line; without it records have no key.
    #[arg(long, value_name = "C")]
    key_separator: Option<String>,
    /// Form of the input: a line a value, or a JSON object a line with key, value, timestamp, headers and
    /// partition.
    #[arg(
        long,
        value_enum,
        default_value = "lines",
        conflicts_with = "key_separator"
    )]
    format_in: InputFormat,
    /// The input, - for stdin.
    #[arg(long, value_name = "F", default_value = "-")]
    file: PathBuf,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value = "none")]
    compression: Codec,
    /// When a record counts as written: when all replicas have it, when the leader has it (1), or when it is
    /// sent (0).
    #[arg(long, value_enum, default_value = "all")]
    acks: AcksArg,
    /// Let retries write twice rather than have the broker drop duplicates; implied by --acks 0 and 1.
    #[arg(long)]
    no_idempotence: bool,
    /// Write everything to this partition.
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// Let the broker create the topic if it is missing.
    #[arg(long)]
    create: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    Lines,
    Ndjson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Compression {
        match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AcksArg {
    #[value(alias = "-1")]
    All,
    #[value(name = "1")]
    Leader,
    #[value(name = "0")]
    None,
}

impl From<AcksArg> for Acks {
    fn from(acks: AcksArg) -> Acks {
        match acks {
            AcksArg::All => Acks::All,
            AcksArg::Leader => Acks::Leader,
            AcksArg::None => Acks::None,
        }
    }
}

pub(super) async fn run(args: ProduceArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let mut lines =
        Lines::open(&args.file, LINE_BYTES_MAX).map_err(|error| unreadable(&args, &error))?;
    let topic = match args.create {
        true => client.topic_or_create(&args.topic).await,
        false => client.topic(&args.topic).await,
    };
    let topic = match topic {
        Ok(topic) => topic,
        Err(error) => return Err(topic_failure(&client, &args.topic, error).await),
    };
    let config = ProducerConfig {
        acks: args.acks.into(),
        compression: args.compression.into(),
        idempotent: args.acks == AcksArg::All && !args.no_idempotence,
        ..ProducerConfig::default()
    };
    let began = Instant::now();
    let mut producer = Producer::open(client, topic, config).await?;
    let written = write_lines(&args, &mut lines, &mut producer).await;
    // What was acknowledged is said even if the rest failed.
    let (records, bytes) = (producer.acked_records(), producer.acked_bytes());
    note(&format!(
        "{} written to {} ({} in {:.2?})",
        counted(records, "record"),
        args.topic,
        human_bytes(bytes),
        began.elapsed()
    ))?;
    written
}

async fn write_lines(
    args: &ProduceArgs,
    lines: &mut Lines,
    producer: &mut Producer,
) -> Result<(), Failure> {
    let total = std::fs::metadata(&args.file)
        .ok()
        .filter(std::fs::Metadata::is_file);
    let bar = progress::bytes(total.map(|file| file.len()));
    let clock = SystemClock::new();
    let mut number: u64 = 0;
    while let Some(line) = next_line(args, lines, producer).await? {
        number += 1;
        bar.inc(line.len() as u64 + 1);
        let now = clock.now_ms();
        let sent = match args.format_in {
            InputFormat::Lines => send_line(args, producer, &line, now).await,
            InputFormat::Ndjson => send_json(args, producer, &line, now).await,
        };
        if let Err(failure) = sent {
            bar.finish_and_clear();
            // What stands before the bad line is still written.
            producer.flush().await?;
            return Err(failure.in_line(number));
        }
    }
    let flushed = producer.flush().await;
    bar.finish_and_clear();
    Ok(flushed?)
}

/// The next line. When none follows at once, what is gathered goes out first.
async fn next_line(
    args: &ProduceArgs,
    lines: &mut Lines,
    producer: &mut Producer,
) -> Result<Option<Bytes>, Failure> {
    if let Some(line) = lines.buffered() {
        return Ok(Some(line));
    }
    let line = match tokio::time::timeout(LINGER, lines.next()).await {
        Ok(line) => line,
        Err(_) => {
            producer.flush().await?;
            lines.next().await
        }
    };
    line.map_err(|error| unreadable(args, &error))
}

fn unreadable(args: &ProduceArgs, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}", args.file.display()))
        .because(error)
        .next("name a file of lines with --file, or - for stdin")
}

async fn send_line(
    args: &ProduceArgs,
    producer: &mut Producer,
    line: &Bytes,
    now: i64,
) -> Result<(), Failure> {
    let (key, value) = match &args.key_separator {
        None => (None, &line[..]),
        Some(separator) => {
            let at = find(line, separator.as_bytes())
                .ok_or_else(|| Failure::new(format!("no {separator:?} between key and value")))?;
            (Some(&line[..at]), &line[at + separator.len()..])
        }
    };
    let record = NewRecord {
        partition: args.partition.map(PartitionId),
        timestamp: now,
        key,
        value: Some(value),
        headers: Headers::default(),
    };
    Ok(producer.send(record).await?)
}

async fn send_json(
    args: &ProduceArgs,
    producer: &mut Producer,
    line: &Bytes,
    now: i64,
) -> Result<(), Failure> {
    if line.is_empty() {
        return Ok(());
    }
    let parsed = record_json::parse(line).map_err(Failure::new)?;
    let record = NewRecord {
        partition: args.partition.map(PartitionId).or(parsed.partition),
        timestamp: parsed.timestamp.unwrap_or(now),
        key: parsed.key.as_deref(),
        value: parsed.value.as_deref(),
        headers: parsed.headers,
    };
    Ok(producer.send(record).await?)
}

/// Where `wanted` begins; an empty one is nowhere.
fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.windows(wanted.len())
        .position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_counts() {
        assert_eq!(find(b"a:b:c", b":"), Some(1));
        assert_eq!(find(b"a=>b", b"=>"), Some(1));
        assert_eq!(find(b"abc", b":"), None);
        assert_eq!(find(b"abc", b""), None);
        assert_eq!(find(b":", b"::"), None);
    }
}
