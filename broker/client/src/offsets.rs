//! Offsets of partitions: start, end, by timestamp.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tidemill_protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use tidemill_protocol::{ApiKey, Str};
use tidemill_records::{NodeId, Offset, PartitionId, TopicPartition};

use crate::client::{Client, Route, check};
use crate::connection::CallOptions;
use crate::error::ClientError;

/// Which offset to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Start,
    /// The high watermark.
    End,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record whose timestamp (ms since 1970) is at least this.
    Timestamp(i64),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            OffsetSpec::End => -1,
            OffsetSpec::Start => -2,
            OffsetSpec::MaxTimestamp => -3,
            OffsetSpec::Timestamp(ms) => ms,
        }
    }
}

/// What a partition answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset, [`Offset::NONE`] when no record fits.
    pub offset: Offset,
    /// The record's timestamp in ms, -1 where the question was not about one.
    pub timestamp: i64,
}

impl Client {
    /// Looks one offset up in each of `partitions` of a topic, asking their leaders at once.
    ///
    /// # Errors
    /// As every call; one partition's error fails all.
    pub async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[PartitionId],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<PartitionId, ListedOffset>, ClientError> {
        self.retry(|| async {
            let mut by_leader: BTreeMap<NodeId, Vec<ListOffsetsPartition>> = BTreeMap::new();
            for partition in partitions {
                let view = self
                    .leader_of(&TopicPartition::new(topic, *partition))
                    .await?;
                by_leader
                    .entry(view.leader)
                    .or_default()
                    .push(ListOffsetsPartition {
                        partition_index: partition.0,
                        current_leader_epoch: view.leader_epoch.0,
                        timestamp: spec.timestamp(),
                        ..ListOffsetsPartition::default()
                    });
            }
            let asked = by_leader
                .into_iter()
                .map(|(leader, partitions)| async move {
                    let request = request_for(topic, partitions);
                    self.call(Route::Node(leader), &request, CallOptions::default())
                        .await
                });
            let mut offsets = BTreeMap::new();
            for response in try_join_all(asked).await? {
                read_response(topic, &response, &mut offsets)?;
            }
            Ok(offsets)
        })
        .await
    }
}

fn request_for(topic: &str, partitions: Vec<ListOffsetsPartition>) -> ListOffsetsRequest {
    const NOT_A_REPLICA: i32 = -1;
    let name = Str::from(topic);
    ListOffsetsRequest {
        replica_id: NOT_A_REPLICA,
        topics: vec![ListOffsetsTopic {
            name,
            partitions,
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    }
}

fn read_response(
    topic: &str,
    response: &ListOffsetsResponse,
    offsets: &mut BTreeMap<PartitionId, ListedOffset>,
) -> Result<(), ClientError> {
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        let id = PartitionId(partition.partition_index);
        let subject = || format!("{topic}-{id}");
        check(ApiKey::LIST_OFFSETS, subject(), partition.error_code, None)?;
        let offset = ListedOffset {
            offset: Offset(partition.offset),
            timestamp: partition.timestamp,
        };
        offsets.insert(id, offset);
    }
    Ok(())
}
