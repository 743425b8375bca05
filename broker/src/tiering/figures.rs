//! What the tier does, in numbers.

use std::fmt::Display;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_metadata::MetadataLog;
use tidemill_records::Offset;

use super::Tier;
use crate::broker::Broker;
use crate::partition::Partition;
use tokio::time::Instant;

/// How often the log tells of a store that fails.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    objects: AtomicU64,
    bytes: AtomicU64,
    failures: AtomicU64,
    failing: AtomicI64,
    put_micros: AtomicU64,
    trimmed: AtomicU64,
    deleted: AtomicU64,
    last_error: Mutex<Option<String>>,
    told_at: Mutex<Option<Instant>>,
}

impl Uploads {
    pub(super) fn succeeded(&self) {
        if self.failing.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        *self.last_error.lock() = None;
    }

    /// The store did not do what it was asked. Told in the log at most once in [`TOLD_EVERY`]: a store that is away is asked every
    /// few seconds.
    pub(super) fn failed(&self, error: &impl Display) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        self.failing.store(1, Ordering::Relaxed);
        let error = error.to_string();
        let now = Instant::now();
        let mut told_at = self.told_at.lock();
        if told_at.is_none_or(|told_at| now - told_at >= TOLD_EVERY) {
            *told_at = Some(now);
            tracing::error!(error, failures, "the tier fails");
        }
        *self.last_error.lock() = Some(error);
    }

    /// Something failed that was no fault of the store's.
    pub(super) fn refused(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn committed(&self, bytes: u64) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn put(&self, took: Duration) {
        self.put_micros
            .fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub(super) fn trimmed(&self, bytes: u64) {
        self.trimmed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn deleted(&self, objects: u64) {
        self.deleted.fetch_add(objects, Ordering::Relaxed);
    }
}

/// The counts at one moment.
#[derive(Debug, Clone)]
pub(crate) struct UploadFigures {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    pub(crate) failures: u64,
    pub(crate) is_failing: bool,
    pub(crate) put_seconds: f64,
    pub(crate) trimmed_bytes: u64,
    pub(crate) deleted_objects: u64,
    pub(crate) last_error: Option<String>,
}

/// A topic's data here and in the tier.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TopicTierFigures {
    /// Bytes of batches in the tier.
    pub(crate) remote_bytes: u64,
    /// Of those, bytes that are on this disk no more.
    pub(crate) remote_only_bytes: u64,
    /// Bytes that are on this disk only.
    pub(crate) waiting_bytes: u64,
    /// How long the oldest of them have waited.
    pub(crate) waiting_seconds: f64,
    /// Objects that the metadata and its pages refer to.
    pub(crate) extents: u64,
    pub(crate) pages: u64,
}

impl Tier {
    pub(crate) fn upload_figures(&self) -> UploadFigures {
        let counts = &self.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UploadFigures {
            objects: read(&counts.objects),
            bytes: read(&counts.bytes),
            failures: read(&counts.failures),
            is_failing: counts.failing.load(Ordering::Relaxed) == 1,
            put_seconds: read(&counts.put_micros) as f64 / 1e6,
            trimmed_bytes: read(&counts.trimmed),
            deleted_objects: read(&counts.deleted),
            last_error: counts.last_error.lock().clone(),
        }
    }

    /// Figures of one partition, added to those of its topic.
    pub(crate) fn add_figures(
        &self,
        broker: &Broker,
        partition: &Partition,
        into: &mut TopicTierFigures,
    ) {
        let key = (partition.log.topic_id(), partition.name.partition);
        let image = broker.metadata.image();
        let remote = image.remote_log(key.0, key.1);
        let log = &partition.log;
        let from = remote.map_or(log.log_start_offset(), |remote| remote.end);
        let waiting = log.uploadable(from, log.log_end_offset());
        into.waiting_bytes += waiting.bytes;
        if let Some((_, since)) = self.waits(key) {
            let waited = broker.clock.monotonic().saturating_sub(since);
            into.waiting_seconds = into.waiting_seconds.max(waited.as_secs_f64());
        }
        let Some(remote) = remote else {
            return;
        };
        let bytes = remote.size_bytes();
        let on_disk = log.uploadable(log.local_log_start_offset(), remote.end.max(Offset::ZERO));
        into.remote_bytes += bytes;
        into.remote_only_bytes += bytes.saturating_sub(on_disk.bytes);
        into.pages += remote.pages.len() as u64;
        let paged: u64 = remote
            .pages
            .iter()
            .map(|page| u64::from(page.extents))
            .sum();
        into.extents += paged + remote.extent_count() as u64;
    }
}

/// What a month of what is stored costs in dollars, in S3's standard class in us-east-1 (prices of 2025).
pub(crate) fn storage_dollars_a_month(bytes: u64) -> f64 {
    const DOLLARS_PER_GIB_MONTH: f64 = 0.023;
    bytes as f64 / (1u64 << 30) as f64 * DOLLARS_PER_GIB_MONTH
}
