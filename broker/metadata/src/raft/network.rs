//! openraft's network on top of a [`PeerTransport`]: every call has a deadline, and answers are believed
//! only from the member that was asked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::type_config::alias::CommittedLeaderIdOf;
use tidemill_records::NodeId;

use super::files::SnapshotBytes;
use super::peers::{Peer, PeerError, PeerTransport};
use super::rpc::{
    Request, Response, decode_request, decode_response, encode_request, encode_response,
};
use super::{Raft, RaftNode, TypeConfig, Vote};
use crate::identity::Identity;

type RpcError = RPCError<TypeConfig>;

/// An append waits for a disk at the other end, so its deadline is not the heartbeat's.
const APPEND_DEADLINE: Duration = Duration::from_secs(1);

/// Makes clients to peers.
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn PeerTransport>,
    pub(crate) me: Identity,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &RaftNode) -> PeerClient {
        PeerClient {
            transport: Arc::clone(&self.transport),
            me: self.me,
            target,
            node: node.clone(),
        }
    }
}

/// Calls one peer.
pub(crate) struct PeerClient {
    transport: Arc<dyn PeerTransport>,
    me: Identity,
    target: u64,
    node: RaftNode,
}

impl PeerClient {
    async fn call(
        &self,
        action: RPCTypes,
        request: &Request,
        deadline: Duration,
    ) -> Result<Response, RpcError> {
        let node = node_id(self.target);
        let RaftNode {
            directory,
            host,
            port,
        } = self.node.clone();
        let to = Identity {
            cluster_id: self.me.cluster_id,
            node,
            directory,
        };
        let call = self.transport.call(
            Peer {
                node,
                directory,
                host,
                port,
            },
            encode_request(&to, request),
            deadline,
        );
        let timeout = || {
            let id = raft_id(self.me.node);
            RPCError::Timeout(Timeout {
                action,
                id,
                target: self.target,
                timeout: deadline,
            })
        };
        let answer = match tokio::time::timeout(deadline, call).await {
            Err(_) | Ok(Err(PeerError::Timeout)) => return Err(timeout()),
            Ok(Err(error)) => return Err(unreachable(&error)),
            Ok(Ok(answer)) => answer,
        };
        decode_response(&answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RpcError {
    RPCError::Unreachable(Unreachable::new(error))
}

/// The peer answered, but not what was asked.
fn unexpected(response: &Response) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(format!(
        "the peer answered {response:?}"
    )))
}

/// Raft's number for a node.
pub(crate) fn raft_id(node: NodeId) -> u64 {
    u64::try_from(node.0).expect("node ids are checked to be 0 or more")
}

/// The node of a number of Raft's.
pub(crate) fn node_id(raft_id: u64) -> NodeId {
    i32::try_from(raft_id).map_or(NodeId::NONE, NodeId)
}

impl RaftNetworkV2<TypeConfig> for PeerClient {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let deadline = if rpc.entries.is_empty() {
            option.soft_ttl()
        } else {
            APPEND_DEADLINE
        };
        match self
            .call(RPCTypes::AppendEntries, &Request::Append(rpc), deadline)
            .await?
        {
            Response::Append(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self
            .call(RPCTypes::Vote, &Request::Vote(rpc), option.soft_ttl())
            .await?
        {
            Response::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self
            .call(RPCTypes::Vote, &Request::PreVote(rpc), option.soft_ttl())
            .await?
        {
            Response::Vote(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeaderIdOf<TypeConfig>, u64, RaftNode, SnapshotBytes>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let Snapshot {
            meta,
            snapshot: bytes,
        } = snapshot;
        let request = Request::Snapshot { vote, meta, bytes };
        let call = self.call(RPCTypes::InstallSnapshot, &request, option.soft_ttl());
        tokio::select! {
            biased;
            response = call => match response? {
                Response::Snapshot(vote) => Ok(SnapshotResponse::new(vote)),
                other => Err(unexpected(&other).into()),
            },
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let request = Request::TransferLeader(req);
        match self
            .call(RPCTypes::TransferLeader, &request, option.soft_ttl())
            .await?
        {
            Response::TransferLeader(response) => Ok(response),
            other => Err(unexpected(&other)),
        }
    }
}

/// Answers a request that a peer sent to `me`.
pub(crate) async fn answer(raft: &Raft, me: &Identity, request: &[u8]) -> Bytes {
    let response = match decode_request(request) {
        Ok((to, request)) if to == *me => handle(raft, request).await,
        Ok((to, _)) => {
            tracing::warn!(?to, "a peer takes this node for another one");
            Response::NotMe
        }
        Err(error) => {
            tracing::warn!(%error, "a peer sent what cannot be read");
            Response::Malformed
        }
    };
    encode_response(&response)
}

async fn handle(raft: &Raft, request: Request) -> Response {
    let response = match request {
        Request::Append(append) => raft.append_entries(append).await.ok().map(Response::Append),
        Request::Vote(vote) => raft.vote(vote).await.ok().map(Response::Vote),
        Request::PreVote(vote) => raft.pre_vote(vote).await.ok().map(Response::Vote),
        Request::Snapshot { vote, meta, bytes } => {
            let snapshot = Snapshot {
                meta,
                snapshot: bytes,
            };
            let installed = raft.install_full_snapshot(vote, snapshot).await;
            installed
                .ok()
                .map(|response| Response::Snapshot(response.vote))
        }
        Request::TransferLeader(transfer) => raft
            .handle_transfer_leader(transfer)
            .await
            .ok()
            .map(Response::TransferLeader),
    };
    // Every error that remains is the end of Raft on this node.
    response.unwrap_or(Response::Stopped)
}
