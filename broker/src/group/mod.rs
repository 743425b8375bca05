//! The coordinator of classic consumer groups.
//!
//! A group belongs to the partition of `__consumer_offsets` that its id hashes to, and whoever leads that
//! partition coordinates it: the [`shard::Shard`] of a partition is loaded when this broker becomes leader
//! and closed when it resigns. Requests that come in between are answered with COORDINATOR_LOAD_IN_PROGRESS
//! and NOT_COORDINATOR.
//!
//! [`classic`] holds the rules of a group, [`offsets`] what it has committed, [`records`] the format in the
//! log; [`shard`] binds them to the log and the clock. Nothing here knows the wire format of requests.

pub(crate) mod classic;
mod expiry;
mod load;
mod log;
mod memory;
pub(crate) mod offsets;
mod partition_log;
mod records;
pub(crate) mod shard;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tidemill_metadata::MetadataLog;
use tidemill_protocol::ErrorCode;
use tidemill_records::{LeaderEpoch, PartitionId, TopicPartition};
use tidemill_storage::clock::Clock;
use tidemill_storage::spawn;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::broker::Broker;
use crate::config::GroupConfig;
use crate::partition::Partition;
use classic::{
    GroupState, JoinRefusal, JoinReply, JoinRequest, LeavingMember, SyncReply, SyncRequest,
};
use log::CoordinatorLog;
use memory::GroupMemory;
use offsets::GroupOffsets;
use partition_log::PartitionCoordinatorLog;
use shard::{Commit, Committer, Durable, Group, Shard, ShardParts};

/// How long a client's first question may wait for the coordinator to begin its service.
const SERVED_WAIT_MAX: Duration = Duration::from_secs(1);

/// Answers for the groups whose partitions this broker leads.
pub(crate) struct GroupCoordinator {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<GroupConfig>,
    clock: Arc<dyn Clock>,
    memory: Arc<GroupMemory>,
    /// Where the shards' tasks run; leadership is announced by a thread that has no runtime.
    runtime: Handle,
    /// Partitions of `__consumer_offsets`; 0 as long as it is not known.
    partition_count: AtomicI32,
    slots: RwLock<BTreeMap<PartitionId, Slot>>,
    /// A partition has been read.
    served: Notify,
}

/// A partition that this broker leads.
struct Slot {
    epoch: LeaderEpoch,
    stage: Stage,
}

enum Stage {
    Loading,
    Serving(Arc<Shard>),
    /// Its log cannot be read.
    Failed,
}

/// Figures for the metrics.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct GroupFigures {
    pub(crate) groups_by_state: BTreeMap<GroupState, usize>,
    pub(crate) members: usize,
    pub(crate) committed_offsets: usize,
    pub(crate) memory_bytes: usize,
}

impl GroupCoordinator {
    /// A coordinator that leads nothing yet. Must be called within a tokio runtime, which its tasks use.
    pub(crate) fn new(settings: GroupConfig, clock: Arc<dyn Clock>) -> Self {
        let memory = Arc::new(GroupMemory::new(settings.memory_bytes_max));
        let inner = Inner {
            settings: Arc::new(settings),
            clock,
            memory,
            runtime: Handle::current(),
            partition_count: AtomicI32::new(0),
            slots: RwLock::default(),
            served: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// This broker leads a partition of `__consumer_offsets`.
    pub(crate) fn on_leads(&self, broker: &Broker, partition: &Arc<Partition>) {
        let name = &partition.name;
        let image = broker.metadata.image();
        let Some(topic) = image.topic(&name.topic) else {
            return;
        };
        let count = topic.partition_count();
        let (logs, clock) = (broker.logs.clone(), self.inner.clock.clone());
        let log = PartitionCoordinatorLog::new(partition.clone(), logs, clock);
        self.lead(name.partition, partition.leader().1, count, Arc::new(log));
    }

    /// This broker does not lead the partition any more.
    pub(crate) fn on_resigned(&self, partition: &TopicPartition) {
        self.resign(partition.partition);
    }

    fn lead(
        &self,
        partition: PartitionId,
        epoch: LeaderEpoch,
        partition_count: i32,
        log: Arc<dyn CoordinatorLog>,
    ) {
        let inner = &self.inner;
        inner
            .partition_count
            .store(partition_count, Ordering::Relaxed);
        let before = inner.slots.write().insert(
            partition,
            Slot {
                epoch,
                stage: Stage::Loading,
            },
        );
        if let Some(Slot {
            stage: Stage::Serving(shard),
            ..
        }) = before
        {
            shard.close();
        }
        if log.is_empty() {
            return inner.serve(partition, epoch, log, Ok(BTreeMap::new()));
        }
        let inner = inner.clone();
        // Reading files would hold requests up.
        spawn::spawn_thread("groups", move || async move {
            let groups = load::load(&*log, inner.clock.now_ms());
            inner.serve(partition, epoch, log, groups);
        });
    }

    fn resign(&self, partition: PartitionId) {
        let before = self.inner.slots.write().remove(&partition);
        if let Some(Slot {
            stage: Stage::Serving(shard),
            ..
        }) = before
        {
            shard.close();
        }
    }

    /// Ends the service: what was begun becomes durable, whoever waits for a group is sent away. Called
    /// before connections are drained, since a JoinGroup may otherwise wait for minutes.
    pub(crate) async fn shutdown(&self) {
        let slots = std::mem::take(&mut *self.inner.slots.write());
        for slot in slots.into_values() {
            if let Stage::Serving(shard) = slot.stage {
                shard.drained().await;
                shard.close();
                // A write that began between the two has been taken by the writer or refused.
                shard.drained().await;
            }
        }
    }

    /// Waits until a partition that this broker is about to lead is served, but not for long.
    pub(crate) async fn wait_until_served(&self, partition: PartitionId) {
        let is_served = || {
            let slots = self.inner.slots.read();
            slots
                .get(&partition)
                .is_some_and(|slot| !matches!(slot.stage, Stage::Loading))
        };
        let served = async {
            loop {
                let news = self.inner.served.notified();
                if is_served() {
                    return;
                }
                news.await;
            }
        };
        // Whoever asks next finds out by itself.
        let _ = tokio::time::timeout(SERVED_WAIT_MAX, served).await;
    }

    /// The topic is gone; offsets of a later topic of that name are others.
    pub(crate) fn on_topic_deleted(&self, topic: &str) {
        for shard in self.shards() {
            shard.topic_deleted(topic);
        }
    }

    /// A member joins, and waits until the group is complete.
    pub(crate) async fn join(&self, group_id: &str, request: JoinRequest) -> JoinReply {
        let refusal = |code| JoinRefusal {
            code,
            member_id: request.member_id.clone(),
        };
        if group_id.is_empty() {
            return Err(refusal(ErrorCode::InvalidGroupId));
        }
        let GroupConfig {
            session_timeout_min: min,
            session_timeout_max: max,
            ..
        } = *self.inner.settings;
        if !(min..=max).contains(&request.terms.session_timeout) {
            return Err(refusal(ErrorCode::InvalidSessionTimeout));
        }
        let shard = self.shard_of(group_id).map_err(refusal)?;
        let refusal = refusal(ErrorCode::NotCoordinator);
        let (reply, answer) = oneshot::channel();
        shard.join(group_id, request, reply);
        answer.await.unwrap_or(Err(refusal))
    }

    /// A member asks for its assignment, and waits for the leader's.
    pub(crate) async fn sync(&self, group_id: &str, request: SyncRequest) -> SyncReply {
        let shard = self.shard_of_named(group_id)?;
        let (reply, answer) = oneshot::channel();
        shard.sync(group_id, request, reply);
        answer.await.unwrap_or(Err(ErrorCode::NotCoordinator))
    }

    /// A member is alive. While groups are being read nobody can tell otherwise.
    pub(crate) fn heartbeat(
        &self,
        group_id: &str,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        match self.shard_of_named(group_id) {
            Ok(shard) => shard.heartbeat(group_id, member_id, group_instance_id, generation),
            Err(ErrorCode::CoordinatorLoadInProgress) => Ok(()),
            Err(code) => Err(code),
        }
    }

    /// Members leave; the outcomes are in their order.
    pub(crate) fn leave(
        &self,
        group_id: &str,
        leaving: &[LeavingMember],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        self.shard_of_named(group_id)?.leave(group_id, leaving)
    }

    /// Commits offsets, all or none, and waits until they are durable. (The empty group id is allowed
    /// here and where offsets are read, for the sake of very old clients.)
    pub(crate) async fn commit(
        &self,
        group_id: &str,
        committer: &Committer,
        commits: Vec<Commit>,
    ) -> Result<(), ErrorCode> {
        wait(
            self.shard_of(group_id)?
                .commit(group_id, committer, commits)?,
        )
        .await
    }

    /// Shows the durable offsets of a group to `read`; none when there is no such group. A reader that
    /// needs stable offsets waits for commits that are on their way.
    pub(crate) async fn with_offsets<R>(
        &self,
        group_id: &str,
        require_stable: bool,
        read: impl FnOnce(Option<&GroupOffsets>) -> R,
    ) -> Result<R, ErrorCode> {
        let shard = self.shard_of(group_id)?;
        if require_stable && let Some(durable) = shard.barrier()? {
            wait(durable).await?;
        }
        shard.with_offsets(group_id, read)
    }

    /// Deletes offsets of a group: those that `choose` picks.
    pub(crate) async fn delete_offsets(
        &self,
        group_id: &str,
        choose: impl FnOnce(&classic::ClassicGroup) -> Vec<offsets::Place>,
    ) -> Result<(), ErrorCode> {
        wait(
            self.shard_of_named(group_id)?
                .delete_offsets(group_id, choose)?,
        )
        .await
    }

    /// Deletes an empty group.
    pub(crate) async fn delete_group(&self, group_id: &str) -> Result<(), ErrorCode> {
        wait(self.shard_of(group_id)?.delete_group(group_id)?).await
    }

    /// Shows a group to `read`; none when there is no such group.
    pub(crate) fn with_group<R>(
        &self,
        group_id: &str,
        read: impl FnOnce(Option<&Group>) -> R,
    ) -> Result<R, ErrorCode> {
        self.shard_of(group_id)?.with_group(group_id, read)
    }

    /// Shows every group that is coordinated here.
    pub(crate) fn visit(&self, mut visit: impl FnMut(&str, &Group)) -> Result<(), ErrorCode> {
        let is_loading = |slot: &Slot| matches!(slot.stage, Stage::Loading);
        if self.inner.slots.read().values().any(is_loading) {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        for shard in self.shards() {
            shard.visit(&mut visit);
        }
        Ok(())
    }

    /// Shows every committed offset: group, topic, partition, offset. For lag.
    pub(crate) fn visit_committed(&self, mut visit: impl FnMut(&str, &str, PartitionId, i64)) {
        for shard in self.shards() {
            shard.visit(&mut |group_id, group| {
                for (topic, committed) in group.offsets.committed() {
                    for (partition, committed) in committed {
                        visit(group_id, topic, partition, committed.offset);
                    }
                }
            });
        }
    }

    /// Counts groups, members and offsets.
    pub(crate) fn figures(&self) -> GroupFigures {
        let memory_bytes = self.inner.memory.used_bytes();
        let mut figures = GroupFigures {
            memory_bytes,
            ..GroupFigures::default()
        };
        for shard in self.shards() {
            shard.visit(&mut |_, group| {
                *figures
                    .groups_by_state
                    .entry(group.classic.state())
                    .or_default() += 1;
                figures.members += group.classic.member_count();
                figures.committed_offsets += group.offsets.committed_count();
            });
        }
        figures
    }

    fn shards(&self) -> Vec<Arc<Shard>> {
        let slots = self.inner.slots.read();
        let serving = |slot: &Slot| match &slot.stage {
            Stage::Serving(shard) => Some(shard.clone()),
            Stage::Loading | Stage::Failed => None,
        };
        slots.values().filter_map(serving).collect()
    }

    fn shard_of_named(&self, group_id: &str) -> Result<Arc<Shard>, ErrorCode> {
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        self.shard_of(group_id)
    }

    fn shard_of(&self, group_id: &str) -> Result<Arc<Shard>, ErrorCode> {
        let partition_count = self.inner.partition_count.load(Ordering::Relaxed);
        if partition_count == 0 {
            return Err(ErrorCode::NotCoordinator);
        }
        let partition = partition_of(group_id, partition_count);
        match self
            .inner
            .slots
            .read()
            .get(&partition)
            .map(|slot| &slot.stage)
        {
            Some(Stage::Serving(shard)) => Ok(shard.clone()),
            Some(Stage::Loading) => Err(ErrorCode::CoordinatorLoadInProgress),
            Some(Stage::Failed) | None => Err(ErrorCode::NotCoordinator),
        }
    }
}

impl Inner {
    /// Begins to serve a partition that has been read, unless this broker has resigned meanwhile.
    fn serve(
        &self,
        partition: PartitionId,
        epoch: LeaderEpoch,
        log: Arc<dyn CoordinatorLog>,
        groups: Result<BTreeMap<Arc<str>, Group>, ErrorCode>,
    ) {
        let mut slots = self.slots.write();
        let Some(slot) = slots.get_mut(&partition).filter(|slot| slot.epoch == epoch) else {
            return;
        };
        slot.stage = match groups {
            Ok(groups) => {
                let parts = ShardParts {
                    log,
                    clock: self.clock.clone(),
                    settings: self.settings.clone(),
                    memory: self.memory.clone(),
                };
                let shard = Shard::new(parts, groups);
                shard.run(&self.runtime);
                Stage::Serving(shard)
            }
            Err(code) => {
                tracing::error!(%partition, %code, "cannot read groups; they are not served");
                Stage::Failed
            }
        };
        drop(slots);
        self.served.notify_waiters();
    }
}

async fn wait(durable: Durable) -> Result<(), ErrorCode> {
    durable.await.unwrap_or(Err(ErrorCode::NotCoordinator))
}

/// The start of a text that strangers may make longer than anybody wants to read or keep.
pub(crate) fn short(text: &str) -> &str {
    const BYTES_MAX: usize = 255;
    &text[..text.floor_char_boundary(BYTES_MAX)]
}

/// The partition of a group among so many. Kafka's choice: `String.hashCode()`, made positive as Kafka makes
/// it (the smallest number becomes 0).
pub(crate) fn partition_of(group_id: &str, partition_count: i32) -> PartitionId {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = group_id.encode_utf16().fold(0, add);
    PartitionId(hash.checked_abs().unwrap_or(0) % partition_count)
}
