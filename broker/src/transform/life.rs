//! A task's life: it reads, gives the records to the function, and writes what comes of them.
//!
//! The order is what makes it at-least-once: outputs are appended, then they are durable, then the offset behind their records is
//! committed. A version is swapped only after a commit, so that every record between two commits went through one version; where that
//! commit fails, the records since the one before go through the next version too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidemill_metadata::{OnError, TransformImage, TransformVersion};
use tidemill_records::{Compression, LeaderEpoch, Offset, PartitionId, Record, TimestampType};
use tidemill_storage::spawn;
use tidemill_transforms::{Fault, Output, Runner, Step};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::commits::Commits;
use super::dead_letters::{self, Context};
use super::figures::TaskState;
use super::position::Position;
use super::sink::{self, Batches, Outgoing, Sink};
use super::source::{self, Opened, Unreadable};
use super::task::Task;
use super::trouble::Trouble;
use crate::partition::Partition;

/// An instance goes when no record came for so long.
const IDLE_INSTANCE: Duration = Duration::from_secs(10);
/// Backoff between two attempts at one record.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// A task between two changes of what is wanted of it.
pub(super) struct Life<'a> {
    pub(super) task: &'a Task,
    pub(super) transform: Arc<TransformImage>,
    pub(super) version: Arc<TransformVersion>,
    pub(super) source: Arc<Partition>,
    pub(super) epoch: LeaderEpoch,
    /// Away while it runs.
    pub(super) runner: Option<Runner>,
    /// The next record that was not given to the function.
    pub(super) next: Offset,
    pub(super) commits: Commits,
}

/// Why a task's life ended without trouble.
pub(super) enum Ended {
    /// Something else is wanted of it.
    Changed,
    /// Its policy says that it waits for `resume`.
    Stopped,
}

/// What became of a record that failed.
enum GivenUp {
    DeadLetter,
    Skipped,
    /// The task waits before it.
    Stops,
}

impl Life<'_> {
    /// Goes on until something else is wanted, or something fails.
    pub(super) async fn run(&mut self) -> Result<Ended, Trouble> {
        loop {
            if self.is_over()? {
                self.commit().await?;
                return Ok(Ended::Changed);
            }
            let end = self.source.log.log_end_offset();
            if end < self.next {
                return Err(Trouble::SourceEnds {
                    end,
                    next: self.next,
                });
            }
            if source::end(&self.source) <= self.next {
                self.wait().await?;
                continue;
            }
            let broker = &self.task.broker;
            let read = source::read(broker, &self.source, self.next, self.epoch).await;
            let (mut batches, passed_over) = read?;
            if let Some(start) = passed_over {
                self.tell_missed(start);
            }
            let read_to = batches.next;
            let mut room = None;
            while !batches.is_empty() {
                let has_room = room.is_some();
                let opened = if batches.are_cheap() {
                    batches.open(has_room)
                } else {
                    let opening = async move {
                        let opened = batches.open(has_room);
                        (batches, opened)
                    };
                    // What is large would keep others from the functions' threads.
                    let opening = match has_room {
                        true => Some(on_thread(opening).await?),
                        false => self.on_worker(opening).await?,
                    };
                    let Some((back, opened)) = opening else {
                        self.commit().await?;
                        return Ok(Ended::Changed);
                    };
                    batches = back;
                    opened
                };
                let ended = match opened {
                    Some(opened) => self.take(opened).await?,
                    None => {
                        self.commit().await?;
                        room = self.room_for_large().await;
                        room.is_none().then_some(Ended::Changed)
                    }
                };
                if let Some(ended) = ended {
                    self.commit().await?;
                    return Ok(ended);
                }
            }
            // Control batches at the end, and what retention took.
            self.next = self.next.max(read_to);
        }
    }

    fn tell_missed(&self, start: Offset) {
        let missed = self.task.figures.count_missed(self.next, start);
        if missed > 0 {
            tracing::warn!(
                transform = %self.transform.name, partition = %self.source.name, missed,
                "retention took records before the transform read them"
            );
        }
    }

    /// Waits until the task may hold the records of a large batch; none when something else is wanted of it before.
    async fn room_for_large(&self) -> Option<OwnedSemaphorePermit> {
        let room = self.task.broker.transforms.large_batches.clone();
        let mut wanted = self.task.wanted.clone();
        tokio::select! {
            room = room.acquire_owned() => room.ok(),
            _ = wanted.changed() => None,
        }
    }

    /// Whether something else is wanted of the task, or may be.
    fn is_over(&self) -> Result<bool, Trouble> {
        if self.task.wanted.has_changed().unwrap_or(true) {
            return Ok(true);
        }
        self.source.check_leader(self.epoch)?;
        Ok(false)
    }

    /// Waits for records, for a change, and meanwhile commits what is not committed.
    async fn wait(&mut self) -> Result<(), Trouble> {
        let news = Arc::new(Notify::new());
        let mut wanted = self.task.wanted.clone();
        let began = Instant::now();
        let mut is_resting = false;
        loop {
            let waiting = self.source.wait(&news);
            if source::end(&self.source) > self.next || self.is_over()? {
                return Ok(());
            }
            if self.commits.are_done(self.next) {
                self.task.figures.set_state(TaskState::Running);
            }
            let due = self.commits.due(self.next);
            let until = match (due, is_resting) {
                (Some(_), _) => due,
                (None, false) => Some(began + IDLE_INSTANCE),
                (None, true) => None,
            };
            let timer = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let is_late = tokio::select! {
                () = news.notified() => false,
                _ = wanted.changed() => false,
                ended = self.commits.ended() => {
                    ended?;
                    false
                }
                () = timer => true,
            };
            drop(waiting);
            if is_late && due.is_some() {
                self.commits.keep_up(self.position()).await?;
            } else if is_late {
                if let Some(runner) = &self.runner {
                    runner.rest();
                }
                is_resting = true;
            }
        }
    }

    /// Takes records, and the batch behind them that cannot be opened, through the function and into the sinks.
    async fn take(&mut self, opened: Opened) -> Result<Option<Ended>, Trouble> {
        let Opened {
            records,
            next,
            unreadable,
            compression,
            stamped,
        } = opened;
        let records = Arc::new(records);
        let mut at = 0;
        let mut attempts = 0;
        while at < records.len() {
            let Some(step) = self.step(&records, at, stamped).await? else {
                return Ok(Some(Ended::Changed));
            };
            if let Some(fault) = &step.fault
                && attempts < self.version.retries
            {
                attempts += 1;
                self.retry(fault, attempts).await;
            } else {
                attempts = 0;
                let taken = &records[at..at + step.taken];
                at += step.taken;
                if let Some(ended) = self.write(taken, step, compression).await? {
                    return Ok(Some(ended));
                }
            }
            self.commits.keep_up(self.position()).await?;
            if self.is_over()? {
                return Ok(Some(Ended::Changed));
            }
        }
        if let Some(unreadable) = unreadable
            && let Some(ended) = self.give_up_batch(unreadable).await?
        {
            return Ok(Some(ended));
        }
        self.next = next;
        self.commits.keep_up(self.position()).await?;
        Ok(self.is_over()?.then_some(Ended::Changed))
    }

    /// One call of the function; none when something else is wanted of the task before it ends.
    async fn step(
        &mut self,
        records: &Arc<Vec<Record>>,
        at: usize,
        stamped: TimestampType,
    ) -> Result<Option<Step>, Trouble> {
        let mut runner = self.runner.take().ok_or(Trouble::Stopping)?;
        let records = records.clone();
        let call = async move {
            let step = runner.run(&records[at..], stamped).await;
            (runner, step)
        };
        let Some((runner, step)) = self.on_worker(call).await? else {
            return Ok(None);
        };
        self.runner = Some(runner);
        step.map(Some).map_err(Trouble::Start)
    }

    /// Runs something on the functions' threads. A call may take a minute: one that nobody wants any more is left.
    async fn on_worker<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<Option<T>, Trouble> {
        let workers = self.task.broker.transforms.host.workers();
        let mut wanted = self.task.wanted.clone();
        tokio::select! {
            biased;
            done = workers.run(&self.task.figures.share, call) => Ok(Some(done?)),
            _ = wanted.changed() => Ok(None),
        }
    }

    async fn retry(&mut self, fault: &Fault, attempt: u32) {
        self.task.figures.retries.fetch_add(1, Ordering::Relaxed);
        if let Some(runner) = &mut self.runner {
            runner.suspect_first();
        }
        let backoff = Duration::from_millis(u64::from(self.version.backoff_ms));
        let backoff = backoff.saturating_mul(1 << (attempt - 1).min(16));
        tracing::debug!(transform = %self.transform.name, %fault, attempt, "a record is tried again");
        let mut wanted = self.task.wanted.clone();
        tokio::select! {
            () = tokio::time::sleep(backoff.min(BACKOFF_MAX)) => {}
            _ = wanted.changed() => {}
        }
    }

    /// Appends what became of `records`; those that failed go where the policy says. A task that is to stop has written what is
    /// before the record that failed, and nothing behind it.
    async fn write(
        &mut self,
        records: &[Record],
        mut step: Step,
        compression: Compression,
    ) -> Result<Option<Ended>, Trouble> {
        let (broker, figures) = (&self.task.broker, &self.task.figures);
        let source = self.task.partition;
        let sinks = self
            .version
            .sinks
            .iter()
            .map(|topic| Sink::find(broker, topic));
        let sinks = sinks.collect::<Result<Vec<_>, _>>()?;
        sink::refuse(
            &sinks,
            records,
            source,
            compression,
            broker.clock.now_ms(),
            &mut step.outputs,
        );
        let stops_at = match (self.version.on_error, step.outputs.failed.first()) {
            (OnError::Stop, Some(failed)) => Some(failed.record),
            _ => None,
        };
        if let Some(stops_at) = stops_at {
            let is_before = |output: &Output| output.record < stops_at;
            step.outputs.outputs.retain(is_before);
            step.outputs.failed.truncate(1);
        }
        let mut batches = Batches::default();
        batches.add_outputs(&sinks, records, source, compression, &step.outputs);
        let mut ended = None;
        let mut given_up = Vec::new();
        let failed = step.outputs.failed.iter().map(|failed| {
            let kind = failed.code.map_or("sink", |_| "failed");
            (
                &records[failed.record as usize],
                kind,
                failed.code,
                failed.message.to_string(),
            )
        });
        let fault = step.fault.iter().map(|fault| {
            let code = match fault {
                Fault::Refused { code, .. } => Some(*code),
                _ => None,
            };
            (&records[0], fault.kind(), code, fault.to_string())
        });
        for (record, kind, code, error) in failed.chain(fault) {
            let context = self.context(record.offset, record.timestamp, kind, code, &error);
            let headers = dead_letters::headers(Some(record), &context);
            let letter = Outgoing {
                headers: &headers,
                ..Outgoing::of(record)
            };
            let done = self.give_up(&mut batches, letter, &context, compression)?;
            if let GivenUp::Stops = done {
                ended = Some(Ended::Stopped);
            }
            given_up.push((kind, done));
        }
        self.commits
            .written
            .append(broker, batches.seal(), figures)
            .await?;
        given_up
            .iter()
            .for_each(|(kind, done)| self.count(kind, done));
        let done = match (stops_at, &ended) {
            (Some(at), _) => &records[..at as usize],
            (None, Some(_)) => &[],
            (None, None) => records,
        };
        self.next = done.last().map_or(self.next, |last| last.offset + 1);
        figures
            .records_out
            .fetch_add(step.outputs.outputs.len() as u64, Ordering::Relaxed);
        let bytes: usize = done.iter().map(|record| Outgoing::of(record).bytes()).sum();
        figures
            .records_in
            .fetch_add(done.len() as u64, Ordering::Relaxed);
        figures.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(ended)
    }

    fn context<'a>(
        &'a self,
        offset: Offset,
        timestamp: i64,
        kind: &'a str,
        code: Option<u32>,
        error: &'a str,
    ) -> Context<'a> {
        Context {
            transform: &self.transform,
            version: &self.version,
            partition: self.task.partition,
            offset,
            timestamp,
            kind,
            code,
            error,
            failed_at_ms: self.task.broker.clock.now_ms(),
        }
    }

    /// Does with a record that failed what the policy says. A dead letter that its topic would refuse is refused here, before
    /// anything is written.
    fn give_up(
        &self,
        batches: &mut Batches,
        letter: Outgoing<'_>,
        context: &Context<'_>,
        compression: Compression,
    ) -> Result<GivenUp, Trouble> {
        self.task
            .figures
            .set_error(&format!("offset {}: {}", context.offset, context.error));
        let topic = match (self.version.on_error, &self.version.dead_letters) {
            (OnError::Stop, _) => return Ok(GivenUp::Stops),
            (OnError::Skip, _) | (OnError::DeadLetters, None) => return Ok(GivenUp::Skipped),
            (OnError::DeadLetters, Some(topic)) => topic,
        };
        let sink = Sink::find(&self.task.broker, topic)?;
        let now_ms = context.failed_at_ms;
        let mut letter = letter;
        if sink.is_too_large(&letter, compression) {
            // The record is still in the source; the context says where.
            letter.value = None;
        }
        if !sink.takes_timestamp(letter.timestamp, now_ms) {
            // The context has the record's.
            letter.timestamp = now_ms;
        }
        if let Some(refusal) = sink.refusal(&letter, compression, now_ms) {
            return Err(Trouble::DeadLetter {
                offset: context.offset,
                refusal,
            });
        }
        let partition = PartitionId(context.partition.0 % sink.partitions());
        batches.add(&sink, partition, compression, letter);
        Ok(GivenUp::DeadLetter)
    }

    /// Counts a record that was given up, when that is written.
    fn count(&self, kind: &str, given_up: &GivenUp) {
        let figures = &self.task.figures;
        figures.fault(kind);
        match given_up {
            GivenUp::DeadLetter => figures.dead_letters.fetch_add(1, Ordering::Relaxed),
            GivenUp::Skipped => figures.skipped.fetch_add(1, Ordering::Relaxed),
            GivenUp::Stops => 0,
        };
    }

    /// A batch that cannot be opened becomes one dead letter, with the batch as its value where it fits.
    async fn give_up_batch(&mut self, unreadable: Unreadable) -> Result<Option<Ended>, Trouble> {
        const KIND: &str = "batch";
        let Unreadable { from, batch, error } = unreadable;
        let (broker, figures) = (&self.task.broker, &self.task.figures);
        let error = format!(
            "the records up to offset {} cannot be read: {error}",
            batch.last_offset()
        );
        let context = self.context(from, batch.max_timestamp(), KIND, None, &error);
        let headers = dead_letters::headers(None, &context);
        let bytes = batch.to_bytes();
        let letter = Outgoing {
            timestamp: context.failed_at_ms,
            key: None,
            value: Some(&bytes),
            headers: &headers,
        };
        let mut batches = Batches::default();
        let given_up = self.give_up(&mut batches, letter, &context, Compression::None)?;
        self.commits
            .written
            .append(broker, batches.seal(), figures)
            .await?;
        self.count(KIND, &given_up);
        Ok(match given_up {
            GivenUp::Stops => Some(Ended::Stopped),
            GivenUp::DeadLetter | GivenUp::Skipped => None,
        })
    }

    fn position(&self) -> Position {
        Position {
            offset: self.next,
            leader_epoch: self.epoch,
        }
    }

    /// Makes what was written durable, then the offset.
    pub(super) async fn commit(&mut self) -> Result<(), Trouble> {
        self.commits.all(self.position()).await
    }
}

/// Runs something on a thread of its own.
async fn on_thread<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Trouble> {
    let (send, done) = oneshot::channel();
    spawn::spawn_thread("function-open", move || async move {
        // Nobody waits any more when the task is gone.
        let _ = send.send(work.await);
    });
    done.await.map_err(|_| Trouble::Stopping)
}
