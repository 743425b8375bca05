//! Every setting of `tidemill serve`: its name, what it does, how its text becomes a field.
//!
//! One name serves as TOML key, environment variable and, for some, flag: `data.dir`, `data_dir` and
//! `data-dir` are the same. Where Kafka names a thing, Kafka's name is accepted too.

use std::path::PathBuf;
use std::time::Duration;

use tidemill_tiered_store::parse_endpoint;

use super::BrokerConfig;
use super::values::{address, at_least, between, host_port, millis, parse, strip_scheme};
use crate::topic_config::{self, Kind};

type Apply = fn(&mut BrokerConfig, &str) -> Result<(), String>;

/// One setting.
pub(super) struct Setting {
    /// Dotted name.
    pub(super) name: &'static str,
    /// Other names, Kafka's as a rule.
    pub(super) aliases: &'static [&'static str],
    pub(super) kind: Kind,
    /// The value in force, as text.
    pub(super) show: fn(&BrokerConfig) -> String,
    /// One line for people.
    pub(super) doc: &'static str,
    pub(super) apply: Apply,
}

const fn setting(
    name: &'static str,
    aliases: &'static [&'static str],
    kind: Kind,
    show: fn(&BrokerConfig) -> String,
    doc: &'static str,
    apply: Apply,
) -> Setting {
    Setting {
        name,
        aliases,
        kind,
        show,
        doc,
        apply,
    }
}

/// All of them but the topic defaults, which are the `synonym`s of [`topic_config::SETTINGS`].
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "data.dir",
        &["log.dirs", "log.dir"],
        Kind::Text,
        |c| c.data_dir.display().to_string(),
        "Directory of segments, write-ahead log and metadata.",
        |c, v| {
            if v.is_empty() {
                return Err("it is empty; name a directory, as in ./tidemill-data".to_owned());
            }
            if v.contains(',') {
                return Err("one directory, not a list".to_owned());
            }
            c.data_dir = PathBuf::from(v);
            Ok(())
        },
    ),
    setting(
        "listen",
        &["listeners"],
        Kind::Text,
        |c| c.listen.to_string(),
        "HOST:PORT for Kafka clients; port 0 picks a free one.",
        |c, v| {
            c.listen = address(strip_scheme(v))?;
            Ok(())
        },
    ),
    setting(
        "advertise",
        &["advertised.listeners"],
        Kind::Text,
        |c| {
            c.advertise
                .as_ref()
                .map(|(h, p)| format!("{h}:{p}"))
                .unwrap_or_default()
        },
        "HOST:PORT that clients are told; by default the address they came to.",
        |c, v| {
            c.advertise = Some(host_port(strip_scheme(v))?);
            Ok(())
        },
    ),
    setting(
        "admin.listen",
        &[],
        Kind::Text,
        |c| c.admin_listen.to_string(),
        "HOST:PORT for HTTP: metrics and health.",
        |c, v| {
            c.admin_listen = address(v)?;
            Ok(())
        },
    ),
    setting(
        "internal.listen",
        &[],
        Kind::Text,
        |c| c.internal_listen.to_string(),
        "HOST:PORT for other brokers; none can join yet, so nothing connects to it.",
        |c, v| {
            c.internal_listen = address(v)?;
            Ok(())
        },
    ),
    setting(
        "node.id",
        &["broker.id"],
        Kind::Int(0),
        |c| c.node_id.to_string(),
        "Id of this broker.",
        |c, v| {
            c.node_id = at_least(v, 0)?;
            Ok(())
        },
    ),
    setting(
        "rack",
        &["broker.rack"],
        Kind::Text,
        |c| c.rack.clone().unwrap_or_default(),
        "Failure domain of this broker.",
        |c, v| {
            c.rack = (!v.is_empty()).then(|| v.to_owned());
            Ok(())
        },
    ),
    setting(
        "tier.url",
        &[],
        Kind::Text,
        |c| {
            c.tier
                .url
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default()
        },
        "Object storage for sealed data: s3://BUCKET/PREFIX or file:///PATH; none by default.",
        |c, v| {
            c.tier.url = match v {
                "" => None,
                v => Some(parse(v)?),
            };
            Ok(())
        },
    ),
    setting(
        "tier.endpoint",
        &[],
        Kind::Text,
        |c| c.tier.endpoint.clone().unwrap_or_default(),
        "URL of an S3-compatible store; AWS by default.",
        |c, v| {
            c.tier.endpoint = match v {
                "" => None,
                v => Some(parse_endpoint(v).map_err(|error| error.to_string())?),
            };
            Ok(())
        },
    ),
    setting(
        "tier.sole.owner",
        &[],
        Kind::Boolean,
        |c| c.tier.sole_owner.to_string(),
        "Nobody else ever writes to the tier, so it needs no atomic conditional PUT.",
        |c, v| {
            c.tier.sole_owner = parse(v)?;
            Ok(())
        },
    ),
    setting(
        "dev",
        &[],
        Kind::Boolean,
        |c| c.tier.allow_memory.to_string(),
        "Allow what loses records at a restart: a tier in memory://.",
        |c, v| {
            c.tier.allow_memory = parse(v)?;
            Ok(())
        },
    ),
    setting(
        "tier.cache.bytes.max",
        &[],
        Kind::Long(1 << 20),
        |c| c.tier.memory.cache_bytes.to_string(),
        "Memory for batches that were read from the tier.",
        |c, v| {
            c.tier.memory.cache_bytes = at_least(v, 1 << 20)?;
            Ok(())
        },
    ),
    setting(
        "tier.upload.merge.wait.ms",
        &[],
        Kind::Long(0),
        |c| c.tier.upload_merge_wait.as_millis().to_string(),
        "Sealed segments wait so long for more to share an object with, unless there is a whole one already.",
        |c, v| {
            c.tier.upload_merge_wait = Duration::from_millis(at_least(v, 0)?);
            Ok(())
        },
    ),
    setting(
        "tier.object.bytes.max",
        &[],
        Kind::Int(1),
        |c| c.tier.object_bytes_max.to_string(),
        "Batches that one object takes, but for one larger batch. Larger objects cost fewer requests and more memory.",
        |c, v| {
            c.tier.object_bytes_max = between(v, 1, 1 << 30)?;
            Ok(())
        },
    ),
    setting(
        "tier.check.interval.ms",
        &[],
        Kind::Long(1),
        |c| c.tier.check_interval.as_millis().to_string(),
        "How often partitions are looked at for what is to be uploaded or trimmed.",
        |c, v| {
            c.tier.check_interval = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "tier.upload.max.lag.ms",
        &[],
        Kind::Long(1),
        |c| c.tier.upload_max_lag.as_millis().to_string(),
        "Records are uploaded at the latest after this, sealed or not: what a lost disk can cost.",
        |c, v| {
            c.tier.upload_max_lag = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "tier.delete.grace.ms",
        &[],
        Kind::Long(0),
        |c| c.tier.delete_grace.as_millis().to_string(),
        "An object that nothing refers to any more is deleted after this.",
        |c, v| {
            c.tier.delete_grace = Duration::from_millis(at_least(v, 0)?);
            Ok(())
        },
    ),
    setting(
        "data.dir.bytes.max",
        &[],
        Kind::Long(0),
        |c| c.data_dir_bytes_max.unwrap_or(0).to_string(),
        "What logs may take of the disk; near it what is in the tier is trimmed, at it producers wait. 0: the whole disk.",
        |c, v| {
            let bytes: u64 = at_least(v, 0)?;
            c.data_dir_bytes_max = (bytes > 0).then_some(bytes);
            Ok(())
        },
    ),
    setting(
        "auto.create.topics.enable",
        &[],
        Kind::Boolean,
        |c| c.auto_create_topics_enable.to_string(),
        "Create a topic when a client asks for its metadata.",
        |c, v| {
            c.auto_create_topics_enable = parse(v)?;
            Ok(())
        },
    ),
    setting(
        "delete.topic.enable",
        &[],
        Kind::Boolean,
        |c| c.delete_topic_enable.to_string(),
        "May topics be deleted?",
        |c, v| {
            c.delete_topic_enable = parse(v)?;
            Ok(())
        },
    ),
    setting(
        "num.partitions",
        &[],
        Kind::Int(1),
        |c| c.num_partitions.to_string(),
        "Partitions of a topic created without a count.",
        |c, v| {
            c.num_partitions = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "default.replication.factor",
        &[],
        Kind::Int(1),
        |c| c.default_replication_factor.to_string(),
        "Replicas of a topic created without a factor.",
        |c, v| {
            c.default_replication_factor = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "socket.request.max.bytes",
        &[],
        Kind::Int(1),
        |c| c.network.request_bytes_max.to_string(),
        "Largest request frame.",
        |c, v| {
            c.network.request_bytes_max = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "queued.max.request.bytes",
        &[],
        Kind::Long(1),
        |c| c.network.queued_bytes_max.to_string(),
        "Bytes of requests in flight, all connections together.",
        |c, v| {
            c.network.queued_bytes_max = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "max.connections",
        &[],
        Kind::Int(1),
        |c| c.network.connections_max.to_string(),
        "Connections at once.",
        |c, v| {
            c.network.connections_max = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "max.connections.per.ip",
        &[],
        Kind::Int(1),
        |c| c.network.connections_per_ip_max.to_string(),
        "Connections at once from one address.",
        |c, v| {
            c.network.connections_per_ip_max = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "connections.max.idle.ms",
        &[],
        Kind::Long(1),
        |c| ms(c.network.idle_max),
        "A silent connection is closed after this; below 10 s, up to 5 s later.",
        |c, v| {
            c.network.idle_max = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "connections.max.stall.ms",
        &[],
        Kind::Long(1),
        |c| ms(c.network.stall_max),
        "A frame or answer that has begun must make progress within this.",
        |c, v| {
            c.network.stall_max = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "connections.max.pipelined",
        &[],
        Kind::Int(1),
        |c| c.network.pipelined_max.to_string(),
        "Produce requests of one connection that may wait for the disk at once.",
        |c, v| {
            c.network.pipelined_max = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "fetch.max.bytes",
        &[],
        Kind::Int(1024),
        |c| c.fetch_bytes_max.to_string(),
        "Upper bound of one fetch response.",
        |c, v| {
            c.fetch_bytes_max = at_least(v, 1024)?;
            Ok(())
        },
    ),
    setting(
        "max.incremental.fetch.session.cache.slots",
        &[],
        Kind::Int(0),
        |c| c.fetch_session_slots_max.to_string(),
        "Fetch sessions kept.",
        |c, v| {
            c.fetch_session_slots_max = at_least(v, 0)?;
            Ok(())
        },
    ),
    setting(
        "log.retention.check.interval.ms",
        &[],
        Kind::Long(1),
        |c| ms(c.log_retention_check_interval),
        "How often retention is applied.",
        |c, v| {
            c.log_retention_check_interval = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "producer.id.expiration.ms",
        &[],
        Kind::Int(1),
        |c| ms(c.producer_id_expiration),
        "An idle producer id is forgotten after this.",
        |c, v| {
            c.producer_id_expiration = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "tail.cache.bytes",
        &[],
        Kind::Long(1 << 20),
        |c| c.tail_cache_bytes_max.to_string(),
        "Newest batches kept in memory, all partitions together.",
        |c, v| {
            c.tail_cache_bytes_max = at_least(v, 1 << 20)?;
            Ok(())
        },
    ),
    setting(
        "wal.checkpoint.bytes",
        &[],
        Kind::Long(1 << 20),
        |c| c.wal_checkpoint_bytes.to_string(),
        "Checkpoint when so many bytes of write-ahead log are live.",
        |c, v| {
            c.wal_checkpoint_bytes = at_least(v, 1 << 20)?;
            Ok(())
        },
    ),
    setting(
        "wal.checkpoint.interval.ms",
        &[],
        Kind::Long(1),
        |c| ms(c.wal_checkpoint_interval),
        "Checkpoint at least this often.",
        |c, v| {
            c.wal_checkpoint_interval = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "group.initial.rebalance.delay.ms",
        &[],
        Kind::Int(0),
        |c| ms(c.group.initial_rebalance_delay),
        "Wait for more members before an empty group's first rebalance.",
        |c, v| {
            c.group.initial_rebalance_delay = Duration::from_millis(at_least(v, 0)?);
            Ok(())
        },
    ),
    setting(
        "group.min.session.timeout.ms",
        &[],
        Kind::Int(1),
        |c| ms(c.group.session_timeout_min),
        "Smallest session timeout a member may ask for.",
        |c, v| {
            c.group.session_timeout_min = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "group.max.session.timeout.ms",
        &[],
        Kind::Int(1),
        |c| ms(c.group.session_timeout_max),
        "Largest session timeout a member may ask for.",
        |c, v| {
            c.group.session_timeout_max = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "group.max.size",
        &[],
        Kind::Int(1),
        |c| c.group.size_max.to_string(),
        "Members of a group at most.",
        |c, v| {
            c.group.size_max = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "offsets.retention.minutes",
        &[],
        Kind::Int(1),
        |c| (c.group.offsets_retention.as_secs() / 60).to_string(),
        "Offsets of an empty group are kept this long.",
        |c, v| {
            c.group.offsets_retention = Duration::from_secs(60 * at_least::<u32>(v, 1)? as u64);
            Ok(())
        },
    ),
    setting(
        "offsets.retention.check.interval.ms",
        &[],
        Kind::Long(1),
        |c| ms(c.group.offsets_retention_check_interval),
        "How often expired offsets are looked for.",
        |c, v| {
            c.group.offsets_retention_check_interval = millis(v)?;
            Ok(())
        },
    ),
    setting(
        "offset.metadata.max.bytes",
        &[],
        Kind::Int(0),
        |c| c.group.offset_metadata_bytes_max.to_string(),
        "Metadata that may come with a committed offset.",
        |c, v| {
            c.group.offset_metadata_bytes_max = at_least(v, 0)?;
            Ok(())
        },
    ),
    setting(
        "offsets.topic.num.partitions",
        &[],
        Kind::Int(1),
        |c| c.group.offsets_topic_partitions.to_string(),
        "Partitions of __consumer_offsets when it is created.",
        |c, v| {
            c.group.offsets_topic_partitions = at_least(v, 1)?;
            Ok(())
        },
    ),
    setting(
        "offsets.topic.segment.bytes",
        &[],
        Kind::Int(1),
        |c| c.group.offsets_topic_segment_bytes.to_string(),
        "Segment size of __consumer_offsets when it is created.",
        |c, v| {
            c.group.offsets_topic_segment_bytes = at_least(v, 1)?;
            Ok(())
        },
    ),
];

/// Kafka's broker settings in other units than the topic setting: (name, topic setting, milliseconds a unit).
const SCALED: &[(&str, &str, i64)] = &[
    ("log.retention.hours", "retention.ms", 3_600_000),
    ("log.retention.minutes", "retention.ms", 60_000),
    ("log.roll.hours", "segment.ms", 3_600_000),
];

/// Kafka's settings that tune what does not exist here; accepted with a warning.
const WITHOUT_EFFECT: &[&str] = &[
    "background.threads",
    "broker.session.timeout.ms",
    "broker.heartbeat.interval.ms",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "log.cleaner.enable",
    "log.cleaner.threads",
    "metadata.log.dir",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "offsets.topic.replication.factor",
    "process.roles",
    "queued.max.requests",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.replication.factor",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
];

/// What came of a setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Done,
    /// Known to Kafka, without meaning here.
    WithoutEffect,
    /// Nobody knows it; the nearest known name.
    Unknown(Option<&'static str>),
}

/// Sets one setting by any of its names.
pub(super) fn apply(config: &mut BrokerConfig, name: &str, value: &str) -> Result<Applied, String> {
    let name = normal(name);
    let is_named = |setting: &&Setting| setting.name == name || setting.aliases.contains(&&*name);
    if let Some(setting) = SETTINGS.iter().find(is_named) {
        return (setting.apply)(config, value.trim()).map(|()| Applied::Done);
    }
    if let Some((_, topic, unit)) = SCALED.iter().find(|(scaled, ..)| *scaled == name) {
        let count: i64 = parse(value)?;
        let ms = if count < 0 {
            -1
        } else {
            count.saturating_mul(*unit)
        };
        // The milliseconds form wins where both are given, as in Kafka.
        config
            .topic_defaults
            .insert(0, ((*topic).to_owned(), ms.to_string()));
        return Ok(Applied::Done);
    }
    if let Some(topic) = topic_config::SETTINGS
        .iter()
        .find(|s| !s.synonym.is_empty() && s.synonym == name)
    {
        topic_config::validate(topic.name, value).map_err(|error| error.to_string())?;
        config
            .topic_defaults
            .push((topic.name.to_owned(), value.trim().to_owned()));
        return Ok(Applied::Done);
    }
    if WITHOUT_EFFECT.contains(&&*name) {
        return Ok(Applied::WithoutEffect);
    }
    let of_topic = topic_config::SETTINGS
        .iter()
        .find(|s| s.name == name && !s.synonym.is_empty());
    let meant = of_topic.map(|setting| setting.synonym);
    Ok(Applied::Unknown(
        meant.or_else(|| super::nearest(&name, names())),
    ))
}

/// The one name of a setting, whichever way it is written.
pub(super) fn canonical(name: &str) -> String {
    let name = normal(name);
    let of = |setting: &&Setting| setting.aliases.contains(&&*name);
    match SETTINGS.iter().find(of) {
        Some(setting) => setting.name.to_owned(),
        None => name,
    }
}

/// Whether settings are named below this, as in a TOML table.
pub(super) fn is_table(name: &str) -> bool {
    let prefix = normal(name) + ".";
    names().any(|name| name.starts_with(&prefix))
}

fn ms(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// All names that mean something here.
fn names() -> impl Iterator<Item = &'static str> {
    let topics = topic_config::SETTINGS
        .iter()
        .map(|s| s.synonym)
        .filter(|name| !name.is_empty());
    SETTINGS
        .iter()
        .flat_map(|s| [s.name].into_iter().chain(s.aliases.iter().copied()))
        .chain(topics)
}

/// `data-dir`, `data_dir` and `DATA_DIR` are `data.dir`.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '_'], ".")
}
