//! The cluster's metadata.
#![warn(missing_docs)]

mod apply;
mod codec;
mod command;
mod image;
mod level;
pub mod limits;
mod names;
#[cfg(test)]
mod testing;

pub use apply::apply;
pub use codec::DecodeError;
pub use command::{AssignmentFault, Command, ConfigChange, LabelFault, Outcome, Rejection};
pub use image::{
    BrokerEpoch, BrokerImage, ConfigResource, Configs, ImageChanges, Listener, MetadataImage,
    PartitionImage, TopicImage,
};
pub use level::{LevelRange, METADATA_VERSION, MetadataLevel};
pub use names::{TopicNameFault, check_topic_name};
