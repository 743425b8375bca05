//! The object tier as the broker plays it: what is uploaded, trimmed, read back and deleted, and when.
//!
//! Three tasks on the tier's own threads go round by round over the partitions that this broker leads. One uploads what is due
//! ([`upload`]), moves full manifests into pages ([`pages`]) and applies retention; one trims this disk ([`trim`]); one deletes what
//! nothing refers to ([`collect`]). A store that is slow in one thing does not keep the others waiting. Every step is agreed on by
//! the metadata before or after the store is asked, so that a crash between any two leaves either the log as it was or an object
//! whose name is known.
//!
//! Reading ([`read`]) is done by whoever asks.

mod claim;
mod collect;
mod disk;
mod figures;
mod outage;
mod pages;
mod read;
mod status;
mod trim;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use parking_lot::Mutex;
use tidemill_log::ReadBuffers;
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
use outage::Outage;
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
    buffers: ReadBuffers,
    outage: Mutex<Outage>,
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
            buffers: upload::buffers(),
            outage: Mutex::default(),
            counts: Uploads::default(),
        };
        tier.claim_at_start(metadata, random).await?;
        Ok(Some(Arc::new(tier)))
    }

    /// Whether the cluster is known to own the tier.
    pub(crate) fn is_claimed(&self) -> bool {
        self.is_claimed.load(Ordering::Acquire)
    }

    /// Does its duties on the tier's own threads until the broker stops.
    pub(crate) fn start(
        self: Arc<Self>,
        broker: Arc<Broker>,
        stopped: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let duties: [Duty; 3] = [
            |tier, broker| async move { tier.upload_for_ever(&broker).await }.boxed(),
            |tier, broker| async move { tier.trim_for_ever(&broker).await }.boxed(),
            |tier, broker| async move { tier.collect_for_ever(&broker).await }.boxed(),
        ];
        let store = self.store.clone();
        store.spawn(async move {
            let keep = |duty| self.keep(duty, &broker, &stopped);
            join_all(duties.map(keep)).await;
        })
    }

    /// Does a duty until the broker stops. A defect in one round must not end all the rounds after it unseen.
    async fn keep(
        self: &Arc<Self>,
        duty: Duty,
        broker: &Arc<Broker>,
        stopped: &watch::Receiver<bool>,
    ) {
        let mut is_stopped = stopped.clone();
        loop {
            let rounds = duty(Arc::clone(self), Arc::clone(broker));
            let mut stopped = stopped.clone();
            let until_stopped = async move {
                tokio::select! {
                    () = rounds => {}
                    _ = stopped.wait_for(|is_stopped| *is_stopped) => {}
                }
            };
            match self.store.spawn(until_stopped).await {
                Ok(()) => return,
                Err(error) => self.counts.failed(&error),
            }
            tokio::select! {
                () = tokio::time::sleep(AFTER_PANIC) => {}
                _ = is_stopped.wait_for(|is_stopped| *is_stopped) => return,
            }
        }
    }

    async fn upload_for_ever(&self, broker: &Arc<Broker>) {
        let mut retention_due = broker.clock.monotonic();
        let mut last_upload = retention_due;
        loop {
            if !self.is_claimed() && !self.claim_again(broker).await {
                self.buffers.release();
                self.pause().await;
                continue;
            }
            self.expire_stale_prepares(broker).await;
            let did_upload = self.upload_round(broker).await;
            match did_upload {
                true => last_upload = broker.clock.monotonic(),
                false if broker.clock.monotonic() - last_upload < upload::BUFFERS_KEPT => {}
                false => self.buffers.release(),
            }
            if broker.clock.monotonic() >= retention_due {
                retention_due =
                    broker.clock.monotonic() + broker.config.log_retention_check_interval;
                self.apply_retention(broker).await;
            }
            if !did_upload {
                self.pause().await;
            }
        }
    }

    async fn trim_for_ever(&self, broker: &Broker) {
        loop {
            if self.is_claimed() {
                self.trim_round(broker).await;
            }
            self.pause().await;
        }
    }

    async fn collect_for_ever(&self, broker: &Broker) {
        let mut collector = collect::Collector::default();
        loop {
            if self.is_claimed() {
                collector.round(self, broker).await;
            }
            self.pause().await;
        }
    }

    async fn pause(&self) {
        tokio::time::sleep(self.config.check_interval).await;
    }
}

/// What one task does until it is dropped.
type Duty = fn(Arc<Tier>, Arc<Broker>) -> BoxFuture<'static, ()>;

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
