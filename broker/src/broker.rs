//! A running broker: puts the parts together, starts them in order, stops them in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidemill_client::net::{self, TcpListener};
use tidemill_log::{LogDir, LogDirConfig, LogError, RecoveryReport};
use tidemill_metadata::{
    BrokerEpoch, Command, LevelRange, Listener, Metadata, MetadataConfig, MetadataLog, NoPeers,
    Outcome,
};
use tidemill_records::NodeId;
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::{Fs, Lock};
use tidemill_storage::spawn::{self, ThreadHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{self, Health};
use crate::authorizer::Authorizer;
use crate::config::BrokerConfig;
use crate::error::StartError;
use crate::fetch_session::FetchSessions;
use crate::group::GroupCoordinator;
use crate::metrics::Metrics;
use crate::partitions::{CoordinatorChange, Partitions};
use crate::producer_ids::ProducerIds;
use crate::random::Random;
use crate::server::Server;
use crate::server::context::{ListenerName, RequestContext};
use crate::server::memory::MemoryBudget;
use crate::tiering::{DiskLimit, Tier};
use crate::transform::{self, Transforms};

/// A start on a full disk looks again after so long.
const SPACE_RETRY: Duration = Duration::from_secs(1);
/// How often what logs take of the disk is measured anew.
const DISK_MEASURED_EVERY: Duration = Duration::from_millis(500);
/// Connections that are still answering at shutdown are given this long.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What lies outside of the broker and differs in a simulation.
pub struct Environment {
    /// Files.
    pub fs: Arc<dyn Fs>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Seed of all randomness.
    pub seed: u64,
}

/// Everything that handlers work with.
pub(crate) struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) metadata: Arc<Metadata>,
    /// This start's registration.
    pub(crate) epoch: BrokerEpoch,
    pub(crate) logs: Arc<LogDir>,
    pub(crate) partitions: Partitions,
    pub(crate) tier: Option<Arc<Tier>>,
    pub(crate) disk: DiskLimit,
    pub(crate) groups: GroupCoordinator,
    pub(crate) transforms: Transforms,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) producer_ids: ProducerIds,
    pub(crate) authorizer: Authorizer,
    pub(crate) request_memory: Arc<MemoryBudget>,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
}

impl Broker {
    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.config.node_id)
    }

    /// Bytes of the data directory's file system, and how many are free; -1 where the system does not say.
    pub(crate) fn disk_space(&self) -> (i64, i64) {
        match rustix::fs::statvfs(&self.config.data_dir) {
            Ok(found) => (
                (found.f_blocks * found.f_frsize) as i64,
                (found.f_bavail * found.f_frsize) as i64,
            ),
            Err(_) => (-1, -1),
        }
    }

    /// Where a client of this request's listener reaches a broker. This one is reached where the client
    /// reached it, unless an address is advertised.
    pub(crate) fn address_of(
        &self,
        node: NodeId,
        context: &RequestContext,
    ) -> Option<(String, u16)> {
        if node == self.node() && context.listener == ListenerName::Kafka {
            let inferred = || {
                (
                    context.local_addr.ip().to_string(),
                    context.local_addr.port(),
                )
            };
            return Some(self.config.advertise.clone().unwrap_or_else(inferred));
        }
        let image = self.metadata.image();
        let listener = image.broker(node)?.listener(context.listener.as_str())?;
        Some((listener.host.to_string(), listener.port))
    }
}

/// A started broker. Dropping it without [`RunningBroker::shutdown`] is a crash.
pub struct RunningBroker {
    broker: Arc<Broker>,
    addresses: Addresses,
    servers: Vec<Arc<Server>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    threads: Vec<ThreadHandle>,
    tiering: Option<JoinHandle<()>>,
    transforms: transform::Running,
    recovery: RecoveryReport,
    _lock: Box<dyn Lock>,
}

/// Where a broker really listens (ports that were asked for as 0 are known here).
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// For Kafka clients.
    pub kafka: SocketAddr,
    /// HTTP.
    pub admin: SocketAddr,
    /// For other brokers.
    pub internal: SocketAddr,
}

struct Listeners {
    kafka: TcpListener,
    admin: TcpListener,
    internal: TcpListener,
    addresses: Addresses,
}

impl RunningBroker {
    /// Recovers what is in the data directory, binds the listeners and serves.
    pub async fn start(config: BrokerConfig, environment: Environment) -> Result<Self, StartError> {
        let Environment { fs, clock, seed } = environment;
        let dir = config.data_dir.clone();
        fs.create_dir_all(&dir)
            .map_err(|source| StartError::DataDir {
                dir: dir.clone(),
                source,
            })?;
        let lock = fs
            .lock(&dir.join("LOCK"))
            .map_err(|source| StartError::locked(dir.clone(), source))?;
        // Before recovery: a port that is taken should not cost a minute of replay first.
        let listeners = Listeners::bind(&config).await?;
        let random = Random::new(seed);
        refuse_orphaned_logs(&*fs, &config)?;
        let metadata = Metadata::open(
            fs.clone(),
            MetadataConfig::new(&dir, NodeId(config.node_id)),
            Arc::new(NoPeers),
            || random.next_uuid(),
        )
        .await?;
        let metadata = Arc::new(metadata);
        let transforms = Transforms::new(fs.clone(), &config, clock.clone())?;
        let (logs, recovery) = open_logs(fs, &config, &clock).await?;
        let epoch = register(&metadata, &config, &random, &listeners.addresses).await?;
        let tier = Tier::open(&config, &metadata, &random).await?;
        let groups = GroupCoordinator::new(config.group.clone(), clock.clone());
        let broker = Arc::new(Broker {
            clock,
            metadata,
            epoch,
            tier,
            disk: DiskLimit::new(config.data_dir_bytes_max),
            partitions: Partitions::new(NodeId(config.node_id)),
            groups,
            transforms,
            fetch_sessions: FetchSessions::new(config.fetch_session_slots_max),
            producer_ids: ProducerIds::default(),
            authorizer: Authorizer,
            request_memory: MemoryBudget::new(config.network.queued_bytes_max),
            metrics: Metrics::new(),
            health: Health::default(),
            random,
            logs,
            config,
        });
        Ok(Self::serve(broker, listeners, recovery, lock).await)
    }

    async fn serve(
        broker: Arc<Broker>,
        listeners: Listeners,
        recovery: RecoveryReport,
        lock: Box<dyn Lock>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut images = broker.metadata.watch();
        images.mark_changed();
        let first = broker.metadata.image().index();
        let mut threads = vec![
            spawn::spawn_thread("partitions", {
                let (broker, stopped) = (broker.clone(), stopped.clone());
                move || follow_metadata(broker, images, stopped)
            }),
            spawn::spawn_thread("retention", {
                let (broker, stopped) = (broker.clone(), stopped.clone());
                let timers = tokio::runtime::Handle::current();
                move || apply_retention(broker, timers, stopped)
            }),
        ];
        broker.partitions.wait_applied(first).await;
        if broker.disk.bytes_max().is_some() {
            let (broker, stopped) = (broker.clone(), stopped.clone());
            threads.push(spawn::spawn_thread("disk", {
                let timers = tokio::runtime::Handle::current();
                move || measure_disk(broker, timers, stopped)
            }));
        }
        let tiering = broker
            .tier
            .clone()
            .map(|tier| tier.start(broker.clone(), stopped.clone()));
        let transforms = Transforms::start(&broker);
        let Listeners {
            kafka,
            admin,
            internal,
            addresses,
        } = listeners;
        let clients = Server::new(broker.clone(), ListenerName::Kafka, stopped.clone());
        let brokers = Server::new(broker.clone(), ListenerName::Internal, stopped.clone());
        let tasks = vec![
            tokio::spawn(clients.clone().run(kafka)),
            tokio::spawn(brokers.clone().run(internal)),
            tokio::spawn(admin::run(broker.clone(), admin, stopped)),
        ];
        broker.health.set_ready();
        broker.logs.wal().preallocate_in_background();
        broker.metadata.preallocate_in_background();
        let servers = vec![clients, brokers];
        Self {
            broker,
            addresses,
            servers,
            stop,
            tasks,
            threads,
            tiering,
            transforms,
            recovery,
            _lock: lock,
        }
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What recovery found.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Stops in the order in which things depend on each other: no new connections, answers to what was
    /// asked, groups, metadata, logs.
    pub async fn shutdown(self) -> Result<(), StartError> {
        self.broker.health.set_draining();
        // First of all, while everything is there that a last commit needs.
        self.transforms.stop(&self.broker).await;
        self.stop.send_replace(true);
        // Before connections are drained: a JoinGroup may otherwise be waited for over minutes.
        self.broker.groups.shutdown().await;
        for server in &self.servers {
            if tokio::time::timeout(DRAIN_MAX, server.drained())
                .await
                .is_err()
            {
                tracing::warn!("connections still open after {DRAIN_MAX:?} are dropped");
            }
        }
        for task in self.tasks {
            task.abort();
        }
        for thread in self.threads {
            thread.join().await;
        }
        if let Some(tiering) = self.tiering
            && let Err(error) = tiering.await
        {
            tracing::error!(%error, "the tier's work ended by panic");
        }
        self.broker.logs.close().await?;
        self.broker.metadata.close().await;
        Ok(())
    }
}

impl Listeners {
    async fn bind(config: &BrokerConfig) -> Result<Self, StartError> {
        let kafka = bind("listen", config.listen).await?;
        let admin = bind("admin-listen", config.admin_listen).await?;
        let internal = bind("internal-listen", config.internal_listen).await?;
        let local = |listener: &TcpListener| listener.local_addr().map_err(StartError::Socket);
        let addresses = Addresses {
            kafka: local(&kafka)?,
            admin: local(&admin)?,
            internal: local(&internal)?,
        };
        Ok(Self {
            kafka,
            admin,
            internal,
            addresses,
        })
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = net::listen(&address.to_string()).await;
    bound.map_err(|source| StartError::Bind {
        flag,
        address,
        source,
    })
}

/// Logs without metadata would all be deleted as strangers: better not to start.
fn refuse_orphaned_logs(fs: &dyn Fs, config: &BrokerConfig) -> Result<(), StartError> {
    let is_empty = |name: &str| match fs.read_dir(&config.data_dir.join(name)) {
        Ok(entries) => Ok(entries.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(StartError::DataDir {
            dir: config.data_dir.join(name),
            source,
        }),
    };
    if is_empty("meta")? && !is_empty("topics")? {
        return Err(StartError::LogsWithoutMetadata(config.data_dir.clone()));
    }
    Ok(())
}

/// Opens the log directory. What is to be recovered needs space; nothing is lost by waiting for it.
async fn open_logs(
    fs: Arc<dyn Fs>,
    config: &BrokerConfig,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<LogDir>, RecoveryReport), LogError> {
    loop {
        match LogDir::open(fs.clone(), log_dir_config(config), clock.clone()) {
            Err(error) if error.is_disk_full() => {
                tracing::error!(%error, "no space to recover; waiting for some");
                tokio::time::sleep(SPACE_RETRY).await;
            }
            opened => return opened,
        }
    }
}

fn log_dir_config(config: &BrokerConfig) -> LogDirConfig {
    let mut log_dir = LogDirConfig::new(&config.data_dir);
    log_dir.checkpoint_interval = config.wal_checkpoint_interval;
    log_dir.checkpoint_wal_bytes = config.wal_checkpoint_bytes;
    log_dir.tail_cache_bytes = config.tail_cache_bytes_max;
    log_dir.producer_id_expiration_ms = config.producer_id_expiration.as_millis() as i64;
    log_dir
}

async fn register(
    metadata: &Metadata,
    config: &BrokerConfig,
    random: &Random,
    addresses: &Addresses,
) -> Result<BrokerEpoch, StartError> {
    let advertised = match &config.advertise {
        Some((host, port)) => (host.as_str().into(), *port),
        None => (
            addresses.kafka.ip().to_string().into(),
            addresses.kafka.port(),
        ),
    };
    let listeners = vec![
        Listener {
            name: ListenerName::Kafka.as_str().into(),
            host: advertised.0,
            port: advertised.1,
        },
        Listener {
            name: ListenerName::Internal.as_str().into(),
            host: addresses.internal.ip().to_string().into(),
            port: addresses.internal.port(),
        },
    ];
    let command = Command::RegisterBroker {
        node: NodeId(config.node_id),
        incarnation: random.next_uuid(),
        directory: metadata.identity().directory,
        rack: config.rack.as_deref().map(Into::into),
        listeners,
        levels: LevelRange::OURS,
        fenced: false,
    };
    match metadata.propose(command).await? {
        Outcome::BrokerRegistered(epoch) => Ok(epoch),
        other => unreachable!("a registration is not answered with {other:?}"),
    }
}

/// Keeps partitions and coordinators in step with the metadata, one image after the other.
async fn follow_metadata(
    broker: Arc<Broker>,
    mut images: watch::Receiver<Arc<tidemill_metadata::MetadataImage>>,
    mut stopped: watch::Receiver<bool>,
) {
    broker
        .partitions
        .sort_out_strays(&images.borrow(), &broker.logs);
    loop {
        tokio::select! {
            changed = images.changed() => if changed.is_err() { return },
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
        }
        let image = images.borrow_and_update().clone();
        let changes = broker
            .partitions
            .apply(&image, &broker.logs, &broker.config.topic_defaults);
        for change in changes {
            match change {
                CoordinatorChange::Leads(partition) => broker.groups.on_leads(&broker, &partition),
                CoordinatorChange::Resigned(name) => broker.groups.on_resigned(&name),
                CoordinatorChange::TopicDeleted(name) => broker.groups.on_topic_deleted(&name),
            }
        }
    }
}

/// Keeps the figure of what logs take of the disk true.
async fn measure_disk(
    broker: Arc<Broker>,
    timers: tokio::runtime::Handle,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let logs = broker.logs.partitions();
        broker
            .disk
            .measured(logs.iter().map(|log| log.size_bytes()).sum());
        let pause = {
            let _context = timers.enter();
            tokio::time::sleep(DISK_MEASURED_EVERY)
        };
        tokio::select! {
            () = pause => {}
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
        }
    }
}

/// Deletes what retention no longer keeps, on a thread of its own since it touches the disk.
async fn apply_retention(
    broker: Arc<Broker>,
    timers: tokio::runtime::Handle,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        // Timers belong to the runtime; this thread borrows them. Only making one needs its context.
        let pause = {
            let _context = timers.enter();
            tokio::time::sleep(broker.config.log_retention_check_interval)
        };
        tokio::select! {
            () = pause => {}
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
        }
        let now_ms = broker.clock.now_ms();
        for partition in broker.partitions.all() {
            if let Err(error) = partition.log.apply_retention(now_ms) {
                tracing::warn!(partition = %partition.name, %error, "cannot apply retention");
            }
        }
    }
}
