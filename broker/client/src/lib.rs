//! A small Kafka client: for the command line, for followers, and for functions that write to another
//! broker's partitions.
//!
//! [`Connection`] speaks to one broker: versions, pipelining, deadlines. [`Client`] knows the cluster and
//! sends each request where it belongs, again when it has to. [`Producer`], [`Consumer`] and
//! [`GroupConsumer`] keep state on top. [`net`] is the socket seam, which the server uses as well.
//! The crate reads no wall clock: timestamps are the caller's.
#![warn(missing_docs)]

mod assignment;
mod client;
mod connection;
mod error;
#[cfg(all(test, not(feature = "sim")))]
mod fake;
mod fetch;
mod group_consumer;
mod groups;
mod metadata;
pub mod net;
mod offsets;
mod pool;
mod produce;
mod topics;

pub use client::{Client, ClientConfig};
pub use connection::{CallOptions, Connection, ConnectionConfig};
pub use error::{ClientError, ConnectionError};
pub use fetch::{Consumer, FetchLimits, FetchedPartition, OutOfRange};
pub use group_consumer::{GroupConfig, GroupConsumer};
pub use groups::{CommittedOffset, GroupDescription, GroupListing, GroupMember};
pub use metadata::{ClusterView, PartitionView, TopicView};
pub use offsets::{ListedOffset, OffsetSpec};
pub use produce::{Acks, NewRecord, ProduceAck, Producer, ProducerConfig};
pub use topics::{ConfigEntry, ConfigResource, ConfigSource, NewTopic};
