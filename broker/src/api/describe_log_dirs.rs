//! DescribeLogDirs (key 35): how much disk each partition takes; UIs show topic sizes with it.
//!
//! Versions 1–5; disk space from 4 (KIP-827).

use std::collections::{BTreeMap, HashMap, HashSet};

use tidemill_protocol::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;

/// Describes the one data directory.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeLogDirsRequest,
    _version: i16,
) -> DescribeLogDirsResponse {
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Cluster)
    {
        return DescribeLogDirsResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..Default::default()
        };
    }
    let wanted = request.topics.map(|topics| {
        let mut wanted: HashMap<Str, HashSet<i32>> = HashMap::with_capacity(topics.len());
        for topic in topics {
            wanted
                .entry(topic.topic)
                .or_default()
                .extend(topic.partitions);
        }
        wanted
    });
    let is_wanted = |topic: &str, partition: i32| match &wanted {
        None => true,
        Some(wanted) => wanted
            .get(topic)
            .is_some_and(|partitions| partitions.contains(&partition)),
    };
    let mut topics: BTreeMap<Str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in broker.partitions.all() {
        let (topic, index) = (&partition.name.topic, partition.name.partition.0);
        if !is_wanted(topic, index) {
            continue;
        }
        topics
            .entry(Str::from(&**topic))
            .or_default()
            .push(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: partition.log.size_bytes() as i64,
                ..Default::default()
            });
    }
    let wire = |(name, mut partitions): (Str, Vec<DescribeLogDirsPartition>)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic {
            name,
            partitions,
            ..Default::default()
        }
    };
    let (total_bytes, usable_bytes) = broker.disk_space();
    let result = DescribeLogDirsResult {
        log_dir: broker.config.data_dir.display().to_string().into(),
        topics: topics.into_iter().map(wire).collect(),
        total_bytes,
        usable_bytes,
        ..Default::default()
    };
    DescribeLogDirsResponse {
        results: vec![result],
        ..Default::default()
    }
}
