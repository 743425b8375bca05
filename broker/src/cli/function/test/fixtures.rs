//! Records of a file, and what should come of them.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use tidemill_records::{Offset, PartitionId, Record};

use super::super::super::exit::Failure;
use super::super::super::input::Lines;
use super::super::super::output::{OutputArgs, counted, note};
use super::super::super::record_json::parse;
use super::engine::Engine;
use super::expectation::{self, SHOWN_MAX, failure};
use super::outcome::{Failed, Outcome, OutputLine};

/// Longest line of a file.
const LINE_BYTES_MAX: usize = 64 << 20;
/// The topic that the function takes for its source.
const SOURCE: &str = "test";

/// A line that came out: as it is written, and as it is compared.
struct Came {
    text: Box<RawValue>,
    value: Value,
}

/// An output of a record.
#[derive(Serialize)]
struct OutputOf<'a> {
    /// Which record of the file, from 0.
    record: i64,
    #[serde(flatten)]
    output: OutputLine<'a>,
    /// That there are none is said as well: what is left out is not compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<[(); 0]>,
}

/// Why a record has none.
#[derive(Serialize)]
struct FailureOf<'a> {
    record: i64,
    failed: &'a Failed,
}

pub(super) async fn run(
    engine: &Engine,
    input: &Path,
    expect: Option<&Path>,
    update: bool,
    output: OutputArgs,
) -> Result<(), Failure> {
    let partitions = records(input).await?;
    let mut lines = Vec::new();
    let count: usize = partitions.values().map(Vec::len).sum();
    for (partition, records) in partitions {
        let outcomes = engine.run(SOURCE, partition, records.clone()).await?;
        for (record, outcome) in records.iter().zip(&outcomes) {
            lines.extend(lines_of(engine, partition, record, outcome)?);
        }
    }
    match expect {
        None => lines
            .iter()
            // Lines stay lines: only YAML is another form of them.
            .try_for_each(|line| output.print_next(&line.text, |text| format!("{text}\n")))?,
        Some(path) if update => {
            let text: String = lines
                .iter()
                .map(|line| format!("{}\n", line.text))
                .collect();
            write(path, &text).map_err(|error| {
                Failure::new(format!("cannot write {}", path.display())).because(&error)
            })?;
            let count = counted(lines.len() as u64, "line");
            note(&format!("{count} written to {}", path.display()))?;
        }
        Some(path) => {
            let came: Vec<Value> = lines.iter().map(|line| line.value.clone()).collect();
            meet(path, &came, output).await?;
        }
    }
    let failed = lines.iter().filter_map(|line| failure(&line.value));
    let failed: Vec<String> = failed.collect();
    if expect.is_some() {
        // Without a file to hold them against they stand on stdout already.
        let mut shown = failed.iter().take(SHOWN_MAX);
        shown.try_for_each(|failure| note(failure))?;
    }
    match failed.len() {
        // Nothing on stdout could mean anything.
        0 if expect.is_none() && lines.is_empty() => Ok(note(&format!(
            "nothing came of {}",
            counted(count as u64, "record")
        ))?),
        0 => Ok(()),
        count => Ok(note(&format!(
            "{} failed",
            counted(count as u64, "record")
        ))?),
    }
}

/// The records of the file by partition.
async fn records(path: &Path) -> Result<BTreeMap<PartitionId, Vec<Record>>, Failure> {
    let mut partitions: BTreeMap<PartitionId, Vec<Record>> = BTreeMap::new();
    let numbered = lines(path, "--input").await?.into_iter();
    for (index, (number, line)) in (0..).zip(numbered) {
        let parsed =
            parse(&line).map_err(|error| Failure::new(error).in_line(number).next(FORM))?;
        let partition = parsed.partition.unwrap_or(PartitionId(0));
        partitions.entry(partition).or_default().push(Record {
            offset: Offset(index),
            timestamp: parsed.timestamp.unwrap_or(0),
            key: parsed.key.map(Bytes::from),
            value: parsed.value.map(Bytes::from),
            headers: parsed.headers,
        });
    }
    Ok(partitions)
}

const FORM: &str =
    r#"write a record a line, as in {"key":"UA","value":{"x":1}}; docs/cli.md has all fields"#;

/// The lines of a file that are not empty, with their numbers.
async fn lines(path: &Path, flag: &str) -> Result<Vec<(u64, Bytes)>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(format!("cannot read {}", path.display()))
            .because(&error)
            .next(format!(
                "name a file of JSON lines with {flag}, or - for stdin"
            ))
    };
    let mut lines = Lines::open(path, LINE_BYTES_MAX).map_err(unreadable)?;
    let mut all = Vec::new();
    let mut number = 0;
    while let Some(line) = lines.next().await.map_err(unreadable)? {
        number += 1;
        if !line.is_empty() {
            all.push((number, line));
        }
    }
    Ok(all)
}

fn lines_of(
    engine: &Engine,
    partition: PartitionId,
    record: &Record,
    outcome: &Outcome,
) -> Result<Vec<Came>, Failure> {
    let index = record.offset.0;
    let outputs = outcome.outputs.iter().map(|output| {
        let output = OutputLine::new(output, record, partition, &engine.manifest);
        came(&OutputOf {
            record: index,
            headers: output.fields.has_no_headers().then_some([]),
            output,
        })
    });
    let failed = outcome.failed.iter().map(|failed| {
        came(&FailureOf {
            record: index,
            failed,
        })
    });
    outputs.chain(failed).collect()
}

fn came(line: &impl Serialize) -> Result<Came, Failure> {
    let text = to_raw_value(line).map_err(io::Error::other)?;
    let value = serde_json::from_str(text.get()).map_err(io::Error::other)?;
    Ok(Came { text, value })
}

/// Holds what came out against the file.
async fn meet(path: &Path, came: &[Value], output: OutputArgs) -> Result<(), Failure> {
    let mut expected = Vec::new();
    for (number, line) in lines(path, "--expect").await? {
        let line = serde_json::from_slice(&line).map_err(|error| {
            let name = path.display();
            Failure::new(format!("{name}:{number} is not JSON")).because(&error)
        })?;
        expected.push(line);
    }
    let mismatches = expectation::compare(&expected, came);
    if mismatches.is_empty() {
        let count = counted(came.len() as u64, "line");
        return Ok(note(&format!("{count}, all as in {}", path.display()))?);
    }
    let name = path.display().to_string();
    output.print(&mismatches, |mismatches| {
        expectation::text(mismatches, &name)
    })?;
    let places = counted(mismatches.len() as u64, "place");
    Err(
        Failure::new(format!("what came out differs from {name} in {places}"))
            .next("mend the function, or take what came out for right with --update"),
    )
}

#[allow(
    clippy::disallowed_methods,
    reason = "a file that a person names is not the broker's data"
)]
fn write(path: &Path, text: &str) -> io::Result<()> {
    std::fs::write(path, text)
}
