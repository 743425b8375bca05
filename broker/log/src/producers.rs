//! What the log remembers of idempotent and transactional producers (KIP-98, KIP-360): which batch must come next,
//! which came already, and whose transaction is open.

use std::collections::HashMap;

use tidemill_records::{BatchHeader, ControlRecord, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::codec::{Put, Reader};
use crate::error::{AppendError, FormatError};
use crate::transactions::Transactions;

/// Producers keep at most so many requests in flight, so a duplicate is one of these batches.
const REMEMBERED_BATCHES: usize = 5;

/// One of a producer's newest batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BatchMark {
    base_sequence: i32,
    last_sequence: i32,
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    /// The batch's max timestamp; its append time where the log stamps it.
    pub(crate) timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    marks: [BatchMark; REMEMBERED_BATCHES],
    mark_count: u8,
    open_transaction: Option<Offset>,
    last_append_ms: i64,
}

/// What a batch is to its producer's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It comes next.
    Append,
    /// It is in the log already, here.
    Duplicate(BatchMark),
}

/// A producer as `DescribeProducers` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerFigures {
    /// Producer id.
    pub producer_id: ProducerId,
    /// Newest epoch.
    pub epoch: ProducerEpoch,
    /// Last sequence, or [`Sequence::NONE`].
    pub last_sequence: Sequence,
    /// When the broker last appended for it, in ms since the epoch.
    pub last_append_ms: i64,
    /// Epoch of the coordinator that wrote its last marker; -1 when none did.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction.
    pub open_transaction: Option<Offset>,
}

impl Producer {
    fn new(epoch: ProducerEpoch) -> Producer {
        Producer {
            epoch,
            coordinator_epoch: -1,
            marks: [BatchMark::default(); REMEMBERED_BATCHES],
            mark_count: 0,
            open_transaction: None,
            last_append_ms: 0,
        }
    }

    fn marks(&self) -> &[BatchMark] {
        &self.marks[..usize::from(self.mark_count)]
    }

    fn last_sequence(&self) -> Sequence {
        let last = self.marks().last();
        last.map_or(Sequence::NONE, |mark| Sequence(mark.last_sequence))
    }

    fn find_duplicate(&self, header: &BatchHeader) -> Option<BatchMark> {
        if header.producer_epoch() != self.epoch {
            return None;
        }
        let (base, last) = (header.base_sequence().0, header.last_sequence().0);
        let same = |mark: &&BatchMark| mark.base_sequence == base && mark.last_sequence == last;
        self.marks().iter().find(same).copied()
    }

    fn check_epoch(&self, header: &BatchHeader) -> Result<(), AppendError> {
        match header.producer_epoch() {
            found if found < self.epoch => Err(AppendError::InvalidProducerEpoch {
                found,
                current: self.epoch,
            }),
            _ => Ok(()),
        }
    }

    fn check_sequence(&self, header: &BatchHeader) -> Result<(), AppendError> {
        let expected = match self.last_sequence() {
            // A new epoch counts anew, and so does a producer that only a marker has told of.
            _ if header.producer_epoch() != self.epoch => Sequence(0),
            Sequence::NONE => Sequence(0),
            last => last.next(),
        };
        match header.base_sequence() {
            found if found == expected => Ok(()),
            found => Err(AppendError::OutOfOrderSequence { found, expected }),
        }
    }

    fn enter_epoch(&mut self, epoch: ProducerEpoch) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.marks = [BatchMark::default(); REMEMBERED_BATCHES];
            self.mark_count = 0;
        }
    }

    fn push_mark(&mut self, mark: BatchMark) {
        if usize::from(self.mark_count) == REMEMBERED_BATCHES {
            self.marks.rotate_left(1);
            self.mark_count -= 1;
        }
        self.marks[usize::from(self.mark_count)] = mark;
        self.mark_count += 1;
    }

    /// Takes in a data batch; true when it begins a transaction.
    fn apply_data(&mut self, header: &BatchHeader, append_ms: i64) -> bool {
        self.enter_epoch(header.producer_epoch());
        self.last_append_ms = append_ms;
        // Coordinators write for a producer without its sequence.
        if header.base_sequence() != Sequence::NONE {
            self.push_mark(BatchMark {
                base_sequence: header.base_sequence().0,
                last_sequence: header.last_sequence().0,
                base_offset: header.base_offset().0,
                next_offset: header.next_offset().0,
                timestamp: header.max_timestamp(),
            });
        }
        let begins = header.is_transactional() && self.open_transaction.is_none();
        if begins {
            self.open_transaction = Some(header.base_offset());
        }
        begins
    }
}

/// Decides about a data batch against what is known of its producer. A producer that is not known may begin anywhere:
/// retention may have taken its earlier records.
pub(crate) fn check_data(
    producer: Option<&Producer>,
    header: &BatchHeader,
    check_sequence: bool,
) -> Result<Verdict, AppendError> {
    let Some(producer) = producer else {
        return Ok(Verdict::Append);
    };
    if check_sequence && let Some(mark) = producer.find_duplicate(header) {
        return Ok(Verdict::Duplicate(mark));
    }
    producer.check_epoch(header)?;
    if check_sequence {
        producer.check_sequence(header)?;
    }
    if producer.open_transaction.is_some() && !header.is_transactional() {
        return Err(AppendError::InvalidTxnState);
    }
    Ok(Verdict::Append)
}

/// Decides about a transaction marker.
pub(crate) fn check_marker(
    producer: Option<&Producer>,
    header: &BatchHeader,
    coordinator_epoch: i32,
) -> Result<(), AppendError> {
    let Some(producer) = producer else {
        return Ok(());
    };
    producer.check_epoch(header)?;
    match producer.coordinator_epoch {
        current if coordinator_epoch < current => Err(AppendError::TransactionCoordinatorFenced {
            found: coordinator_epoch,
            current,
        }),
        _ => Ok(()),
    }
}

/// The producers of one log, with their transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    entries: HashMap<ProducerId, Producer>,
    pub(crate) transactions: Transactions,
}

impl Producers {
    pub(crate) fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.entries.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in a batch that is in the log. `control` is what it says if it is a control batch.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        append_ms: i64,
        count_max: usize,
    ) {
        let id = header.producer_id();
        if !id.is_some() {
            return;
        }
        let entry = self.entries.entry(id);
        let producer = entry.or_insert_with(|| Producer::new(header.producer_epoch()));
        match (header.is_control(), control) {
            (false, _) => {
                if producer.apply_data(header, append_ms) {
                    self.transactions.begin(id, header.base_offset());
                }
            }
            (true, Some(ControlRecord::Commit(end) | ControlRecord::Abort(end))) => {
                producer.enter_epoch(header.producer_epoch());
                producer.last_append_ms = append_ms;
                producer.coordinator_epoch = end.coordinator_epoch;
                if let Some(first) = producer.open_transaction.take() {
                    let abort = matches!(control, Some(ControlRecord::Abort(_)));
                    self.transactions
                        .end(id, first, header.base_offset(), abort);
                }
            }
            (true, _) => {}
        }
        if self.entries.len() > count_max {
            self.forget_oldest(count_max);
        }
    }

    /// Applies batches of one append one after the other to a copy, for checking the later ones.
    pub(crate) fn preview(producer: Option<&Producer>, header: &BatchHeader) -> Producer {
        let mut producer = match producer {
            Some(producer) => producer.clone(),
            None => Producer::new(header.producer_epoch()),
        };
        producer.apply_data(header, 0);
        producer
    }

    /// An eighth goes at once, so that this costs little per append even while ids are flooding in.
    fn forget_oldest(&mut self, count_max: usize) {
        let keep = count_max - count_max / 8;
        let mut idle: Vec<(i64, ProducerId)> = self.idle().collect();
        idle.sort_unstable();
        let excess = self.entries.len().saturating_sub(keep);
        for (_, id) in idle.into_iter().take(excess) {
            self.entries.remove(&id);
        }
    }

    fn idle(&self) -> impl Iterator<Item = (i64, ProducerId)> {
        let idle = |producer: &&Producer| producer.open_transaction.is_none();
        let entries = self.entries.iter().filter(move |(_, entry)| idle(entry));
        entries.map(|(id, producer)| (producer.last_append_ms, *id))
    }

    /// Forgets producers that have been silent for `expiration_ms`; one with an open transaction never.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, producer| {
            producer.open_transaction.is_some()
                || now_ms.saturating_sub(producer.last_append_ms) < expiration_ms
        });
        before - self.entries.len()
    }

    /// By producer id.
    pub(crate) fn figures(&self) -> Vec<ProducerFigures> {
        let figures = |(id, producer): (&ProducerId, &Producer)| ProducerFigures {
            producer_id: *id,
            epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_append_ms: producer.last_append_ms,
            coordinator_epoch: producer.coordinator_epoch,
            open_transaction: producer.open_transaction,
        };
        let mut all: Vec<_> = self.entries.iter().map(figures).collect();
        all.sort_unstable_by_key(|producer| producer.producer_id);
        all
    }

    /// The snapshot that checkpoints hold, by producer id, so that equal states are equal bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        out.count(entries.len());
        for (id, producer) in entries {
            out.i64(id.0);
            out.i16(producer.epoch.0);
            out.i32(producer.coordinator_epoch);
            out.i64(producer.last_append_ms);
            out.i64(producer.open_transaction.unwrap_or(Offset::NONE).0);
            out.u8(producer.mark_count);
            for mark in producer.marks() {
                out.i32(mark.base_sequence);
                out.i32(mark.last_sequence);
                out.i64(mark.base_offset);
                out.i64(mark.next_offset);
                out.i64(mark.timestamp);
            }
        }
        self.transactions.encode(out);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Producers, FormatError> {
        let mut entries = HashMap::new();
        let mut open = Vec::new();
        for _ in 0..reader.count(31)? {
            let id = ProducerId(reader.i64_from_zero()?);
            let mut producer = Producer::new(ProducerEpoch(reader.i16()?));
            producer.coordinator_epoch = reader.i32()?;
            producer.last_append_ms = reader.i64()?;
            producer.open_transaction = match reader.i64()? {
                -1 => None,
                first if first >= 0 => Some(Offset(first)),
                _ => return Err(FormatError::Range),
            };
            let marks = reader.u8()?;
            if usize::from(marks) > REMEMBERED_BATCHES {
                return Err(FormatError::Range);
            }
            for _ in 0..marks {
                producer.push_mark(decode_mark(reader)?);
            }
            open.extend(producer.open_transaction.map(|first| (id, first)));
            entries.insert(id, producer);
        }
        let mut transactions = Transactions::decode(reader)?;
        for (id, first) in open {
            transactions.begin(id, first);
        }
        Ok(Producers {
            entries,
            transactions,
        })
    }
}

fn decode_mark(reader: &mut Reader<'_>) -> Result<BatchMark, FormatError> {
    let mark = BatchMark {
        base_sequence: reader.i32()?,
        last_sequence: reader.i32()?,
        base_offset: reader.i64_from_zero()?,
        next_offset: reader.i64_from_zero()?,
        timestamp: reader.i64()?,
    };
    // Later sequences are computed from these, which takes a number from zero.
    match mark.base_sequence >= 0 && mark.last_sequence >= 0 {
        true => Ok(mark),
        false => Err(FormatError::Range),
    }
}

#[cfg(test)]
mod tests;
