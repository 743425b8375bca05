//! Topics and the state of their partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::VectorSync;
use tidemill_records::{LeaderEpoch, NodeId, PartitionId, TopicId};

/// Who holds a partition, who leads it, and who may lead it next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// All replicas; the first is preferred as leader.
    pub replicas: Arc<[NodeId]>,
    /// The in-sync replicas: all hold everything below the high watermark. None is fenced.
    pub isr: Arc<[NodeId]>,
    /// The eligible leader replicas (KIP-966): out of sync by now, but they left when the ISR was
    /// below `min.insync.replicas`, so nothing was committed that they lack.
    pub elr: Arc<[NodeId]>,
    /// The leader, or [`NodeId::NONE`]. A leader is in the ISR.
    pub leader: NodeId,
    /// Grows with every change of leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with every change at all; compared before a change is taken.
    pub partition_epoch: i32,
}

impl PartitionImage {
    /// Whether somebody leads it.
    pub fn has_leader(&self) -> bool {
        self.leader != NodeId::NONE
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: a topic that is deleted and created again gets another.
    pub id: TopicId,
    pub(crate) partitions: VectorSync<PartitionImage>,
}

impl TopicImage {
    /// The state of one partition.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(partition.0).ok()?)
    }

    /// All partitions, in order from 0.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = (PartitionId, &PartitionImage)> {
        self.partitions
            .iter()
            .enumerate()
            .map(|(at, partition)| (PartitionId(at as i32), partition))
    }

    /// How many partitions there are.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).expect("a topic's partitions are bounded")
    }

    /// The highest leader epoch of any partition.
    pub(crate) fn leader_epoch_max(&self) -> LeaderEpoch {
        self.partitions
            .iter()
            .map(|p| p.leader_epoch)
            .max()
            .unwrap_or(LeaderEpoch::NONE)
    }
}

/// Lets partitions with the same list of nodes share it: 10,000 partitions on one node hold one list.
#[derive(Debug, Default)]
pub(crate) struct NodeLists {
    seen: BTreeSet<Arc<[NodeId]>>,
}

impl NodeLists {
    pub(crate) fn get(&mut self, nodes: &[NodeId]) -> Arc<[NodeId]> {
        if let Some(list) = self.seen.get(nodes) {
            return Arc::clone(list);
        }
        let list: Arc<[NodeId]> = nodes.into();
        self.seen.insert(Arc::clone(&list));
        list
    }
}
