//! Starting a node: the identity is checked, the log and the snapshot are read, and a node that is
//! alone leads at once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{Fatal, InitializeError, RaftError};
use openraft::{Config, ConfigError, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tidemill_records::NodeId;
use tidemill_storage::fs::Fs;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::{Metadata, supervisor};
use crate::command::Command;
use crate::identity::{self, Identity, IdentityError};
use crate::image::MetadataImage;
use crate::level::MetadataLevel;
use crate::log::{BarrierError, Failure, ProposeError};
use crate::raft::files::MetaFiles;
use crate::raft::log_store::{FILE_BYTES, LogOpenError, LogStore};
use crate::raft::network::{Network, raft_id};
use crate::raft::peers::PeerTransport;
use crate::raft::state_machine::StateMachine;
use crate::raft::{Raft, RaftNode, TypeConfig};

/// What an empty data directory is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formation {
    /// The first node of a new cluster.
    Form,
    /// A member of this cluster, once the others add it.
    Join(Uuid),
}

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct MetadataConfig {
    /// The data directory: `meta.properties` and `meta/` are in it.
    pub data_dir: PathBuf,
    /// This node.
    pub node: NodeId,
    /// What happens when the directory is empty.
    pub formation: Formation,
    /// Where other nodes reach this one.
    pub host: String,
    /// Where other nodes reach this one.
    pub port: u16,
    /// How often a controller with company says that it lives. Elections start after 4 to 8 of these.
    pub heartbeat: Duration,
    /// How long a proposal waits for its majority.
    pub propose_deadline: Duration,
}

impl MetadataConfig {
    /// The defaults: a cluster of its own, 100 ms heartbeats, 30 s for proposals.
    pub fn new(data_dir: impl Into<PathBuf>, node: NodeId) -> Self {
        Self {
            data_dir: data_dir.into(),
            node,
            formation: Formation::Form,
            host: String::new(),
            port: 0,
            heartbeat: Duration::from_millis(100),
            propose_deadline: Duration::from_secs(30),
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node id is negative.
    #[error("{0} is no node id: it must be 0 or more")]
    InvalidNodeId(NodeId),
    /// The data directory is not this node's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error("metadata settings: {0}")]
    Config(#[from] ConfigError),
    /// Raft has stopped.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// What a start writes down of itself did not fit.
    #[error("no space for the metadata log in {}: make some on that disk, then start again", .dir.display())]
    NoSpace {
        /// Where the log is.
        dir: PathBuf,
    },
    /// The group of one did not come to lead.
    #[error("the node is alone and still does not lead: {0}")]
    NotLeading(ProposeError),
}

/// Name of the directory, in the data directory, with everything but `meta.properties`.
const DIR: &str = "meta";

impl Metadata {
    /// Opens this node's part of the metadata group. A node that is alone leads when it returns, with
    /// everything applied. `new_id` draws the random ids of a new cluster and directory.
    ///
    /// Must be called within a tokio runtime with time.
    pub async fn open(
        fs: Arc<dyn Fs>,
        config: MetadataConfig,
        transport: Arc<dyn PeerTransport>,
        mut new_id: impl FnMut() -> Uuid,
    ) -> Result<Self, OpenError> {
        if config.node.0 < 0 {
            return Err(OpenError::InvalidNodeId(config.node));
        }
        let written = Identity::read(&*fs, &config.data_dir)?;
        check_node(&config, written)?;
        let meta_dir = config.data_dir.join(DIR);
        if written.is_none() {
            make_dir(&*fs, &meta_dir).map_err(io_error(&meta_dir))?;
        }
        let (files, thread) = MetaFiles::open(Arc::clone(&fs), meta_dir.clone());
        let log_store = LogStore::open(Arc::clone(&fs), &meta_dir, files.clone(), FILE_BYTES)?;
        let new = log_store.is_empty();
        let identity = identify(&config, &log_store, written, &mut new_id)?;

        let (published, image) = watch::channel(Arc::new(MetadataImage::empty()));
        let snapshot_due = Arc::new(Notify::new());
        let state_machine = StateMachine::new(published, files.clone(), Arc::clone(&snapshot_due));
        let (id, me) = (raft_id(config.node), identity);
        let raft_config = Arc::new(raft_config(&config).validate()?);
        let network = Network { transport, me };
        let raft = Raft::new(id, raft_config, network, log_store.clone(), state_machine);
        let raft = raft.await.map_err(start_error)?;
        let supervisor = tokio::spawn(supervisor::supervise(raft.clone(), snapshot_due));
        let metadata = Self {
            raft,
            log_store,
            identity,
            image,
            propose_deadline: config.propose_deadline,
            files,
            background: Mutex::new(Some((supervisor, thread))),
        };
        let mut opened = metadata.start(&config, new).await;
        if opened.is_ok() && written.is_none() {
            opened = metadata.write_identity(&*fs, &config.data_dir).await;
        }
        if let Err(mut error) = opened {
            if metadata.log_store.lacks_space() {
                error = OpenError::NoSpace { dir: meta_dir };
            }
            metadata.close().await;
            return Err(error);
        }
        Ok(metadata)
    }

    /// The file is written last: when it is there, so is the log.
    async fn write_identity(&self, fs: &dyn Fs, data_dir: &Path) -> Result<(), OpenError> {
        self.log_store.sync().await.map_err(io_error(data_dir))?;
        Ok(self.identity.write(fs, data_dir)?)
    }

    /// Forms the group if there is none, and leads it if this node is alone.
    async fn start(&self, config: &MetadataConfig, new: bool) -> Result<(), OpenError> {
        let me = raft_id(config.node);
        if new {
            if config.formation != Formation::Form {
                return Ok(());
            }
            let node = RaftNode {
                directory: self.identity.directory,
                host: config.host.clone(),
                port: config.port,
            };
            initialize(&self.raft, me, node).await?;
            self.wait_to_lead().await?;
            return self.form_cluster().await;
        }
        if !self.is_sole_voter().await? {
            return Ok(());
        }
        // Nobody else could lead, so there is no timeout to wait for.
        let trigger = self.raft.trigger();
        trigger.elect(false).await.map_err(start_error)?;
        self.wait_to_lead().await?;
        match self.barrier().await {
            Ok(()) => {}
            Err(BarrierError::Fatal(failure)) => return Err(failure.into()),
            Err(error) => return Err(not_leading(error)),
        }
        // An earlier start may have ended before it came to this.
        if self.image.borrow().level() == MetadataLevel::UNFORMED {
            self.form_cluster().await?;
        }
        Ok(())
    }

    async fn form_cluster(&self) -> Result<(), OpenError> {
        let form = Command::FormCluster {
            cluster_id: self.identity.cluster_id,
            level: MetadataLevel::LATEST,
        };
        let formed = self.propose(form).await;
        formed.map(drop).map_err(OpenError::NotLeading)
    }

    async fn is_sole_voter(&self) -> Result<bool, OpenError> {
        let me = *self.raft.node_id();
        // Asked of Raft itself: its metrics are empty at first.
        let alone = self.raft.with_raft_state(move |state| {
            let mut voters = state.membership_state.effective().voter_ids();
            voters.next() == Some(me) && voters.next().is_none()
        });
        alone.await.map_err(start_error)
    }

    async fn wait_to_lead(&self) -> Result<(), OpenError> {
        let mut metrics = self.raft.metrics();
        let leads = async {
            loop {
                {
                    let metrics = metrics.borrow_and_update();
                    if let Err(fatal) = &metrics.running_state {
                        return Err(start_error(fatal.clone()));
                    }
                    if metrics.state == ServerState::Leader {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(OpenError::NotLeading(ProposeError::Shutdown));
                }
            }
        };
        let timed_out = |_| OpenError::NotLeading(ProposeError::OutcomeUnknown);
        tokio::time::timeout(self.propose_deadline, leads)
            .await
            .map_err(timed_out)?
    }
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Whose directory it is, by the log; a new log is marked.
fn identify(
    config: &MetadataConfig,
    log_store: &LogStore,
    written: Option<Identity>,
    new_id: &mut impl FnMut() -> Uuid,
) -> Result<Identity, IdentityError> {
    if let Some(logged) = log_store.identity() {
        return check_same(config, logged, written);
    }
    if written.is_some() {
        let path = config.data_dir.join(identity::FILE);
        let log = config.data_dir.join(DIR);
        return Err(IdentityError::LogLost { path, log });
    }
    let identity = new_identity(config, new_id);
    log_store.set_identity(identity);
    Ok(identity)
}

/// Makes a directory whose name survives a power loss, with those above it.
fn make_dir(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    let is_missing = |dir: &&Path| {
        let found = fs.read_dir(dir);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let missing = dir.ancestors().take_while(is_missing).count();
    fs.create_dir_all(dir)?;
    // The last two in any case: an earlier start may have ended between making and syncing them.
    for parent in dir.ancestors().skip(1).take(missing.max(2)) {
        let parent = if parent == Path::new("") {
            Path::new(".")
        } else {
            parent
        };
        match fs.sync_dir(parent) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(dir = %parent.display(), %error, "cannot sync a directory");
            }
            synced => synced?,
        }
    }
    Ok(())
}

fn check_node(config: &MetadataConfig, found: Option<Identity>) -> Result<(), IdentityError> {
    let Some(found) = found else { return Ok(()) };
    if found.node != config.node {
        let (path, found, expected) = (config.data_dir.clone(), found.node, config.node);
        return Err(IdentityError::OtherNode {
            path,
            found,
            expected,
        });
    }
    match config.formation {
        Formation::Join(expected) if expected != found.cluster_id => {
            let (path, found) = (config.data_dir.clone(), found.cluster_id);
            Err(IdentityError::OtherCluster {
                path,
                found,
                expected,
            })
        }
        _ => Ok(()),
    }
}

/// The identity in the log, if it is this node's and `meta.properties` does not say another.
fn check_same(
    config: &MetadataConfig,
    logged: Identity,
    written: Option<Identity>,
) -> Result<Identity, IdentityError> {
    if written.is_some_and(|written| written != logged) {
        return Err(IdentityError::Mixed {
            path: config.data_dir.join(identity::FILE),
        });
    }
    check_node(config, Some(logged))?;
    Ok(logged)
}

fn new_identity(config: &MetadataConfig, new_id: &mut impl FnMut() -> Uuid) -> Identity {
    let directory = new_id();
    let cluster_id = match config.formation {
        Formation::Form => new_id(),
        Formation::Join(cluster_id) => cluster_id,
    };
    Identity {
        cluster_id,
        node: config.node,
        directory,
    }
}

fn raft_config(config: &MetadataConfig) -> Config {
    let heartbeat = config.heartbeat.as_millis().max(1) as u64;
    Config {
        cluster_name: "tidemill".to_owned(),
        heartbeat_interval: heartbeat,
        election_timeout_min: heartbeat * 4,
        election_timeout_max: heartbeat * 8,
        install_snapshot_timeout: 30_000,
        max_payload_entries: 256,
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 256,
        purge_batch_size: 64,
        enable_pre_vote: Some(true),
        // A leader that crashed may have sent entries that its own disk never got. Leading on in the
        // same term, it would write others under the same numbers: it has to be elected anew.
        enable_leader_restore: Some(false),
        ..Config::default()
    }
}

async fn initialize(raft: &Raft, me: u64, node: RaftNode) -> Result<(), OpenError> {
    match raft.initialize(BTreeMap::from([(me, node)])).await {
        Ok(()) => Ok(()),
        Err(RaftError::Fatal(fatal)) => Err(start_error(fatal)),
        Err(RaftError::APIError(
            InitializeError::NotAllowed(_) | InitializeError::NotInMembers(_),
        )) => unreachable!("the log is empty and the node is a member"),
    }
}

fn start_error(fatal: Fatal<TypeConfig>) -> OpenError {
    match Failure::of(fatal) {
        Some(failure) => OpenError::Failed(failure),
        None => OpenError::NotLeading(ProposeError::Shutdown),
    }
}

fn not_leading(error: BarrierError) -> OpenError {
    OpenError::NotLeading(match error {
        BarrierError::NotController { leader } => ProposeError::NotController { leader },
        BarrierError::NoQuorum => ProposeError::OutcomeUnknown,
        BarrierError::Shutdown => ProposeError::Shutdown,
        BarrierError::Fatal(failure) => ProposeError::Fatal(failure),
    })
}
