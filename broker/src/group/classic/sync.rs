//! SyncGroup: the leader's assignment comes in, is stored, and goes out to everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::member::{SyncReply, Synced, answer};
use super::persist::AfterStore;
use super::{ClassicGroup, GroupState, Turn};

/// A SyncGroup as the group sees it.
#[derive(Debug, Clone)]
pub(crate) struct SyncRequest {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) generation: i32,
    /// What the client takes the group's protocol to be (KIP-559); older clients do not say.
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol_name: Option<Arc<str>>,
    /// By member id; empty unless the sender leads.
    pub(crate) assignments: BTreeMap<Arc<str>, Bytes>,
}

impl ClassicGroup {
    /// A member asks for its assignment; the leader brings everybody's along.
    pub(crate) fn sync(
        &mut self,
        turn: &mut Turn<'_>,
        request: SyncRequest,
        reply: oneshot::Sender<SyncReply>,
    ) {
        if let Err(code) = self.validate_sync(&request) {
            return answer(reply, Err(code));
        }
        match self.state {
            GroupState::PreparingRebalance => answer(reply, Err(ErrorCode::RebalanceInProgress)),
            GroupState::CompletingRebalance => self.sync_completing(turn, request, reply),
            GroupState::Stable => {
                self.has_synced(&request.member_id);
                let assignment = self.members[&request.member_id].assignment.clone();
                answer(reply, Ok(self.synced(assignment)));
            }
            GroupState::Empty | GroupState::Dead => {
                answer(reply, Err(ErrorCode::UnknownMemberId));
            }
        }
    }

    fn validate_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| said.is_some() && said != is;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn sync_completing(
        &mut self,
        turn: &mut Turn<'_>,
        request: SyncRequest,
        reply: oneshot::Sender<SyncReply>,
    ) {
        let member_id = request.member_id;
        self.members
            .get_mut(&member_id)
            .expect("validated")
            .park_sync(reply);
        self.has_synced(&member_id);
        // A leader that repeats itself while its assignment is being stored waits for the first one, so
        // that what the log says and what the members do stay the same.
        if !self.is_leader(&member_id) || self.storing == Some(self.generation) {
            return;
        }
        let mut assignments = request.assignments;
        assignments.retain(|id, _| self.members.contains_key(id));
        let unassigned = self.members.len() - assignments.len();
        if unassigned > 0 {
            tracing::warn!(group = %self.id, unassigned, "the leader left members without assignment");
        }
        self.storing = Some(self.generation);
        let record = self.record(Some(&assignments));
        let generation = self.generation;
        turn.stores.push((
            record,
            AfterStore::Assignment {
                generation,
                assignments,
            },
        ));
    }

    /// The assignment is durable, or could not be made so. Meanwhile another rebalance may have begun.
    pub(super) fn assignment_stored(
        &mut self,
        turn: &mut Turn<'_>,
        generation: i32,
        mut assignments: BTreeMap<Arc<str>, Bytes>,
        outcome: Result<(), ErrorCode>,
    ) {
        if self.storing == Some(generation) {
            self.storing = None;
        }
        if self.state != GroupState::CompletingRebalance || self.generation != generation {
            return;
        }
        if let Err(code) = outcome {
            tracing::error!(group = %self.id, generation, %code, "could not store the assignment");
            self.withdraw_assignments(turn, code);
            return self.prepare_rebalance(turn, "the assignment could not be stored", "");
        }
        self.transition_to(GroupState::Stable, turn.now_ms);
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let assignment = assignments.remove(&member_id).unwrap_or_default();
            self.set_assignment(&member_id, assignment.clone());
            let synced = self.synced(assignment);
            self.answer_sync(turn, &member_id, Ok(synced));
        }
        tracing::info!(group = %self.id, generation, "group is stable");
    }

    /// Takes all assignments back and tells those that wait for one why.
    pub(super) fn withdraw_assignments(&mut self, turn: &Turn<'_>, code: ErrorCode) {
        let member_ids: Vec<_> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            self.set_assignment(&member_id, Bytes::new());
            self.answer_sync(turn, &member_id, Err(code));
        }
    }

    /// A session that ended while the member waited for its assignment begins again with the answer.
    fn answer_sync(&mut self, turn: &Turn<'_>, member_id: &str, reply: SyncReply) {
        let member = self
            .members
            .get_mut(member_id)
            .expect("the caller listed the members");
        if member.answer_sync(reply) {
            self.schedule_session(turn, member_id);
        }
    }

    fn has_synced(&mut self, member_id: &str) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment,
        }
    }
}
