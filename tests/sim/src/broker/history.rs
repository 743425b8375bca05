//! What clients have tried, and what they were told: the judge holds the broker to it.

use std::collections::BTreeMap;

use tidemill_records::TopicPartition;

use crate::chain::Report;
use crate::register::Register;

/// Everything, from the first life on.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) lanes: Vec<Lane>,
    pub(super) logs: BTreeMap<TopicPartition, Log>,
    pub(super) commits: BTreeMap<(String, TopicPartition), Register>,
    pub(super) topics: BTreeMap<String, Topic>,
    /// A topic's config that is only ever raised.
    pub(super) config: Register,
    /// The number of partitions of the topic that grows.
    pub(super) partition_count: Register,
    pub(super) records_judged: u64,
    pub(super) judgements: u64,
}

/// The records of one producer in one partition: the values 0, 1, 2… in this order.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: TopicPartition,
    /// Whether each value may be there only once.
    pub(super) is_idempotent: bool,
    /// Values below this were sent.
    pub(super) attempted: u64,
    /// By base offset: the first value of a batch that was acknowledged, and their number.
    pub(super) acked: BTreeMap<i64, (u64, u64)>,
}

/// What was seen of a partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Records below this were deleted, and that was acknowledged.
    pub(super) deleted_below: i64,
    /// The highest end that a reader was shown.
    pub(super) end_seen: i64,
}

/// A topic that comes and goes.
#[derive(Debug, Default)]
pub(super) struct Topic {
    pub(super) state: Presence,
    /// Which incarnation was created last.
    pub(super) incarnation: u64,
    /// Records of this incarnation that were acknowledged.
    pub(super) acked: u64,
    pub(super) created: u64,
    pub(super) deleted: u64,
}

/// What is known about a topic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Absent,
    Present,
    /// A creation or deletion was not answered yet.
    Unknown,
}

impl History {
    pub(super) fn log(&mut self, partition: &TopicPartition) -> &mut Log {
        self.logs.entry(partition.clone()).or_default()
    }

    /// Adds the sums to a report.
    pub(super) fn tell(&self, report: &mut Report) {
        let acked = |lane: &Lane| lane.acked.values().map(|(_, count)| count).sum::<u64>();
        report.count("records-acked", self.lanes.iter().map(acked).sum());
        report.count("records-judged", self.records_judged);
        report.count("judgements", self.judgements);
        report.count(
            "commits-acked",
            self.commits.values().map(|register| register.acks).sum(),
        );
        report.count(
            "topics-created",
            self.topics.values().map(|topic| topic.created).sum(),
        );
        report.count(
            "topics-deleted",
            self.topics.values().map(|topic| topic.deleted).sum(),
        );
        report.count(
            "configs-acked",
            self.config.acks + self.partition_count.acks,
        );
        report.count(
            "records-deleted",
            self.logs.values().map(|log| log.deleted_below as u64).sum(),
        );
        for lane in &self.lanes {
            for (offset, (first, count)) in &lane.acked {
                report.mix(*offset as u64);
                report.mix(*first);
                report.mix(*count);
            }
        }
    }
}
