//! The broker as a whole, asked over its sockets. One file per subject.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness stands outside of the broker and uses the machine as it is"
)]

mod cli;
mod configs;
mod connections;
mod damage;
mod delivery;
mod fetch_sessions;
mod full_disk;
mod groups;
mod hostile_frames;
mod idempotence;
mod leader_epochs;
mod offsets;
mod proportions;
mod retention;
mod start;
mod stop;
mod tier;
mod tier_stores;
mod timestamps;
mod topics;
mod transforms;
mod versions;
mod wrong_batches;
