//! One node's part in the metadata group: opening, proposing, joining, closing.

mod open;
mod supervisor;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, ForwardToLeader, LinearizableReadError, RaftError,
};
use parking_lot::Mutex;
use tidemill_records::NodeId;
use tidemill_storage::spawn::ThreadHandle;
use tidemill_storage::wal::WalStats;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::command::{Command, Outcome, Rejection};
use crate::identity::Identity;
use crate::image::MetadataImage;
use crate::level::MetadataLevel;
use crate::limits::COMMAND_BYTES_MAX;
use crate::log::{BarrierError, Failure, MemberError, MetadataLog, ProposeError};
use crate::raft::files::MetaFiles;
use crate::raft::log_store::LogStore;
use crate::raft::network::{answer, node_id, raft_id};
use crate::raft::peers::Peer;
use crate::raft::{EncodedCommand, Raft, RaftNode, TypeConfig};

pub use open::{Formation, MetadataConfig, OpenError};

/// A member of the metadata group, running. It runs on when it is dropped: [`Metadata::close`] ends it.
pub struct Metadata {
    raft: Raft,
    log_store: LogStore,
    identity: Identity,
    image: watch::Receiver<Arc<MetadataImage>>,
    propose_deadline: Duration,
    files: MetaFiles,
    background: Mutex<Option<(JoinHandle<()>, ThreadHandle)>>,
}

impl Metadata {
    /// The cluster, node and directory.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Takes a file of the log ahead of need. Call it once the node is ready.
    pub fn preallocate_in_background(&self) {
        self.log_store.preallocate_in_background();
    }

    /// Figures of the log's disk.
    pub fn log_stats(&self) -> WalStats {
        self.log_store.stats()
    }

    /// Answers a request that another node's transport has brought.
    pub async fn handle_peer(&self, request: &[u8]) -> Bytes {
        answer(&self.raft, &self.identity, request).await
    }

    /// Lets a node follow the log without a vote, and waits until it has caught up. Only on the
    /// controller. The same node again with another directory is refused: remove it first.
    pub async fn add_learner(&self, peer: Peer) -> Result<(), MemberError> {
        let Peer {
            node,
            directory,
            host,
            port,
        } = peer;
        let added = self.raft.add_learner(
            raft_id(node),
            RaftNode {
                directory,
                host,
                port,
            },
            true,
        );
        let added = self.in_time(added).await?.map_err(member_error)?;
        // A member that is there already stays as it is.
        let known = added
            .membership
            .as_ref()
            .and_then(|members| members.get_node(&raft_id(node)));
        if known.is_some_and(|known| known.directory != directory) {
            return Err(MemberError::OtherDirectory(node));
        }
        Ok(())
    }

    /// Makes these nodes the voters; all of them have to be learners or voters. Voters that are not
    /// named become learners. Only on the controller.
    pub async fn set_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), MemberError> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| raft_id(*node)).collect();
        let changed = self.raft.change_membership(voters, true);
        self.in_time(changed).await?.map(drop).map_err(member_error)
    }

    /// Asks a voter to lead from now on. Only on the controller; does not wait.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), ProposeError> {
        self.raft
            .trigger()
            .transfer_leader(raft_id(to))
            .await
            .map_err(fatal)
    }

    /// Voters and other members, with where they are.
    pub fn members(&self) -> (BTreeSet<NodeId>, BTreeMap<NodeId, Peer>) {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let peers = membership.nodes().map(|(id, node)| {
            let RaftNode {
                directory,
                host,
                port,
            } = node.clone();
            (
                node_id(*id),
                Peer {
                    node: node_id(*id),
                    directory,
                    host,
                    port,
                },
            )
        });
        (
            membership.voter_ids().map(node_id).collect(),
            peers.collect(),
        )
    }

    /// Resolves when the metadata log has failed; never when the node is closed in order.
    pub async fn failed(&self) -> Failure {
        let mut metrics = self.raft.metrics();
        loop {
            let state = metrics.borrow_and_update().running_state.clone();
            if let Some(failure) = state.err().and_then(Failure::of) {
                return failure;
            }
            if metrics.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops taking part, makes everything durable and ends the threads. Proposals that are under way
    /// end with [`ProposeError::Shutdown`] or have an unknown outcome.
    pub async fn close(&self) {
        self.log_store.stop_waiting();
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the raft task has not ended well");
        }
        if let Err(error) = self.log_store.close().await {
            tracing::error!(%error, "the metadata log was not closed well");
        }
        let background = self.background.lock().take();
        self.files.end();
        if let Some((supervisor, files_thread)) = background {
            // Raft's end ends it.
            let _ = supervisor.await;
            files_thread.join().await;
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        check_level(&command)?;
        let bytes = command.encode();
        if bytes.len() > COMMAND_BYTES_MAX {
            return Err(Rejection::CommandTooLarge(bytes.len()).into());
        }
        Command::decode(&bytes).map_err(Rejection::Malformed)?;
        let write = self.raft.client_write(EncodedCommand(bytes));
        let written = self.in_time(write).await?.map_err(write_error)?;
        let applied = written
            .data
            .expect("only Raft's own entries have no result");
        applied.map_err(ProposeError::Rejected)
    }

    async fn in_time<T>(&self, proposal: impl Future<Output = T>) -> Result<T, ProposeError> {
        let late = |_| ProposeError::OutcomeUnknown;
        tokio::time::timeout(self.propose_deadline, proposal)
            .await
            .map_err(late)
    }

    async fn barrier(&self) -> Result<(), BarrierError> {
        let read = self.raft.ensure_linearizable(ReadPolicy::ReadIndex);
        let read = tokio::time::timeout(self.propose_deadline, read).await;
        match read.map_err(|_| BarrierError::NoQuorum)? {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(BarrierError::NotController {
                    leader: leader(&forward),
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(BarrierError::NoQuorum)
            }
            Err(RaftError::Fatal(fatal)) => {
                Err(Failure::of(fatal).map_or(BarrierError::Shutdown, BarrierError::Fatal))
            }
        }
    }
}

/// A level that this very release does not understand must not even be proposed by it.
fn check_level(command: &Command) -> Result<(), Rejection> {
    let (Command::SetLevel { level } | Command::FormCluster { level, .. }) = command else {
        return Ok(());
    };
    if *level <= MetadataLevel::LATEST {
        return Ok(());
    }
    let (min, max) = (MetadataLevel::FIRST, MetadataLevel::LATEST);
    Err(Rejection::UnsupportedLevel {
        wanted: *level,
        min,
        max,
        broker: None,
    })
}

fn leader(forward: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
    forward.leader_id.map(node_id)
}

fn fatal(fatal: openraft::errors::Fatal<TypeConfig>) -> ProposeError {
    Failure::of(fatal).map_or(ProposeError::Shutdown, ProposeError::Fatal)
}

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

fn write_error(error: WriteError) -> ProposeError {
    match error {
        RaftError::Fatal(error) => fatal(error),
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotController {
                leader: leader(&forward),
            }
        }
        // Membership errors and preconditions do not come of commands.
        RaftError::APIError(_) => ProposeError::OutcomeUnknown,
    }
}

fn member_error(error: WriteError) -> MemberError {
    use ChangeMembershipError as Change;
    let RaftError::APIError(ClientWriteError::ChangeMembershipError(change)) = error else {
        return write_error(error).into();
    };
    match change {
        Change::LearnerNotFound(unknown) => MemberError::UnknownMember(node_id(unknown.node_id)),
        Change::EmptyMembership(_) => MemberError::NoVoters,
        _ => MemberError::Busy,
    }
}

impl MetadataLog for Metadata {
    fn propose(&self, command: Command) -> BoxFuture<'_, Result<Outcome, ProposeError>> {
        Box::pin(self.propose(command))
    }

    fn barrier(&self) -> BoxFuture<'_, Result<(), BarrierError>> {
        Box::pin(self.barrier())
    }

    fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.clone()
    }

    fn controller(&self) -> Option<NodeId> {
        self.raft
            .server_metrics()
            .borrow_watched()
            .current_leader
            .map(node_id)
    }
}

#[cfg(all(test, feature = "sim"))]
mod sim_tests;
#[cfg(all(test, not(feature = "sim")))]
mod tests;
