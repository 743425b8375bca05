//! Tombstones: deleted groups and offsets, topics that are gone, and what has expired.

use tidemill_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::{Durable, Group, Place, Shard, State, Then, Write};
use crate::group::classic::{ClassicGroup, GroupState};
use crate::group::{expiry, records};

/// Offsets of one group that are cleaned up at a time; the rest waits for the next time.
const TOMBSTONES_MAX: usize = 10_000;

impl Shard {
    /// Deletes committed offsets. Refused as a whole for groups with members that are no consumers; topics
    /// that the group subscribes to are left out by the caller's filter.
    pub(crate) fn delete_offsets(
        &self,
        group_id: &str,
        choose: impl FnOnce(&ClassicGroup) -> Vec<Place>,
    ) -> Result<Durable, ErrorCode> {
        let mut state = self.state.lock();
        state.admit()?;
        let group = state
            .groups
            .get_mut(group_id)
            .ok_or(ErrorCode::GroupIdNotFound)?;
        match group.classic.state() {
            GroupState::Dead => return Err(ErrorCode::GroupIdNotFound),
            GroupState::Empty => {}
            _ if !group.classic.uses_consumer_protocol() => return Err(ErrorCode::NonEmptyGroup),
            _ => {}
        }
        let mut places = choose(&group.classic);
        places.retain(|(topic, partition)| group.offsets.is_in_use(topic, *partition));
        let (reply, durable) = oneshot::channel();
        let write = Self::deletion(group_id, group, places, false, Some(reply));
        self.enqueue(&mut state, write);
        Ok(durable)
    }

    /// Deletes an empty group with its offsets.
    pub(crate) fn delete_group(&self, group_id: &str) -> Result<Durable, ErrorCode> {
        let mut state = self.state.lock();
        state.admit()?;
        let group = state
            .groups
            .get_mut(group_id)
            .ok_or(ErrorCode::GroupIdNotFound)?;
        match group.classic.state() {
            GroupState::Dead => return Err(ErrorCode::GroupIdNotFound),
            GroupState::Empty => {}
            _ => return Err(ErrorCode::NonEmptyGroup),
        }
        let places = group.offsets.places().collect();
        let (reply, durable) = oneshot::channel();
        let write = Self::deletion(group_id, group, places, true, Some(reply));
        self.enqueue(&mut state, write);
        Ok(durable)
    }

    /// Deletes what groups have committed for a topic that is gone.
    pub(crate) fn topic_deleted(&self, topic: &str) {
        let mut state = self.state.lock();
        let mut writes = Vec::new();
        for (id, group) in &mut state.groups {
            let places = group.offsets.places_of(topic);
            if !places.is_empty() {
                writes.push(Self::deletion(id, group, places, false, None));
            }
        }
        for write in writes {
            self.enqueue(&mut state, write);
        }
    }

    /// Tombstones, and what they do to the group once they are durable.
    fn deletion(
        group_id: &str,
        group: &mut Group,
        places: Vec<Place>,
        and_group: bool,
        reply: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    ) -> Write {
        let offset =
            |(topic, partition): &Place| records::offset_tombstone(group_id, topic, *partition);
        let mut records: Vec<_> = places.iter().map(offset).collect();
        if and_group {
            records.push(records::group_tombstone(group_id));
        }
        group.in_flight += 1;
        Write::new(
            records,
            Then::Delete {
                group: group_id.into(),
                places,
                and_group,
                reply,
            },
        )
    }

    /// Deletes offsets that have expired, and empty groups that have none left.
    pub(super) fn clean_up(&self, state: &mut State) {
        let now_ms = self.parts.clock.now_ms();
        let retention = self.parts.settings.offsets_retention;
        let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let mut writes = Vec::new();
        for (id, group) in &mut state.groups {
            let mut expired = expiry::expired(id, group, now_ms, retention_ms);
            expired.truncate(TOMBSTONES_MAX);
            let is_all = expired.len() == group.offsets.places().count();
            let and_group = is_all && group.classic.is_abandoned() && group.stored;
            if !expired.is_empty() || and_group {
                tracing::debug!(group = %id, offsets = expired.len(), and_group, "expired");
                writes.push(Self::deletion(id, group, expired, and_group, None));
            }
        }
        for write in writes {
            self.enqueue(state, write);
        }
    }
}
