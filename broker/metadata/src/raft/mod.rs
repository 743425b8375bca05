//! Raft, by openraft: what is replicated, how it is stored, how it is sent. Nothing outside this crate
//! sees a type of openraft's.

pub(crate) mod codec;
pub(crate) mod files;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod peers;
mod rpc;
pub(crate) mod state_machine;

use std::fmt;

use bytes::Bytes;
use openraft::type_config::alias;
use uuid::Uuid;

use crate::command::{Outcome, Rejection};

// Standard Raft: one leader a term, so an entry is named by term and index.
openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = EncodedCommand,
        R = Applied,
        NodeId = u64,
        Node = RaftNode,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, RaftNode>;
pub(crate) type Payload = openraft::EntryPayload<EncodedCommand, u64, RaftNode>;
pub(crate) type Raft = openraft::Raft<TypeConfig, state_machine::StateMachine>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;

/// A command in its stored form: encoded once where it is proposed, then kept, sent and written as it
/// is, and decoded where it is applied.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct EncodedCommand(pub(crate) Bytes);

impl fmt::Debug for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for EncodedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry brought; nothing for entries that are Raft's own.
pub(crate) type Applied = Option<Result<Outcome, Rejection>>;

/// A member of the Raft group. Its identity is node id and directory: a node that comes back with an
/// empty disk is another one, and must not vote in the old one's name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RaftNode {
    pub(crate) directory: Uuid,
    pub(crate) host: String,
    pub(crate) port: u16,
}
