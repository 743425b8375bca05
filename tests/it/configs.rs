//! DescribeConfigs and its siblings, as Schema Registry, Connect and UIs read them.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterableConfig,
};
use tidemill_protocol::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResult,
};
use tidemill_tests::{TestBroker, Wire};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Sources, as the protocol numbers them.
const OF_THE_TOPIC: i8 = 1;
const OF_THE_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

/// Every topic setting of Kafka 4.x.
const TOPIC_SETTINGS: &[&str] = &[
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];

async fn describe(wire: &mut Wire, version: i16, kind: i8, name: &str) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.into(),
            configuration_keys: None,
            ..Default::default()
        }],
        include_synonyms: true,
        include_documentation: version >= 3,
        ..Default::default()
    };
    wire.call(version, &request).await.results.remove(0)
}

fn find<'a>(result: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    let found = result
        .configs
        .iter()
        .find(|config| config.name.as_str() == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

fn value(config: &DescribeConfigsResourceResult) -> &str {
    config.value.as_deref().unwrap_or_default()
}

/// (name, value, source) of each level, the one in force first.
fn synonyms(config: &DescribeConfigsResourceResult) -> Vec<(&str, &str, i8)> {
    let level =
        |synonym: &'_ tidemill_protocol::describe_configs::DescribeConfigsSynonym| synonym.source;
    config
        .synonyms
        .iter()
        .map(|synonym| {
            (
                synonym.name.as_str(),
                synonym.value.as_deref().unwrap_or_default(),
                level(synonym),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_topic_shows_every_setting_with_where_it_comes_from() {
    let broker = TestBroker::start_with(|config| {
        config.topic_defaults = vec![("retention.ms".to_owned(), "7000".to_owned())];
    })
    .await;
    let mut wire = broker.wire().await;
    wire.must_create(
        "t",
        1,
        &[("segment.bytes", "2000000"), ("cleanup.policy", "compact")],
    )
    .await;
    for version in 1..=4 {
        let result = describe(&mut wire, version, TOPIC, "t").await;
        assert_eq!(result.error_code, 0);
        let names: Vec<&str> = result
            .configs
            .iter()
            .map(|config| config.name.as_str())
            .collect();
        assert_eq!(names, TOPIC_SETTINGS);
        let own = find(&result, "segment.bytes");
        assert_eq!(
            (value(own), own.config_source, own.read_only),
            ("2000000", OF_THE_TOPIC, false)
        );
        let expected = [
            ("segment.bytes", "2000000", OF_THE_TOPIC),
            ("log.segment.bytes", "1073741824", DEFAULT),
        ];
        assert_eq!(synonyms(own), expected);
        let inherited = find(&result, "retention.ms");
        assert_eq!(
            (value(inherited), inherited.config_source),
            ("7000", OF_THE_BROKER)
        );
        let expected = [
            ("log.retention.ms", "7000", OF_THE_BROKER),
            ("log.retention.ms", "604800000", DEFAULT),
        ];
        assert_eq!(synonyms(inherited), expected);
        let default = find(&result, "max.message.bytes");
        assert_eq!(
            (value(default), default.config_source),
            ("1048588", DEFAULT)
        );
        assert_eq!(
            value(find(&result, "cleanup.policy")),
            "compact",
            "stored and echoed"
        );
        if version >= 3 {
            // Types: boolean 1, string 2, int 3, long 5, double 6, list 7.
            for (name, kind) in [
                ("preallocate", 1),
                ("compression.type", 2),
                ("segment.bytes", 3),
                ("retention.ms", 5),
                ("min.cleanable.dirty.ratio", 6),
                ("cleanup.policy", 7),
            ] {
                let config = find(&result, name);
                assert_eq!(config.config_type, kind, "{name}");
                assert!(
                    config
                        .documentation
                        .as_ref()
                        .is_some_and(|text| text.len() > 10)
                );
            }
        }
    }
}

#[tokio::test]
async fn a_broker_shows_its_settings_and_they_are_read_only() {
    let broker = TestBroker::start_with(|config| config.num_partitions = 7).await;
    let mut wire = broker.wire().await;
    let result = describe(&mut wire, 4, BROKER, "1").await;
    assert_eq!(result.error_code, 0);
    assert!(result.configs.iter().all(|config| config.read_only));
    let own = find(&result, "num.partitions");
    assert_eq!((value(own), own.config_source), ("7", OF_THE_BROKER));
    // Schema Registry and Kafka Connect look for these.
    for name in [
        "auto.create.topics.enable",
        "default.replication.factor",
        "log.retention.ms",
    ] {
        assert_eq!(find(&result, name).config_source, DEFAULT, "{name}");
    }
    for (kind, name, code) in [
        (BROKER, "2", ErrorCode::InvalidRequest),
        (BROKER, "+1", ErrorCode::InvalidRequest),
        (BROKER, "one", ErrorCode::InvalidRequest),
        (TOPIC, "none", ErrorCode::UnknownTopicOrPartition),
        (99, "x", ErrorCode::InvalidRequest),
    ] {
        let result = describe(&mut wire, 4, kind, name).await;
        assert_eq!(result.error_code, code.code(), "{kind} {name}");
        assert!(
            result
                .error_message
                .is_some_and(|message| !message.is_empty())
        );
    }
    assert_eq!(
        describe(&mut wire, 4, BROKER, "").await.error_code,
        0,
        "cluster-wide defaults"
    );
}

#[tokio::test]
async fn only_the_names_that_are_asked_for() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configuration_keys: Some(vec!["retention.ms".into(), "no.such".into()]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let result = wire.call(4, &request).await.results.remove(0);
    let names: Vec<&str> = result
        .configs
        .iter()
        .map(|config| config.name.as_str())
        .collect();
    assert_eq!(names, ["retention.ms"]);
    assert!(result.configs[0].synonyms.is_empty(), "nor what was not");
}

#[tokio::test]
async fn settings_change_whole_or_not_at_all_and_survive() {
    let mut broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[]).await;
    assert_eq!(
        wire.set_config("t", "retention.ms", "12345").await,
        (0, None)
    );
    let (code, message) = wire.set_config("t", "retention.ms", "x").await;
    assert_eq!(code, ErrorCode::InvalidConfig.code());
    assert!(message.is_some_and(|message| message.contains("retention.ms")));
    let (code, message) = wire.set_config("t", "retention.sm", "1").await;
    assert_eq!(code, ErrorCode::InvalidConfig.code());
    assert!(message.is_some_and(|message| message.contains("did you mean retention.ms")));
    broker.restart().await;
    let mut wire = broker.wire().await;
    let result = describe(&mut wire, 4, TOPIC, "t").await;
    let found = find(&result, "retention.ms");
    assert_eq!((value(found), found.config_source), ("12345", OF_THE_TOPIC));
    // The older request replaces all: what it does not name is the default again.
    let config = AlterableConfig {
        name: "segment.bytes".into(),
        value: Some("1048576".into()),
        ..Default::default()
    };
    let replace = AlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: "t".into(),
            configs: vec![config],
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(wire.call(2, &replace).await.responses[0].error_code, 0);
    let result = describe(&mut wire, 4, TOPIC, "t").await;
    assert_eq!(find(&result, "retention.ms").config_source, DEFAULT);
    assert_eq!(value(find(&result, "segment.bytes")), "1048576");
}

/// The setting of a deleted topic is not its successor's.
#[tokio::test]
async fn settings_end_with_their_topic() {
    let broker = TestBroker::start().await;
    let mut wire = broker.wire().await;
    wire.must_create("t", 1, &[("retention.ms", "5000")]).await;
    assert_eq!(wire.delete("t").await, 0);
    wire.must_create("t", 1, &[]).await;
    let result = describe(&mut wire, 4, TOPIC, "t").await;
    assert_eq!(find(&result, "retention.ms").config_source, DEFAULT);
}
