//! Stands in for the crate of this name, by `[patch.crates-io]` in the workspace.
//!
//! The real crate runs before `main`: it reads the clock in a loop until enough time has passed to know how fast the processor
//! counts. That delays the start of every process that links it, and never ends in a simulation, whose clock stands still until the
//! simulation moves it. foyer uses it for the figures of a disk that it does not have here. This one has the part of the interface
//! that foyer uses, on the standard library's clock.
#![warn(missing_docs)]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static BEGAN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);

/// A moment, in ns since the first that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(u64);

impl Instant {
    /// This moment.
    pub fn now() -> Self {
        Self(BEGAN.elapsed().as_nanos() as u64)
    }

    /// How long ago `earlier` was then; zero if it was later.
    pub fn duration_since(&self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A moment that threads share.
#[derive(Debug)]
pub struct Atomic(AtomicU64);

impl Atomic {
    /// Begins with a moment.
    pub fn new(instant: Instant) -> Self {
        Self(AtomicU64::new(instant.0))
    }

    /// The moment now in it.
    pub fn load(&self, order: Ordering) -> Instant {
        Instant(self.0.load(order))
    }

    /// Puts another one in.
    pub fn store(&self, instant: Instant, order: Ordering) {
        self.0.store(instant.0, order);
    }
}
