//! The seam to the other nodes: somebody else moves the bytes, this crate makes and understands them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tidemill_records::NodeId;
use uuid::Uuid;

/// A member of the Raft group, as the group knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its node id.
    pub node: NodeId,
    /// Its data directory. A node that comes back with another directory is not this member.
    pub directory: Uuid,
    /// Where its internal listener is.
    pub host: String,
    /// Where its internal listener is.
    pub port: u16,
}

/// Why a peer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached for now.
    #[error("the peer cannot be reached: {0}")]
    Unreachable(io::Error),
    /// No answer came in time.
    #[error("the peer did not answer in time")]
    Timeout,
}

/// Carries requests to other nodes, whose [`crate::Metadata::handle_peer`] answers them.
pub trait PeerTransport: Send + Sync + 'static {
    /// Sends `request` to `peer` and brings back its answer. Neither is looked into. After `deadline`
    /// the caller has stopped listening.
    fn call(
        &self,
        peer: Peer,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// The transport of a node that is alone.
#[derive(Debug, Clone, Copy)]
pub struct NoPeers;

impl PeerTransport for NoPeers {
    fn call(
        &self,
        _peer: Peer,
        _request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let error = io::Error::new(io::ErrorKind::Unsupported, "this node has no peers");
        Box::pin(std::future::ready(Err(PeerError::Unreachable(error))))
    }
}
