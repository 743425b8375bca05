//! The table of a directory's partitions.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockWriteGuard};
use tidemill_records::TopicPartition;

use crate::partition_log::PartitionLog;

type Map = HashMap<TopicPartition, Arc<PartitionLog>>;

/// Partitions by name. Who makes or deletes one holds the table while the write-ahead log takes the entry, so that a checkpoint sees
/// both or neither.
#[derive(Default)]
pub(crate) struct Logs(RwLock<Map>);

impl Logs {
    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.0.read().get(partition).cloned()
    }

    /// All partitions, by name and index.
    pub(crate) fn all(&self) -> Vec<Arc<PartitionLog>> {
        let mut all: Vec<_> = self.0.read().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.partition().cmp(b.partition()));
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Map> {
        self.0.write()
    }
}
