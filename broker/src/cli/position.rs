//! Positions in a log as people write them: `start`, `end`, `+n`, `-n`, `@timestamp`, or an offset.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tidemill_client::{Client, ClientError, OffsetSpec};
use tidemill_records::{Offset, PartitionId};

use super::exit::Failure;
use crate::timestamp::parse_timestamp;

/// What a command with a POSITION says below its help.
pub(super) const POSITIONS: &str = "\
POSITION, in each partition by itself:
  start, end   where the log begins, where it ends
  +N, -N       N records after the start, N records before the end
  @TIMESTAMP   the first record at or after this time: ms since 1970, or 2013-01-01T05:00:00Z
  OFFSET       this offset";

/// A position, the same rule for every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// The log start.
    Start,
    /// The end.
    End,
    /// So many records after the start.
    AfterStart(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record at or after this time, in ms since 1970.
    Timestamp(i64),
    /// This offset.
    Offset(i64),
}

/// As it is given on the command line.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::End => f.write_str("end"),
            Self::AfterStart(records) => write!(f, "+{records}"),
            Self::BeforeEnd(records) => write!(f, "-{records}"),
            Self::Timestamp(ms) => write!(f, "@{ms}"),
            Self::Offset(offset) => write!(f, "{offset}"),
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Position, String> {
        let count = |digits: &str| {
            digits
                .parse::<u32>()
                .map(i64::from)
                .map_err(|_| format!("{digits:?} is not a count"))
        };
        match text {
            "start" => return Ok(Position::Start),
            "end" => return Ok(Position::End),
            _ => {}
        }
        if let Some(digits) = text.strip_prefix('+') {
            return count(digits).map(Position::AfterStart);
        }
        if let Some(digits) = text.strip_prefix('-') {
            return count(digits).map(Position::BeforeEnd);
        }
        if let Some(time) = text.strip_prefix('@') {
            let ms = parse_timestamp(time).ok_or_else(|| {
                format!("{time:?} is neither milliseconds nor a time like 2013-01-01T05:00:00Z")
            })?;
            return Ok(Position::Timestamp(ms));
        }
        match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Position::Offset(offset)),
            _ => Err("write start, end, +N, -N, @TIMESTAMP or an offset".to_owned()),
        }
    }
}

/// Where a log begins and ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) start: Offset,
    pub(super) end: Offset,
}

/// Start and end of each partition.
pub(super) async fn bounds(
    client: &Client,
    topic: &str,
    partitions: &[PartitionId],
) -> Result<BTreeMap<PartitionId, Bounds>, ClientError> {
    let starts = client
        .list_offsets(topic, partitions, OffsetSpec::Start)
        .await?;
    let ends = client
        .list_offsets(topic, partitions, OffsetSpec::End)
        .await?;
    let both = starts.iter().filter_map(|(partition, start)| {
        let end = ends.get(partition)?.offset;
        Some((
            *partition,
            Bounds {
                start: start.offset,
                end,
            },
        ))
    });
    Ok(both.collect())
}

/// The offset that `position` means in each partition. Counts are cut at start and end, and a time after the
/// last record means the end; an offset must lie between start and end.
pub(super) async fn resolve(
    client: &Client,
    topic: &str,
    partitions: &[PartitionId],
    position: Position,
) -> Result<BTreeMap<PartitionId, Offset>, Failure> {
    let bounds = bounds(client, topic, partitions).await?;
    if let Position::Offset(offset) = position {
        within_all(topic, &bounds, Offset(offset))?;
    }
    let by_time = match position {
        Position::Timestamp(ms) => {
            client
                .list_offsets(topic, partitions, OffsetSpec::Timestamp(ms))
                .await?
        }
        _ => BTreeMap::new(),
    };
    let resolved = bounds.into_iter().map(|(partition, bounds)| {
        let found = by_time.get(&partition).map(|listed| listed.offset);
        (
            partition,
            within(
                position,
                bounds,
                found.filter(|offset| *offset != Offset::NONE),
            ),
        )
    });
    Ok(resolved.collect())
}

fn within_all(
    topic: &str,
    bounds: &BTreeMap<PartitionId, Bounds>,
    offset: Offset,
) -> Result<(), Failure> {
    let outside = |bounds: &Bounds| offset < bounds.start || offset > bounds.end;
    match bounds.iter().find(|(_, bounds)| outside(bounds)) {
        None => Ok(()),
        Some((partition, Bounds { start, end })) => {
            let failure = Failure::new(format!(
                "OFFSET_OUT_OF_RANGE: offset {offset} is not in {topic}-{partition}"
            ))
            .cause(format!("its log starts at {start} and ends at {end}"));
            let next = match bounds.len() {
                1 => format!("give an offset from {start} to {end}"),
                _ => "give --partition P, or a position that fits all partitions".to_owned(),
            };
            Err(failure.next(next))
        }
    }
}

fn within(position: Position, bounds: Bounds, by_time: Option<Offset>) -> Offset {
    match position {
        Position::Start => bounds.start,
        Position::End => bounds.end,
        Position::AfterStart(count) => (bounds.start + count).min(bounds.end),
        Position::BeforeEnd(count) => Offset(bounds.end.0 - count).max(bounds.start),
        Position::Timestamp(_) => by_time.unwrap_or(bounds.end),
        Position::Offset(offset) => Offset(offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, position) in [
            ("start", Position::Start),
            ("end", Position::End),
            ("+7", Position::AfterStart(7)),
            ("-7", Position::BeforeEnd(7)),
            ("@1357016400000", Position::Timestamp(1_357_016_400_000)),
            (
                "@2013-01-01T05:00:00Z",
                Position::Timestamp(1_357_016_400_000),
            ),
            ("42", Position::Offset(42)),
        ] {
            assert_eq!(text.parse(), Ok(position), "{text}");
        }
        for text in ["", "begin", "+", "--1", "@yesterday", "4x", "-99999999999"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_offset_lies_between_start_and_end() {
        let bounds = Bounds {
            start: Offset(10),
            end: Offset(20),
        };
        let bounds = BTreeMap::from([(PartitionId(0), bounds)]);
        for (offset, fits) in [(9, false), (10, true), (20, true), (21, false)] {
            let checked = within_all("t", &bounds, Offset(offset));
            assert_eq!(checked.is_ok(), fits, "{offset}");
        }
    }

    #[test]
    fn counts_stay_within_the_log() {
        let bounds = Bounds {
            start: Offset(10),
            end: Offset(20),
        };
        for (position, by_time, offset) in [
            (Position::AfterStart(3), None, 13),
            (Position::AfterStart(30), None, 20),
            (Position::BeforeEnd(3), None, 17),
            (Position::BeforeEnd(30), None, 10),
            (Position::Timestamp(1), Some(Offset(15)), 15),
            (Position::Timestamp(1), None, 20),
            (Position::Offset(99), None, 99),
        ] {
            assert_eq!(
                within(position, bounds, by_time),
                Offset(offset),
                "{position:?}"
            );
        }
    }
}
