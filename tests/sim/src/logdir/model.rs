//! What must be true of a log directory: every change in the order in which it was made, so that what a
//! recovery finds can be told to be a prefix of it that holds everything acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use tidemill_log::LogConfig;
use tidemill_records::{BatchRules, Offset, RecordBatch, TopicId, TopicPartition};

use super::DIR;

/// A change of a log, after which it is durable that all changes before it are.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Create,
    Append(RecordBatch),
    /// DeleteRecords or retention.
    Start(Offset),
    /// Truncation to an offset.
    Cut(Offset),
    /// Everything dropped, the log begins anew.
    Restart(Offset),
    Delete,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Its place among the changes of all logs.
    pub(super) at: u64,
    pub(super) change: Change,
}

/// One incarnation of a partition.
#[derive(Debug, Clone)]
pub(super) struct LogModel {
    pub(super) partition: TopicPartition,
    pub(super) topic_id: TopicId,
    pub(super) config: Arc<LogConfig>,
    pub(super) steps: Vec<Step>,
}

/// A log as it is after some of its changes.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) exists: bool,
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// In order; those wholly below the start are still there.
    pub(super) batches: Vec<RecordBatch>,
}

impl View {
    const NOTHING: View = View {
        exists: false,
        start: Offset::ZERO,
        end: Offset::ZERO,
        batches: Vec::new(),
    };

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create => self.exists = true,
            Change::Append(batch) => {
                self.end = batch.next_offset();
                self.batches.push(batch.clone());
            }
            Change::Start(offset) => self.start = self.start.max(*offset),
            Change::Cut(end) => {
                // A cut inside of a batch takes all of it.
                self.batches.retain(|batch| batch.next_offset() <= *end);
                self.end = self
                    .batches
                    .last()
                    .map_or(self.start, |batch| batch.next_offset())
                    .max(self.start);
            }
            Change::Restart(start) => {
                self.batches.clear();
                (self.start, self.end) = (*start, *start);
            }
            Change::Delete => *self = View::NOTHING,
        }
    }

    /// Those that a reader gets from the log start on.
    pub(super) fn readable(&self) -> impl Iterator<Item = &RecordBatch> {
        self.batches
            .iter()
            .filter(|batch| batch.next_offset() > self.start)
    }

    fn readable_bytes(&self) -> Vec<u8> {
        self.readable()
            .flat_map(|batch| batch.to_bytes().to_vec())
            .collect()
    }
}

/// What a reader finds of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) bytes: Bytes,
}

impl LogModel {
    /// Whether changes go through the write-ahead log, and so are acknowledged at all.
    pub(super) fn is_logged(&self) -> bool {
        !self.config.is_unlogged()
    }

    /// The log after all changes.
    pub(super) fn now(&self) -> View {
        self.after(self.steps.len())
    }

    fn after(&self, count: usize) -> View {
        let mut view = View::NOTHING;
        self.steps[..count]
            .iter()
            .for_each(|step| view.apply(&step.change));
        view
    }

    /// The smallest and the largest number of changes after which a reader would find this.
    fn matching(&self, found: Option<&Found>) -> Option<(usize, usize)> {
        let mut view = View::NOTHING;
        let mut matching = None;
        for count in 0..=self.steps.len() {
            if count > 0 {
                view.apply(&self.steps[count - 1].change);
            }
            let same = match found {
                None => !view.exists,
                Some(found) => {
                    view.exists
                        && (view.start, view.end) == (found.start, found.end)
                        && view.readable_bytes() == found.bytes
                }
            };
            if same {
                let least = matching.map_or(count, |(least, _)| least);
                matching = Some((least, count));
            }
        }
        matching
    }
}

/// All logs of a directory.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) logs: Vec<LogModel>,
    changes: u64,
    /// Changes up to this place are acknowledged.
    pub(super) acked: u64,
}

impl Model {
    /// Notes a change of the log `of`; gives its place.
    pub(super) fn note(&mut self, of: usize, change: Change) -> u64 {
        self.changes += 1;
        let partition = &self.logs[of].partition;
        tracing::debug!(%partition, at = self.changes, change = %name(&change), "changed");
        self.logs[of].steps.push(Step {
            at: self.changes,
            change,
        });
        self.changes
    }

    /// The directories of logs that skip the write-ahead log.
    pub(super) fn unlogged(&self) -> Vec<String> {
        let unlogged = self.logs.iter().filter(|log| !log.is_logged());
        unlogged
            .map(|log| format!("{DIR}/topics/{}", log.partition))
            .collect()
    }

    /// Which logs are not deleted.
    pub(super) fn living(&self) -> Vec<usize> {
        let lives = |at: &usize| {
            !matches!(
                self.logs[*at].steps.last(),
                Some(Step {
                    change: Change::Delete,
                    ..
                })
            )
        };
        (0..self.logs.len()).filter(lives).collect()
    }

    /// Everything so far is acknowledged.
    pub(super) fn ack_all(&mut self) {
        self.acked = self.changes;
    }

    /// Holds what a recovery found against the changes; from then on exactly that is what happened.
    /// `found` has an entry for every incarnation that is there.
    pub(super) fn recovered(&mut self, found: &BTreeMap<TopicId, Found>) -> Result<()> {
        let mut last_kept = 0;
        let mut first_lost = u64::MAX;
        for log in &mut self.logs {
            let there = found.get(&log.topic_id);
            let Some((least, most)) = log.matching(there) else {
                bail!(mismatch(log, there))
            };
            if log.is_logged() {
                last_kept = last_kept.max(least.checked_sub(1).map_or(0, |at| log.steps[at].at));
                first_lost = first_lost.min(log.steps.get(most).map_or(u64::MAX, |step| step.at));
                ensure!(
                    first_lost > self.acked,
                    "{}: change {first_lost} ({:?}) is lost, and all up to {} were acknowledged",
                    log.partition,
                    log.steps.get(most).map(|step| name(&step.change)),
                    self.acked
                );
            }
            log.steps.truncate(most);
        }
        ensure!(
            last_kept < first_lost,
            "change {last_kept} is there, and change {first_lost}, which came before it, is lost"
        );
        self.logs.retain(|log| {
            log.steps
                .last()
                .is_some_and(|step| !matches!(step.change, Change::Delete))
        });
        Ok(())
    }
}

fn name(change: &Change) -> String {
    match change {
        Change::Append(batch) => format!("append {}..{}", batch.base_offset(), batch.next_offset()),
        other => format!("{other:?}"),
    }
}

/// What a person wants to know when nothing matches.
fn mismatch(log: &LogModel, found: Option<&Found>) -> String {
    let now = log.now();
    let Some(found) = found else {
        return format!("{}: is not there", log.partition);
    };
    let batches = RecordBatch::parse_all(&found.bytes, BatchRules::Stored);
    let known = |batch: &RecordBatch| now.batches.contains(batch);
    let strange = batches.map(|batches| {
        batches
            .iter()
            .filter(|batch| !known(batch))
            .map(|batch| batch.base_offset())
            .collect::<Vec<_>>()
    });
    format!(
        "{}: found {}..{} with {} bytes; after all changes it was {}..{} with {}; batches that nobody wrote like that: {strange:?}; last changes: {:?}",
        log.partition,
        found.start,
        found.end,
        found.bytes.len(),
        now.start,
        now.end,
        now.readable_bytes().len(),
        log.steps
            .iter()
            .rev()
            .take(6)
            .map(|step| (step.at, name(&step.change)))
            .collect::<Vec<_>>(),
    )
}
