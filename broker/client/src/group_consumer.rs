//! A member of a consumer group: join, sync, heartbeat, read, commit, leave (the classic protocol, eager,
//! range assignment).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_protocol::consumer_protocol_subscription::ConsumerProtocolSubscription;
use tidemill_protocol::heartbeat::HeartbeatRequest;
use tidemill_protocol::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use tidemill_protocol::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidemill_protocol::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidemill_protocol::{ApiKey, ErrorCode, Str};
use tidemill_records::{Offset, PartitionId, TopicPartition};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::assignment::{
    assigned, encode_assignment, encode_subscription, range_assignment, subscribed,
};
use crate::client::{Client, Route, check, error_code};
use crate::connection::CallOptions;
use crate::error::ClientError;
use crate::fetch::{Consumer, FetchLimits, FetchedPartition, OutOfRange};
use crate::groups::Committer;
use crate::offsets::OffsetSpec;

/// The protocol type of consumer groups.
const CONSUMER: &str = "consumer";
/// The only assignor that we offer.
const RANGE: &str = "range";

/// Settings of a [`GroupConsumer`].
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// The group's id.
    pub group: String,
    /// The topics to share.
    pub topics: Vec<String>,
    /// The coordinator drops a member that is silent for this long.
    pub session_timeout: Duration,
    /// The coordinator waits this long for members to join again.
    pub rebalance_timeout: Duration,
    /// Pause between heartbeats; a third of the session timeout at most.
    pub heartbeat_interval: Duration,
    /// Where to begin in a partition without a committed offset.
    pub begin: OutOfRange,
    /// How much to read at a time.
    pub limits: FetchLimits,
}

impl GroupConfig {
    /// Kafka's defaults, beginning at the start.
    pub fn new(group: impl Into<String>, topics: Vec<String>) -> GroupConfig {
        GroupConfig {
            group: group.into(),
            topics,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            begin: OutOfRange::ToStart,
            limits: FetchLimits::default(),
        }
    }
}

/// A member of a group. [`GroupConsumer::poll`] joins and re-joins by itself; what it returned counts as
/// read only once the caller commits it.
#[derive(Debug)]
pub struct GroupConsumer {
    client: Arc<Client>,
    config: GroupConfig,
    member_id: Str,
    membership: Option<Membership>,
}

/// What holds for one generation.
#[derive(Debug)]
struct Membership {
    committer: Committer,
    consumer: Consumer,
    /// Set by the heartbeat task to what ended the generation.
    ended: watch::Receiver<Option<ClientError>>,
    heartbeats: AbortHandle,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.heartbeats.abort();
    }
}

impl GroupConsumer {
    /// A member that joins at its first poll.
    pub fn new(client: Arc<Client>, config: GroupConfig) -> GroupConsumer {
        GroupConsumer {
            client,
            config,
            member_id: Str::from(""),
            membership: None,
        }
    }

    /// The partitions that are assigned now, with the offsets that come next.
    pub fn positions(&self) -> BTreeMap<TopicPartition, Offset> {
        self.membership
            .as_ref()
            .map(|held| held.consumer.positions().clone())
            .unwrap_or_default()
    }

    /// The number of the rebalance that the assignment comes from; `None` while not joined.
    pub fn generation(&self) -> Option<i32> {
        self.membership
            .as_ref()
            .map(|held| held.committer.generation)
    }

    /// What is new in the assigned partitions. Empty while nothing is, and after a rebalance.
    ///
    /// # Errors
    /// As every call; `Broker` with `GroupAuthorizationFailed`, `InvalidGroupId`…
    pub async fn poll(&mut self) -> Result<Vec<FetchedPartition>, ClientError> {
        let ended = self
            .membership
            .as_ref()
            .and_then(|held| held.ended.borrow().clone());
        match ended {
            Some(error) if must_rejoin(&error) => self.give_up_membership(&error),
            Some(error) => return Err(error),
            None => {}
        }
        let Some(membership) = &mut self.membership else {
            self.join().await?;
            return Ok(Vec::new());
        };
        if membership.consumer.positions().is_empty() {
            // No partition for this member: wait for the next rebalance, or for a poll's usual time.
            let changed = membership.ended.changed();
            let _ = tokio::time::timeout(self.config.limits.wait_max, changed).await;
            return Ok(Vec::new());
        }
        let mut ended = membership.ended.clone();
        tokio::select! {
            biased;
            fetched = membership.consumer.poll() => fetched,
            _ = ended.changed() => Ok(Vec::new()),
        }
    }

    /// Commits offsets (each the next record to read). Returns false when a rebalance has taken the
    /// assignment away: whoever has it now reads from the last commit.
    ///
    /// # Errors
    /// As every call.
    pub async fn commit(
        &mut self,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<bool, ClientError> {
        let Some(membership) = &self.membership else {
            return Ok(false);
        };
        if offsets.is_empty() {
            return Ok(true);
        }
        let (group, committer) = (self.config.group.as_str(), &membership.committer);
        match self
            .client
            .retry(|| self.client.commit_once(group, committer, offsets))
            .await
        {
            Ok(()) => Ok(true),
            // During a rebalance the old generation may still commit; only a real end refuses it.
            Err(error) if must_rejoin(&error) => {
                self.give_up_membership(&error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Leaves the group, so that the others need not wait for the session timeout.
    ///
    /// # Errors
    /// As every call.
    pub async fn leave(mut self) -> Result<(), ClientError> {
        const MEMBER_LIST_SINCE: i16 = 3;
        self.membership = None;
        if self.member_id.is_empty() {
            return Ok(());
        }
        let connection = self
            .client
            .connection(Route::Group(&self.config.group))
            .await?;
        let mut request = LeaveGroupRequest {
            group_id: Str::from(self.config.group.as_str()),
            ..LeaveGroupRequest::default()
        };
        if connection.version_of::<LeaveGroupRequest>(None)? < MEMBER_LIST_SINCE {
            request.member_id = self.member_id.clone();
        } else {
            request.members = vec![MemberIdentity {
                member_id: self.member_id.clone(),
                ..MemberIdentity::default()
            }];
        }
        let response = connection.send(&request).await?;
        check(
            ApiKey::LEAVE_GROUP,
            self.config.group.as_str(),
            response.error_code,
            None,
        )
    }

    fn give_up_membership(&mut self, error: &ClientError) {
        self.membership = None;
        if error.code() == Some(ErrorCode::UnknownMemberId) {
            self.member_id = Str::from("");
        }
    }

    /// Joins, takes part in the assignment, and begins to send heartbeats.
    async fn join(&mut self) -> Result<(), ClientError> {
        let client = self.client.clone();
        let mut retry = client.begin_retry();
        let (generation, assignment) = loop {
            match self.try_join().await {
                Ok(joined) => break joined,
                Err(error) if must_rejoin(&error) => {
                    self.give_up_membership(&error);
                    retry.pause(error).await?;
                }
                Err(error) if client.may_retry(&error) => retry.pause(error).await?,
                Err(error) => return Err(error),
            }
        };
        let committer = Committer {
            generation,
            member_id: self.member_id.clone(),
        };
        let positions = self.begin_positions(&assignment).await?;
        let (end, ended) = watch::channel(None);
        let heartbeats = tokio::spawn(send_heartbeats(
            self.client.clone(),
            self.config.group.clone(),
            committer.clone(),
            self.config.heartbeat_interval,
            end,
        ));
        self.membership = Some(Membership {
            committer,
            consumer: Consumer::new(
                self.client.clone(),
                positions,
                self.config.limits,
                self.config.begin,
            ),
            ended,
            heartbeats: heartbeats.abort_handle(),
        });
        Ok(())
    }

    async fn try_join(&mut self) -> Result<(i32, Vec<TopicPartition>), ClientError> {
        let response = self.join_group().await?;
        self.member_id = response.member_id.clone();
        let mut assignments = Vec::new();
        if response.leader == response.member_id {
            assignments = self.assign(&response).await?;
        }
        let request = SyncGroupRequest {
            group_id: Str::from(self.config.group.as_str()),
            generation_id: response.generation_id,
            member_id: self.member_id.clone(),
            protocol_type: Some(Str::from(CONSUMER)),
            protocol_name: Some(Str::from(RANGE)),
            assignments,
            ..SyncGroupRequest::default()
        };
        let options = self.held_for_rebalance();
        let group = self.config.group.as_str();
        let response_sync = self
            .client
            .call(Route::Group(group), &request, options)
            .await?;
        check(ApiKey::SYNC_GROUP, group, response_sync.error_code, None)?;
        Ok((response.generation_id, assigned(&response_sync.assignment)))
    }

    /// One JoinGroup, asked again with the member id that the coordinator gives a newcomer.
    async fn join_group(&mut self) -> Result<JoinGroupResponse, ClientError> {
        let topics = self
            .config
            .topics
            .iter()
            .map(|topic| Str::from(topic.as_str()))
            .collect();
        let subscription = ConsumerProtocolSubscription {
            topics,
            user_data: None,
            ..ConsumerProtocolSubscription::default()
        };
        let group = self.config.group.clone();
        let options = self.held_for_rebalance();
        let mut request = JoinGroupRequest {
            group_id: Str::from(group.as_str()),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            protocol_type: Str::from(CONSUMER),
            protocols: vec![JoinGroupRequestProtocol {
                name: Str::from(RANGE),
                metadata: encode_subscription(&subscription),
                ..JoinGroupRequestProtocol::default()
            }],
            ..JoinGroupRequest::default()
        };
        let route = Route::Group(&group);
        let mut response = self.client.call(route, &request, options).await?;
        if error_code(response.error_code) == ErrorCode::MemberIdRequired {
            self.member_id = response.member_id.clone();
            request.member_id = response.member_id;
            response = self.client.call(route, &request, options).await?;
        }
        check(
            ApiKey::JOIN_GROUP,
            group.as_str(),
            response.error_code,
            None,
        )?;
        Ok(response)
    }

    /// The leader's work: who reads what.
    async fn assign(
        &self,
        response: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let members: BTreeMap<Str, Vec<String>> = response
            .members
            .iter()
            .map(|member| (member.member_id.clone(), subscribed(&member.metadata)))
            .collect();
        let mut partitions: BTreeMap<String, Vec<PartitionId>> = BTreeMap::new();
        for topic in members.values().flatten() {
            if !partitions.contains_key(topic) {
                self.client.forget_topic(topic);
                let found = match self.client.topic(topic).await {
                    Ok(view) => view.partitions.iter().map(|view| view.partition).collect(),
                    // Another member may wait for a topic that does not exist yet.
                    Err(ClientError::UnknownTopic { .. }) => Vec::new(),
                    Err(error) => return Err(error),
                };
                partitions.insert(topic.clone(), found);
            }
        }
        let assignments = range_assignment(&members, &partitions).into_iter();
        Ok(assignments
            .map(|(member_id, partitions)| SyncGroupRequestAssignment {
                member_id,
                assignment: encode_assignment(&partitions),
                ..SyncGroupRequestAssignment::default()
            })
            .collect())
    }

    /// Committed offsets of the assigned partitions, else where the group begins.
    async fn begin_positions(
        &self,
        assignment: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
        let committed = self.client.committed_offsets(&self.config.group).await?;
        let mut positions = BTreeMap::new();
        let mut missing: BTreeMap<&str, Vec<PartitionId>> = BTreeMap::new();
        for id in assignment {
            match committed.get(id) {
                Some(committed) => {
                    positions.insert(id.clone(), committed.offset);
                }
                None => missing.entry(&id.topic).or_default().push(id.partition),
            }
        }
        let spec = match self.config.begin {
            OutOfRange::ToEnd => OffsetSpec::End,
            OutOfRange::ToStart | OutOfRange::Fail => OffsetSpec::Start,
        };
        for (topic, partitions) in missing {
            for (partition, listed) in self.client.list_offsets(topic, &partitions, spec).await? {
                positions.insert(TopicPartition::new(topic, partition), listed.offset);
            }
        }
        Ok(positions)
    }

    fn held_for_rebalance(&self) -> CallOptions {
        CallOptions {
            held_by_broker: self.config.rebalance_timeout,
            ..CallOptions::default()
        }
    }
}

/// Whether the answer to an error is to join again.
fn must_rejoin(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Some(
            ErrorCode::RebalanceInProgress
                | ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::MemberIdRequired
        )
    )
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// Keeps the member alive until its generation ends, and says why it did.
async fn send_heartbeats(
    client: Arc<Client>,
    group: String,
    committer: Committer,
    interval: Duration,
    end: watch::Sender<Option<ClientError>>,
) {
    let request = HeartbeatRequest {
        group_id: Str::from(group.as_str()),
        generation_id: committer.generation,
        member_id: committer.member_id,
        ..HeartbeatRequest::default()
    };
    loop {
        tokio::time::sleep(interval).await;
        let beat = client.retry(|| async {
            let route = Route::Group(&group);
            let response = client.call(route, &request, CallOptions::default()).await?;
            check(ApiKey::HEARTBEAT, group.as_str(), response.error_code, None)
        });
        if let Err(error) = beat.await {
            end.send_replace(Some(error));
            return;
        }
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
