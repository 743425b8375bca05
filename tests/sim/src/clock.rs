//! The time of a simulation.

use std::time::Duration;

use tidemill_storage::clock::Clock;
use tokio::time::Instant;

/// What the wall clock shows when a simulation begins: some day in 2025.
pub const WALL_BEGIN_MS: i64 = 1_750_000_000_000;

/// The paused clock of a tokio runtime.
#[derive(Debug)]
pub struct PausedClock {
    began: Instant,
}

impl PausedClock {
    /// A clock that begins now. Must be called within the runtime.
    #[expect(clippy::new_without_default, reason = "it reads the runtime's time")]
    pub fn new() -> PausedClock {
        PausedClock {
            began: Instant::now(),
        }
    }
}

impl Clock for PausedClock {
    fn now_ms(&self) -> i64 {
        WALL_BEGIN_MS + self.monotonic().as_millis() as i64
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The time of the current turmoil simulation, which goes on while the broker's machine is off.
#[derive(Debug)]
pub struct TurmoilClock;

impl Clock for TurmoilClock {
    fn now_ms(&self) -> i64 {
        wall_ms()
    }

    fn monotonic(&self) -> Duration {
        turmoil::sim_elapsed().unwrap_or_default()
    }
}

/// What the wall clock shows in the current turmoil simulation.
pub fn wall_ms() -> i64 {
    WALL_BEGIN_MS + turmoil::sim_elapsed().unwrap_or_default().as_millis() as i64
}
