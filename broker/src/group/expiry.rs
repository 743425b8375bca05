//! Which committed offsets have outlived `offsets.retention.minutes` (KIP-211).

use super::classic::GroupState;
use super::offsets::{CommittedOffset, Place};
use super::shard::Group;
use crate::transform::is_transform_group;

/// The places whose offsets have expired. What is being committed right now has not.
///
/// A group with members keeps what it subscribes to. Of the rest, an empty group's offsets are kept for the
/// retention from the moment when it became empty; those of unsubscribed topics, and of consumers outside
/// of any group protocol, from their commit. An expiry that a client asked for beats both.
pub(super) fn expired(id: &str, group: &Group, now_ms: i64, retention_ms: i64) -> Vec<Place> {
    // A transform of a quiet topic would begin again from its origin.
    if is_transform_group(id) {
        return Vec::new();
    }
    let classic = &group.classic;
    let is_simple = classic.protocol_type().is_none();
    let empty_since_ms = match classic.state() {
        _ if is_simple => None,
        GroupState::Empty => classic.state_since_ms(),
        GroupState::Stable if classic.knows_subscribed_topics() => None,
        _ => return Vec::new(),
    };
    let is_expired = |committed: &CommittedOffset| match committed.expires_at_ms {
        Some(at_ms) => now_ms >= at_ms,
        None => {
            let since_ms = empty_since_ms.unwrap_or(committed.committed_at_ms);
            now_ms.saturating_sub(since_ms) >= retention_ms
        }
    };
    let mut places = Vec::new();
    for (topic, committed) in group.offsets.committed() {
        if classic.is_subscribed_to(topic) {
            continue;
        }
        for (partition, committed) in committed {
            if is_expired(committed) && !group.offsets.is_pending(topic, partition) {
                places.push((topic.clone(), partition));
            }
        }
    }
    places
}
