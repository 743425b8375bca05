//! The part of the log that is still needed, in memory. It is rebuilt from the records at open.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};

use tidemill_storage::wal::Lsn;

use super::records::{Base, Record};
use crate::codec::DecodeError;
use crate::identity::Identity;
use crate::raft::{Entry, LogId, Payload, Vote};

/// Why the records of a log make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] DecodeError),
    /// An entry is missing.
    #[error("entry {expected} is missing: the next is {found}")]
    Gap {
        /// The index that should be there.
        expected: u64,
        /// The index that is.
        found: u64,
    },
    /// Two owners.
    #[error("it holds records of two data directories")]
    TwoIdentities,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Where the record before its own ends.
    pub(super) before: Lsn,
    pub(super) entry: Entry,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) identity: Option<Identity>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// Where the last record ends.
    end: Lsn,
    entries: VecDeque<Stored>,
}

impl Live {
    /// Nothing yet, of a stream that begins at `start`.
    pub(super) fn starting_at(start: Lsn) -> Self {
        Self {
            end: start,
            ..Self::default()
        }
    }

    /// Takes up the next record of the stream. The stream may begin anywhere before the last base.
    pub(super) fn replay(&mut self, end: Lsn, bytes: &[u8]) -> Result<(), LogFault> {
        let before = self.written(end);
        match Record::decode(bytes)? {
            Record::Identity(identity) => self.set_identity(identity)?,
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Entry(entry) => {
                if let Some(last) = self.entries.back() {
                    follows(last.entry.log_id.index + 1, &entry)?;
                }
                self.entries.push_back(Stored { before, entry });
            }
            Record::Truncate(after) => self.truncate_after(after.as_ref()),
            Record::Base(base) => {
                base.identity
                    .map_or(Ok(()), |identity| self.set_identity(identity))?;
                self.vote = base.vote;
                self.committed = base.committed;
                self.purge(base.purged);
            }
            Record::Committed(committed) => self.committed = Some(committed),
        }
        Ok(())
    }

    /// A record was written that ends at `end`; returns where the one before it ended.
    pub(super) fn written(&mut self, end: Lsn) -> Lsn {
        std::mem::replace(&mut self.end, end)
    }

    /// Where the last record ends.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    /// Checks that the entries go on where the purged ones end, once all records were taken up.
    pub(super) fn check(&self) -> Result<(), LogFault> {
        let expected = self.purged.map_or(0, |purged| purged.index + 1);
        self.entries
            .front()
            .map_or(Ok(()), |first| follows(expected, &first.entry))
    }

    fn set_identity(&mut self, identity: Identity) -> Result<(), LogFault> {
        if self.identity.is_some_and(|known| known != identity) {
            return Err(LogFault::TwoIdentities);
        }
        self.identity = Some(identity);
        Ok(())
    }

    /// Checks that `entry` may be appended. A log that is empty and was never purged takes any.
    pub(super) fn accepts(&self, entry: &Entry) -> Result<(), LogFault> {
        self.last_log_id()
            .map_or(Ok(()), |last| follows(last.index + 1, entry))
    }

    pub(super) fn push(&mut self, stored: Stored) {
        self.entries.push_back(stored);
    }

    pub(super) fn truncate_after(&mut self, after: Option<&LogId>) {
        let end = after.map_or(0, |after| after.index + 1);
        while self
            .entries
            .back()
            .is_some_and(|last| last.entry.log_id.index >= end)
        {
            self.entries.pop_back();
        }
    }

    pub(super) fn purge(&mut self, upto: LogId) {
        while self
            .entries
            .front()
            .is_some_and(|first| first.entry.log_id.index <= upto.index)
        {
            self.entries.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
    }

    pub(super) fn base(&self) -> Option<Base> {
        let purged = self.purged?;
        Some(Base {
            identity: self.identity,
            vote: self.vote,
            committed: self.committed,
            purged,
        })
    }

    /// Where the stream has to begin, so that the oldest entry is in it.
    pub(super) fn start(&self) -> Option<Lsn> {
        self.entries.front().map(|first| first.before)
    }

    pub(super) fn last_log_id(&self) -> Option<LogId> {
        self.entries
            .back()
            .map(|last| last.entry.log_id)
            .or(self.purged)
    }

    /// The entries of a range of indexes, as far as they are there.
    pub(super) fn range(&self, range: impl RangeBounds<u64>) -> impl Iterator<Item = &Entry> {
        let first = self
            .entries
            .front()
            .map_or(0, |first| first.entry.log_id.index);
        let position = |index: u64| {
            usize::try_from(index.saturating_sub(first))
                .unwrap_or(usize::MAX)
                .min(self.entries.len())
        };
        let start = match range.start_bound() {
            Bound::Included(&start) => position(start),
            Bound::Excluded(&start) => position(start.saturating_add(1)),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => position(end.saturating_add(1)),
            Bound::Excluded(&end) => position(end),
            Bound::Unbounded => self.entries.len(),
        };
        self.entries
            .range(start..end.max(start))
            .map(|stored| &stored.entry)
    }
}

fn follows(expected: u64, entry: &Entry) -> Result<(), LogFault> {
    let found = entry.log_id.index;
    if found == expected {
        Ok(())
    } else {
        Err(LogFault::Gap { expected, found })
    }
}

/// Bytes that an entry takes in memory and on the wire, about.
pub(in crate::raft) fn weight(entry: &Entry) -> usize {
    /// Its ids, lengths and bookkeeping.
    const OVERHEAD: usize = 64;
    match &entry.payload {
        Payload::Normal(command) => OVERHEAD + command.0.len(),
        _ => OVERHEAD,
    }
}
