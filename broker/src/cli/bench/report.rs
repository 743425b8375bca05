//! What a run measured, for people and for programs.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::exit::Failure;
use super::super::output::{counted, human_bytes, pairs};
use super::cpu::{BrokerProcess, own_cpu};

/// Latencies are kept in µs, up to this.
const LATENCY_US_MAX: u64 = 600_000_000;

/// What workers count.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) requests: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) latencies_us: Histogram<u64>,
    /// When the last answer with something in it came.
    last: Option<Instant>,
}

impl Measured {
    pub(super) fn new() -> Measured {
        let latencies_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
            .expect("three digits between 1 µs and 10 minutes are valid bounds");
        Measured {
            requests: 0,
            records: 0,
            bytes: 0,
            latencies_us,
            last: None,
        }
    }

    pub(super) fn add(&mut self, other: &Measured) {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        self.latencies_us += &other.latencies_us;
        self.last = self.last.max(other.last);
    }

    /// Counts an answer that came now.
    pub(super) fn latency(&mut self, latency: Duration) {
        self.last = Some(Instant::now());
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latencies_us.saturating_record(us.max(1));
    }
}

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readings {
    at: Instant,
    client_cpu: Duration,
    broker: Option<(Duration, u64)>,
}

impl Readings {
    pub(super) fn take(broker: Option<&BrokerProcess>) -> Result<Readings, Failure> {
        let broker = broker.map(|broker| Ok::<_, Failure>((broker.cpu()?, broker.rss_anon()?)));
        Ok(Readings {
            at: Instant::now(),
            client_cpu: own_cpu(),
            broker: broker.transpose()?,
        })
    }
}

/// What a run used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    elapsed: Duration,
    client_cpu: Duration,
    broker: Option<BrokerUsage>,
}

#[derive(Debug, Clone, Copy)]
struct BrokerUsage {
    cpu: Duration,
    rss_anon_bytes: u64,
}

impl Usage {
    /// Time and client up to the last answer; the broker until it was idle again.
    pub(super) fn between(
        measured: &Measured,
        before: &Readings,
        moved: &Readings,
        settled: &Readings,
    ) -> Usage {
        let broker = before.broker.zip(settled.broker).zip(moved.broker);
        Usage {
            elapsed: measured
                .last
                .unwrap_or(moved.at)
                .saturating_duration_since(before.at),
            client_cpu: moved.client_cpu - before.client_cpu,
            broker: broker.map(|((before, settled), moved)| BrokerUsage {
                cpu: settled.0 - before.0,
                rss_anon_bytes: moved.1,
            }),
        }
    }
}

/// A run in figures. A GB is 10^9 bytes of batches.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    operation: &'static str,
    topic: String,
    requests: u64,
    records: u64,
    bytes: u64,
    seconds: f64,
    bytes_per_second: f64,
    records_per_second: f64,
    latency_us: Latencies,
    client_cpu_seconds: f64,
    client_cpu_seconds_per_gb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<Broker>,
}

#[derive(Debug, Serialize)]
struct Latencies {
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p99_9: u64,
    p99_99: u64,
    max: u64,
}

#[derive(Debug, Serialize)]
struct Broker {
    cpu_seconds: f64,
    cpu_seconds_per_gb: f64,
    cpu_seconds_per_million_records: f64,
    cpu_us_per_request: f64,
    rss_anon_bytes: u64,
}

impl Report {
    pub(super) fn new(
        operation: &'static str,
        topic: &str,
        measured: &Measured,
        usage: &Usage,
    ) -> Report {
        let per = |amount: f64, unit: f64| if amount == 0.0 { 0.0 } else { unit / amount };
        let (gigabytes, millions) = (measured.bytes as f64 / 1e9, measured.records as f64 / 1e6);
        let seconds = usage.elapsed.as_secs_f64();
        let client_cpu_seconds = usage.client_cpu.as_secs_f64();
        let at = |quantile| measured.latencies_us.value_at_quantile(quantile);
        Report {
            operation,
            topic: topic.to_owned(),
            requests: measured.requests,
            records: measured.records,
            bytes: measured.bytes,
            seconds,
            bytes_per_second: per(seconds, measured.bytes as f64),
            records_per_second: per(seconds, measured.records as f64),
            latency_us: Latencies {
                mean: measured.latencies_us.mean(),
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p99_9: at(0.999),
                p99_99: at(0.9999),
                max: measured.latencies_us.max(),
            },
            client_cpu_seconds,
            client_cpu_seconds_per_gb: per(gigabytes, client_cpu_seconds),
            broker: usage.broker.map(|broker| {
                let cpu = broker.cpu.as_secs_f64();
                Broker {
                    cpu_seconds: cpu,
                    cpu_seconds_per_gb: per(gigabytes, cpu),
                    cpu_seconds_per_million_records: per(millions, cpu),
                    cpu_us_per_request: per(measured.requests as f64, cpu * 1e6),
                    rss_anon_bytes: broker.rss_anon_bytes,
                }
            }),
        }
    }

    pub(super) fn text(&self) -> String {
        let latency = &self.latency_us;
        let mut lines = vec![
            (
                self.operation,
                format!(
                    "{}, {} in {:.3} s, {}",
                    counted(self.records, "record"),
                    human_bytes(self.bytes),
                    self.seconds,
                    counted(self.requests, "request")
                ),
            ),
            (
                "throughput",
                format!(
                    "{}/s, {:.0} records/s",
                    human_bytes(self.bytes_per_second as u64),
                    self.records_per_second
                ),
            ),
            (
                "latency",
                format!(
                    "p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
                    human_us(latency.p50),
                    human_us(latency.p90),
                    human_us(latency.p99),
                    human_us(latency.p99_9),
                    human_us(latency.p99_99),
                    human_us(latency.max)
                ),
            ),
            (
                "client cpu",
                format!(
                    "{:.3} s, {:.3} s/GB",
                    self.client_cpu_seconds, self.client_cpu_seconds_per_gb
                ),
            ),
        ];
        if let Some(broker) = &self.broker {
            lines.push((
                "broker cpu",
                format!(
                    "{:.3} s, {:.3} s/GB, {:.3} s per 1 M records, {:.1} µs a request",
                    broker.cpu_seconds,
                    broker.cpu_seconds_per_gb,
                    broker.cpu_seconds_per_million_records,
                    broker.cpu_us_per_request
                ),
            ));
            let memory = format!("RssAnon {}", human_bytes(broker.rss_anon_bytes));
            lines.push(("broker memory", memory));
        }
        pairs(&lines)
    }
}

fn human_us(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000 => format!("{:.2} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_derived_from_what_was_counted() {
        let mut measured = Measured::new();
        for us in 1..=1000 {
            measured.latency(Duration::from_micros(us));
        }
        (measured.requests, measured.records, measured.bytes) = (1000, 2_000_000, 500_000_000);
        let usage = Usage {
            elapsed: Duration::from_secs(2),
            client_cpu: Duration::from_millis(100),
            broker: Some(BrokerUsage {
                cpu: Duration::from_millis(300),
                rss_anon_bytes: 1,
            }),
        };
        let report = Report::new("produce", "t", &measured, &usage);
        let close = |left: f64, right: f64| (left - right).abs() < 1e-9;
        assert!(close(report.bytes_per_second, 250e6));
        assert!(close(report.records_per_second, 1e6));
        assert!(close(report.client_cpu_seconds_per_gb, 0.2));
        let broker = report.broker.as_ref().unwrap();
        assert!(close(broker.cpu_seconds_per_gb, 0.6));
        assert!(close(broker.cpu_seconds_per_million_records, 0.15));
        assert!(close(broker.cpu_us_per_request, 300.0));
        assert_eq!((report.latency_us.p50, report.latency_us.max), (500, 1000));
        assert!(report.text().contains("p50 500 µs"));
    }

    #[test]
    fn nothing_moved_is_zero_not_infinite() {
        let usage = Usage {
            elapsed: Duration::ZERO,
            client_cpu: Duration::ZERO,
            broker: None,
        };
        let report = Report::new("produce", "t", &Measured::new(), &usage);
        assert_eq!(
            (report.bytes_per_second, report.client_cpu_seconds_per_gb),
            (0.0, 0.0)
        );
    }
}
