//! What the tier asks of a log: what may be uploaded, and the state that goes with it.

use tidemill_records::{EpochStart, Offset, RecordBatch};

use crate::codec::Reader;
use crate::error::{FormatError, LogError};
use crate::partition_log::PartitionLog;
use crate::producers::Producers;

/// How much of a log there is to upload from some offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploadable {
    /// Bytes of segments that are sealed and end at or below the bound.
    pub sealed_bytes: u64,
    /// Bytes of all that is below the bound, the active segment's too.
    pub bytes: u64,
}

/// The producers of a log up to an offset: what the footer of an upload tells, so that a replica that has nothing else refuses
/// the same duplicates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerSnapshot {
    producers: Producers,
}

impl ProducerSnapshot {
    /// Takes in the next batch.
    pub fn apply(&mut self, batch: &RecordBatch, producers_max: usize) {
        let control = batch.control_record().ok().flatten();
        // When it was appended nobody knows any more; its own time comes near.
        let append_ms = batch.max_timestamp();
        self.producers
            .apply(batch, control, append_ms, producers_max);
    }

    /// As a footer holds it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.producers.encode(&mut out);
        out
    }

    /// Reads what [`ProducerSnapshot::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let producers = Producers::decode(&mut reader)?;
        reader.finish()?;
        Ok(Self { producers })
    }
}

impl PartitionLog {
    /// What there is to upload between `from` and `up_to`. A segment that `from` lies in counts from there on as a share of its
    /// bytes.
    pub fn uploadable(&self, from: Offset, up_to: Offset) -> Uploadable {
        self.with_state(|state| {
            let mut found = Uploadable {
                sealed_bytes: 0,
                bytes: 0,
            };
            let last = state.segments.len() - 1;
            for (at, segment) in state.segments.iter().enumerate() {
                if segment.next_offset <= from || segment.base >= up_to {
                    continue;
                }
                let records = (segment.next_offset - segment.base).max(1) as u64;
                let wanted = segment.next_offset.min(up_to) - segment.base.max(from);
                let bytes = u64::from(segment.size) * wanted as u64 / records;
                found.bytes += bytes;
                if at < last && segment.next_offset <= up_to {
                    found.sealed_bytes += bytes;
                }
            }
            found
        })
    }

    /// Whether what is appended now skips the write-ahead log. It follows `flush.messages` with a delay.
    pub fn skips_wal(&self) -> bool {
        self.with_state(|state| state.unlogged)
    }

    /// Every leader epoch of the log that begins below `end`.
    pub fn epochs_below(&self, end: Offset) -> Vec<EpochStart> {
        self.with_state(|state| {
            let entries = state.epochs.entries().iter();
            entries
                .take_while(|entry| entry.start < end)
                .copied()
                .collect()
        })
    }

    /// Syncs what is in segment files. A log that skips the write-ahead log has nothing else that makes it durable.
    pub fn sync(&self) -> Result<(), LogError> {
        // What was written may be lost from here on, whatever a later sync says.
        let synced = self.sync_files().inspect_err(|_| self.shared.fail());
        synced.map_err(|error| LogError::Io {
            path: error.path,
            source: error.source,
        })
    }
}
