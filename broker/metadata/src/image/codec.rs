//! The image as bytes, for snapshots and for comparing replicas. One image has one encoding: maps are
//! ordered, and nothing in it depends on the machine.

use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, VectorSync};
use tidemill_records::{LeaderEpoch, NodeId, TopicId};

use super::topic::NodeLists;
use super::{
    BrokerEpoch, BrokerImage, ConfigResource, Configs, Listener, MetadataImage, PartitionImage,
    RetiredEpochs, TopicImage,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::level::{LevelRange, MetadataLevel};

const VERSION: u8 = 1;

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
    w.finish()
}

pub(crate) fn decode(r: &mut Reader<'_>) -> Result<MetadataImage, DecodeError> {
    let version = r.u8()?;
    if version != VERSION {
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
