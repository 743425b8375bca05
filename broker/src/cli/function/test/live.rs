//! Records of a topic: what goes in beside what would come out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use serde::Serialize;
use tidemill_client::Client;
use tidemill_records::{PartitionId, Record};

use super::super::super::exit::{Failure, command};
use super::super::super::output::{OutputArgs, counted, note, printable};
use super::super::super::position::Position;
use super::super::super::record_json::Fields;
use super::super::reader::{Found, Reader, Reading};
use super::LiveArgs;
use super::difference::{differences, shown};
use super::engine::Engine;
use super::outcome::{Failed, Outcome, OutputLine};

/// A record, and what would come of it.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    r#in: Fields<'a>,
    out: Vec<OutputLine<'a>>,
    failed: Option<&'a Failed>,
}

pub(super) async fn run(
    engine: &Engine,
    client: &Arc<Client>,
    topic: &str,
    args: &LiveArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let records = records(client, topic, args).await?;
    let (mut count, mut failed) = (0, 0);
    for (partition, records) in records {
        let outcomes = engine.run(topic, partition, records.clone()).await?;
        for (record, outcome) in records.iter().zip(&outcomes) {
            let outputs = outcome.outputs.iter();
            let outputs =
                outputs.map(|output| OutputLine::new(output, record, partition, &engine.manifest));
            let line = Line {
                topic,
                partition: partition.0,
                offset: record.offset.0,
                r#in: Fields::of(record),
                out: outputs.collect(),
                failed: outcome.failed.as_ref(),
            };
            let text = text(&line, outcome)?;
            output.print_next(&line, |_| text)?;
            count += 1;
            failed += u64::from(outcome.failed.is_some());
        }
    }
    if count == 0 {
        note(&format!("{topic} has no records there"))?;
        return Ok(note(&format!(
            "next:  {}",
            command(&format!("topic describe {topic}"))
        ))?);
    }
    let of = counted(count, "record");
    Ok(note(&format!("{of}, {failed} failed"))?)
}

/// The records to run on, by partition and in order.
async fn records(
    client: &Arc<Client>,
    topic: &str,
    args: &LiveArgs,
) -> Result<BTreeMap<PartitionId, Vec<Record>>, Failure> {
    // The newest of all partitions are among the newest of each.
    let newest = Position::BeforeEnd(i64::try_from(args.limit).unwrap_or(i64::MAX));
    let reading = Reading {
        topic,
        partition: args.partition,
        from: args.from.unwrap_or(newest),
        follow: false,
    };
    let mut reader = Reader::open(client, &reading).await?;
    let mut found: Vec<Found> = Vec::new();
    while let Some(more) = reader.next().await? {
        found.extend(more);
        if args.from.is_some() && found.len() as u64 >= args.limit {
            break;
        }
    }
    if args.from.is_none() {
        found.sort_by_key(|found| Reverse((found.record.timestamp, found.record.offset)));
    }
    found.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    let mut partitions: BTreeMap<PartitionId, Vec<Record>> = BTreeMap::new();
    for Found { partition, record } in found {
        partitions
            .entry(partition.partition)
            .or_default()
            .push(record);
    }
    for records in partitions.values_mut() {
        records.sort_by_key(|record| record.offset);
    }
    Ok(partitions)
}

fn text(line: &Line<'_>, outcome: &Outcome) -> Result<String, Failure> {
    let before = serde_json::to_value(&line.r#in).map_err(io::Error::other)?;
    let key = before.get("key").or(before.get("key_base64"));
    let mut text = format!(
        "{}-{} offset {}, key {}\n",
        line.topic,
        line.partition,
        line.offset,
        shown(key)
    );
    for output in &line.out {
        let partition = output.partition;
        let partition = partition.map_or("by key".to_owned(), |at| format!("partition {at}"));
        text += &format!("  -> {}, {partition}\n", output.sink);
        let after = serde_json::to_value(&output.fields).map_err(io::Error::other)?;
        let differences = differences(&before, &after);
        if differences.is_empty() {
            text += "     unchanged\n";
        }
        for difference in differences {
            text += &format!("     {}\n", difference.text());
        }
    }
    match &outcome.failed {
        Some(Failed { kind, code, error }) => {
            let code = code.map_or(String::new(), |code| format!(" {code}"));
            text += &format!("  {kind}{code}: {}\n", printable(error));
        }
        None if line.out.is_empty() => text += "  dropped\n",
        None => {}
    }
    Ok(text)
}
