//! CreateTopics (key 19).
//!
//! Versions 2–7; answers carry the settings from 5 (KIP-525) and the topic id from 7. Counts of -1 mean the
//! broker's defaults (KIP-464). A replication factor above the number of brokers is refused, as in Kafka, and
//! so is what is over 10,000 partitions in one request.

use std::collections::HashSet;
use std::sync::Arc;

use tidemill_metadata::{Command, MetadataLog, check_topic_name};
use tidemill_protocol::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use tidemill_protocol::{ErrorCode, Str};
use tidemill_records::{NodeId, TopicId};

use crate::api::describe_configs;
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::{topic, topic_config};

type Refusal = (ErrorCode, String);

/// Creates each topic on its own; one that is refused does not stop the others.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: CreateTopicsRequest,
    _version: i16,
) -> CreateTopicsResponse {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for wanted in &request.topics {
        if !seen.insert(wanted.name.clone()) {
            twice.insert(wanted.name.clone());
        }
    }
    let mut topics = Vec::with_capacity(seen.len());
    let mut room = topic::CREATED_PARTITIONS_MAX;
    for wanted in request.topics {
        if twice.contains(&wanted.name) && !seen.remove(&wanted.name) {
            continue;
        }
        let outcome = if twice.contains(&wanted.name) {
            Err((
                ErrorCode::InvalidRequest,
                "Duplicate topic name.".to_owned(),
            ))
        } else {
            create(broker, context, &wanted, request.validate_only, &mut room).await
        };
        topics.push(outcome.unwrap_or_else(|refusal| refused(&wanted, refusal)));
    }
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

fn refused(wanted: &CreatableTopic, (code, message): Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name: wanted.name.clone(),
        error_code: code.code(),
        error_message: Some(Str::from(message)),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

async fn create(
    broker: &Broker,
    context: &RequestContext,
    wanted: &CreatableTopic,
    validate_only: bool,
    room: &mut usize,
) -> Result<CreatableTopicResult, Refusal> {
    let allowed = broker
        .authorizer
        .allows(context, Operation::Create, Resource::Cluster)
        || broker
            .authorizer
            .allows(context, Operation::Create, Resource::Topic(&wanted.name));
    if !allowed || topic::is_broker_topic(&wanted.name) {
        return Err(plain(ErrorCode::TopicAuthorizationFailed));
    }
    check_topic_name(&wanted.name)
        .map_err(|fault| (ErrorCode::InvalidTopicException, fault.to_string()))?;
    if broker.metadata.image().topic(&wanted.name).is_some() {
        let message = format!("Topic '{}' already exists.", wanted.name.as_str());
        return Err((ErrorCode::TopicAlreadyExists, message));
    }
    if let Some(other) = topic::collides(broker, &wanted.name) {
        let name = wanted.name.as_str();
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err((ErrorCode::InvalidTopicException, message));
    }
    let configs = settings(broker, wanted)?;
    let partitions = assign(broker, wanted, *room)?;
    *room -= partitions.len();
    let mut id = TopicId::ZERO;
    let (count, factor) = (partitions.len(), partitions.first().map_or(0, Vec::len));
    if !validate_only {
        id = TopicId(broker.random.next_uuid());
        let name = Arc::from(wanted.name.as_str());
        let command = Command::CreateTopic {
            name,
            id,
            partitions,
            configs: configs.clone(),
        };
        topic::propose(broker, command)
            .await
            .map_err(|error| proposal(&error))?;
    }
    Ok(CreatableTopicResult {
        name: wanted.name.clone(),
        topic_id: id.0,
        num_partitions: count as i32,
        replication_factor: factor as i16,
        configs: Some(echo(broker, &configs)),
        ..Default::default()
    })
}

/// Replicas of each partition: as the client wants them, or counted out. No more than there is room for.
fn assign(
    broker: &Broker,
    wanted: &CreatableTopic,
    room: usize,
) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let image = broker.metadata.image();
    let nodes: Vec<NodeId> = image
        .brokers()
        .filter(|node| !node.fenced)
        .map(|node| node.id)
        .collect();
    if !wanted.assignments.is_empty() {
        if wanted.assignments.len() > room {
            return Err(too_many_partitions());
        }
        return assign_by_hand(wanted);
    }
    let count = match wanted.num_partitions {
        -1 => broker.config.num_partitions,
        count if count > 0 => count,
        _ => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err((ErrorCode::InvalidPartitions, message.to_owned()));
        }
    };
    let factor = match wanted.replication_factor {
        -1 => broker.config.default_replication_factor.max(1) as usize,
        factor if factor > 0 => factor as usize,
        _ => {
            let message =
                "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err((ErrorCode::InvalidReplicationFactor, message.to_owned()));
        }
    };
    if factor > nodes.len() {
        let message = format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of \
             {factor} cannot be reached because only {} broker(s) are registered.",
            nodes.len()
        );
        return Err((ErrorCode::InvalidReplicationFactor, message));
    }
    if count as usize > room {
        return Err(too_many_partitions());
    }
    let replicas = |first: usize| {
        (0..factor)
            .map(|i| nodes[(first + i) % nodes.len()])
            .collect()
    };
    Ok((0..count as usize).map(replicas).collect())
}

fn assign_by_hand(wanted: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let refuse = |code: ErrorCode, message: &str| Err((code, message.to_owned()));
    if wanted.num_partitions != -1 || wanted.replication_factor != -1 {
        return refuse(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions or replicationFactor was \
             not set to -1.",
        );
    }
    let mut by_index: Vec<_> = wanted.assignments.iter().collect();
    by_index.sort_by_key(|assignment| assignment.partition_index);
    let is_gapless = by_index
        .iter()
        .enumerate()
        .all(|(at, a)| a.partition_index == at as i32);
    if !is_gapless {
        return refuse(
            ErrorCode::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        );
    }
    let nodes = |ids: &[i32]| ids.iter().map(|id| NodeId(*id)).collect();
    Ok(by_index
        .iter()
        .map(|assignment| nodes(&assignment.broker_ids))
        .collect())
}

fn settings(
    broker: &Broker,
    wanted: &CreatableTopic,
) -> Result<Vec<(Arc<str>, Arc<str>)>, Refusal> {
    let mut configs = Vec::with_capacity(wanted.configs.len());
    for config in &wanted.configs {
        let Some(value) = &config.value else {
            let message = format!(
                "Null value not supported for topic configs: {}",
                config.name.as_str()
            );
            return Err((ErrorCode::InvalidConfig, message));
        };
        topic_config::validate(&config.name, value)
            .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
        configs.push((Arc::from(config.name.as_str()), Arc::from(value.trim())));
    }
    let own = |name: &str| {
        let found = configs
            .iter()
            .rev()
            .find(|(known, _): &&(Arc<str>, Arc<str>)| **known == *name);
        found.map(|(_, value)| &**value)
    };
    topic_config::check_tier(
        own,
        &broker.config.topic_defaults,
        broker.tier.is_some(),
        false,
    )
    .map_err(|error| (ErrorCode::InvalidConfig, error.to_string()))?;
    Ok(configs)
}

fn echo(broker: &Broker, own: &[(Arc<str>, Arc<str>)]) -> Vec<CreatableTopicConfigs> {
    let own_value = |name: &str| {
        own.iter()
            .rev()
            .find(|(n, _)| **n == *name)
            .map(|(_, v)| &**v)
    };
    let row = |setting: &topic_config::Setting| {
        let defaults = &broker.config.topic_defaults;
        let (value, source) =
            describe_configs::in_force(setting, own_value(setting.name), defaults);
        CreatableTopicConfigs {
            name: setting.name.into(),
            value: Some(value.into()),
            config_source: source,
            ..Default::default()
        }
    };
    topic_config::SETTINGS.iter().map(row).collect()
}

/// Worded as Kafka words it.
pub(super) fn too_many_partitions() -> Refusal {
    (
        ErrorCode::PolicyViolation,
        "Excessively large number of partitions per request.".to_owned(),
    )
}

pub(super) fn plain(code: ErrorCode) -> Refusal {
    (code, code.message().to_owned())
}

pub(super) fn proposal(error: &tidemill_metadata::ProposeError) -> Refusal {
    (super::error::proposal(error), error.to_string())
}
