//! The object tier's protocol: prepare, commit, trim, delete. Every step is one command, so that a commit and the expiry of its
//! prepare are in one order for everybody, whatever the clocks say.
//!
//! The invariants that are kept here: a reference is only ever to an object that was prepared in the same leader epoch (I2); a
//! remote log has no gaps and its epochs do not go down (I3); what is no longer referred to is named until somebody has
//! deleted it (I5).

use std::sync::Arc;

use tidemill_records::{
    Extent, LeaderEpoch, MaxTimestamp, ObjectId, Offset, PageRef, PartitionId, RemoteObject,
    TopicId,
};

use crate::command::{ExtentReplacement, Outcome, PageSeal, Rejection};
use crate::image::{Garbage, INLINE_EXTENTS_MAX, MetadataImage, Prepare, RemoteLog, TopicImage};
use crate::limits::{LOOSE_OBJECTS_PER_COMMAND_MAX, PREPARES_MAX};

pub(super) fn claim(image: &mut MetadataImage, incarnation: u64) -> Result<Outcome, Rejection> {
    match incarnation > image.tier_incarnation {
        true => image.tier_incarnation = incarnation,
        false => return Err(Rejection::TierClaimed(image.tier_incarnation)),
    }
    Ok(Outcome::Done)
}

pub(super) fn prepare(
    image: &mut MetadataImage,
    object: RemoteObject,
    prepare: Prepare,
) -> Result<Outcome, Rejection> {
    check_leader(
        image,
        prepare.topic,
        prepare.partition,
        prepare.leader_epoch,
    )?;
    let is_known = image.prepares.contains_key(&object)
        || image.garbage.contains_key(&object)
        || is_referenced(image, &object, &prepare);
    if is_known || is_of_another(&object, &prepare) {
        return Err(Rejection::ObjectTaken);
    }
    if image.prepares.size() >= PREPARES_MAX {
        return Err(Rejection::TooManyPrepares);
    }
    image.prepares.insert_mut(object, prepare);
    Ok(Outcome::Done)
}

pub(super) fn replace_extents(
    image: &mut MetadataImage,
    replacement: &ExtentReplacement,
) -> Result<Outcome, Rejection> {
    let ExtentReplacement {
        topic,
        partition,
        leader_epoch,
        expected_end,
        remove,
        add,
    } = replacement;
    check_leader(image, *topic, *partition, *leader_epoch)?;
    let mut log = match image.remote_log(*topic, *partition) {
        Some(log) => RemoteLog::clone(log),
        None => RemoteLog::starting_at(*expected_end),
    };
    if log.end != *expected_end {
        return Err(Rejection::RemoteEnd(log.end));
    }
    for extent in add {
        let object = RemoteObject::Data(extent.object);
        take_prepare(image, object, *topic, *partition, *leader_epoch)?;
    }
    let mut extents = log.extents();
    let at = match remove.first() {
        None => extents.len(),
        Some(first) => extents
            .iter()
            .position(|extent| extent.object == *first)
            .ok_or(Rejection::UnknownExtent)?,
    };
    let removed = extents.get(at..at + remove.len());
    let removed = removed.ok_or(Rejection::UnknownExtent)?.to_vec();
    let is_same = |pair: (&Extent, &_)| pair.0.object == *pair.1;
    if !removed.iter().zip(remove).all(is_same) {
        return Err(Rejection::UnknownExtent);
    }
    // What takes the place of other extents covers the same offsets; what is appended begins at the end.
    let from = removed.first().map_or(log.end, |first| first.base);
    let to = removed.last().map(|last| last.end);
    check_row(add, from, to)?;
    // What lies wholly below the start would stay for ever where the start does not move again.
    if add.first().is_some_and(|first| first.end <= log.start) {
        return Err(Rejection::ExtentsOutOfOrder);
    }
    extents.splice(at..at + remove.len(), add.iter().cloned());
    let epochs = extents.iter().flat_map(|extent| &extent.epochs);
    let paged = log.pages.last().map(|page| page.last_epoch);
    let rises = paged
        .into_iter()
        .chain(epochs.map(|entry| entry.epoch))
        .is_sorted();
    if !rises {
        return Err(Rejection::ExtentsOutOfOrder);
    }
    if extents.len() > INLINE_EXTENTS_MAX {
        return Err(Rejection::TooManyExtents);
    }
    log.end = extents.last().map_or(log.end, |last| last.end);
    log.generation += 1;
    log.set_extents(&extents);
    for extent in removed {
        discard(image, RemoteObject::Data(extent.object), false);
    }
    put(image, *topic, *partition, log);
    Ok(Outcome::Done)
}

pub(super) fn seal_page(image: &mut MetadataImage, seal: &PageSeal) -> Result<Outcome, Rejection> {
    let PageSeal {
        topic,
        partition,
        leader_epoch,
        generation,
        page,
        replaces,
        dropped,
        moved,
    } = seal;
    check_leader(image, *topic, *partition, *leader_epoch)?;
    let log = image.remote_log(*topic, *partition);
    let mut log = RemoteLog::clone(log.ok_or(Rejection::UnknownExtent)?);
    if log.generation != *generation {
        return Err(Rejection::RemoteGeneration(log.generation));
    }
    if dropped.len() > LOOSE_OBJECTS_PER_COMMAND_MAX {
        return Err(Rejection::TooManyObjects(dropped.len()));
    }
    let name = page_name(*topic, *partition, page);
    take_prepare(image, name, *topic, *partition, *leader_epoch)?;
    let mut pages = log.pages.to_vec();
    let (at, replaced) = match replaces {
        None => (pages.len(), None),
        Some(hash) => {
            let at = pages.iter().position(|page| page.hash == *hash);
            let at = at.ok_or(Rejection::UnknownExtent)?;
            (at, Some(pages.remove(at)))
        }
    };
    let mut extents = log.extents();
    let moved = usize::try_from(*moved).unwrap_or(usize::MAX);
    let taken = extents.get(..moved).ok_or(Rejection::UnknownExtent)?;
    check_moves(&extents, dropped, moved, at == pages.len())?;
    check_page(page, replaced.as_ref(), taken, dropped.len(), log.start)?;
    extents.drain(..moved);
    pages.insert(at, page.clone());
    log.pages = pages.into();
    log.set_extents(&extents);
    log.generation += 1;
    if let Some(replaced) = replaced {
        discard(image, page_name(*topic, *partition, &replaced), false);
    }
    for object in dropped {
        discard(image, RemoteObject::Data(*object), false);
    }
    put(image, *topic, *partition, log);
    Ok(Outcome::Done)
}

/// Lets the log begin at `start`. What lies wholly below is garbage. A log that has nothing in the tier begins at zero until
/// this says otherwise.
pub(super) fn advance_start(
    image: &mut MetadataImage,
    (topic, partition): (TopicId, PartitionId),
    leader_epoch: LeaderEpoch,
    start: Offset,
) -> Result<Outcome, Rejection> {
    check_leader(image, topic, partition, leader_epoch)?;
    let mut log = match image.remote_log(topic, partition) {
        Some(log) => RemoteLog::clone(log),
        None => RemoteLog::starting_at(Offset::ZERO),
    };
    if start <= log.start {
        return Ok(Outcome::Done);
    }
    let (gone, kept): (Vec<_>, Vec<_>) = log
        .pages
        .iter()
        .cloned()
        .partition(|page| page.end <= start);
    // A page that is being made stays right where only the start moves.
    let mut is_changed = !gone.is_empty();
    for page in gone {
        discard(image, page_name(topic, partition, &page), true);
    }
    log.pages = kept.into();
    let (gone, kept): (Vec<_>, Vec<_>) = log
        .extents()
        .into_iter()
        .partition(|extent| extent.end <= start);
    is_changed |= !gone.is_empty();
    for extent in gone {
        discard(image, RemoteObject::Data(extent.object), false);
    }
    log.set_extents(&kept);
    log.start = start;
    log.end = log.end.max(start);
    log.generation += u64::from(is_changed);
    put(image, topic, partition, log);
    Ok(Outcome::Done)
}

/// Gives prepares up: their objects are garbage, committed they never can be.
pub(super) fn expire_prepares(
    image: &mut MetadataImage,
    objects: &[RemoteObject],
) -> Result<Outcome, Rejection> {
    check_count(objects)?;
    for object in objects {
        if image.prepares.remove_mut(object) {
            let garbage = Garbage {
                since: image.index,
                with_extents: false,
                expired: true,
            };
            image.garbage.insert_mut(*object, garbage);
        }
    }
    Ok(Outcome::Done)
}

/// Notes that objects are deleted, pages in the place of their extents when those are to be deleted one by one.
pub(super) fn forget_garbage(
    image: &mut MetadataImage,
    objects: &[RemoteObject],
) -> Result<Outcome, Rejection> {
    check_count(objects)?;
    for object in objects {
        image.garbage.remove_mut(object);
    }
    Ok(Outcome::Done)
}

/// A topic is deleted: so is all that it has in the tier.
pub(super) fn discard_topic(image: &mut MetadataImage, topic: &TopicImage) {
    for (partition, _) in topic.partitions() {
        let Some(log) = image.remote_log(topic.id, partition).cloned() else {
            continue;
        };
        for page in log.pages.iter() {
            discard(image, page_name(topic.id, partition, page), true);
        }
        for extent in log.extents() {
            discard(image, RemoteObject::Data(extent.object), false);
        }
        image.remote_logs.remove_mut(&(topic.id, partition));
    }
}

/// Whether the remote log that a prepare is for has the object already. An announcement whose answer was lost may arrive a
/// second time, after the commit: were it taken, it would expire one day, and what is in use would be deleted. Data in pages is
/// not known here; to be in one it was committed long ago.
fn is_referenced(image: &MetadataImage, object: &RemoteObject, prepare: &Prepare) -> bool {
    let Some(log) = image.remote_log(prepare.topic, prepare.partition) else {
        return false;
    };
    match object {
        RemoteObject::Data(id) => log.extents().iter().any(|extent| extent.object == *id),
        RemoteObject::Page { .. } => log
            .pages
            .iter()
            .any(|page| page_name(prepare.topic, prepare.partition, page) == *object),
    }
}

/// Whether it is a page of another partition: the prepare could not be committed, but its expiry would delete that page.
fn is_of_another(object: &RemoteObject, prepare: &Prepare) -> bool {
    match object {
        RemoteObject::Data(_) => false,
        RemoteObject::Page {
            topic, partition, ..
        } => (*topic, *partition) != (prepare.topic, prepare.partition),
    }
}

fn check_leader(
    image: &MetadataImage,
    topic: TopicId,
    partition: PartitionId,
    leader_epoch: LeaderEpoch,
) -> Result<(), Rejection> {
    let topic = image.topic_by_id(topic).ok_or(Rejection::UnknownTopic)?;
    let state = topic
        .partition(partition)
        .ok_or(Rejection::UnknownPartition)?;
    match state.leader_epoch == leader_epoch {
        true => Ok(()),
        false => Err(Rejection::StaleLeaderEpoch),
    }
}

/// The prepare of what is committed now: it must be there, for this partition and in this epoch.
fn take_prepare(
    image: &mut MetadataImage,
    object: RemoteObject,
    topic: TopicId,
    partition: PartitionId,
    leader_epoch: LeaderEpoch,
) -> Result<(), Rejection> {
    let wanted = Prepare {
        topic,
        partition,
        leader_epoch,
    };
    if image.prepares.get(&object) != Some(&wanted) {
        return Err(Rejection::NotPrepared);
    }
    image.prepares.remove_mut(&object);
    Ok(())
}

/// Extents one after the other, from `from` and, where it is given, to `to`.
fn check_row(extents: &[Extent], from: Offset, to: Option<Offset>) -> Result<(), Rejection> {
    let mut end = from;
    for extent in extents {
        if extent.base != end || extent.end <= end {
            return Err(Rejection::ExtentsOutOfOrder);
        }
        end = extent.end;
    }
    match !extents.is_empty() && to.is_none_or(|to| to == end) {
        true => Ok(()),
        false => Err(Rejection::ExtentsOutOfOrder),
    }
}

/// A page changes where the log does: at its end by extents that are moved there, at its beginning by such as are dropped. That
/// is the first page: others do not begin below the log's start. What is dropped is in no use.
fn check_moves(
    inline: &[Extent],
    dropped: &[ObjectId],
    moved: usize,
    is_last: bool,
) -> Result<(), Rejection> {
    let is_used = |object: &ObjectId| inline.iter().any(|extent| extent.object == *object);
    let is_reason = moved > 0 || !dropped.is_empty();
    let is_there = moved == 0 || is_last;
    match is_reason && is_there && !dropped.iter().any(is_used) {
        true => Ok(()),
        false => Err(Rejection::ExtentsOutOfOrder),
    }
}

/// What the page says of its extents as a whole. Retention and elections go by it, so a wrong number would delete too much, or
/// refuse every later upload. What the dropped extents had is not known here, so of that only bounds are.
fn check_page(
    page: &PageRef,
    replaced: Option<&PageRef>,
    moved: &[Extent],
    dropped: usize,
    log_start: Offset,
) -> Result<(), Rejection> {
    let length: u64 = moved.iter().map(|extent| u64::from(extent.length)).sum();
    let data_bytes = replaced
        .map_or(0, |page| page.data_bytes)
        .saturating_add(length);
    let newest = MaxTimestamp::first_of_newest(
        replaced
            .map(|page| page.newest)
            .into_iter()
            .chain(moved.iter().map(|extent| extent.newest)),
    );
    let base = replaced.map(|page| page.base);
    let base = base.or(moved.first().map(|extent| extent.base));
    let end = moved.last().map(|extent| extent.end);
    let end = end.or(replaced.map(|page| page.end));
    let last_epoch = moved.last().map(Extent::last_epoch);
    let last_epoch = last_epoch.or(replaced.map(|page| page.last_epoch));
    let (Some(newest), Some(base)) = (newest, base) else {
        return Err(Rejection::ExtentsOutOfOrder);
    };
    let count = replaced.map_or(0, |page| page.extents as usize) + moved.len();
    let is_beginning_right = match dropped {
        0 => (page.base, page.data_bytes, page.newest) == (base, data_bytes, newest),
        _ => {
            let has_newest = newest.offset >= page.base;
            replaced.is_some()
                && base < page.base
                && page.base <= log_start
                && page.data_bytes < data_bytes
                && (page.newest == newest
                    || !has_newest && page.newest.timestamp <= newest.timestamp)
        }
    };
    let is_right = is_beginning_right
        && Some(page.end) == end
        && Some(page.last_epoch) == last_epoch
        && page.extents as usize + dropped == count;
    match is_right {
        true => Ok(()),
        false => Err(Rejection::ExtentsOutOfOrder),
    }
}

fn check_count(objects: &[RemoteObject]) -> Result<(), Rejection> {
    match objects.len() <= LOOSE_OBJECTS_PER_COMMAND_MAX {
        true => Ok(()),
        false => Err(Rejection::TooManyObjects(objects.len())),
    }
}

fn page_name(topic: TopicId, partition: PartitionId, page: &PageRef) -> RemoteObject {
    RemoteObject::Page {
        topic,
        partition,
        first: page.base,
        hash: page.hash,
    }
}

fn discard(image: &mut MetadataImage, object: RemoteObject, with_extents: bool) {
    let garbage = Garbage {
        since: image.index,
        with_extents,
        expired: false,
    };
    image.garbage.insert_mut(object, garbage);
}

fn put(image: &mut MetadataImage, topic: TopicId, partition: PartitionId, log: RemoteLog) {
    image
        .remote_logs
        .insert_mut((topic, partition), Arc::new(log));
}

#[cfg(test)]
mod tests;
