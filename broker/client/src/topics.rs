//! Administration of topics: create, delete, grow, configure, trim.

use std::sync::Arc;

use tidemill_protocol::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use tidemill_protocol::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use tidemill_protocol::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use tidemill_protocol::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use tidemill_protocol::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use tidemill_protocol::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use tidemill_protocol::{ApiKey, ErrorCode, Str};
use tidemill_records::{NodeId, Offset, TopicPartition};

use crate::client::{Client, Route, check, error_code};
use crate::connection::CallOptions;
use crate::error::ClientError;

/// How long the broker may take for an administrative change.
const CHANGE_TIMEOUT_MS: i32 = 20_000;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; `None` takes the broker's default.
    pub partitions: Option<i32>,
    /// Replicas of each partition; `None` takes the broker's default.
    pub replication_factor: Option<i16>,
    /// Configs that differ from the defaults.
    pub configs: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with the broker's defaults.
    pub fn new(name: impl Into<String>) -> NewTopic {
        NewTopic {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            configs: Vec::new(),
        }
    }
}

/// Whose configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic's.
    Topic(String),
    /// A broker's.
    Broker(NodeId),
}

impl ConfigResource {
    const TOPIC: i8 = 2;
    const BROKER: i8 = 4;

    fn kind(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => ConfigResource::TOPIC,
            ConfigResource::Broker(_) => ConfigResource::BROKER,
        }
    }

    fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) => name.clone(),
            ConfigResource::Broker(node) => node.to_string(),
        }
    }

    fn route(&self) -> Route<'static> {
        match self {
            ConfigResource::Topic(_) => Route::Any,
            ConfigResource::Broker(node) => Route::Node(*node),
        }
    }
}

/// Where a config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it runs.
    DynamicBroker,
    /// Set for all brokers while they run.
    DynamicDefaultBroker,
    /// From the broker's configuration.
    StaticBroker,
    /// Built in.
    Default,
    /// A source that this client does not know.
    Other(i8),
}

impl ConfigSource {
    fn from_code(code: i8) -> ConfigSource {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            other => ConfigSource::Other(other),
        }
    }
}

/// One config as the broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` when it is not set or is secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can be changed while the broker runs.
    pub read_only: bool,
    /// Whether the value is withheld.
    pub sensitive: bool,
}

impl Client {
    /// Creates a topic.
    ///
    /// # Errors
    /// `Broker` with `TopicAlreadyExists`, `InvalidTopicException`, `InvalidConfig`, `InvalidPartitions`…
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        const BROKERS_DEFAULT: i16 = -1;
        let configs = topic
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: Str::from(name.as_str()),
                value: Some(Str::from(value.as_str())),
                ..CreatableTopicConfig::default()
            });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from(topic.name.as_str()),
                num_partitions: topic.partitions.unwrap_or(i32::from(BROKERS_DEFAULT)),
                replication_factor: topic.replication_factor.unwrap_or(BROKERS_DEFAULT),
                configs: configs.collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..CreateTopicsRequest::default()
        };
        self.retry(|| async {
            let response = self
                .call(Route::Controller, &request, CallOptions::default())
                .await?;
            let [result] = response.topics.as_slice() else {
                return Err(incomplete(ApiKey::CREATE_TOPICS, "the topic"));
            };
            let message = result.error_message.as_deref();
            check(
                ApiKey::CREATE_TOPICS,
                topic.name.as_str(),
                result.error_code,
                message,
            )
        })
        .await
    }

    /// Deletes a topic with its records.
    ///
    /// # Errors
    /// `UnknownTopic` when there is none of that name.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(Str::from(name)),
                ..DeleteTopicState::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..DeleteTopicsRequest::default()
        };
        let by_names = DeleteTopicsRequest {
            topics: Vec::new(),
            topic_names: vec![Str::from(name)],
            ..request.clone()
        };
        self.retry(|| async {
            let connection = self.connection(Route::Controller).await?;
            let names_only = connection.version_of::<DeleteTopicsRequest>(None)? < 6;
            let request = if names_only { &by_names } else { &request };
            let response = connection.send(request).await?;
            let [result] = response.responses.as_slice() else {
                return Err(incomplete(ApiKey::DELETE_TOPICS, "the topic"));
            };
            let message = result.error_message.as_deref();
            check_topic(ApiKey::DELETE_TOPICS, name, result.error_code, message)
        })
        .await?;
        self.forget_topic(name);
        Ok(())
    }

    /// Raises a topic's number of partitions to `count`.
    ///
    /// # Errors
    /// `UnknownTopic`; `Broker` with `InvalidPartitions` when `count` is not larger than now.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Str::from(name),
                count,
                assignments: None,
                ..CreatePartitionsTopic::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..CreatePartitionsRequest::default()
        };
        self.retry(|| async {
            let response = self
                .call(Route::Controller, &request, CallOptions::default())
                .await?;
            let [result] = response.results.as_slice() else {
                return Err(incomplete(ApiKey::CREATE_PARTITIONS, "the topic"));
            };
            let message = result.error_message.as_deref();
            check_topic(ApiKey::CREATE_PARTITIONS, name, result.error_code, message)
        })
        .await?;
        self.forget_topic(name);
        Ok(())
    }

    /// All configs of a topic or broker, as the broker lists them.
    ///
    /// # Errors
    /// `UnknownTopic` for a topic that does not exist.
    pub async fn describe_configs(
        &self,
        resource: &ConfigResource,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let name = resource.name();
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: resource.kind(),
                resource_name: Str::from(name.as_str()),
                configuration_keys: None,
                ..DescribeConfigsResource::default()
            }],
            ..DescribeConfigsRequest::default()
        };
        self.retry(|| async {
            let response = self
                .call(resource.route(), &request, CallOptions::default())
                .await?;
            let [result] = response.results.as_slice() else {
                return Err(incomplete(ApiKey::DESCRIBE_CONFIGS, "the resource"));
            };
            let message = result.error_message.as_deref();
            check_topic(ApiKey::DESCRIBE_CONFIGS, &name, result.error_code, message)?;
            let entries = result.configs.iter().map(|config| ConfigEntry {
                name: config.name.to_string(),
                value: config.value.as_deref().map(str::to_owned),
                source: ConfigSource::from_code(config.config_source),
                read_only: config.read_only,
                sensitive: config.is_sensitive,
            });
            Ok(entries.collect())
        })
        .await
    }

    /// Sets configs, or takes them back to their default with `None`.
    ///
    /// # Errors
    /// `UnknownTopic`; `Broker` with `InvalidConfig` for an unknown name or a bad value.
    pub async fn alter_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(String, Option<String>)],
    ) -> Result<(), ClientError> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let name = resource.name();
        let configs = changes.iter().map(|(name, value)| AlterableConfig {
            name: Str::from(name.as_str()),
            config_operation: if value.is_some() { SET } else { DELETE },
            value: value.as_deref().map(Str::from),
            ..AlterableConfig::default()
        });
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: resource.kind(),
                resource_name: Str::from(name.as_str()),
                configs: configs.collect(),
                ..AlterConfigsResource::default()
            }],
            ..IncrementalAlterConfigsRequest::default()
        };
        self.retry(|| async {
            let response = self
                .call(resource.route(), &request, CallOptions::default())
                .await?;
            let [result] = response.responses.as_slice() else {
                return Err(incomplete(
                    ApiKey::INCREMENTAL_ALTER_CONFIGS,
                    "the resource",
                ));
            };
            let message = result.error_message.as_deref();
            check_topic(
                ApiKey::INCREMENTAL_ALTER_CONFIGS,
                &name,
                result.error_code,
                message,
            )
        })
        .await
    }

    /// Moves the log start of a partition up to `before`; [`Offset::NONE`] stands for the high watermark.
    /// Returns the new log start.
    ///
    /// # Errors
    /// `Broker` with `OffsetOutOfRange` past the high watermark.
    pub async fn delete_records(
        &self,
        partition: &TopicPartition,
        before: Offset,
    ) -> Result<Offset, ClientError> {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: Str::from(&*partition.topic),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: partition.partition.0,
                    offset: before.0,
                    ..DeleteRecordsPartition::default()
                }],
                ..DeleteRecordsTopic::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..DeleteRecordsRequest::default()
        };
        self.retry(|| async {
            let route = Route::Leader(partition);
            let response = self.call(route, &request, CallOptions::default()).await?;
            let result = response
                .topics
                .first()
                .and_then(|topic| topic.partitions.first());
            let result =
                result.ok_or_else(|| incomplete(ApiKey::DELETE_RECORDS, "the partition"))?;
            check(
                ApiKey::DELETE_RECORDS,
                partition.to_string(),
                result.error_code,
                None,
            )?;
            Ok(Offset(result.low_watermark))
        })
        .await
    }
}

pub(crate) fn incomplete(api: ApiKey, what: &'static str) -> ClientError {
    ClientError::Incomplete {
        api: api.name(),
        what,
    }
}

/// [`check`] for a request that names a topic: "unknown topic" is final here, though Kafka calls the code
/// retriable.
fn check_topic(
    api: ApiKey,
    name: &str,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClientError> {
    match error_code(code) {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => {
            Err(ClientError::UnknownTopic {
                topic: Arc::from(name),
            })
        }
        _ => check(api, name, code, message),
    }
}
