//! A partition as this broker plays it: who leads, what readers may see, who waits for more.
//!
//! Four ends are kept apart. The *log end* is where the next record goes. The *durable end* is what the
//! write-ahead log has synced. The *high watermark* is what every in-sync replica has made durable, the
//! bound of an ordinary read. The *last stable offset* is the first record of an open transaction, the
//! bound of a `read_committed` read.

use std::sync::Arc;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tidemill_log::{
    AbortedTransaction, AppendError, AppendInfo, AppendOrigin, LogError, LogRead, PartitionLog,
    ReadError,
};
use tidemill_metadata::PartitionImage;
use tidemill_records::{LeaderEpoch, NodeId, Offset, RecordBatch, TopicPartition};
use tidemill_storage::wal::Lsn;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::topic_config::TopicSettings;

/// What a reader may see of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Everything, durable or not: replicas.
    LogEnd,
    /// Below the high watermark.
    Uncommitted,
    /// Below the last stable offset, with the aborted transactions named.
    Committed,
}

impl Isolation {
    /// Kafka's `isolation_level` of a consumer's request.
    pub(crate) fn of_consumer(level: i8) -> Self {
        if level == 1 {
            Self::Committed
        } else {
            Self::Uncommitted
        }
    }
}

/// Why a partition refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartitionError {
    #[error("the topic has been deleted")]
    Retired,
    #[error("this broker does not lead the partition")]
    NotLeader,
    #[error("leader epoch {asked} is older than {current}")]
    FencedLeaderEpoch {
        asked: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("leader epoch {asked} is newer than {current}")]
    UnknownLeaderEpoch {
        asked: LeaderEpoch,
        current: LeaderEpoch,
    },
    #[error("{in_sync} replicas are in sync, {required} are required")]
    NotEnoughReplicas { in_sync: usize, required: usize },
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What one read found.
#[derive(Debug)]
pub(crate) struct PartitionRead {
    pub(crate) records: LogRead,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable_offset: Offset,
    pub(crate) log_start_offset: Offset,
    /// Aborted transactions that overlap the records; only for [`Isolation::Committed`].
    pub(crate) aborted: Option<Vec<AbortedTransaction>>,
}

/// One partition that this broker holds a replica of.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) log: Arc<PartitionLog>,
    pub(crate) traffic: Traffic,
    node: NodeId,
    assignment: RwLock<Assignment>,
    waiters: Waiters,
    /// That its files cannot be read has been logged: once is enough.
    is_damage_told: AtomicBool,
}

/// Who has a partition at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplicationFigures {
    pub(crate) leader: NodeId,
    pub(crate) is_preferred: bool,
    pub(crate) replicas: usize,
    pub(crate) in_sync: usize,
}

/// What went through a partition since the broker started.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) bytes_in: AtomicU64,
    pub(crate) records_in: AtomicU64,
    pub(crate) batches_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

impl Traffic {
    pub(crate) fn count_in(&self, bytes: usize, records: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
        self.records_in.fetch_add(records as u64, Ordering::Relaxed);
        self.batches_in.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_out(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone)]
struct Assignment {
    image: PartitionImage,
    min_insync_replicas: usize,
    /// The topic is gone: nothing may be appended or read any more.
    is_retired: bool,
}

impl Partition {
    /// Takes up a partition as the metadata assigns it.
    pub(crate) fn open(
        name: TopicPartition,
        log: Arc<PartitionLog>,
        node: NodeId,
        image: PartitionImage,
        settings: &TopicSettings,
    ) -> Arc<Self> {
        let min_insync_replicas = settings.min_insync_replicas;
        let assignment = RwLock::new(Assignment {
            image,
            min_insync_replicas,
            is_retired: false,
        });
        let waiters = Waiters::default();
        let partition = Arc::new(Self {
            name,
            log,
            traffic: Traffic::default(),
            node,
            assignment,
            waiters,
            is_damage_told: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&partition);
        partition.log.set_on_durable(Arc::new(move |_| {
            if let Some(partition) = weak.upgrade() {
                partition.advance_high_watermark();
            }
        }));
        partition.advance_high_watermark();
        partition
    }

    /// Follows a change of leader, in-sync replicas or settings; readers that wait are told to look again.
    pub(crate) fn reassign(&self, image: PartitionImage, settings: &TopicSettings) {
        {
            let mut assignment = self.assignment.write();
            assignment.image = image;
            assignment.min_insync_replicas = settings.min_insync_replicas;
        }
        self.configure(settings);
        self.advance_high_watermark();
        self.waiters.wake();
    }

    /// Applies the topic's settings to the log.
    pub(crate) fn configure(&self, settings: &TopicSettings) {
        if let Err(error) = self.log.set_config(settings.log.clone()) {
            tracing::error!(partition = %self.name, %error, "cannot apply the topic's settings");
        }
    }

    /// Ends the partition's service here, since its topic was deleted.
    pub(crate) fn retire(&self) {
        self.assignment.write().is_retired = true;
        self.waiters.wake();
    }

    pub(crate) fn leader(&self) -> (NodeId, LeaderEpoch) {
        let assignment = self.assignment.read();
        (assignment.image.leader, assignment.image.leader_epoch)
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.leader().0 == self.node
    }

    /// Who has the partition, for the metrics.
    pub(crate) fn replication(&self) -> ReplicationFigures {
        let image = &self.assignment.read().image;
        ReplicationFigures {
            leader: image.leader,
            is_preferred: image.replicas.first() == Some(&image.leader),
            replicas: image.replicas.len(),
            in_sync: image.isr.len(),
        }
    }

    /// Checks that this broker leads, and the epoch that a client believes in (-1: none).
    pub(crate) fn check_leader(&self, asked: LeaderEpoch) -> Result<LeaderEpoch, PartitionError> {
        self.check(&self.assignment.read(), asked)
    }

    fn check(
        &self,
        assignment: &Assignment,
        asked: LeaderEpoch,
    ) -> Result<LeaderEpoch, PartitionError> {
        if assignment.is_retired {
            return Err(PartitionError::Retired);
        }
        let current = assignment.image.leader_epoch;
        if asked != LeaderEpoch::NONE && asked < current {
            return Err(PartitionError::FencedLeaderEpoch { asked, current });
        }
        if asked != LeaderEpoch::NONE && asked > current {
            return Err(PartitionError::UnknownLeaderEpoch { asked, current });
        }
        match assignment.image.leader == self.node {
            true => Ok(current),
            false => Err(PartitionError::NotLeader),
        }
    }

    /// Appends as leader, in the epoch that the caller believes in (-1: any). Returns before anything is durable: the caller
    /// waits for `AppendInfo::lsn`. `pinned_bytes`: how much of the request's frame each batch keeps in memory.
    pub(crate) fn append(
        &self,
        batches: Vec<RecordBatch>,
        asked_epoch: LeaderEpoch,
        origin: AppendOrigin,
        requires_all: bool,
        now_ms: i64,
        pinned_bytes: usize,
    ) -> Result<AppendInfo, PartitionError> {
        let assignment = self.assignment.read();
        let epoch = self.check(&assignment, asked_epoch)?;
        let in_sync = assignment.image.isr.len();
        let required = assignment.min_insync_replicas;
        if requires_all && in_sync < required {
            return Err(PartitionError::NotEnoughReplicas { in_sync, required });
        }
        // The lock is held over the append, so that no append lands under an epoch that has ended.
        Ok(self
            .log
            .append_from_frame(batches, epoch, origin, now_ms, pinned_bytes)?)
    }

    /// The bound of reads with this isolation, exclusive.
    pub(crate) fn end_for(&self, isolation: Isolation) -> Offset {
        let high_watermark = self.log.high_watermark();
        match isolation {
            Isolation::LogEnd => self.log.log_end_offset(),
            Isolation::Uncommitted => high_watermark,
            Isolation::Committed => self.log.last_stable_offset(high_watermark),
        }
    }

    /// Reads whole batches from `from`, never beyond what the isolation shows.
    pub(crate) fn read(
        &self,
        from: Offset,
        asked_epoch: LeaderEpoch,
        isolation: Isolation,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<PartitionRead, PartitionError> {
        self.check_leader(asked_epoch)?;
        // The bounds are taken before the read, so that the answer never shows less than it promises.
        let high_watermark = self.log.high_watermark();
        let last_stable_offset = self.log.last_stable_offset(high_watermark);
        let up_to = match isolation {
            Isolation::LogEnd => self.log.log_end_offset(),
            Isolation::Uncommitted => high_watermark,
            Isolation::Committed => last_stable_offset,
        };
        let records = self
            .log
            .read(from, up_to, bytes_max, at_least_one)
            .inspect_err(|error| self.tell_damage(error))?;
        let aborted = (isolation == Isolation::Committed)
            .then(|| self.log.aborted_transactions(from, records.next));
        let log_start_offset = self.log.log_start_offset();
        Ok(PartitionRead {
            records,
            high_watermark,
            last_stable_offset,
            log_start_offset,
            aborted,
        })
    }

    /// What a reader is given of records that the tier had.
    pub(crate) fn read_of_tier(
        &self,
        records: LogRead,
        aborted: Vec<AbortedTransaction>,
        isolation: Isolation,
    ) -> PartitionRead {
        let high_watermark = self.log.high_watermark();
        PartitionRead {
            records,
            high_watermark,
            last_stable_offset: self.log.last_stable_offset(high_watermark),
            log_start_offset: self.log.log_start_offset(),
            aborted: (isolation == Isolation::Committed).then_some(aborted),
        }
    }

    /// A reader is told by a code; who runs the broker has to know which file it is.
    fn tell_damage(&self, error: &ReadError) {
        if matches!(
            error,
            ReadError::OffsetOutOfRange { .. } | ReadError::NotLocal { .. }
        ) || self.is_damage_told.swap(true, Ordering::Relaxed)
        {
            return;
        }
        tracing::error!(
            partition = %self.name,
            %error,
            "cannot read the partition; stop the broker and run `tidemill check`"
        );
    }

    /// Registers somebody who wants to look again when more becomes visible.
    pub(crate) fn wait(self: &Arc<Self>, waiter: &Arc<Notify>) -> WaitGuard {
        self.waiters.0.lock().push(waiter.clone());
        WaitGuard {
            partition: self.clone(),
            waiter: waiter.clone(),
        }
    }

    /// Waits until every in-sync replica has what lies below `end`; false when the deadline comes first.
    pub(crate) async fn wait_committed(self: &Arc<Self>, end: Offset, deadline: Instant) -> bool {
        self.wait_until(|| self.log.high_watermark() >= end, deadline)
            .await
    }

    /// Waits until this broker has what lies below `end` for good; false when the deadline comes first.
    pub(crate) async fn wait_durable(self: &Arc<Self>, end: Offset, deadline: Instant) -> bool {
        self.wait_until(|| self.log.durable_end_offset() >= end, deadline)
            .await
    }

    async fn wait_until(self: &Arc<Self>, is_so: impl Fn() -> bool, deadline: Instant) -> bool {
        if is_so() {
            return true;
        }
        let news = Arc::new(Notify::new());
        loop {
            let _waiting = self.wait(&news);
            if is_so() {
                return true;
            }
            let woken = tokio::time::timeout_at(deadline, news.notified()).await;
            if woken.is_err() {
                return is_so();
            }
        }
    }

    /// Deletes records below `before` (none: below the high watermark); returns the new log start, and the
    /// position at which it is durable.
    pub(crate) fn delete_records(
        &self,
        before: Option<Offset>,
    ) -> Result<(Offset, Lsn), PartitionError> {
        let high_watermark = self.log.high_watermark();
        let before = before.unwrap_or(high_watermark);
        if before > high_watermark || before < Offset(0) {
            let start = self.log.log_start_offset();
            let error = ReadError::OffsetOutOfRange {
                offset: before,
                start,
                end: high_watermark,
            };
            return Err(error.into());
        }
        let lsn = self.log.delete_records_before(before)?;
        self.waiters.wake();
        Ok((self.log.log_start_offset(), lsn))
    }

    /// The high watermark is the least durable end of the in-sync replicas. Followers' ends join here with
    /// replication; a partition whose only in-sync replica is this one follows its own.
    fn advance_high_watermark(&self) {
        let durable = self.log.durable_end_offset();
        let advanced = {
            let assignment = self.assignment.read();
            let is_alone = assignment
                .image
                .isr
                .iter()
                .all(|replica| *replica == self.node);
            assignment.image.leader == self.node && is_alone && durable > self.log.high_watermark()
        };
        if advanced {
            self.log.set_high_watermark(durable);
        }
        self.waiters.wake();
    }
}

/// Fetches that wait for one partition. Each wake empties the list: who wants more registers again.
#[derive(Debug, Default)]
struct Waiters(Mutex<Vec<Arc<Notify>>>);

impl Waiters {
    fn wake(&self) {
        for waiter in std::mem::take(&mut *self.0.lock()) {
            waiter.notify_one();
        }
    }
}

/// Takes a waiter off the list again.
#[derive(Debug)]
pub(crate) struct WaitGuard {
    partition: Arc<Partition>,
    waiter: Arc<Notify>,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        let mut waiting = self.partition.waiters.0.lock();
        if let Some(at) = waiting
            .iter()
            .position(|waiter| Arc::ptr_eq(waiter, &self.waiter))
        {
            waiting.swap_remove(at);
        }
    }
}
