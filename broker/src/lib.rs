//! tidemill: a Kafka-compatible streaming broker in one binary. This library is that binary's inside; only
//! `main.rs` and the tests use it.

mod admin;
mod api;
mod authorizer;
pub mod broker;
pub mod cli;
pub mod config;
pub mod error;
mod fetch_session;
mod group;
mod metrics;
mod offset_by_time;
mod partition;
mod partitions;
mod producer_ids;
pub mod random;
mod server;
mod tiering;
mod timestamp;
mod topic;
mod topic_config;
mod transform;
