//! What the tests of several modules share: short ways to write commands, and arbitrary ones.

pub(crate) mod remote;
pub(crate) mod transforms;

use std::sync::Arc;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidemill_records::{LeaderEpoch, NodeId, PartitionId, TopicId};
use uuid::Uuid;

use crate::apply::apply;
use crate::command::{Command, Outcome, Rejection};
use crate::image::{BrokerEpoch, ConfigResource, Listener, MetadataImage};
use crate::level::{LevelRange, MetadataLevel};

pub(crate) const CLUSTER: Uuid = Uuid::from_u128(0x7469_6465);

pub(crate) fn form() -> Command {
    Command::FormCluster {
        cluster_id: CLUSTER,
        level: MetadataLevel::FIRST,
    }
}

pub(crate) fn register(node: i32, incarnation: u128) -> Command {
    Command::RegisterBroker {
        node: NodeId(node),
        incarnation: Uuid::from_u128(incarnation),
        directory: Uuid::from_u128(node as u128),
        rack: None,
        listeners: vec![Listener {
            name: "PLAIN".into(),
            host: "127.0.0.1".into(),
            port: 9092,
        }],
        levels: LevelRange::OURS,
        fenced: false,
    }
}

pub(crate) fn topic_id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

pub(crate) fn create(name: &str, id: u128, partitions: &[&[i32]]) -> Command {
    Command::CreateTopic {
        name: name.into(),
        id: topic_id(id),
        partitions: partitions
            .iter()
            .map(|p| p.iter().copied().map(NodeId).collect())
            .collect(),
        configs: vec![],
    }
}

pub(crate) fn set_topic_config(name: &str, key: &str, value: Option<&str>) -> Command {
    Command::SetConfigs {
        resource: ConfigResource::Topic(name.into()),
        changes: vec![(key.into(), value.map(Into::into))],
    }
}

/// An image that commands are applied to one after the other.
pub(crate) struct History {
    pub(crate) image: MetadataImage,
}

impl History {
    /// A formed cluster with brokers 1 to `brokers`, none fenced.
    pub(crate) fn with_brokers(brokers: i32) -> Self {
        let mut history = Self {
            image: MetadataImage::empty(),
        };
        history.ok(form());
        (1..=brokers).for_each(|node| drop(history.ok(register(node, node as u128))));
        history
    }

    pub(crate) fn run(&mut self, command: Command) -> Result<Outcome, Rejection> {
        let (image, result) = apply(&self.image, self.image.index() + 1, &command);
        self.image = image;
        result
    }

    pub(crate) fn ok(&mut self, command: Command) -> Outcome {
        self.run(command).expect("the command is taken")
    }

    pub(crate) fn epoch_of(&self, node: i32) -> BrokerEpoch {
        self.image.broker(NodeId(node)).expect("registered").epoch
    }
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-z.]{0,12}".prop_map(Into::into)
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof![(0..6i32).prop_map(NodeId), any::<i32>().prop_map(NodeId)]
}

fn epoch() -> impl Strategy<Value = BrokerEpoch> {
    any::<i64>().prop_map(BrokerEpoch)
}

fn level() -> impl Strategy<Value = MetadataLevel> {
    any::<u16>().prop_map(MetadataLevel)
}

fn resource() -> impl Strategy<Value = ConfigResource> {
    prop_oneof![
        text().prop_map(ConfigResource::Topic),
        node().prop_map(ConfigResource::Broker),
        Just(ConfigResource::DefaultBroker),
    ]
}

fn listener() -> impl Strategy<Value = Listener> {
    (text(), text(), any::<u16>()).prop_map(|(name, host, port)| Listener { name, host, port })
}

/// Any command, sensible or not.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![11 => cluster_command(), 7 => remote::command(), 7 => transforms::command()]
}

fn cluster_command() -> impl Strategy<Value = Command> {
    let topic = || id().prop_map(TopicId);
    let partitions = || vec(vec(node(), 0..4), 0..5);
    let levels = (level(), level()).prop_map(|(min, max)| LevelRange { min, max });
    prop_oneof![
        (id(), level()).prop_map(|(cluster_id, level)| Command::FormCluster { cluster_id, level }),
        (
            node(),
            id(),
            id(),
            option::of(text()),
            vec(listener(), 0..3),
            levels,
            any::<bool>()
        )
            .prop_map(
                |(node, incarnation, directory, rack, listeners, levels, fenced)| {
                    Command::RegisterBroker {
                        node,
                        incarnation,
                        directory,
                        rack,
                        listeners,
                        levels,
                        fenced,
                    }
                }
            ),
        (node(), epoch()).prop_map(|(node, epoch)| Command::FenceBroker { node, epoch }),
        (node(), epoch()).prop_map(|(node, epoch)| Command::UnfenceBroker { node, epoch }),
        (text(), topic(), partitions(), vec((text(), text()), 0..3)).prop_map(
            |(name, id, partitions, configs)| Command::CreateTopic {
                name,
                id,
                partitions,
                configs
            }
        ),
        topic().prop_map(|id| Command::DeleteTopic { id }),
        (topic(), any::<i32>(), partitions()).prop_map(|(id, current, partitions)| {
            Command::CreatePartitions {
                id,
                current,
                partitions,
            }
        }),
        (resource(), vec((text(), option::of(text())), 0..3))
            .prop_map(|(resource, changes)| Command::SetConfigs { resource, changes }),
        (node(), epoch()).prop_map(|(node, epoch)| Command::AllocateProducerIds { node, epoch }),
        level().prop_map(|level| Command::SetLevel { level }),
        (
            topic(),
            any::<i32>(),
            any::<i32>(),
            any::<i32>(),
            option::of(vec((node(), epoch()), 0..4)),
            option::of(node())
        )
            .prop_map(
                |(topic, partition, leader_epoch, partition_epoch, isr, leader)| {
                    Command::ChangePartition {
                        topic,
                        partition: PartitionId(partition),
                        leader_epoch: LeaderEpoch(leader_epoch),
                        partition_epoch,
                        isr,
                        leader,
                    }
                }
            ),
    ]
}
