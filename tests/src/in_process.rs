//! A broker inside the test's own process, on a runtime of its own, so that it is stopped in order however
//! the test ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidemill::broker::{Addresses, Environment, RunningBroker};
use tidemill::config::BrokerConfig;
use tidemill::error::StartError;
use tidemill_client::{Client, ClientConfig};
use tidemill_storage::clock::SystemClock;
use tidemill_storage::fs::{Fs, RealFs};
use tokio::runtime::Runtime;

use crate::LIMIT;
use crate::wire::Wire;

/// Free ports on the loopback interface, and no waiting for group members that nobody announced.
pub fn fast_config(data_dir: &Path) -> BrokerConfig {
    let local = ([127, 0, 0, 1], 0).into();
    let mut config = BrokerConfig {
        data_dir: data_dir.to_owned(),
        listen: local,
        admin_listen: local,
        internal_listen: local,
        ..BrokerConfig::default()
    };
    config.group.initial_rebalance_delay = Duration::from_millis(20);
    config.group.session_timeout_min = Duration::from_millis(100);
    config.group.offsets_topic_partitions = 4;
    config
}

/// A broker with its data directory.
pub struct TestBroker {
    // In the order in which they have to go: the broker, its runtime, its files.
    running: Option<RunningBroker>,
    runtime: Option<Runtime>,
    addresses: Addresses,
    config: BrokerConfig,
    fs: Arc<dyn Fs>,
    dir: Arc<TempDir>,
}

impl TestBroker {
    /// A broker with [`fast_config`] on real files.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with settings of its own.
    pub async fn start_with(adjust: impl FnOnce(&mut BrokerConfig)) -> Self {
        Self::start_on(Arc::new(RealFs), adjust).await
    }

    /// The same on other files.
    pub async fn start_on(fs: Arc<dyn Fs>, adjust: impl FnOnce(&mut BrokerConfig)) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let mut config = fast_config(&dir.path().join("data"));
        adjust(&mut config);
        Self::open(fs, config, dir)
            .await
            .expect("the broker starts")
    }

    async fn open(
        fs: Arc<dyn Fs>,
        config: BrokerConfig,
        dir: Arc<TempDir>,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("broker")
            .enable_all()
            .build()
            .expect("a runtime");
        let environment = Environment {
            fs: fs.clone(),
            clock: Arc::new(SystemClock::new()),
            seed: 1,
        };
        let start = RunningBroker::start(config.clone(), environment);
        let started = tokio::time::timeout(LIMIT, runtime.spawn(start)).await;
        let started = started
            .expect("the start ends")
            .expect("the start does not panic");
        let running = match started {
            Ok(running) => running,
            Err(error) => {
                runtime.shutdown_background();
                return Err(error);
            }
        };
        let addresses = running.addresses();
        Ok(Self {
            running: Some(running),
            runtime: Some(runtime),
            addresses,
            config,
            fs,
            dir,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// What its last start found in the data directory.
    pub fn recovery(&self) -> &tidemill_log::RecoveryReport {
        self.running.as_ref().expect("it runs").recovery()
    }

    /// A connection that can say anything.
    pub async fn wire(&self) -> Wire {
        Wire::connect(self.addresses.kafka).await
    }

    /// An ordinary client.
    pub fn client(&self) -> Arc<Client> {
        let mut config = ClientConfig::new(vec![self.addresses.kafka.to_string()]);
        config.deadline = Duration::from_secs(10);
        Arc::new(Client::new(config))
    }

    /// Stops as SIGTERM does.
    pub async fn stop(&mut self) {
        let running = self.running.take().expect("it runs");
        let runtime = self.runtime.take().expect("it runs");
        let stopping = runtime.spawn(running.shutdown());
        let stopped = tokio::time::timeout(LIMIT, stopping).await;
        runtime.shutdown_background();
        let stopped = stopped
            .expect("the shutdown ends")
            .expect("the shutdown does not panic");
        stopped.expect("the shutdown succeeds");
    }

    /// Starts again on the same files after [`Self::stop`].
    pub async fn start_again(&mut self) {
        let opened = Self::open(self.fs.clone(), self.config.clone(), self.dir.clone()).await;
        *self = opened.expect("the broker starts again");
    }

    /// Stops as SIGTERM does and starts again on the same files, with settings of its own.
    pub async fn restart_with(&mut self, adjust: impl FnOnce(&mut BrokerConfig)) {
        self.stop().await;
        let mut config = self.config.clone();
        adjust(&mut config);
        let opened = Self::open(self.fs.clone(), config, self.dir.clone()).await;
        *self = opened.expect("the broker starts again");
    }

    /// Stops as SIGTERM does and starts again on the same files.
    pub async fn restart(&mut self) {
        self.restart_with(|_| {}).await;
    }

    /// Stops as SIGTERM does, and tries to start with settings that should not do.
    pub async fn fail_to_restart_with(
        &mut self,
        adjust: impl FnOnce(&mut BrokerConfig),
    ) -> StartError {
        self.stop().await;
        let mut config = self.config.clone();
        adjust(&mut config);
        match Self::open(self.fs.clone(), config, self.dir.clone()).await {
            Ok(_) => panic!("the broker started"),
            Err(error) => error,
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        let (Some(running), Some(runtime)) = (self.running.take(), self.runtime.take()) else {
            return;
        };
        // A runtime may not be waited for inside of another.
        let stopping = std::thread::spawn(move || {
            // A test that fails may leave a broker that does not stop cleanly; its own words matter more.
            let _ = runtime.block_on(running.shutdown());
            runtime.shutdown_background();
        });
        let _ = stopping.join();
    }
}
