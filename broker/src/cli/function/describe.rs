//! `tidemill fn describe` and `tidemill fn versions`.

use std::collections::BTreeMap;
use std::fmt::Display;

use tidemill_storage::clock::{Clock, SystemClock};

use super::super::api::Api;
use super::super::exit::{Failure, command};
use super::super::output::{OutputArgs, Table, note, pairs, printable};
use super::list::error_text;
use super::wire::{short_id, transform};
use crate::timestamp::format_timestamp;
use crate::transform::{TaskStatus, TransformDetails, VersionStatus};

pub(super) async fn describe(name: &str, api: Api<'_>, output: OutputArgs) -> Result<(), Failure> {
    let details = transform(api, name).await?;
    let now_ms = SystemClock::new().now_ms();
    output.print(&details, |details| describe_text(details, now_ms))?;
    let resume = command(&format!("fn resume {name}"));
    match &*details.status.state {
        "paused" => note(&format!("next:  {resume}"))?,
        // Trying again is not enough where the record is at fault.
        "stopped" => {
            note(
                "next:  deploy a version that gets through the record, or one with --on-error dlq or skip",
            )?;
            note(&format!("next:  {resume}, which tries the record again"))?;
        }
        _ => {}
    }
    Ok(())
}

pub(super) async fn versions(name: &str, api: Api<'_>, output: OutputArgs) -> Result<(), Failure> {
    let details = transform(api, name).await?;
    output.print(&details.versions, |versions| versions_text(versions))
}

fn describe_text(details: &TransformDetails, now_ms: i64) -> String {
    let transform = &details.status;
    let or_dash = |text: Option<&str>| text.map_or("-".to_owned(), printable);
    let mut last_error = or_dash(transform.last_error.as_deref());
    if let Some(at_ms) = transform.last_error_at_ms {
        last_error += &format!(" ({} ago)", age(now_ms - at_ms));
    }
    let mut text = pairs(&[
        ("name", transform.name.clone()),
        ("state", transform.state.clone()),
        ("last_error", last_error),
        ("version", transform.version.to_string()),
        ("function", transform.function.clone()),
        ("source", transform.source.clone()),
        ("sinks", transform.sinks.join(",")),
        ("config", settings(&details.config)),
        ("on_error", details.on_error.clone()),
        ("dlq", or_dash(transform.dlq.as_deref())),
        ("retries", details.retries.to_string()),
        ("backoff_ms", details.backoff_ms.to_string()),
        ("limits", settings(&details.limits)),
        ("created", format_timestamp(details.created_at_ms)),
        ("lag", transform.lag.to_string()),
        ("records_in", transform.records_in.to_string()),
        ("records_out", transform.records_out.to_string()),
        ("dead_letters", transform.dead_letters.to_string()),
        ("skipped", transform.skipped.to_string()),
        ("cpu_seconds", format!("{:.3}", transform.cpu_seconds)),
    ]);
    if !details.tasks.is_empty() {
        text.push('\n');
        text += &tasks_text(&details.tasks);
    }
    text.push('\n');
    text += &versions_text(&details.versions);
    text
}

/// In the largest unit that fits. What another machine's clock puts into the future is now.
fn age(ms: i64) -> String {
    match ms.max(0) / 1_000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn tasks_text(tasks: &[TaskStatus]) -> String {
    let mut table = Table::new([
        "PARTITION",
        "STATE",
        "VERSION",
        "COMMITTED",
        "END",
        "LAG",
        "RECORDS_IN",
        "RECORDS_OUT",
        "DEAD_LETTERS",
        "LAST_ERROR",
    ]);
    for task in tasks {
        table.row([
            task.partition.to_string(),
            task.state.clone(),
            task.version.to_string(),
            task.committed.to_string(),
            task.end.to_string(),
            task.lag.to_string(),
            task.records_in.to_string(),
            task.records_out.to_string(),
            task.dead_letters.to_string(),
            error_text(task.last_error.as_deref()),
        ]);
    }
    table.render()
}

fn versions_text(versions: &[VersionStatus]) -> String {
    let mut table = Table::new([
        "VERSION", "CURRENT", "FUNCTION", "SINKS", "ON_ERROR", "DEPLOYED", "CONFIG",
    ]);
    for version in versions {
        table.row([
            version.version.to_string(),
            if version.is_current { "yes" } else { "" }.to_owned(),
            short_id(&version.function),
            version.sinks.join(","),
            version.on_error.clone(),
            format_timestamp(version.deployed_at_ms),
            settings(&version.config),
        ]);
    }
    table.render()
}

/// `a=1 b=2`, or a dash.
fn settings<V: Display>(settings: &BTreeMap<String, V>) -> String {
    let settings = settings.iter().map(|(key, value)| format!("{key}={value}"));
    match settings.collect::<Vec<_>>().join(" ") {
        none if none.is_empty() => "-".to_owned(),
        some => printable(&some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_a_unit_that_fits() {
        for (ms, told) in [
            (-5_000, "0 s"),
            (1_999, "1 s"),
            (180_000, "3 min"),
            (7_200_000, "2 h"),
            (3 * 86_400_000, "3 d"),
        ] {
            assert_eq!(age(ms), told);
        }
    }
}
