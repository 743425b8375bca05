//! What the checkpoint and the write-ahead log say that segment files hold, without changing anything.

use std::collections::HashMap;

use tidemill_records::{Offset, TopicPartition};
use tidemill_storage::fs::Fs;
use tidemill_storage::wal::{Lsn, Wal, WalOpenError};

use crate::checkpoint::PartitionEntry;
use crate::config::LogDirConfig;
use crate::error::LogError;
use crate::recovery::{malformed, read_checkpoint};
use crate::wal_entry::{Change, LogKey, WalEntry};

/// The segments that a partition has for certain.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Base offset and bytes that are synced, in order.
    pub(super) segments: Vec<(Offset, u32)>,
    /// The first place that later writes may have changed: the next start settles what follows. None when there
    /// were none.
    pub(super) loose: Option<(Offset, u32)>,
    last_lsn: Lsn,
}

/// All partitions that a start would find.
pub(super) fn read(
    fs: &dyn Fs,
    config: &LogDirConfig,
) -> Result<HashMap<TopicPartition, Expected>, LogError> {
    let log_config = std::sync::Arc::new(config.recovered_config.clone());
    let (from, entries) = read_checkpoint(fs, &config.dir, &log_config)?;
    let mut partitions: HashMap<LogKey, (TopicPartition, Expected)> = HashMap::new();
    for entry in entries {
        let key = LogKey {
            topic_id: entry.topic_id,
            partition: entry.partition.partition,
        };
        let expected = Expected::at_checkpoint(&entry);
        partitions.insert(key, (entry.partition, expected));
    }
    let mut visit = |lsn: Lsn, payload: &[u8]| {
        let entry = WalEntry::decode(payload).map_err(malformed)?;
        match entry.change {
            Change::Create { topic, .. } => {
                partitions.entry(entry.key).or_insert_with(|| {
                    let partition = TopicPartition::new(topic, entry.key.partition);
                    (partition, Expected::new_at(lsn))
                });
            }
            Change::Delete { .. } => {
                partitions.remove(&entry.key);
            }
            change => {
                if let Some((_, expected)) = partitions.get_mut(&entry.key) {
                    expected.apply(lsn, &change);
                }
            }
        }
        Ok(())
    };
    Wal::read(fs, &config.wal, from, &mut visit).map_err(|error| match error {
        WalOpenError::Log(fault) => LogError::WalFault(fault),
        WalOpenError::Visit(error) => error,
    })?;
    Ok(partitions.into_values().collect())
}

impl Expected {
    fn at_checkpoint(entry: &PartitionEntry) -> Expected {
        let state = &entry.state;
        let segments = state.segments.iter();
        let segments = segments.map(|segment| (segment.base, segment.size));
        let active = state.active();
        Expected {
            segments: segments.collect(),
            loose: state.unlogged.then_some((active.base, active.size)),
            last_lsn: state.last_lsn,
        }
    }

    fn new_at(lsn: Lsn) -> Expected {
        Expected {
            loose: Some((Offset::ZERO, 0)),
            last_lsn: lsn,
            ..Expected::default()
        }
    }

    fn apply(&mut self, lsn: Lsn, change: &Change<'_>) {
        if lsn <= self.last_lsn {
            return;
        }
        let end = self.segments.last().copied().unwrap_or((Offset::ZERO, 0));
        match *change {
            Change::Truncate {
                segment_base,
                position,
                ..
            } => {
                self.segments.retain(|(base, _)| *base <= segment_base);
                self.loosen((segment_base, position));
            }
            Change::Restart { start } => {
                self.segments = vec![(start, 0)];
                self.loosen((Offset::ZERO, 0));
            }
            Change::LogStart {
                local_log_start, ..
            } => {
                // A segment that ends where the log begins goes; the last one stays.
                let kept = self
                    .segments
                    .partition_point(|(base, _)| *base <= local_log_start);
                self.segments.drain(..kept.saturating_sub(1));
                self.loosen(end);
            }
            Change::Append { head, .. } => {
                self.loosen(end);
                self.begin_segment(head.segment_base);
            }
            Change::Roll { base } => {
                self.loosen(end);
                self.begin_segment(base);
            }
            Change::Unlogged { .. } => self.loosen(end),
            Change::Offline { .. } => {}
            Change::Create { .. } | Change::Delete { .. } => {
                unreachable!("the caller deals with partitions that come and go")
            }
        }
    }

    fn begin_segment(&mut self, base: Offset) {
        if self.segments.last().is_none_or(|last| last.0 < base) {
            self.segments.push((base, 0));
        }
    }

    fn loosen(&mut self, from: (Offset, u32)) {
        self.loose = Some(self.loose.map_or(from, |loose| loose.min(from)));
    }

    /// How many bytes of a segment are certain, and whether that is all of it. None for one that is not known.
    pub(super) fn certain(&self, base: Offset) -> Option<(u32, bool)> {
        let at = self
            .segments
            .binary_search_by_key(&base, |segment| segment.0);
        let (_, size) = self.segments[at.ok()?];
        Some(match self.loose {
            Some((loose, _)) if base > loose => (0, false),
            Some((loose, position)) if base == loose => (position.min(size), false),
            _ => (size, true),
        })
    }
}
