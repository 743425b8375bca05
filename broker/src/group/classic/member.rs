//! A member of a classic group: what it brought when it joined, and what it waits for.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::ErrorCode;
use tokio::sync::oneshot;

/// The answer to a JoinGroup.
pub(crate) type JoinReply = Result<Joined, JoinRefusal>;
/// The answer to a SyncGroup.
pub(crate) type SyncReply = Result<Synced, ErrorCode>;

/// One way of sharing out the work that a member knows ("range", "cooperative-sticky", …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: Arc<str>,
    /// Opaque to the coordinator; under protocol type "consumer" it begins with the subscription.
    pub(crate) metadata: Bytes,
}

/// The member is part of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol_name: Option<Arc<str>>,
    pub(crate) leader: Arc<str>,
    /// The leader came back to an assignment that still holds (KIP-814).
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: Arc<str>,
    /// Everybody, for the leader; nobody, for the others.
    pub(crate) members: Vec<JoinedMember>,
}

/// A member as the leader gets to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: Arc<str>,
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) metadata: Bytes,
}

/// The member is not part of a generation. With `MemberIdRequired` the id is the one to come back with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefusal {
    pub(crate) code: ErrorCode,
    pub(crate) member_id: Arc<str>,
}

/// What the leader assigned to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<Arc<str>>,
    pub(crate) protocol_name: Option<Arc<str>>,
    pub(crate) assignment: Bytes,
}

/// What a member may change each time it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// In the member's order of preference, each name once.
    pub(crate) protocols: Vec<Protocol>,
}

impl Terms {
    pub(crate) fn protocol(&self, name: &str) -> Option<&Protocol> {
        self.protocols
            .iter()
            .find(|protocol| &*protocol.name == name)
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let size = |protocol: &Protocol| protocol.name.len() + protocol.metadata.len() + 64;
        self.protocols.iter().map(size).sum()
    }
}

/// A member. Its id is the key under which the group keeps it.
#[derive(Debug)]
pub(crate) struct Member {
    /// Set for static members (KIP-345).
    pub(crate) group_instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) terms: Terms,
    pub(crate) assignment: Bytes,
    /// Has not been answered since it was added: it knows no member id and cannot heartbeat yet.
    pub(crate) is_new: bool,
    /// When the session ends; none after it ended while the member was waiting for an answer.
    pub(crate) session_deadline: Option<Duration>,
    awaiting_join: Option<oneshot::Sender<JoinReply>>,
    awaiting_sync: Option<oneshot::Sender<SyncReply>>,
}

impl Member {
    pub(crate) fn new(
        group_instance_id: Option<Arc<str>>,
        client_id: Arc<str>,
        client_host: Arc<str>,
        terms: Terms,
    ) -> Self {
        Self {
            group_instance_id,
            client_id,
            client_host,
            terms,
            assignment: Bytes::new(),
            is_new: false,
            session_deadline: None,
            awaiting_join: None,
            awaiting_sync: None,
        }
    }

    pub(crate) fn is_static(&self) -> bool {
        self.group_instance_id.is_some()
    }

    pub(crate) fn is_awaiting_join(&self) -> bool {
        self.awaiting_join.is_some()
    }

    pub(crate) fn is_awaiting_sync(&self) -> bool {
        self.awaiting_sync.is_some()
    }

    /// Whether the end of its session says nothing about the member, since it waits for the group.
    pub(crate) fn is_excused(&self) -> bool {
        !self.is_new && (self.is_awaiting_join() || self.is_awaiting_sync())
    }

    /// Parks a JoinGroup. An earlier one of the same member is a lost attempt; whoever may still wait for
    /// its answer is told to join again.
    pub(crate) fn park_join(&mut self, member_id: &Arc<str>, reply: oneshot::Sender<JoinReply>) {
        let refusal = JoinRefusal {
            code: ErrorCode::RebalanceInProgress,
            member_id: member_id.clone(),
        };
        self.answer_join(Err(refusal));
        self.awaiting_join = Some(reply);
    }

    /// Parks a SyncGroup; an earlier one is treated as in [`Member::park_join`].
    pub(crate) fn park_sync(&mut self, reply: oneshot::Sender<SyncReply>) {
        self.answer_sync(Err(ErrorCode::RebalanceInProgress));
        self.awaiting_sync = Some(reply);
    }

    /// Answers a parked JoinGroup, if there is one.
    pub(crate) fn answer_join(&mut self, reply: JoinReply) -> bool {
        let Some(sender) = self.awaiting_join.take() else {
            return false;
        };
        answer(sender, reply);
        true
    }

    /// Answers a parked SyncGroup, if there is one.
    pub(crate) fn answer_sync(&mut self, reply: SyncReply) -> bool {
        let Some(sender) = self.awaiting_sync.take() else {
            return false;
        };
        answer(sender, reply);
        true
    }

    /// The first of its protocols that everybody knows.
    pub(crate) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        self.terms
            .protocols
            .iter()
            .map(|protocol| &protocol.name)
            .find(|name| is_candidate(name))
    }

    pub(crate) fn size_bytes(&self, member_id: &str) -> usize {
        let instance = self.group_instance_id.as_ref().map_or(0, |id| 2 * id.len());
        let texts = 2 * member_id.len() + instance + self.client_id.len() + self.client_host.len();
        mem::size_of::<Self>() + texts + self.terms.size_bytes() + self.assignment.len()
    }
}

/// Sends an answer; that the connection behind it is gone makes no difference to the group.
pub(crate) fn answer<T>(sender: oneshot::Sender<T>, reply: T) {
    drop(sender.send(reply));
}
