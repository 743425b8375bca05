//! Metric families made at scrape time out of figures that other parts keep.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// A label and its value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// Families by name, each with its samples in the order of adding.
#[derive(Default)]
pub(super) struct Families(BTreeMap<&'static str, MetricFamily>);

impl Families {
    /// Adds a sample that only grows.
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[Label<'_>],
        value: u64,
    ) {
        self.counter_f64(name, help, labels, value as f64);
    }

    /// Adds a sample that only grows and is no whole number.
    pub(super) fn counter_f64(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[Label<'_>],
        value: f64,
    ) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.push(name, help, MetricType::COUNTER, metric);
    }

    /// Adds a sample that goes up and down.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        labels: &[Label<'_>],
        value: f64,
    ) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.push(name, help, MetricType::GAUGE, metric);
    }

    /// Adds a histogram of (upper bound, count in this bucket alone); the last bound may be infinite.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        buckets: impl Iterator<Item = (f64, u64)>,
        sum: f64,
    ) {
        let mut total = 0;
        let mut histogram = Histogram::default();
        let cumulative = |(bound, count): (f64, u64)| {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(total);
            bucket
        };
        histogram.set_bucket(buckets.map(cumulative).collect());
        histogram.set_sample_count(total);
        histogram.set_sample_sum(sum);
        let mut metric = labelled(&[]);
        metric.set_histogram(histogram);
        self.push(name, help, MetricType::HISTOGRAM, metric);
    }

    pub(super) fn into_vec(self) -> Vec<MetricFamily> {
        self.0.into_values().collect()
    }

    fn push(&mut self, name: &'static str, help: &str, kind: MetricType, metric: Metric) {
        let family = self.0.entry(name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family
        });
        family.mut_metric().push(metric);
    }
}

fn labelled(labels: &[Label<'_>]) -> Metric {
    let pair = |(name, value): &Label<'_>| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}
