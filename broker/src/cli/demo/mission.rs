//! The part of the demo that other brokers do not have in the box: a function on the records, and the object tier.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidemill_client::{Client, OffsetSpec};
use tidemill_records::PartitionId;

use super::super::api::Api;
use super::super::exit::Failure;
use super::super::output::human_bytes;
use super::super::record_json::ParsedRecord;
use super::broker::DemoBroker;
use super::{PARTITIONS, TOPIC, read_back, say};
use crate::tiering::TierStatus;
use crate::transform::TransformStatus;

/// The transform and its sink.
const DELAYS: &str = "delays";
/// Minutes after which a flight is late.
const LATE_MINUTES: i64 = 60;
/// What is awaited takes seconds at most.
const WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Runs the stock function `filter` from the first record on: late flights, by destination.
pub(super) async fn delays(
    broker: &DemoBroker,
    client: &Arc<Client>,
    records: &[ParsedRecord],
) -> Result<(), Failure> {
    let api = Api {
        address: &broker.admin,
    };
    let began = Instant::now();
    let deployment = json!({
        "name": DELAYS, "stock": "filter", "source": TOPIC, "sinks": [DELAYS], "from": "start",
        "config": { "where": "/dep_delay", "op": "gt", "value": LATE_MINUTES.to_string(), "key": "/dest" },
    });
    api.post("/v1/transforms", &deployment).await?;
    say(
        "function",
        &format!("filter deployed: dep_delay > {LATE_MINUTES}, keyed by destination, to {DELAYS}"),
        began.elapsed(),
    )?;
    let began = Instant::now();
    let status = loop {
        let all: Vec<TransformStatus> = api.get("/v1/transforms").await?;
        let found = all.into_iter().find(|status| {
            let is_done = status.records_in == records.len() as u64 && status.lag == 0;
            status.name == DELAYS && is_done
        });
        if let Some(status) = found {
            break status;
        }
        wait(began, "the function has not taken all records").await?;
    };
    let late = records.iter().filter(|record| is_late(record)).count();
    let partitions: Vec<PartitionId> = (0..PARTITIONS).map(PartitionId).collect();
    let ends = client
        .list_offsets(DELAYS, &partitions, OffsetSpec::End)
        .await?;
    let written: i64 = ends.values().map(|end| end.offset.0).sum();
    if written != late as i64 {
        return Err(Failure::new(format!(
            "{DELAYS} has {written} records; {late} flights are late"
        )));
    }
    let per_record = status.cpu_seconds / records.len() as f64 * 1e9;
    let text = format!(
        "{} records in, {late} out, none lost, {per_record:.0} ns of CPU a record",
        status.records_in
    );
    Ok(say(DELAYS, &text, began.elapsed())?)
}

fn is_late(record: &ParsedRecord) -> bool {
    let value = record.value.as_deref().unwrap_or_default();
    let flight: Value = serde_json::from_slice(value).unwrap_or_default();
    flight["dep_delay"].as_f64() > Some(LATE_MINUTES as f64)
}

/// Waits until sealed segments are in the tier and no longer on this disk, and reads everything back.
pub(super) async fn tier(
    broker: &DemoBroker,
    client: &Arc<Client>,
    dir: &Path,
    records: &[ParsedRecord],
) -> Result<(), Failure> {
    let api = Api {
        address: &broker.admin,
    };
    let began = Instant::now();
    let (remote, only) = loop {
        let status: TierStatus = api.get("/v1/tier").await?;
        let flights = status.topics.iter().find(|topic| topic.topic == TOPIC);
        let in_tier = flights.map(|topic| (topic.remote_bytes, topic.remote_only_bytes));
        match in_tier {
            Some((remote, only)) if only > 0 => break (remote, only),
            _ => wait(began, "no segment was moved to the tier").await?,
        }
    };
    let text = format!(
        "{} of sealed segments in file://{}, {} no longer on this disk",
        human_bytes(remote),
        dir.join("tier").display(),
        human_bytes(only)
    );
    say("tier", &text, began.elapsed())?;
    read_back(client, records).await
}

async fn wait(began: Instant, late: &str) -> Result<(), Failure> {
    if began.elapsed() > WITHIN {
        return Err(Failure::new(format!("{late} after {WITHIN:?}")));
    }
    tokio::time::sleep(ASK_AGAIN).await;
    Ok(())
}
