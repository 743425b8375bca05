//! Time as a constructor argument, so that a test or a simulation decides what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Wall clock in milliseconds since the Unix epoch. It may step in either direction.
    fn now_ms(&self) -> i64;

    /// Time since some fixed moment. It never goes back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> SystemClock {
        SystemClock {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam")]
    fn now_ms(&self) -> i64 {
        let to_ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => to_ms(since),
            Err(before) => -to_ms(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<(i64, Duration)>,
}

impl ManualClock {
    /// A clock that shows `now_ms` on the wall and zero as monotonic time.
    pub fn new(now_ms: i64) -> ManualClock {
        ManualClock {
            now: Mutex::new((now_ms, Duration::ZERO)),
        }
    }

    /// Moves both times forward; the wall clock by whole milliseconds.
    pub fn advance(&self, by: Duration) {
        let mut now = self.now.lock();
        let before_ms = now.1.as_millis();
        now.1 += by;
        let passed_ms = now.1.as_millis() - before_ms;
        now.0 = now
            .0
            .saturating_add(i64::try_from(passed_ms).unwrap_or(i64::MAX));
    }

    /// Steps the wall clock, in either direction; monotonic time is left alone.
    pub fn set_wall_ms(&self, now_ms: i64) {
        self.now.lock().0 = now_ms;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.now.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        assert_eq!((clock.now_ms(), clock.monotonic()), (1_000, Duration::ZERO));
        clock.advance(Duration::from_micros(1_500));
        clock.advance(Duration::from_micros(500));
        assert_eq!(
            (clock.now_ms(), clock.monotonic()),
            (1_002, Duration::from_millis(2))
        );
        clock.set_wall_ms(-5);
        assert_eq!(
            (clock.now_ms(), clock.monotonic()),
            (-5, Duration::from_millis(2))
        );
    }

    #[test]
    fn system_clock_is_past_2020_and_monotonic() {
        let clock = SystemClock::new();
        assert!(clock.now_ms() > 1_577_836_800_000);
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
