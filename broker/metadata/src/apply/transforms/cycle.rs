//! Whether records could go round: a transform leads from its source to every topic that its current
//! version writes to, and these steps must never lead back. Paused transforms count, since they go on
//! one day; so do topics that are deleted, since they may come back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::command::Rejection;
use crate::image::{MetadataImage, TransformVersion};

/// Refuses `version` as the current one of the transform `name` if it closed a cycle. There was none
/// before, so a cycle has a step from `source`, and the shortest way back to it is named.
pub(super) fn check(
    image: &MetadataImage,
    name: &str,
    source: &Arc<str>,
    version: &TransformVersion,
) -> Result<(), Rejection> {
    let mut steps: BTreeMap<&Arc<str>, Vec<&TransformVersion>> = BTreeMap::new();
    for other in image.transforms().filter(|other| &*other.name != name) {
        let from = steps.entry(&other.source).or_default();
        from.push(other.current_version());
    }
    // Of every topic that is reached, the one before it.
    let mut reached: BTreeMap<&Arc<str>, &Arc<str>> = BTreeMap::new();
    let mut open: VecDeque<(&Arc<str>, &TransformVersion)> = VecDeque::from([(source, version)]);
    while let Some((from, version)) = open.pop_front() {
        for to in version.outputs() {
            if to == source {
                return Err(Rejection::TransformCycle(way(source, from, &reached)));
            }
            if reached.contains_key(to) {
                continue;
            }
            reached.insert(to, from);
            let next = steps.get(to).into_iter().flatten();
            open.extend(next.map(|version| (to, *version)));
        }
    }
    Ok(())
}

/// From `source` to `last`, and back to `source`.
fn way(
    source: &Arc<str>,
    last: &Arc<str>,
    reached: &BTreeMap<&Arc<str>, &Arc<str>>,
) -> Vec<Arc<str>> {
    let mut topics = vec![Arc::clone(source)];
    let mut at = last;
    while at != source {
        topics.push(Arc::clone(at));
        at = reached[at];
    }
    topics.push(Arc::clone(source));
    topics.reverse();
    topics
}
