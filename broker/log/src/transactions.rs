//! Where transactions are open, and which were aborted: what a read_committed consumer may see.

use std::collections::BTreeMap;

use tidemill_records::{Offset, ProducerId};

use crate::codec::{Put, Reader};
use crate::error::FormatError;

/// A transaction that a read_committed consumer must skip, as Fetch answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its marker.
    pub last_offset: Offset,
}

/// One entry of the aborted transaction index, with the fields of Kafka's `.txnindex`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aborted {
    producer_id: ProducerId,
    first: Offset,
    /// Offset of the marker.
    last: Offset,
    /// The last stable offset once the marker was written: transactions that end later begin there or after.
    last_stable: Offset,
}

/// The transactions of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// First offset of each open transaction.
    open: BTreeMap<Offset, ProducerId>,
    /// First offset and marker offset of ended transactions whose marker may not be below the high watermark yet.
    ended: BTreeMap<Offset, Offset>,
    /// By marker offset.
    aborted: Vec<Aborted>,
}

impl Transactions {
    pub(crate) fn begin(&mut self, producer_id: ProducerId, first: Offset) {
        self.open.insert(first, producer_id);
    }

    /// The marker at `marker` ends the transaction that began at `first`.
    pub(crate) fn end(
        &mut self,
        producer_id: ProducerId,
        first: Offset,
        marker: Offset,
        abort: bool,
    ) {
        self.open.remove(&first);
        self.ended.insert(first, marker);
        if abort {
            let last_stable = self.open.keys().next().copied().unwrap_or(marker + 1);
            self.aborted.push(Aborted {
                producer_id,
                first,
                last: marker,
                last_stable,
            });
        }
    }

    /// Whether no transaction holds back the last stable offset, whatever the high watermark.
    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty()
    }

    /// The offset up to which every transaction is decided, and its decision below the high watermark. Markers below
    /// it are forgotten, so the high watermark must not go back but by truncation.
    pub(crate) fn last_stable_offset(&mut self, high_watermark: Offset) -> Offset {
        self.ended.retain(|_, marker| *marker >= high_watermark);
        let open = self.open.keys().next().copied();
        let ended = self.ended.keys().next().copied();
        let unstable = open.into_iter().chain(ended).min();
        unstable.map_or(high_watermark, |first| first.min(high_watermark))
    }

    /// The aborted transactions that overlap `from..to`.
    pub(crate) fn aborted(&self, from: Offset, to: Offset) -> Vec<AbortedTransaction> {
        let first = self.aborted.partition_point(|entry| entry.last < from);
        let mut found = Vec::new();
        for entry in &self.aborted[first..] {
            if entry.first < to {
                found.push(AbortedTransaction {
                    producer_id: entry.producer_id,
                    first_offset: entry.first,
                    last_offset: entry.last,
                });
            }
            if entry.last_stable >= to {
                break;
            }
        }
        found
    }

    /// Forgets aborted transactions that lie wholly below the log's start.
    pub(crate) fn truncate_start(&mut self, start: Offset) {
        let keep = self.aborted.partition_point(|entry| entry.last < start);
        self.aborted.drain(..keep);
        self.ended.retain(|_, marker| *marker >= start);
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.count(self.ended.len());
        for (first, marker) in &self.ended {
            out.i64(first.0);
            out.i64(marker.0);
        }
        out.count(self.aborted.len());
        for entry in &self.aborted {
            out.i64(entry.producer_id.0);
            out.i64(entry.first.0);
            out.i64(entry.last.0);
            out.i64(entry.last_stable.0);
        }
    }

    /// Reads what [`Self::encode`] wrote; open transactions are with their producers.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Transactions, FormatError> {
        let mut transactions = Transactions::default();
        for _ in 0..reader.count(16)? {
            let first = Offset(reader.i64_from_zero()?);
            let marker = Offset(reader.i64_from_zero()?);
            transactions.ended.insert(first, marker);
        }
        for _ in 0..reader.count(32)? {
            transactions.aborted.push(Aborted {
                producer_id: ProducerId(reader.i64_from_zero()?),
                first: Offset(reader.i64_from_zero()?),
                last: Offset(reader.i64_from_zero()?),
                last_stable: Offset(reader.i64_from_zero()?),
            });
        }
        if !transactions.aborted.is_sorted_by_key(|entry| entry.last) {
            return Err(FormatError::Range);
        }
        Ok(transactions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProducerId = ProducerId(1);
    const B: ProducerId = ProducerId(2);

    #[test]
    fn an_open_transaction_holds_the_last_stable_offset() {
        let mut transactions = Transactions::default();
        assert_eq!(transactions.last_stable_offset(Offset(9)), Offset(9));
        transactions.begin(A, Offset(5));
        transactions.begin(B, Offset(7));
        assert_eq!(transactions.last_stable_offset(Offset(9)), Offset(5));
        assert_eq!(transactions.last_stable_offset(Offset(3)), Offset(3));
        transactions.end(A, Offset(5), Offset(9), false);
        assert_eq!(
            transactions.last_stable_offset(Offset(9)),
            Offset(5),
            "the marker is not below the high watermark"
        );
        assert_eq!(transactions.last_stable_offset(Offset(10)), Offset(7));
        transactions.end(B, Offset(7), Offset(10), true);
        assert!(!transactions.is_settled());
        assert_eq!(transactions.last_stable_offset(Offset(11)), Offset(11));
        assert!(transactions.is_settled());
    }

    #[test]
    fn aborted_transactions_are_found_where_they_overlap() {
        let mut transactions = Transactions::default();
        transactions.begin(A, Offset(0));
        transactions.begin(B, Offset(4));
        transactions.end(B, Offset(4), Offset(6), true);
        transactions.end(A, Offset(0), Offset(10), true);
        transactions.begin(B, Offset(20));
        transactions.end(B, Offset(20), Offset(22), true);
        let found = |from, to| -> Vec<i64> {
            let found = transactions.aborted(Offset(from), Offset(to));
            found.iter().map(|entry| entry.first_offset.0).collect()
        };
        assert_eq!(
            found(0, 4),
            [0],
            "an early marker does not hide a longer transaction"
        );
        assert_eq!(found(0, 5), [4, 0]);
        assert_eq!(found(7, 11), [0]);
        assert_eq!(found(11, 20), [] as [i64; 0]);
        assert_eq!(found(22, 23), [20]);
        assert_eq!(found(23, 99), [] as [i64; 0]);
    }

    #[test]
    fn trimming_the_log_forgets_what_ended_below() {
        let mut transactions = Transactions::default();
        for first in [0, 10] {
            transactions.begin(A, Offset(first));
            transactions.end(A, Offset(first), Offset(first + 5), true);
        }
        transactions.truncate_start(Offset(6));
        assert_eq!(transactions.aborted(Offset(0), Offset(99)).len(), 1);
    }
}
