//! Transforms: functions as they are deployed on topics.

use std::sync::Arc;

use tidemill_records::{Offset, TopicId};
use uuid::Uuid;

use super::FunctionId;

/// A deployment: what is read from the source goes through a function into the sinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: a transform that is deleted and deployed again gets another.
    pub id: Uuid,
    /// The topic that it reads; never another one.
    pub source: Arc<str>,
    /// What was deployed, ascending by number; never empty. Old versions go when there are too many.
    pub versions: Vec<Arc<TransformVersion>>,
    /// Number of the version that runs.
    pub current: u32,
    /// Whether it rests.
    pub is_paused: bool,
    /// Where its tasks begin.
    pub origin: Arc<Origin>,
    /// When its first version was deployed, in milliseconds since 1970.
    pub created_at_ms: i64,
}

impl TransformImage {
    /// The version that runs.
    pub fn current_version(&self) -> &Arc<TransformVersion> {
        self.version(self.current)
            .expect("the current version is never dropped, and decoding proves that it is there")
    }

    /// A version by number, if it is kept.
    pub fn version(&self, number: u32) -> Option<&Arc<TransformVersion>> {
        let at = self
            .versions
            .binary_search_by_key(&number, |version| version.number);
        at.ok().map(|at| &self.versions[at])
    }
}

/// All that can differ between two deployments of one transform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformVersion {
    /// Counted up from 1 within the transform; no number is used twice.
    pub number: u32,
    /// The artifact that it runs.
    pub function: FunctionId,
    /// The topics that it writes to, in the order in which the function numbers them.
    pub sinks: Vec<Arc<str>>,
    /// The topic for records that fail; there exactly with [`OnError::DeadLetters`].
    pub dead_letters: Option<Arc<str>>,
    /// What the function is told when it starts.
    pub config: Vec<(Arc<str>, Arc<str>)>,
    /// What becomes of a record that fails.
    pub on_error: OnError,
    /// Tries after the first one, before a record has failed.
    pub retries: u32,
    /// Milliseconds between two tries.
    pub backoff_ms: u32,
    /// What it may use.
    pub limits: TransformLimits,
    /// When it was deployed, in milliseconds since 1970.
    pub deployed_at_ms: i64,
}

impl TransformVersion {
    /// The topics that it writes to: the sinks, then the dead letters.
    pub fn outputs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sinks.iter().chain(&self.dead_letters)
    }
}

/// What becomes of a record that a function fails on, after the last try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It goes to the topic of dead letters.
    DeadLetters,
    /// It is passed over.
    Skip,
    /// The task stops in front of it.
    Stop,
}

/// What a transform's function may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformLimits {
    /// Bytes of memory of one instance.
    pub memory_bytes: u64,
    /// Milliseconds for one batch.
    pub time_ms: u32,
    /// Bytes that come out of one batch.
    pub output_bytes: u64,
    /// Records that come out of one batch.
    pub output_records: u32,
    /// Lines that it logs in a second.
    pub log_lines_per_second: u32,
}

/// Where tasks begin that have not committed since: one offset for each partition of the source as it
/// was then, later partitions begin at 0. The generation grows with each rewind; a task whose committed
/// offset names an earlier generation begins again from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// 1, and one more with each rewind.
    pub generation: u64,
    /// The source when it was taken; of another topic of that name the offsets say nothing.
    pub topic: TopicId,
    /// The offset of each partition, in order from 0.
    pub offsets: Vec<Offset>,
}
