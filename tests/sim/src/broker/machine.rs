//! The broker's machine: starts the broker on the disk of the current life.

use std::cell::RefCell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidemill::broker::{Environment, RunningBroker};
use tidemill::config::BrokerConfig;
use tokio::sync::Notify;

use super::stage::{Now, Shared};
use crate::choices::Choices;
use crate::clock::TurmoilClock;
use crate::disk::{Disk, Phase};

pub(super) struct Machine {
    config: BrokerConfig,
    shared: Rc<Shared>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// None before the first life.
    inserted: Option<(Disk, u64)>,
    stop: Rc<Notify>,
    has_stopped: bool,
}

impl Machine {
    pub(super) fn new(choices: &mut Choices, shared: Rc<Shared>) -> Machine {
        Machine {
            config: settings(choices),
            shared,
            state: RefCell::default(),
        }
    }

    /// The disk and the seed of the next start.
    pub(super) fn insert(&self, disk: Disk, seed: u64) {
        *self.state.borrow_mut() = State {
            inserted: Some((disk, seed)),
            ..State::default()
        };
    }

    pub(super) fn order_to_stop(&self) {
        self.state.borrow().stop.notify_one();
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.state.borrow().has_stopped
    }

    /// Starts the broker and keeps it until it is told to stop. Without power, nothing happens any more.
    pub(super) async fn run(self: Rc<Self>) -> turmoil::Result {
        let (inserted, stop) = {
            let state = self.state.borrow();
            (state.inserted.clone(), state.stop.clone())
        };
        let Some((disk, seed)) = inserted else {
            return pending().await;
        };
        let environment = Environment {
            fs: Arc::new(disk.clone()),
            clock: Arc::new(TurmoilClock),
            seed,
        };
        let broker = match RunningBroker::start(self.config.clone(), environment).await {
            Ok(broker) => broker,
            Err(_) if disk.fs().is_crashed() => return pending().await,
            Err(error) => {
                return Err(format!(
                    "the broker does not start: {:#}",
                    anyhow::Error::from(error)
                )
                .into());
            }
        };
        let quarantined = &broker.recovery().quarantined;
        if !quarantined.is_empty() {
            return Err(format!("quarantined: {quarantined:?}").into());
        }
        disk.set_phase(Phase::Serving);
        self.shared.set(Now::Checking);
        stop.notified().await;
        disk.set_phase(Phase::Ending);
        let ended = broker.shutdown().await;
        if !disk.fs().is_crashed() {
            ended.map_err(|error| {
                format!(
                    "the broker does not end well: {:#}",
                    anyhow::Error::from(error)
                )
            })?;
        }
        self.state.borrow_mut().has_stopped = true;
        pending().await
    }
}

/// Small bounds, so that everything that happens now and then happens often.
fn settings(choices: &mut Choices) -> BrokerConfig {
    let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let mut config = BrokerConfig {
        data_dir: super::DATA_DIR.into(),
        listen: any(9092),
        admin_listen: any(9644),
        internal_listen: any(9093),
        advertise: Some((super::BROKER.to_owned(), 9092)),
        auto_create_topics_enable: false,
        log_retention_check_interval: Duration::from_millis(choices.pick(&[100, 400])),
        tail_cache_bytes_max: choices.pick(&[0, 16 << 10, 64 << 20]),
        wal_checkpoint_bytes: choices.pick(&[16 << 10, 128 << 10, 512 << 20]),
        wal_checkpoint_interval: Duration::from_millis(choices.pick(&[50, 300, 2_000])),
        ..BrokerConfig::default()
    };
    config.group.initial_rebalance_delay = Duration::ZERO;
    config.group.offsets_topic_partitions = choices.pick(&[1, 3]);
    config.group.offsets_topic_segment_bytes = choices.pick(&[2 << 10, 100 << 20]);
    config
}
