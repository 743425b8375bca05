//! Listeners and connections: accepting, bounds on how many, shutdown.

mod connection;
pub(crate) mod context;
mod frame;
pub(crate) mod memory;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_client::net::{self, TcpListener, TcpStream};
use tokio::sync::watch;

use crate::broker::Broker;
use connection::ConnectionError;
use context::ListenerName;

/// After a failed accept (no file descriptors left, say) the next one waits this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections now, all together and by address.
#[derive(Debug, Default)]
struct Connections {
    count: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// Accepts connections of one listener until shutdown, then waits until they are gone.
pub(crate) struct Server {
    broker: Arc<Broker>,
    listener_name: ListenerName,
    connections: Arc<Mutex<Connections>>,
    next_id: AtomicU64,
    shutdown: watch::Receiver<bool>,
    /// Held by every connection: closed when the last one is gone.
    alive: watch::Sender<()>,
}

impl Server {
    pub(crate) fn new(
        broker: Arc<Broker>,
        listener_name: ListenerName,
        shutdown: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            broker,
            listener_name,
            connections: Arc::default(),
            next_id: AtomicU64::new(0),
            shutdown,
            alive: watch::Sender::new(()),
        })
    }

    /// Runs until shutdown is said.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut shutdown = self.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|is_shutdown| *is_shutdown) => return,
            };
            match accepted {
                Ok((stream, peer)) => self.clone().admit(stream, peer.ip()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Waits until the last connection has ended.
    pub(crate) async fn drained(&self) {
        self.alive.closed().await;
    }

    fn admit(self: Arc<Self>, stream: TcpStream, ip: IpAddr) {
        let Some(slot) = Slot::take(&self.connections, ip, &self.broker.config.network) else {
            self.broker.metrics.connection_refused();
            tracing::warn!(%ip, "too many connections, one was refused");
            return;
        };
        if net::prepare(&stream).is_err() {
            return;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.broker.metrics.connection_opened();
        let alive = self.alive.subscribe();
        tokio::spawn(async move {
            let shutdown = self.shutdown.clone();
            let ended =
                connection::serve(stream, self.listener_name, self.broker.clone(), shutdown).await;
            self.broker.metrics.connection_closed();
            if let Err(error) = ended {
                self.log_end(id, ip, &error);
            }
            drop((slot, alive));
        });
    }

    fn log_end(&self, connection_id: u64, ip: IpAddr, error: &ConnectionError) {
        if let ConnectionError::Io(error) = error
            && matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        {
            tracing::debug!(connection_id, %ip, %error, "connection ended");
            return;
        }
        self.broker.metrics.connection_failed(error.reason());
        tracing::info!(connection_id, %ip, %error, "connection closed");
    }
}

/// One connection's place under the bounds.
struct Slot {
    connections: Arc<Mutex<Connections>>,
    ip: IpAddr,
}

impl Slot {
    fn take(
        connections: &Arc<Mutex<Connections>>,
        ip: IpAddr,
        bounds: &crate::config::NetworkConfig,
    ) -> Option<Self> {
        let mut now = connections.lock();
        if now.count >= bounds.connections_max {
            return None;
        }
        let from_ip = now.by_ip.entry(ip).or_default();
        if *from_ip >= bounds.connections_per_ip_max {
            return None;
        }
        *from_ip += 1;
        now.count += 1;
        Some(Self {
            connections: connections.clone(),
            ip,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut now = self.connections.lock();
        now.count -= 1;
        if let Some(from_ip) = now.by_ip.get_mut(&self.ip) {
            *from_ip -= 1;
            if *from_ip == 0 {
                now.by_ip.remove(&self.ip);
            }
        }
    }
}
