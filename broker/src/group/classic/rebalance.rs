//! The course of a rebalance: when it begins, how long it waits for whom, and the generation it ends in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::consumer_protocol_subscription::ConsumerProtocolSubscription;
use tidemill_protocol::{Decoder, ErrorCode, Message, split_prefix};

use super::member::Member;
use super::persist::AfterStore;
use super::{ClassicGroup, GroupState, Turn};

/// When the join phase ends even if not everybody has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinTimer {
    pub(super) deadline: Duration,
    /// The first rebalance of an empty group: wait on if somebody came meanwhile.
    initial: Option<InitialDelay>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InitialDelay {
    delay: Duration,
    /// What is left of the rebalance timeout after this delay.
    remaining: Duration,
}

/// A timer that has just fired comes due again no earlier than this, whatever timeout a member asked for.
const RETRY_MIN: Duration = Duration::from_millis(1);

impl ClassicGroup {
    /// Whether the group is in the delay before its first rebalance, during which it only collects members.
    pub(super) fn is_initial_rebalance(&self) -> bool {
        self.state == GroupState::PreparingRebalance && self.previous_state == GroupState::Empty
    }

    /// Something changed that the next generation must take into account.
    pub(super) fn rebalance_or_complete_join(
        &mut self,
        turn: &mut Turn<'_>,
        why: &str,
        reason: &str,
    ) {
        match self.state {
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(turn, why, reason);
            }
            GroupState::PreparingRebalance => self.maybe_complete_join_phase(turn),
            GroupState::Dead => {}
        }
    }

    /// Begins a rebalance: members learn of it by their heartbeats, parked SyncGroups at once.
    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>, why: &str, reason: &str) {
        if self.state == GroupState::CompletingRebalance {
            self.withdraw_assignments(turn, ErrorCode::RebalanceInProgress);
        }
        self.pending_sync.clear();
        self.sync_deadline = None;
        let is_initial = self.state == GroupState::Empty;
        self.transition_to(GroupState::PreparingRebalance, turn.now_ms);
        tracing::info!(
            group = %self.id, generation = self.generation, members = self.members.len(), why,
            client_reason = reason, "rebalance begins"
        );
        if is_initial {
            let delay = turn.settings.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.new_member_added = false;
            self.set_join_timer(turn.now + delay, Some(InitialDelay { delay, remaining }));
        } else if self.have_all_joined() {
            self.complete_join(turn);
        } else {
            self.set_join_timer(turn.now + self.rebalance_timeout(), None);
        }
    }

    /// Ends the join phase if everybody is in, unless the group still is in its initial delay.
    pub(super) fn maybe_complete_join_phase(&mut self, turn: &mut Turn<'_>) {
        let is_open = self.state == GroupState::PreparingRebalance && !self.is_initial_rebalance();
        if is_open && self.have_all_joined() {
            self.complete_join(turn);
        }
    }

    /// Ends the join phase if everybody is in. A newcomer that fell silent ends the initial delay too.
    pub(super) fn complete_join_if_all_are_in(&mut self, turn: &mut Turn<'_>) {
        if self.state == GroupState::PreparingRebalance && self.have_all_joined() {
            self.complete_join(turn);
        }
    }

    pub(super) fn join_timer_fired(&mut self, turn: &mut Turn<'_>, timer: JoinTimer) {
        match timer.initial {
            Some(InitialDelay { delay, remaining })
                if self.new_member_added && !remaining.is_zero() =>
            {
                self.new_member_added = false;
                let next = turn.settings.initial_rebalance_delay.min(remaining);
                let remaining = remaining.saturating_sub(delay);
                let initial = Some(InitialDelay {
                    delay: next,
                    remaining,
                });
                self.set_join_timer(turn.now + next.max(RETRY_MIN), initial);
            }
            _ => self.complete_join(turn),
        }
    }

    /// Ends the join phase. Dynamic members that have not come back are out; static ones stay until their
    /// session ends. The next generation begins, unless nobody at all came.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.join_timer = None;
        let is_lost = |member: &Member| !member.is_awaiting_join() && !member.is_static();
        let lost: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(|(_, member)| is_lost(member))
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in lost {
            tracing::info!(group = %self.id, member = %member_id, "member did not join in time");
            self.remove(&member_id);
        }
        if !self.elect_leader() && !self.members.is_empty() {
            tracing::warn!(group = %self.id, "rebalance goes on: no member joined in time");
            let wait = self.rebalance_timeout().max(RETRY_MIN);
            self.set_join_timer(turn.now + wait, None);
            return;
        }
        self.begin_generation(turn);
    }

    /// A leader that has not come back is replaced by a member that has; false when there is none.
    fn elect_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else {
            return false;
        };
        if self.members[leader].is_awaiting_join() {
            return true;
        }
        let joined = self
            .members
            .iter()
            .find(|(_, member)| member.is_awaiting_join());
        let Some((elected, _)) = joined else {
            return false;
        };
        tracing::info!(group = %self.id, %leader, %elected, "leader did not join in time");
        self.leader = Some(elected.clone());
        true
    }

    fn begin_generation(&mut self, turn: &mut Turn<'_>) {
        // After the largest generation comes 0, since -1 means "none" on the wire.
        self.generation = self.generation.checked_add(1).unwrap_or(0);
        self.pending_sync.clear();
        self.protocol_name = self.select_protocol();
        self.subscribed_topics = self.read_subscribed_topics();
        if self.members.is_empty() {
            self.transition_to(GroupState::Empty, turn.now_ms);
            tracing::info!(group = %self.id, generation = self.generation, "group is empty");
            turn.stores.push((self.record(None), AfterStore::Nothing));
            return;
        }
        self.transition_to(GroupState::CompletingRebalance, turn.now_ms);
        tracing::info!(
            group = %self.id, generation = self.generation, members = self.members.len(),
            protocol = self.protocol_name.as_deref(), leader = self.leader.as_deref(),
            "join phase is over"
        );
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let joined = self.joined(&member_id);
            let member = self.members.get_mut(&member_id).expect("listed above");
            member.answer_join(Ok(joined));
            member.is_new = false;
            self.schedule_session(turn, &member_id);
            self.pending_sync.insert(member_id);
        }
        let deadline = turn.now + self.rebalance_timeout();
        self.sync_deadline = Some(deadline);
        self.arm(deadline);
    }

    /// Members that have not synced by the rebalance timeout are out (KAFKA-9752).
    pub(super) fn sync_deadline_passed(&mut self, turn: &mut Turn<'_>) {
        let in_sync_phase = matches!(
            self.state,
            GroupState::CompletingRebalance | GroupState::Stable
        );
        if !in_sync_phase || self.pending_sync.is_empty() {
            return;
        }
        for member_id in std::mem::take(&mut self.pending_sync) {
            tracing::info!(group = %self.id, member = %member_id, "member did not sync in time");
            self.remove(&member_id);
        }
        self.prepare_rebalance(turn, "members did not sync in time", "");
    }

    /// The topics that the members of a consumer group subscribe to; none when that cannot be told.
    pub(super) fn read_subscribed_topics(&self) -> Option<BTreeSet<Arc<str>>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let protocol = member.terms.protocol(self.protocol_name.as_deref()?)?;
            // Every version begins as version 0 does, so that coordinators need not know new ones.
            let subscription = split_prefix(protocol.metadata.clone()).and_then(|(_, rest)| {
                ConsumerProtocolSubscription::decode(&mut Decoder::new(rest), 0)
            });
            match subscription {
                Ok(subscription) => {
                    topics.extend(subscription.topics.iter().map(|topic| Arc::from(&**topic)));
                }
                Err(error) => {
                    tracing::warn!(group = %self.id, %error, "unreadable subscription");
                    return None;
                }
            }
        }
        Some(topics)
    }

    fn set_join_timer(&mut self, deadline: Duration, initial: Option<InitialDelay>) {
        self.join_timer = Some(JoinTimer { deadline, initial });
        self.arm(deadline);
    }
}
