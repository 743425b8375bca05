//! `tidemill fn dlq`: what a function did not get through, and how it gets another chance.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tidemill_client::{Client, ClientError, NewRecord, Producer, ProducerConfig, TopicView};
use tidemill_records::{Headers, PartitionId, Record, RecordHeader, TopicPartition};

use super::super::ClientArgs;
use super::super::api::Api;
use super::super::exit::{Failure, command};
use super::super::output::{OutputArgs, counted, note, printable};
use super::super::position::Position;
use super::super::record_json::Fields;
use super::super::topic::topic_failure;
use super::reader::{Found, Reader, Reading};
use super::wire::transform;
use crate::timestamp::format_timestamp;
use crate::transform::TransformDetails;

/// What the headers begin with that say why a record is here.
const CONTEXT: &str = "tidemill.dlq.";
/// The kind of a dead letter that is a whole batch which nobody can open, not a record.
const BATCH: &str = "batch";

#[derive(Debug, Args)]
pub(super) struct DeadLettersArgs {
    /// The transform.
    name: String,
    /// Where to begin in its topic for dead letters.
    #[arg(
        long,
        value_name = "POSITION",
        default_value = "start",
        allow_hyphen_values = true
    )]
    from: Position,
    /// Only of this partition of its topic for dead letters.
    #[arg(long, value_name = "P")]
    partition: Option<i32>,
    /// Stop after so many dead letters.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Write the records back to the topic that they come from, as they were. The dead letters stay.
    #[arg(long)]
    replay: bool,
    /// Write them to this topic instead.
    #[arg(long, value_name = "TOPIC", requires = "replay")]
    to: Option<String>,
}

impl DeadLettersArgs {
    /// What chooses among the letters, as it was given.
    fn chosen(&self) -> String {
        let partition = self
            .partition
            .map(|partition| format!(" --partition {partition}"));
        let from = match self.from {
            Position::Start => None,
            from => Some(format!(" --from {from}")),
        };
        let limit = self.limit.map(|limit| format!(" --limit {limit}"));
        [partition, from, limit].into_iter().flatten().collect()
    }
}

/// A record that a function did not get through. Its line can be given to `produce --format-in ndjson`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(flatten)]
    fields: Fields<'a>,
    dead_letter: &'a Context,
}

/// Why it is here, and where here is.
#[derive(Debug, PartialEq, Serialize)]
struct Context {
    topic: String,
    partition: i32,
    offset: i64,
    version: Option<u32>,
    function: Option<String>,
    kind: String,
    code: Option<u32>,
    error: String,
    /// In ms since 1970.
    failed_at: Option<i64>,
}

/// A dead letter, taken apart.
#[derive(Debug)]
struct DeadLetter {
    /// Where the record comes from.
    source: TopicPartition,
    source_offset: i64,
    /// As it was there.
    record: Record,
    context: Context,
}

pub(super) async fn run(
    args: &DeadLettersArgs,
    client: &ClientArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let api = Api {
        address: &client.admin,
    };
    let kafka = client.client();
    let topic = topic(&args.name, api, &kafka).await?;
    if let Err(ClientError::UnknownTopic { .. }) = kafka.topic(&topic).await {
        return Err(no_topic(&args.name, &topic));
    }
    let reading = Reading {
        topic: &topic,
        partition: args.partition,
        from: args.from,
        follow: false,
    };
    let mut letters = Letters {
        reader: Reader::open(&kafka, &reading).await?,
        name: &args.name,
        left: args.limit.unwrap_or(u64::MAX),
    };
    match args.replay {
        true => replay(args, &kafka, &topic, &mut letters, output).await,
        false => list(args, &topic, &mut letters, output).await,
    }
}

/// Where a transform's dead letters are. Those of before it was deleted, or had another policy, are still there.
async fn topic(name: &str, api: Api<'_>, kafka: &Client) -> Result<String, Failure> {
    let found = transform(api, name).await;
    if let Ok(TransformDetails { status, .. }) = &found
        && let Some(topic) = &status.dlq
    {
        return Ok(topic.clone());
    }
    let usual = format!("{name}.dlq");
    if kafka.topic(&usual).await.is_ok() {
        return Ok(usual);
    }
    found?;
    let policy = "its policy is not dlq, so records that fail are not kept";
    let describe = command(&format!("fn describe {name}"));
    let failure = Failure::new(format!("{name} has no topic for dead letters"));
    Err(failure
        .cause(policy)
        .next(format!("{describe} has its policy")))
}

fn no_topic(name: &str, topic: &str) -> Failure {
    Failure::new(format!(
        "the dead letter topic {topic} of {name} does not exist"
    ))
    .cause("it was deleted, and the dead letters in it; the transform waits for it at the next one")
    .next(command(&format!("topic create {topic}")))
}

/// The dead letters of one transform: several may share a topic.
struct Letters<'a> {
    reader: Reader,
    name: &'a str,
    left: u64,
}

impl Letters<'_> {
    async fn next(&mut self) -> Result<Option<Vec<DeadLetter>>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(found) = self.reader.next().await? else {
            return Ok(None);
        };
        let letters = found
            .iter()
            .filter_map(|found| dead_letter(self.name, found));
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let letters: Vec<DeadLetter> = letters.take(left).collect();
        self.left -= letters.len() as u64;
        Ok(Some(letters))
    }
}

/// Takes a record of the topic apart. None when another transform, or nobody's function, brought it there.
fn dead_letter(name: &str, found: &Found) -> Option<DeadLetter> {
    let headers = found.record.headers.iter();
    let (context, own): (Vec<RecordHeader>, Vec<RecordHeader>) =
        headers.partition(|header| header.key.starts_with(CONTEXT.as_bytes()));
    let text = |field: &str| {
        // A client may have written such a header itself; the broker's stands behind it.
        let header = context
            .iter()
            .rfind(|header| header.key.strip_prefix(CONTEXT.as_bytes()) == Some(field.as_bytes()));
        let value = header?.value.as_deref()?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    if text("transform")? != name {
        return None;
    }
    let partition = PartitionId(text("partition")?.parse().ok()?);
    let number = |field: &str| text(field).and_then(|number| number.parse().ok());
    Some(DeadLetter {
        source: TopicPartition::new(&*text("topic")?, partition),
        source_offset: text("offset")?.parse().ok()?,
        record: Record {
            headers: own.into_iter().collect::<Headers>(),
            // The letter's own is another where its topic stamps records itself.
            timestamp: number("timestamp").unwrap_or(found.record.timestamp),
            ..found.record.clone()
        },
        context: Context {
            topic: found.partition.topic.to_string(),
            partition: found.partition.partition.0,
            offset: found.record.offset.0,
            version: text("version").and_then(|version| version.parse().ok()),
            function: text("function"),
            kind: text("kind").unwrap_or_default(),
            code: text("code").and_then(|code| code.parse().ok()),
            error: text("error").unwrap_or_default(),
            failed_at: number("failed_at"),
        },
    })
}

async fn list(
    args: &DeadLettersArgs,
    topic: &str,
    letters: &mut Letters<'_>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let mut count = 0;
    while let Some(letters) = letters.next().await? {
        for letter in &letters {
            let line = Line {
                topic: &letter.source.topic,
                partition: letter.source.partition.0,
                offset: letter.source_offset,
                fields: Fields::of(&letter.record),
                dead_letter: &letter.context,
            };
            output.print_next(&line, |_| letter_text(letter))?;
            count += 1;
        }
    }
    // Behind a limit nobody has looked.
    let more = match letters.left {
        0 => "; --limit leaves out what may come behind",
        _ => "",
    };
    let count_text = counted(count, "dead letter");
    note(&format!("{count_text} of {} in {topic}{more}", args.name))?;
    if count > 0 {
        let replay = command(&format!("fn dlq {}{} --replay", args.name, args.chosen()));
        note(&format!("next:  {replay}"))?;
    }
    Ok(())
}

fn letter_text(letter: &DeadLetter) -> String {
    let (record, context) = (&letter.record, &letter.context);
    let code = context
        .code
        .map_or(String::new(), |code| format!(" {code}"));
    let version = context
        .version
        .map_or(String::new(), |version| format!(", version {version}"));
    let failed_at = context.failed_at.map_or(String::new(), |ms| {
        format!(", failed at {}", format_timestamp(ms))
    });
    let mut text = format!(
        "{} offset {}  {}{version}{failed_at}\n  {}{code}: {}\n",
        letter.source,
        letter.source_offset,
        format_timestamp(record.timestamp),
        printable(&context.kind),
        printable(&context.error),
    );
    let shown = |bytes: Option<&[u8]>| match bytes {
        None => "(null)".to_owned(),
        Some(bytes) => shortened(&String::from_utf8_lossy(bytes)),
    };
    text += &format!("  key    {}\n", shown(record.key.as_deref()));
    text += &format!("  value  {}\n", shown(record.value.as_deref()));
    for header in record.headers.iter() {
        let key = shown(Some(&header.key));
        text += &format!("  header {key}: {}\n", shown(header.value.as_deref()));
    }
    text
}

/// So much of a value as a person reads; `--format json` has all of it.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", printable(&text[..end]), text.len()),
        None => printable(text),
    }
}

/// What was written back.
#[derive(Debug, Serialize)]
struct Replayed {
    topic: String,
    records: u64,
}

async fn replay(
    args: &DeadLettersArgs,
    client: &Arc<Client>,
    topic: &str,
    letters: &mut Letters<'_>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let mut targets: BTreeMap<Arc<str>, Target> = BTreeMap::new();
    let mut unreadable = 0;
    let written = write_back(args, client, letters, &mut targets, &mut unreadable).await;
    // What was acknowledged is said even if the rest failed.
    let replayed = targets.iter().map(|(topic, target)| Replayed {
        topic: topic.to_string(),
        records: target.producer.acked_records(),
    });
    let replayed: Vec<Replayed> = replayed.collect();
    if written.is_ok() || !replayed.is_empty() {
        output.print(&replayed, |replayed| replayed_text(replayed, args, topic))?;
    }
    written?;
    if unreadable > 0 {
        let batches = counted(unreadable, "dead letter");
        note(&format!("{batches} left out: batches that cannot be read"))?;
    }
    // They are not trimmed here, nor is that proposed: what fails again may stand behind them already.
    if !replayed.is_empty() {
        note(&format!(
            "the dead letters stay in {topic}; another replay writes them again"
        ))?;
    }
    Ok(())
}

fn replayed_text(replayed: &[Replayed], args: &DeadLettersArgs, topic: &str) -> String {
    if replayed.is_empty() {
        return format!("no records of {} in {topic}\n", args.name);
    }
    let lines = replayed.iter().map(|line| {
        let records = counted(line.records, "record");
        format!("{records} written to {}\n", line.topic)
    });
    lines.collect()
}

/// A topic that records go back to.
struct Target {
    view: Arc<TopicView>,
    producer: Producer,
}

async fn write_back(
    args: &DeadLettersArgs,
    client: &Arc<Client>,
    letters: &mut Letters<'_>,
    targets: &mut BTreeMap<Arc<str>, Target>,
    unreadable: &mut u64,
) -> Result<(), Failure> {
    while let Some(letters) = letters.next().await? {
        for letter in &letters {
            if letter.context.kind == BATCH {
                *unreadable += 1;
                continue;
            }
            let topic = args.to.as_deref().unwrap_or(&letter.source.topic);
            if !targets.contains_key(topic) {
                let target = open(client, topic).await?;
                targets.insert(topic.into(), target);
            }
            let target = targets.get_mut(topic).expect("it is there now");
            let record = &letter.record;
            // Its own partition keeps it with the records of its key, however the producer chose it.
            let is_source = *topic == *letter.source.topic;
            let known = |partition: &PartitionId| target.view.partition(*partition).is_some();
            let record = NewRecord {
                partition: Some(letter.source.partition).filter(|id| is_source && known(id)),
                timestamp: record.timestamp,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: record.headers.clone(),
            };
            target.producer.send(record).await?;
        }
    }
    for target in targets.values_mut() {
        target.producer.flush().await?;
    }
    Ok(())
}

async fn open(client: &Arc<Client>, topic: &str) -> Result<Target, Failure> {
    let view = match client.topic(topic).await {
        Ok(view) => view,
        Err(error) => return Err(topic_failure(client, topic, error).await),
    };
    let config = ProducerConfig::default();
    let producer = Producer::open(client.clone(), view.clone(), config).await?;
    Ok(Target { view, producer })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_records::Offset;

    use super::*;

    fn found(headers: &[(&'static str, &'static str)]) -> Found {
        let headers = headers.iter().map(|(key, value)| RecordHeader {
            key: Bytes::from_static(key.as_bytes()),
            value: Some(Bytes::from_static(value.as_bytes())),
        });
        Found {
            partition: TopicPartition::new("f.dlq", PartitionId(1)),
            record: Record {
                offset: Offset(7),
                timestamp: 5,
                key: None,
                value: Some(Bytes::from_static(b"\x1b[2J")),
                headers: headers.collect(),
            },
        }
    }

    #[test]
    fn a_dead_letter_is_the_record_and_why_it_failed() {
        let letter = dead_letter(
            "f",
            &found(&[
                ("own", "1"),
                ("tidemill.dlq.topic", "forged"),
                ("tidemill.dlq.topic", "flights"),
                ("tidemill.dlq.partition", "2"),
                ("tidemill.dlq.offset", "40"),
                ("tidemill.dlq.timestamp", "3"),
                ("tidemill.dlq.transform", "f"),
                ("tidemill.dlq.version", "3"),
                ("tidemill.dlq.kind", "failed"),
                ("tidemill.dlq.code", "9"),
                ("tidemill.dlq.error", "no delay"),
                ("tidemill.dlq.failed_at", "9"),
            ]),
        )
        .unwrap();
        assert_eq!(letter.source.to_string(), "flights-2");
        assert_eq!(letter.source_offset, 40);
        assert_eq!(letter.record.headers.len(), 1);
        assert_eq!(letter.context.code, Some(9));
        assert_eq!(letter.record.timestamp, 3, "not that of the letter");
        assert_eq!(letter.context.failed_at, Some(9));
        let text = letter_text(&letter);
        assert!(text.contains("failed 9: no delay"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn the_letters_of_others_are_left_alone() {
        assert!(dead_letter("f", &found(&[])).is_none());
        assert!(dead_letter("f", &found(&[("tidemill.dlq.transform", "g")])).is_none());
    }
}
