//! Whether the store as a whole is away.
//!
//! When one partition after the other cannot upload, and none can in between, all but one wait: each attempt reads an object's
//! batches again and holds a connection until its time is over. Who was tried longest ago finds out for all whether the store is
//! back. One partition that fails alone holds nobody up.

use std::collections::HashSet;
use std::time::Duration;

use super::RemoteKey;
use super::upload::backoff;

/// While the store is away it is asked at least so often.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(5);
/// So many partitions, one after the other, are no coincidence.
const PARTITIONS: usize = 2;

/// What the last attempts of all partitions say of the store.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// Who has failed since somebody last succeeded.
    failed: HashSet<RemoteKey>,
    failures: u32,
    retry_at: Duration,
}

impl Outage {
    pub(super) fn is_on(&self) -> bool {
        self.failed.len() >= PARTITIONS
    }

    /// Whether nobody is to be tried now.
    pub(super) fn is_waiting(&self, now: Duration) -> bool {
        self.is_on() && now < self.retry_at
    }

    /// Notes that the store did not do what one partition asked for.
    pub(super) fn note_failure(&mut self, key: RemoteKey, now: Duration) {
        self.failed.insert(key);
        if self.is_on() {
            self.retry_at = now + backoff(self.failures, RETRY_MAX);
            self.failures += 1;
        }
    }

    /// Notes that it did. Gives those who need not wait any longer: they failed because it was away.
    pub(super) fn note_success(&mut self) -> HashSet<RemoteKey> {
        let ended = std::mem::take(self);
        match ended.is_on() {
            true => ended.failed,
            false => HashSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_records::{PartitionId, TopicId};
    use uuid::Uuid;

    use super::*;

    fn key(partition: i32) -> RemoteKey {
        (TopicId(Uuid::from_u128(1)), PartitionId(partition))
    }

    #[test]
    fn one_partition_that_fails_alone_holds_nobody_up() {
        let mut outage = Outage::default();
        for second in 0..100 {
            let now = Duration::from_secs(second);
            outage.note_failure(key(1), now);
            assert!(!outage.is_on() && !outage.is_waiting(now));
        }
        assert!(
            outage.note_success().is_empty(),
            "it keeps its own wait: the store was never away"
        );
    }

    #[test]
    fn a_store_that_is_away_is_asked_again_soon_and_for_all_at_once() {
        let mut outage = Outage::default();
        let mut now = Duration::ZERO;
        outage.note_failure(key(1), now);
        outage.note_failure(key(2), now);
        for attempt in 0..20 {
            assert!(outage.is_on() && outage.is_waiting(now), "{attempt}");
            now += RETRY_MAX;
            assert!(!outage.is_waiting(now), "asked at least so often");
            outage.note_failure(key(3 + attempt), now);
        }
        assert_eq!(outage.note_success().len(), 22);
        assert!(!outage.is_on() && !outage.is_waiting(now));
        outage.note_failure(key(1), now);
        assert!(!outage.is_on(), "it begins anew");
    }
}
