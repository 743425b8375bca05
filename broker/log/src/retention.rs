//! What makes a log begin later: age, size, DeleteRecords.
//!
//! The write-ahead log knows before a file vanishes: the drain unlinks segments once the entry that dropped them is
//! durable. In a tiered log these only move the log's start; what is on this disk is trimmed on its own, and nothing that is
//! not in the tier.

use tidemill_records::Offset;
use tidemill_storage::wal::{Lsn, WalError};

use crate::drain::{Command, FileChange, FileChangeKind};
use crate::error::LogError;
use crate::partition_log::PartitionLog;
use crate::segment::Segment;
use crate::state::State;
use crate::wal_entry::Change;

/// What one round of retention did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionReport {
    /// Segments dropped.
    pub segments: usize,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Idempotent producers forgotten.
    pub producers: usize,
}

impl PartitionLog {
    /// Drops segments below the high watermark that `retention.ms`, `retention.bytes` or the log start offset
    /// give up, oldest first, and forgets silent producers. Where all are expired, the active one is rolled first. Returns
    /// at once; files are removed by the drain.
    pub fn apply_retention(&self, now_ms: i64) -> Result<RetentionReport, LogError> {
        let high_watermark = self.high_watermark();
        let expiration_ms = self.shared.config.producer_id_expiration_ms;
        let report = self.with_state(|state| {
            if state.deleted || state.offline.is_some() {
                return Ok(RetentionReport::default());
            }
            let producers = state.producers.expire(now_ms, expiration_ms);
            // Where nothing more is uploaded, what is not in the tier never will be.
            let waits_for_tier = state.config.tiered && !state.config.remote_copy_disabled;
            let expired = match waits_for_tier {
                true => 0,
                false => expired_segments(state, &Keep::of_log(state), high_watermark, now_ms),
            };
            let mut report = RetentionReport {
                producers,
                ..RetentionReport::default()
            };
            if expired == 0 {
                return Ok(report);
            }
            let start = self.end_of_expired(state, expired, now_ms, &mut report)?;
            let start = start.max(state.log_start);
            self.advance_start(state, start, start)?;
            Ok::<_, WalError>(report)
        })?;
        if report.segments > 0 {
            tracing::info!(
                partition = %self.partition(), segments = report.segments, bytes = report.bytes,
                "retention dropped segments"
            );
        }
        self.note_changed();
        Ok(report)
    }

    /// Whether [`Self::trim_local`] would drop anything.
    pub fn wants_trim(&self, floor: Offset, bytes_max: Option<u64>, now_ms: i64) -> bool {
        self.with_state(|state| {
            let is_trimmed = state.config.tiered && !state.deleted && state.offline.is_none();
            let keep = Keep::of_disk(state, bytes_max);
            is_trimmed && expired_segments(state, &keep, floor, now_ms) > 0
        })
    }

    /// Drops segments of a tiered log from this disk that end at or below `floor`, where `local.retention.ms` or
    /// `local.retention.bytes` give them up, or where at most `bytes_max` of the log may stay. The log itself begins where it began.
    pub fn trim_local(
        &self,
        floor: Offset,
        bytes_max: Option<u64>,
        now_ms: i64,
    ) -> Result<RetentionReport, LogError> {
        let report = self.with_state(|state| {
            let mut report = RetentionReport::default();
            if state.deleted || state.offline.is_some() || !state.config.tiered {
                return Ok(report);
            }
            let keep = Keep::of_disk(state, bytes_max);
            let expired = expired_segments(state, &keep, floor, now_ms);
            if expired == 0 {
                return Ok(report);
            }
            let start = self.end_of_expired(state, expired, now_ms, &mut report)?;
            self.advance_start(state, state.log_start, start)?;
            Ok::<_, WalError>(report)
        })?;
        if report.segments > 0 {
            self.note_changed();
        }
        Ok(report)
    }

    /// Lets the log begin at `offset`, which is not above the high watermark (DeleteRecords). Durable once the write-ahead log is
    /// durable up to the position that this gives. An offset below the log's start changes nothing.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Lsn, LogError> {
        let high_watermark = self.high_watermark();
        let lsn = self.with_state(|state| {
            if let Some(offline) = self.offline_of(state) {
                return Err(offline.into());
            }
            if offset > high_watermark || offset < Offset::ZERO {
                return Err(LogError::OutOfRange {
                    offset,
                    start: state.log_start,
                    end: high_watermark,
                });
            }
            match offset <= state.log_start {
                true => Ok(state.last_lsn),
                false => Ok(self.advance_start(state, offset, offset)?),
            }
        })?;
        self.note_changed();
        Ok(lsn)
    }

    /// Where the log goes on behind segments that expired. Where that is all of them, the active one is rolled first.
    fn end_of_expired(
        &self,
        state: &mut State,
        expired: usize,
        now_ms: i64,
        report: &mut RetentionReport,
    ) -> Result<Offset, WalError> {
        if expired == state.segments.len() {
            let base = state.log_end;
            self.log_change(state, Change::Roll { base })?;
            state.roll(base, now_ms);
        }
        for segment in state.segments.iter().take(expired) {
            report.segments += 1;
            report.bytes += u64::from(segment.size);
        }
        Ok(state.segments[expired].base)
    }

    fn advance_start(
        &self,
        state: &mut State,
        log_start: Offset,
        local_log_start: Offset,
    ) -> Result<Lsn, WalError> {
        let change = Change::LogStart {
            log_start,
            local_log_start,
        };
        let lsn = self.log_change(state, change)?;
        let dropped = state.advance_start(log_start, local_log_start);
        self.note_start(state);
        self.drop_segments(state, &dropped, lsn);
        // What is left of a segment that begins before the start must still be drained.
        let first = state.segments.front();
        let first = first.map_or(local_log_start, |segment| segment.base);
        let freed = state.tail.evict(first);
        self.shared.sub_cached(freed);
        Ok(lsn)
    }

    /// Has the files of segments removed that are dropped, under the log's lock, by the entry that ends at `lsn`.
    pub(crate) fn drop_segments(&self, state: &mut State, dropped: &[Segment], lsn: Lsn) {
        if dropped.is_empty() {
            return;
        }
        self.forget_undrained(dropped);
        let bases = dropped.iter().map(|segment| segment.base).collect();
        self.change_files(state, lsn, FileChangeKind::Unlink(bases));
    }

    /// Orders a change of files, under the log's lock.
    pub(crate) fn change_files(&self, state: &mut State, lsn: Lsn, kind: FileChangeKind) {
        state.file_changes_pending += 1;
        let change = FileChange {
            log: self.arc(),
            lsn,
            kind,
        };
        self.shared.drain.push_command(Command::Change(change));
    }

    pub(crate) fn note_changed(&self) {
        self.shared
            .checkpoint
            .note_change(&self.shared.timer, &self.shared.config);
    }
}

/// What is to be kept of a log, or of it on this disk.
struct Keep {
    ms: Option<i64>,
    bytes: Option<u64>,
}

impl Keep {
    fn of_log(state: &State) -> Keep {
        let config = &state.config;
        Keep {
            ms: config.retention_ms.filter(|_| config.delete_by_retention),
            bytes: config
                .retention_bytes
                .filter(|_| config.delete_by_retention),
        }
    }

    fn of_disk(state: &State, bytes_max: Option<u64>) -> Keep {
        let config = &state.config;
        let bounds = [config.local_retention_bytes, bytes_max];
        Keep {
            ms: config.local_retention_ms,
            bytes: bounds.into_iter().flatten().min(),
        }
    }
}

/// How many segments go, from the first on, none that ends above `floor`. All of them only where the active one has something
/// to go.
fn expired_segments(state: &State, keep: &Keep, floor: Offset, now_ms: i64) -> usize {
    let mut excess_bytes = keep
        .bytes
        .map_or(0, |max| state.size_bytes().saturating_sub(max));
    let mut expired = 0;
    for (at, segment) in state.segments.iter().enumerate() {
        let is_active = at + 1 == state.segments.len();
        if segment.next_offset > floor || (is_active && segment.size == 0) {
            break;
        }
        let size = u64::from(segment.size);
        let too_old = keep
            .ms
            .is_some_and(|ms| now_ms.saturating_sub(segment.newest_ms()) > ms);
        let too_much = excess_bytes > 0 && excess_bytes >= size;
        let below_start = segment.next_offset <= state.log_start && !is_active;
        if !(too_old || too_much || below_start) {
            break;
        }
        excess_bytes = excess_bytes.saturating_sub(size);
        expired += 1;
    }
    expired
}
