//! What the rest of the broker sees of consensus.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use openraft::errors::Fatal;
use tidemill_records::NodeId;
use tokio::sync::watch;

use crate::command::{Command, Outcome, Rejection};
use crate::image::MetadataImage;
use crate::raft::TypeConfig;

/// The replicated log of metadata commands, and the image that it leads to.
///
/// - A command that was answered is durable on a majority and is in this node's image: whoever proposed
///   it reads it.
/// - Commands take effect one after the other, in one order for all nodes.
/// - The image never goes back while the process lives.
pub trait MetadataLog: Send + Sync {
    /// Proposes a command and waits until it has taken effect. Proposals that run at the same time
    /// share disk syncs and messages.
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>>;

    /// Waits until the image holds everything that was answered anywhere before this call (a ReadIndex
    /// with a majority). Only on the controller.
    fn barrier(&self) -> BoxFuture<'_, Result<(), BarrierError>>;

    /// The image now.
    fn image(&self) -> Arc<MetadataImage>;

    /// Follows the image. Changes in quick succession are seen as one.
    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>>;

    /// The node that leads the log, as far as this one knows.
    fn controller(&self) -> Option<NodeId>;
}

/// Why a command did not take effect, or may not have.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Another node is the controller; the command was not proposed.
    #[error("this node is not the controller{}", match .leader {
        Some(leader) => format!("; node {leader} is"),
        None => String::new(),
    })]
    NotController {
        /// Who is, if known.
        leader: Option<NodeId>,
    },
    /// The command was refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No majority has confirmed it in time, or leadership was lost meanwhile: it may take effect yet.
    #[error("the outcome is unknown: no majority of the controllers has confirmed it in time")]
    OutcomeUnknown,
    /// This node is shutting down.
    #[error("the node is shutting down")]
    Shutdown,
    /// The metadata log on this node has failed.
    #[error(transparent)]
    Fatal(#[from] Failure),
}

/// Why the image may be stale.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BarrierError {
    /// Another node is the controller.
    #[error("this node is not the controller")]
    NotController {
        /// Who is, if known.
        leader: Option<NodeId>,
    },
    /// No majority has answered.
    #[error("no majority of the controllers answers")]
    NoQuorum,
    /// This node is shutting down.
    #[error("the node is shutting down")]
    Shutdown,
    /// The metadata log on this node has failed.
    #[error(transparent)]
    Fatal(#[from] Failure),
}

/// Why the members of the group were not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MemberError {
    /// The change could not be proposed or confirmed.
    #[error(transparent)]
    Proposal(#[from] ProposeError),
    /// Another change is under way, or the controller has only just been elected. Try again.
    #[error("the members are being changed already: try again")]
    Busy,
    /// A voter has to be a learner first.
    #[error("node {0} is no member: add it as a learner first")]
    UnknownMember(NodeId),
    /// There must be a voter.
    #[error("there must be at least one voter")]
    NoVoters,
    /// The node is a member with another data directory, whose votes may still count.
    #[error("node {0} is a member with another data directory: remove it first, then add it")]
    OtherDirectory(NodeId),
}

/// The metadata log has stopped for good: its disk failed, or it holds what this release cannot read.
/// Nothing is acknowledged any more until the process starts again.
#[derive(Clone)]
pub struct Failure(Box<Fatal<TypeConfig>>);

impl Failure {
    /// What a fatal error of Raft means; `None` when it has only stopped.
    pub(crate) fn of(fatal: Fatal<TypeConfig>) -> Option<Self> {
        (fatal != Fatal::Stopped).then(|| Self(Box::new(fatal)))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the metadata log has stopped ({}); restart the node once its disk is well",
            self.0
        )
    }
}

impl std::error::Error for Failure {}
