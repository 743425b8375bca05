//! DescribeConfigs (key 32): all settings of a topic or broker, each with value, type, source and synonyms.
//!
//! Versions 1–4; types and documentation from 3. Schema Registry, Connect and UIs decide by source and
//! read-only flag, so both are exact.

use std::collections::HashSet;

use tidemill_metadata::MetadataLog;
use tidemill_protocol::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::config;
use crate::server::context::RequestContext;
use crate::topic_config::{self, Kind, Setting};

/// Kafka's resource types.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
/// Kafka's config sources.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Answers every resource on its own, and once: the answer is much larger than the question.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeConfigsRequest,
    _version: i16,
) -> DescribeConfigsResponse {
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let answer = |wanted: DescribeConfigsResource| {
        let described = describe(broker, context, &wanted, detail);
        let (code, message, configs) = match described {
            Ok(configs) => (ErrorCode::None, None, configs),
            Err((code, message)) => (code, Some(message.into()), Vec::new()),
        };
        DescribeConfigsResult {
            error_code: code.code(),
            error_message: message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
            configs,
            ..Default::default()
        }
    };
    let mut seen = HashSet::new();
    let mut resources = request.resources;
    resources.retain(|wanted| seen.insert((wanted.resource_type, wanted.resource_name.clone())));
    let results = resources.into_iter().map(answer).collect();
    DescribeConfigsResponse {
        results,
        ..Default::default()
    }
}

#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

/// The value in force and where it comes from.
pub(super) fn in_force<'a>(
    setting: &Setting,
    own: Option<&'a str>,
    defaults: &'a [(String, String)],
) -> (&'a str, i8) {
    let source = if own.is_some() {
        SOURCE_TOPIC
    } else if defaults.iter().any(|(name, _)| name == setting.name) {
        SOURCE_STATIC_BROKER
    } else {
        SOURCE_DEFAULT
    };
    (topic_config::value(setting, own, defaults), source)
}

fn describe(
    broker: &Broker,
    context: &RequestContext,
    wanted: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let name = wanted.resource_name.as_str();
    let mut configs = match wanted.resource_type {
        TOPIC => {
            if !broker
                .authorizer
                .allows(context, Operation::DescribeConfigs, Resource::Topic(name))
            {
                return Err(super::create_topics::plain(
                    ErrorCode::TopicAuthorizationFailed,
                ));
            }
            describe_topic(broker, name, detail)?
        }
        BROKER => {
            if !broker
                .authorizer
                .allows(context, Operation::DescribeConfigs, Resource::Cluster)
            {
                return Err(super::create_topics::plain(
                    ErrorCode::ClusterAuthorizationFailed,
                ));
            }
            describe_broker(broker, name, detail)?
        }
        other => {
            let message = format!("Unsupported resource type: {other}");
            return Err((ErrorCode::InvalidRequest, message));
        }
    };
    if let Some(keys) = &wanted.configuration_keys {
        configs.retain(|config| keys.contains(&config.name));
    }
    Ok(configs)
}

fn describe_topic(
    broker: &Broker,
    name: &str,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let image = broker.metadata.image();
    if image.topic(name).is_none() {
        return Err(super::create_topics::plain(
            ErrorCode::UnknownTopicOrPartition,
        ));
    }
    let own = image.topic_configs(name);
    let defaults = &broker.config.topic_defaults;
    let row = |setting: &Setting| {
        let own_value = own.get(setting.name);
        let (value, config_source) = in_force(setting, own_value, defaults);
        DescribeConfigsResourceResult {
            name: setting.name.into(),
            value: Some(value.into()),
            config_source,
            synonyms: if detail.synonyms {
                synonyms(setting, own_value, defaults)
            } else {
                Vec::new()
            },
            config_type: type_code(setting.kind),
            documentation: detail.documentation.then(|| setting.doc.into()),
            ..Default::default()
        }
    };
    Ok(topic_config::SETTINGS.iter().map(row).collect())
}

/// Every level at which the setting has a value, the one in force first.
fn synonyms(
    setting: &Setting,
    own: Option<&str>,
    defaults: &[(String, String)],
) -> Vec<DescribeConfigsSynonym> {
    let synonym = |name: &str, value: &str, source: i8| DescribeConfigsSynonym {
        name: name.into(),
        value: Some(value.into()),
        source,
        ..Default::default()
    };
    let mut all = Vec::new();
    all.extend(own.map(|value| synonym(setting.name, value, SOURCE_TOPIC)));
    if !setting.synonym.is_empty() {
        let broker = defaults.iter().rev().find(|(name, _)| name == setting.name);
        all.extend(broker.map(|(_, value)| synonym(setting.synonym, value, SOURCE_STATIC_BROKER)));
        all.push(synonym(setting.synonym, setting.default, SOURCE_DEFAULT));
    }
    all
}

fn describe_broker(
    broker: &Broker,
    name: &str,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    if name.is_empty() {
        // The cluster-wide dynamic defaults: nothing of a broker is dynamic yet.
        return Ok(Vec::new());
    }
    if name != broker.config.node_id.to_string() {
        let message = format!(
            "Unexpected broker id, expected {} or empty string, but received {name}",
            broker.config.node_id
        );
        return Err((ErrorCode::InvalidRequest, message));
    }
    let row = |config: config::Described| DescribeConfigsResourceResult {
        name: config.name.into(),
        value: Some(config.value.as_str().into()),
        read_only: true,
        config_source: if config.is_default {
            SOURCE_DEFAULT
        } else {
            SOURCE_STATIC_BROKER
        },
        synonyms: if detail.synonyms {
            let source = if config.is_default {
                SOURCE_DEFAULT
            } else {
                SOURCE_STATIC_BROKER
            };
            vec![DescribeConfigsSynonym {
                name: config.name.into(),
                value: Some(config.value.as_str().into()),
                source,
                ..Default::default()
            }]
        } else {
            Vec::new()
        },
        config_type: type_code(config.kind),
        documentation: detail.documentation.then(|| Str::from(config.doc)),
        ..Default::default()
    };
    Ok(config::describe(&broker.config)
        .into_iter()
        .map(row)
        .collect())
}

/// Kafka's codes of config types.
fn type_code(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Text | Kind::OneOf(_) => 2,
        Kind::Int(_) => 3,
        Kind::Long(_) => 5,
        Kind::Ratio => 6,
        Kind::ListOf(_) => 7,
    }
}
