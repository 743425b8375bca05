//! Stands in for the crate of this name, by `[patch.crates-io]` in the workspace.
//!
//! openraft keeps statistics in histograms even when its feature `runtime-stats`, the only way to read
//! them, is off. The real crate fills 16 tables of 26 MB in all when the first histogram is made, which
//! is half of the memory that an empty broker may take and 10 to 15 ms of its start. This one has the
//! part of the interface that openraft uses, counts, and keeps nothing else.
//!
//! Remove it, and the patch, once the real crate makes its tables when they are needed.
#![warn(missing_docs)]

use std::fmt;
use std::marker::PhantomData;

/// Counts what is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    samples: u64,
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            samples: 0,
            slots: PhantomData,
        }
    }

    /// Counts a sample; its value is not kept.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts samples of one value, which is not kept.
    pub fn record_n(&mut self, _value: u64, count: u64) {
        self.samples += count;
    }

    /// The count; no value is known.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples,
            ..PercentileStats::default()
        }
    }
}

/// A count, and percentiles that are all 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and the values are 0")]
pub struct PercentileStats {
    /// How many samples were recorded.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

/// A chart of nothing.
#[derive(Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty chart.
    pub fn new() -> Self {
        Self
    }

    /// The same empty chart.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[samples: {}]", self.samples)
    }
}
