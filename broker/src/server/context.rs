//! What a handler knows of the request besides its body.

use std::net::SocketAddr;
use std::sync::Arc;

use tidemill_protocol::Str;

/// Who is at the other end; `User:ANONYMOUS` on listeners without authentication, as in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal(pub(crate) Arc<str>);

impl std::fmt::Display for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named listener: clients are answered with the addresses that belong to the one they came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ListenerName {
    /// For clients.
    Kafka,
    /// For other brokers.
    Internal,
}

impl ListenerName {
    /// The name as it stands in metadata.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA",
            Self::Internal => "INTERNAL",
        }
    }
}

/// What all requests of one connection share.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    /// Authenticated identity of the connection.
    pub(crate) principal: Principal,
    /// Listener that accepted the connection.
    pub(crate) listener: ListenerName,
    /// Address that the client connected to, which is what it is told when nothing is advertised.
    pub(crate) local_addr: SocketAddr,
    /// Host of the client as Kafka prints it (`/127.0.0.1`).
    pub(crate) client_host: Arc<str>,
}

/// One request's surroundings.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    connection: Arc<ConnectionContext>,
    /// Memory that stays in use for as long as any byte of this request does.
    pub(crate) pinned_bytes: usize,
    /// Client id of this request's header; empty when null.
    pub(crate) client_id: Str,
    /// Whether records may be appended: the logs are not stuck on a disk that takes no more.
    pub(crate) logs_have_room: bool,
}

impl RequestContext {
    /// A request of this connection.
    pub(crate) fn new(
        connection: Arc<ConnectionContext>,
        client_id: Str,
        logs_have_room: bool,
    ) -> Self {
        Self {
            connection,
            pinned_bytes: 0,
            client_id,
            logs_have_room,
        }
    }
}

impl std::ops::Deref for RequestContext {
    type Target = ConnectionContext;

    fn deref(&self) -> &ConnectionContext {
        &self.connection
    }
}
