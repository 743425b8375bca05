//! Everything that Prometheus sees; the only user of the crate `prometheus`.
//!
//! What the request path counts is a live counter here ([`Metrics`]); what other parts know anyway is read
//! from them when somebody scrapes ([`scrape`]). `docs/metrics.md` lists all of it.

mod families;
mod scrape;
mod tier;
mod transform;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use tidemill_protocol::ErrorCode;

use crate::api::SERVED;
use crate::broker::Broker;

/// Seconds: from what a cached answer takes to what a client gives up after.
const REQUEST_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];

/// Why connections are closed: what `ConnectionError::reason` and `Refusal::reason` give.
const CLOSE_REASONS: &[&str] = &[
    "frame_too_large",
    "frame_truncated",
    "idle",
    "io",
    "malformed",
    "slow_reader",
    "stalled",
    "unacknowledged_produce_failed",
    "unencodable",
    "unknown_api",
    "unsupported_version",
];

/// What producers are refused with in the ordinary course; rarer errors appear when they happen.
const PRODUCE_ERRORS: &[ErrorCode] = &[
    ErrorCode::CorruptMessage,
    ErrorCode::InvalidRecord,
    ErrorCode::InvalidTimestamp,
    ErrorCode::KafkaStorageError,
    ErrorCode::MessageTooLarge,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::OutOfOrderSequenceNumber,
    ErrorCode::UnknownTopicOrPartition,
];

/// The live counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    connections: IntGauge,
    connections_accepted: IntCounter,
    connections_refused: IntCounter,
    connections_failed: IntCounterVec,
    bytes_received: IntCounter,
    bytes_sent: IntCounter,
    /// In the order of [`SERVED`]: finding a label's counter by name costs more than counting.
    requests: Vec<Histogram>,
    produce_errors: IntCounterVec,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a legal name");
        let by = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("a legal name")
        };
        let options = HistogramOpts::new(
            "tidemill_request_duration_seconds",
            "Time from a request to its answer.",
        )
        .buckets(REQUEST_BUCKETS.to_vec());
        let durations = HistogramVec::new(options, &["api"]).expect("a legal name");
        let requests = SERVED
            .iter()
            .map(|served| durations.with_label_values(&[served.key.name()]))
            .collect();
        let metrics = Self {
            connections: IntGauge::new("tidemill_connections", "Open client connections.")
                .expect("a legal name"),
            connections_accepted: counter(
                "tidemill_connections_accepted_total",
                "Client connections accepted.",
            ),
            connections_refused: counter(
                "tidemill_connections_refused_total",
                "Client connections refused because there were too many.",
            ),
            connections_failed: by(
                "tidemill_connections_failed_total",
                "Client connections closed for what their client did or did not do.",
                "reason",
            ),
            bytes_received: counter(
                "tidemill_network_received_bytes_total",
                "Bytes received from Kafka clients.",
            ),
            bytes_sent: counter(
                "tidemill_network_sent_bytes_total",
                "Bytes sent to Kafka clients.",
            ),
            requests,
            produce_errors: by(
                "tidemill_produce_errors_total",
                "Batches that were not appended, by Kafka error.",
                "error",
            ),
            registry,
        };
        // A counter is there before it counts, so that its first step is seen.
        for reason in CLOSE_REASONS {
            metrics.connections_failed.with_label_values(&[*reason]);
        }
        for error in PRODUCE_ERRORS {
            metrics.produce_errors.with_label_values(&[error.name()]);
        }
        metrics.register(durations);
        metrics.register(metrics.connections.clone());
        metrics.register(metrics.connections_accepted.clone());
        metrics.register(metrics.connections_refused.clone());
        metrics.register(metrics.connections_failed.clone());
        metrics.register(metrics.bytes_received.clone());
        metrics.register(metrics.bytes_sent.clone());
        metrics.register(metrics.produce_errors.clone());
        metrics
    }

    fn register(&self, collector: impl Collector + 'static) {
        self.registry
            .register(Box::new(collector))
            .expect("every name is registered once");
    }

    pub(crate) fn connection_opened(&self) {
        self.connections.inc();
        self.connections_accepted.inc();
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.dec();
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    pub(crate) fn connection_failed(&self, reason: &str) {
        self.connections_failed.with_label_values(&[reason]).inc();
    }

    pub(crate) fn bytes_received(&self, bytes: usize) {
        self.bytes_received.inc_by(bytes as u64);
    }

    pub(crate) fn bytes_sent(&self, bytes: usize) {
        self.bytes_sent.inc_by(bytes as u64);
    }

    /// An answer is ready; `served` is the API's row in [`SERVED`].
    pub(crate) fn answered(&self, served: usize, took: Duration) {
        self.requests[served].observe(took.as_secs_f64());
    }

    pub(crate) fn produce_failed(&self, error: &str) {
        self.produce_errors.with_label_values(&[error]).inc();
    }

    /// The text that a scrape gets.
    pub(crate) fn render(&self, broker: &Broker) -> String {
        let mut families = self.registry.gather();
        families.extend(scrape::gather(broker));
        prometheus::TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_else(|error| format!("# {error}\n"))
    }
}
