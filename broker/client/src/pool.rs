//! The connections of a client, one for each broker and purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::client::ClientConfig;
use crate::connection::{Connection, ConnectionConfig};
use crate::error::{ClientError, ConnectionError};
use crate::metadata::ClusterView;

/// A broker may answer one request of a connection at a time, so what it holds back (a long poll, a
/// rebalance) has connections of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    General,
    Fetch,
    Group,
}

/// One place per address, so that two calls never dial the same broker at once.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

/// Connections by purpose and address. Bounded by the number of brokers: addresses that metadata no longer
/// names go.
#[derive(Debug)]
pub(crate) struct Pool {
    bootstrap: Vec<Arc<str>>,
    config: ConnectionConfig,
    slots: Mutex<BTreeMap<(Purpose, Arc<str>), Slot>>,
    next_bootstrap: AtomicUsize,
    has_connected: AtomicBool,
}

impl Pool {
    pub(crate) fn new(config: &ClientConfig) -> Pool {
        Pool {
            bootstrap: config
                .bootstrap
                .iter()
                .map(|address| Arc::from(address.as_str()))
                .collect(),
            config: config.connection.clone(),
            slots: Mutex::new(BTreeMap::new()),
            next_bootstrap: AtomicUsize::new(0),
            has_connected: AtomicBool::new(false),
        }
    }

    /// Whether any broker has ever answered.
    pub(crate) fn has_connected(&self) -> bool {
        self.has_connected.load(Ordering::Relaxed)
    }

    /// Closes what goes to brokers that are no longer there.
    pub(crate) fn retain_known(&self, view: &ClusterView) {
        let is_known = |address: &Arc<str>| {
            self.bootstrap.contains(address) || view.brokers.values().any(|known| known == address)
        };
        self.slots
            .lock()
            .retain(|(_, address), _| is_known(address));
    }

    /// An open connection, or the first address that takes one: bootstrap in turn, then known brokers.
    pub(crate) async fn any(&self, view: &ClusterView) -> Result<Arc<Connection>, ClientError> {
        if let Some(connection) = self.any_open() {
            return Ok(connection);
        }
        let mut addresses = self.bootstrap.clone();
        let turn = self.next_bootstrap.fetch_add(1, Ordering::Relaxed);
        let count = addresses.len().max(1);
        addresses.rotate_left(turn % count);
        for address in view.brokers.values() {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        let mut last = None;
        for address in &addresses {
            match self.open(Purpose::General, address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            }
        }
        let tried = addresses.join(", ");
        let nothing_tried = || ConnectionError::Closed {
            address: Arc::from(""),
        };
        Err(ClientError::Unreachable {
            addresses: Arc::from(tried),
            source: last.unwrap_or_else(nothing_tried),
        })
    }

    fn any_open(&self) -> Option<Arc<Connection>> {
        let slots = self.slots.lock();
        let general = slots
            .iter()
            .filter(|((purpose, _), _)| *purpose == Purpose::General);
        general.map(|(_, slot)| slot).find_map(|slot| {
            let held = slot.try_lock().ok()?;
            held.as_ref()
                .filter(|connection| !connection.is_closed())
                .cloned()
        })
    }

    /// The connection to `address`, dialled if there is none.
    pub(crate) async fn open(
        &self,
        purpose: Purpose,
        address: &Arc<str>,
    ) -> Result<Arc<Connection>, ConnectionError> {
        let slot = self
            .slots
            .lock()
            .entry((purpose, address.clone()))
            .or_default()
            .clone();
        let mut held = slot.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(Connection::open(address, self.config.clone()).await?);
        self.has_connected.store(true, Ordering::Relaxed);
        *held = Some(connection.clone());
        Ok(connection)
    }
}
