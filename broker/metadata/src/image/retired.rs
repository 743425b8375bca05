//! Leader epochs of topics that were deleted. A topic created again under the same name starts above
//! them, so that a client that knows the name only never sees an epoch go down.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use tidemill_records::LeaderEpoch;

/// Names remembered one by one. Past this, the highest of them becomes a floor for every new topic:
/// bounded memory, the same promise.
const NAMES_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetiredEpochs {
    pub(super) by_name: RedBlackTreeMapSync<Arc<str>, LeaderEpoch>,
    pub(super) floor: LeaderEpoch,
}

impl Default for RetiredEpochs {
    fn default() -> Self {
        Self {
            by_name: RedBlackTreeMapSync::new_sync(),
            floor: LeaderEpoch::NONE,
        }
    }
}

impl RetiredEpochs {
    /// Notes that the topic `name` is gone and had reached `epoch`.
    pub(crate) fn retire(&mut self, name: Arc<str>, epoch: LeaderEpoch) {
        self.by_name.insert_mut(name, epoch);
        if self.by_name.size() > NAMES_MAX {
            let highest = self
                .by_name
                .values()
                .copied()
                .max()
                .unwrap_or(LeaderEpoch::NONE);
            self.floor = self.floor.max(highest);
            self.by_name = RedBlackTreeMapSync::new_sync();
        }
    }

    /// The first epoch of a new topic called `name`, which is remembered no longer.
    pub(crate) fn revive(&mut self, name: &str) -> LeaderEpoch {
        let last = self
            .by_name
            .get(name)
            .copied()
            .unwrap_or(LeaderEpoch::NONE)
            .max(self.floor);
        self.by_name.remove_mut(name);
        LeaderEpoch(last.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_never_go_down_also_past_the_bound() {
        let mut retired = RetiredEpochs::default();
        assert_eq!(retired.revive("new"), LeaderEpoch(0));
        retired.retire("first".into(), LeaderEpoch(41));
        for at in 0..NAMES_MAX {
            retired.retire(format!("t{at}").into(), LeaderEpoch(0));
        }
        assert!(retired.by_name.size() < NAMES_MAX);
        assert_eq!(retired.revive("first"), LeaderEpoch(42));
        assert_eq!(retired.revive("new"), LeaderEpoch(42));
    }
}
