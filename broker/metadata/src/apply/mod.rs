//! Applying commands: a pure function from an image and a command to the next image.

mod brokers;
mod configs;
mod election;
mod functions;
mod remote;
mod topics;
mod transforms;

use tidemill_records::{NodeId, ProducerId};
use uuid::Uuid;

use crate::command::{Command, Outcome, Rejection};
use crate::image::{BrokerEpoch, MetadataImage};
use crate::level::{LevelRange, MetadataLevel};
use crate::limits::PRODUCER_ID_BLOCK;

/// Applies the command at `index` of the log. A command that is refused changes nothing but the index.
pub fn apply(
    image: &MetadataImage,
    index: u64,
    command: &Command,
) -> (MetadataImage, Result<Outcome, Rejection>) {
    let mut next = image.clone();
    next.index = index;
    let required = command.required_level();
    let result = if image.level < required {
        Err(Rejection::LevelTooLow {
            required,
            finalised: image.level,
        })
    } else {
        run(&mut next, command)
    };
    if result.is_err() {
        // Persistent maps: taking the old state again costs a few reference counts.
        next = MetadataImage {
            index,
            ..image.clone()
        };
    }
    (next, result)
}

fn run(image: &mut MetadataImage, command: &Command) -> Result<Outcome, Rejection> {
    match command {
        Command::FormCluster { cluster_id, level } => form_cluster(image, *cluster_id, *level),
        Command::RegisterBroker { .. } => brokers::register(image, command),
        Command::FenceBroker { node, epoch } => brokers::set_fenced(image, *node, *epoch, true),
        Command::UnfenceBroker { node, epoch } => brokers::set_fenced(image, *node, *epoch, false),
        Command::CreateTopic {
            name,
            id,
            partitions,
            configs,
        } => topics::create(image, name, *id, partitions, configs),
        Command::DeleteTopic { id } => topics::delete(image, *id),
        Command::CreatePartitions {
            id,
            current,
            partitions,
        } => topics::add_partitions(image, *id, *current, partitions),
        Command::SetConfigs { resource, changes } => configs::set(image, resource, changes),
        Command::AllocateProducerIds { node, epoch } => allocate_producer_ids(image, *node, *epoch),
        Command::SetLevel { level } => set_level(image, *level),
        Command::ChangePartition { .. } => topics::change_partition(image, command),
        Command::ClaimTier { incarnation } => remote::claim(image, *incarnation),
        Command::PrepareObject { object, prepare } => remote::prepare(image, *object, *prepare),
        Command::ReplaceExtents(replacement) => remote::replace_extents(image, replacement),
        Command::SealPage(seal) => remote::seal_page(image, seal),
        Command::AdvanceLogStart {
            topic,
            partition,
            leader_epoch,
            start,
        } => remote::advance_start(image, (*topic, *partition), *leader_epoch, *start),
        Command::ExpirePrepares { objects } => remote::expire_prepares(image, objects),
        Command::ForgetGarbage { objects } => remote::forget_garbage(image, objects),
        Command::AddFunction(function) => functions::add(image, function),
        Command::DeleteFunction { id } => functions::delete(image, *id),
        Command::DeployTransform(deployment) => transforms::deploy(image, deployment),
        Command::SelectVersion { name, number } => transforms::select(image, name, *number),
        Command::PauseTransform { name, is_paused } => transforms::pause(image, name, *is_paused),
        Command::RewindTransform {
            name,
            generation,
            topic,
            offsets,
        } => transforms::rewind(image, name, *generation, *topic, offsets),
        Command::DeleteTransform { name } => transforms::delete(image, name),
    }
}

fn form_cluster(
    image: &mut MetadataImage,
    cluster_id: Uuid,
    level: MetadataLevel,
) -> Result<Outcome, Rejection> {
    if image.level != MetadataLevel::UNFORMED {
        return Err(Rejection::AlreadyFormed);
    }
    if level < MetadataLevel::FIRST {
        return Err(unsupported(image, level));
    }
    image.cluster_id = cluster_id;
    image.level = level;
    Ok(Outcome::Done)
}

fn allocate_producer_ids(
    image: &mut MetadataImage,
    node: NodeId,
    epoch: BrokerEpoch,
) -> Result<Outcome, Rejection> {
    brokers::current(image, node, epoch)?;
    let first = image.next_producer_id;
    image.next_producer_id = first
        .checked_add(PRODUCER_ID_BLOCK.into())
        .ok_or(Rejection::ProducerIdsExhausted)?;
    Ok(Outcome::ProducerIds {
        first: ProducerId(first),
        count: PRODUCER_ID_BLOCK,
    })
}

fn set_level(image: &mut MetadataImage, wanted: MetadataLevel) -> Result<Outcome, Rejection> {
    // Without brokers nobody has said what is understood.
    if wanted < image.level || image.brokers.is_empty() {
        return Err(unsupported(image, wanted));
    }
    image
        .brokers()
        .try_for_each(|broker| check_level(broker.id, broker.levels, wanted))?;
    image.level = wanted;
    Ok(Outcome::Done)
}

fn check_level(node: NodeId, levels: LevelRange, wanted: MetadataLevel) -> Result<(), Rejection> {
    if levels.contains(wanted) {
        return Ok(());
    }
    let LevelRange { min, max } = levels;
    Err(Rejection::UnsupportedLevel {
        wanted,
        min,
        max,
        broker: Some(node),
    })
}

fn unsupported(image: &MetadataImage, wanted: MetadataLevel) -> Rejection {
    let min = image.level.max(MetadataLevel::FIRST);
    let max = image
        .brokers()
        .map(|broker| broker.levels.max)
        .min()
        .unwrap_or(min);
    Rejection::UnsupportedLevel {
        wanted,
        min,
        max,
        broker: None,
    }
}

#[cfg(test)]
mod tests;
