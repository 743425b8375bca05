//! The cluster's metadata: brokers, topics, partitions, configuration, functions and transforms. Commands are agreed on by Raft
//! and applied in one order on every node; what they lead to is an immutable [`MetadataImage`].
//!
//! The rest of the broker sees [`MetadataLog`] (propose, barrier, watch) and the image. No type of
//! openraft's leaves this crate, and no wire format of Kafka's is known in it. Bytes to and from other
//! nodes go through [`PeerTransport`].
#![warn(missing_docs)]

mod apply;
mod codec;
mod command;
mod identity;
mod image;
mod level;
pub mod limits;
mod log;
mod names;
mod node;
mod raft;
#[cfg(test)]
mod testing;

pub use apply::apply;
pub use codec::DecodeError;
pub use command::{
    AssignmentFault, Command, ConfigChange, Deployment, ExtentReplacement, FunctionFault,
    LabelFault, Outcome, PageSeal, Rejection, TransformFault,
};
pub use identity::{Identity, IdentityError};
pub use image::{
    ArtifactChunks, BrokerEpoch, BrokerImage, Carrier, ConfigResource, Configs, FunctionId,
    FunctionIdFault, FunctionImage, Garbage, INLINE_EXTENTS_MAX, ImageChanges, Listener,
    MetadataImage, OnError, Origin, PartitionImage, Prepare, RemoteLog, TopicImage, TransformImage,
    TransformLimits, TransformVersion,
};
pub use level::{LevelRange, METADATA_VERSION, MetadataLevel};
pub use log::{BarrierError, Failure, MemberError, MetadataLog, ProposeError};
pub use names::{TopicNameFault, TransformNameFault, check_topic_name, check_transform_name};
pub use node::{Formation, Metadata, MetadataConfig, OpenError};
pub use raft::log_store::{LogFault, LogOpenError};
pub use raft::peers::{NoPeers, Peer, PeerError, PeerTransport};
