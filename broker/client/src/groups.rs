//! Administration of consumer groups: list, describe, committed offsets, reset, delete.

use std::collections::BTreeMap;

use tidemill_protocol::delete_groups::DeleteGroupsRequest;
use tidemill_protocol::describe_groups::{DescribeGroupsRequest, DescribedGroup};
use tidemill_protocol::list_groups::ListGroupsRequest;
use tidemill_protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidemill_protocol::offset_fetch::OffsetFetchRequest;
use tidemill_protocol::{ApiKey, ErrorCode, Str};
use tidemill_records::{Offset, PartitionId, TopicPartition};

use crate::assignment::assigned;
use crate::client::{Client, Route, check, error_code};
use crate::connection::CallOptions;
use crate::error::ClientError;
use crate::topics::incomplete;

/// The last version of OffsetFetch that asks for one group.
const OFFSET_FETCH_ONE_GROUP: i16 = 7;
/// The last version of OffsetCommit that names topics by name.
const OFFSET_COMMIT_BY_NAME: i16 = 9;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// `Stable`, `Empty`…; empty from an old broker.
    pub state: String,
    /// `classic` or `consumer`; empty from an old broker.
    pub kind: String,
}

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub group: String,
    /// `Stable`, `Empty`, `PreparingRebalance`, `CompletingRebalance` or `Dead`.
    pub state: String,
    /// `consumer` for consumer groups.
    pub protocol_type: String,
    /// The assignor that the members agreed on.
    pub protocol: String,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// Its own lasting id, for a static member.
    pub instance_id: Option<String>,
    /// Its client id.
    pub client_id: String,
    /// Where it comes from.
    pub client_host: String,
    /// What it has been assigned; empty when the assignment is not a consumer's.
    pub assignment: Vec<TopicPartition>,
}

/// An offset that a group committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: Offset,
    /// The text committed with it.
    pub metadata: Option<String>,
}

/// Who commits: a member in a generation, or nobody in particular (an administrator, on an empty group).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committer {
    pub(crate) generation: i32,
    pub(crate) member_id: Str,
}

impl Committer {
    pub(crate) fn outside() -> Committer {
        Committer {
            generation: -1,
            member_id: Str::from(""),
        }
    }
}

impl Client {
    /// All groups of all brokers, by name.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        self.retry(|| async {
            let cluster = self.cluster_now().await?;
            let mut groups = BTreeMap::new();
            for node in cluster.brokers.keys() {
                let request = ListGroupsRequest::default();
                let response = self
                    .call(Route::Node(*node), &request, CallOptions::default())
                    .await?;
                check(
                    ApiKey::LIST_GROUPS,
                    "the request",
                    response.error_code,
                    None,
                )?;
                for group in &response.groups {
                    let listing = GroupListing {
                        group: group.group_id.to_string(),
                        protocol_type: group.protocol_type.to_string(),
                        state: group.group_state.to_string(),
                        kind: group.group_type.to_string(),
                    };
                    groups.insert(listing.group.clone(), listing);
                }
            }
            Ok(groups.into_values().collect())
        })
        .await
    }

    /// A group with its members; `None` when the coordinator does not know it.
    ///
    /// # Errors
    /// As every call.
    pub async fn describe_group(
        &self,
        group: &str,
    ) -> Result<Option<GroupDescription>, ClientError> {
        let request = DescribeGroupsRequest {
            groups: vec![Str::from(group)],
            ..DescribeGroupsRequest::default()
        };
        self.retry(|| async {
            let route = Route::Group(group);
            let response = self.call(route, &request, CallOptions::default()).await?;
            let [described] = response.groups.as_slice() else {
                return Err(incomplete(ApiKey::DESCRIBE_GROUPS, "the group"));
            };
            if error_code(described.error_code) == ErrorCode::GroupIdNotFound {
                return Ok(None);
            }
            let message = described.error_message.as_deref();
            check(
                ApiKey::DESCRIBE_GROUPS,
                group,
                described.error_code,
                message,
            )?;
            // Before version 6 a group that does not exist is described as dead.
            Ok((&*described.group_state != "Dead").then(|| description(described)))
        })
        .await
    }

    /// All offsets that a group has committed.
    ///
    /// # Errors
    /// As every call. A group that does not exist has no offsets, which is no error.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        let request = OffsetFetchRequest {
            group_id: Str::from(group),
            topics: None,
            ..OffsetFetchRequest::default()
        };
        let options = CallOptions {
            version_max: Some(OFFSET_FETCH_ONE_GROUP),
            ..CallOptions::default()
        };
        self.retry(|| async {
            let response = self.call(Route::Group(group), &request, options).await?;
            check(ApiKey::OFFSET_FETCH, group, response.error_code, None)?;
            let mut offsets = BTreeMap::new();
            for topic in &response.topics {
                for partition in &topic.partitions {
                    let id = PartitionId(partition.partition_index);
                    let id = TopicPartition::new(&*topic.name, id);
                    check(
                        ApiKey::OFFSET_FETCH,
                        id.to_string(),
                        partition.error_code,
                        None,
                    )?;
                    if partition.committed_offset >= 0 {
                        let metadata = partition.metadata.as_deref().map(str::to_owned);
                        let offset = Offset(partition.committed_offset);
                        offsets.insert(id, CommittedOffset { offset, metadata });
                    }
                }
            }
            Ok(offsets)
        })
        .await
    }

    /// Sets a group's offsets from outside; the group must have no members.
    ///
    /// # Errors
    /// `Broker` with `UnknownMemberId` while the group has members.
    pub async fn set_committed_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ClientError> {
        let outside = Committer::outside();
        self.retry(|| self.commit_once(group, &outside, offsets))
            .await
    }

    /// Deletes a group and its offsets; the group must have no members.
    ///
    /// # Errors
    /// `Broker` with `NonEmptyGroup` or `GroupIdNotFound`.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request = DeleteGroupsRequest {
            groups_names: vec![Str::from(group)],
            ..DeleteGroupsRequest::default()
        };
        self.retry(|| async {
            let route = Route::Group(group);
            let response = self.call(route, &request, CallOptions::default()).await?;
            let [result] = response.results.as_slice() else {
                return Err(incomplete(ApiKey::DELETE_GROUPS, "the group"));
            };
            let message = result.error_message.as_deref();
            check(ApiKey::DELETE_GROUPS, group, result.error_code, message)
        })
        .await
    }

    /// One OffsetCommit without retrying.
    pub(crate) async fn commit_once(
        &self,
        group: &str,
        committer: &Committer,
        offsets: &BTreeMap<TopicPartition, Offset>,
    ) -> Result<(), ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (id, offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: id.partition.0,
                committed_offset: offset.0,
                committed_metadata: Some(Str::from("")),
                ..OffsetCommitRequestPartition::default()
            };
            match topics.last_mut().filter(|last| *last.name == *id.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: Str::from(&*id.topic),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        let request = OffsetCommitRequest {
            group_id: Str::from(group),
            generation_id_or_member_epoch: committer.generation,
            member_id: committer.member_id.clone(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let options = CallOptions {
            version_max: Some(OFFSET_COMMIT_BY_NAME),
            ..CallOptions::default()
        };
        let response = self.call(Route::Group(group), &request, options).await?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let subject = format!("{group} {}-{}", topic.name, partition.partition_index);
                check(ApiKey::OFFSET_COMMIT, subject, partition.error_code, None)?;
            }
        }
        Ok(())
    }
}

fn description(described: &DescribedGroup) -> GroupDescription {
    let members = described.members.iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_deref().map(str::to_owned),
        client_id: member.client_id.to_string(),
        client_host: member.client_host.to_string(),
        assignment: assigned(&member.member_assignment),
    });
    GroupDescription {
        group: described.group_id.to_string(),
        state: described.group_state.to_string(),
        protocol_type: described.protocol_type.to_string(),
        protocol: described.protocol_data.to_string(),
        members: members.collect(),
    }
}
