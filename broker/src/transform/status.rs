//! What HTTP tells of functions and transforms.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};
use tidemill_metadata::{
    Carrier, FunctionId, FunctionImage, MetadataImage, MetadataLog, OnError, TransformImage,
    TransformLimits, TransformVersion,
};

use tidemill_records::{Offset, PartitionId};

use super::figures::{TaskFigures, TaskState};
use super::source;
use crate::broker::Broker;

/// An artifact.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FunctionStatus {
    pub(crate) id: String,
    pub(crate) sha256: String,
    pub(crate) label: String,
    pub(crate) size_bytes: u64,
    pub(crate) carrier: String,
    pub(crate) uploaded_at_ms: i64,
    pub(crate) used_by: Vec<String>,
}

/// A transform with the sums over its tasks here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TransformStatus {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) version: u32,
    pub(crate) function: String,
    pub(crate) source: String,
    pub(crate) sinks: Vec<String>,
    pub(crate) dlq: Option<String>,
    pub(crate) lag: i64,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) dead_letters: u64,
    pub(crate) skipped: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) last_error: Option<String>,
    /// Of this broker's clock; none for what holds now.
    pub(crate) last_error_at_ms: Option<i64>,
}

/// All about one transform.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TransformDetails {
    #[serde(flatten)]
    pub(crate) status: TransformStatus,
    pub(crate) created_at_ms: i64,
    pub(crate) on_error: String,
    pub(crate) retries: u32,
    pub(crate) backoff_ms: u32,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) limits: BTreeMap<String, u64>,
    pub(crate) versions: Vec<VersionStatus>,
    pub(crate) tasks: Vec<TaskStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VersionStatus {
    pub(crate) version: u32,
    pub(crate) function: String,
    pub(crate) sinks: Vec<String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) on_error: String,
    pub(crate) dlq: Option<String>,
    pub(crate) retries: u32,
    pub(crate) backoff_ms: u32,
    pub(crate) limits: BTreeMap<String, u64>,
    pub(crate) deployed_at_ms: i64,
    pub(crate) is_current: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TaskStatus {
    pub(crate) partition: i32,
    pub(crate) state: String,
    pub(crate) version: u64,
    pub(crate) committed: i64,
    pub(crate) end: i64,
    pub(crate) lag: i64,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    pub(crate) dead_letters: u64,
    pub(crate) skipped: u64,
    pub(crate) cpu_seconds: f64,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_at_ms: Option<i64>,
}

/// Where a transform goes on after a rewind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rewound {
    pub(crate) offsets: Vec<PartitionOffset>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartitionOffset {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Rewound {
    /// By partition, from 0.
    pub(crate) fn of(offsets: &[Offset]) -> Self {
        let offsets = (0..)
            .zip(offsets)
            .map(|(partition, offset)| PartitionOffset {
                partition,
                offset: offset.0,
            });
        Self {
            offsets: offsets.collect(),
        }
    }
}

impl FunctionStatus {
    pub(crate) fn of(function: &FunctionImage, image: &MetadataImage) -> Self {
        let uses = |transform: &&std::sync::Arc<TransformImage>| {
            let mut versions = transform.versions.iter();
            versions.any(|version| version.function == function.id)
        };
        let used_by = image.transforms().filter(uses);
        Self {
            id: function.id.to_string(),
            sha256: function.id.to_string(),
            label: function.label.to_string(),
            size_bytes: function.size_bytes,
            carrier: match function.carrier {
                Carrier::CoreModule => "module".to_owned(),
                Carrier::Component => "component".to_owned(),
            },
            uploaded_at_ms: function.uploaded_at_ms,
            used_by: used_by
                .map(|transform| transform.name.to_string())
                .collect(),
        }
    }

    /// One artifact.
    pub(crate) fn find(broker: &Broker, id: FunctionId) -> Option<Self> {
        let image = broker.metadata.image();
        image
            .function(id)
            .map(|function| Self::of(function, &image))
    }

    /// All artifacts.
    pub(crate) fn all(broker: &Broker) -> Vec<Self> {
        let image = broker.metadata.image();
        image
            .functions()
            .map(|function| Self::of(function, &image))
            .collect()
    }
}

impl TaskStatus {
    fn of(broker: &Broker, source: &str, partition: i32, figures: &TaskFigures) -> Self {
        let committed = figures.committed.load(Ordering::Relaxed);
        let held = broker.partitions.get(source, partition);
        let end = held.map_or(-1, |held| source::end(&held).0);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (last_error, last_error_at_ms) = figures.last_error_at().unzip();
        Self {
            partition,
            state: figures.state().as_str().to_owned(),
            version: count(&figures.version),
            committed,
            end,
            lag: figures.lag(broker, source, PartitionId(partition)),
            records_in: count(&figures.records_in),
            records_out: count(&figures.records_out),
            dead_letters: count(&figures.dead_letters),
            skipped: count(&figures.skipped),
            cpu_seconds: figures.share.used().as_secs_f64(),
            last_error: last_error.map(|error| error.to_string()),
            last_error_at_ms,
        }
    }
}

impl TransformStatus {
    fn of(broker: &Broker, transform: &TransformImage, tasks: &[TaskStatus]) -> Self {
        let version = transform.current_version();
        let figures = broker.transforms.tasks().of(&transform.name);
        let worst = figures.iter().map(|(_, figures)| figures.state()).max();
        let state = match (transform.is_paused, worst) {
            (true, _) => TaskState::Paused,
            (false, None) => TaskState::Waiting,
            (false, Some(worst)) => worst,
        };
        let newest = tasks.iter().max_by_key(|task| task.last_error_at_ms);
        let told = newest.and_then(|task| {
            let error = task.last_error.as_deref()?;
            Some(match tasks {
                [_] => error.to_owned(),
                _ => format!("partition {}: {error}", task.partition),
            })
        });
        let missing = (state == TaskState::Waiting)
            .then(|| missing(&broker.metadata.image(), transform))
            .flatten();
        let sum = |of: fn(&TaskStatus) -> u64| tasks.iter().map(of).sum();
        Self {
            name: transform.name.to_string(),
            state: state.as_str().to_owned(),
            version: version.number,
            function: version.function.to_string(),
            source: transform.source.to_string(),
            sinks: names(version),
            dlq: version.dead_letters.as_ref().map(ToString::to_string),
            lag: tasks.iter().map(|task| task.lag).sum(),
            records_in: sum(|task| task.records_in),
            records_out: sum(|task| task.records_out),
            dead_letters: sum(|task| task.dead_letters),
            skipped: sum(|task| task.skipped),
            cpu_seconds: tasks.iter().fold(0.0, |sum, task| sum + task.cpu_seconds),
            last_error_at_ms: match missing {
                Some(_) => None,
                None => newest.and_then(|task| task.last_error_at_ms),
            },
            last_error: missing.or(told),
        }
    }

    /// All transforms.
    pub(crate) fn all(broker: &Broker) -> Vec<Self> {
        let image = broker.metadata.image();
        let status = |transform: &std::sync::Arc<TransformImage>| {
            Self::of(broker, transform, &tasks(broker, transform))
        };
        image.transforms().map(status).collect()
    }
}

/// What a transform waits for: the topic, and what it is to the transform.
fn missing(image: &MetadataImage, transform: &TransformImage) -> Option<String> {
    let version = transform.current_version();
    let is_missing = |topic: &&std::sync::Arc<str>| image.topic(topic).is_none();
    let source = std::iter::once(&transform.source).map(|topic| (topic, "its source"));
    let sinks = version.sinks.iter().map(|topic| (topic, "a sink"));
    let dead_letters = version.dead_letters.iter();
    let dead_letters = dead_letters.map(|topic| (topic, "its dead letter topic"));
    let mut topics = source.chain(sinks).chain(dead_letters);
    let (topic, what) = topics.find(|(topic, _)| is_missing(topic))?;
    Some(format!("there is no topic {topic}, {what}: create it"))
}

fn tasks(broker: &Broker, transform: &TransformImage) -> Vec<TaskStatus> {
    let tasks = broker.transforms.tasks().of(&transform.name);
    tasks
        .iter()
        .map(|(partition, figures)| TaskStatus::of(broker, &transform.source, partition.0, figures))
        .collect()
}

impl TransformDetails {
    /// One transform; none of that name.
    pub(crate) fn find(broker: &Broker, name: &str) -> Option<Self> {
        let image = broker.metadata.image();
        let transform = image.transform(name)?;
        let version = transform.current_version();
        let tasks = tasks(broker, transform);
        let versions = transform.versions.iter().map(|version| VersionStatus {
            version: version.number,
            function: version.function.to_string(),
            sinks: names(version),
            config: config(version),
            on_error: policy(version.on_error).to_owned(),
            dlq: version.dead_letters.as_ref().map(ToString::to_string),
            retries: version.retries,
            backoff_ms: version.backoff_ms,
            limits: limits(&version.limits),
            deployed_at_ms: version.deployed_at_ms,
            is_current: version.number == transform.current,
        });
        Some(Self {
            status: TransformStatus::of(broker, transform, &tasks),
            created_at_ms: transform.created_at_ms,
            on_error: policy(version.on_error).to_owned(),
            retries: version.retries,
            backoff_ms: version.backoff_ms,
            config: config(version),
            limits: limits(&version.limits),
            versions: versions.collect(),
            tasks,
        })
    }
}

fn limits(limits: &TransformLimits) -> BTreeMap<String, u64> {
    let limits = [
        ("memory_bytes", limits.memory_bytes),
        ("time_ms", limits.time_ms.into()),
        ("output_bytes", limits.output_bytes),
        ("output_records", limits.output_records.into()),
        ("log_lines_per_second", limits.log_lines_per_second.into()),
    ];
    limits.map(|(name, limit)| (name.to_owned(), limit)).into()
}

fn names(version: &TransformVersion) -> Vec<String> {
    version.sinks.iter().map(ToString::to_string).collect()
}

fn config(version: &TransformVersion) -> BTreeMap<String, String> {
    let entries = version.config.iter();
    entries
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn policy(on_error: OnError) -> &'static str {
    match on_error {
        OnError::DeadLetters => "dlq",
        OnError::Skip => "skip",
        OnError::Stop => "stop",
    }
}
