//! What everything that persists stands on: files, clock and threads as seams that a simulation can
//! swap, small atomic files, and the write-ahead log.
#![warn(missing_docs)]

pub mod atomic;
pub mod clock;
pub mod fs;
pub mod spawn;
pub mod wal;
