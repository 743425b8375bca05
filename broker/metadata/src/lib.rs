//! The cluster's metadata: brokers, topics, partitions, configuration. Commands are agreed on by Raft
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
    AssignmentFault, Command, ConfigChange, ExtentReplacement, LabelFault, Outcome, PageSeal,
    Rejection,
};
pub use identity::{Identity, IdentityError};
pub use image::{
    BrokerEpoch, BrokerImage, ConfigResource, Configs, Garbage, INLINE_EXTENTS_MAX, ImageChanges,
    Listener, MetadataImage, PartitionImage, Prepare, RemoteLog, TopicImage,
};
pub use level::{LevelRange, METADATA_VERSION, MetadataLevel};
pub use log::{BarrierError, Failure, MemberError, MetadataLog, ProposeError};
pub use names::{TopicNameFault, check_topic_name};
pub use node::{Formation, Metadata, MetadataConfig, OpenError};
pub use raft::log_store::{LogFault, LogOpenError};
pub use raft::peers::{NoPeers, Peer, PeerError, PeerTransport};
