//! Transforms: functions that run on the records of a topic and write to others.
//!
//! *Artifacts* ([`artifacts`]) are records of an internal topic, and compiled once on each broker ([`compiled`]). A *transform* is
//! their deployment in the metadata ([`deploy`]). The [`manager`] keeps one [`task`] running for each partition of its source that
//! this broker leads, whose [`life`] is: read at the committed offset ([`source`]), run the function on its own threads, append to the
//! sinks ([`sink`]), commit ([`commits`], [`position`]). At least once: what was appended after the last commit is appended again
//! after a crash.

mod artifacts;
mod commits;
mod compiled;
mod control;
mod dead_letters;
mod deploy;
mod figures;
mod function_logs;
mod life;
mod manager;
mod position;
mod sink;
mod source;
mod status;
mod stock;
mod task;
mod trouble;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_metadata::FunctionId;
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::Fs;
use tidemill_storage::spawn::{self, ThreadHandle};
use tidemill_transforms::Host;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub(crate) use control::ControlError;
pub(crate) use deploy::Deployed;
pub(crate) use figures::{TaskFigures, TaskState};
pub(crate) use position::is_transform_group;
pub(crate) use status::{
    FunctionStatus, PartitionOffset, Rewound, TaskStatus, TransformDetails, TransformStatus,
    VersionStatus,
};
pub(crate) use stock::stock;

use crate::broker::Broker;
use crate::error::StartError;
use artifacts::Artifacts;
use compiled::Compiled;
use figures::Tasks;
use function_logs::FunctionLogs;

/// Where artifacts are kept, in chunks.
pub(crate) const FUNCTIONS_TOPIC: &str = "_tidemill.functions";
/// Where the lines go that functions log.
pub(crate) const FUNCTION_LOGS_TOPIC: &str = "_tidemill.function_logs";
/// Groups of transforms: clients may read what they have committed, and commit nothing themselves.
pub(crate) const GROUP_PREFIX: &str = "_tidemill.transform.";

/// Instances that are kept for their next frame.
const INSTANCES_MAX: usize = 256;
/// Opened, a large batch takes up to 64 MiB.
const LARGE_BATCHES_MAX: usize = 8;
/// Cores that functions leave to those that answer clients, where there are more than that. Nicer threads instead would do so
/// only while nobody saturates the machine: measured on Linux 6.18, other processes then waited for up to seconds.
const CORES_LEFT: usize = 1;

/// The functions and transforms of this broker.
pub(crate) struct Transforms {
    host: Host,
    artifacts: Artifacts,
    compiled: Compiled,
    logs: FunctionLogs,
    tasks: Tasks,
    /// One for each task that holds the records of a large batch.
    large_batches: Arc<Semaphore>,
    /// A deployment at a time, so that two of one name see each other.
    deploying: tokio::sync::Mutex<()>,
    /// A new artifact at a time: compiling one takes up to about 1 GiB.
    compiling: tokio::sync::Mutex<()>,
    /// Functions that somebody is loading or has loaded.
    loaded: Mutex<HashMap<FunctionId, Arc<compiled::Loading>>>,
}

/// What [`Transforms::start`] has started.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    threads: Vec<ThreadHandle>,
    manager: JoinHandle<()>,
    logs: JoinHandle<()>,
}

impl Transforms {
    /// Makes the host; nothing runs yet.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        config: &crate::config::BrokerConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let host = Host::new(INSTANCES_MAX).map_err(StartError::Functions)?;
        let dir = config.data_dir.join("cache").join("functions");
        Ok(Self {
            compiled: Compiled::new(fs, dir, host.compatibility()),
            host,
            artifacts: Artifacts::default(),
            logs: FunctionLogs::new(),
            tasks: Tasks::new(clock),
            large_batches: Arc::new(Semaphore::new(LARGE_BATCHES_MAX)),
            deploying: tokio::sync::Mutex::default(),
            compiling: tokio::sync::Mutex::default(),
            loaded: Mutex::default(),
        })
    }

    /// Starts the threads of functions and the manager of tasks.
    pub(crate) fn start(broker: &Arc<Broker>) -> Running {
        let (stop, stopped) = watch::channel(false);
        let this = &broker.transforms;
        let workers = this.host.workers();
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
        let mut threads: Vec<ThreadHandle> = (0..cores.saturating_sub(CORES_LEFT).max(1))
            .map(|_| {
                let workers = workers.clone();
                spawn::spawn_thread("function", move || workers.work())
            })
            .collect();
        let clock = workers.clone();
        threads.push(spawn::spawn_thread("function-clock", move || clock.tick()));
        Running {
            stop,
            threads,
            manager: tokio::spawn(manager::run(broker.clone(), stopped.clone())),
            logs: tokio::spawn(function_logs::run(broker.clone(), stopped)),
        }
    }

    /// How tasks of this broker stand.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Lines of functions that were not written.
    pub(crate) fn log_lines_dropped(&self) -> u64 {
        self.logs.dropped()
    }

    /// Instances that wait for their next frame.
    pub(crate) fn instances(&self) -> usize {
        self.host.instances().count()
    }
}

impl Running {
    /// Lets all tasks commit what they have written, then ends the threads.
    pub(crate) async fn stop(self, broker: &Broker) {
        self.stop.send_replace(true);
        if self.manager.await.is_err() {
            tracing::error!("the manager of transforms ended by panic");
        }
        broker.transforms.host.workers().stop();
        for thread in self.threads {
            thread.join().await;
        }
        if self.logs.await.is_err() {
            tracing::error!("the log of functions ended by panic");
        }
    }
}
