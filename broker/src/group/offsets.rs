//! The offsets that one group has committed, and those that are on their way into the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use tidemill_records::{LeaderEpoch, PartitionId};
use uuid::Uuid;

/// A committed offset: the next record to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub(crate) offset: i64,
    /// Of the last record that was read; `LeaderEpoch::NONE` when the client does not say.
    pub(crate) leader_epoch: LeaderEpoch,
    /// Whatever the client wants to find again.
    pub(crate) metadata: Box<str>,
    pub(crate) committed_at_ms: i64,
    /// An expiry that the client asked for; without one the broker's retention rules.
    pub(crate) expires_at_ms: Option<i64>,
    /// Nil when the client named the topic and not its id.
    pub(crate) topic_id: Uuid,
}

/// A topic's partition as offsets are kept by it.
pub(crate) type Place = (Arc<str>, PartitionId);

#[derive(Debug, Default)]
struct Slot {
    committed: Option<CommittedOffset>,
    /// Commits that are not durable yet.
    pending: u32,
}

/// One group's offsets, in the order of topics and partitions. A commit is seen once it is durable, and
/// commits become durable in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct GroupOffsets {
    topics: BTreeMap<Arc<str>, BTreeMap<PartitionId, Slot>>,
    committed_count: usize,
    size_bytes: usize,
}

impl GroupOffsets {
    /// Nothing is committed or about to be.
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(crate) fn committed_count(&self) -> usize {
        self.committed_count
    }

    /// Bytes of memory, roughly.
    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn get(&self, topic: &str, partition: PartitionId) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)?.committed.as_ref()
    }

    /// Whether there is anything to delete: an offset, or a commit on its way.
    pub(crate) fn is_in_use(&self, topic: &str, partition: PartitionId) -> bool {
        self.topics
            .get(topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Whether a commit is on its way.
    pub(crate) fn is_pending(&self, topic: &str, partition: PartitionId) -> bool {
        let slot = self
            .topics
            .get(topic)
            .and_then(|partitions| partitions.get(&partition));
        slot.is_some_and(|slot| slot.pending > 0)
    }

    /// All committed offsets by topic.
    pub(crate) fn committed(
        &self,
    ) -> impl Iterator<
        Item = (
            &Arc<str>,
            impl Iterator<Item = (PartitionId, &CommittedOffset)>,
        ),
    > {
        self.topics.iter().map(|(topic, partitions)| {
            let committed = partitions
                .iter()
                .filter_map(|(partition, slot)| Some((*partition, slot.committed.as_ref()?)));
            (topic, committed)
        })
    }

    /// Every place with an offset or a commit on its way.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .keys()
                .map(|partition| (topic.clone(), *partition))
        })
    }

    /// The places of one topic.
    pub(crate) fn places_of(&self, topic: &str) -> Vec<Place> {
        let found = self.topics.get_key_value(topic);
        let places = found.map(|(topic, partitions)| {
            partitions
                .keys()
                .map(|partition| (topic.clone(), *partition))
                .collect()
        });
        places.unwrap_or_default()
    }

    /// How many bytes more a commit takes than what it replaces.
    pub(crate) fn growth(&self, topic: &str, partition: PartitionId, metadata: &str) -> usize {
        let before = self
            .get(topic, partition)
            .map_or(0, |found| found.metadata.len());
        let is_new = !self.is_in_use(topic, partition);
        let place = if is_new {
            SLOT_BYTES + topic.len() + TOPIC_BYTES
        } else {
            0
        };
        (place + metadata.len()).saturating_sub(before)
    }

    /// A commit begins; [`GroupOffsets::finish`] ends it.
    pub(crate) fn begin(&mut self, topic: &Arc<str>, partition: PartitionId) {
        self.slot(topic, partition).pending += 1;
    }

    /// A commit ends: with an offset that is durable now, or without.
    pub(crate) fn finish(&mut self, place: &Place, committed: Option<CommittedOffset>) {
        let slot = self.slot(&place.0, place.1);
        slot.pending = slot.pending.saturating_sub(1);
        match committed {
            Some(committed) => self.put(&place.0, place.1, committed),
            None => self.drop_unused(&place.0, place.1),
        }
    }

    /// Sets an offset that is in the log.
    pub(crate) fn put(
        &mut self,
        topic: &Arc<str>,
        partition: PartitionId,
        committed: CommittedOffset,
    ) {
        self.size_bytes += committed.metadata.len();
        let before = self.slot(topic, partition).committed.replace(committed);
        match before {
            Some(before) => self.size_bytes -= before.metadata.len(),
            None => self.committed_count += 1,
        }
    }

    /// Deletes an offset; a commit on its way stays.
    pub(crate) fn remove(&mut self, topic: &str, partition: PartitionId) {
        let slot = self
            .topics
            .get_mut(topic)
            .and_then(|found| found.get_mut(&partition));
        if let Some(before) = slot.and_then(|slot| slot.committed.take()) {
            self.size_bytes -= before.metadata.len();
            self.committed_count -= 1;
        }
        self.drop_unused(topic, partition);
    }

    fn slot(&mut self, topic: &Arc<str>, partition: PartitionId) -> &mut Slot {
        let partitions = match self.topics.entry(topic.clone()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(vacant) => {
                self.size_bytes += topic.len() + TOPIC_BYTES;
                vacant.insert(BTreeMap::new())
            }
        };
        match partitions.entry(partition) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(vacant) => {
                self.size_bytes += SLOT_BYTES;
                vacant.insert(Slot::default())
            }
        }
    }

    fn drop_unused(&mut self, topic: &str, partition: PartitionId) {
        let Some(partitions) = self.topics.get_mut(topic) else {
            return;
        };
        let is_unused = |slot: &Slot| slot.pending == 0 && slot.committed.is_none();
        if partitions.get(&partition).is_some_and(is_unused) {
            partitions.remove(&partition);
            self.size_bytes -= SLOT_BYTES;
        }
        if partitions.is_empty() {
            self.topics.remove(topic);
            self.size_bytes -= topic.len() + TOPIC_BYTES;
        }
    }
}

const SLOT_BYTES: usize = size_of::<(PartitionId, Slot)>();
const TOPIC_BYTES: usize = 96;
