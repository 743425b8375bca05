//! Bounds of what one command, and one name, may hold. A command over a bound is rejected, so what is
//! in the log keeps them.

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
