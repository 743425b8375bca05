//! What transforms do, take and leave behind.

use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_metadata::MetadataLog;

use super::families::Families;
use crate::broker::Broker;
use crate::transform::{TaskFigures, TaskState};

type Counter = (&'static str, &'static str, fn(&TaskFigures) -> &AtomicU64);

const COUNTERS: &[Counter] = &[
    (
        "tidemill_transform_records_in_total",
        "Records that the function has taken, or that were given up.",
        |figures| &figures.records_in,
    ),
    (
        "tidemill_transform_bytes_in_total",
        "Keys, values and headers of those records.",
        |figures| &figures.bytes_in,
    ),
    (
        "tidemill_transform_records_out_total",
        "Records written to sinks; dead letters count apart.",
        |figures| &figures.records_out,
    ),
    (
        "tidemill_transform_bytes_out_total",
        "Bytes of batches written to sinks and dead letters.",
        |figures| &figures.bytes_out,
    ),
    (
        "tidemill_transform_dead_letters_total",
        "Records that became dead letters.",
        |figures| &figures.dead_letters,
    ),
    (
        "tidemill_transform_skipped_total",
        "Records that were given up by the policy skip.",
        |figures| &figures.skipped,
    ),
    (
        "tidemill_transform_missed_total",
        "Offsets that retention took before the transform read them.",
        |figures| &figures.missed,
    ),
    (
        "tidemill_transform_retries_total",
        "Records that were tried again.",
        |figures| &figures.retries,
    ),
    (
        "tidemill_transform_commits_total",
        "Offsets committed.",
        |figures| &figures.commits,
    ),
];

pub(super) fn gather(broker: &Broker, families: &mut Families) {
    let image = broker.metadata.image();
    for ((name, index), figures) in broker.transforms.tasks().all() {
        let partition = index.to_string();
        let labels = [("transform", &*name), ("partition", partition.as_str())];
        for (family, help, counter) in COUNTERS {
            families.counter(
                family,
                help,
                &labels,
                counter(&figures).load(Ordering::Relaxed),
            );
        }
        families.counter_f64(
            "tidemill_transform_cpu_seconds_total",
            "Processor time of the task on the functions' threads.",
            &labels,
            figures.share.used().as_secs_f64(),
        );
        for (kind, count) in figures.faults() {
            let labels = [labels[0], labels[1], ("kind", kind)];
            families.counter(
                "tidemill_transform_faults_total",
                "Records that failed, by kind.",
                &labels,
                count,
            );
        }
        for state in TaskState::ALL {
            let labels = [labels[0], labels[1], ("state", state.as_str())];
            families.gauge(
                "tidemill_transform_state",
                "1 for the state that the task is in.",
                &labels,
                f64::from(u8::from(figures.state() == state)),
            );
        }
        if let Some(transform) = image.transform(&name) {
            families.gauge(
                "tidemill_transform_lag",
                "Records of the source partition that are not committed yet.",
                &labels,
                figures.lag(broker, &transform.source, index) as f64,
            );
        }
    }
    families.gauge(
        "tidemill_function_instances",
        "Instances that wait for their next frame.",
        &[],
        broker.transforms.instances() as f64,
    );
    families.counter(
        "tidemill_function_log_lines_dropped_total",
        "Lines of functions that were not written: over their rate, or nobody could take them.",
        &[],
        broker.transforms.log_lines_dropped(),
    );
}
