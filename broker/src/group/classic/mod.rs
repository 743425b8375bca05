//! One classic group: a state machine over events, with time as an argument and no I/O.
//!
//! ```text
//!            first member              everybody is in,           the leader's assignment
//!   Empty ──────────────▶ Preparing ──── or too late ──▶ Completing ──── is stored ──▶ Stable
//!     ▲                    Rebalance ◀───────────────── Rebalance                        │
//!     └── nobody is left ──┘    ▲ ▲ a member joins, leaves, or falls silent              │
//!                               └─┴──────────────────────────────────────────────────────┘
//! ```
//!
//! A generation begins when the join phase ends. Its record goes into `__consumer_offsets` when the leader
//! has assigned the work, and only once that record is durable does anybody get an assignment. Every event
//! method takes a [`Turn`]: the time, the settings, and a list where it leaves records to be stored; what
//! is to happen afterwards comes back through [`ClassicGroup::stored`].
//!
//! The rules are Kafka's (KIP-62, KIP-134, KIP-345, KIP-394, KIP-559, KIP-814), as Kafka 4.2 has them.

mod join;
mod member;
mod persist;
mod rebalance;
mod session;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::ErrorCode;

pub(crate) use join::JoinRequest;
pub(crate) use member::{JoinRefusal, JoinReply, Joined, Protocol, SyncReply, Terms, answer};
pub(crate) use persist::{AfterStore, from_ms};
pub(crate) use session::LeavingMember;
pub(crate) use sync::SyncRequest;

use crate::config::GroupConfig;
use crate::group::log::CoordinatorRecord;
use member::Member;
use rebalance::JoinTimer;

/// The protocol type of ordinary consumers, whose metadata says which topics they subscribe to.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum GroupState {
    /// No members; kept for its offsets.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Handed to another coordinator or deleted.
    Dead,
}

impl GroupState {
    /// Kafka's name of the state.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// What one event sees, and what it leaves to be stored.
pub(crate) struct Turn<'a> {
    /// Monotonic time: all deadlines are of this clock.
    pub(crate) now: Duration,
    /// Wall clock, for what is stored.
    pub(crate) now_ms: i64,
    pub(crate) settings: &'a GroupConfig,
    /// In the order in which they must be appended.
    pub(crate) stores: Vec<(CoordinatorRecord, AfterStore)>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(now: Duration, now_ms: i64, settings: &'a GroupConfig) -> Self {
        Self {
            now,
            now_ms,
            settings,
            stores: Vec::new(),
        }
    }
}

/// A classic group. Members are kept in the order of their ids, so that one history has one outcome.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: Arc<str>,
    state: GroupState,
    previous_state: GroupState,
    /// When the state began, by the wall clock; unknown for groups of very old logs.
    state_since_ms: Option<i64>,
    /// None for a group that only stores offsets.
    protocol_type: Option<Arc<str>>,
    protocol_name: Option<Arc<str>>,
    generation: i32,
    /// A key of `members` whenever that is not empty.
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Group instance id to member id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids given out with MEMBER_ID_REQUIRED that have not come back, with the end of their session.
    pending: BTreeMap<Arc<str>, Duration>,
    /// Members that have been told of this generation and have not synced.
    pending_sync: BTreeSet<Arc<str>>,
    /// How many members know a protocol.
    support: BTreeMap<Arc<str>, usize>,
    /// Topics of all members; none when they are not known.
    subscribed_topics: Option<BTreeSet<Arc<str>>>,
    /// Somebody came during the initial delay, which is a reason to wait on.
    new_member_added: bool,
    join_timer: Option<JoinTimer>,
    sync_deadline: Option<Duration>,
    /// The assignment of this generation is on its way into the log.
    storing: Option<i32>,
    /// No timer fires before this.
    wake_at: Option<Duration>,
    size_bytes: usize,
}

impl ClassicGroup {
    /// A group without members.
    pub(crate) fn new(id: Arc<str>, now_ms: i64) -> Self {
        Self {
            size_bytes: id.len(),
            id,
            state: GroupState::Empty,
            previous_state: GroupState::Dead,
            state_since_ms: Some(now_ms),
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            support: BTreeMap::new(),
            subscribed_topics: None,
            new_member_added: false,
            join_timer: None,
            sync_deadline: None,
            storing: None,
            wake_at: None,
        }
    }

    pub(crate) fn state(&self) -> GroupState {
        self.state
    }

    pub(crate) fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    pub(crate) fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    pub(crate) fn protocol_name(&self) -> Option<&Arc<str>> {
        self.protocol_name.as_ref()
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Nobody is in it or about to come.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty()
    }

    /// Bytes of memory that the group holds, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// No timer of the group fires before this moment.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.wake_at
    }

    /// The bytes that a member holds now; nothing when there is no such member.
    pub(crate) fn member_size_bytes(&self, member_id: &str) -> usize {
        self.members
            .get(member_id)
            .map_or(0, |member| member.size_bytes(member_id))
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(crate) fn knows_subscribed_topics(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// Whether offsets of this topic are in use. A consumer group whose subscriptions cannot be read is
    /// taken to subscribe to everything.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// The members, for describing the group: id, and what is known of it.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&Arc<str>, MemberView<'_>)> {
        let protocol = (self.state == GroupState::Stable).then_some(self.protocol_name.as_deref());
        let protocol = protocol.flatten();
        self.members.iter().map(move |(id, member)| {
            let metadata = protocol.and_then(|name| member.terms.protocol(name));
            let view = MemberView {
                group_instance_id: member.group_instance_id.as_ref(),
                client_id: &member.client_id,
                client_host: &member.client_host,
                metadata: metadata.map_or_else(Bytes::new, |protocol| protocol.metadata.clone()),
                assignment: member.assignment.clone(),
            };
            (id, view)
        })
    }

    /// Checks that a request comes from the member that it names.
    fn validate_member(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = group_instance_id {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *member_id => {
                    tracing::info!(
                        group = %self.id, instance, member = member_id, fenced_by = %current,
                        "fenced an older instance of a static member"
                    );
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UnknownMemberId)
        }
    }

    fn transition_to(&mut self, state: GroupState, now_ms: i64) {
        self.previous_state = self.state;
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Adds a member that satisfies [`ClassicGroup::supports`].
    fn add(&mut self, member_id: Arc<str>, protocol_type: &Arc<str>, member: Member) {
        self.drop_pending(&member_id);
        if let Some(instance) = &member.group_instance_id {
            let earlier = self
                .static_members
                .insert(instance.clone(), member_id.clone());
            assert!(
                earlier.is_none(),
                "a static member is replaced, never added twice"
            );
        }
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        self.count_support(&member.terms);
        self.size_bytes += member.size_bytes(&member_id);
        self.members.insert(member_id, member);
    }

    /// Takes a member out, whatever it waits for; or forgets an id that was given out.
    fn remove(&mut self, member_id: &str) {
        self.drop_pending(member_id);
        self.pending_sync.remove(member_id);
        let Some(mut member) = self.members.remove(member_id) else {
            return;
        };
        self.size_bytes -= member.size_bytes(member_id);
        self.uncount_support(&member.terms);
        if let Some(instance) = &member.group_instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        // A member that may still be there is told so that it joins anew.
        let refusal = JoinRefusal {
            code: ErrorCode::UnknownMemberId,
            member_id: "".into(),
        };
        member.answer_join(Err(refusal));
        member.answer_sync(Err(ErrorCode::UnknownMemberId));
    }

    fn add_pending(&mut self, member_id: Arc<str>, deadline: Duration) {
        self.size_bytes += pending_size_bytes(&member_id);
        self.arm(deadline);
        self.pending.insert(member_id, deadline);
    }

    fn drop_pending(&mut self, member_id: &str) {
        if self.pending.remove(member_id).is_some() {
            self.size_bytes -= pending_size_bytes(member_id);
        }
    }

    /// Changes a member and keeps the counts that depend on it.
    fn set_terms(&mut self, member_id: &str, terms: Terms) -> Terms {
        let member = self
            .members
            .get_mut(member_id)
            .expect("the caller found the member");
        self.size_bytes -= member.terms.size_bytes();
        self.size_bytes += terms.size_bytes();
        let before = std::mem::replace(&mut member.terms, terms.clone());
        self.uncount_support(&before);
        self.count_support(&terms);
        before
    }

    fn set_assignment(&mut self, member_id: &str, assignment: Bytes) {
        let member = self
            .members
            .get_mut(member_id)
            .expect("the caller found the member");
        self.size_bytes -= member.assignment.len();
        self.size_bytes += assignment.len();
        member.assignment = assignment;
    }

    fn count_support(&mut self, terms: &Terms) {
        for protocol in &terms.protocols {
            *self.support.entry(protocol.name.clone()).or_default() += 1;
        }
    }

    fn uncount_support(&mut self, terms: &Terms) {
        for protocol in &terms.protocols {
            let count = self
                .support
                .get_mut(&*protocol.name)
                .expect("every protocol was counted");
            *count -= 1;
            if *count == 0 {
                self.support.remove(&*protocol.name);
            }
        }
    }

    fn is_known_to_all(&self, protocol: &str) -> bool {
        self.support.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Whether a member with these protocols can be in the group.
    fn supports(&self, protocol_type: &str, terms: &Terms) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !terms.protocols.is_empty();
        }
        let is_same_type = self.protocol_type.as_deref() == Some(protocol_type);
        is_same_type
            && terms
                .protocols
                .iter()
                .any(|protocol| self.is_known_to_all(&protocol.name))
    }

    /// Each member votes for the first of its protocols that all know; among equals the first by name wins.
    fn select_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.vote(|name| self.is_known_to_all(name))?;
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| name.clone())
    }

    fn awaiting_join_count(&self) -> usize {
        self.members
            .values()
            .filter(|member| member.is_awaiting_join())
            .count()
    }

    fn have_all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(Member::is_awaiting_join)
    }

    fn rebalance_timeout(&self) -> Duration {
        let timeouts = self
            .members
            .values()
            .map(|member| member.terms.rebalance_timeout);
        timeouts.max().unwrap_or_default()
    }

    /// Notes that something is to happen at `deadline`.
    fn arm(&mut self, deadline: Duration) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |at| at.min(deadline)));
    }
}

fn pending_size_bytes(member_id: &str) -> usize {
    member_id.len() + 64
}

/// A member as DescribeGroups shows it.
#[derive(Debug)]
pub(crate) struct MemberView<'a> {
    pub(crate) group_instance_id: Option<&'a Arc<str>>,
    pub(crate) client_id: &'a Arc<str>,
    pub(crate) client_host: &'a Arc<str>,
    /// Empty unless the group is stable.
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}
