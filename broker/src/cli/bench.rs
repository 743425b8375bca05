//! `tidemill bench`: load for this broker or any other Kafka, from a client that costs little itself.
//!
//! Batches are built once and frames are patched, not encoded; each connection is one thread with blocking
//! calls, so that a request costs one write and about one read. At a fixed rate, latency counts from the
//! moment at which a request should have been sent, so that a stall shows in every request it delayed.

mod consume;
mod cpu;
mod produce;
mod report;
mod wire;

use std::time::Duration;

use clap::{Args, Subcommand};
use tidemill_client::{Client, ClientError, NewTopic, TopicView};
use tidemill_protocol::ErrorCode;
use tidemill_records::NodeId;
use tidemill_storage::spawn::spawn_thread;
use tokio::sync::oneshot;

use super::ClientArgs;
use super::exit::{Failure, next_for};
use super::output::{OutputArgs, counted, note};
use cpu::BrokerProcess;
use report::Measured;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Write records and wait for their acks.
    Produce(produce::ProduceBenchArgs),
    /// Read records.
    Consume(consume::ConsumeBenchArgs),
}

/// What both directions have.
#[derive(Debug, Clone, Args)]
struct LoadArgs {
    /// The topic.
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Stop after so many bytes of batches, all connections together (units: k, M, G, Ki, Mi, Gi)
    /// [default: 256Mi].
    #[arg(long, value_name = "N", value_parser = parse_amount, conflicts_with = "records")]
    bytes: Option<u64>,
    /// Stop after so many records, all connections together (units as for --bytes).
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    records: Option<u64>,
    /// Connections, a thread each; partitions are dealt out among them.
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Process id of the broker on this machine, to measure its CPU time and memory.
    #[arg(long, value_name = "PID")]
    broker_pid: Option<i32>,
}

/// How much is to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Bytes(u64),
    Records(u64),
}

impl LoadArgs {
    const DEFAULT: Amount = Amount::Bytes(256 << 20);

    fn amount(&self) -> Amount {
        match (self.bytes, self.records) {
            (Some(bytes), _) => Amount::Bytes(bytes),
            (None, Some(records)) => Amount::Records(records),
            (None, None) => LoadArgs::DEFAULT,
        }
    }
}

pub(super) async fn run(args: BenchArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let report = match args.command {
        BenchCommand::Produce(bench) => produce::run(&client, &bench).await?,
        BenchCommand::Consume(bench) => consume::run(&client, &bench).await?,
    };
    args.output.print(&report, report::Report::text)
}

/// Reads an amount such as `400M` or `64Ki`.
fn parse_amount(text: &str) -> Result<u64, String> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let factor: u64 = match unit.trim_end_matches('B') {
        "" => 1,
        "k" | "K" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(format!("unknown unit {unit:?}")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "write a number, as in 5000, 400M or 64Ki".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

/// The partitions that one connection serves, and where it connects to.
#[derive(Debug, Clone)]
struct Share {
    address: String,
    partitions: Vec<i32>,
}

/// Deals the topic's partitions out among the connections. More connections than partitions share them.
fn shares(client: &Client, view: &TopicView, connections: usize) -> Result<Vec<Share>, Failure> {
    if connections == 0 || view.partitions.is_empty() {
        return Err(Failure::usage("no connection or no partition"));
    }
    let dealt = (0..connections).map(|connection| {
        let count = view.partitions.len();
        let mut own = view
            .partitions
            .iter()
            .skip(connection % count)
            .step_by(connections)
            .peekable();
        let leader = own
            .peek()
            .map_or(NodeId::NONE, |partition| partition.leader);
        let mut partitions = Vec::new();
        for partition in own {
            if partition.leader != leader {
                return Err(
                    Failure::usage("a connection's partitions have several leaders")
                        .next("give a multiple of the number of brokers to --connections"),
                );
            }
            partitions.push(partition.partition.0);
        }
        let known = client.view();
        let address = known
            .brokers
            .get(&leader)
            .ok_or_else(|| Failure::new(format!("partition {} has no leader", partitions[0])))?;
        Ok(Share {
            address: address.to_string(),
            partitions,
        })
    });
    dealt.collect()
}

/// The topic, created with `partitions` partitions when it is missing.
async fn topic(
    client: &Client,
    name: &str,
    partitions: Option<i32>,
) -> Result<std::sync::Arc<TopicView>, Failure> {
    // All topics, so that the brokers' addresses are known too.
    client.cluster().await?;
    match client.topic(name).await {
        Err(ClientError::UnknownTopic { .. }) => {}
        found => {
            let found = found?;
            let count = found.partitions.len();
            if partitions.is_some_and(|wanted| usize::try_from(wanted) != Ok(count)) {
                let has = counted(count as u64, "partition");
                note(&format!(
                    "{name} exists with {has}; --partitions has no effect"
                ))?;
            }
            return Ok(found);
        }
    }
    client
        .create_topic(&NewTopic {
            partitions,
            ..NewTopic::new(name)
        })
        .await?;
    Ok(client.topic(name).await?)
}

/// Runs one worker on a thread of its own for each element of `work`, between two readings of the clocks.
async fn measure<W: Send + 'static>(
    broker_pid: Option<i32>,
    work: Vec<W>,
    worker: impl Fn(W) -> Result<Measured, Failure> + Clone + Send + 'static,
) -> Result<(Measured, report::Usage), Failure> {
    let broker = broker_pid.map(BrokerProcess::open).transpose()?;
    if let Some(broker) = &broker {
        broker.settle().await?;
    }
    let before = report::Readings::take(broker.as_ref())?;
    let mut running = Vec::new();
    for share in work {
        let (done, result) = oneshot::channel();
        let worker = worker.clone();
        spawn_thread("bench", move || async move {
            // The receiver is gone only when another worker has failed already.
            let _ = done.send(worker(share));
        });
        running.push(result);
    }
    let mut total = Measured::new();
    for result in running {
        let measured = result
            .await
            .map_err(|_| Failure::new("a bench thread died"))??;
        total.add(&measured);
    }
    let moved = report::Readings::take(broker.as_ref())?;
    if let Some(broker) = &broker {
        broker.settle().await?;
    }
    let settled = report::Readings::take(broker.as_ref())?;
    let usage = report::Usage::between(&total, &before, &moved, &settled);
    Ok((total, usage))
}

/// A partition's answer that is an error code.
fn refused(topic: &str, partition: i32, code: i16, said: &str) -> Failure {
    let subject = format!("{topic}-{partition}");
    let Some(code) = ErrorCode::from_code(code) else {
        return Failure::new(format!("{subject}: unknown error {code} {said}"));
    };
    let said = if said.is_empty() {
        code.message()
    } else {
        said
    };
    let failure = Failure::new(format!("{subject}: {said} ({})", code.name()));
    match next_for(code, &subject) {
        Some(next) => failure.next(next),
        None => failure,
    }
}

/// Pause between two looks at whether the broker is idle.
const IDLE_LOOK: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("400M", 400_000_000),
            ("64Ki", 65536),
            ("1GiB", 1 << 30),
            ("2kB", 2000),
        ] {
            assert_eq!(parse_amount(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1.5M", "-1", "1X", "99999999999G"] {
            assert!(parse_amount(text).is_err(), "{text}");
        }
    }
}
