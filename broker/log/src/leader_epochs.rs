//! Which leader epoch began at which offset (KIP-101, KIP-279): how replicas find where their logs part.

use tidemill_records::{EpochStart, LeaderEpoch, Offset};

use crate::error::FormatError;

/// The epochs of one log, in order; epochs and offsets only grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// Takes entries that were persisted; refuses what is out of order.
    pub(crate) fn from_entries(entries: Vec<EpochStart>) -> Result<LeaderEpochs, FormatError> {
        let ordered = entries
            .windows(2)
            .all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start <= pair[1].start);
        match ordered {
            true => Ok(LeaderEpochs { entries }),
            false => Err(FormatError::Range),
        }
    }

    pub(crate) fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch, or [`LeaderEpoch::NONE`].
    pub(crate) fn latest(&self) -> LeaderEpoch {
        self.entries
            .last()
            .map_or(LeaderEpoch::NONE, |entry| entry.epoch)
    }

    /// Notes that a batch of `epoch` begins at `start`. True when the epoch is new; an epoch that is not newer than the
    /// latest changes nothing.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch <= self.latest() {
            return false;
        }
        self.entries.push(EpochStart { epoch, start });
        true
    }

    /// The largest epoch that is not larger than `requested`, and where it ends. Where `requested` is smaller than
    /// all, itself with the first start; where it is larger than all, nothing
    /// ([`LeaderEpoch::NONE`] and [`Offset::NONE`]).
    pub(crate) fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_end: Offset,
    ) -> (LeaderEpoch, Offset) {
        if requested == LeaderEpoch::NONE || requested > self.latest() {
            return (LeaderEpoch::NONE, Offset::NONE);
        }
        let higher = self
            .entries
            .partition_point(|entry| entry.epoch <= requested);
        let end = self.entries.get(higher).map_or(log_end, |next| next.start);
        match higher {
            0 => (requested, end),
            _ => (self.entries[higher - 1].epoch, end),
        }
    }

    /// The epoch of the record at `offset`, where it is known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|entry| entry.start <= offset);
        Some(self.entries[after.checked_sub(1)?].epoch)
    }

    /// Forgets epochs that begin at or past `end`, the new end of the log. True when that changed anything.
    pub(crate) fn truncate_end(&mut self, end: Offset) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start < end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Lets the log begin at `start`: the epoch that holds there now begins there, older ones are forgotten.
    /// True when that changed anything.
    pub(crate) fn truncate_start(&mut self, start: Offset) -> bool {
        let after = self.entries.partition_point(|entry| entry.start <= start);
        let Some(first) = after.checked_sub(1) else {
            return false;
        };
        let changed = first > 0 || self.entries[first].start < start;
        self.entries.drain(..first);
        self.entries[0].start = start;
        changed
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Kafka's `leader-epoch-checkpoint`: version, count, then an epoch and its start per line.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for entry in &self.entries {
            text.push_str(&format!("{} {}\n", entry.epoch, entry.start));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(pairs: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for &(epoch, start) in pairs {
            epochs.assign(LeaderEpoch(epoch), Offset(start));
        }
        epochs
    }

    fn end(epochs: &LeaderEpochs, requested: i32) -> (i32, i64) {
        let (epoch, end) = epochs.end_offset_for(LeaderEpoch(requested), Offset(100));
        (epoch.0, end.0)
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(2, 0), (4, 30), (7, 60)]);
        assert_eq!(end(&epochs, 2), (2, 30));
        assert_eq!(end(&epochs, 3), (2, 30), "the largest epoch not above it");
        assert_eq!(end(&epochs, 6), (4, 60));
        assert_eq!(end(&epochs, 7), (7, 100), "the latest ends with the log");
        assert_eq!(end(&epochs, 1), (1, 0), "older than all: the first start");
        assert_eq!(end(&epochs, 8), (-1, -1), "newer than all: unknown");
        assert_eq!(end(&epochs, -1), (-1, -1));
        assert_eq!(end(&LeaderEpochs::default(), 0), (-1, -1));
    }

    #[test]
    fn epochs_never_go_down() {
        let mut epochs = epochs(&[(3, 0)]);
        assert!(!epochs.assign(LeaderEpoch(3), Offset(5)));
        assert!(!epochs.assign(LeaderEpoch(2), Offset(5)));
        assert_eq!(epochs.latest(), LeaderEpoch(3));
        assert!(epochs.assign(LeaderEpoch(4), Offset(5)));
        assert_eq!(epochs.epoch_at(Offset(4)), Some(LeaderEpoch(3)));
        assert_eq!(epochs.epoch_at(Offset(5)), Some(LeaderEpoch(4)));
    }

    #[test]
    fn truncation_from_both_ends() {
        let mut cut = epochs(&[(1, 10), (2, 20), (3, 30)]);
        assert!(
            cut.truncate_end(Offset(30)),
            "an epoch without records goes"
        );
        assert!(!cut.truncate_end(Offset(21)));
        assert_eq!(cut, epochs(&[(1, 10), (2, 20)]));
        assert!(!cut.truncate_start(Offset(5)));
        assert!(cut.truncate_start(Offset(15)));
        assert_eq!(cut, epochs(&[(1, 15), (2, 20)]));
        assert!(cut.truncate_start(Offset(20)));
        assert_eq!(cut, epochs(&[(2, 20)]));
        assert_eq!(cut.epoch_at(Offset(3)), None);
    }

    #[test]
    fn text_is_kafkas() {
        assert_eq!(epochs(&[(0, 0), (5, 17)]).to_text(), "0\n2\n0 0\n5 17\n");
    }

    #[test]
    fn persisted_entries_must_be_in_order() {
        let entry = |epoch, start| EpochStart {
            epoch: LeaderEpoch(epoch),
            start: Offset(start),
        };
        assert!(LeaderEpochs::from_entries(vec![entry(1, 0), entry(2, 0)]).is_ok());
        assert!(LeaderEpochs::from_entries(vec![entry(2, 0), entry(2, 1)]).is_err());
        assert!(LeaderEpochs::from_entries(vec![entry(2, 5), entry(3, 4)]).is_err());
    }
}
