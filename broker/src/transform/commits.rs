//! The commits of a task, while its records go on: what was appended is made durable, then the offset behind its records is
//! stored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_metadata::TransformImage;
use tidemill_records::{Offset, PartitionId, TopicId};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use super::figures::{TaskFigures, TaskState};
use super::position::{self, Position};
use super::sink::Uncommitted;
use super::trouble::Trouble;
use crate::broker::Broker;
use crate::topic::CONSUMER_OFFSETS;

/// Offsets are committed so often while records flow.
const EVERY: Duration = Duration::from_millis(100);
/// And after so many bytes were written; with as many again, the task waits.
const BYTES_MAX: usize = 16 << 20;

const STORED_WITHIN: Duration = Duration::from_secs(30);

/// Where a task's commits go.
pub(super) struct Place {
    pub(super) broker: Arc<Broker>,
    pub(super) transform: Arc<TransformImage>,
    pub(super) partition: (TopicId, PartitionId),
    pub(super) figures: Arc<TaskFigures>,
}

/// The commits of one life of a task, of which at most one is under way.
pub(super) struct Commits {
    place: Arc<Place>,
    committed: Offset,
    begun_at: Instant,
    /// What was appended since the last one began.
    pub(super) written: Uncommitted,
    under_way: Option<JoinHandle<Commit>>,
}

/// How a commit ended.
struct Commit {
    /// What is not known to be durable.
    written: Uncommitted,
    offset: Offset,
    outcome: Result<(), Trouble>,
}

impl Commits {
    pub(super) fn new(place: Place, committed: Offset) -> Self {
        Self {
            place: Arc::new(place),
            committed,
            begun_at: Instant::now(),
            written: Uncommitted::default(),
            under_way: None,
        }
    }

    /// Whether everything before `next` is committed.
    pub(super) fn are_done(&self, next: Offset) -> bool {
        next <= self.committed
    }

    /// When the next one is to begin, if records before `next` are not committed and none is under way.
    pub(super) fn due(&self, next: Offset) -> Option<Instant> {
        let is_open = next > self.committed && self.under_way.is_none();
        is_open.then_some(self.begun_at + EVERY)
    }

    /// Begins one when it is due. Waits only when more was written than may be uncommitted.
    pub(super) async fn keep_up(&mut self, position: Position) -> Result<(), Trouble> {
        let is_full = self.written.bytes >= BYTES_MAX;
        let under_way = self.under_way.as_ref();
        if is_full || under_way.is_some_and(JoinHandle::is_finished) {
            self.finish().await?;
        }
        let due = self.due(position.offset);
        if due.is_some_and(|due| is_full || due <= Instant::now()) {
            self.begin(position);
        }
        Ok(())
    }

    /// Commits all that was written. After an error it can be tried again: nothing is forgotten that is not durable.
    pub(super) async fn all(&mut self, position: Position) -> Result<(), Trouble> {
        self.finish().await?;
        self.begin(position);
        self.finish().await
    }

    /// Waits until the one that is under way has ended; for ever where there is none.
    pub(super) async fn ended(&mut self) -> Result<(), Trouble> {
        match &mut self.under_way {
            Some(commit) => {
                let ended = commit.await;
                self.end(ended)
            }
            None => std::future::pending().await,
        }
    }

    async fn finish(&mut self) -> Result<(), Trouble> {
        match self.under_way {
            Some(_) => self.ended().await,
            None => Ok(()),
        }
    }

    fn begin(&mut self, position: Position) {
        if position.offset <= self.committed || self.under_way.is_some() {
            return;
        }
        self.begun_at = Instant::now();
        let mut written = std::mem::take(&mut self.written);
        let place = self.place.clone();
        self.under_way = Some(tokio::spawn(async move {
            let outcome = place.commit(&mut written, position).await;
            Commit {
                written,
                offset: position.offset,
                outcome,
            }
        }));
    }

    fn end(&mut self, ended: Result<Commit, JoinError>) -> Result<(), Trouble> {
        self.under_way = None;
        let commit = match ended.map_err(JoinError::try_into_panic) {
            Ok(commit) => commit,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_cancelled)) => return Err(Trouble::Stopping),
        };
        if let Err(trouble) = commit.outcome {
            self.written.add(commit.written);
            return Err(trouble);
        }
        self.committed = commit.offset;
        let figures = &self.place.figures;
        figures.committed.store(commit.offset.0, Ordering::Relaxed);
        figures.commits.fetch_add(1, Ordering::Relaxed);
        figures.set_state(TaskState::Running);
        Ok(())
    }
}

impl Drop for Commits {
    /// A task that ends by panic leaves no commit behind that could overtake those of its next life.
    fn drop(&mut self) {
        if let Some(commit) = self.under_way.take() {
            commit.abort();
        }
    }
}

impl Place {
    async fn commit(&self, written: &mut Uncommitted, position: Position) -> Result<(), Trouble> {
        written.durable(&self.broker).await?;
        let stored = position::store(&self.broker, &self.transform, self.partition, position);
        let stored = tokio::time::timeout(STORED_WITHIN, stored).await;
        stored.map_err(|_| Trouble::NotDurable(CONSUMER_OFFSETS.to_owned()))?
    }
}
