//! What everybody on the simulated network knows: what is going on, and what has been told to whom.

use std::cell::{Ref, RefCell, RefMut};
use std::time::Duration;

use tidemill_client::{Client, ClientConfig};
use tokio::sync::watch;

use super::KAFKA;
use super::history::History;
use crate::disk::{CommitWaits, Disk};

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    /// There is no broker.
    Down,
    /// The broker is ready, and the judge looks.
    Checking,
    /// The judge is content, and everybody works.
    Working,
}

pub(super) struct Shared {
    now: watch::Sender<Now>,
    history: RefCell<History>,
    disk: RefCell<Option<Disk>>,
}

impl Shared {
    pub(super) fn new() -> Shared {
        Shared {
            now: watch::Sender::new(Now::Down),
            history: RefCell::default(),
            disk: RefCell::default(),
        }
    }

    pub(super) fn begin_life(&self, disk: Disk) {
        *self.disk.borrow_mut() = Some(disk);
        self.set(Now::Down);
    }

    pub(super) fn now(&self) -> Now {
        *self.now.borrow()
    }

    pub(super) fn set(&self, now: Now) {
        self.now.send_replace(now);
    }

    /// Waits for what is going on to become `now`.
    pub(super) async fn until(&self, now: Now) {
        // The sender lives as long as `self`.
        let _ = self.now.subscribe().wait_for(|found| *found == now).await;
    }

    pub(super) fn is_working(&self) -> bool {
        self.now() == Now::Working
    }

    pub(super) fn history(&self) -> Ref<'_, History> {
        self.history.borrow()
    }

    /// Must not be held over an await.
    pub(super) fn history_mut(&self) -> RefMut<'_, History> {
        self.history.borrow_mut()
    }

    /// An OffsetCommit is on its way, until the guard is dropped.
    pub(super) fn commit_waits(&self) -> Option<CommitWaits> {
        self.disk.borrow().as_ref().map(Disk::commit_waits)
    }
}

/// A client that tries each call again for so long.
pub(super) fn client(deadline: Duration) -> Client {
    let mut config = ClientConfig::new(vec![KAFKA.to_owned()]);
    config.deadline = deadline;
    config.connection.connect_timeout = Duration::from_secs(1);
    config.connection.request_timeout = Duration::from_secs(10);
    Client::new(config)
}
