//! `tidemill fn logs`: the lines of a function, from the topic that the broker keeps them in.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use tidemill_client::{Client, ClientError};

use super::super::ClientArgs;
use super::super::api::Api;
use super::super::exit::Failure;
use super::super::output::{OutputArgs, note, printable};
use super::super::position::Position;
use super::super::stop::Stop;
use super::reader::{Found, Reader, Reading};
use super::wire::transform;
use crate::timestamp::format_timestamp;
use crate::transform::FUNCTION_LOGS_TOPIC;

/// How often to look whether a topic that is followed has come.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The transform.
    name: String,
    /// Wait for more, until ^C.
    #[arg(long, short)]
    follow: bool,
    /// Where to begin [default: start; end with --follow].
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    from: Option<Position>,
}

/// A line as it is printed.
#[derive(Debug, Serialize)]
struct LogLine {
    timestamp: i64,
    #[serde(flatten)]
    said: Said,
}

/// A line as its record has it.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    level: String,
    message: String,
    transform: String,
    version: u32,
    partition: i32,
    dropped: u64,
}

pub(super) async fn run(
    args: &LogsArgs,
    client: &ClientArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let kafka = client.client();
    // A mistyped name must not wait for ever; the lines of one that was deleted are still there without --follow.
    let api = Api {
        address: &client.admin,
    };
    if args.follow {
        transform(api, &args.name).await?;
    }
    let mut stop = Stop::new()?;
    let opened = tokio::select! {
        opened = open(args, &kafka) => opened?,
        () = stop.asked() => return Ok(()),
    };
    let Some(mut reader) = opened else {
        return silent(args, api).await;
    };
    let mut is_silent = true;
    loop {
        let found = tokio::select! {
            found = reader.next() => found?,
            () = stop.asked() => return Ok(()),
        };
        let Some(found) = found else {
            break;
        };
        for line in found.iter().filter_map(|found| line_of(&args.name, found)) {
            is_silent = false;
            output.print_next(&line, line_text)?;
        }
    }
    match is_silent {
        true => silent(args, api).await,
        false => Ok(()),
    }
}

/// Nothing of this name is in the log: there is no such transform, or it has said nothing.
async fn silent(args: &LogsArgs, api: Api<'_>) -> Result<(), Failure> {
    transform(api, &args.name).await?;
    Ok(note(&format!("{} has said nothing there", args.name))?)
}

/// Begins to read. The topic comes with the first line that any function says: none before that, unless to follow it.
async fn open(args: &LogsArgs, client: &Arc<Client>) -> Result<Option<Reader>, Failure> {
    let mut from = args.from.unwrap_or(match args.follow {
        true => Position::End,
        false => Position::Start,
    });
    loop {
        match client.topic(FUNCTION_LOGS_TOPIC).await {
            Ok(_) => break,
            Err(ClientError::UnknownTopic { .. }) if args.follow => {
                from = Position::Start;
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(ClientError::UnknownTopic { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    let reading = Reading {
        topic: FUNCTION_LOGS_TOPIC,
        partition: None,
        from,
        follow: args.follow,
    };
    Ok(Some(Reader::open(client, &reading).await?))
}

/// The line, if this transform said it. A record that is none, somebody else wrote.
fn line_of(name: &str, found: &Found) -> Option<LogLine> {
    let record = &found.record;
    if record.key.as_deref() != Some(name.as_bytes()) {
        return None;
    }
    let said = serde_json::from_slice(record.value.as_deref()?).ok()?;
    Some(LogLine {
        timestamp: record.timestamp,
        said,
    })
}

fn line_text(line: &LogLine) -> String {
    let said = &line.said;
    let mut text = String::new();
    if said.dropped > 0 {
        text += &format!("({} lines were held back here)\n", said.dropped);
    }
    text + &format!(
        "{}  {:5}  v{} partition {}  {}\n",
        format_timestamp(line.timestamp),
        printable(&said.level),
        said.version,
        said.partition,
        printable(&said.message)
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_records::{Headers, Offset, PartitionId, Record, TopicPartition};

    use super::*;

    #[test]
    fn only_the_lines_of_the_transform_are_shown() {
        let value = r#"{"level":"warn","message":"a\nb","transform":"f","version":2,"partition":1,"dropped":3}"#;
        let found = |key: &'static str, value: &'static str| Found {
            partition: TopicPartition::new(FUNCTION_LOGS_TOPIC, PartitionId(0)),
            record: Record {
                offset: Offset(0),
                timestamp: 0,
                key: Some(Bytes::from_static(key.as_bytes())),
                value: Some(Bytes::from_static(value.as_bytes())),
                headers: Headers::default(),
            },
        };
        let line = line_of("f", &found("f", value)).unwrap();
        assert_eq!(
            line_text(&line),
            "(3 lines were held back here)\n1970-01-01T00:00:00.000Z  warn   v2 partition 1  a\\nb\n"
        );
        assert!(line_of("g", &found("f", value)).is_none());
        assert!(line_of("f", &found("f", "junk")).is_none());
    }
}
