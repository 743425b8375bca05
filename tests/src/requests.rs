//! The requests that most tests send, at versions that name topics by name.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_protocol::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use tidemill_protocol::delete_topics::DeleteTopicsRequest;
use tidemill_protocol::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use tidemill_protocol::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use tidemill_protocol::init_producer_id::InitProducerIdRequest;
use tidemill_protocol::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use tidemill_protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use tidemill_protocol::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use tidemill_protocol::{Records, Str};
use tidemill_records::RecordBatch;

use crate::records::contents;
use crate::wire::Wire;

/// The last versions that name topics by name.
pub const PRODUCE: i16 = 12;
/// See [`PRODUCE`].
pub const FETCH: i16 = 12;
/// Kafka's resource type of topics.
const TOPIC_RESOURCE: i8 = 2;

/// The bytes of a batch.
pub fn bytes_of(batch: &RecordBatch) -> Bytes {
    batch.to_bytes()
}

/// One batch for one partition, `acks=all`.
pub fn produce(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(records)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A fetch of one partition without a session: at once, up to 1 MiB.
pub fn fetch(topic: &str, partition: i32, from: i64) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 16 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                partition,
                current_leader_epoch: -1,
                fetch_offset: from,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A topic to create.
pub fn create(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..Default::default()
    };
    CreateTopicsRequest {
        timeout_ms: 10_000,
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Metadata of these topics.
pub fn metadata(topics: &[&str], create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic {
        name: Some(Str::from(*name)),
        ..Default::default()
    };
    MetadataRequest {
        topics: Some(topics.iter().map(topic).collect()),
        allow_auto_topic_creation: create,
        ..Default::default()
    }
}

impl Wire {
    /// Appends a batch; the answer of its partition.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: &RecordBatch,
    ) -> PartitionProduceResponse {
        let answer = self
            .call(PRODUCE, &produce(topic, partition, bytes_of(batch)))
            .await;
        let [topic] = &answer.responses[..] else {
            panic!("one topic: {answer:?}")
        };
        topic.partition_responses[0].clone()
    }

    /// Appends a batch that must be taken; its base offset.
    pub async fn must_produce(&mut self, topic: &str, partition: i32, batch: &RecordBatch) -> i64 {
        let answer = self.produce(topic, partition, batch).await;
        assert_eq!(answer.error_code, 0, "{answer:?}");
        answer.base_offset
    }

    /// Reads from an offset on; the answer of the partition.
    pub async fn fetch(&mut self, topic: &str, partition: i32, from: i64) -> PartitionData {
        let answer = self.call(FETCH, &fetch(topic, partition, from)).await;
        assert_eq!(answer.error_code, 0, "{answer:?}");
        answer.responses[0].partitions[0].clone()
    }

    /// (offset, value) of everything from an offset up to the high watermark.
    pub async fn read_from(
        &mut self,
        topic: &str,
        partition: i32,
        from: i64,
    ) -> Vec<(i64, String)> {
        let mut all = Vec::new();
        let mut next = from;
        loop {
            let answer = self.fetch(topic, partition, next).await;
            assert_eq!(answer.error_code, 0, "{answer:?}");
            let found = contents(&answer.records);
            let Some((last, _)) = found.last() else {
                return all;
            };
            let last = *last;
            // A batch may begin before the offset that was asked for.
            all.extend(found.into_iter().filter(|(offset, _)| *offset >= next));
            next = last + 1;
        }
    }

    /// All values of a partition.
    pub async fn values(&mut self, topic: &str, partition: i32) -> Vec<String> {
        let start = self.list_offset(topic, partition, -2).await.offset;
        let found = self.read_from(topic, partition, start).await;
        found.into_iter().map(|(_, value)| value).collect()
    }

    /// Looks up a timestamp or special offset.
    pub async fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.into(),
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    current_leader_epoch: -1,
                    timestamp,
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        self.call(11, &request).await.topics[0].partitions[0].clone()
    }

    /// Creates a topic and says how that went.
    pub async fn create(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> CreateTopicsResponse {
        self.call(7, &create(name, partitions, configs)).await
    }

    /// Creates a topic that must come into being.
    pub async fn must_create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let answer = self.create(name, partitions, configs).await;
        assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    }

    /// Deletes a topic; the error code.
    pub async fn delete(&mut self, name: &str) -> i16 {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.into()],
            timeout_ms: 10_000,
            ..Default::default()
        };
        self.call(5, &request).await.responses[0].error_code
    }

    /// Sets one setting of a topic; the error code and its message.
    pub async fn set_config(&mut self, topic: &str, name: &str, value: &str) -> (i16, Option<Str>) {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: TOPIC_RESOURCE,
                resource_name: topic.into(),
                configs: vec![AlterableConfig {
                    name: name.into(),
                    config_operation: 0,
                    value: Some(value.into()),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = self.call(1, &request).await.responses.remove(0);
        (answer.error_code, answer.error_message)
    }

    /// Metadata of these topics, by name.
    pub async fn metadata(&mut self, topics: &[&str], create: bool) -> MetadataResponse {
        self.call(12, &metadata(topics, create)).await
    }

    /// A fresh producer id.
    pub async fn producer_id(&mut self) -> i64 {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 1000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = self.call(5, &request).await;
        assert_eq!(
            (answer.error_code, answer.producer_epoch),
            (0, 0),
            "{answer:?}"
        );
        answer.producer_id
    }

    /// Lowest and highest version of each key, as ApiVersions announces them.
    pub async fn served(&mut self) -> BTreeMap<i16, (i16, i16)> {
        let request = tidemill_protocol::api_versions::ApiVersionsRequest {
            client_software_name: "wire".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        let answer = self.call(4, &request).await;
        assert_eq!(answer.error_code, 0);
        let range = |key: &tidemill_protocol::api_versions::ApiVersion| {
            (key.api_key, (key.min_version, key.max_version))
        };
        answer.api_keys.iter().map(range).collect()
    }
}
