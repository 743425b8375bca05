//! Every operation and every fault of the double, as clients see them.
//!
//! Raw requests are unsigned, so that a test sees exactly what is on the wire; `object_store` is the
//! client that tidemill uses, and signs.

#![allow(
    clippy::disallowed_methods,
    reason = "tests are outside of any simulation"
)]

mod client;

mod bodies;
mod buckets;
mod conditional;
mod control;
mod limits;
mod listing;
mod multipart;
mod objects;
mod outcomes;
mod process;
mod signatures;
mod trailers;
