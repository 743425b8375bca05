//! The broker on machines that exist only in memory: disks that lose what was not synced, a network and
//! a clock that a seed decides.
//!
//! Three scenarios, each a chain of lives on one disk. At the end of a life the power goes, in the
//! middle of a chosen operation or at any moment, or the process dies, or it ends in order; what the
//! next life finds is held against what was acknowledged. [`logdir`] drives the log alone, [`metadata`]
//! Raft's log and snapshots alone, [`broker`] the whole broker with clients on a simulated network.
//!
//! The binaries make randomness and clocks of the process deterministic (mad-turmoil), so one seed gives
//! one trace.

pub mod broker;
pub mod chain;
pub mod choices;
pub mod clock;
pub mod determinism;
pub mod disk;
mod dump;
pub mod logdir;
pub mod metadata;
mod register;
