//! Bounds of what one command, and one name, may hold. A command over a bound is rejected, so what is
//! in the log keeps them.

use std::ops::RangeInclusive;

/// Bytes of one encoded command.
pub const COMMAND_BYTES_MAX: usize = 2 << 20;
/// Partitions that one command creates.
pub const PARTITIONS_PER_COMMAND_MAX: usize = 10_000;
/// Partitions of one topic, however many commands made them.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 100_000;
/// Replicas of one partition.
pub const REPLICAS_MAX: usize = 32;
/// Characters of a topic's name, as in Kafka.
pub const TOPIC_NAME_CHARS_MAX: usize = 249;
/// Configuration keys that one resource holds, and that one command changes.
pub const CONFIGS_PER_RESOURCE_MAX: usize = 1_000;
/// Bytes of a configuration key.
pub const CONFIG_KEY_BYTES_MAX: usize = 255;
/// Bytes of a configuration value.
pub const CONFIG_VALUE_BYTES_MAX: usize = 32 << 10;
/// Listeners of one broker.
pub const LISTENERS_MAX: usize = 16;
/// Bytes of a host, rack, listener or feature name.
pub const LABEL_BYTES_MAX: usize = 255;
/// Producer ids handed out at once, as in Kafka.
pub const PRODUCER_ID_BLOCK: i32 = 1_000;
/// Objects that one command expires or forgets.
pub const LOOSE_OBJECTS_PER_COMMAND_MAX: usize = 10_000;
/// Uploads that are announced and neither committed nor expired.
pub const PREPARES_MAX: usize = 100_000;
/// Functions of the cluster.
pub const FUNCTIONS_MAX: usize = 10_000;
/// Transforms of the cluster.
pub const TRANSFORMS_MAX: usize = 10_000;
/// Versions of one transform that are kept.
pub const TRANSFORM_VERSIONS_MAX: usize = 100;
/// Characters of a transform's name.
pub const TRANSFORM_NAME_CHARS_MAX: usize = 100;
/// Topics that one transform writes to, its dead letters not counted.
pub const SINKS_MAX: usize = 64;
/// Configuration entries of one version of a transform.
pub const TRANSFORM_CONFIGS_MAX: usize = 100;
/// Tries that follow the first one.
pub const TRANSFORM_RETRIES: RangeInclusive<u64> = 0..=100;
/// Milliseconds between two tries.
pub const TRANSFORM_BACKOFF_MS: RangeInclusive<u64> = 0..=60_000;
/// Bytes of memory of one instance of a function.
pub const TRANSFORM_MEMORY_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Milliseconds that a function may take for one batch.
pub const TRANSFORM_TIME_MS: RangeInclusive<u64> = 1..=60_000;
/// Bytes that a function may give out for one batch.
pub const TRANSFORM_OUTPUT_BYTES: RangeInclusive<u64> = 1 << 10..=64 << 20;
/// Records that a function may give out for one batch.
pub const TRANSFORM_OUTPUT_RECORDS: RangeInclusive<u64> = 1..=100_000;
/// Lines that a function may log in a second.
pub const TRANSFORM_LOG_LINES_PER_SECOND: RangeInclusive<u64> = 0..=10_000;
