//! Who leads what. Rules of KIP-966: a broker that is fenced leaves every ISR; if that takes the ISR
//! below `min.insync.replicas`, it stays eligible to lead, because from then on nothing is committed
//! that it lacks. A leader is elected out of the live ISR, else out of the live eligible replicas, in
//! the order of the replicas; nobody else ever.

use std::sync::Arc;

use tidemill_records::{LeaderEpoch, NodeId};

use crate::image::topic::NodeLists;
use crate::image::{ConfigResource, MetadataImage, PartitionImage, TopicImage};

/// `node` was fenced in `image`: it leaves every ISR, and others take over what it led.
pub(super) fn fence(image: &mut MetadataImage, node: NodeId) {
    for_each_partition(image, |live, min_isr, partition| {
        partition.isr.contains(&node).then(|| {
            let mut shift = Shift::of(partition, min_isr);
            shift.leave(node);
            shift.elect(live);
            shift
        })
    });
}

/// `node` was unfenced in `image`: it leads what has no leader and may be led by it.
pub(super) fn unfence(image: &mut MetadataImage, node: NodeId) {
    for_each_partition(image, |live, min_isr, partition| {
        waits_for(partition, node).then(|| {
            let mut shift = Shift::of(partition, min_isr);
            shift.elect(live);
            shift
        })
    });
}

/// `node` is live in `image`, as another incarnation than before: as if it had been fenced and
/// unfenced. Where it leads again it does so under a new epoch, since what the earlier incarnation
/// had not made durable is gone.
pub(super) fn restart(image: &mut MetadataImage, node: NodeId) {
    for_each_partition(image, |live, min_isr, partition| {
        let in_sync = partition.isr.contains(&node);
        (in_sync || waits_for(partition, node)).then(|| {
            let mut shift = Shift::of(partition, min_isr);
            if in_sync {
                shift.leave(node);
            }
            shift.elect(live);
            shift.new_epoch = partition.leader == node;
            shift
        })
    });
}

/// `min.insync.replicas` of `resource` changed: where the ISR is large enough by now, commits may pass
/// by the eligible replicas, so nobody is eligible any more.
pub(super) fn forget_needless_elr(image: &mut MetadataImage, resource: &ConfigResource) {
    let topics: Vec<_> = match resource {
        ConfigResource::Topic(name) => image.topic(name).cloned().into_iter().collect(),
        _ => image.topics().cloned().collect(),
    };
    for_each_partition_of(image, topics, |_, min_isr, partition| {
        let shift = Shift::of(partition, min_isr);
        (!partition.elr.is_empty()).then_some(shift)
    });
}

/// The partition under another ISR; who left it may become eligible to lead.
pub(super) fn with_isr(
    partition: &PartitionImage,
    min_isr: usize,
    isr: Vec<NodeId>,
    leader: NodeId,
) -> PartitionImage {
    let mut shift = Shift::of(partition, min_isr);
    shift
        .elr
        .extend(partition.isr.iter().filter(|node| !isr.contains(node)));
    shift.elr.retain(|node| !isr.contains(node));
    shift.isr = isr;
    shift.leader = leader;
    shift
        .finish(&mut NodeLists::default())
        .unwrap_or_else(|| partition.clone())
}

fn waits_for(partition: &PartitionImage, node: NodeId) -> bool {
    !partition.has_leader() && partition.elr.contains(&node)
}

/// A change of one partition in the making.
struct Shift<'a> {
    old: &'a PartitionImage,
    min_isr: usize,
    isr: Vec<NodeId>,
    elr: Vec<NodeId>,
    leader: NodeId,
    new_epoch: bool,
}

impl<'a> Shift<'a> {
    fn of(old: &'a PartitionImage, min_isr: usize) -> Self {
        Self {
            old,
            min_isr: min_isr.min(old.replicas.len()),
            isr: old.isr.to_vec(),
            elr: old.elr.to_vec(),
            leader: old.leader,
            new_epoch: false,
        }
    }

    fn leave(&mut self, node: NodeId) {
        self.isr.retain(|member| *member != node);
        self.elr.push(node);
        if self.leader == node {
            self.leader = NodeId::NONE;
        }
    }

    fn elect(&mut self, live: &dyn Fn(NodeId) -> bool) {
        if self.leader != NodeId::NONE {
            return;
        }
        let first = |of: &[NodeId]| {
            self.old
                .replicas
                .iter()
                .copied()
                .find(|node| of.contains(node) && live(*node))
        };
        if let Some(leader) = first(&self.isr) {
            self.leader = leader;
        } else if let Some(leader) = first(&self.elr) {
            self.leader = leader;
            self.isr = vec![leader];
            self.elr.retain(|node| *node != leader);
        }
    }

    /// The partition as it is now, unless nothing changed.
    fn finish(mut self, lists: &mut NodeLists) -> Option<PartitionImage> {
        if self.isr.len() >= self.min_isr {
            self.elr.clear();
        }
        let old = self.old;
        let new_leader = self.leader != old.leader || self.new_epoch;
        if !new_leader && self.isr == *old.isr && self.elr == *old.elr {
            return None;
        }
        Some(PartitionImage {
            replicas: Arc::clone(&old.replicas),
            isr: lists.get(&self.isr),
            elr: lists.get(&self.elr),
            leader: self.leader,
            leader_epoch: LeaderEpoch(old.leader_epoch.0.saturating_add(i32::from(new_leader))),
            partition_epoch: old.partition_epoch.saturating_add(1),
        })
    }
}

fn for_each_partition(
    image: &mut MetadataImage,
    change: impl for<'a> Fn(&dyn Fn(NodeId) -> bool, usize, &'a PartitionImage) -> Option<Shift<'a>>,
) {
    let topics = image.topics().cloned().collect();
    for_each_partition_of(image, topics, change);
}

fn for_each_partition_of(
    image: &mut MetadataImage,
    topics: Vec<Arc<TopicImage>>,
    change: impl for<'a> Fn(&dyn Fn(NodeId) -> bool, usize, &'a PartitionImage) -> Option<Shift<'a>>,
) {
    let mut lists = NodeLists::default();
    for topic in topics {
        let min_isr = image.min_insync_replicas(&topic.name);
        let live = |node| image.is_live(node);
        let mut partitions = topic.partitions.clone();
        let mut changed = false;
        for (at, partition) in topic.partitions.iter().enumerate() {
            let shift = change(&live, min_isr, partition);
            if let Some(new) = shift.and_then(|shift| shift.finish(&mut lists)) {
                changed |= partitions.set_mut(at, new);
            }
        }
        if changed {
            let topic = TopicImage {
                name: Arc::clone(&topic.name),
                id: topic.id,
                partitions,
            };
            image
                .topics
                .insert_mut(Arc::clone(&topic.name), Arc::new(topic));
        }
    }
}
