//! Reads the records of a topic, to its end or beyond, for commands that look into them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_client::{Client, Consumer, FetchLimits, OutOfRange};
use tidemill_records::{Offset, PartitionId, Record, TopicPartition};

use super::super::exit::Failure;
use super::super::position::{Position, bounds, resolve};
use super::super::topic::topic_failure;

/// What to read.
pub(super) struct Reading<'a> {
    pub(super) topic: &'a str,
    /// All of them if none is named.
    pub(super) partition: Option<i32>,
    pub(super) from: Position,
    /// Waits for more at the end, instead of stopping where the log ends at the beginning.
    pub(super) follow: bool,
}

/// A record, and where it lies.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) partition: TopicPartition,
    pub(super) record: Record,
}

/// Reads on.
pub(super) struct Reader {
    consumer: Consumer,
    /// None to follow the log.
    ends: Option<BTreeMap<TopicPartition, Offset>>,
}

impl Reader {
    pub(super) async fn open(
        client: &Arc<Client>,
        reading: &Reading<'_>,
    ) -> Result<Reader, Failure> {
        let Reading { topic, from, .. } = *reading;
        let view = match client.topic(topic).await {
            Ok(view) => view,
            Err(error) => return Err(topic_failure(client, topic, error).await),
        };
        let partitions: Vec<PartitionId> = match reading.partition {
            Some(partition) => vec![PartitionId(partition)],
            None => view.partitions.iter().map(|view| view.partition).collect(),
        };
        let ends = match reading.follow {
            true => None,
            false => {
                let bounds = bounds(client, topic, &partitions).await?.into_iter();
                let ends =
                    bounds.map(|(partition, at)| (TopicPartition::new(topic, partition), at.end));
                Some(ends.collect())
            }
        };
        let begins = resolve(client, topic, &partitions, from).await?.into_iter();
        let positions =
            begins.map(|(partition, offset)| (TopicPartition::new(topic, partition), offset));
        let consumer = Consumer::new(
            client.clone(),
            positions.collect(),
            FetchLimits::default(),
            OutOfRange::ToStart,
        );
        Ok(Reader { consumer, ends })
    }

    /// What comes next, in order within each partition, which may be nothing yet. None at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Found>>, Failure> {
        if let Some(ends) = &self.ends {
            let positions = self.consumer.positions().iter();
            let done = positions.filter(|(id, at)| ends.get(id).is_none_or(|end| *at >= end));
            let done: Vec<TopicPartition> = done.map(|(id, _)| id.clone()).collect();
            done.iter().for_each(|id| self.consumer.remove(id));
            if self.consumer.positions().is_empty() {
                return Ok(None);
            }
        }
        let mut found = Vec::new();
        for fetched in self.consumer.poll().await? {
            let id = &fetched.partition;
            let end = self.ends.as_ref().and_then(|ends| ends.get(id)).copied();
            for record in fetched.records() {
                let record = record.map_err(|error| {
                    Failure::new(format!("{id} holds a batch that cannot be read")).because(&error)
                })?;
                if end.is_none_or(|end| record.offset < end) {
                    found.push(Found {
                        partition: id.clone(),
                        record,
                    });
                }
            }
        }
        Ok(Some(found))
    }
}
