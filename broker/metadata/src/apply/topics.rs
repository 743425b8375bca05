//! Creating, growing and deleting topics, and changing one partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use rpds::VectorSync;
use tidemill_records::{LeaderEpoch, NodeId, PartitionId, TopicId};

use super::{configs, election, remote};
use crate::command::{AssignmentFault, Command, Outcome, Rejection};
use crate::image::topic::NodeLists;
use crate::image::{BrokerEpoch, ConfigResource, MetadataImage, PartitionImage, TopicImage};
use crate::limits::{PARTITIONS_PER_COMMAND_MAX, PARTITIONS_PER_TOPIC_MAX, REPLICAS_MAX};
use crate::names::check_topic_name;

pub(super) fn create(
    image: &mut MetadataImage,
    name: &Arc<str>,
    id: TopicId,
    assignments: &[Vec<NodeId>],
    settings: &[(Arc<str>, Arc<str>)],
) -> Result<Outcome, Rejection> {
    check_topic_name(name)?;
    if let Some(topic) = image.topic(name) {
        return Err(Rejection::TopicExists(topic.id));
    }
    if id == TopicId::ZERO || image.topic_names.contains_key(&id) {
        return Err(Rejection::TopicIdTaken);
    }
    let first_epoch = image.retired_epochs.revive(name);
    let mut partitions = VectorSync::new_sync();
    add(image, &mut partitions, assignments, first_epoch)?;
    let settings = settings.iter().map(|(key, value)| (key, Some(value)));
    configs::change(image, &ConfigResource::Topic(Arc::clone(name)), settings)?;
    put(
        image,
        TopicImage {
            name: Arc::clone(name),
            id,
            partitions,
        },
    );
    Ok(Outcome::TopicCreated(id))
}

pub(super) fn delete(image: &mut MetadataImage, id: TopicId) -> Result<Outcome, Rejection> {
    let topic = Arc::clone(image.topic_by_id(id).ok_or(Rejection::UnknownTopic)?);
    image.topics.remove_mut(&topic.name);
    image.topic_names.remove_mut(&id);
    image.note_deleted(image.index, id);
    remote::discard_topic(image, &topic);
    image
        .configs
        .remove_mut(&ConfigResource::Topic(Arc::clone(&topic.name)));
    image
        .retired_epochs
        .retire(Arc::clone(&topic.name), topic.leader_epoch_max());
    Ok(Outcome::Done)
}

pub(super) fn add_partitions(
    image: &mut MetadataImage,
    id: TopicId,
    current: i32,
    assignments: &[Vec<NodeId>],
) -> Result<Outcome, Rejection> {
    let topic = Arc::clone(image.topic_by_id(id).ok_or(Rejection::UnknownTopic)?);
    if topic.partition_count() != current {
        return Err(Rejection::PartitionCountChanged(topic.partition_count()));
    }
    let mut partitions = topic.partitions.clone();
    add(image, &mut partitions, assignments, LeaderEpoch(0))?;
    put(
        image,
        TopicImage {
            name: Arc::clone(&topic.name),
            id,
            partitions,
        },
    );
    Ok(Outcome::Done)
}

fn put(image: &mut MetadataImage, topic: TopicImage) {
    image
        .topic_names
        .insert_mut(topic.id, Arc::clone(&topic.name));
    image
        .topics
        .insert_mut(Arc::clone(&topic.name), Arc::new(topic));
}

fn add(
    image: &MetadataImage,
    partitions: &mut VectorSync<PartitionImage>,
    assignments: &[Vec<NodeId>],
    leader_epoch: LeaderEpoch,
) -> Result<(), Rejection> {
    let count = assignments.len();
    let sum = partitions.len() + count;
    if !(1..=PARTITIONS_PER_COMMAND_MAX).contains(&count) || sum > PARTITIONS_PER_TOPIC_MAX {
        return Err(Rejection::PartitionCount(count));
    }
    let mut lists = NodeLists::default();
    for replicas in assignments {
        let partition = PartitionId(i32::try_from(partitions.len()).expect("bounded above"));
        let isr = check_assignment(image, replicas)
            .map_err(|fault| Rejection::Assignment { partition, fault })?;
        partitions.push_back_mut(PartitionImage {
            replicas: lists.get(replicas),
            leader: isr[0],
            isr: lists.get(&isr),
            elr: lists.get(&[]),
            leader_epoch,
            partition_epoch: 0,
        });
    }
    Ok(())
}

/// The first ISR of a partition on `replicas`; never empty.
fn check_assignment(
    image: &MetadataImage,
    replicas: &[NodeId],
) -> Result<Vec<NodeId>, AssignmentFault> {
    if !(1..=REPLICAS_MAX).contains(&replicas.len()) {
        return Err(AssignmentFault::Count(replicas.len()));
    }
    for (at, node) in replicas.iter().enumerate() {
        if replicas[..at].contains(node) {
            return Err(AssignmentFault::Duplicate(*node));
        }
        image
            .broker(*node)
            .ok_or(AssignmentFault::UnknownBroker(*node))?;
    }
    let isr: Vec<_> = replicas
        .iter()
        .copied()
        .filter(|node| image.is_live(*node))
        .collect();
    if isr.is_empty() {
        return Err(AssignmentFault::AllFenced);
    }
    Ok(isr)
}

pub(super) fn change_partition(
    image: &mut MetadataImage,
    command: &Command,
) -> Result<Outcome, Rejection> {
    let Command::ChangePartition {
        topic,
        partition,
        leader_epoch,
        partition_epoch,
        isr,
        leader,
    } = command
    else {
        unreachable!("only changes of a partition come here");
    };
    let topic = Arc::clone(image.topic_by_id(*topic).ok_or(Rejection::UnknownTopic)?);
    let state = topic
        .partition(*partition)
        .ok_or(Rejection::UnknownPartition)?;
    if state.leader_epoch != *leader_epoch {
        return Err(Rejection::StaleLeaderEpoch);
    }
    if state.partition_epoch != *partition_epoch {
        return Err(Rejection::StalePartitionEpoch(state.partition_epoch));
    }
    let isr = match isr {
        Some(isr) => check_isr(image, state, isr)?,
        None => state.isr.to_vec(),
    };
    let leader = leader.unwrap_or(state.leader);
    if !isr.contains(&leader) || !image.is_live(leader) {
        return Err(Rejection::IneligibleLeader(leader));
    }
    let min_isr = image.min_insync_replicas(&topic.name);
    let state = election::with_isr(state, min_isr, isr, leader);
    let mut partitions = topic.partitions.clone();
    let at = usize::try_from(partition.0).expect("an index that was found");
    partitions.set_mut(at, state.clone());
    put(
        image,
        TopicImage {
            name: Arc::clone(&topic.name),
            id: topic.id,
            partitions,
        },
    );
    Ok(Outcome::PartitionChanged(state))
}

fn check_isr(
    image: &MetadataImage,
    state: &PartitionImage,
    isr: &[(NodeId, BrokerEpoch)],
) -> Result<Vec<NodeId>, Rejection> {
    let nodes: BTreeSet<_> = isr.iter().map(|(node, _)| *node).collect();
    let is_set = nodes.len() == isr.len() && !nodes.is_empty();
    if !is_set || nodes.iter().any(|node| !state.replicas.contains(node)) {
        return Err(Rejection::InvalidIsr);
    }
    for (node, epoch) in isr {
        let eligible = image
            .broker(*node)
            .is_some_and(|b| !b.fenced && b.epoch == *epoch);
        if !eligible {
            return Err(Rejection::IneligibleReplica(*node));
        }
    }
    Ok(isr.iter().map(|(node, _)| *node).collect())
}
