//! Brokers as the cluster knows them.

use std::fmt;
use std::sync::Arc;

use tidemill_records::NodeId;
use uuid::Uuid;

use crate::level::LevelRange;

/// Numbers the registrations of brokers: the Raft index of the registration, so it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerEpoch(pub i64);

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a broker can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The listener's name; unique within the broker.
    pub name: Arc<str>,
    /// Host name or address, as advertised.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its node id.
    pub id: NodeId,
    /// Drawn anew by every start of the broker's process.
    pub incarnation: Uuid,
    /// Identity of its data directory.
    pub directory: Uuid,
    /// Number of this registration.
    pub epoch: BrokerEpoch,
    /// A fenced broker leads nothing and is in no ISR.
    pub fenced: bool,
    /// Its rack, for placing replicas.
    pub rack: Option<Arc<str>>,
    /// Where it listens.
    pub listeners: Arc<[Listener]>,
    /// The metadata levels that its release understands.
    pub levels: LevelRange,
}

impl BrokerImage {
    /// The listener called `name`.
    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|listener| &*listener.name == name)
    }
}
