//! One partition while the write-ahead log is replayed: its state, its files, and what is wrong with them.

use std::collections::BTreeSet;
use std::io;

use tidemill_records::{BatchHeader, BatchRules, ControlRecord, Offset, RecordBatch};

use super::malformed;
use crate::checkpoint::PartitionEntry;
use crate::config::LogDirConfig;
use crate::error::{FormatError, LogError, OfflineCause};
use crate::producers::Producers;
use crate::replay_files::ReplayFiles;
use crate::scan::{Scan, ScanEnd};
use crate::segment::Segment;
use crate::truncate::{WalkError, walk};
use crate::wal_entry::{AppendHead, Change};

/// A partition while entries are replayed.
pub(super) struct Replayed {
    pub(super) entry: PartitionEntry,
    pub(super) files: ReplayFiles,
    pub(super) touched: bool,
    /// The files lack something; a later entry may say that it is not needed.
    suspicion: Option<OfflineCause>,
    /// Segments that were cut.
    recount: BTreeSet<Offset>,
}

impl Replayed {
    pub(super) fn new(entry: PartitionEntry, files: ReplayFiles) -> Replayed {
        Replayed {
            entry,
            files,
            touched: false,
            suspicion: None,
            recount: BTreeSet::new(),
        }
    }

    /// Looks at the files of a partition that has changed since the checkpoint, once.
    pub(super) fn touch(&mut self) {
        if std::mem::replace(&mut self.touched, true) {
            return;
        }
        let active = self.entry.state.active();
        self.suspicion = self.files.check(active.base, active.size.into());
        self.files.begin_at(active.base);
    }

    /// What was not touched is not looked at, but for the file that the next append goes to: written to, it would no longer
    /// tell that it lacks something.
    pub(super) fn look_at_active(&mut self) {
        if !self.touched {
            let active = self.entry.state.active();
            let cause = self.files.check(active.base, active.size.into());
            self.entry.state.offline = self.entry.state.offline.or(cause);
        }
    }

    /// Takes a partition out of quarantine whose file was put back: every byte of it is there and right.
    pub(super) fn heal(&mut self) {
        let state = &mut self.entry.state;
        let Some(OfflineCause::SegmentMissing { base } | OfflineCause::SegmentShort { base, .. }) =
            state.offline
        else {
            return;
        };
        let size = state.segment_mut(base).map_or(0, |segment| segment.size);
        let Ok(file) = self.files.open_log(base) else {
            return;
        };
        let mut scan = Scan::new(&*file, 0, size.into());
        loop {
            match scan.next_batch() {
                Ok(Some(_)) => {}
                Ok(None) if scan.position() == u64::from(size) => break,
                Ok(None) | Err(_) => return,
            }
        }
        tracing::info!(partition = %self.entry.partition, "the segment was put back, the partition is online");
        state.offline = None;
    }

    pub(super) fn sync_segments(&self) -> io::Result<()> {
        for segment in &self.entry.state.segments {
            match self.files.open_log(segment.base) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => file?.sync_data()?,
            }
        }
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        change: Change<'_>,
        producers_max: usize,
        now_ms: i64,
        torn_bytes: &mut u64,
    ) -> Result<(), LogError> {
        let state = &mut self.entry.state;
        match change {
            Change::Append { head, batches } => self.append(&head, batches, producers_max)?,
            Change::Truncate {
                end,
                segment_base,
                position,
            } => {
                self.truncate(end, segment_base, position);
            }
            Change::Restart { start } => {
                let dropped = state.restart_at(start, now_ms);
                self.files.unlink(&dropped);
                self.files.begin_at(start);
                self.suspicion = None;
            }
            Change::Roll { base } => state.roll(base, now_ms),
            Change::LogStart {
                log_start,
                local_log_start,
            } => {
                self.files.write_buffered();
                let dropped = state.advance_start(log_start, local_log_start);
                self.files.unlink(&dropped);
                if self
                    .suspicion
                    .is_some_and(|cause| concerns(&cause, &dropped))
                {
                    self.suspicion = None;
                }
            }
            Change::Unlogged {
                unlogged,
                segment_base,
                position,
            } => {
                if state.unlogged && !unlogged {
                    self.scan_to(segment_base, position, producers_max, now_ms, torn_bytes);
                }
                self.entry.state.unlogged = unlogged;
            }
            Change::Offline { cause } => {
                state.offline.get_or_insert(cause);
            }
            Change::Create { .. } | Change::Delete { .. } => {
                unreachable!("the caller deals with partitions that come and go")
            }
        }
        Ok(())
    }

    fn append(
        &mut self,
        head: &AppendHead,
        batches: &[u8],
        producers_max: usize,
    ) -> Result<(), LogError> {
        let state = &mut self.entry.state;
        let first = BatchHeader::read(batches).map_err(|_| malformed(FormatError::Batches))?;
        if head.segment_base != state.active().base {
            state.roll(head.segment_base, head.append_time_ms);
        }
        let active = state.active();
        let place = (active.base, active.size, state.log_end);
        if place != (head.segment_base, head.position, first.base_offset()) {
            let gap = OfflineCause::Gap {
                entry: first.base_offset(),
                end: state.log_end,
            };
            // Nothing that follows can be placed either.
            state.offline.get_or_insert(gap);
            return Ok(());
        }
        let mut rest = batches;
        while !rest.is_empty() {
            let header = BatchHeader::read(rest).map_err(|_| malformed(FormatError::Batches))?;
            let (bytes, after) = rest
                .split_at_checked(header.size_bytes())
                .ok_or_else(|| malformed(FormatError::Batches))?;
            state.apply(
                &header,
                control_record(&header, bytes),
                head.append_time_ms,
                producers_max,
            );
            rest = after;
        }
        self.files.push(head.segment_base, head.position, batches);
        Ok(())
    }

    fn truncate(&mut self, end: Offset, base: Offset, position: u32) {
        self.files.write_buffered();
        let dropped = self.entry.state.cut_at(end, base, position);
        self.files.unlink(&dropped);
        self.files.begin_at(base);
        // What was missing lies perhaps behind the cut.
        self.suspicion = self.files.check(base, position.into());
        self.recount.insert(base);
    }

    /// Counts anew what cuts have left unknown.
    pub(super) fn recount(&mut self, producers_max: usize) {
        if self.recount.is_empty() {
            return;
        }
        self.files.write_buffered();
        if let Err(error) = self.try_recount(producers_max) {
            tracing::error!(partition = %self.entry.partition, ?error, "cannot read a log that was cut");
            self.entry
                .state
                .offline
                .get_or_insert(OfflineCause::Unusable);
        }
    }

    fn try_recount(&mut self, producers_max: usize) -> Result<(), WalkError> {
        let state = &mut self.entry.state;
        let interval = state.config.index_interval_bytes;
        let last = state.segments.len() - 1;
        let mut producers = Producers::default();
        for (at, segment) in state.segments.iter_mut().enumerate() {
            let (base, append_ms) = (segment.base, segment.last_append_ms);
            let mut counted = Segment::new(base, segment.created_ms);
            if segment.size > 0 {
                let file = self.files.open_log(base);
                let file = file.map_err(|error| WalkError::cannot_open(base, error))?;
                walk(&*file, base, segment.size.into(), &mut |batch| {
                    counted.push(batch, interval, append_ms);
                    let control = batch.control_record().ok().flatten();
                    producers.apply(batch, control, append_ms, producers_max);
                })?;
            }
            if self.recount.contains(&base) {
                if at < last {
                    counted.seal();
                }
                *segment = counted;
            }
        }
        producers.transactions.truncate_start(state.log_start);
        state.producers = producers;
        Ok(())
    }

    pub(super) fn write_buffered(&mut self) {
        self.files.write_buffered();
    }

    /// Takes in what segment files hold up to a place, of appends that have skipped the write-ahead log.
    fn scan_to(
        &mut self,
        base: Offset,
        position: u32,
        producers_max: usize,
        now_ms: i64,
        torn_bytes: &mut u64,
    ) {
        loop {
            let active = self.entry.state.active();
            let (at, size) = (active.base, active.size);
            if at > base || (at == base && size >= position) {
                break;
            }
            let to = (at == base).then(|| u64::from(position));
            self.scan_segment(to, producers_max, now_ms, torn_bytes);
            let state = &mut self.entry.state;
            let grown = state.active().size > size;
            if at != base && self.files.has_segment(state.log_end) {
                state.roll(state.log_end, now_ms);
            } else if !grown || at == base {
                break;
            }
        }
        let (active, end) = (self.entry.state.active(), self.entry.state.log_end);
        let begins_segment = position == 0 && base == end;
        if (active.base, active.size) != (base, position) && !begins_segment {
            let gap = OfflineCause::Gap {
                entry: base,
                end: self.entry.state.log_end,
            };
            self.entry.state.offline.get_or_insert(gap);
        }
    }

    /// Takes in what segment files hold beyond what is known, and cuts off the torn end, as Kafka does.
    pub(super) fn scan_rest(&mut self, config: &LogDirConfig, now_ms: i64, torn_bytes: &mut u64) {
        let producers_max = config.producers_per_partition_max;
        self.files.write_buffered();
        loop {
            let torn = self.scan_segment(None, producers_max, now_ms, torn_bytes);
            let state = &mut self.entry.state;
            let next = state.log_end;
            if torn || next == state.active().base || !self.files.has_segment(next) {
                break;
            }
            state.roll(next, now_ms);
        }
        self.files.unlink_after(self.entry.state.active().base);
    }

    /// Takes in batches of the active segment's file, to its end or `to`. True when the rest of the file is torn.
    fn scan_segment(
        &mut self,
        to: Option<u64>,
        producers_max: usize,
        now_ms: i64,
        torn_bytes: &mut u64,
    ) -> bool {
        self.files.write_buffered();
        let (base, size) = (
            self.entry.state.active().base,
            self.entry.state.active().size,
        );
        let Ok(file) = self.files.open_log(base) else {
            return false;
        };
        let len = file.len().unwrap_or(0);
        let mut scan = Scan::new(&*file, size.into(), to.unwrap_or(len).min(len));
        let torn = loop {
            match scan.next_batch() {
                Ok(None) => break false,
                Ok(Some(batch)) if batch.base_offset() == self.entry.state.log_end => {
                    let control = batch.control_record().ok().flatten();
                    self.entry
                        .state
                        .apply(&batch, control, now_ms, producers_max);
                }
                Ok(Some(_)) | Err(ScanEnd::Bad(_)) => break true,
                Err(ScanEnd::Io(error)) => {
                    tracing::error!(partition = %self.entry.partition, %error, "cannot read a segment");
                    self.entry
                        .state
                        .offline
                        .get_or_insert(OfflineCause::Unusable);
                    break true;
                }
            }
        };
        if self.entry.state.active().size > size {
            self.files.take_in(base);
        }
        if torn && self.entry.state.offline.is_none() {
            *torn_bytes += len - u64::from(self.entry.state.active().size).min(len);
        }
        torn
    }

    /// Writes what is left, and makes files end where the log does.
    pub(super) fn finish(&mut self) {
        let state = &mut self.entry.state;
        self.files.finish(state);
        let cause = self.suspicion.or(self.files.failure());
        if let Some(cause) = cause {
            state.offline.get_or_insert(cause);
        }
        self.entry.high_watermark = self
            .entry
            .high_watermark
            .clamp(state.log_start, state.log_end);
    }
}

/// Whether what is wrong is wrong with one of these segments.
fn concerns(cause: &OfflineCause, segments: &[Segment]) -> bool {
    let (OfflineCause::SegmentMissing { base } | OfflineCause::SegmentShort { base, .. }) = cause
    else {
        return false;
    };
    segments.iter().any(|segment| segment.base == *base)
}

fn control_record(header: &BatchHeader, bytes: &[u8]) -> Option<ControlRecord> {
    if !header.is_control() {
        return None;
    }
    let bytes = bytes::Bytes::copy_from_slice(bytes);
    let (batch, _) = RecordBatch::parse(&bytes, BatchRules::Stored).ok()?;
    batch.control_record().ok().flatten()
}
