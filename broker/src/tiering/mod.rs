//! The object tier as the broker plays it: what is uploaded, trimmed, read back and deleted, and when.
//!
//! One task on the tier's own threads goes round by round over the partitions that this broker leads: it uploads what is due ([`upload`]), moves full
//! manifests into pages ([`pages`]), trims this disk and applies retention ([`trim`]), and deletes what nothing refers to
//! ([`collect`]). Every step is agreed on by the metadata before or after the store is asked, so that a crash between any two
//! leaves either the log as it was or an object whose name is known.
//!
//! Reading ([`read`]) is done by whoever asks.

mod claim;
mod collect;
mod disk;
mod figures;
mod pages;
mod read;
mod status;
mod trim;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_metadata::{Command, Metadata, MetadataLog, ProposeError, RemoteLog};
use tidemill_records::{LeaderEpoch, Offset, PartitionId, TopicId};
use tidemill_tiered_store::{StoreConfig, TierUrl, TieredStore};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use claim::TierError;
pub(crate) use disk::DiskLimit;
pub(crate) use figures::{TopicTierFigures, storage_dollars_a_month};
pub(crate) use read::{RemoteError, RemoteWanted};
pub(crate) use status::TierStatus;

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::partition::Partition;
use crate::random::Random;
use figures::Uploads;
use upload::PartitionUpload;

/// After a round that ended by panic the next one waits.
const AFTER_PANIC: Duration = Duration::from_secs(5);

/// A partition as the tier knows it.
type RemoteKey = (TopicId, PartitionId);

/// The tier of this broker.
pub(crate) struct Tier {
    pub(crate) store: TieredStore,
    config: crate::config::TierConfig,
    /// Whether this broker's cluster is known to own the tier; without that nothing is written to it.
    is_claimed: AtomicBool,
    uploads: Mutex<HashMap<RemoteKey, PartitionUpload>>,
    counts: Uploads,
}

impl Tier {
    /// Opens the tier, if there is one, and claims it.
    pub(crate) async fn open(
        config: &BrokerConfig,
        metadata: &Metadata,
        random: &Random,
    ) -> Result<Option<Arc<Self>>, TierError> {
        let image = metadata.image();
        let Some(url) = config.tier.url.clone() else {
            return match image.tier_incarnation() {
                0 => Ok(None),
                _ => Err(TierError::Missing),
            };
        };
        if url == TierUrl::Memory && !config.tier.allow_memory {
            return Err(TierError::Volatile);
        }
        let store_config = StoreConfig {
            url,
            endpoint: config.tier.endpoint.clone(),
        };
        let store = TieredStore::open(&store_config, image.cluster_id(), config.tier.memory)?;
        let tier = Self {
            store,
            config: config.tier.clone(),
            is_claimed: AtomicBool::new(false),
            uploads: Mutex::default(),
            counts: Uploads::default(),
        };
        tier.claim_at_start(metadata, random).await?;
        Ok(Some(Arc::new(tier)))
    }

    /// Whether the cluster is known to own the tier.
    pub(crate) fn is_claimed(&self) -> bool {
        self.is_claimed.load(Ordering::Acquire)
    }

    /// Goes round on the tier's own threads until the broker stops.
    pub(crate) fn start(
        self: Arc<Self>,
        broker: Arc<Broker>,
        stopped: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let store = self.store.clone();
        store.spawn(self.run_for_ever(broker, stopped))
    }

    /// A defect in one round must not end all the rounds after it unseen.
    async fn run_for_ever(self: Arc<Self>, broker: Arc<Broker>, stopped: watch::Receiver<bool>) {
        loop {
            let rounds = Arc::clone(&self).run(Arc::clone(&broker), stopped.clone());
            match self.store.spawn(rounds).await {
                Ok(()) => return,
                Err(error) => {
                    self.counts.failed(&error);
                    tokio::time::sleep(AFTER_PANIC).await;
                }
            }
        }
    }

    async fn run(self: Arc<Self>, broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
        let mut collector = collect::Collector::default();
        let mut retention_due = broker.clock.monotonic();
        loop {
            let round = async {
                if !self.is_claimed() && !self.claim_again(&broker).await {
                    return false;
                }
                self.expire_stale_prepares(&broker).await;
                let did_upload = self.upload_round(&broker).await;
                if broker.clock.monotonic() >= retention_due {
                    retention_due =
                        broker.clock.monotonic() + broker.config.log_retention_check_interval;
                    self.apply_retention(&broker).await;
                }
                self.trim_round(&broker).await;
                collector.round(&self, &broker).await;
                did_upload
            };
            let did_upload = tokio::select! {
                did_upload = round => did_upload,
                _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
            };
            if did_upload {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(self.config.check_interval) => {}
                _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
            }
        }
    }
}

/// A partition that this broker leads and whose records go to the tier.
struct Led {
    partition: Arc<Partition>,
    key: RemoteKey,
    leader_epoch: LeaderEpoch,
    remote: Option<Arc<RemoteLog>>,
}

impl Led {
    /// Where the next upload begins.
    fn remote_end(&self) -> Offset {
        let start = self.partition.log.log_start_offset();
        self.remote
            .as_ref()
            .map_or(start, |remote| remote.end.max(start))
    }
}

/// The partitions that this broker leads and whose records go to the tier.
fn led(broker: &Broker) -> Vec<Led> {
    let image = broker.metadata.image();
    let all = broker.partitions.all().into_iter();
    all.filter_map(|partition| {
        if !partition.log.config().tiered || !partition.is_leader() {
            return None;
        }
        let key = (partition.log.topic_id(), partition.name.partition);
        Some(Led {
            key,
            leader_epoch: partition.leader().1,
            remote: image.remote_log(key.0, key.1).cloned(),
            partition,
        })
    })
    .collect()
}

/// Lets a tiered log begin at `start`, for the whole cluster and in the tier.
pub(crate) async fn advance_log_start(
    broker: &Broker,
    partition: &Partition,
    start: Offset,
) -> Result<(), ProposeError> {
    let command = Command::AdvanceLogStart {
        topic: partition.log.topic_id(),
        partition: partition.name.partition,
        leader_epoch: partition.leader().1,
        start,
    };
    broker.metadata.propose(command).await.map(drop)
}
