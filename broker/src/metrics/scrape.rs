//! What is read from other parts when somebody scrapes.
//!
//! The `kafka_*` names are kafka_exporter's, so that its dashboards work unchanged.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;
use tidemill_metadata::MetadataLog;
use tidemill_storage::wal::FSYNC_BUCKET_BOUNDS_US;

use super::families::Families;
use crate::broker::Broker;
use crate::group::classic::GroupState;
use crate::partition::Partition;

/// All families that no counter is kept for.
pub(super) fn gather(broker: &Broker) -> Vec<MetricFamily> {
    let mut families = Families::default();
    broker_itself(broker, &mut families);
    write_ahead_log(broker, &mut families);
    log_dir(broker, &mut families);
    topics(broker, &mut families);
    cluster(broker, &mut families);
    groups(broker, &mut families);
    if let Some(tier) = &broker.tier {
        super::tier::gather(broker, tier, &mut families);
    }
    super::transform::gather(broker, &mut families);
    families.into_vec()
}

fn broker_itself(broker: &Broker, families: &mut Families) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    families.gauge(
        "tidemill_build_info",
        "Always 1; the label says which release.",
        &version,
        1.0,
    );
    families.gauge(
        "tidemill_ready",
        "1 while the broker takes requests, 0 while it starts or drains.",
        &[],
        f64::from(u8::from(broker.health.is_ready())),
    );
    families.gauge(
        "tidemill_uptime_seconds",
        "Time since the broker started.",
        &[],
        broker.clock.monotonic().as_secs_f64(),
    );
    families.gauge(
        "tidemill_request_memory_bytes",
        "Bytes of requests in flight.",
        &[],
        broker.request_memory.used_bytes() as f64,
    );
    let (sessions, evictions) = broker.fetch_sessions.figures();
    families.gauge(
        "tidemill_fetch_sessions",
        "Fetch sessions kept.",
        &[],
        sessions as f64,
    );
    families.counter(
        "tidemill_fetch_session_evictions_total",
        "Fetch sessions that made room for others.",
        &[],
        evictions,
    );
}

fn write_ahead_log(broker: &Broker, families: &mut Families) {
    let wal = broker.logs.figures().wal;
    families.counter(
        "tidemill_wal_entries_total",
        "Appends to the write-ahead log.",
        &[],
        wal.entries,
    );
    families.counter(
        "tidemill_wal_written_bytes_total",
        "Bytes written to the write-ahead log.",
        &[],
        wal.bytes,
    );
    families.counter(
        "tidemill_wal_windows_total",
        "Group commits: writes with one fdatasync each.",
        &[],
        wal.windows,
    );
    families.gauge(
        "tidemill_wal_buffered_bytes",
        "Bytes appended that are not durable yet.",
        &[],
        wal.buffered_bytes as f64,
    );
    families.gauge(
        "tidemill_wal_live_bytes",
        "Bytes of the write-ahead log that a recovery would read.",
        &[],
        wal.live_bytes as f64,
    );
    let bounds = FSYNC_BUCKET_BOUNDS_US
        .iter()
        .map(|us| *us as f64 / 1e6)
        .chain([f64::INFINITY]);
    families.histogram(
        "tidemill_wal_fsync_duration_seconds",
        "Time of each fdatasync of the write-ahead log.",
        bounds.zip(wal.fsync_buckets),
        wal.fsync_time.as_secs_f64(),
    );
}

fn log_dir(broker: &Broker, families: &mut Families) {
    let figures = broker.logs.figures();
    let gauges = [
        (
            "tidemill_log_partitions",
            "Partitions with a log here.",
            figures.partitions,
        ),
        (
            "tidemill_log_offline_partitions",
            "Partitions in quarantine because their files are damaged.",
            figures.offline_partitions,
        ),
        (
            "tidemill_log_undrained_bytes",
            "Bytes that wait for their segment file.",
            figures.undrained_bytes,
        ),
        (
            "tidemill_log_cached_bytes",
            "Newest batches in memory.",
            figures.cached_bytes,
        ),
        (
            "tidemill_log_open_files",
            "Segment and index files that are open.",
            figures.open_files,
        ),
        (
            "tidemill_log_failed",
            "1 when a sync has failed and nothing is taken until a restart.",
            usize::from(figures.failed),
        ),
    ];
    for (name, help, value) in gauges {
        families.gauge(name, help, &[], value as f64);
    }
    let counters = [
        (
            "tidemill_log_drained_bytes_total",
            "Bytes written to segment files.",
            figures.drained_bytes,
        ),
        (
            "tidemill_log_drain_writes_total",
            "Writes to segment files, each a run of batches.",
            figures.drain_writes,
        ),
        (
            "tidemill_log_drain_errors_total",
            "Writes to segment files that failed and were tried again.",
            figures.drain_errors,
        ),
        (
            "tidemill_log_file_syncs_total",
            "fdatasync calls on files of partitions.",
            figures.file_syncs,
        ),
        (
            "tidemill_log_file_reads_total",
            "Reads of segment files.",
            figures.file_reads,
        ),
        (
            "tidemill_log_file_read_bytes_total",
            "Bytes read from segment files.",
            figures.file_read_bytes,
        ),
        (
            "tidemill_checkpoints_total",
            "Checkpoints written.",
            figures.checkpoints,
        ),
        (
            "tidemill_checkpoint_errors_total",
            "Checkpoints that failed.",
            figures.checkpoint_errors,
        ),
    ];
    for (name, help, value) in counters {
        families.counter(name, help, &[], value);
    }
    let (total, usable) = broker.disk_space();
    families.gauge(
        "tidemill_log_size_bytes",
        "Bytes of all logs on this disk, as counted against data.dir.bytes.max.",
        &[],
        broker
            .logs
            .partitions()
            .iter()
            .map(|log| log.size_bytes())
            .sum::<u64>() as f64,
    );
    families.gauge(
        "tidemill_log_size_limit_bytes",
        "data.dir.bytes.max; 0 for none.",
        &[],
        broker.disk.bytes_max().unwrap_or(0) as f64,
    );
    families.gauge(
        "tidemill_disk_total_bytes",
        "Size of the data directory's file system.",
        &[],
        total as f64,
    );
    families.gauge(
        "tidemill_disk_free_bytes",
        "Free bytes of the data directory's file system.",
        &[],
        usable as f64,
    );
}

/// Per topic, not per partition: ten thousand partitions must not make ten thousand series of each.
fn topics(broker: &Broker, families: &mut Families) {
    #[derive(Default)]
    struct Sums {
        bytes_in: u64,
        records_in: u64,
        batches_in: u64,
        bytes_out: u64,
        size_bytes: u64,
    }
    let mut by_topic: BTreeMap<std::sync::Arc<str>, Sums> = BTreeMap::new();
    for partition in broker.partitions.all() {
        let sums = by_topic.entry(partition.name.topic.clone()).or_default();
        let traffic = &partition.traffic;
        sums.bytes_in += traffic.bytes_in.load(Ordering::Relaxed);
        sums.records_in += traffic.records_in.load(Ordering::Relaxed);
        sums.batches_in += traffic.batches_in.load(Ordering::Relaxed);
        sums.bytes_out += traffic.bytes_out.load(Ordering::Relaxed);
        sums.size_bytes += partition.log.size_bytes();
    }
    for (topic, sums) in by_topic {
        let label = [("topic", &*topic)];
        let counters = [
            (
                "tidemill_topic_produced_bytes_total",
                "Bytes of batches appended.",
                sums.bytes_in,
            ),
            (
                "tidemill_topic_produced_records_total",
                "Records appended.",
                sums.records_in,
            ),
            (
                "tidemill_topic_produced_batches_total",
                "Batches appended.",
                sums.batches_in,
            ),
            (
                "tidemill_topic_fetched_bytes_total",
                "Bytes of batches read by clients.",
                sums.bytes_out,
            ),
        ];
        for (name, help, value) in counters {
            families.counter(name, help, &label, value);
        }
        families.gauge(
            "tidemill_topic_size_bytes",
            "Bytes of a topic on this disk.",
            &label,
            sums.size_bytes as f64,
        );
    }
}

fn cluster(broker: &Broker, families: &mut Families) {
    let image = broker.metadata.image();
    families.gauge(
        "tidemill_metadata_index",
        "Raft index of the newest applied command.",
        &[],
        image.index() as f64,
    );
    let is_controller = broker.metadata.controller() == Some(broker.node());
    families.gauge(
        "tidemill_controller",
        "1 on the broker that is the controller.",
        &[],
        f64::from(u8::from(is_controller)),
    );
    families.gauge(
        "kafka_brokers",
        "Brokers in the cluster.",
        &[],
        image.brokers().len() as f64,
    );
    for topic in image.topics() {
        let label = [("topic", &*topic.name)];
        families.gauge(
            "kafka_topic_partitions",
            "Partitions of a topic.",
            &label,
            f64::from(topic.partition_count()),
        );
    }
    for partition in broker.partitions.all() {
        partition_families(&partition, families);
    }
}

fn partition_families(partition: &Partition, families: &mut Families) {
    let index = partition.name.partition.to_string();
    let labels = [("topic", &*partition.name.topic), ("partition", &*index)];
    let figures = partition.replication();
    let rows = [
        (
            "kafka_topic_partition_current_offset",
            "End of what consumers may read.",
            partition.log.high_watermark().0,
        ),
        (
            "kafka_topic_partition_oldest_offset",
            "First offset of the log.",
            partition.log.log_start_offset().0,
        ),
        (
            "kafka_topic_partition_leader",
            "Node id of the leader.",
            i64::from(figures.leader.0),
        ),
        (
            "kafka_topic_partition_leader_is_preferred",
            "1 when the first replica leads.",
            i64::from(figures.is_preferred),
        ),
        (
            "kafka_topic_partition_replicas",
            "Replicas of the partition.",
            figures.replicas as i64,
        ),
        (
            "kafka_topic_partition_in_sync_replica",
            "Replicas that are in sync.",
            figures.in_sync as i64,
        ),
        (
            "kafka_topic_partition_under_replicated_partition",
            "1 when a replica is not in sync.",
            i64::from(figures.in_sync < figures.replicas),
        ),
    ];
    for (name, help, value) in rows {
        families.gauge(name, help, &labels, value as f64);
    }
}

fn groups(broker: &Broker, families: &mut Families) {
    let figures = broker.groups.figures();
    for state in [
        GroupState::Empty,
        GroupState::PreparingRebalance,
        GroupState::CompletingRebalance,
        GroupState::Stable,
    ] {
        let count = figures.groups_by_state.get(&state).copied().unwrap_or(0);
        let label = [("state", state.as_str())];
        families.gauge(
            "tidemill_groups",
            "Consumer groups by state.",
            &label,
            count as f64,
        );
    }
    families.gauge(
        "tidemill_group_memory_bytes",
        "Memory of groups and offsets.",
        &[],
        figures.memory_bytes as f64,
    );
    let mut lag_by_topic: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    broker
        .groups
        .visit_committed(|group, topic, partition, committed| {
            let index = partition.to_string();
            let labels = [
                ("consumergroup", group),
                ("topic", topic),
                ("partition", &*index),
            ];
            families.gauge(
                "kafka_consumergroup_current_offset",
                "Offset that a group has committed.",
                &labels,
                committed as f64,
            );
            let end = broker
                .partitions
                .get(topic, partition.0)
                .map(|found| found.log.high_watermark().0);
            let lag = end.map_or(0, |end| (end - committed).max(0));
            families.gauge(
                "kafka_consumergroup_lag",
                "Records between a group's committed offset and the end.",
                &labels,
                lag as f64,
            );
            let sums = lag_by_topic
                .entry((group.to_owned(), topic.to_owned()))
                .or_default();
            *sums = (sums.0 + committed, sums.1 + lag);
        });
    for ((group, topic), (committed, lag)) in lag_by_topic {
        let labels = [("consumergroup", &*group), ("topic", &*topic)];
        families.gauge(
            "kafka_consumergroup_current_offset_sum",
            "Committed offsets of all partitions of a topic.",
            &labels,
            committed as f64,
        );
        families.gauge(
            "kafka_consumergroup_lag_sum",
            "Lag over all partitions of a topic.",
            &labels,
            lag as f64,
        );
    }
    // While groups are being loaded their members are not known; the next scrape will tell.
    let _ = broker.groups.visit(|group_id, group| {
        families.gauge(
            "kafka_consumergroup_members",
            "Members of a group.",
            &[("consumergroup", group_id)],
            group.classic.member_count() as f64,
        );
    });
}
