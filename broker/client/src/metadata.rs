//! What a client knows of the cluster: brokers, topics, leaders. An immutable view, replaced as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_protocol::ErrorCode;
use tidemill_protocol::metadata::{MetadataResponse, MetadataResponseTopic};
use tidemill_records::{LeaderEpoch, NodeId, PartitionId, TopicId};

use crate::client::error_code;

/// One partition as the metadata shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionView {
    /// Its index.
    pub partition: PartitionId,
    /// The leader, [`NodeId::NONE`] while there is none.
    pub leader: NodeId,
    /// The leader's epoch, [`LeaderEpoch::NONE`] when the broker does not say.
    pub leader_epoch: LeaderEpoch,
    /// All replicas.
    pub replicas: Vec<NodeId>,
    /// The replicas in sync.
    pub isr: Vec<NodeId>,
    /// The replicas that are not available.
    pub offline: Vec<NodeId>,
}

/// One topic as the metadata shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicView {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; [`TopicId::ZERO`] from a broker older than topic ids.
    pub id: TopicId,
    /// Whether it is one of the broker's own, such as `__consumer_offsets`.
    pub internal: bool,
    /// Its partitions by index.
    pub partitions: Vec<PartitionView>,
}

impl TopicView {
    /// The partition of that index.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionView> {
        let at = self
            .partitions
            .binary_search_by_key(&partition, |view| view.partition)
            .ok()?;
        self.partitions.get(at)
    }

    fn from_response(topic: &MetadataResponseTopic, name: &str) -> TopicView {
        let mut partitions: Vec<PartitionView> = topic
            .partitions
            .iter()
            .map(|partition| PartitionView {
                partition: PartitionId(partition.partition_index),
                leader: NodeId(partition.leader_id),
                leader_epoch: LeaderEpoch(partition.leader_epoch),
                replicas: nodes(&partition.replica_nodes),
                isr: nodes(&partition.isr_nodes),
                offline: nodes(&partition.offline_replicas),
            })
            .collect();
        partitions.sort_unstable_by_key(|view| view.partition);
        TopicView {
            name: Arc::from(name),
            id: TopicId(topic.topic_id),
            internal: topic.is_internal,
            partitions,
        }
    }
}

/// The cluster as the last metadata answers show it.
#[derive(Debug, Clone)]
pub struct ClusterView {
    /// The cluster's id, where the broker gives one.
    pub cluster_id: Option<Arc<str>>,
    /// The controller, [`NodeId::NONE`] when unknown.
    pub controller: NodeId,
    /// Advertised `host:port` of each broker.
    pub brokers: BTreeMap<NodeId, Arc<str>>,
    /// Topics by name. Only those that were asked for, until all were.
    pub topics: BTreeMap<Arc<str>, Arc<TopicView>>,
}

impl ClusterView {
    /// The view before the first answer.
    pub(crate) fn unknown() -> ClusterView {
        ClusterView {
            cluster_id: None,
            controller: NodeId::NONE,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
        }
    }

    /// This view with an answer worked in. Topics that the answer refuses vanish from the view; their
    /// codes come back beside it.
    pub(crate) fn updated(
        &self,
        response: &MetadataResponse,
        all_topics: bool,
    ) -> (ClusterView, Vec<(Arc<str>, ErrorCode)>) {
        let mut refused = Vec::new();
        let mut topics = if all_topics {
            BTreeMap::new()
        } else {
            self.topics.clone()
        };
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else {
                continue;
            };
            let code = error_code(topic.error_code);
            if code == ErrorCode::None {
                let view = Arc::new(TopicView::from_response(topic, name));
                topics.insert(view.name.clone(), view);
            } else {
                topics.remove(name);
                refused.push((Arc::from(name), code));
            }
        }
        let brokers = response
            .brokers
            .iter()
            .map(|broker| {
                (
                    NodeId(broker.node_id),
                    address_of(&broker.host, broker.port),
                )
            })
            .collect();
        let view = ClusterView {
            cluster_id: response.cluster_id.as_deref().map(Arc::from),
            controller: NodeId(response.controller_id),
            brokers,
            topics,
        };
        (view, refused)
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn address_of(host: &str, port: i32) -> Arc<str> {
    match host.contains(':') {
        true => Arc::from(format!("[{host}]:{port}")),
        false => Arc::from(format!("{host}:{port}")),
    }
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}
