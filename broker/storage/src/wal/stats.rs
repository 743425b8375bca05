//! Figures of a log, cheap enough to be always on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`WalStats::fsync_buckets`], in microseconds. The last bucket has
/// none.
pub const FSYNC_BUCKET_BOUNDS_US: [u64; 12] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000,
];

const BUCKETS: usize = FSYNC_BUCKET_BOUNDS_US.len() + 1;

/// Figures since the log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Entries appended.
    pub entries: u64,
    /// Their payload bytes.
    pub payload_bytes: u64,
    /// Windows written; each is one write and one fdatasync.
    pub windows: u64,
    /// Bytes of the windows, in whole blocks.
    pub bytes: u64,
    /// Calls of fdatasync for windows.
    pub fsyncs: u64,
    /// How many of them took up to the bound at the same index of [`FSYNC_BUCKET_BOUNDS_US`] and longer
    /// than the one before.
    pub fsync_buckets: [u64; BUCKETS],
    /// Time spent in them.
    pub fsync_time: Duration,
    /// Bytes appended that are not durable.
    pub buffered_bytes: u64,
    /// Bytes that a recovery would read.
    pub live_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    entries: AtomicU64,
    payload_bytes: AtomicU64,
    windows: AtomicU64,
    bytes: AtomicU64,
    fsyncs: AtomicU64,
    fsync_buckets: [AtomicU64; BUCKETS],
    fsync_nanoseconds: AtomicU64,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn appended(&self, payload_bytes: u64) {
        add(&self.entries, 1);
        add(&self.payload_bytes, payload_bytes);
    }

    pub(super) fn wrote_window(&self, bytes: usize) {
        add(&self.windows, 1);
        add(&self.bytes, bytes as u64);
    }

    pub(super) fn synced(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = FSYNC_BUCKET_BOUNDS_US.partition_point(|bound| *bound < us);
        add(&self.fsyncs, 1);
        add(&self.fsync_buckets[bucket], 1);
        add(
            &self.fsync_nanoseconds,
            u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
        );
    }

    pub(super) fn read(&self) -> WalStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WalStats {
            entries: get(&self.entries),
            payload_bytes: get(&self.payload_bytes),
            windows: get(&self.windows),
            bytes: get(&self.bytes),
            fsyncs: get(&self.fsyncs),
            fsync_buckets: std::array::from_fn(|index| get(&self.fsync_buckets[index])),
            fsync_time: Duration::from_nanos(get(&self.fsync_nanoseconds)),
            buffered_bytes: 0,
            live_bytes: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_falls_into_the_first_bucket_that_holds_it() {
        let counters = Counters::default();
        for us in [0, 50, 51, 1_000_000, 1_000_001] {
            counters.synced(Duration::from_micros(us));
        }
        let stats = counters.read();
        let mut expected = [0; BUCKETS];
        expected[0] = 2;
        expected[1] = 1;
        expected[11] = 1;
        expected[12] = 1;
        assert_eq!(stats.fsync_buckets, expected);
        assert_eq!(
            (stats.fsyncs, stats.fsync_time),
            (5, Duration::from_micros(2_000_102))
        );
    }
}
