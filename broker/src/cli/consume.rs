//! `tidemill consume`: records to stdout.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use tidemill_client::{
    Client, Consumer, FetchLimits, FetchedPartition, GroupConfig, GroupConsumer, OutOfRange,
};
use tidemill_records::{Offset, PartitionId, TopicPartition};

use super::ClientArgs;
use super::exit::{Failure, command};
use super::position::{POSITIONS, Position, bounds, resolve};
use super::stop::Stop;
use super::topic::topic_failure;
use super::{progress, record_json};
use crate::transform::GROUP_PREFIX;

#[derive(Debug, Args)]
#[command(after_help = POSITIONS)]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The topic.
    topic: String,
    /// Where to begin [default: end; start with --until-end].
    /// With --group only start and end, for partitions in which the group has no offset.
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    from: Option<Position>,
    /// Only this partition.
    #[arg(long, value_name = "P", conflicts_with = "group")]
    partition: Option<i32>,
    /// Stop after so many records.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Read as a member of this group, and commit what was printed.
    #[arg(long, value_name = "G")]
    group: Option<String>,
    /// Stop where the log ends now.
    #[arg(long)]
    until_end: bool,
    /// Print key and value with this text between them.
    #[arg(long, value_name = "C", conflicts_with = "format")]
    key_separator: Option<String>,
    /// Values as lines, or a JSON object for each record.
    #[arg(long, value_enum, default_value = "text")]
    format: RecordFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RecordFormat {
    Text,
    Json,
}

pub(super) async fn run(args: ConsumeArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let view = match client.topic(&args.topic).await {
        Ok(view) => view,
        Err(error) => return Err(topic_failure(&client, &args.topic, error).await),
    };
    let partitions: Vec<PartitionId> = match args.partition {
        Some(partition) => vec![PartitionId(partition)],
        None => view.partitions.iter().map(|view| view.partition).collect(),
    };
    let ends = match args.until_end {
        true => Some(ends(&client, &args.topic, &partitions).await?),
        false => None,
    };
    let default = if args.until_end {
        Position::Start
    } else {
        Position::End
    };
    let from = args.from.unwrap_or(default);
    let mut printer = Printer::new(&args, &ends);
    // Following a log is meant to end with ^C.
    let mut stop = Stop::new()?;
    let result = match &args.group {
        Some(group) => {
            if let Some(name) = group.strip_prefix(GROUP_PREFIX) {
                return Err(Failure::usage(format!(
                    "{group} is the group of the transform {name}, and nobody else's"
                ))
                .next(command(&format!("group describe {group}"))));
            }
            let begin = match from {
                Position::Start => OutOfRange::ToStart,
                Position::End => OutOfRange::ToEnd,
                _ => {
                    return Err(Failure::usage("with --group, --from is start or end").next(
                        command(&format!(
                            "group seek {group} --topic {} --to POSITION",
                            args.topic
                        )),
                    ));
                }
            };
            let config = GroupConfig {
                begin,
                ..GroupConfig::new(group.as_str(), vec![args.topic.clone()])
            };
            let consumer = GroupConsumer::new(client, config);
            read_as_member(consumer, ends, &mut printer, &mut stop).await
        }
        None => {
            let positions = resolve(&client, &args.topic, &partitions, from).await?;
            let positions = positions.into_iter().map(|(partition, offset)| {
                (TopicPartition::new(args.topic.as_str(), partition), offset)
            });
            // A log that was trimmed meanwhile goes on where it begins now; a wrong offset is the user's.
            let rule = match from {
                Position::Offset(_) => OutOfRange::Fail,
                _ => OutOfRange::ToStart,
            };
            let limits = FetchLimits::default();
            let consumer = Consumer::new(client, positions.collect(), limits, rule);
            read(consumer, ends, &mut printer, &mut stop).await
        }
    };
    printer.bar.finish_and_clear();
    result
}

/// The end of each partition now.
async fn ends(
    client: &Arc<Client>,
    topic: &str,
    partitions: &[PartitionId],
) -> Result<BTreeMap<TopicPartition, Offset>, Failure> {
    let bounds = bounds(client, topic, partitions).await?.into_iter();
    Ok(bounds
        .map(|(partition, at)| (TopicPartition::new(topic, partition), at.end))
        .collect())
}

async fn read(
    mut consumer: Consumer,
    ends: Option<BTreeMap<TopicPartition, Offset>>,
    printer: &mut Printer<'_>,
    stop: &mut Stop,
) -> Result<(), Failure> {
    loop {
        if let Some(ends) = &ends {
            let reached =
                |id: &TopicPartition, at: Offset| ends.get(id).is_none_or(|end| at >= *end);
            let done: Vec<TopicPartition> = consumer
                .positions()
                .iter()
                .filter(|(id, at)| reached(id, **at))
                .map(|(id, _)| id.clone())
                .collect();
            done.iter().for_each(|id| consumer.remove(id));
        }
        if consumer.positions().is_empty() || printer.is_done() {
            return Ok(());
        }
        let fetched = tokio::select! {
            fetched = consumer.poll() => fetched?,
            () = stop.asked() => return Ok(()),
        };
        for partition in &fetched {
            printer.print(partition, ends.as_ref())?;
        }
        printer.flush()?;
    }
}

async fn read_as_member(
    mut consumer: GroupConsumer,
    ends: Option<BTreeMap<TopicPartition, Offset>>,
    printer: &mut Printer<'_>,
    stop: &mut Stop,
) -> Result<(), Failure> {
    while !printer.is_done() {
        let fetched = tokio::select! {
            fetched = consumer.poll() => fetched?,
            () = stop.asked() => break,
        };
        let mut printed = BTreeMap::new();
        for partition in &fetched {
            let next = printer.print(partition, ends.as_ref())?;
            if next > partition.from {
                printed.insert(partition.partition.clone(), next);
            }
        }
        printer.flush()?;
        consumer.commit(&printed).await?;
        let positions = consumer.positions();
        let at_end = |ends: &BTreeMap<TopicPartition, Offset>| {
            positions
                .iter()
                .all(|(id, at)| ends.get(id).is_none_or(|end| at >= end))
        };
        if !positions.is_empty() && ends.as_ref().is_some_and(at_end) {
            break;
        }
    }
    Ok(consumer.leave().await?)
}

/// Formats records and writes them in large pieces.
struct Printer<'a> {
    args: &'a ConsumeArgs,
    left: Option<u64>,
    buffer: Vec<u8>,
    bar: ProgressBar,
}

impl<'a> Printer<'a> {
    /// The buffer goes out when it is larger than this.
    const BUFFER_BYTES: usize = 256 << 10;

    fn new(args: &'a ConsumeArgs, ends: &Option<BTreeMap<TopicPartition, Offset>>) -> Printer<'a> {
        // A bar between the records on a terminal would be noise.
        let bar = match io::stdout().is_terminal() || ends.is_none() && args.count.is_none() {
            true => ProgressBar::hidden(),
            false => progress::records(args.count),
        };
        Printer {
            args,
            left: args.count,
            buffer: Vec::new(),
            bar,
        }
    }

    fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    /// Prints a partition's records up to the end and the count, and says where reading goes on.
    fn print(
        &mut self,
        fetched: &FetchedPartition,
        ends: Option<&BTreeMap<TopicPartition, Offset>>,
    ) -> Result<Offset, Failure> {
        let end = ends.and_then(|ends| ends.get(&fetched.partition)).copied();
        for record in fetched.records() {
            let record = record.map_err(|error| {
                Failure::new(format!(
                    "{} holds a batch that cannot be read",
                    fetched.partition
                ))
                .because(&error)
                .next(format!(
                    "skip it with --from OFFSET, or verify with {}",
                    command("check")
                ))
            })?;
            if self.is_done() || end.is_some_and(|end| record.offset >= end) {
                return Ok(record.offset);
            }
            self.format(fetched, &record);
            self.bar.inc(1);
            self.left = self.left.map(|left| left - 1);
            if self.buffer.len() >= Printer::BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(fetched.next())
    }

    fn format(&mut self, of: &FetchedPartition, record: &tidemill_records::Record) {
        if self.args.format == RecordFormat::Json {
            return record_json::write(&mut self.buffer, of, record);
        }
        if let Some(separator) = &self.args.key_separator {
            self.buffer
                .extend_from_slice(record.key.as_deref().unwrap_or_default());
            self.buffer.extend_from_slice(separator.as_bytes());
        }
        self.buffer
            .extend_from_slice(record.value.as_deref().unwrap_or_default());
        self.buffer.push(b'\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&self.buffer)?;
        self.buffer.clear();
        stdout.flush()
    }
}
