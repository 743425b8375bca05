//! Why a command was refused. Refusing is an outcome like any other: every replica refuses alike, and
//! the image stays as it was.

use std::sync::Arc;

use tidemill_records::{NodeId, Offset, PartitionId, TopicId};
use uuid::Uuid;

use crate::codec::DecodeError;
use crate::image::{BrokerEpoch, INLINE_EXTENTS_MAX};
use crate::level::MetadataLevel;
use crate::limits::{
    COMMAND_BYTES_MAX, CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIGS_PER_RESOURCE_MAX,
    FUNCTIONS_MAX, LABEL_BYTES_MAX, LISTENERS_MAX, LOOSE_OBJECTS_PER_COMMAND_MAX,
    PARTITIONS_PER_COMMAND_MAX, PARTITIONS_PER_TOPIC_MAX, PREPARES_MAX, REPLICAS_MAX, SINKS_MAX,
    TRANSFORM_CONFIGS_MAX, TRANSFORMS_MAX,
};
use crate::names::{TopicNameFault, TransformNameFault};

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The cluster has an id already.
    #[error("the cluster is already formed")]
    AlreadyFormed,
    /// The command belongs to a metadata level that is not finalised.
    #[error("this needs metadata.version {required}, but {finalised} is finalised")]
    LevelTooLow {
        /// What it needs.
        required: MetadataLevel,
        /// What there is.
        finalised: MetadataLevel,
    },
    /// A level that is lower than the finalised one, or that some broker does not understand.
    #[error("metadata.version cannot become {wanted}: {} {min} to {max}", match .broker {
        Some(node) => format!("broker {node} understands"),
        None => "possible are".to_owned(),
    })]
    UnsupportedLevel {
        /// The level that was asked for.
        wanted: MetadataLevel,
        /// The lowest that would do.
        min: MetadataLevel,
        /// The highest that would do.
        max: MetadataLevel,
        /// Who stands in the way.
        broker: Option<NodeId>,
    },
    /// The encoded command is too large.
    #[error("the command takes {0} bytes, more than {COMMAND_BYTES_MAX}")]
    CommandTooLarge(usize),
    /// Its bytes would not be read back: in the log they would stop every replica for ever.
    #[error("the command cannot be stored: {0}")]
    Malformed(DecodeError),
    /// A topic of that name exists.
    #[error("the topic exists")]
    TopicExists(TopicId),
    /// No such topic.
    #[error("there is no such topic")]
    UnknownTopic,
    /// The id belongs to another topic, or is nil.
    #[error("the topic id is taken or nil")]
    TopicIdTaken,
    /// The name is not legal.
    #[error(transparent)]
    InvalidTopicName(#[from] TopicNameFault),
    /// No partitions, or too many of them.
    #[error(
        "{0} partitions: one command may create 1 to {PARTITIONS_PER_COMMAND_MAX}, \
         and a topic may have {PARTITIONS_PER_TOPIC_MAX}"
    )]
    PartitionCount(usize),
    /// The topic has another number of partitions than the command says.
    #[error("the topic has {0} partitions by now")]
    PartitionCountChanged(i32),
    /// A partition's replicas cannot be what the command says.
    #[error("partition {partition}: {fault}")]
    Assignment {
        /// Index of the partition within the topic.
        partition: PartitionId,
        /// What is wrong.
        fault: AssignmentFault,
    },
    /// No such partition.
    #[error("there is no such partition")]
    UnknownPartition,
    /// No such broker.
    #[error("broker {0} is not registered")]
    UnknownBroker(NodeId),
    /// The broker has registered anew since.
    #[error("the broker's epoch is {0}")]
    StaleBrokerEpoch(BrokerEpoch),
    /// The node id is negative.
    #[error("{0} is no node id")]
    InvalidNodeId(NodeId),
    /// A listener, host or rack is not as it should be.
    #[error(transparent)]
    InvalidLabel(#[from] LabelFault),
    /// The partition has another leader epoch by now.
    #[error("the leader epoch is not the current one")]
    StaleLeaderEpoch,
    /// The partition has changed since.
    #[error("the partition epoch is {0} by now")]
    StalePartitionEpoch(i32),
    /// The new ISR is empty, names a broker twice, or one that is no replica.
    #[error("the in-sync replicas are not a set of replicas")]
    InvalidIsr,
    /// A member of the new ISR is fenced or has registered anew.
    #[error("broker {0} is fenced or has restarted")]
    IneligibleReplica(NodeId),
    /// The leader is not in the ISR, or fenced.
    #[error("broker {0} cannot lead the partition")]
    IneligibleLeader(NodeId),
    /// A key or value is too long, or there are too many.
    #[error(
        "configuration: at most {CONFIGS_PER_RESOURCE_MAX} keys of 1 to {CONFIG_KEY_BYTES_MAX} bytes \
         with values of up to {CONFIG_VALUE_BYTES_MAX} bytes"
    )]
    ConfigTooLarge,
    /// The tier is claimed by as late an incarnation.
    #[error("the tier is claimed by incarnation {0} of the cluster")]
    TierClaimed(u64),
    /// The object was announced or committed before, or is a page of another partition.
    #[error("the object was announced before, or belongs elsewhere")]
    ObjectTaken,
    /// So many uploads are announced that no more are taken.
    #[error("{PREPARES_MAX} uploads are announced and neither committed nor given up")]
    TooManyPrepares,
    /// The object was not announced by this leader in this epoch, or the announcement has expired.
    #[error("the upload was not announced in this leader epoch, or has expired")]
    NotPrepared,
    /// The remote log ends elsewhere by now.
    #[error("the remote log ends at {0} by now")]
    RemoteEnd(Offset),
    /// The remote log has changed since.
    #[error("the remote log's generation is {0} by now")]
    RemoteGeneration(u64),
    /// No such extent or page, or not in this order.
    #[error("there is no such extent or page")]
    UnknownExtent,
    /// The extents leave a gap, overlap, or go back in leader epochs.
    #[error("the extents leave a gap, overlap, or go back in leader epochs")]
    ExtentsOutOfOrder,
    /// The oldest extents have to be moved into a page first.
    #[error("the remote log has {INLINE_EXTENTS_MAX} extents that are in no page")]
    TooManyExtents,
    /// Too many objects in one command.
    #[error("{0} objects: one command may have {LOOSE_OBJECTS_PER_COMMAND_MAX}")]
    TooManyObjects(usize),
    /// All producer ids were handed out.
    #[error("there are no producer ids left")]
    ProducerIdsExhausted,
    /// No such function.
    #[error("there is no such function: it has to be uploaded first")]
    UnknownFunction,
    /// A version of this transform names the function.
    #[error("transform {0} has a version that runs the function: delete the transform first")]
    FunctionInUse(Arc<str>),
    /// The function cannot be what the command says.
    #[error(transparent)]
    InvalidFunction(#[from] FunctionFault),
    /// No more functions are taken.
    #[error("there are {FUNCTIONS_MAX} functions: delete one that no transform runs")]
    TooManyFunctions,
    /// No such transform.
    #[error("there is no such transform")]
    UnknownTransform,
    /// A transform of that name exists, with this id.
    #[error("the transform exists")]
    TransformExists(Uuid),
    /// The id belongs to another transform, or is nil.
    #[error("the transform's id is taken or nil")]
    TransformIdTaken,
    /// The name is not legal.
    #[error(transparent)]
    InvalidTransformName(#[from] TransformNameFault),
    /// No more transforms are taken.
    #[error("there are {TRANSFORMS_MAX} transforms: delete one that is not needed")]
    TooManyTransforms,
    /// The transform runs another version than the proposer saw.
    #[error("the transform runs version {0} by now")]
    TransformVersionChanged(u32),
    /// The transform has no such version, or not any more.
    #[error("the transform has no version {0}")]
    UnknownVersion(u32),
    /// The transform reads this topic, and cannot read another.
    #[error("the transform reads {0}: to read another topic, deploy under another name")]
    TransformSource(Arc<str>),
    /// The version cannot be what the command says.
    #[error(transparent)]
    InvalidTransform(#[from] TransformFault),
    /// A topic that the transform reads or writes does not exist.
    #[error("there is no topic {0}: it has to be created first")]
    UnknownTransformTopic(Arc<str>),
    /// The source was deleted and created again since the proposer saw it. This is its id.
    #[error("the source was created anew, with id {0}: the offsets are of the one before it")]
    TransformSourceChanged(TopicId),
    /// Records would go round for ever. The topics along the cycle, the first one again at the end.
    #[error("records would go round for ever: {}", .0.join(" -> "))]
    TransformCycle(Vec<Arc<str>>),
    /// The transform was rewound since.
    #[error("the transform's generation is {0} by now: it was rewound meanwhile")]
    TransformGeneration(u64),
}

/// What is wrong with the replicas of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentFault {
    /// None at all, or too many.
    #[error("{0} replicas; there must be 1 to {REPLICAS_MAX}")]
    Count(usize),
    /// The same broker twice.
    #[error("broker {0} is named twice")]
    Duplicate(NodeId),
    /// A broker that is not registered.
    #[error("broker {0} is not registered")]
    UnknownBroker(NodeId),
    /// Nobody could lead it.
    #[error("all its brokers are fenced")]
    AllFenced,
}

/// What is wrong with a listener, host or rack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelFault {
    /// Empty, or too long.
    #[error("a listener, host or rack has {0} bytes; there must be 1 to {LABEL_BYTES_MAX}")]
    Bytes(usize),
    /// No listener, too many, or two of one name.
    #[error("there must be 1 to {LISTENERS_MAX} listeners of different names")]
    Listeners,
}

/// What is wrong with a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FunctionFault {
    /// The label is too long.
    #[error("the function's label has {0} bytes, more than {LABEL_BYTES_MAX}")]
    Label(usize),
    /// No records hold it, or offsets that there cannot be.
    #[error("the records that hold the function are none, or at no possible offsets")]
    Chunks,
}

/// What is wrong with a version of a transform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformFault {
    /// No sinks, or too many.
    #[error("{0} sinks; there must be 1 to {SINKS_MAX}")]
    Sinks(usize),
    /// The same sink twice.
    #[error("sink {0} is named twice")]
    DuplicateSink(Arc<str>),
    /// It would write to the topic that it reads.
    #[error("it reads {0}, so it cannot write to it")]
    WritesSource(Arc<str>),
    /// It would write to a topic of the broker's own.
    #[error("{0} is an internal topic: a transform cannot write to it")]
    WritesInternal(Arc<str>),
    /// Failed records are to go to a topic and none is named, or the other way round.
    #[error("a topic for dead letters must be named exactly where failed records go there")]
    DeadLetters,
    /// A key or value is too long, there are too many, or a key is there twice.
    #[error(
        "configuration: at most {TRANSFORM_CONFIGS_MAX} different keys of 1 to \
         {CONFIG_KEY_BYTES_MAX} bytes with values of up to {CONFIG_VALUE_BYTES_MAX} bytes"
    )]
    Config,
    /// A limit is out of bounds.
    #[error("{what}: {value} is not within {min} to {max}")]
    Limit {
        /// Which one, with its unit.
        what: &'static str,
        /// What it is.
        value: u64,
        /// The lowest that would do.
        min: u64,
        /// The highest that would do.
        max: u64,
    },
    /// An offset is negative, or there are more of them than the source has partitions.
    #[error(
        "an offset to begin at is negative, or there are more of them than the source's {0} \
         partitions"
    )]
    Offsets(i32),
}
