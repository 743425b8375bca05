//! Broker settings as plain data, one field a setting. `settings.rs` names them (Kafka's names where Kafka
//! has one), `load.rs` merges file, environment and flags into this struct.

mod load;
mod settings;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tidemill_tiered_store::{TierMemory, TierUrl};

pub use load::{ConfigError, Flag, load};

use crate::topic_config::{self, Kind};

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// Directory of segments, write-ahead log and metadata.
    pub data_dir: PathBuf,
    /// Address of the Kafka listener for clients.
    pub listen: SocketAddr,
    /// Host and port that clients are told to connect to; inferred per connection when absent.
    pub advertise: Option<(String, u16)>,
    /// Address of the HTTP listener: metrics, health.
    pub admin_listen: SocketAddr,
    /// Address of the listener for other brokers.
    pub internal_listen: SocketAddr,
    /// This broker's id.
    pub node_id: i32,
    /// Failure domain of this broker.
    pub rack: Option<String>,
    /// Settings of the object tier.
    pub tier: TierConfig,
    /// Bytes that logs may take of the data directory; None leaves it to the disk.
    pub data_dir_bytes_max: Option<u64>,
    /// Settings of connections and request memory.
    pub network: NetworkConfig,
    /// Settings of classic consumer groups and their offsets.
    pub group: GroupConfig,
    /// Create a topic when a client asks for its metadata.
    pub auto_create_topics_enable: bool,
    /// Partitions of a topic that is created without a count.
    pub num_partitions: i32,
    /// Replicas of a topic that is created without a factor.
    pub default_replication_factor: i16,
    /// May topics be deleted?
    pub delete_topic_enable: bool,
    /// Topic settings as the broker defaults to them: (Kafka topic config name, value).
    pub topic_defaults: Vec<(String, String)>,
    /// How often retention is applied.
    pub log_retention_check_interval: Duration,
    /// Bytes of the newest batches kept in memory for all partitions together.
    pub tail_cache_bytes_max: usize,
    /// Checkpoint when this many bytes of write-ahead log are live.
    pub wal_checkpoint_bytes: u64,
    /// Checkpoint at least this often while anything is written.
    pub wal_checkpoint_interval: Duration,
    /// Idle producer ids are forgotten after this.
    pub producer_id_expiration: Duration,
    /// Fetch sessions kept for all consumers together.
    pub fetch_session_slots_max: usize,
    /// Upper bound of one fetch response.
    pub fetch_bytes_max: usize,
}

/// The object tier.
#[derive(Debug, Clone)]
pub struct TierConfig {
    /// Where it is; None for no tier.
    pub url: Option<TierUrl>,
    /// Where S3 is, if not at AWS.
    pub endpoint: Option<String>,
    /// Nobody else ever writes there: a store without an atomic conditional PUT will do.
    pub sole_owner: bool,
    /// May a tier be lost with the process?
    pub allow_memory: bool,
    /// Memory of its caches.
    pub memory: TierMemory,
    /// What is sealed and small waits so long for more to come with it into one object.
    pub upload_merge_wait: Duration,
    /// Batches that one object takes, in bytes.
    pub object_bytes_max: u32,
    /// How often partitions are looked at when nothing is due.
    pub check_interval: Duration,
    /// A tail that is not sealed is uploaded after this.
    pub upload_max_lag: Duration,
    /// What nothing refers to any more is deleted after this.
    pub delete_grace: Duration,
}

impl Default for TierConfig {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            sole_owner: false,
            allow_memory: false,
            memory: TierMemory::default(),
            upload_merge_wait: Duration::from_secs(10),
            object_bytes_max: 32 << 20,
            check_interval: Duration::from_secs(1),
            upload_max_lag: Duration::from_secs(600),
            delete_grace: Duration::from_secs(600),
        }
    }
}

/// Bounds of what strangers on the network may hold.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Largest request frame.
    pub request_bytes_max: usize,
    /// Bytes of requests in flight for all connections together.
    pub queued_bytes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// Connections at once from one address.
    pub connections_per_ip_max: usize,
    /// A connection without a request is closed after this.
    pub idle_max: Duration,
    /// A frame that has begun must make progress within this, and so must a response that is being written.
    pub stall_max: Duration,
    /// Produce requests of one connection that may wait for durability at once.
    pub pipelined_max: usize,
}

/// Bounds and times of classic groups.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Wait this long for more members before the first rebalance of an empty group.
    pub initial_rebalance_delay: Duration,
    /// Smallest session timeout that a member may ask for.
    pub session_timeout_min: Duration,
    /// Largest session timeout that a member may ask for.
    pub session_timeout_max: Duration,
    /// Members of a group at most.
    pub size_max: usize,
    /// Memory of all groups, members and offsets together; beyond it newcomers are refused.
    pub memory_bytes_max: usize,
    /// Offsets of an empty group are kept this long.
    pub offsets_retention: Duration,
    /// How often expired offsets are looked for.
    pub offsets_retention_check_interval: Duration,
    /// Bytes of the metadata that comes with a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// Partitions of `__consumer_offsets`.
    pub offsets_topic_partitions: i32,
    /// Segment size of `__consumer_offsets`.
    pub offsets_topic_segment_bytes: i32,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            data_dir: PathBuf::from("./tidemill-data"),
            listen: local(9092),
            advertise: None,
            admin_listen: local(9644),
            internal_listen: local(9093),
            node_id: 1,
            rack: None,
            tier: TierConfig::default(),
            data_dir_bytes_max: None,
            network: NetworkConfig::default(),
            group: GroupConfig::default(),
            auto_create_topics_enable: true,
            num_partitions: 1,
            default_replication_factor: 1,
            delete_topic_enable: true,
            topic_defaults: Vec::new(),
            log_retention_check_interval: Duration::from_secs(300),
            tail_cache_bytes_max: 64 << 20,
            wal_checkpoint_bytes: 512 << 20,
            wal_checkpoint_interval: Duration::from_secs(30),
            producer_id_expiration: Duration::from_secs(24 * 3600),
            fetch_session_slots_max: 1_000,
            fetch_bytes_max: 55 << 20,
        }
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            request_bytes_max: 100 << 20,
            queued_bytes_max: 256 << 20,
            connections_max: 20_000,
            connections_per_ip_max: 20_000,
            idle_max: Duration::from_secs(600),
            stall_max: Duration::from_secs(30),
            pipelined_max: 16,
        }
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(1800),
            size_max: 1_000,
            memory_bytes_max: 256 << 20,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            offsets_retention_check_interval: Duration::from_secs(600),
            offset_metadata_bytes_max: 4096,
            offsets_topic_partitions: 16,
            offsets_topic_segment_bytes: 100 << 20,
        }
    }
}

/// A setting as DescribeConfigs shows it.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) is_default: bool,
    pub(crate) kind: Kind,
    pub(crate) doc: &'static str,
}

/// Every setting of a running broker, topic defaults among them.
pub(crate) fn describe(config: &BrokerConfig) -> Vec<Described> {
    let defaults = BrokerConfig::default();
    let own = settings::SETTINGS.iter().map(|setting| {
        let value = (setting.show)(config);
        let is_default = value == (setting.show)(&defaults);
        let (name, kind, doc) = (setting.name, setting.kind, setting.doc);
        Described {
            name,
            value,
            is_default,
            kind,
            doc,
        }
    });
    let of_topics = topic_config::SETTINGS
        .iter()
        .filter(|setting| !setting.synonym.is_empty())
        .map(|setting| {
            let value = topic_config::value(setting, None, &config.topic_defaults).to_owned();
            let is_default = value == setting.default;
            let (name, kind, doc) = (setting.synonym, setting.kind, setting.doc);
            Described {
                name,
                value,
                is_default,
                kind,
                doc,
            }
        });
    own.chain(of_topics).collect()
}

/// The known name that is nearest to a mistyped one, if any is near enough to be meant.
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance_max = (typed.len() / 3).max(1);
    known
        .map(|name| (edit_distance(typed, name), name))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_understood_and_a_stranger_is_not() {
        let known = ["data.dir", "listen", "node.id"];
        assert_eq!(nearest("date.dir", known.into_iter()), Some("data.dir"));
        assert_eq!(nearest("lisen", known.into_iter()), Some("listen"));
        assert_eq!(nearest("zookeeper.connect", known.into_iter()), None);
    }
}
