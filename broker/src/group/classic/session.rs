//! Heartbeats, members that leave, and everything that happens by the clock.

use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::ErrorCode;

use super::{ClassicGroup, GroupState, Turn};

/// One member of a LeaveGroup. With an instance id and no member id an administrator removes a static
/// member, whoever it is right now.
#[derive(Debug, Clone)]
pub(crate) struct LeavingMember {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) reason: Arc<str>,
}

enum Timer {
    Session(Arc<str>),
    Pending(Arc<str>),
    Join(super::rebalance::JoinTimer),
    Sync,
}

impl ClassicGroup {
    /// A member is alive. The error says what it must do.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &Turn<'_>,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate_member(member_id, group_instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.schedule_session(turn, member_id);
        match self.state {
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Members leave; the outcomes are in their order.
    pub(crate) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        leaving: &[LeavingMember],
    ) -> Vec<Result<(), ErrorCode>> {
        let outcomes: Vec<_> = leaving
            .iter()
            .map(|member| self.leave_one(member))
            .collect();
        if outcomes.iter().any(Result::is_ok) {
            match self.state {
                GroupState::Stable | GroupState::CompletingRebalance => {
                    self.prepare_rebalance(turn, "members left", "");
                }
                _ => self.maybe_complete_join_phase(turn),
            }
        }
        outcomes
    }

    fn leave_one(&mut self, leaving: &LeavingMember) -> Result<(), ErrorCode> {
        let LeavingMember {
            member_id,
            group_instance_id,
            reason,
        } = leaving;
        let instance = group_instance_id.as_deref();
        let member_id = if member_id.is_empty() {
            let current = instance.and_then(|instance| self.static_members.get(instance));
            current.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else if self.pending.contains_key(member_id) {
            member_id.clone()
        } else {
            self.validate_member(member_id, instance)?;
            member_id.clone()
        };
        tracing::info!(group = %self.id, member = %member_id, %reason, "member leaves");
        self.remove(&member_id);
        Ok(())
    }

    /// Fires every timer that is due. A timer that one of them sets fires in a later call.
    pub(crate) fn on_time(&mut self, turn: &mut Turn<'_>) {
        let mut due = self.timers();
        due.retain(|(deadline, _)| *deadline <= turn.now);
        due.sort_by_key(|(deadline, _)| *deadline);
        for (deadline, timer) in due {
            match timer {
                Timer::Session(member_id) => self.session_ended(turn, &member_id, deadline),
                Timer::Pending(member_id) if self.pending.get(&member_id) == Some(&deadline) => {
                    tracing::info!(group = %self.id, member = %member_id, "member never came back");
                    self.remove(&member_id);
                    self.complete_join_if_all_are_in(turn);
                }
                Timer::Join(timer) if self.join_timer == Some(timer) => {
                    self.join_timer = None;
                    self.join_timer_fired(turn, timer);
                }
                Timer::Sync if self.sync_deadline == Some(deadline) => {
                    self.sync_deadline = None;
                    self.sync_deadline_passed(turn);
                }
                // A timer before this one called it off.
                Timer::Pending(_) | Timer::Join(_) | Timer::Sync => {}
            }
        }
        self.wake_at = self.next_deadline();
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.timers()
            .into_iter()
            .map(|(deadline, _)| deadline)
            .min()
    }

    fn timers(&self) -> Vec<(Duration, Timer)> {
        let sessions = self.members.iter().filter_map(|(id, member)| {
            Some((member.session_deadline?, Timer::Session(id.clone())))
        });
        let pending = self
            .pending
            .iter()
            .map(|(id, at)| (*at, Timer::Pending(id.clone())));
        let join = self
            .join_timer
            .map(|timer| (timer.deadline, Timer::Join(timer)));
        let sync = self.sync_deadline.map(|at| (at, Timer::Sync));
        sessions.chain(pending).chain(join).chain(sync).collect()
    }

    fn session_ended(&mut self, turn: &mut Turn<'_>, member_id: &str, deadline: Duration) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        if member.session_deadline != Some(deadline) {
            return;
        }
        member.session_deadline = None;
        // A member that waits for the group cannot heartbeat; the answer begins a new session.
        if member.is_excused() {
            return;
        }
        tracing::info!(group = %self.id, member = member_id, "member fell silent");
        self.remove(member_id);
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => {
                self.prepare_rebalance(turn, "a member fell silent", "");
            }
            _ => self.complete_join_if_all_are_in(turn),
        }
    }

    /// A commit of offsets keeps a member alive as a heartbeat does, while it may work.
    pub(crate) fn keep_alive_by_commit(&mut self, turn: &Turn<'_>, member_id: &str) {
        let may_work = matches!(
            self.state,
            GroupState::Stable | GroupState::PreparingRebalance
        );
        if may_work && self.members.contains_key(member_id) {
            self.schedule_session(turn, member_id);
        }
    }

    pub(super) fn schedule_session(&mut self, turn: &Turn<'_>, member_id: &str) {
        let timeout = self.members[member_id].terms.session_timeout;
        self.schedule_session_in(turn, member_id, timeout);
    }

    pub(super) fn schedule_session_in(
        &mut self,
        turn: &Turn<'_>,
        member_id: &str,
        timeout: Duration,
    ) {
        let deadline = turn.now + timeout;
        let member = self
            .members
            .get_mut(member_id)
            .expect("the caller found the member");
        member.session_deadline = Some(deadline);
        self.arm(deadline);
    }

    /// The coordinator moves away: whoever waits is told to look for the new one.
    pub(crate) fn retire(&mut self, turn: &Turn<'_>) {
        self.transition_to(GroupState::Dead, turn.now_ms);
        for (member_id, member) in &mut self.members {
            let code = ErrorCode::NotCoordinator;
            let refusal = super::JoinRefusal {
                code,
                member_id: member_id.clone(),
            };
            member.answer_join(Err(refusal));
            member.answer_sync(Err(code));
        }
    }

    /// Whether offsets may be committed by this member (none: empty) of this generation (none: -1).
    pub(crate) fn validate_commit(
        &self,
        member_id: &str,
        group_instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        // Administrators and consumers that assign themselves may commit while nobody is in the group.
        if generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && group_instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate_member(member_id, group_instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        // The member knows the generation, but has not been given its work yet.
        match self.state {
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }
}
