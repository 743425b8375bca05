//! What tasks have done, for metrics and status.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidemill_records::{Offset, PartitionId};
use tidemill_storage::clock::Clock;
use tidemill_transforms::Share;
use tokio::sync::Notify;

use super::source;
use crate::broker::Broker;

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum TaskState {
    /// It takes what comes.
    Running = 0,
    /// Somebody paused it.
    Paused = 1,
    /// It lacks a topic.
    Waiting = 2,
    /// It tries again by itself.
    Failing = 3,
    /// It waits for `resume`, as its policy says.
    Stopped = 4,
}

impl TaskState {
    pub(crate) const ALL: [Self; 5] = [
        Self::Running,
        Self::Paused,
        Self::Waiting,
        Self::Failing,
        Self::Stopped,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Waiting => "waiting",
            Self::Failing => "failing",
            Self::Stopped => "stopped",
        }
    }
}

/// Kinds of faults, as metrics and dead letters name them.
pub(crate) const FAULTS: [&str; 9] = [
    "trap", "time", "memory", "output", "frame", "refused", "failed", "sink", "batch",
];

/// What one task has done since the broker started.
pub(crate) struct TaskFigures {
    clock: Arc<dyn Clock>,
    state: AtomicU8,
    /// A task that stopped is to go on.
    pub(super) resumed: Notify,
    pub(crate) share: Arc<Share>,
    pub(crate) version: AtomicU64,
    pub(crate) records_in: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) skipped: AtomicU64,
    /// Records that retention took before they were read.
    pub(crate) missed: AtomicU64,
    /// Retention's gaps are counted up to here.
    missed_to: AtomicI64,
    pub(crate) retries: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// The committed offset; -1 before the first.
    pub(crate) committed: AtomicI64,
    faults: [AtomicU64; FAULTS.len()],
    /// With the time of it, in ms since 1970.
    last_error: Mutex<Option<(Arc<str>, i64)>>,
}

impl TaskFigures {
    fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: AtomicU8::default(),
            resumed: Notify::default(),
            share: Arc::default(),
            version: AtomicU64::default(),
            records_in: AtomicU64::default(),
            bytes_in: AtomicU64::default(),
            records_out: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            dead_letters: AtomicU64::default(),
            skipped: AtomicU64::default(),
            missed: AtomicU64::default(),
            missed_to: AtomicI64::default(),
            retries: AtomicU64::default(),
            commits: AtomicU64::default(),
            committed: AtomicI64::new(-1),
            faults: Default::default(),
            last_error: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> TaskState {
        TaskState::ALL[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// Whether it lacks something, or tries again.
    pub(crate) fn is_in_trouble(&self) -> bool {
        matches!(self.state(), TaskState::Waiting | TaskState::Failing)
    }

    pub(crate) fn set_state(&self, state: TaskState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// How many records of its source partition are not committed yet; 0 as long as nothing is known.
    pub(crate) fn lag(&self, broker: &Broker, source: &str, partition: PartitionId) -> i64 {
        let held = broker.partitions.get(source, partition.0);
        let end = held.map_or(0, |held| source::end(&held).0);
        match self.committed.load(Ordering::Relaxed) {
            ..0 => 0,
            committed => (end - committed).max(0),
        }
    }

    pub(crate) fn fault(&self, kind: &str) {
        if let Some(at) = FAULTS.iter().position(|known| *known == kind) {
            self.faults[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count =
            |(at, kind): (usize, &&'static str)| (*kind, self.faults[at].load(Ordering::Relaxed));
        FAULTS.iter().enumerate().map(count)
    }

    pub(crate) fn last_error(&self) -> Option<Arc<str>> {
        self.last_error_at().map(|(error, _)| error)
    }

    /// With the time of it, in ms since 1970.
    pub(crate) fn last_error_at(&self) -> Option<(Arc<str>, i64)> {
        self.last_error.lock().clone()
    }

    /// Counts records that retention took before they were read, each once however often it is tried; how many they are.
    pub(crate) fn count_missed(&self, from: Offset, start: Offset) -> u64 {
        let counted = self.missed_to.fetch_max(start.0, Ordering::Relaxed);
        let missed = start.0.saturating_sub(from.0.max(counted)).max(0) as u64;
        self.missed.fetch_add(missed, Ordering::Relaxed);
        missed
    }

    pub(crate) fn set_error(&self, error: &str) {
        *self.last_error.lock() = Some((error.into(), self.clock.now_ms()));
    }
}

/// A task's place: transform and source partition.
pub(crate) type TaskKey = (Arc<str>, PartitionId);

/// All tasks of this broker.
pub(crate) struct Tasks {
    clock: Arc<dyn Clock>,
    tasks: Mutex<BTreeMap<TaskKey, Arc<TaskFigures>>>,
    ended: Notify,
}

impl Tasks {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            tasks: Mutex::default(),
            ended: Notify::default(),
        }
    }

    /// The figures of a task that begins; a task that begins again goes on counting.
    pub(super) fn begin(&self, key: TaskKey) -> Arc<TaskFigures> {
        let fresh = || Arc::new(TaskFigures::new(self.clock.clone()));
        self.tasks.lock().entry(key).or_insert_with(fresh).clone()
    }

    pub(super) fn end(&self, key: &TaskKey) {
        self.tasks.lock().remove(key);
        self.ended.notify_waiters();
    }

    /// All tasks, by transform and partition.
    pub(crate) fn all(&self) -> Vec<(TaskKey, Arc<TaskFigures>)> {
        let tasks = self.tasks.lock();
        tasks
            .iter()
            .map(|(key, figures)| (key.clone(), figures.clone()))
            .collect()
    }

    /// The tasks of one transform, by partition.
    pub(crate) fn of(&self, transform: &str) -> Vec<(PartitionId, Arc<TaskFigures>)> {
        let all = self.all().into_iter();
        all.filter(|((name, _), _)| **name == *transform)
            .map(|((_, partition), figures)| (partition, figures))
            .collect()
    }

    /// Waits until a transform has no task any more.
    pub(super) async fn wait_ended(&self, transform: &str) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.of(transform).is_empty() {
                return;
            }
            ended.await;
        }
    }
}
