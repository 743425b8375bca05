//! The partitions that this broker holds, kept in step with the metadata image.
//!
//! Data flows one way: a command changes the image, the image changes this table, requests read the table.
//! One task applies images, off the request threads, since opening a log touches the disk.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use tidemill_log::LogDir;
use tidemill_metadata::{MetadataImage, TopicImage};
use tidemill_protocol::Str;
use tidemill_records::{NodeId, Offset, PartitionId, TopicPartition};
use tokio::sync::watch;
use uuid::Uuid;

use crate::partition::Partition;
use crate::topic;
use crate::topic_config::{self, TopicSettings};

/// All partitions of one topic that this broker holds a replica of.
#[derive(Debug, Clone)]
struct HeldTopic {
    image: Arc<TopicImage>,
    name: Str,
    settings: TopicSettings,
    /// By partition index; none where the replica is elsewhere or its log could not be opened.
    partitions: Vec<Option<Arc<Partition>>>,
}

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Str, HeldTopic>,
    name_by_id: HashMap<Uuid, Str>,
}

/// What changed for the group coordinator.
#[derive(Debug, Clone)]
pub(crate) enum CoordinatorChange {
    /// A partition of `__consumer_offsets` is now led here.
    Leads(Arc<Partition>),
    /// A partition of `__consumer_offsets` is no longer led here, or gone.
    Resigned(TopicPartition),
    /// A topic is gone, and with it all offsets that were committed for it.
    TopicDeleted(Arc<str>),
}

/// The table; reading it takes a short lock and no I/O.
#[derive(Debug)]
pub(crate) struct Partitions {
    node: NodeId,
    table: RwLock<Table>,
    /// Raft index of the newest image that the table reflects.
    applied: watch::Sender<u64>,
}

impl Partitions {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            table: RwLock::default(),
            applied: watch::Sender::new(0),
        }
    }

    /// A partition held here.
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let table = self.table.read();
        let held = table.by_name.get(topic)?;
        held.partitions
            .get(usize::try_from(partition).ok()?)?
            .clone()
    }

    /// The name behind a topic id.
    pub(crate) fn topic_name(&self, id: Uuid) -> Option<Str> {
        self.table.read().name_by_id.get(&id).cloned()
    }

    /// All partitions held here, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let table = self.table.read();
        table
            .by_name
            .values()
            .flat_map(|held| held.partitions.iter().flatten().cloned())
            .collect()
    }

    /// Waits until the table reflects the image of this index, so that a client that created a topic can
    /// use it at once.
    pub(crate) async fn wait_applied(&self, index: u64) {
        // The sender lives as long as `self`.
        let _ = self
            .applied
            .subscribe()
            .wait_for(|applied| *applied >= index)
            .await;
    }

    /// Brings the table in step with an image. Called by one task only.
    pub(crate) fn apply(
        &self,
        image: &MetadataImage,
        logs: &LogDir,
        defaults: &[(String, String)],
    ) -> Vec<CoordinatorChange> {
        let mut changes = Vec::new();
        self.drop_vanished(image, logs, &mut changes);
        for topic in image.topics() {
            self.apply_topic(topic, image, logs, defaults, &mut changes);
        }
        self.applied.send_replace(image.index());
        changes
    }

    /// Deletes logs of deleted topics: a deletion that was agreed on and then cut short by a crash. A log of a topic that the
    /// metadata never deleted is put aside: then the metadata lacks something. Called once, at start.
    pub(crate) fn sort_out_strays(&self, image: &MetadataImage, logs: &LogDir) {
        for log in logs.partitions() {
            if image.topic_by_id(log.topic_id()).is_some() {
                continue;
            }
            let (partition, topic_id) = (log.partition(), log.topic_id());
            let result = if image.was_deleted(topic_id) {
                tracing::info!(%partition, "deleting the log of a deleted topic");
                logs.delete(partition)
            } else {
                tracing::error!(
                    %partition, %topic_id, end = %log.log_end_offset(), dir = %log.dir().display(),
                    "the metadata does not know this topic, and never deleted it: meta/ lacks something. Its files are \
                     kept under the name <partition>.<topic id>-stray; restore meta/ from a copy to have it back"
                );
                logs.put_aside(partition)
            };
            if let Err(error) = result {
                tracing::error!(%partition, %error, "cannot take the log away");
            }
        }
    }

    fn drop_vanished(
        &self,
        image: &MetadataImage,
        logs: &LogDir,
        changes: &mut Vec<CoordinatorChange>,
    ) {
        let vanished: Vec<HeldTopic> = {
            let table = self.table.read();
            let is_gone = |held: &&HeldTopic| image.topic_by_id(held.image.id).is_none();
            table.by_name.values().filter(is_gone).cloned().collect()
        };
        for held in vanished {
            {
                let mut table = self.table.write();
                table.by_name.remove(&held.name);
                table.name_by_id.remove(&held.image.id.0);
            }
            changes.push(CoordinatorChange::TopicDeleted(held.image.name.clone()));
            for partition in held.partitions.into_iter().flatten() {
                if is_coordinated(&partition) {
                    changes.push(CoordinatorChange::Resigned(partition.name.clone()));
                }
                partition.retire();
                if let Err(error) = logs.delete(&partition.name) {
                    tracing::error!(partition = %partition.name, %error, "cannot delete the log");
                }
            }
        }
    }

    fn apply_topic(
        &self,
        topic: &Arc<TopicImage>,
        image: &MetadataImage,
        logs: &LogDir,
        defaults: &[(String, String)],
        changes: &mut Vec<CoordinatorChange>,
    ) {
        let configs = image.topic_configs(&topic.name);
        let before = self.table.read().by_name.get(&*topic.name).cloned();
        let settings = topic_config::resolve(&configs, defaults);
        let is_same =
            |held: &HeldTopic| Arc::ptr_eq(&held.image, topic) && held.settings == settings;
        if before.as_ref().is_some_and(is_same) {
            return;
        }
        let mut held = HeldTopic {
            image: topic.clone(),
            name: Str::from(&*topic.name),
            settings: settings.clone(),
            partitions: before.map(|held| held.partitions).unwrap_or_default(),
        };
        for (index, assigned) in topic.partitions() {
            let at = index.0 as usize;
            held.partitions
                .resize(held.partitions.len().max(at + 1), None);
            if !assigned.replicas.contains(&self.node) {
                continue;
            }
            let led_before = held.partitions[at]
                .as_ref()
                .is_some_and(|held| held.is_leader());
            match &held.partitions[at] {
                Some(partition) => partition.reassign(assigned.clone(), &settings),
                None => {
                    let remote = image.remote_log(topic.id, index);
                    let remote_end = remote.map_or(Offset::ZERO, |remote| remote.end);
                    held.partitions[at] =
                        self.open(topic, index, assigned, &settings, logs, remote_end);
                }
            }
            let Some(partition) = &held.partitions[at] else {
                continue;
            };
            if !is_coordinated(partition) {
                continue;
            }
            match (led_before, partition.is_leader()) {
                (false, true) => changes.push(CoordinatorChange::Leads(partition.clone())),
                (true, false) => changes.push(CoordinatorChange::Resigned(partition.name.clone())),
                _ => {}
            }
        }
        let mut table = self.table.write();
        table.name_by_id.insert(topic.id.0, held.name.clone());
        table.by_name.insert(held.name.clone(), held);
    }

    fn open(
        &self,
        topic: &TopicImage,
        index: PartitionId,
        assigned: &tidemill_metadata::PartitionImage,
        settings: &TopicSettings,
        logs: &LogDir,
        remote_end: Offset,
    ) -> Option<Arc<Partition>> {
        let name = TopicPartition {
            topic: topic.name.clone(),
            partition: index,
        };
        let log = match logs.get(&name) {
            Some(log) if log.topic_id() == topic.id => Ok(log),
            Some(_stale) => logs
                .delete(&name)
                .and_then(|()| logs.create(name.clone(), topic.id, settings.log.clone())),
            None => logs.create(name.clone(), topic.id, settings.log.clone()),
        };
        match log {
            // What came next would get offsets that other records have already.
            Ok(log) if log.log_end_offset() < remote_end => {
                tracing::error!(
                    partition = %name, end = %log.log_end_offset(), %remote_end,
                    "partition is offline: its log on this disk ends before what is in the tier, as if files had been lost; \
                     restore the data directory from a copy"
                );
                None
            }
            Ok(log) => {
                let image = assigned.clone();
                let partition = Partition::open(name, log, self.node, image, settings);
                partition.configure(settings);
                Some(partition)
            }
            Err(error) => {
                tracing::error!(partition = %name, %error, "partition is offline; run `tidemill check`");
                None
            }
        }
    }
}

/// Does the group coordinator keep its state here?
fn is_coordinated(partition: &Partition) -> bool {
    &*partition.name.topic == topic::CONSUMER_OFFSETS
}
