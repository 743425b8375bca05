//! The codec against itself, against `kafka-protocol`, against hostile bytes, and (on demand) against
//! Kafka's own classes.

mod allocation;
mod arbitrary;
mod debug_tree;
mod differential;
mod hostile;
mod java;
mod round_trip;
mod seeds;
mod versions;
