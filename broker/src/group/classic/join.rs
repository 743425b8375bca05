//! JoinGroup: newcomers, members that come back, and static members that are replaced.

use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::member::{JoinRefusal, JoinReply, Joined, JoinedMember, Member, Terms, answer};
use super::persist::{AfterStore, StaticReplacement};
use super::{ClassicGroup, GroupState, Turn};

/// A parked JoinGroup of a newcomer ends after this: it has no member id to heartbeat with, and a client
/// that lost its connection would otherwise leave members behind with every retry (KAFKA-7610).
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A JoinGroup as the group sees it.
#[derive(Debug, Clone)]
pub(crate) struct JoinRequest {
    /// Empty for a newcomer.
    pub(crate) member_id: Arc<str>,
    /// Empty is no instance id on the wire either.
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) protocol_type: Arc<str>,
    pub(crate) terms: Terms,
    /// The id that a newcomer gets.
    pub(crate) new_member_id: Arc<str>,
    /// The client understands MEMBER_ID_REQUIRED (KIP-394, version 4).
    pub(crate) requires_known_member_id: bool,
    /// The client understands a leader that must not assign (KIP-814, version 9).
    pub(crate) supports_skipping_assignment: bool,
    /// What the client says about why it joins (KIP-800).
    pub(crate) reason: Arc<str>,
}

impl JoinRequest {
    /// Bytes of memory that the member will take, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        let instance = self.group_instance_id.as_ref().map_or(0, |id| 2 * id.len());
        let texts = self.client_id.len() + self.client_host.len() + instance;
        2 * self.new_member_id.len() + texts + self.terms.size_bytes()
    }
}

impl ClassicGroup {
    /// A member joins. The answer may come much later, through any other event.
    pub(crate) fn join(
        &mut self,
        turn: &mut Turn<'_>,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let is_newcomer = request.member_id.is_empty();
        if !self.accepts(turn, &request.member_id) {
            self.remove(&request.member_id);
            refuse(reply, ErrorCode::GroupMaxSizeReached, "".into());
            self.maybe_complete_join_phase(turn);
        } else if self.state == GroupState::Dead {
            refuse(reply, ErrorCode::CoordinatorNotAvailable, request.member_id);
        } else if !self.supports(&request.protocol_type, &request.terms) {
            refuse(
                reply,
                ErrorCode::InconsistentGroupProtocol,
                request.member_id,
            );
        } else if is_newcomer {
            self.join_newcomer(turn, request, reply);
        } else {
            self.join_known(turn, request, reply);
        }
    }

    /// Whether there is room. A rebalance counts those that have joined it, so that the last ones to come
    /// back are the ones to go when the group has become too large.
    fn accepts(&self, turn: &Turn<'_>, member_id: &str) -> bool {
        let size_max = turn.settings.size_max;
        if member_id.is_empty() && self.pending.len() >= size_max {
            return false;
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => true,
            GroupState::PreparingRebalance => {
                let waits = self
                    .members
                    .get(member_id)
                    .is_some_and(Member::is_awaiting_join);
                waits || self.awaiting_join_count() < size_max
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < size_max
            }
        }
    }

    fn join_newcomer(
        &mut self,
        turn: &mut Turn<'_>,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let member_id = request.new_member_id.clone();
        if let Some(instance) = &request.group_instance_id {
            match self.static_members.get(instance).cloned() {
                Some(current) => self.rejoin_static(turn, request, &current, reply),
                None => self.add_and_rebalance(turn, member_id, request, reply),
            }
        } else if request.requires_known_member_id {
            self.add_pending(member_id.clone(), turn.now + request.terms.session_timeout);
            refuse(reply, ErrorCode::MemberIdRequired, member_id);
        } else {
            self.add_and_rebalance(turn, member_id, request, reply);
        }
    }

    fn join_known(
        &mut self,
        turn: &mut Turn<'_>,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let member_id = request.member_id.clone();
        // Only dynamic members get a pending id.
        if request.group_instance_id.is_none() && self.pending.contains_key(&member_id) {
            return self.add_and_rebalance(turn, member_id, request, reply);
        }
        let instance = request.group_instance_id.as_deref();
        if let Err(code) = self.validate_member(&member_id, instance) {
            return refuse(reply, code, member_id);
        }
        let is_unchanged = self.members[&member_id].terms.protocols == request.terms.protocols;
        match self.state {
            GroupState::PreparingRebalance => {
                self.update_and_rebalance(turn, request, reply, "joining the rebalance");
            }
            // The answer to the first attempt was lost: this generation holds for the member.
            GroupState::CompletingRebalance if is_unchanged => {
                answer(reply, Ok(self.joined(&member_id)));
            }
            // Followers may ask again; the leader does it to have the work shared out anew.
            GroupState::Stable if is_unchanged && !self.is_leader(&member_id) => {
                answer(reply, Ok(self.joined(&member_id)));
            }
            GroupState::CompletingRebalance | GroupState::Stable => {
                let why = if is_unchanged {
                    "the leader rejoins"
                } else {
                    "metadata changed"
                };
                self.update_and_rebalance(turn, request, reply, why);
            }
            GroupState::Empty | GroupState::Dead => {
                refuse(reply, ErrorCode::UnknownMemberId, member_id);
            }
        }
    }

    fn add_and_rebalance(
        &mut self,
        turn: &mut Turn<'_>,
        member_id: Arc<str>,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let JoinRequest {
            group_instance_id,
            client_id,
            client_host,
            terms,
            ..
        } = request;
        let mut member = Member::new(group_instance_id, client_id, client_host, terms);
        member.is_new = true;
        member.park_join(&member_id, reply);
        if self.is_initial_rebalance() {
            self.new_member_added = true;
        }
        self.add(member_id.clone(), &request.protocol_type, member);
        self.schedule_session_in(turn, &member_id, NEW_MEMBER_JOIN_TIMEOUT);
        self.rebalance_or_complete_join(turn, "a member joins", &request.reason);
    }

    fn update_and_rebalance(
        &mut self,
        turn: &mut Turn<'_>,
        request: JoinRequest,
        reply: oneshot::Sender<JoinReply>,
        why: &str,
    ) {
        self.set_terms(&request.member_id, request.terms);
        let member = self.members.get_mut(&request.member_id).expect("validated");
        member.park_join(&request.member_id, reply);
        self.rebalance_or_complete_join(turn, why, &request.reason);
    }

    /// A static member came back without its member id: it gets a new one, and the old one is fenced. In a
    /// stable group nothing else changes as long as the protocol stays the same.
    fn rejoin_static(
        &mut self,
        turn: &mut Turn<'_>,
        request: JoinRequest,
        current: &Arc<str>,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let leader_before = self.leader.clone().unwrap_or_default();
        let member_id = request.new_member_id.clone();
        self.replace_static(current, member_id.clone());
        let terms_before = self.set_terms(&member_id, request.terms);
        self.members
            .get_mut(&member_id)
            .expect("replaced")
            .park_join(&member_id, reply);
        self.schedule_session(turn, &member_id);
        match self.state {
            GroupState::Stable if self.select_protocol() == self.protocol_name => {
                let then = AfterStore::StaticMember(Box::new(StaticReplacement {
                    generation: self.generation,
                    member_id,
                    member_id_before: current.clone(),
                    terms_before,
                    leader_before,
                    may_skip_assignment: request.supports_skipping_assignment,
                }));
                turn.stores.push((self.record(None), then));
            }
            GroupState::Stable => {
                self.rebalance_or_complete_join(
                    turn,
                    "a static member changes the protocol",
                    &request.reason,
                );
            }
            // The leader may be assigning to the old id right now.
            GroupState::CompletingRebalance => {
                self.prepare_rebalance(turn, "a static member is replaced", &request.reason);
            }
            GroupState::PreparingRebalance => self.maybe_complete_join_phase(turn),
            GroupState::Empty | GroupState::Dead => {
                unreachable!("a group in this state has no members")
            }
        }
    }

    /// Gives a static member another member id; whoever waits under the old one is fenced.
    pub(super) fn replace_static(&mut self, from: &str, to: Arc<str>) {
        let mut member = self
            .members
            .remove(from)
            .expect("static members are members");
        self.size_bytes -= member.size_bytes(from);
        let refusal = JoinRefusal {
            code: ErrorCode::FencedInstanceId,
            member_id: from.into(),
        };
        member.answer_join(Err(refusal));
        member.answer_sync(Err(ErrorCode::FencedInstanceId));
        member.is_new = false;
        self.pending_sync.remove(from);
        let instance = member
            .group_instance_id
            .clone()
            .expect("static members have one");
        self.static_members.insert(instance, to.clone());
        if self.is_leader(from) {
            self.leader = Some(to.clone());
        }
        self.size_bytes += member.size_bytes(&to);
        self.members.insert(to, member);
    }

    /// Ends a static member's rejoin, now that its new id is stored or could not be.
    pub(super) fn static_member_stored(
        &mut self,
        turn: &mut Turn<'_>,
        replacement: StaticReplacement,
        outcome: Result<(), ErrorCode>,
    ) {
        let id = replacement.member_id;
        // Since then a rebalance may have begun, which will answer the member; or it may have left.
        let is_current = self.state == GroupState::Stable
            && self.generation == replacement.generation
            && self.members.contains_key(&id);
        if !is_current {
            return;
        }
        let reply = match outcome {
            Ok(()) => {
                let mut joined = self.joined(&id);
                if replacement.may_skip_assignment {
                    joined.skip_assignment = self.is_leader(&id);
                } else {
                    // An older client that finds itself leader would assign: it is shown its former id.
                    joined.leader = replacement.leader_before;
                    joined.members.clear();
                }
                Ok(joined)
            }
            Err(code) => Err(JoinRefusal {
                code,
                member_id: "".into(),
            }),
        };
        let failed = reply.is_err();
        self.members
            .get_mut(&id)
            .expect("checked above")
            .answer_join(reply);
        // Its session may have ended while it waited for the answer.
        if failed {
            self.set_terms(&id, replacement.terms_before);
            self.replace_static(&id, replacement.member_id_before.clone());
            self.schedule_session(turn, &replacement.member_id_before);
        } else {
            self.schedule_session(turn, &id);
        }
    }

    /// The current generation as a member gets to see it.
    pub(super) fn joined(&self, member_id: &Arc<str>) -> Joined {
        let members = if self.is_leader(member_id) {
            self.members_for_leader()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members,
        }
    }

    fn members_for_leader(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let describe = |(id, member): (&Arc<str>, &Member)| JoinedMember {
            member_id: id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            metadata: member
                .terms
                .protocol(protocol)
                .map(|protocol| protocol.metadata.clone())
                .unwrap_or_default(),
        };
        self.members.iter().map(describe).collect()
    }
}

pub(super) fn refuse(reply: oneshot::Sender<JoinReply>, code: ErrorCode, member_id: Arc<str>) {
    answer(reply, Err(JoinRefusal { code, member_id }));
}
