//! The groups of one partition of `__consumer_offsets`.
//!
//! All state is behind one lock that is never held across an await. An event changes the state and may
//! leave records; they go into a queue, in order, and one task per shard appends them ([`Shard::write`]).
//! What depends on a record being durable happens when its append returns: an assignment is handed out, an
//! offset is shown, a commit is answered. So memory follows the log, in the log's order, and nobody ever
//! waits for the disk with the lock in hand.

mod delete;
mod timers;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_protocol::ErrorCode;
use tidemill_records::PartitionId;
use tidemill_storage::clock::Clock;
use tokio::sync::{Notify, oneshot};

use super::classic::{
    ClassicGroup, JoinRefusal, JoinReply, JoinRequest, LeavingMember, SyncReply, SyncRequest, Turn,
    answer,
};
use super::log::{CoordinatorLog, CoordinatorRecord};
use super::memory::GroupMemory;
use super::offsets::{CommittedOffset, GroupOffsets, Place};
use super::records;
use crate::config::GroupConfig;
use write::{Then, Write};

/// Commits and rebalances are refused while more than this waits to be appended.
const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Memory of a group that is empty.
const GROUP_BYTES: usize = 512;

/// Outcome of something that must become durable first.
pub(crate) type Durable<T = ()> = oneshot::Receiver<Result<T, ErrorCode>>;

/// An offset to be committed.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: PartitionId,
    pub(crate) committed: CommittedOffset,
}

/// Who commits: empty member id and generation -1 for a consumer outside of any group protocol.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) generation: i32,
}

/// A group with its offsets.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) classic: ClassicGroup,
    pub(crate) offsets: GroupOffsets,
    /// The log has a record of the group itself.
    stored: bool,
    /// Writes that will come back to the group.
    in_flight: u32,
    /// When the timer task looks at the group next.
    timer: Option<Duration>,
    /// Bytes counted in the shared memory.
    counted_bytes: usize,
}

impl Group {
    pub(super) fn new(classic: ClassicGroup, stored: bool) -> Self {
        Self {
            classic,
            offsets: GroupOffsets::default(),
            stored,
            in_flight: 0,
            timer: None,
            counted_bytes: 0,
        }
    }

    fn size_bytes(&self) -> usize {
        GROUP_BYTES + self.classic.size_bytes() + self.offsets.size_bytes()
    }

    /// Nothing would be lost without it.
    fn is_forgettable(&self) -> bool {
        self.classic.is_abandoned()
            && !self.stored
            && self.in_flight == 0
            && self.offsets.is_empty()
    }
}

/// What does not change while a shard lives.
pub(crate) struct ShardParts {
    pub(crate) log: Arc<dyn CoordinatorLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Arc<GroupConfig>,
    pub(crate) memory: Arc<GroupMemory>,
}

/// One coordinator partition, while this broker leads it.
pub(crate) struct Shard {
    parts: ShardParts,
    state: Mutex<State>,
    wake_writer: Notify,
    wake_timer: Notify,
    /// The queue is empty and nothing is being appended.
    idle: Notify,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<Arc<str>, Group>,
    /// The next look at each group that has a timer.
    timers: BTreeSet<(Duration, Arc<str>)>,
    queue: VecDeque<Write>,
    queued_bytes: usize,
    is_writing: bool,
    next_cleanup: Duration,
    /// No longer the coordinator.
    is_closed: bool,
}

impl Shard {
    /// Takes up the groups that the log had.
    pub(crate) fn new(parts: ShardParts, groups: BTreeMap<Arc<str>, Group>) -> Arc<Self> {
        let shard = Self {
            parts,
            state: Mutex::default(),
            wake_writer: Notify::new(),
            wake_timer: Notify::new(),
            idle: Notify::new(),
        };
        {
            let mut state = shard.state.lock();
            let now = shard.parts.clock.monotonic();
            state.next_cleanup = now + shard.parts.settings.offsets_retention_check_interval;
            let ids: Vec<_> = groups.keys().cloned().collect();
            state.groups = groups;
            for id in ids {
                shard.event(&mut state, &id, |group, turn| group.classic.resume(turn));
            }
        }
        Arc::new(shard)
    }

    /// Runs the shard's two tasks until it is closed.
    pub(crate) fn run(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        runtime.spawn(write::run(self.clone()));
        runtime.spawn(self.clone().run_timers());
    }

    /// A member joins; the answer comes by `reply`.
    pub(crate) fn join(
        &self,
        group_id: &str,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let refuse = |reply, code, member_id| answer(reply, Err(JoinRefusal { code, member_id }));
        let mut state = self.state.lock();
        if let Err(code) = state.admit() {
            return refuse(reply, code, request.member_id);
        }
        let known = state.groups.get(group_id);
        let held = known.map_or(0, |group| {
            group.classic.member_size_bytes(&request.member_id)
        });
        let growth = (GROUP_BYTES + request.size_bytes()).saturating_sub(held);
        if !self.parts.memory.has_room_for(growth) {
            tracing::warn!(group = group_id, "no memory is left for groups");
            return refuse(reply, ErrorCode::GroupMaxSizeReached, "".into());
        }
        if known.is_none() && !request.member_id.is_empty() {
            return refuse(reply, ErrorCode::UnknownMemberId, request.member_id);
        }
        let id = self.group_or_new(&mut state, group_id);
        self.event(&mut state, &id, |group, turn| {
            group.classic.join(turn, request, reply)
        });
    }

    /// A member asks for its assignment; the answer comes by `reply`.
    pub(crate) fn sync(
        &self,
        group_id: &str,
        request: SyncRequest,
        reply: oneshot::Sender<SyncReply>,
    ) {
        let mut state = self.state.lock();
        if let Err(code) = state.admit() {
            return answer(reply, Err(code));
        }
        let growth: usize = request
            .assignments
            .values()
            .map(|assignment| assignment.len())
            .sum();
        if growth > 0 && !self.parts.memory.has_room_for(growth) {
            tracing::warn!(group = group_id, "no memory is left for assignments");
            return answer(reply, Err(ErrorCode::UnknownServerError));
        }
        let Some(id) = state.id(group_id) else {
            return answer(reply, Err(ErrorCode::UnknownMemberId));
        };
        self.event(&mut state, &id, |group, turn| {
            group.classic.sync(turn, request, reply)
        });
    }

    /// A member is alive.
    pub(crate) fn heartbeat(
        &self,
        group_id: &str,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        let mut state = self.state.lock();
        state.check_open()?;
        let id = state.id(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        self.event(&mut state, &id, |group, turn| {
            group
                .classic
                .heartbeat(turn, member_id, group_instance_id, generation)
        })
    }

    /// Members leave; the outcomes are in their order.
    pub(crate) fn leave(
        &self,
        group_id: &str,
        leaving: &[LeavingMember],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        let mut state = self.state.lock();
        state.check_open()?;
        let Some(id) = state.id(group_id) else {
            return Ok(vec![Err(ErrorCode::UnknownMemberId); leaving.len()]);
        };
        Ok(self.event(&mut state, &id, |group, turn| {
            group.classic.leave(turn, leaving)
        }))
    }

    /// Commits offsets: all of them or, by the receiver's word, none. A group that does not exist is
    /// created for a consumer outside of any group protocol.
    pub(crate) fn commit(
        &self,
        group_id: &str,
        committer: &Committer,
        commits: Vec<Commit>,
    ) -> Result<Durable, ErrorCode> {
        let mut state = self.state.lock();
        state.admit()?;
        if !state.groups.contains_key(group_id) && committer.generation >= 0 {
            return Err(ErrorCode::GroupIdNotFound);
        }
        self.check_room_for(&state, group_id, &commits)?;
        let id = self.group_or_new(&mut state, group_id);
        let (reply, durable) = oneshot::channel();
        let write = self.event(&mut state, &id, |group, turn| -> Result<Write, ErrorCode> {
            let Committer {
                member_id,
                group_instance_id,
                generation,
            } = committer;
            let instance = group_instance_id.as_deref();
            group
                .classic
                .validate_commit(member_id, instance, *generation)?;
            group.classic.keep_alive_by_commit(turn, member_id);
            let record = |commit: &Commit| {
                records::offset(&id, &commit.topic, commit.partition, &commit.committed)
            };
            let records = commits.iter().map(record).collect();
            for commit in &commits {
                group.offsets.begin(&commit.topic, commit.partition);
            }
            group.in_flight += 1;
            let then = Then::Commit {
                group: id.clone(),
                commits,
                reply,
            };
            Ok(Write::new(records, then))
        })?;
        self.enqueue(&mut state, write);
        Ok(durable)
    }

    fn check_room_for(
        &self,
        state: &State,
        group_id: &str,
        commits: &[Commit],
    ) -> Result<(), ErrorCode> {
        let nothing = GroupOffsets::default();
        let known = state.groups.get(group_id);
        let offsets = known.map_or(&nothing, |group| &group.offsets);
        let group_bytes = if known.is_none() {
            GROUP_BYTES + group_id.len()
        } else {
            0
        };
        let growth = commits.iter().map(|commit| {
            offsets.growth(&commit.topic, commit.partition, &commit.committed.metadata)
        });
        let growth = group_bytes + growth.sum::<usize>();
        if growth == 0 || self.parts.memory.has_room_for(growth) {
            return Ok(());
        }
        tracing::warn!(group = group_id, "no memory is left for committed offsets");
        Err(ErrorCode::InvalidCommitOffsetSize)
    }

    /// Shows the offsets of a group as they are durable now; none when there is no such group.
    pub(crate) fn with_offsets<R>(
        &self,
        group_id: &str,
        read: impl FnOnce(Option<&GroupOffsets>) -> R,
    ) -> Result<R, ErrorCode> {
        let state = self.state.lock();
        state.check_open()?;
        Ok(read(state.groups.get(group_id).map(|group| &group.offsets)))
    }

    /// Resolves when everything that was begun before is durable; none when it is already.
    pub(crate) fn barrier(&self) -> Result<Option<Durable>, ErrorCode> {
        let mut state = self.state.lock();
        state.check_open()?;
        if state.queue.is_empty() && !state.is_writing {
            return Ok(None);
        }
        let (reply, durable) = oneshot::channel();
        self.enqueue(&mut state, Write::new(Vec::new(), Then::Barrier { reply }));
        Ok(Some(durable))
    }

    /// Shows one group; none when there is no such group.
    pub(crate) fn with_group<R>(
        &self,
        group_id: &str,
        read: impl FnOnce(Option<&Group>) -> R,
    ) -> Result<R, ErrorCode> {
        let state = self.state.lock();
        state.check_open()?;
        Ok(read(state.groups.get(group_id)))
    }

    /// Shows all groups, in the order of their ids.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&str, &Group)) {
        for (id, group) in &self.state.lock().groups {
            visit(id, group);
        }
    }

    /// The group of an id, made if there is none. It is forgotten after the event if nothing came of it.
    fn group_or_new(&self, state: &mut State, group_id: &str) -> Arc<str> {
        if let Some(id) = state.id(group_id) {
            return id;
        }
        let id: Arc<str> = group_id.into();
        let classic = ClassicGroup::new(id.clone(), self.parts.clock.now_ms());
        state.groups.insert(id.clone(), Group::new(classic, false));
        id
    }

    /// Runs an event of a group that exists, and takes care of what it leaves: records, timers, memory.
    fn event<R>(
        &self,
        state: &mut State,
        id: &Arc<str>,
        act: impl FnOnce(&mut Group, &mut Turn<'_>) -> R,
    ) -> R {
        let clock = &self.parts.clock;
        let mut turn = Turn::new(clock.monotonic(), clock.now_ms(), &self.parts.settings);
        let group = state
            .groups
            .get_mut(id)
            .expect("the caller found or made the group");
        let outcome = act(group, &mut turn);
        let stores = turn.stores;
        group.in_flight += u32::try_from(stores.len()).expect("an event leaves a few records");
        for (record, after) in stores {
            let then = Then::Store {
                group: id.clone(),
                after,
            };
            self.enqueue(state, Write::new(vec![record], then));
        }
        self.settle(state, id);
        outcome
    }

    /// Counts the group's memory and sets its timer anew, or forgets the group.
    fn settle(&self, state: &mut State, id: &Arc<str>) {
        let State { groups, timers, .. } = state;
        let Some(group) = groups.get_mut(id) else {
            return;
        };
        if group.is_forgettable() {
            if let Some(at) = group.timer {
                timers.remove(&(at, id.clone()));
            }
            self.parts.memory.resize(group.counted_bytes, 0);
            groups.remove(id);
            return;
        }
        let size = group.size_bytes();
        self.parts.memory.resize(group.counted_bytes, size);
        group.counted_bytes = size;
        // An earlier look than needed is harmless, a later one is not.
        let Some(wake_at) = group.classic.wake_at() else {
            return;
        };
        if group.timer.is_some_and(|at| at <= wake_at) {
            return;
        }
        if let Some(at) = group.timer.replace(wake_at) {
            timers.remove(&(at, id.clone()));
        }
        timers.insert((wake_at, id.clone()));
        let is_first = timers.first().is_some_and(|(_, first)| first == id);
        if is_first {
            self.wake_timer.notify_one();
        }
    }

    fn enqueue(&self, state: &mut State, write: Write) {
        state.queued_bytes += write.size_bytes();
        state.queue.push_back(write);
        self.wake_writer.notify_one();
    }

    /// Ceases to be the coordinator: whoever waits is told so, what is not in the log yet stays out of it.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        state.is_closed = true;
        let clock = &self.parts.clock;
        let turn = Turn::new(clock.monotonic(), clock.now_ms(), &self.parts.settings);
        for group in std::mem::take(&mut state.groups).into_values() {
            let Group {
                mut classic,
                counted_bytes,
                ..
            } = group;
            classic.retire(&turn);
            self.parts.memory.resize(counted_bytes, 0);
        }
        state.timers.clear();
        state.queued_bytes = 0;
        for write in std::mem::take(&mut state.queue) {
            write.then.refuse(ErrorCode::NotCoordinator);
        }
        self.wake_writer.notify_one();
        self.wake_timer.notify_one();
    }

    /// Waits until everything that was begun is durable or has failed.
    pub(crate) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            {
                let state = self.state.lock();
                if state.queue.is_empty() && !state.is_writing {
                    return;
                }
            }
            idle.await;
        }
    }
}

impl State {
    fn id(&self, group_id: &str) -> Option<Arc<str>> {
        self.groups
            .get_key_value(group_id)
            .map(|(id, _)| id.clone())
    }

    fn check_open(&self) -> Result<(), ErrorCode> {
        if self.is_closed {
            Err(ErrorCode::NotCoordinator)
        } else {
            Ok(())
        }
    }

    /// Whether something may begin that writes.
    fn admit(&self) -> Result<(), ErrorCode> {
        self.check_open()?;
        if self.queued_bytes > QUEUE_BYTES_MAX {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(())
    }
}
