//! Commands as bytes: kind, version, fields. A kind keeps its number and a version its fields for ever;
//! new fields come as a new version of the kind, at a new metadata level.

use bytes::Bytes;
use tidemill_records::{
    Extent, LeaderEpoch, NodeId, ObjectId, Offset, PageRef, PartitionId, RemoteObject, TopicId,
};

use super::{Command, ExtentReplacement, PageSeal};
use crate::codec::{DecodeError, Reader, Writer};
use crate::image::BrokerEpoch;
use crate::image::codec::transforms::{
    get_function, get_function_id, get_offsets, put_function, put_offsets,
};
use crate::image::codec::{
    get_levels, get_listeners, get_packed, get_prepare, get_resource, put_levels, put_listeners,
    put_packed, put_prepare, put_resource,
};
use crate::level::MetadataLevel;

mod transforms;

mod kind {
    pub(super) const FORM_CLUSTER: u16 = 1;
    pub(super) const REGISTER_BROKER: u16 = 2;
    pub(super) const FENCE_BROKER: u16 = 3;
    pub(super) const UNFENCE_BROKER: u16 = 4;
    pub(super) const CREATE_TOPIC: u16 = 5;
    pub(super) const DELETE_TOPIC: u16 = 6;
    pub(super) const CREATE_PARTITIONS: u16 = 7;
    pub(super) const SET_CONFIGS: u16 = 8;
    pub(super) const ALLOCATE_PRODUCER_IDS: u16 = 9;
    pub(super) const SET_LEVEL: u16 = 10;
    pub(super) const CHANGE_PARTITION: u16 = 11;
    pub(super) const CLAIM_TIER: u16 = 12;
    pub(super) const PREPARE_OBJECT: u16 = 13;
    pub(super) const REPLACE_EXTENTS: u16 = 14;
    pub(super) const SEAL_PAGE: u16 = 15;
    pub(super) const ADVANCE_LOG_START: u16 = 16;
    pub(super) const EXPIRE_PREPARES: u16 = 17;
    pub(super) const FORGET_GARBAGE: u16 = 18;
    pub(super) const ADD_FUNCTION: u16 = 19;
    pub(super) const DELETE_FUNCTION: u16 = 20;
    pub(super) const DEPLOY_TRANSFORM: u16 = 21;
    pub(super) const SELECT_VERSION: u16 = 22;
    pub(super) const PAUSE_TRANSFORM: u16 = 23;
    pub(super) const REWIND_TRANSFORM: u16 = 24;
    pub(super) const DELETE_TRANSFORM: u16 = 25;
}

impl Command {
    /// The command as it is stored and sent.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::default();
        w.u64(self.kind().into());
        w.u8(1);
        self.encode_fields(&mut w);
        w.finish().into()
    }

    /// Reads what [`Command::encode`] wrote. [`DecodeError::Newer`] for a kind or version of a later
    /// release: such an entry must stop a replica, since skipping it would make it differ.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (kind, version) = (r.u16()?, r.u8()?);
        if version != 1 {
            return Err(DecodeError::Newer {
                what: "metadata command",
                kind,
                version,
            });
        }
        let command = Self::decode_fields(kind, &mut r)?;
        r.end()?;
        Ok(command)
    }

    fn kind(&self) -> u16 {
        match self {
            Self::FormCluster { .. } => kind::FORM_CLUSTER,
            Self::RegisterBroker { .. } => kind::REGISTER_BROKER,
            Self::FenceBroker { .. } => kind::FENCE_BROKER,
            Self::UnfenceBroker { .. } => kind::UNFENCE_BROKER,
            Self::CreateTopic { .. } => kind::CREATE_TOPIC,
            Self::DeleteTopic { .. } => kind::DELETE_TOPIC,
            Self::CreatePartitions { .. } => kind::CREATE_PARTITIONS,
            Self::SetConfigs { .. } => kind::SET_CONFIGS,
            Self::AllocateProducerIds { .. } => kind::ALLOCATE_PRODUCER_IDS,
            Self::SetLevel { .. } => kind::SET_LEVEL,
            Self::ChangePartition { .. } => kind::CHANGE_PARTITION,
            Self::ClaimTier { .. } => kind::CLAIM_TIER,
            Self::PrepareObject { .. } => kind::PREPARE_OBJECT,
            Self::ReplaceExtents(_) => kind::REPLACE_EXTENTS,
            Self::SealPage(_) => kind::SEAL_PAGE,
            Self::AdvanceLogStart { .. } => kind::ADVANCE_LOG_START,
            Self::ExpirePrepares { .. } => kind::EXPIRE_PREPARES,
            Self::ForgetGarbage { .. } => kind::FORGET_GARBAGE,
            Self::AddFunction(_) => kind::ADD_FUNCTION,
            Self::DeleteFunction { .. } => kind::DELETE_FUNCTION,
            Self::DeployTransform(_) => kind::DEPLOY_TRANSFORM,
            Self::SelectVersion { .. } => kind::SELECT_VERSION,
            Self::PauseTransform { .. } => kind::PAUSE_TRANSFORM,
            Self::RewindTransform { .. } => kind::REWIND_TRANSFORM,
            Self::DeleteTransform { .. } => kind::DELETE_TRANSFORM,
        }
    }

    fn encode_fields(&self, w: &mut Writer) {
        match self {
            Self::FormCluster { cluster_id, level } => {
                w.uuid(*cluster_id);
                w.u64(level.0.into());
            }
            Self::RegisterBroker {
                node,
                incarnation,
                directory,
                rack,
                listeners,
                levels,
                fenced,
            } => {
                w.i32(node.0);
                w.uuid(*incarnation);
                w.uuid(*directory);
                w.option(rack.as_deref(), Writer::text);
                put_listeners(w, listeners);
                put_levels(w, *levels);
                w.bool(*fenced);
            }
            Self::FenceBroker { node, epoch }
            | Self::UnfenceBroker { node, epoch }
            | Self::AllocateProducerIds { node, epoch } => {
                w.i32(node.0);
                w.i64(epoch.0);
            }
            Self::CreateTopic {
                name,
                id,
                partitions,
                configs,
            } => {
                w.text(name);
                w.uuid(id.0);
                put_assignments(w, partitions);
                w.count(configs.len());
                for (key, value) in configs {
                    w.text(key);
                    w.text(value);
                }
            }
            Self::DeleteTopic { id } => w.uuid(id.0),
            Self::CreatePartitions {
                id,
                current,
                partitions,
            } => {
                w.uuid(id.0);
                w.i32(*current);
                put_assignments(w, partitions);
            }
            Self::SetConfigs { resource, changes } => {
                put_resource(w, resource);
                w.count(changes.len());
                for (key, value) in changes {
                    w.text(key);
                    w.option(value.as_deref(), Writer::text);
                }
            }
            Self::SetLevel { level } => w.u64(level.0.into()),
            Self::ChangePartition {
                topic,
                partition,
                leader_epoch,
                partition_epoch,
                isr,
                leader,
            } => {
                w.uuid(topic.0);
                w.i32(partition.0);
                w.i32(leader_epoch.0);
                w.i32(*partition_epoch);
                w.option(isr.as_deref(), |w, isr| {
                    w.count(isr.len());
                    for (node, epoch) in isr {
                        w.i32(node.0);
                        w.i64(epoch.0);
                    }
                });
                w.option(*leader, |w, leader| w.i32(leader.0));
            }
            Self::ClaimTier { incarnation } => w.u64(*incarnation),
            Self::PrepareObject { object, prepare } => {
                put_packed(w, |out| object.encode(out));
                put_prepare(w, prepare);
            }
            Self::ReplaceExtents(replacement) => put_replacement(w, replacement),
            Self::SealPage(seal) => put_seal(w, seal),
            Self::AdvanceLogStart {
                topic,
                partition,
                leader_epoch,
                start,
            } => {
                w.uuid(topic.0);
                w.i32(partition.0);
                w.i32(leader_epoch.0);
                w.i64(start.0);
            }
            Self::ExpirePrepares { objects } | Self::ForgetGarbage { objects } => {
                w.count(objects.len());
                for object in objects {
                    put_packed(w, |out| object.encode(out));
                }
            }
            Self::AddFunction(function) => put_function(w, function),
            Self::DeleteFunction { id } => w.raw(&id.0),
            Self::DeployTransform(deployment) => transforms::put_deployment(w, deployment),
            Self::SelectVersion { name, number } => {
                w.text(name);
                w.u64((*number).into());
            }
            Self::PauseTransform { name, is_paused } => {
                w.text(name);
                w.bool(*is_paused);
            }
            Self::RewindTransform {
                name,
                generation,
                topic,
                offsets,
            } => {
                w.text(name);
                w.u64(*generation);
                w.uuid(topic.0);
                put_offsets(w, offsets);
            }
            Self::DeleteTransform { name } => w.text(name),
        }
    }

    fn decode_fields(kind: u16, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            kind::FORM_CLUSTER => Self::FormCluster {
                cluster_id: r.uuid()?,
                level: MetadataLevel(r.u16()?),
            },
            kind::REGISTER_BROKER => Self::RegisterBroker {
                node: NodeId(r.i32()?),
                incarnation: r.uuid()?,
                directory: r.uuid()?,
                rack: r.option(Reader::text)?,
                listeners: get_listeners(r)?,
                levels: get_levels(r)?,
                fenced: r.bool()?,
            },
            kind::FENCE_BROKER => Self::FenceBroker {
                node: NodeId(r.i32()?),
                epoch: BrokerEpoch(r.i64()?),
            },
            kind::UNFENCE_BROKER => Self::UnfenceBroker {
                node: NodeId(r.i32()?),
                epoch: BrokerEpoch(r.i64()?),
            },
            kind::CREATE_TOPIC => Self::CreateTopic {
                name: r.text()?,
                id: TopicId(r.uuid()?),
                partitions: r.list(Reader::nodes)?,
                configs: r.list(|r| Ok((r.text()?, r.text()?)))?,
            },
            kind::DELETE_TOPIC => Self::DeleteTopic {
                id: TopicId(r.uuid()?),
            },
            kind::CREATE_PARTITIONS => Self::CreatePartitions {
                id: TopicId(r.uuid()?),
                current: r.i32()?,
                partitions: r.list(Reader::nodes)?,
            },
            kind::SET_CONFIGS => Self::SetConfigs {
                resource: get_resource(r)?,
                changes: r.list(|r| Ok((r.text()?, r.option(Reader::text)?)))?,
            },
            kind::ALLOCATE_PRODUCER_IDS => Self::AllocateProducerIds {
                node: NodeId(r.i32()?),
                epoch: BrokerEpoch(r.i64()?),
            },
            kind::SET_LEVEL => Self::SetLevel {
                level: MetadataLevel(r.u16()?),
            },
            kind::CHANGE_PARTITION => Self::ChangePartition {
                topic: TopicId(r.uuid()?),
                partition: PartitionId(r.i32()?),
                leader_epoch: LeaderEpoch(r.i32()?),
                partition_epoch: r.i32()?,
                isr: r.option(|r| r.list(|r| Ok((NodeId(r.i32()?), BrokerEpoch(r.i64()?)))))?,
                leader: r.option(|r| r.i32().map(NodeId))?,
            },
            kind::CLAIM_TIER => Self::ClaimTier {
                incarnation: r.u64()?,
            },
            kind::PREPARE_OBJECT => Self::PrepareObject {
                object: get_packed(r, RemoteObject::decode)?,
                prepare: get_prepare(r)?,
            },
            kind::REPLACE_EXTENTS => Self::ReplaceExtents(get_replacement(r)?),
            kind::SEAL_PAGE => Self::SealPage(get_seal(r)?),
            kind::ADVANCE_LOG_START => Self::AdvanceLogStart {
                topic: TopicId(r.uuid()?),
                partition: PartitionId(r.i32()?),
                leader_epoch: LeaderEpoch(r.i32()?),
                start: Offset(r.i64()?),
            },
            kind::EXPIRE_PREPARES => Self::ExpirePrepares {
                objects: r.list(|r| get_packed(r, RemoteObject::decode))?,
            },
            kind::FORGET_GARBAGE => Self::ForgetGarbage {
                objects: r.list(|r| get_packed(r, RemoteObject::decode))?,
            },
            kind::ADD_FUNCTION => Self::AddFunction(get_function(r)?),
            kind::DELETE_FUNCTION => Self::DeleteFunction {
                id: get_function_id(r)?,
            },
            kind::DEPLOY_TRANSFORM => Self::DeployTransform(transforms::get_deployment(r)?),
            kind::SELECT_VERSION => Self::SelectVersion {
                name: r.text()?,
                number: r.u32()?,
            },
            kind::PAUSE_TRANSFORM => Self::PauseTransform {
                name: r.text()?,
                is_paused: r.bool()?,
            },
            kind::REWIND_TRANSFORM => Self::RewindTransform {
                name: r.text()?,
                generation: r.u64()?,
                topic: TopicId(r.uuid()?),
                offsets: get_offsets(r)?,
            },
            kind::DELETE_TRANSFORM => Self::DeleteTransform { name: r.text()? },
            _ => {
                return Err(DecodeError::Newer {
                    what: "metadata command",
                    kind,
                    version: 1,
                });
            }
        })
    }
}

fn put_replacement(w: &mut Writer, replacement: &ExtentReplacement) {
    w.uuid(replacement.topic.0);
    w.i32(replacement.partition.0);
    w.i32(replacement.leader_epoch.0);
    w.i64(replacement.expected_end.0);
    put_ids(w, &replacement.remove);
    w.count(replacement.add.len());
    for extent in &replacement.add {
        put_packed(w, |out| extent.encode(out));
    }
}

fn get_replacement(r: &mut Reader<'_>) -> Result<ExtentReplacement, DecodeError> {
    Ok(ExtentReplacement {
        topic: TopicId(r.uuid()?),
        partition: PartitionId(r.i32()?),
        leader_epoch: LeaderEpoch(r.i32()?),
        expected_end: Offset(r.i64()?),
        remove: r.list(get_id)?,
        add: r.list(|r| get_packed(r, Extent::decode))?,
    })
}

fn put_seal(w: &mut Writer, seal: &PageSeal) {
    w.uuid(seal.topic.0);
    w.i32(seal.partition.0);
    w.i32(seal.leader_epoch.0);
    w.u64(seal.generation);
    put_packed(w, |out| seal.page.encode(out));
    w.option(seal.replaces, |w, hash| w.raw(&hash.to_be_bytes()));
    put_ids(w, &seal.dropped);
    w.u64(seal.moved.into());
}

fn get_seal(r: &mut Reader<'_>) -> Result<PageSeal, DecodeError> {
    Ok(PageSeal {
        topic: TopicId(r.uuid()?),
        partition: PartitionId(r.i32()?),
        leader_epoch: LeaderEpoch(r.i32()?),
        generation: r.u64()?,
        page: get_packed(r, PageRef::decode)?,
        replaces: r.option(|r| {
            let bytes = r.raw(8)?.try_into().expect("eight bytes were taken");
            Ok(u64::from_be_bytes(bytes))
        })?,
        dropped: r.list(get_id)?,
        moved: r.u32()?,
    })
}

fn put_ids(w: &mut Writer, objects: &[ObjectId]) {
    w.count(objects.len());
    objects
        .iter()
        .for_each(|object| w.raw(&object.0.to_be_bytes()));
}

fn get_id(r: &mut Reader<'_>) -> Result<ObjectId, DecodeError> {
    let bytes = r.raw(16)?.try_into().expect("sixteen bytes were taken");
    Ok(ObjectId(u128::from_be_bytes(bytes)))
}

fn put_assignments(w: &mut Writer, partitions: &[Vec<NodeId>]) {
    w.count(partitions.len());
    partitions.iter().for_each(|replicas| w.nodes(replicas));
}

#[cfg(test)]
mod tests;
