//! What makes a log begin later: age, size, DeleteRecords.
//!
//! The write-ahead log knows before a file vanishes: the drain unlinks segments once the entry that dropped them is
//! durable. Local trimming by the tier will be one more bound here: nothing above what is remote and exported goes.

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
            let expired = expired_segments(state, high_watermark, now_ms);
            let mut report = RetentionReport {
                producers,
                ..RetentionReport::default()
            };
            if expired == 0 {
                return Ok(report);
            }
            if expired == state.segments.len() {
                let base = state.log_end;
                self.log_change(state, Change::Roll { base })?;
                state.roll(base, now_ms);
            }
            let start = state.segments[expired].base.max(state.log_start);
            for segment in state.segments.iter().take(expired) {
                report.segments += 1;
                report.bytes += u64::from(segment.size);
            }
            self.advance_start(state, start)?;
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
                false => Ok(self.advance_start(state, offset)?),
            }
        })?;
        self.note_changed();
        Ok(lsn)
    }

    fn advance_start(&self, state: &mut State, start: Offset) -> Result<Lsn, WalError> {
        let change = Change::LogStart {
            log_start: start,
            local_log_start: start,
        };
        let lsn = self.log_change(state, change)?;
        let dropped = state.advance_start(start, start);
        self.note_start(state);
        self.drop_segments(state, &dropped, lsn);
        // What is left of a segment that begins before the start must still be drained.
        let first = state.segments.front().map_or(start, |segment| segment.base);
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

/// How many segments go, from the first on. All of them only where the active one has something to go.
fn expired_segments(state: &State, high_watermark: Offset, now_ms: i64) -> usize {
    let config = &state.config;
    let retention_ms = config.retention_ms.filter(|_| config.delete_by_retention);
    let retention_bytes = config
        .retention_bytes
        .filter(|_| config.delete_by_retention);
    let mut excess_bytes = retention_bytes.map_or(0, |max| state.size_bytes().saturating_sub(max));
    let mut expired = 0;
    for (at, segment) in state.segments.iter().enumerate() {
        let is_active = at + 1 == state.segments.len();
        if segment.next_offset > high_watermark || (is_active && segment.size == 0) {
            break;
        }
        let size = u64::from(segment.size);
        let too_old =
            retention_ms.is_some_and(|ms| now_ms.saturating_sub(segment.newest_ms()) > ms);
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
