//! The commands that change the metadata, and what comes of them. A command carries everything that
//! decides its outcome: applying reads no clock, draws no random number and looks at nothing but the
//! image, so every replica comes to the same result.

mod codec;
mod deployment;
mod rejection;

use std::sync::Arc;

use tidemill_records::{
    Extent, LeaderEpoch, NodeId, ObjectId, Offset, PageRef, PartitionId, ProducerId, RemoteObject,
    TopicId,
};
use uuid::Uuid;

pub use deployment::Deployment;
pub use rejection::{AssignmentFault, FunctionFault, LabelFault, Rejection, TransformFault};

use crate::image::{
    BrokerEpoch, ConfigResource, FunctionId, FunctionImage, Listener, PartitionImage, Prepare,
};
use crate::level::{LevelRange, MetadataLevel};

/// A key and its new value; `None` goes back to the default.
pub type ConfigChange = (Arc<str>, Option<Arc<str>>);

/// A change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Gives a new cluster its id and first metadata level. The first command of every cluster.
    FormCluster {
        /// The cluster's id.
        cluster_id: Uuid,
        /// The level to start at.
        level: MetadataLevel,
    },
    /// Announces a start of a broker. Whatever an earlier incarnation led gets a new leader epoch:
    /// what that incarnation had not made durable is gone, and its readers must notice.
    /// [`Outcome::BrokerRegistered`].
    RegisterBroker {
        /// The broker.
        node: NodeId,
        /// Drawn anew at every start; the same one again is a retry and changes no epoch.
        incarnation: Uuid,
        /// Identity of its data directory.
        directory: Uuid,
        /// Its rack.
        rack: Option<Arc<str>>,
        /// Where it listens.
        listeners: Vec<Listener>,
        /// The metadata levels that its release understands.
        levels: LevelRange,
        /// Whether it has to be unfenced before it may lead.
        fenced: bool,
    },
    /// Takes a broker out of every ISR and elects other leaders, all in one step.
    FenceBroker {
        /// The broker.
        node: NodeId,
        /// The registration that is meant.
        epoch: BrokerEpoch,
    },
    /// Lets a broker lead again, and at once what has no leader and may be led by it.
    UnfenceBroker {
        /// The broker.
        node: NodeId,
        /// The registration that is meant.
        epoch: BrokerEpoch,
    },
    /// Creates a topic. [`Outcome::TopicCreated`].
    CreateTopic {
        /// A legal name.
        name: Arc<str>,
        /// A fresh id.
        id: TopicId,
        /// The replicas of each partition, the preferred leader first.
        partitions: Vec<Vec<NodeId>>,
        /// What the topic sets.
        configs: Vec<(Arc<str>, Arc<str>)>,
    },
    /// Deletes a topic with its configuration.
    DeleteTopic {
        /// The topic.
        id: TopicId,
    },
    /// Adds partitions to a topic.
    CreatePartitions {
        /// The topic.
        id: TopicId,
        /// How many partitions it has; another number rejects, so that a retry adds nothing twice.
        current: i32,
        /// The replicas of each new partition.
        partitions: Vec<Vec<NodeId>>,
    },
    /// Changes configuration.
    SetConfigs {
        /// What it belongs to.
        resource: ConfigResource,
        /// The keys; all are changed or none.
        changes: Vec<ConfigChange>,
    },
    /// Hands a block of producer ids to a broker. [`Outcome::ProducerIds`].
    AllocateProducerIds {
        /// The broker.
        node: NodeId,
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// Finalises another metadata level; never a lower one.
    SetLevel {
        /// The level.
        level: MetadataLevel,
    },
    /// Changes the ISR or the leader of one partition (AlterPartition and elections).
    /// [`Outcome::PartitionChanged`].
    ChangePartition {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The leader epoch that the proposer saw.
        leader_epoch: LeaderEpoch,
        /// The partition epoch that the proposer saw.
        partition_epoch: i32,
        /// The whole new ISR with the registrations that are meant, or as it is.
        isr: Option<Vec<(NodeId, BrokerEpoch)>>,
        /// The new leader, out of the (new) ISR, or as it is.
        leader: Option<NodeId>,
    },
    /// Notes that the cluster owns its tier as this incarnation, whose claim is in the bucket. Only a higher one is taken.
    ClaimTier {
        /// The incarnation.
        incarnation: u64,
    },
    /// Announces an upload. From here on the object may be in the bucket; without this it must not.
    PrepareObject {
        /// The object.
        object: RemoteObject,
        /// What for.
        prepare: Prepare,
    },
    /// Changes which extents a remote log has; see [`ExtentReplacement`].
    ReplaceExtents(ExtentReplacement),
    /// Moves the oldest extents into a page, or drops dead ones from the first page; see [`PageSeal`].
    SealPage(PageSeal),
    /// Lets a log with a tier begin later (DeleteRecords, retention). What lies wholly below is garbage. An offset below the start
    /// changes nothing.
    AdvanceLogStart {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: PartitionId,
        /// The leader epoch of the proposer.
        leader_epoch: LeaderEpoch,
        /// The new log start offset.
        start: Offset,
    },
    /// Gives announced uploads up: they can never be committed. An object that is not announced is passed over.
    ExpirePrepares {
        /// The objects.
        objects: Vec<RemoteObject>,
    },
    /// Notes that garbage is deleted.
    ForgetGarbage {
        /// The objects.
        objects: Vec<RemoteObject>,
    },
    /// Makes an artifact known, whose bytes are stored already. One that is known stays as it is.
    AddFunction(FunctionImage),
    /// Forgets an artifact that no version of any transform names.
    DeleteFunction {
        /// The artifact.
        id: FunctionId,
    },
    /// Deploys a function on topics: as a new transform, or as a new version of one that there is.
    /// [`Outcome::TransformDeployed`].
    DeployTransform(Deployment),
    /// Lets a transform run another version that is kept (rollback).
    SelectVersion {
        /// The transform.
        name: Arc<str>,
        /// The version.
        number: u32,
    },
    /// Lets a transform rest, or go on.
    PauseTransform {
        /// The transform.
        name: Arc<str>,
        /// Whether it rests.
        is_paused: bool,
    },
    /// Lets all tasks of a transform begin again elsewhere.
    RewindTransform {
        /// The transform.
        name: Arc<str>,
        /// The generation of the origin that the proposer saw; another one rejects, so that a retry
        /// rewinds once.
        generation: u64,
        /// The source as it is now.
        topic: TopicId,
        /// An offset for each of its partitions; those that are left out begin at 0.
        offsets: Vec<Offset>,
    },
    /// Deletes a transform with all its versions. Its function stays.
    DeleteTransform {
        /// The transform.
        name: Arc<str>,
    },
}

/// Puts extents into a remote log: at its end, or in the place of others that cover the same offsets. The objects were
/// announced by [`Command::PrepareObject`] in the same leader epoch; those that are replaced become garbage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentReplacement {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The leader epoch of the proposer.
    pub leader_epoch: LeaderEpoch,
    /// The end of the remote log that the proposer saw; of the first upload, where it begins.
    pub expected_end: Offset,
    /// Extents that go, by object, one after the other; only such as are not in pages. None appends.
    pub remove: Vec<ObjectId>,
    /// Extents that come, one after the other.
    pub add: Vec<Extent>,
}

/// Puts a new page into a remote log: after the last one, or in the place of another. It takes over the extents of the page that
/// it replaces, but for those that it drops, and the oldest of those that are in no page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSeal {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The leader epoch of the proposer.
    pub leader_epoch: LeaderEpoch,
    /// The generation of the remote log that the page was made from.
    pub generation: u64,
    /// The page, announced by [`Command::PrepareObject`].
    pub page: PageRef,
    /// The hash of the page that it takes the place of: the last one where extents are moved, the first one where some are dropped.
    pub replaces: Option<u64>,
    /// Extents of the replaced page, the first ones, that lie wholly below the log's start. Only the page names them, so the
    /// command must: they become garbage.
    pub dropped: Vec<ObjectId>,
    /// How many extents it takes from those that are in no page.
    pub moved: u32,
}

impl Command {
    /// The lowest metadata level at which it may be written.
    pub fn required_level(&self) -> MetadataLevel {
        match self {
            Self::FormCluster { .. } => MetadataLevel::UNFORMED,
            _ => MetadataLevel::FIRST,
        }
    }
}

/// What a command that was taken has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The broker is registered under this epoch.
    BrokerRegistered(BrokerEpoch),
    /// The topic exists.
    TopicCreated(TopicId),
    /// The broker owns `count` producer ids from `first` on.
    ProducerIds {
        /// The first.
        first: ProducerId,
        /// How many.
        count: i32,
    },
    /// The partition's state now.
    PartitionChanged(PartitionImage),
    /// The transform runs this version.
    TransformDeployed {
        /// Its number.
        version: u32,
    },
}
