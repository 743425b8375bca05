//! A group as `__consumer_offsets` keeps it: its record, what follows when the record is durable, and the
//! group that a record brings back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::consumer_offsets::{GroupMetadataValue, MemberMetadata};
use tidemill_protocol::{ErrorCode, Str};

use super::member::{Member, Protocol, Terms};
use super::{ClassicGroup, GroupState, Turn};
use crate::group::log::CoordinatorRecord;
use crate::group::records;

/// What follows once a group's record is durable, or could not be made so.
#[derive(Debug)]
pub(crate) enum AfterStore {
    /// The leader's assignment is handed out.
    Assignment {
        generation: i32,
        assignments: BTreeMap<Arc<str>, Bytes>,
    },
    /// A static member's rejoin is answered.
    StaticMember(Box<StaticReplacement>),
    /// Nothing: an empty generation that is not in the log comes back as the one before it, whose members
    /// then end with their sessions.
    Nothing,
}

/// A static member whose new member id is being stored.
#[derive(Debug)]
pub(crate) struct StaticReplacement {
    pub(super) generation: i32,
    pub(super) member_id: Arc<str>,
    pub(super) member_id_before: Arc<str>,
    pub(super) terms_before: Terms,
    pub(super) leader_before: Arc<str>,
    pub(super) may_skip_assignment: bool,
}

/// Why a record of a group cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoredGroupError {
    #[error("the group has members but no protocol")]
    NoProtocol,
    #[error("member {0} occurs twice")]
    DuplicateMember(Str),
    #[error("group instance {0} occurs twice")]
    DuplicateInstance(Str),
}

impl ClassicGroup {
    /// The record of the current generation; with these assignments, or with those that the members have.
    pub(super) fn record(
        &self,
        assignments: Option<&BTreeMap<Arc<str>, Bytes>>,
    ) -> CoordinatorRecord {
        let protocol = self.protocol_name.as_deref();
        let describe = |(id, member): (&Arc<str>, &Member)| {
            let subscription = protocol.and_then(|name| member.terms.protocol(name));
            let assignment = match assignments {
                Some(assignments) => assignments.get(id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            MemberMetadata {
                member_id: Str::from(&**id),
                group_instance_id: member.group_instance_id.as_deref().map(Str::from),
                client_id: Str::from(&*member.client_id),
                client_host: Str::from(&*member.client_host),
                rebalance_timeout: to_ms(member.terms.rebalance_timeout),
                session_timeout: to_ms(member.terms.session_timeout),
                subscription: subscription
                    .map(|protocol| protocol.metadata.clone())
                    .unwrap_or_default(),
                assignment,
                ..Default::default()
            }
        };
        let value = GroupMetadataValue {
            protocol_type: Str::from(self.protocol_type.as_deref().unwrap_or_default()),
            generation: self.generation,
            protocol: protocol.map(Str::from),
            leader: self.leader.as_deref().map(Str::from),
            current_state_timestamp: self.state_since_ms.unwrap_or(-1),
            members: self.members.iter().map(describe).collect(),
            ..Default::default()
        };
        records::group(&self.id, &value)
    }

    /// Continues what waited for a record. `outcome` is the append's.
    pub(crate) fn stored(
        &mut self,
        turn: &mut Turn<'_>,
        after: AfterStore,
        outcome: Result<(), ErrorCode>,
    ) {
        let outcome = outcome.map_err(answer_to_failed_store);
        match after {
            AfterStore::Assignment {
                generation,
                assignments,
            } => {
                self.assignment_stored(turn, generation, assignments, outcome);
            }
            AfterStore::StaticMember(replacement) => {
                self.static_member_stored(turn, *replacement, outcome);
            }
            AfterStore::Nothing => {
                if let Err(code) = outcome {
                    tracing::warn!(group = %self.id, %code, "could not store an empty generation");
                }
            }
        }
    }

    /// The group that a record describes; its members' sessions begin when it is [`ClassicGroup::resume`]d.
    pub(crate) fn from_record(
        id: Arc<str>,
        value: &GroupMetadataValue,
    ) -> Result<Self, StoredGroupError> {
        let mut group = Self::new(id, 0);
        group.state_since_ms =
            (value.current_state_timestamp >= 0).then_some(value.current_state_timestamp);
        group.generation = value.generation;
        let protocol_type: Arc<str> = (&*value.protocol_type).into();
        group.protocol_type = (!protocol_type.is_empty()).then(|| protocol_type.clone());
        group.protocol_name = value.protocol.as_deref().map(Arc::from);
        for stored in &value.members {
            let protocol = value
                .protocol
                .as_deref()
                .ok_or(StoredGroupError::NoProtocol)?;
            group.add_stored(&protocol_type, protocol, stored)?;
        }
        if !group.members.is_empty() {
            group.state = GroupState::Stable;
        }
        // A leader that is no member (a damaged record) must not lead.
        let leader = value
            .leader
            .as_deref()
            .filter(|leader| group.members.contains_key(*leader));
        if let Some(leader) = leader {
            group.leader = Some(leader.into());
        }
        group.subscribed_topics = group.read_subscribed_topics();
        Ok(group)
    }

    fn add_stored(
        &mut self,
        protocol_type: &Arc<str>,
        protocol: &str,
        stored: &MemberMetadata,
    ) -> Result<(), StoredGroupError> {
        let member_id: Arc<str> = (&*stored.member_id).into();
        if self.members.contains_key(&member_id) {
            return Err(StoredGroupError::DuplicateMember(stored.member_id.clone()));
        }
        let instance: Option<Arc<str>> = stored.group_instance_id.as_deref().map(Arc::from);
        if let Some(instance) = &instance
            && self.static_members.contains_key(instance)
        {
            return Err(StoredGroupError::DuplicateInstance(Str::from(&**instance)));
        }
        // Copied, so that a member does not hold on to the batch that it was read from.
        let metadata = Bytes::copy_from_slice(&stored.subscription);
        // Before KIP-62 there was one timeout.
        let rebalance_timeout = match stored.rebalance_timeout {
            -1 => stored.session_timeout,
            timeout => timeout,
        };
        let terms = Terms {
            session_timeout: from_ms(stored.session_timeout),
            rebalance_timeout: from_ms(rebalance_timeout),
            protocols: vec![Protocol {
                name: protocol.into(),
                metadata,
            }],
        };
        let (client, host) = ((&*stored.client_id).into(), (&*stored.client_host).into());
        let mut member = Member::new(instance, client, host, terms);
        member.assignment = Bytes::copy_from_slice(&stored.assignment);
        self.add(member_id, protocol_type, member);
        Ok(())
    }

    /// Takes a group up that came from the log: sessions begin anew, and a group that has become too large
    /// is rebalanced.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            self.schedule_session(turn, id);
        }
        if self.members.len() > turn.settings.size_max {
            self.prepare_rebalance(turn, "the group is over its size", "");
        }
    }
}

pub(super) fn to_ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// A timeout in milliseconds; what is negative is none.
pub(crate) fn from_ms(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// What members are told when the log refused a group's record.
fn answer_to_failed_store(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::UnknownServerError,
        other => other,
    }
}
