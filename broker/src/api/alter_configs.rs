//! AlterConfigs (key 33): replaces all of a topic's settings; the older sibling of IncrementalAlterConfigs.
//!
//! Versions 0–2. What is not named goes back to its default.

use std::sync::Arc;

use tidemill_metadata::ConfigChange;
use tidemill_protocol::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use tidemill_protocol::{ErrorCode, Str};

use super::incremental_alter_configs::{set, topic_configs};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic_config;

/// Changes each resource on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: AlterConfigsRequest,
    _version: i16,
) -> AlterConfigsResponse {
    let mut responses = Vec::with_capacity(request.resources.len());
    for wanted in request.resources {
        let outcome = replace(broker, context, &wanted, request.validate_only).await;
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
    AlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

async fn replace(
    broker: &Broker,
    context: &RequestContext,
    wanted: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    let topic = wanted.resource_name.as_str();
    let own = topic_configs(broker, context, wanted.resource_type, topic)?;
    let is_named = |name: &str| {
        wanted
            .configs
            .iter()
            .any(|config| config.name.as_str() == name)
    };
    let mut changes: Vec<ConfigChange> = own
        .iter()
        .filter(|(name, _)| !is_named(name))
        .map(|(name, _)| (name.into(), None))
        .collect();
    for config in &wanted.configs {
        let name = config.name.as_str();
        let Some(value) = &config.value else {
            let message = format!("Null value not supported for : {name}");
            return Err((ErrorCode::InvalidRequest, message));
        };
        topic_config::validate(name, value)
            .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        changes.push((name.into(), Some(Arc::from(value.trim()))));
    }
    set(broker, topic, changes, validate_only).await
}
