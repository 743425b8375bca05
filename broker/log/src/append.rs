//! Appending: every check before anything changes, then one write-ahead log entry, then memory. Cost is per batch, never per
//! record; batches stay closed unless the topic needs to look into them.

use std::io::IoSlice;

use tidemill_records::{
    ControlRecord, DecodeLimit, LeaderEpoch, Offset, RecordBatch, TimestampType,
};
use tidemill_storage::wal::Lsn;

use crate::config::LogConfig;
use crate::error::AppendError;
use crate::partition_log::{AfterAppend, PartitionLog};
use crate::producers::{Producer, Producers, Verdict, check_data, check_marker};
use crate::segment::Incoming;
use crate::shared::Shared;
use crate::state::State;
use crate::wal_entry::{APPEND_HEAD_BYTES, AppendHead, encode_append_head};

/// What checking timestamps may decompress a batch to, in multiples of `max.message.bytes`.
const DECODED_FACTOR_MAX: usize = 16;

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer: its sequence numbers are checked, and it may write no control batches.
    Client,
    /// A coordinator of this broker: its batches carry no sequence numbers, and may be transaction markers.
    Coordinator,
}

/// Where batches went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The offset after the last record.
    pub next_offset: Offset,
    /// Durable once the write-ahead log is durable up to here. Where it is skipped, that of the last change that did
    /// not skip it.
    pub lsn: Lsn,
    /// What the records were stamped with where the topic does so, in ms since the epoch; else -1.
    pub log_append_time_ms: i64,
    /// The log's first offset.
    pub log_start_offset: Offset,
    /// The batches were in the log already: these are their original offsets.
    pub duplicate: bool,
}

impl PartitionLog {
    /// Appends batches one after the other, or none of them. They are readable at once, and durable once
    /// [`AppendInfo::lsn`] is. Call [`crate::LogDir::admit`] before.
    pub fn append_as_leader(
        &self,
        batches: Vec<RecordBatch>,
        leader_epoch: LeaderEpoch,
        origin: AppendOrigin,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        self.append_from_frame(batches, leader_epoch, origin, now_ms, 0)
    }

    /// [`Self::append_as_leader`] of batches whose bodies are part of a larger buffer. `pinned_bytes` is about how much of it one
    /// of these batches keeps alive: the frame's bytes, divided by the number of large batches in it. Where that
    /// is much more than a batch, it is copied, so that the log's cache does not keep the buffer.
    pub fn append_from_frame(
        &self,
        mut batches: Vec<RecordBatch>,
        leader_epoch: LeaderEpoch,
        origin: AppendOrigin,
        now_ms: i64,
        pinned_bytes: usize,
    ) -> Result<AppendInfo, AppendError> {
        let config = self.config();
        let bytes = check_batches(&self.shared, &batches, &config, origin, now_ms)?;
        if config.timestamp_type == TimestampType::LogAppendTime {
            for batch in &mut batches {
                batch.set_log_append_time(now_ms);
            }
        }
        let appending = Appending {
            controls: control_records(&batches)?,
            stamped_ms: match config.timestamp_type {
                TimestampType::CreateTime => -1,
                TimestampType::LogAppendTime => now_ms,
            },
            pinned_bytes,
            batches,
            bytes,
            leader_epoch,
            origin,
            now_ms,
        };
        let (info, after) = self.with_state(|state| appending.run(self, state))?;
        if let Some(after) = after {
            self.after_append(after);
        }
        Ok(info)
    }
}

/// What needs no lock. Gives the bytes of all batches.
fn check_batches(
    shared: &Shared,
    batches: &[RecordBatch],
    config: &LogConfig,
    origin: AppendOrigin,
    now_ms: i64,
) -> Result<usize, AppendError> {
    if batches.is_empty() {
        return Err(AppendError::InvalidRecord);
    }
    let mut bytes = 0;
    for batch in batches {
        if batch.is_control() && origin == AppendOrigin::Client {
            return Err(AppendError::InvalidRecord);
        }
        let max = config.max_message_bytes;
        if batch.size_bytes() > max {
            return Err(AppendError::MessageTooLarge {
                bytes: batch.size_bytes(),
                max,
            });
        }
        if config.timestamp_type == TimestampType::CreateTime {
            check_create_time(shared, batch, config, now_ms)?;
        }
        if config.compact && origin == AppendOrigin::Client {
            check_keys(shared, batch, config)?;
        }
        bytes += batch.size_bytes();
    }
    let max = config.segment_bytes as usize;
    match bytes > max {
        true => Err(AppendError::RecordListTooLarge { bytes, max }),
        false => Ok(bytes),
    }
}

/// The header's max timestamp tells whether any record is too new. Only a topic that bounds how old records may be has its batches
/// opened. Records without a timestamp are fine.
fn check_create_time(
    shared: &Shared,
    batch: &RecordBatch,
    config: &LogConfig,
    now_ms: i64,
) -> Result<(), AppendError> {
    let earliest = now_ms.saturating_sub(config.timestamp_before_max_ms);
    let latest = now_ms.saturating_add(config.timestamp_after_max_ms);
    let refused = |timestamp| {
        Err(AppendError::InvalidTimestamp {
            timestamp,
            earliest,
            latest,
        })
    };
    if batch.max_timestamp() > latest {
        return refused(batch.max_timestamp());
    }
    if config.timestamp_before_max_ms != i64::MAX {
        let limit = config.max_message_bytes.saturating_mul(DECODED_FACTOR_MAX);
        let _alone = shared.opens_alone(batch);
        for record in batch.records(DecodeLimit(limit))? {
            let timestamp = record?.timestamp;
            if timestamp >= 0 && !(earliest..=latest).contains(&timestamp) {
                return refused(timestamp);
            }
        }
    }
    Ok(())
}

fn check_keys(shared: &Shared, batch: &RecordBatch, config: &LogConfig) -> Result<(), AppendError> {
    let limit = config.max_message_bytes.saturating_mul(DECODED_FACTOR_MAX);
    let _alone = shared.opens_alone(batch);
    match batch.validate_records(DecodeLimit(limit))?.keyless_records {
        0 => Ok(()),
        _ => Err(AppendError::Keyless),
    }
}

/// One per batch, or nothing where no batch is a control batch.
fn control_records(batches: &[RecordBatch]) -> Result<Vec<Option<ControlRecord>>, AppendError> {
    if !batches.iter().any(|batch| batch.is_control()) {
        return Ok(Vec::new());
    }
    let controls = batches.iter().map(RecordBatch::control_record);
    Ok(controls.collect::<Result<_, _>>()?)
}

/// An append that has passed the checks that need no lock.
struct Appending {
    batches: Vec<RecordBatch>,
    controls: Vec<Option<ControlRecord>>,
    bytes: usize,
    pinned_bytes: usize,
    leader_epoch: LeaderEpoch,
    origin: AppendOrigin,
    now_ms: i64,
    stamped_ms: i64,
}

impl Appending {
    fn run(
        mut self,
        log: &PartitionLog,
        state: &mut State,
    ) -> Result<(AppendInfo, Option<AfterAppend>), AppendError> {
        self.check_log(log, state)?;
        if let Some(duplicate) = self.check_producers(state)? {
            return Ok((duplicate, None));
        }
        let base_offset = state.log_end;
        let next_offset = self.assign(base_offset)?;
        let rolls = self.needs_roll(state, next_offset);
        let lsn = self.write_ahead(log, state, rolls)?;
        // From here on nothing can fail.
        if rolls {
            state.roll(base_offset, self.now_ms);
        }
        self.apply(&log.shared, state);
        let after = log.note_appended(state, lsn, self.bytes);
        let info = AppendInfo {
            base_offset,
            next_offset,
            lsn,
            log_append_time_ms: self.stamped_ms,
            log_start_offset: state.log_start,
            duplicate: false,
        };
        Ok((info, Some(after)))
    }

    fn check_log(&self, log: &PartitionLog, state: &State) -> Result<(), AppendError> {
        if let Some(offline) = log.offline_of(state) {
            return Err(offline.into());
        }
        if state.deleted {
            return Err(AppendError::Deleted);
        }
        if log.shared.has_failed() {
            return Err(AppendError::DirFailed);
        }
        match state.epochs.latest() {
            current if self.leader_epoch < current => Err(AppendError::FencedLeaderEpoch {
                found: self.leader_epoch.0,
                current: current.0,
            }),
            _ => Ok(()),
        }
    }

    /// Checks every batch against its producer's state, earlier batches of this append included. A duplicate
    /// anywhere makes the append one.
    fn check_producers(&self, state: &State) -> Result<Option<AppendInfo>, AppendError> {
        let mut earlier: Vec<(i64, Producer)> = Vec::new();
        for (at, batch) in self.batches.iter().enumerate() {
            let id = batch.producer_id();
            if !id.is_some() {
                continue;
            }
            let previewed = earlier.iter().rev().find(|(earlier, _)| *earlier == id.0);
            let producer = match previewed {
                Some((_, producer)) => Some(producer),
                None => state.producers.get(id),
            };
            if batch.is_control() {
                if let Some(Some(ControlRecord::Commit(end) | ControlRecord::Abort(end))) =
                    self.controls.get(at)
                {
                    check_marker(producer, batch, end.coordinator_epoch)?;
                }
                continue;
            }
            let sequenced = self.origin == AppendOrigin::Client;
            match check_data(producer, batch, sequenced)? {
                Verdict::Append => {}
                Verdict::Duplicate(mark) => {
                    return Ok(Some(AppendInfo {
                        base_offset: Offset(mark.base_offset),
                        next_offset: Offset(mark.next_offset),
                        // The original may not be durable yet; the log's last entry is not before it.
                        lsn: state.last_lsn,
                        log_append_time_ms: match self.stamped_ms {
                            -1 => -1,
                            _ => mark.timestamp,
                        },
                        log_start_offset: state.log_start,
                        duplicate: true,
                    }));
                }
            }
            if at + 1 < self.batches.len() {
                earlier.push((id.0, Producers::preview(producer, batch)));
            }
        }
        Ok(None)
    }

    fn assign(&mut self, base_offset: Offset) -> Result<Offset, AppendError> {
        let mut next = base_offset;
        for batch in &mut self.batches {
            let records = batch.next_offset() - batch.base_offset();
            let end = next.0.checked_add(records);
            let end = end.ok_or(AppendError::OffsetsExhausted)?;
            batch.assign(next, self.leader_epoch);
            next = Offset(end);
        }
        Ok(next)
    }

    fn needs_roll(&self, state: &State, next_offset: Offset) -> bool {
        let max_timestamp = self.batches.iter().map(|batch| batch.max_timestamp()).max();
        let incoming = Incoming {
            bytes: self.bytes,
            max_timestamp: max_timestamp.unwrap_or(-1),
            last_offset: next_offset + -1,
            now_ms: self.now_ms,
        };
        state.active().is_full_for(&incoming, &state.roll_rules())
    }

    fn write_ahead(
        &self,
        log: &PartitionLog,
        state: &mut State,
        rolls: bool,
    ) -> Result<Lsn, AppendError> {
        if state.unlogged {
            return Ok(state.last_lsn);
        }
        let (segment_base, position) = match rolls {
            true => (state.log_end, 0),
            false => (state.active().base, state.active().size),
        };
        let head = AppendHead {
            leader_epoch: self.leader_epoch,
            segment_base,
            position,
            append_time_ms: self.now_ms,
        };
        let head = encode_append_head(log.key(), &head);
        let max = log.shared.wal.payload_bytes_max() as usize;
        if APPEND_HEAD_BYTES + self.bytes > max {
            return Err(AppendError::RecordListTooLarge {
                bytes: self.bytes,
                max: max - APPEND_HEAD_BYTES,
            });
        }
        let lsn = match &self.batches[..] {
            [one] => log.shared.wal.append(&[
                IoSlice::new(&head),
                IoSlice::new(one.header()),
                IoSlice::new(one.body()),
            ])?,
            many => {
                let mut parts = Vec::with_capacity(1 + 2 * many.len());
                parts.push(IoSlice::new(&head));
                for batch in many {
                    parts.push(IoSlice::new(batch.header()));
                    parts.push(IoSlice::new(batch.body()));
                }
                log.shared.wal.append(&parts)?
            }
        };
        state.last_lsn = lsn;
        Ok(lsn)
    }

    fn apply(&self, shared: &Shared, state: &mut State) {
        for (at, batch) in self.batches.iter().enumerate() {
            let active = state.active();
            let (segment, position) = (active.base, active.size);
            state.tail.push(batch, segment, position, self.pinned_bytes);
            let control = self.controls.get(at).copied().flatten();
            let producers_max = shared.config.producers_per_partition_max;
            state.apply(batch, control, self.now_ms, producers_max);
        }
        shared.add_appended(self.bytes);
    }
}
