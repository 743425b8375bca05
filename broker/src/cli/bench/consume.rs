//! `tidemill bench consume`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use tidemill_client::{Client, Connection, ConnectionConfig};
use tidemill_protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use tidemill_protocol::{Str, decode_response};
use tidemill_records::{BatchHeader, PartitionId};

use super::super::exit::Failure;
use super::super::output::{counted, human_bytes, note};
use super::super::position::{POSITIONS, Position, bounds, resolve};
use super::report::{Measured, Report};
use super::wire::Wire;
use super::{Amount, LoadArgs, Share, measure, parse_amount, refused, shares};

/// The last version of Fetch that names topics by name.
const FETCH_BY_NAME: i16 = 12;
/// Records that do not come for this long will not come.
const NEWS_WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = POSITIONS)]
pub(super) struct ConsumeBenchArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Where to begin. It ends where the log ends at the beginning, even if that is less than the amount;
    /// from `end` it waits for what is written meanwhile.
    #[arg(
        long,
        value_name = "POSITION",
        allow_hyphen_values = true,
        default_value = "start"
    )]
    from: Position,
    /// How many times the whole is read, side by side; each has its --connections and moves the whole
    /// amount.
    #[arg(long, value_name = "N", default_value_t = 1)]
    fan_out: usize,
    /// The broker answers as soon as it has so much.
    #[arg(long, value_name = "N", value_parser = parse_amount, default_value = "1")]
    min_bytes: u64,
    /// Most that one answer brings of a partition.
    #[arg(long, value_name = "N", value_parser = parse_amount, default_value = "1Mi")]
    max_bytes: u64,
    /// The broker answers after this at the latest.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    max_wait_ms: i32,
}

/// What one connection does.
#[derive(Debug, Clone)]
struct Load {
    address: String,
    version: i16,
    topic: Str,
    /// Next offset by partition.
    positions: BTreeMap<i32, i64>,
    /// Where the log ends by partition; `None`: nowhere.
    ends: Option<BTreeMap<i32, i64>>,
    amount: Amount,
    /// What the connections that share the amount have moved of it.
    moved: Arc<AtomicU64>,
    min_bytes: i32,
    max_bytes: i32,
    max_wait_ms: i32,
}

impl Load {
    fn is_at_end(&self) -> bool {
        let Some(ends) = &self.ends else {
            return false;
        };
        let is_there = |(id, at): (&i32, &i64)| ends.get(id).is_none_or(|end| at >= end);
        self.positions.iter().all(is_there)
    }
}

pub(super) async fn run(client: &Client, args: &ConsumeBenchArgs) -> Result<Report, Failure> {
    client.cluster().await?;
    let view = client.topic(&args.load.topic).await?;
    let shares = shares(client, &view, args.load.connections)?;
    let partitions: Vec<PartitionId> = view.partitions.iter().map(|view| view.partition).collect();
    let positions = resolve(client, &args.load.topic, &partitions, args.from).await?;
    let ends = match args.from {
        Position::End => None,
        _ => {
            let bounds = bounds(client, &args.load.topic, &partitions).await?;
            let ends = bounds.into_iter().map(|(id, at)| (id.0, at.end.0));
            Some(ends.collect::<BTreeMap<_, _>>())
        }
    };
    let mut work = Vec::new();
    for Share {
        address,
        partitions,
    } in shares
    {
        let positions = partitions
            .iter()
            .filter_map(|partition| Some((*partition, positions.get(&PartitionId(*partition))?.0)));
        let load = Load {
            version: version_at(&address).await?,
            address,
            topic: Str::from(&args.load.topic),
            positions: positions.collect(),
            ends: ends.clone(),
            amount: args.load.amount(),
            moved: Arc::default(),
            min_bytes: i32::try_from(args.min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(args.max_bytes).unwrap_or(i32::MAX),
            max_wait_ms: args.max_wait_ms,
        };
        work.push(load);
    }
    let work = (0..args.fan_out).flat_map(|_| {
        let moved = Arc::<AtomicU64>::default();
        let side_by_side = work.clone().into_iter();
        side_by_side.map(move |load| Load {
            moved: moved.clone(),
            ..load
        })
    });
    let work = work.collect();
    let (measured, usage) = measure(args.load.broker_pid, work, consume).await?;
    say_if_short(args, &measured)?;
    Ok(Report::new("consume", &args.load.topic, &measured, &usage))
}

/// A log that holds less than the amount is no failure, but the amount is not what was measured.
fn say_if_short(args: &ConsumeBenchArgs, measured: &Measured) -> Result<(), Failure> {
    let times = args.fan_out as u64;
    let (moved, wanted) = match args.load.amount() {
        Amount::Bytes(wanted) => (measured.bytes, wanted.saturating_mul(times)),
        Amount::Records(wanted) => (measured.records, wanted.saturating_mul(times)),
    };
    if moved >= wanted {
        return Ok(());
    }
    let shown = |amount| match args.load.amount() {
        Amount::Bytes(_) => human_bytes(amount),
        Amount::Records(_) => counted(amount, "record"),
    };
    let (moved, wanted) = (shown(moved), shown(wanted));
    Ok(note(&format!("the log ended after {moved} of {wanted}"))?)
}

async fn version_at(address: &str) -> Result<i16, Failure> {
    let connection = Connection::open(address, ConnectionConfig::default()).await;
    let connection = connection.map_err(tidemill_client::ClientError::from)?;
    let version = connection.version_of::<FetchRequest>(Some(FETCH_BY_NAME));
    Ok(version.map_err(tidemill_client::ClientError::from)?)
}

/// Fetches on one connection until the amount is reached by all that share it.
fn consume(mut load: Load) -> Result<Measured, Failure> {
    let mut wire = Wire::connect(&load.address)?;
    let mut measured = Measured::new();
    let mut correlation_id = 0;
    let mut last_news = Instant::now();
    let wanted = match load.amount {
        Amount::Bytes(amount) | Amount::Records(amount) => amount,
    };
    while load.moved.load(Ordering::Relaxed) < wanted && !load.is_at_end() {
        let before = (measured.records, measured.bytes);
        let asked = Instant::now();
        wire.send_new(&request_for(&load), load.version, correlation_id)?;
        wire.receive(|frame| read_answer(frame, &mut load, correlation_id, &mut measured))?;
        correlation_id = correlation_id.wrapping_add(1) & i32::MAX;
        measured.requests += 1;
        if measured.records > before.0 {
            measured.latency(asked.elapsed());
            last_news = Instant::now();
            let moved = match load.amount {
                Amount::Bytes(_) => measured.bytes - before.1,
                Amount::Records(_) => measured.records - before.0,
            };
            load.moved.fetch_add(moved, Ordering::Relaxed);
        } else if last_news.elapsed() > NEWS_WAIT_MAX {
            return Err(
                Failure::new(format!("no new record within {NEWS_WAIT_MAX:?}"))
                    .next("write more, or ask for less with --bytes or --records"),
            );
        }
    }
    Ok(measured)
}

fn request_for(load: &Load) -> FetchRequest {
    let partitions = load
        .positions
        .iter()
        .map(|(partition, offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *offset,
            partition_max_bytes: load.max_bytes,
            ..FetchPartition::default()
        });
    FetchRequest {
        max_wait_ms: load.max_wait_ms,
        min_bytes: load.min_bytes,
        topics: vec![FetchTopic {
            topic: load.topic.clone(),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// Counts what came and moves the positions past it.
fn read_answer(
    frame: Bytes,
    load: &mut Load,
    correlation_id: i32,
    measured: &mut Measured,
) -> Result<(), Failure> {
    let (header, response) = decode_response::<FetchRequest>(frame, load.version)
        .map_err(|error| Failure::new("the answer cannot be read").because(&error))?;
    if header.correlation_id != correlation_id {
        return Err(Failure::new("the broker answers out of order"));
    }
    for data in response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
    {
        let partition = data.partition_index;
        if data.error_code != 0 {
            return Err(refused(load.topic.as_str(), partition, data.error_code, ""));
        }
        let records = data
            .records
            .map(|records| records.into_bytes())
            .unwrap_or_default();
        if let Some(position) = load.positions.get_mut(&partition) {
            *position = count_batches(&records, *position, measured);
        }
    }
    Ok(())
}

/// Walks batch headers, without looking into the batches. The last one may be cut off.
fn count_batches(mut bytes: &[u8], mut next: i64, measured: &mut Measured) -> i64 {
    while let Ok(header) = BatchHeader::read(bytes) {
        let Some(rest) = bytes.get(header.size_bytes()..) else {
            break;
        };
        measured.records += header.record_count() as u64;
        measured.bytes += header.size_bytes() as u64;
        next = next.max(header.next_offset().0);
        bytes = rest;
    }
    next
}

#[cfg(test)]
mod tests {
    use tidemill_records::{Compression, Headers, LeaderEpoch, Offset, RecordBatchBuilder};

    use super::*;

    #[test]
    fn batches_are_counted_up_to_the_one_that_is_cut_off() {
        let mut bytes = Vec::new();
        for base in [10, 13] {
            let mut builder = RecordBatchBuilder::new(Compression::None);
            for _ in 0..3 {
                builder.push(1, None, Some(b"value"), &Headers::default());
            }
            let mut batch = builder.build().unwrap();
            batch.assign(Offset(base), LeaderEpoch(0));
            bytes.extend_from_slice(&batch.to_bytes());
        }
        let mut measured = Measured::new();
        assert_eq!(count_batches(&bytes, 10, &mut measured), 16);
        assert_eq!((measured.records, measured.bytes), (6, bytes.len() as u64));
        let mut measured = Measured::new();
        assert_eq!(
            count_batches(&bytes[..bytes.len() - 1], 10, &mut measured),
            13
        );
        assert_eq!(measured.records, 3);
        assert_eq!(count_batches(&[], 10, &mut measured), 10);
    }
}
