//! IncrementalAlterConfigs (key 44): sets, deletes, appends to and subtracts from single settings (KIP-339).
//!
//! Versions 0–1. A resource changes as a whole or not at all. Broker settings are read-only.

use std::collections::HashSet;
use std::sync::Arc;

use tidemill_metadata::{Command, ConfigChange, ConfigResource, Configs, MetadataLog};
use tidemill_protocol::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use tidemill_protocol::{ErrorCode, Str};

use super::create_topics::{plain, proposal};
use super::describe_configs::{BROKER, TOPIC};
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic_config::{self, Kind};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Refusal = (ErrorCode, String);

/// Changes each resource on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: IncrementalAlterConfigsRequest,
    _version: i16,
) -> IncrementalAlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for wanted in request.resources {
        let outcome = alter(broker, context, &wanted, request.validate_only).await;
        let (code, message) = match outcome {
            Ok(()) => (ErrorCode::None, None),
            Err((code, message)) => (code, Some(Str::from(message))),
        };
        responses.push(AlterConfigsResourceResponse {
            error_code: code.code(),
            error_message: message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name,
            ..Default::default()
        });
    }
    IncrementalAlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

async fn alter(
    broker: &Broker,
    context: &RequestContext,
    wanted: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let topic = wanted.resource_name.as_str();
    let own = topic_configs(broker, context, wanted.resource_type, topic)?;
    let mut seen = HashSet::new();
    let mut changes = Vec::with_capacity(wanted.configs.len());
    for config in &wanted.configs {
        if !seen.insert(config.name.as_str()) {
            let message = format!(
                "Error due to duplicate config keys: {}",
                config.name.as_str()
            );
            return Err((ErrorCode::InvalidRequest, message));
        }
        changes.push(change(broker, &own, config)?);
    }
    set(broker, topic, changes, validate_only).await
}

/// The settings of a topic that may be changed; brokers have none.
pub(super) fn topic_configs(
    broker: &Broker,
    context: &RequestContext,
    resource_type: i8,
    topic: &str,
) -> Result<Configs, Refusal> {
    match resource_type {
        TOPIC => {}
        BROKER => {
            let message = "broker settings are read at start; change them there and restart";
            return Err((ErrorCode::InvalidRequest, message.to_owned()));
        }
        other => {
            let message = format!("Unsupported resource type: {other}");
            return Err((ErrorCode::InvalidRequest, message));
        }
    }
    if !broker
        .authorizer
        .allows(context, Operation::AlterConfigs, Resource::Topic(topic))
    {
        return Err(plain(ErrorCode::TopicAuthorizationFailed));
    }
    let image = broker.metadata.image();
    if image.topic(topic).is_none() {
        return Err(plain(ErrorCode::UnknownTopicOrPartition));
    }
    Ok(image.topic_configs(topic))
}

pub(super) async fn set(
    broker: &Broker,
    topic: &str,
    changes: Vec<ConfigChange>,
    validate_only: bool,
) -> Result<(), Refusal> {
    check_together(broker, topic, &changes)?;
    if validate_only || changes.is_empty() {
        return Ok(());
    }
    let command = Command::SetConfigs {
        resource: ConfigResource::Topic(topic.into()),
        changes,
    };
    crate::topic::propose(broker, command)
        .await
        .map(|_| ())
        .map_err(|error| proposal(&error))
}

/// What the settings mean together once they are changed.
fn check_together(broker: &Broker, topic: &str, changes: &[ConfigChange]) -> Result<(), Refusal> {
    let image = broker.metadata.image();
    let before = image.topic_configs(topic);
    let own = |name: &str| match changes.iter().rev().find(|(changed, _)| **changed == *name) {
        Some((_, value)) => value.as_deref(),
        None => before.get(name),
    };
    let was_remote = before
        .get("remote.storage.enable")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let has_tier = broker.tier.is_some();
    topic_config::check_tier(own, &broker.config.topic_defaults, has_tier, was_remote)
        .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))
}

fn change(
    broker: &Broker,
    own: &Configs,
    config: &AlterableConfig,
) -> Result<ConfigChange, Refusal> {
    let name = config.name.as_str();
    let invalid = |message: String| (ErrorCode::InvalidConfig, message);
    let setting = match topic_config::find(name) {
        Some(setting) => setting,
        None => {
            let unknown =
                topic_config::validate(name, "").expect_err("an unknown name is never valid");
            return Err(invalid(unknown.to_string()));
        }
    };
    let null = || {
        (
            ErrorCode::InvalidRequest,
            format!("Null value not supported for : {name}"),
        )
    };
    let text = || {
        config
            .value
            .as_ref()
            .map(|value| value.trim())
            .ok_or_else(null)
    };
    let is_list = matches!(setting.kind, Kind::ListOf(_));
    let current = || {
        let value = topic_config::value(setting, own.get(name), &broker.config.topic_defaults);
        value
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(str::to_owned)
    };
    let value = match config.config_operation {
        SET => text()?.to_owned(),
        DELETE => return Ok((name.into(), None)),
        APPEND | SUBTRACT if !is_list => {
            let message = format!("Config value append is not allowed for config key: {name}");
            return Err(invalid(message));
        }
        APPEND => {
            let mut entries: Vec<String> = current().collect();
            for entry in text()?.split(',').map(str::trim) {
                if !entries.iter().any(|known| known == entry) {
                    entries.push(entry.to_owned());
                }
            }
            entries.join(",")
        }
        SUBTRACT => {
            let gone: Vec<&str> = text()?.split(',').map(str::trim).collect();
            current()
                .filter(|entry| !gone.contains(&entry.as_str()))
                .collect::<Vec<_>>()
                .join(",")
        }
        other => {
            let message = format!("Unknown operation {other} for config key: {name}");
            return Err((ErrorCode::InvalidRequest, message));
        }
    };
    topic_config::validate(name, &value).map_err(|error| invalid(error.to_string()))?;
    Ok((name.into(), Some(Arc::from(value))))
}
