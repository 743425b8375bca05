//! The client: bootstrap, metadata, connections, and the retry loop that everything else runs in.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemill_protocol::find_coordinator::FindCoordinatorRequest;
use tidemill_protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use tidemill_protocol::{ApiKey, ErrorCode, Request, Str};
use tidemill_records::{NodeId, TopicPartition};
use tokio::time::Instant;

use crate::connection::{CallOptions, Connection, ConnectionConfig};
use crate::error::ClientError;
use crate::metadata::{ClusterView, PartitionView, TopicView, address_of};
use crate::pool::{Pool, Purpose};

/// First pause before a retry; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
/// Longest pause before a retry.
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Groups whose coordinator is remembered.
const COORDINATORS_MAX: usize = 1000;
/// The last version of FindCoordinator that asks for one key.
const FIND_ONE_COORDINATOR: i16 = 3;

/// Settings of a client.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `host:port` of brokers to begin with, tried in turn.
    pub bootstrap: Vec<String>,
    /// Settings of each connection.
    pub connection: ConnectionConfig,
    /// Total time of one call, its retries included.
    pub deadline: Duration,
}

impl ClientConfig {
    /// Defaults with these bootstrap addresses.
    pub fn new(bootstrap: Vec<String>) -> ClientConfig {
        ClientConfig {
            bootstrap,
            connection: ConnectionConfig::default(),
            deadline: Duration::from_secs(30),
        }
    }
}

/// Where a request has to go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route<'a> {
    /// Any broker.
    Any,
    /// The controller; a broker that is not may forward.
    Controller,
    /// This broker.
    Node(NodeId),
    /// The leader of a partition.
    Leader(&'a TopicPartition),
    /// This broker, for a request that it may hold back until there are records.
    Fetch(NodeId),
    /// The coordinator of a group.
    Group(&'a str),
}

/// A Kafka client; share it by `Arc`.
///
/// Every call retries what can succeed later (moved leaders, coordinators that load, broken connections)
/// within [`ClientConfig::deadline`]. Until a broker has answered once, an unreachable cluster is an
/// error at once rather than something to wait for.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    view: Mutex<Arc<ClusterView>>,
    pool: Pool,
    /// By group; at most [`COORDINATORS_MAX`].
    coordinators: Mutex<BTreeMap<String, NodeId>>,
}

/// The pauses of one call, up to its total time.
#[derive(Debug)]
pub(crate) struct Retry<'a> {
    client: &'a Client,
    deadline: Instant,
    backoff: Duration,
    last: Option<Box<ClientError>>,
}

impl Retry<'_> {
    /// Forgets what `error` shows to be stale, and pauses before the next attempt.
    ///
    /// # Errors
    /// `Deadline` when no time is left for one.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        tracing::debug!(%error, "retrying");
        self.client.forget_stale(&error);
        let source = Some(Box::new(error));
        if Instant::now() + self.backoff >= self.deadline {
            return Err(ClientError::Deadline {
                limit: self.client.config.deadline,
                source,
            });
        }
        self.last = source;
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(())
    }
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(config: ClientConfig) -> Client {
        Client {
            pool: Pool::new(&config),
            view: Mutex::new(Arc::new(ClusterView::unknown())),
            coordinators: Mutex::new(BTreeMap::new()),
            config,
        }
    }

    /// The settings it was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The cluster as last seen; asks nobody.
    pub fn view(&self) -> Arc<ClusterView> {
        self.view.lock().clone()
    }

    /// Brokers and all topics, fresh.
    ///
    /// # Errors
    /// As every call; see [`ClientError`].
    pub async fn cluster(&self) -> Result<Arc<ClusterView>, ClientError> {
        self.retry(|| self.cluster_now()).await
    }

    /// [`Client::cluster`] without retrying.
    pub(crate) async fn cluster_now(&self) -> Result<Arc<ClusterView>, ClientError> {
        self.refresh(None, false).await?;
        Ok(self.view())
    }

    /// The topic, from the view or asked for.
    ///
    /// # Errors
    /// `UnknownTopic` as soon as a broker says so.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicView>, ClientError> {
        let known = self.view().topics.get(name).cloned();
        match known {
            Some(topic) => Ok(topic),
            None => self.retry(|| self.fetch_topic(name)).await,
        }
    }

    /// The topic, created by the broker's rules for automatic creation when it is missing.
    ///
    /// # Errors
    /// `UnknownTopic` when the broker does not create topics by itself.
    pub async fn topic_or_create(&self, name: &str) -> Result<Arc<TopicView>, ClientError> {
        self.retry(|| async {
            let refused = self.refresh(Some(name), true).await?;
            match (self.view().topics.get(name), refused) {
                (Some(topic), _) => Ok(topic.clone()),
                // A topic that is being created shows up as this until it has a leader.
                (None, Some(ErrorCode::LeaderNotAvailable)) => Err(ClientError::broker(
                    ApiKey::METADATA,
                    name,
                    ErrorCode::LeaderNotAvailable,
                    None,
                )),
                (None, refused) => Err(topic_error(name, refused)),
            }
        })
        .await
    }

    /// Forgets what is known of a topic, so that the next call asks.
    pub fn forget_topic(&self, name: &str) {
        let mut view = self.view.lock();
        if view.topics.contains_key(name) {
            Arc::make_mut(&mut view).topics.remove(name);
        }
    }

    /// Sends one request by `route` without retrying.
    pub(crate) async fn call<R: Request>(
        &self,
        route: Route<'_>,
        request: &R,
        options: CallOptions,
    ) -> Result<R::Response, ClientError> {
        let connection = self.connection(route).await?;
        Ok(connection.send_with(request, options).await?)
    }

    /// Runs `attempt` until it succeeds, fails for good, or the total time is used up. Between attempts it
    /// forgets what the error says is stale, and pauses.
    pub(crate) async fn retry<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let mut retry = self.begin_retry();
        loop {
            let Ok(result) = tokio::time::timeout_at(retry.deadline, attempt()).await else {
                let source = retry.last;
                return Err(ClientError::Deadline {
                    limit: self.config.deadline,
                    source,
                });
            };
            match result {
                Ok(value) => return Ok(value),
                Err(error) if self.may_retry(&error) => retry.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins the total time of a call that has a loop of its own.
    pub(crate) fn begin_retry(&self) -> Retry<'_> {
        let deadline = Instant::now() + self.config.deadline;
        Retry {
            client: self,
            deadline,
            backoff: BACKOFF_FIRST,
            last: None,
        }
    }

    pub(crate) fn may_retry(&self, error: &ClientError) -> bool {
        error.is_retriable() && (self.pool.has_connected() || !error.is_unreachable())
    }

    /// Drops what an error shows to be out of date. A broken connection may mean that its broker is gone
    /// and that others lead now, so it drops everything that names a broker.
    fn forget_stale(&self, error: &ClientError) {
        let routing = match error.code() {
            None => true,
            Some(code) => matches!(
                code,
                ErrorCode::NotLeaderOrFollower
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::InconsistentTopicId
                    | ErrorCode::ReplicaNotAvailable
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::NotController
                    | ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorNotAvailable
            ),
        };
        if routing {
            self.coordinators.lock().clear();
            let mut view = self.view.lock();
            let view = Arc::make_mut(&mut view);
            view.topics.clear();
            view.controller = NodeId::NONE;
        }
    }

    async fn fetch_topic(&self, name: &str) -> Result<Arc<TopicView>, ClientError> {
        let refused = self.refresh(Some(name), false).await?;
        let topic = self.view().topics.get(name).cloned();
        topic.ok_or_else(|| topic_error(name, refused))
    }

    /// Asks any broker for metadata of one topic or of all, and works it into the view. Returns the code
    /// with which the one topic was refused.
    async fn refresh(
        &self,
        topic: Option<&str>,
        create: bool,
    ) -> Result<Option<ErrorCode>, ClientError> {
        let request = MetadataRequest {
            topics: topic.map(|name| {
                let name = Some(Str::from(name));
                vec![MetadataRequestTopic {
                    name,
                    ..MetadataRequestTopic::default()
                }]
            }),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let response = self.any_connection().await?.send(&request).await?;
        check(ApiKey::METADATA, "the request", response.error_code, None)?;
        let refused = {
            let mut view = self.view.lock();
            let (updated, refused) = view.updated(&response, topic.is_none());
            *view = Arc::new(updated);
            refused
        };
        self.pool.retain_known(&self.view());
        Ok(refused.first().map(|(_, code)| *code))
    }

    /// A connection that serves `route`, dialled if there is none.
    pub(crate) async fn connection(
        &self,
        route: Route<'_>,
    ) -> Result<Arc<Connection>, ClientError> {
        match route {
            Route::Any => self.any_connection().await,
            Route::Node(node) => self.node_connection(node, Purpose::General).await,
            Route::Fetch(node) => self.node_connection(node, Purpose::Fetch).await,
            Route::Controller => {
                if self.view().controller == NodeId::NONE {
                    self.refresh_brokers().await?;
                }
                match self.view().controller {
                    NodeId::NONE => self.any_connection().await,
                    controller => self.node_connection(controller, Purpose::General).await,
                }
            }
            Route::Leader(partition) => {
                let leader = self.leader_of(partition).await?.leader;
                self.node_connection(leader, Purpose::General).await
            }
            Route::Group(group) => {
                let coordinator = self.coordinator(group).await?;
                self.node_connection(coordinator, Purpose::Group).await
            }
        }
    }

    /// Asks for brokers and controller only.
    async fn refresh_brokers(&self) -> Result<(), ClientError> {
        let request = MetadataRequest {
            topics: Some(Vec::new()),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let response = self.any_connection().await?.send(&request).await?;
        let mut view = self.view.lock();
        let (updated, _) = view.updated(&response, false);
        *view = Arc::new(updated);
        Ok(())
    }

    /// The partition's entry in the view, with a leader; does not retry.
    pub(crate) async fn leader_of(
        &self,
        partition: &TopicPartition,
    ) -> Result<PartitionView, ClientError> {
        let known = self.view().topics.get(&partition.topic).cloned();
        let topic = match known {
            Some(topic) => topic,
            None => self.fetch_topic(&partition.topic).await?,
        };
        let view = topic
            .partition(partition.partition)
            .cloned()
            .ok_or_else(|| ClientError::UnknownPartition {
                topic: partition.topic.clone(),
                partition: partition.partition,
            })?;
        if view.leader == NodeId::NONE {
            return Err(ClientError::broker(
                ApiKey::METADATA,
                partition.to_string(),
                ErrorCode::LeaderNotAvailable,
                None,
            ));
        }
        Ok(view)
    }

    async fn coordinator(&self, group: &str) -> Result<NodeId, ClientError> {
        let known = self.coordinators.lock().get(group).copied();
        if let Some(node) = known {
            return Ok(node);
        }
        let request = FindCoordinatorRequest {
            key: Str::from(group),
            ..FindCoordinatorRequest::default()
        };
        let options = CallOptions {
            version_max: Some(FIND_ONE_COORDINATOR),
            ..Default::default()
        };
        let response = self
            .any_connection()
            .await?
            .send_with(&request, options)
            .await?;
        let message = response.error_message.as_deref();
        check(
            ApiKey::FIND_COORDINATOR,
            group,
            response.error_code,
            message,
        )?;
        let node = NodeId(response.node_id);
        let address = address_of(&response.host, response.port);
        {
            let mut view = self.view.lock();
            Arc::make_mut(&mut view).brokers.insert(node, address);
        }
        let mut coordinators = self.coordinators.lock();
        if coordinators.len() >= COORDINATORS_MAX {
            coordinators.clear();
        }
        coordinators.insert(group.to_owned(), node);
        Ok(node)
    }

    async fn node_connection(
        &self,
        node: NodeId,
        purpose: Purpose,
    ) -> Result<Arc<Connection>, ClientError> {
        let known = self.view().brokers.get(&node).cloned();
        match known {
            Some(address) => Ok(self.pool.open(purpose, &address).await?),
            None => Err(ClientError::broker(
                ApiKey::METADATA,
                format!("broker {node}"),
                ErrorCode::LeaderNotAvailable,
                Some("the metadata has no address of it"),
            )),
        }
    }

    async fn any_connection(&self) -> Result<Arc<Connection>, ClientError> {
        self.pool.any(&self.view()).await
    }
}

fn topic_error(name: &str, refused: Option<ErrorCode>) -> ClientError {
    match refused {
        None | Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
            ClientError::UnknownTopic {
                topic: Arc::from(name),
            }
        }
        Some(code) => ClientError::broker(ApiKey::METADATA, name, code, None),
    }
}

/// Turns an error code into a result.
pub(crate) fn check(
    api: ApiKey,
    subject: impl Into<Arc<str>>,
    code: i16,
    message: Option<&str>,
) -> Result<(), ClientError> {
    match error_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::broker(api, subject, code, message)),
    }
}

/// The error of a code; one that is newer than this client counts as an unknown server error.
pub(crate) fn error_code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
