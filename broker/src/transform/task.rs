//! One task: one partition of a transform's source, from one trouble or change to the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_metadata::{TransformImage, TransformVersion};
use tidemill_records::{LeaderEpoch, PartitionId};
use tidemill_transforms::{Limits, Manifest, Runner, RunnerConfig, Source};
use tokio::sync::watch;

use super::commits::{Commits, Place};
use super::figures::{TaskFigures, TaskState};
use super::life::{Ended, Life};
use super::position;
use super::trouble::Trouble;
use crate::broker::Broker;

/// After trouble the task begins again after so long, and longer each time.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// What the manager tells a task: the transform as it is to be, or to end.
pub(super) type Wanted = Option<Arc<TransformImage>>;

/// A task and what it needs.
pub(super) struct Task {
    pub(super) broker: Arc<Broker>,
    pub(super) partition: PartitionId,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) figures: Arc<TaskFigures>,
}

impl Task {
    /// Runs until the manager says that it ends.
    pub(super) async fn run(mut self) {
        let mut pause = RETRY_MIN;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let Some(transform) = wanted.filter(|_| self.wanted.has_changed().is_ok()) else {
                return;
            };
            let version = transform.current_version().number;
            self.figures
                .version
                .store(u64::from(version), Ordering::Relaxed);
            if transform.is_paused {
                self.figures.set_state(TaskState::Paused);
                self.look_up(&transform).await;
                if self.wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let ended = self.live(&transform).await;
            if self.figures.state() == TaskState::Running {
                // It worked, until now.
                pause = RETRY_MIN;
            }
            match ended {
                Ok(Ended::Changed) => pause = RETRY_MIN,
                Ok(Ended::Stopped) => {
                    // Listening before anybody can see that it has stopped.
                    let figures = self.figures.clone();
                    let resumed = figures.resumed.notified();
                    tokio::pin!(resumed);
                    resumed.as_mut().enable();
                    figures.set_state(TaskState::Stopped);
                    tokio::select! {
                        () = resumed => {}
                        changed = self.wanted.changed() => if changed.is_err() { return },
                    }
                }
                Err(trouble) => {
                    self.tell(&transform, &trouble);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        changed = self.wanted.changed() => if changed.is_err() { return },
                    }
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Finds out how far a task has come that does nothing yet, so that its lag is told.
    async fn look_up(&self, transform: &TransformImage) {
        let source = self
            .broker
            .partitions
            .get(&transform.source, self.partition.0);
        let Some(source) = source else {
            return;
        };
        let place = (source.log.topic_id(), self.partition);
        if let Ok(position) = position::load(&self.broker, transform, place).await {
            self.figures
                .committed
                .store(position.offset.0, Ordering::Relaxed);
        }
    }

    fn tell(&self, transform: &TransformImage, trouble: &Trouble) {
        let state = match trouble.is_waiting() {
            true => TaskState::Waiting,
            false => TaskState::Failing,
        };
        let told = trouble.told();
        let is_new = self.figures.state() == TaskState::Running;
        // Once: it is tried again and again.
        if is_new || self.figures.last_error().as_deref() != Some(&*told) {
            tracing::warn!(
                transform = %transform.name, partition = %self.partition, error = told,
                "a task cannot go on and tries again"
            );
        }
        self.figures.set_state(state);
        self.figures.set_error(&told);
    }

    /// From the committed offset on, until something else is wanted or something fails.
    async fn live(&self, transform: &Arc<TransformImage>) -> Result<Ended, Trouble> {
        let source = self
            .broker
            .partitions
            .get(&transform.source, self.partition.0);
        let source = source.ok_or_else(|| Trouble::NoTopic(transform.source.to_string()))?;
        let epoch = source.check_leader(LeaderEpoch::NONE)?;
        let topic = source.log.topic_id();
        let position = position::load(&self.broker, transform, (topic, self.partition)).await?;
        self.figures
            .committed
            .store(position.offset.0, Ordering::Relaxed);
        let version = transform.current_version().clone();
        let runner = self.runner(transform, &version, epoch).await?;
        // After trouble only when something has worked.
        if !self.figures.is_in_trouble() {
            self.figures.set_state(TaskState::Running);
        }
        let place = Place {
            broker: self.broker.clone(),
            transform: transform.clone(),
            partition: (topic, self.partition),
            figures: self.figures.clone(),
        };
        let mut life = Life {
            task: self,
            transform: transform.clone(),
            version,
            source,
            epoch,
            runner: Some(runner),
            next: position.offset,
            commits: Commits::new(place, position.offset),
        };
        let ended = life.run().await;
        if ended.is_err() {
            // What went through before the trouble need not come again. The trouble is what is told.
            let _ = life.commit().await;
        }
        if let Some(runner) = &life.runner {
            runner.rest();
        }
        ended
    }

    async fn runner(
        &self,
        transform: &TransformImage,
        version: &Arc<TransformVersion>,
        leader_epoch: LeaderEpoch,
    ) -> Result<Runner, Trouble> {
        let transforms = &self.broker.transforms;
        let function = transforms.function(&self.broker, version.function).await?;
        let limits = version.limits;
        let config = RunnerConfig {
            function,
            manifest: Arc::new(manifest(version)),
            limits: limits_of(&limits),
            source: Source {
                topic: transform.source.clone(),
                partition: self.partition,
                leader_epoch,
            },
            share: self.figures.share.clone(),
            log: transforms.logs.sink(
                &self.broker.clock,
                &transform.name,
                version.number,
                self.partition,
                limits.log_lines_per_second,
            ),
        };
        Ok(Runner::new(&transforms.host, config))
    }
}

/// What a version's function is told at `init`.
pub(super) fn manifest(version: &TransformVersion) -> Manifest {
    Manifest {
        config: version.config.clone(),
        sinks: version.sinks.clone(),
    }
}

pub(super) fn limits_of(limits: &tidemill_metadata::TransformLimits) -> Limits {
    Limits {
        memory_bytes: limits.memory_bytes,
        time: Duration::from_millis(u64::from(limits.time_ms)),
        output_bytes: limits.output_bytes,
        output_records: limits.output_records,
    }
}
