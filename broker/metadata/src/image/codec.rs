//! The image as bytes, for snapshots and for comparing replicas. One image has one encoding: maps are
//! ordered, and nothing in it depends on the machine.

pub(crate) mod transforms;

use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, VectorSync};
use tidemill_records::{
    Extent, LeaderEpoch, ManifestError, NodeId, Offset, PageRef, PartitionId, RemoteObject, TopicId,
};

use super::remote::{Garbage, INLINE_EXTENTS_MAX, Prepare, RemoteLog};
use super::topic::NodeLists;
use super::{
    BrokerEpoch, BrokerImage, ConfigResource, Configs, Listener, MetadataImage, PartitionImage,
    RetiredEpochs, TopicImage,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::level::{LevelRange, MetadataLevel};

const VERSION: u8 = 3;

pub(crate) fn encode(image: &MetadataImage) -> Vec<u8> {
    let mut w = Writer::default();
    w.u8(VERSION);
    w.u64(image.index);
    w.uuid(image.cluster_id);
    w.u64(image.level.0.into());
    w.i64(image.next_producer_id);
    w.count(image.brokers.size());
    image
        .brokers()
        .for_each(|broker| put_broker(&mut w, broker));
    w.count(image.topics.size());
    image.topics().for_each(|topic| put_topic(&mut w, topic));
    w.count(image.configs.size());
    for (resource, configs) in image.configs.iter() {
        put_resource(&mut w, resource);
        w.count(configs.len());
        for (key, value) in configs.iter() {
            w.text(key);
            w.text(value);
        }
    }
    w.i32(image.retired_epochs.floor.0);
    w.count(image.retired_epochs.by_name.size());
    for (name, epoch) in image.retired_epochs.by_name.iter() {
        w.text(name);
        w.i32(epoch.0);
    }
    w.count(image.deletions.size());
    for (index, id) in image.deletions.iter() {
        w.u64(*index);
        w.uuid(id.0);
    }
    put_tier(&mut w, image);
    transforms::put(&mut w, image);
    w.finish()
}

fn put_tier(w: &mut Writer, image: &MetadataImage) {
    w.u64(image.tier_incarnation);
    w.count(image.remote_logs.size());
    for ((topic, partition), log) in image.remote_logs.iter() {
        w.uuid(topic.0);
        w.i32(partition.0);
        w.i64(log.start.0);
        w.i64(log.end.0);
        w.u64(log.generation);
        w.count(log.pages.len());
        log.pages
            .iter()
            .for_each(|page| put_packed(w, |out| page.encode(out)));
        w.bytes(&log.extents);
    }
    w.count(image.prepares.size());
    for (object, prepare) in image.prepares.iter() {
        put_packed(w, |out| object.encode(out));
        put_prepare(w, prepare);
    }
    w.count(image.garbage.size());
    for (object, garbage) in image.garbage.iter() {
        put_packed(w, |out| object.encode(out));
        w.u64(garbage.since);
        w.bool(garbage.with_extents);
        w.bool(garbage.expired);
    }
}

fn get_tier(r: &mut Reader<'_>, image: &mut MetadataImage) -> Result<(), DecodeError> {
    image.tier_incarnation = r.u64()?;
    for _ in 0..r.count()? {
        let (topic, partition) = (TopicId(r.uuid()?), PartitionId(r.i32()?));
        let mut log = RemoteLog::starting_at(Offset(r.i64()?));
        log.end = Offset(r.i64()?);
        log.generation = r.u64()?;
        log.pages = r.list(|r| get_packed(r, PageRef::decode))?.into();
        let mut packed = r.bytes()?;
        let mut extents = Vec::new();
        while !packed.is_empty() {
            let extent = Extent::decode(&mut packed);
            extents.push(extent.map_err(manifest)?);
        }
        if extents.len() > INLINE_EXTENTS_MAX {
            return Err(DecodeError::Invalid("the extents of a remote log"));
        }
        log.set_extents(&extents);
        image
            .remote_logs
            .insert_mut((topic, partition), Arc::new(log));
    }
    for _ in 0..r.count()? {
        let object = get_packed(r, RemoteObject::decode)?;
        image.prepares.insert_mut(object, get_prepare(r)?);
    }
    for _ in 0..r.count()? {
        let object = get_packed(r, RemoteObject::decode)?;
        let garbage = Garbage {
            since: r.u64()?,
            with_extents: r.bool()?,
            expired: r.bool()?,
        };
        image.garbage.insert_mut(object, garbage);
    }
    Ok(())
}

pub(crate) fn put_prepare(w: &mut Writer, prepare: &Prepare) {
    w.uuid(prepare.topic.0);
    w.i32(prepare.partition.0);
    w.i32(prepare.leader_epoch.0);
}

pub(crate) fn get_prepare(r: &mut Reader<'_>) -> Result<Prepare, DecodeError> {
    Ok(Prepare {
        topic: TopicId(r.uuid()?),
        partition: PartitionId(r.i32()?),
        leader_epoch: LeaderEpoch(r.i32()?),
    })
}

/// What encodes itself, with its length in front.
pub(crate) fn put_packed(w: &mut Writer, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    w.bytes(&bytes);
}

/// What decodes itself; nothing may be left over.
pub(crate) fn get_packed<T>(
    r: &mut Reader<'_>,
    decode: impl FnOnce(&mut &[u8]) -> Result<T, ManifestError>,
) -> Result<T, DecodeError> {
    let mut bytes = r.bytes()?;
    let value = decode(&mut bytes).map_err(manifest)?;
    match bytes.len() {
        0 => Ok(value),
        left => Err(DecodeError::Trailing(left)),
    }
}

fn manifest(error: ManifestError) -> DecodeError {
    match error {
        ManifestError::Truncated => DecodeError::Truncated,
        ManifestError::Range => DecodeError::Invalid("an extent, page or object name"),
    }
}

pub(crate) fn decode(r: &mut Reader<'_>) -> Result<MetadataImage, DecodeError> {
    let version = r.u8()?;
    if !(1..=VERSION).contains(&version) {
        return Err(DecodeError::Newer {
            what: "metadata image",
            kind: 0,
            version,
        });
    }
    let mut image = MetadataImage::empty();
    image.index = r.u64()?;
    image.cluster_id = r.uuid()?;
    image.level = MetadataLevel(r.u16()?);
    image.next_producer_id = r.i64()?;
    for _ in 0..r.count()? {
        let broker = get_broker(r)?;
        image.brokers.insert_mut(broker.id, Arc::new(broker));
    }
    let mut lists = NodeLists::default();
    for _ in 0..r.count()? {
        let topic = get_topic(r, &mut lists)?;
        image
            .topic_names
            .insert_mut(topic.id, Arc::clone(&topic.name));
        image
            .topics
            .insert_mut(Arc::clone(&topic.name), Arc::new(topic));
    }
    for _ in 0..r.count()? {
        let resource = get_resource(r)?;
        let mut configs = Configs::default();
        for _ in 0..r.count()? {
            let key = r.text()?;
            configs.set(key, Some(r.text()?));
        }
        image.configs.insert_mut(resource, configs);
    }
    let floor = LeaderEpoch(r.i32()?);
    let mut by_name = RedBlackTreeMapSync::new_sync();
    for _ in 0..r.count()? {
        let name = r.text()?;
        by_name.insert_mut(name, LeaderEpoch(r.i32()?));
    }
    image.retired_epochs = RetiredEpochs { by_name, floor };
    for _ in 0..r.count()? {
        let index = r.u64()?;
        image.deletions.insert_mut(index, TopicId(r.uuid()?));
    }
    // Version 1 knew no tier.
    if version >= 2 {
        get_tier(r, &mut image)?;
    }
    // Version 2 knew no functions.
    if version >= 3 {
        transforms::get(r, &mut image)?;
    }
    Ok(image)
}

fn put_broker(w: &mut Writer, broker: &BrokerImage) {
    w.i32(broker.id.0);
    w.uuid(broker.incarnation);
    w.uuid(broker.directory);
    w.i64(broker.epoch.0);
    w.bool(broker.fenced);
    w.option(broker.rack.as_deref(), Writer::text);
    put_listeners(w, &broker.listeners);
    put_levels(w, broker.levels);
}

fn get_broker(r: &mut Reader<'_>) -> Result<BrokerImage, DecodeError> {
    Ok(BrokerImage {
        id: NodeId(r.i32()?),
        incarnation: r.uuid()?,
        directory: r.uuid()?,
        epoch: BrokerEpoch(r.i64()?),
        fenced: r.bool()?,
        rack: r.option(Reader::text)?,
        listeners: get_listeners(r)?.into(),
        levels: get_levels(r)?,
    })
}

pub(crate) fn put_listeners(w: &mut Writer, listeners: &[Listener]) {
    w.count(listeners.len());
    for listener in listeners {
        w.text(&listener.name);
        w.text(&listener.host);
        w.u64(listener.port.into());
    }
}

pub(crate) fn get_listeners(r: &mut Reader<'_>) -> Result<Vec<Listener>, DecodeError> {
    r.list(|r| {
        Ok(Listener {
            name: r.text()?,
            host: r.text()?,
            port: r.u16()?,
        })
    })
}

pub(crate) fn put_levels(w: &mut Writer, levels: LevelRange) {
    w.u64(levels.min.0.into());
    w.u64(levels.max.0.into());
}

pub(crate) fn get_levels(r: &mut Reader<'_>) -> Result<LevelRange, DecodeError> {
    Ok(LevelRange {
        min: MetadataLevel(r.u16()?),
        max: MetadataLevel(r.u16()?),
    })
}

fn put_topic(w: &mut Writer, topic: &TopicImage) {
    w.text(&topic.name);
    w.uuid(topic.id.0);
    w.count(topic.partitions.len());
    for partition in topic.partitions.iter() {
        w.nodes(&partition.replicas);
        w.nodes(&partition.isr);
        w.nodes(&partition.elr);
        w.i32(partition.leader.0);
        w.i32(partition.leader_epoch.0);
        w.i32(partition.partition_epoch);
    }
}

fn get_topic(r: &mut Reader<'_>, lists: &mut NodeLists) -> Result<TopicImage, DecodeError> {
    let (name, id) = (r.text()?, TopicId(r.uuid()?));
    let mut partitions = VectorSync::new_sync();
    for _ in 0..r.count()? {
        partitions.push_back_mut(PartitionImage {
            replicas: lists.get(&r.nodes()?),
            isr: lists.get(&r.nodes()?),
            elr: lists.get(&r.nodes()?),
            leader: NodeId(r.i32()?),
            leader_epoch: LeaderEpoch(r.i32()?),
            partition_epoch: r.i32()?,
        });
    }
    Ok(TopicImage {
        name,
        id,
        partitions,
    })
}

pub(crate) fn put_resource(w: &mut Writer, resource: &ConfigResource) {
    match resource {
        ConfigResource::Topic(name) => {
            w.u8(0);
            w.text(name);
        }
        ConfigResource::Broker(node) => {
            w.u8(1);
            w.i32(node.0);
        }
        ConfigResource::DefaultBroker => w.u8(2),
    }
}

pub(crate) fn get_resource(r: &mut Reader<'_>) -> Result<ConfigResource, DecodeError> {
    match r.u8()? {
        0 => Ok(ConfigResource::Topic(r.text()?)),
        1 => Ok(ConfigResource::Broker(NodeId(r.i32()?))),
        2 => Ok(ConfigResource::DefaultBroker),
        _ => Err(DecodeError::Invalid("a configuration resource")),
    }
}
