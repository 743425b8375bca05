//! Topic settings: Kafka's names, types, defaults and bounds in one table, and what they mean for a log.
//!
//! Every setting of Kafka 4.x is stored and echoed, so that tools which set one are not refused. What has
//! no effect yet says so in its documentation line. One default is ours: `flush.messages` is 1, which
//! means that an acknowledged record is on disk; a larger value opts a topic out.

use std::sync::Arc;

use tidemill_log::LogConfig;
use tidemill_metadata::Configs;
use tidemill_records::TimestampType;

/// A value's type, as DescribeConfigs names it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Boolean,
    /// Any text.
    Text,
    /// 32 bits, at least the bound.
    Int(i32),
    /// 64 bits, at least the bound.
    Long(i64),
    /// Between 0 and 1.
    Ratio,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A comma-separated list of these; empty slice: of anything.
    ListOf(&'static [&'static str]),
}

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// The broker setting that gives the default, as Kafka calls it; "" where there is none.
    pub(crate) synonym: &'static str,
    pub(crate) doc: &'static str,
}

const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonym: &'static str,
    doc: &'static str,
) -> Setting {
    Setting {
        name,
        kind,
        default,
        synonym,
        doc,
    }
}

const LONG_MAX: &str = "9223372036854775807";

/// All settings, by name.
pub(crate) const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        Kind::ListOf(&["compact", "delete"]),
        "delete",
        "log.cleanup.policy",
        "What happens to old records: delete by retention, or compact by key. compact is stored and echoed; nothing is compacted yet.",
    ),
    setting(
        "compression.gzip.level",
        Kind::Int(-1),
        "-1",
        "compression.gzip.level",
        "Level for gzip where the broker compresses. Stored; batches are kept as produced.",
    ),
    setting(
        "compression.lz4.level",
        Kind::Int(1),
        "9",
        "compression.lz4.level",
        "Level for lz4 where the broker compresses. Stored; batches are kept as produced.",
    ),
    setting(
        "compression.type",
        Kind::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        "compression.type",
        "Codec of stored batches. Stored; batches are kept as produced.",
    ),
    setting(
        "compression.zstd.level",
        Kind::Int(-131072),
        "3",
        "compression.zstd.level",
        "Level for zstd where the broker compresses. Stored; batches are kept as produced.",
    ),
    setting(
        "delete.retention.ms",
        Kind::Long(0),
        "86400000",
        "log.cleaner.delete.retention.ms",
        "How long tombstones stay in a compacted topic, ms. Stored; nothing is compacted yet.",
    ),
    setting(
        "file.delete.delay.ms",
        Kind::Long(0),
        "60000",
        "log.segment.delete.delay.ms",
        "How long a file stays after it left the log, ms. Stored; open readers keep theirs until they close.",
    ),
    setting(
        "flush.messages",
        Kind::Long(1),
        "1",
        "log.flush.interval.messages",
        "Records between two fsyncs. 1: an acknowledged record is on disk. More: Kafka's own durability, without the write-ahead log.",
    ),
    setting(
        "flush.ms",
        Kind::Long(0),
        LONG_MAX,
        "log.flush.interval.ms",
        "Time between two fsyncs where flush.messages is above 1, ms.",
    ),
    setting(
        "follower.replication.throttled.replicas",
        Kind::ListOf(&[]),
        "",
        "",
        "Replicas whose followers are throttled. Stored; there is one replica yet.",
    ),
    setting(
        "index.interval.bytes",
        Kind::Int(0),
        "4096",
        "log.index.interval.bytes",
        "Bytes of log between two index entries.",
    ),
    setting(
        "leader.replication.throttled.replicas",
        Kind::ListOf(&[]),
        "",
        "",
        "Replicas whose leaders are throttled. Stored; there is one replica yet.",
    ),
    setting(
        "local.retention.bytes",
        Kind::Long(-2),
        "-2",
        "log.local.retention.bytes",
        "Bytes of a tiered partition kept on local disk; -2: retention.bytes.",
    ),
    setting(
        "local.retention.ms",
        Kind::Long(-2),
        "86400000",
        "log.local.retention.ms",
        "Time that records of a tiered topic are kept on local disk, ms; -2: retention.ms.",
    ),
    setting(
        "max.compaction.lag.ms",
        Kind::Long(1),
        LONG_MAX,
        "log.cleaner.max.compaction.lag.ms",
        "A record is compacted at the latest after this, ms. Stored; nothing is compacted yet.",
    ),
    setting(
        "max.message.bytes",
        Kind::Int(0),
        "1048588",
        "message.max.bytes",
        "Largest batch, bytes, as compressed.",
    ),
    setting(
        "message.timestamp.after.max.ms",
        Kind::Long(0),
        "3600000",
        "log.message.timestamp.after.max.ms",
        "How far a record's time may lie in the future, ms.",
    ),
    setting(
        "message.timestamp.before.max.ms",
        Kind::Long(0),
        LONG_MAX,
        "log.message.timestamp.before.max.ms",
        "How far a record's time may lie in the past, ms.",
    ),
    setting(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "log.message.timestamp.type",
        "Whose clock a record's timestamp is: the producer's or the broker's.",
    ),
    setting(
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "0.5",
        "log.cleaner.min.cleanable.ratio",
        "Dirty part of a log that starts compaction. Stored; nothing is compacted yet.",
    ),
    setting(
        "min.compaction.lag.ms",
        Kind::Long(0),
        "0",
        "log.cleaner.min.compaction.lag.ms",
        "A record is not compacted before this, ms. Stored; nothing is compacted yet.",
    ),
    setting(
        "min.insync.replicas",
        Kind::Int(1),
        "1",
        "min.insync.replicas",
        "Replicas that must be in sync for acks=all.",
    ),
    setting(
        "preallocate",
        Kind::Boolean,
        "false",
        "log.preallocate",
        "Allocate segment files ahead. Stored; space is always allocated ahead, without changing a file's length.",
    ),
    setting(
        "remote.log.copy.disable",
        Kind::Boolean,
        "false",
        "",
        "Stop uploading to the tier.",
    ),
    setting(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        "",
        "Delete remote data when the tier is turned off for the topic. Stored; it cannot be turned off yet.",
    ),
    setting(
        "remote.storage.enable",
        Kind::Boolean,
        "false",
        "",
        "Keep the topic in the tier, and of it on local disk what local.retention.ms and local.retention.bytes say.",
    ),
    setting(
        "retention.bytes",
        Kind::Long(-1),
        "-1",
        "log.retention.bytes",
        "Bytes of a partition that are kept; -1: all.",
    ),
    setting(
        "retention.ms",
        Kind::Long(-1),
        "604800000",
        "log.retention.ms",
        "How long records are kept, ms; -1: for ever.",
    ),
    setting(
        "segment.bytes",
        Kind::Int(14),
        "1073741824",
        "log.segment.bytes",
        "Size at which a segment is sealed and the next begins.",
    ),
    setting(
        "segment.index.bytes",
        Kind::Int(4),
        "10485760",
        "log.index.size.max.bytes",
        "Size of an index at which its segment is sealed.",
    ),
    setting(
        "segment.jitter.ms",
        Kind::Long(0),
        "0",
        "log.roll.jitter.ms",
        "Random part taken off segment.ms. Stored; no jitter is applied.",
    ),
    setting(
        "segment.ms",
        Kind::Long(1),
        "604800000",
        "log.roll.ms",
        "Age, by record time, at which a segment is sealed, ms.",
    ),
    setting(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "unclean.leader.election.enable",
        "May a replica that is not in sync become leader? Stored; there is one replica yet.",
    ),
];

/// What a topic's settings come to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicSettings {
    pub(crate) log: Arc<LogConfig>,
    pub(crate) min_insync_replicas: usize,
}

/// Why a value is refused, worded as Kafka words it where Kafka has the case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingError {
    #[error("Unknown topic config name: {name}{}", .nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default())]
    Unknown {
        name: String,
        nearest: Option<&'static str>,
    },
    #[error("Invalid value {value} for configuration {name}: {cause}")]
    Invalid {
        name: &'static str,
        value: String,
        cause: String,
    },
    #[error(
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage. \
         Start the broker with --tier-url"
    )]
    NoTier,
    #[error("Remote log storage is unsupported for the compacted topics")]
    CompactedRemote,
    #[error(
        "It is invalid to disable remote storage: what is only in the tier would be lost. To stop uploading and keep it \
         readable, set remote.storage.enable=true,remote.log.copy.disable=true; to be rid of it, delete the topic"
    )]
    DisablesRemote,
}

/// Checks what settings of a topic mean together. `own` gives what the topic sets; `was_remote` says whether it has been in the
/// tier before.
pub(crate) fn check_tier<'a>(
    own: impl Fn(&str) -> Option<&'a str>,
    defaults: &'a [(String, String)],
    has_tier: bool,
    was_remote: bool,
) -> Result<(), SettingError> {
    let get = |name: &str| {
        value(
            find(name).expect("a name of the table"),
            own(name),
            defaults,
        )
    };
    let is_remote = get("remote.storage.enable").eq_ignore_ascii_case("true");
    let is_compacted = get("cleanup.policy")
        .split(',')
        .any(|policy| policy.trim() == "compact");
    if is_remote && !has_tier {
        return Err(SettingError::NoTier);
    }
    if is_remote && is_compacted {
        return Err(SettingError::CompactedRemote);
    }
    if was_remote && !is_remote {
        return Err(SettingError::DisablesRemote);
    }
    for (local, whole) in [
        ("local.retention.ms", "retention.ms"),
        ("local.retention.bytes", "retention.bytes"),
    ] {
        let number = |text: &str| text.parse::<i64>().unwrap_or(-1);
        let bound = number(get(whole));
        let Some(own_local) = own(local).filter(|_| is_remote && bound >= 0) else {
            continue;
        };
        if number(own_local.trim()) > bound || own_local.trim() == "-1" {
            return Err(SettingError::Invalid {
                name: find(local).expect("a name of the table").name,
                value: own_local.to_owned(),
                cause: format!("Value must not be more than {whole} property value: {bound}"),
            });
        }
    }
    Ok(())
}

/// A setting by name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS
        .binary_search_by(|setting| setting.name.cmp(name))
        .ok()
        .map(|at| &SETTINGS[at])
}

/// Checks one value.
pub(crate) fn validate(name: &str, value: &str) -> Result<(), SettingError> {
    let setting = find(name).ok_or_else(|| SettingError::Unknown {
        name: name.to_owned(),
        nearest: crate::config::nearest(name, SETTINGS.iter().map(|setting| setting.name)),
    })?;
    setting
        .kind
        .check(value.trim())
        .map_err(|cause| SettingError::Invalid {
            name: setting.name,
            value: value.to_owned(),
            cause,
        })
}

/// The value in force: the topic's own, else the broker's default, else Kafka's.
pub(crate) fn value<'a>(
    setting: &Setting,
    own: Option<&'a str>,
    defaults: &'a [(String, String)],
) -> &'a str {
    let default = || defaults.iter().rev().find(|(name, _)| name == setting.name);
    own.or_else(|| default().map(|(_, value)| &**value))
        .unwrap_or(setting.default)
        .trim()
}

/// Turns settings, all of which have been validated, into what the log works by.
pub(crate) fn resolve(own: &Configs, defaults: &[(String, String)]) -> TopicSettings {
    let get = |name: &str| {
        value(
            find(name).expect("a name of the table"),
            own.get(name),
            defaults,
        )
    };
    let long = |name: &str| {
        get(name)
            .parse::<i64>()
            .expect("validated before it was stored")
    };
    let size = |name: &str| long(name).max(0) as u64;
    let bound = |name: &str| u64::try_from(long(name)).ok();
    let has_policy = |wanted: &str| {
        let mut policies = get("cleanup.policy").split(',');
        policies.any(|policy| policy.trim() == wanted)
    };
    TopicSettings {
        log: Arc::new(LogConfig {
            segment_bytes: size("segment.bytes") as u32,
            segment_ms: long("segment.ms"),
            index_interval_bytes: size("index.interval.bytes") as u32,
            segment_index_bytes: size("segment.index.bytes") as u32,
            retention_ms: bound("retention.ms").map(|ms| ms as i64),
            retention_bytes: bound("retention.bytes"),
            max_message_bytes: size("max.message.bytes") as usize,
            timestamp_type: match get("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            flush_messages: long("flush.messages"),
            flush_ms: long("flush.ms"),
            delete_by_retention: has_policy("delete"),
            compact: has_policy("compact"),
            tiered: get("remote.storage.enable").eq_ignore_ascii_case("true"),
            remote_copy_disabled: get("remote.log.copy.disable").eq_ignore_ascii_case("true"),
            local_retention_ms: local_bound(long("local.retention.ms"), long("retention.ms")),
            local_retention_bytes: local_bound(
                long("local.retention.bytes"),
                long("retention.bytes"),
            )
            .map(|bytes| bytes as u64),
        }),
        min_insync_replicas: long("min.insync.replicas") as usize,
    }
}

/// What is kept on local disk: never more than the log has. -2 stands for the log's own bound, -1 for none.
fn local_bound(local: i64, whole: i64) -> Option<i64> {
    let bounds = [local, whole].into_iter().filter(|bound| *bound >= 0);
    bounds.min()
}

impl Kind {
    fn check(self, value: &str) -> Result<(), String> {
        let at_least = |number: i64, least: i64| {
            if number >= least {
                Ok(())
            } else {
                Err(format!("Value must be at least {least}"))
            }
        };
        match self {
            Self::Boolean => match value.to_ascii_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => Err("Expected value to be either true or false".to_owned()),
            },
            Self::Text => Ok(()),
            Self::Int(least) => match value.parse::<i32>() {
                Ok(number) => at_least(i64::from(number), i64::from(least)),
                Err(_) => Err("Not a number of type INT".to_owned()),
            },
            Self::Long(least) => match value.parse::<i64>() {
                Ok(number) => at_least(number, least),
                Err(_) => Err("Not a number of type LONG".to_owned()),
            },
            Self::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                Ok(_) => Err("Value must be between 0 and 1".to_owned()),
                Err(_) => Err("Not a number of type DOUBLE".to_owned()),
            },
            Self::OneOf(values) if values.contains(&value) => Ok(()),
            Self::OneOf(values) => Err(format!("String must be one of: {}", values.join(", "))),
            Self::ListOf(values) => {
                let is_known = |entry: &str| values.is_empty() || values.contains(&entry);
                match value
                    .split(',')
                    .map(str::trim)
                    .find(|entry| !entry.is_empty() && !is_known(entry))
                {
                    Some(_) => Err(format!("String must be one of: {}", values.join(", "))),
                    None if value.is_empty() && !values.is_empty() => {
                        Err("List must not be empty".to_owned())
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_valid() {
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
        for setting in SETTINGS {
            assert_eq!(
                setting.kind.check(setting.default),
                Ok(()),
                "{}",
                setting.name
            );
            assert!(!setting.doc.is_empty());
        }
    }

    #[test]
    fn a_topic_overrides_the_broker_which_overrides_the_table() {
        let setting = find("retention.ms").unwrap();
        let defaults = [("retention.ms".to_owned(), "7".to_owned())];
        assert_eq!(value(setting, Some("5"), &defaults), "5");
        assert_eq!(value(setting, None, &defaults), "7");
        assert_eq!(value(setting, None, &[]), "604800000");
        assert_eq!(
            resolve(&Configs::default(), &defaults).log.retention_ms,
            Some(7)
        );
        let for_ever = [("retention.ms".to_owned(), "-1".to_owned())];
        assert_eq!(
            resolve(&Configs::default(), &for_ever).log.retention_ms,
            None
        );
    }

    #[test]
    fn the_tier_is_for_topics_that_can_use_it() {
        let check = |own: &[(&'static str, &'static str)], has_tier, was_remote| {
            let own: std::collections::HashMap<_, _> = own.iter().copied().collect();
            check_tier(|name| own.get(name).copied(), &[], has_tier, was_remote)
        };
        let remote = ("remote.storage.enable", "true");
        assert_eq!(check(&[remote], true, false), Ok(()));
        assert_eq!(check(&[remote], false, false), Err(SettingError::NoTier));
        let compacted = [remote, ("cleanup.policy", "compact,delete")];
        assert_eq!(
            check(&compacted, true, false),
            Err(SettingError::CompactedRemote)
        );
        assert_eq!(check(&[], true, true), Err(SettingError::DisablesRemote));
        for (local, is_fine) in [("5", true), ("-2", true), ("7", false), ("-1", false)] {
            let own = [remote, ("retention.ms", "6"), ("local.retention.ms", local)];
            assert_eq!(check(&own, true, true).is_ok(), is_fine, "{local}");
        }
    }

    #[test]
    fn wrong_values_are_refused_with_the_reason() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("cleanup.policy", "shred"),
            ("cleanup.policy", ""),
            ("min.insync.replicas", "0"),
            ("segment.bytes", "2147483648"),
            ("preallocate", "maybe"),
            ("min.cleanable.dirty.ratio", "1.5"),
        ] {
            assert!(validate(name, value).is_err(), "{name}={value}");
        }
        assert_eq!(validate("cleanup.policy", "compact,delete"), Ok(()));
        let error = validate("retention.mss", "1").unwrap_err().to_string();
        assert!(error.contains("did you mean retention.ms?"), "{error}");
    }
}
