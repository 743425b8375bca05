//! What differs between two images: a merge walk that skips what they share.

use std::cmp::Ordering;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use tidemill_records::NodeId;

use super::{ConfigResource, FunctionId, MetadataImage, TopicImage};

/// The differences from an older image to a newer one.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct ImageChanges {
    /// Topics that are new or whose partitions changed, as they are now. A topic that was deleted and
    /// created again is here and in `topics_deleted`.
    pub topics: Vec<Arc<TopicImage>>,
    /// Topics (by id) that are gone, as they were.
    pub topics_deleted: Vec<Arc<TopicImage>>,
    /// Brokers that came, went or changed.
    pub brokers: Vec<NodeId>,
    /// Resources whose configuration changed.
    pub configs: Vec<ConfigResource>,
    /// Functions that came or went.
    pub functions: Vec<FunctionId>,
    /// Transforms that came, went or changed, by name. One that was deleted and deployed again has
    /// another id.
    pub transforms: Vec<Arc<str>>,
}

impl MetadataImage {
    /// What changed since `older`. Costs a walk over topics, brokers, resources, functions and transforms; what both images
    /// share is recognised by pointer.
    pub fn changes_since(&self, older: &Self) -> ImageChanges {
        let mut changes = ImageChanges::default();
        walk(&older.topics, &self.topics, Arc::ptr_eq, |_, old, new| {
            match (old, new) {
                (Some(old), Some(new)) if old.id == new.id => {}
                (Some(old), _) => changes.topics_deleted.push(Arc::clone(old)),
                (None, _) => {}
            }
            changes.topics.extend(new.cloned());
        });
        walk(&older.brokers, &self.brokers, Arc::ptr_eq, |id, _, _| {
            changes.brokers.push(*id)
        });
        walk(
            &older.configs,
            &self.configs,
            |old, new| old == new,
            |resource, _, _| {
                changes.configs.push(resource.clone());
            },
        );
        walk(
            &older.functions,
            &self.functions,
            Arc::ptr_eq,
            |id, _, _| changes.functions.push(*id),
        );
        walk(
            &older.transforms,
            &self.transforms,
            Arc::ptr_eq,
            |name, _, _| changes.transforms.push(Arc::clone(name)),
        );
        changes
    }
}

/// Calls `differs` with every key whose value is not the same in both maps.
fn walk<K: Ord, V>(
    older: &RedBlackTreeMapSync<K, V>,
    newer: &RedBlackTreeMapSync<K, V>,
    same: impl Fn(&V, &V) -> bool,
    mut differs: impl FnMut(&K, Option<&V>, Option<&V>),
) {
    if older.ptr_eq(newer) {
        return;
    }
    let (mut old, mut new) = (older.iter().peekable(), newer.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        match (before, after) {
            (Some((key, a)), Some((_, b))) if !same(a, b) => differs(key, Some(a), Some(b)),
            (Some((key, a)), None) => differs(key, Some(a), None),
            (None, Some((key, b))) => differs(key, None, Some(b)),
            _ => {}
        }
    }
}
