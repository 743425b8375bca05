//! What the object tier holds, does and costs.

use tidemill_metadata::MetadataLog;
use tidemill_tiered_store::NO_ANSWER;

use super::families::Families;
use crate::broker::Broker;
use crate::tiering::{Tier, storage_dollars_a_month};

pub(super) fn gather(broker: &Broker, tier: &Tier, families: &mut Families) {
    requests(tier, families);
    cache(tier, families);
    uploads(tier, families);
    manifest(broker, families);
    topics(broker, tier, families);
}

fn requests(tier: &Tier, families: &mut Families) {
    let counts = tier.store.counts();
    for (operation, code, count) in counts.requests() {
        let code = match code {
            NO_ANSWER => "none".to_owned(),
            code => code.to_string(),
        };
        families.counter(
            "tidemill_tier_requests_total",
            "Requests to the store, retries too, by HTTP status; none: no answer.",
            &[("operation", operation.as_str()), ("code", &code)],
            count,
        );
    }
    let (put, got) = counts.bytes();
    families.counter(
        "tidemill_tier_written_bytes_total",
        "Bytes written into objects.",
        &[],
        put,
    );
    families.counter(
        "tidemill_tier_read_bytes_total",
        "Bytes read from objects.",
        &[],
        got,
    );
    families.gauge(
        "tidemill_tier_requests_dollars",
        "What the requests since the start cost at the prices of S3 in us-east-1.",
        &[],
        counts.dollars(),
    );
}

fn cache(tier: &Tier, families: &mut Families) {
    let figures = tier.store.figures();
    let counters = [
        (
            "tidemill_tier_cache_hits_total",
            "Blocks of 64 KiB that were in memory when a reader wanted them.",
            figures.cache_hits,
        ),
        (
            "tidemill_tier_cache_misses_total",
            "Blocks of 64 KiB that a reader had to wait for.",
            figures.cache_misses,
        ),
        (
            "tidemill_tier_cache_damaged_total",
            "Blocks that had changed in the cache and were fetched anew.",
            figures.cache_damaged,
        ),
    ];
    for (name, help, value) in counters {
        families.counter(name, help, &[], value);
    }
    families.gauge(
        "tidemill_tier_cache_bytes",
        "Bytes in the cache.",
        &[],
        figures.cached_bytes as f64,
    );
    families.gauge(
        "tidemill_tier_in_flight_bytes",
        "Bytes that are being read.",
        &[],
        figures.in_flight_bytes as f64,
    );
}

fn uploads(tier: &Tier, families: &mut Families) {
    let figures = tier.upload_figures();
    let counters = [
        (
            "tidemill_tier_uploads_total",
            "Objects uploaded and committed.",
            figures.objects,
        ),
        (
            "tidemill_tier_uploaded_bytes_total",
            "Bytes of batches uploaded and committed.",
            figures.bytes,
        ),
        (
            "tidemill_tier_failures_total",
            "Uploads, reads and deletions that failed; all but reads are tried again.",
            figures.failures,
        ),
        (
            "tidemill_tier_trimmed_bytes_total",
            "Bytes removed from this disk because they are in the tier.",
            figures.trimmed_bytes,
        ),
        (
            "tidemill_tier_deleted_objects_total",
            "Objects deleted because nothing referred to them.",
            figures.deleted_objects,
        ),
    ];
    for (name, help, value) in counters {
        families.counter(name, help, &[], value);
    }
    families.gauge(
        "tidemill_tier_put_seconds",
        "Time spent on writing objects since the start.",
        &[],
        figures.put_seconds,
    );
    let is_well = tier.is_claimed() && !figures.is_failing;
    families.gauge(
        "tidemill_tier_up",
        "1 while the store does what it is asked, 0 while it does not; the log says why.",
        &[],
        f64::from(u8::from(is_well)),
    );
}

fn manifest(broker: &Broker, families: &mut Families) {
    let image = broker.metadata.image();
    let gauges = [
        (
            "tidemill_tier_prepared_objects",
            "Uploads that are announced and not committed.",
            image.prepares().len(),
        ),
        (
            "tidemill_tier_garbage_objects",
            "Objects that nothing refers to and that are not deleted yet.",
            image.garbage().len(),
        ),
    ];
    for (name, help, value) in gauges {
        families.gauge(name, help, &[], value as f64);
    }
}

/// Per topic, as all that there may be thousands of.
fn topics(broker: &Broker, tier: &Tier, families: &mut Families) {
    for (topic, figures) in tier.figures_by_topic(broker) {
        let label = [("topic", &*topic)];
        let gauges = [
            (
                "tidemill_tier_topic_remote_bytes",
                "Bytes of a topic in the tier.",
                figures.remote_bytes as f64,
            ),
            (
                "tidemill_tier_topic_remote_only_bytes",
                "Bytes of a topic in the tier that are no longer on this disk.",
                figures.remote_only_bytes as f64,
            ),
            (
                "tidemill_tier_topic_waiting_bytes",
                "Bytes of a topic that are on this disk only: what losing it would cost.",
                figures.waiting_bytes as f64,
            ),
            (
                "tidemill_tier_topic_waiting_seconds",
                "How long the oldest of them have waited for their upload.",
                figures.waiting_seconds,
            ),
            (
                "tidemill_tier_topic_extents",
                "Runs of batches of a topic in the tier.",
                figures.extents as f64,
            ),
            (
                "tidemill_tier_topic_pages",
                "Manifest pages of a topic in the tier.",
                figures.pages as f64,
            ),
            (
                "tidemill_tier_topic_dollars_per_month",
                "What storing the topic in the tier costs at the prices of S3 in us-east-1.",
                storage_dollars_a_month(figures.remote_bytes),
            ),
        ];
        for (name, help, value) in gauges {
            families.gauge(name, help, &label, value);
        }
    }
}
