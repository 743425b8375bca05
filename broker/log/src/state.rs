//! What one partition's lock protects: the log as memory knows it.
//!
//! The same code takes in batches when they are appended, replayed from the write-ahead log and scanned from a
//! file, so that all three come to the same state.

use std::collections::VecDeque;
use std::sync::Arc;

use tidemill_records::{BatchHeader, ControlRecord, LeaderEpoch, Offset};
use tidemill_storage::wal::Lsn;

use crate::config::LogConfig;
use crate::error::OfflineCause;
use crate::leader_epochs::LeaderEpochs;
use crate::producers::Producers;
use crate::read::ReadHint;
use crate::segment::{RollRules, Segment};
use crate::tail::Tail;

/// The state of one log. There is always an active segment: the last one.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Arc<LogConfig>,
    /// Appends skip the write-ahead log; follows `config` with a delay.
    pub(crate) unlogged: bool,
    pub(crate) log_start: Offset,
    /// Where the log on this disk begins. Apart from `log_start` once older records live in the tier.
    pub(crate) local_log_start: Offset,
    pub(crate) log_end: Offset,
    /// End of the last write-ahead log entry about this log: replay skips what is not after it.
    pub(crate) last_lsn: Lsn,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
    pub(crate) tail: Tail,
    pub(crate) read_hints: [Option<ReadHint>; 4],
    pub(crate) offline: Option<OfflineCause>,
    pub(crate) deleted: bool,
    /// Whether the directory was seen in this process.
    pub(crate) dir_made: bool,
    /// Whether names in the directory, or its small files, are not synced.
    pub(crate) dir_unsynced: bool,
    /// Whether `leader-epoch-checkpoint` says what `epochs` does.
    pub(crate) epochs_written: bool,
    /// How often the log was cut at its end: what was taken before for draining is void.
    pub(crate) cuts: u64,
    /// Changes of files that the drain has yet to make; it writes nothing for this log until it has.
    pub(crate) file_changes_pending: u32,
    /// Records written to segment files and not synced, where `flush.messages` counts them.
    pub(crate) unflushed_records: i64,
}

impl State {
    /// An empty log that begins at `start`.
    pub(crate) fn new(config: Arc<LogConfig>, start: Offset, now_ms: i64) -> State {
        State {
            unlogged: config.is_unlogged(),
            config,
            log_start: start,
            local_log_start: start,
            log_end: start,
            last_lsn: Lsn(0),
            segments: VecDeque::from([Segment::new(start, now_ms)]),
            epochs: LeaderEpochs::default(),
            producers: Producers::default(),
            tail: Tail::default(),
            read_hints: [None; 4],
            offline: None,
            deleted: false,
            dir_made: false,
            dir_unsynced: false,
            epochs_written: true,
            cuts: 0,
            file_changes_pending: 0,
            unflushed_records: 0,
        }
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.back().expect("a log has an active segment")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Segment {
        self.segments
            .back_mut()
            .expect("a log has an active segment")
    }

    /// The index of the segment that holds `offset`, which is not below the first segment's base.
    pub(crate) fn segment_at(&self, offset: Offset) -> usize {
        let after = self
            .segments
            .partition_point(|segment| segment.base <= offset);
        after.saturating_sub(1)
    }

    pub(crate) fn segment_mut(&mut self, base: Offset) -> Option<&mut Segment> {
        let at = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base);
        self.segments.get_mut(at.ok()?)
    }

    /// Takes in a batch that is in the log now, at the end of the active segment. `control` is what it says if it is a
    /// control batch.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        append_ms: i64,
        producers_max: usize,
    ) {
        let interval = self.config.index_interval_bytes;
        self.active_mut().push(header, interval, append_ms);
        self.note_epoch(header.leader_epoch(), header.base_offset());
        self.producers
            .apply(header, control, append_ms, producers_max);
        self.log_end = header.next_offset();
    }

    fn note_epoch(&mut self, epoch: LeaderEpoch, start: Offset) {
        if self.epochs.assign(epoch, start) {
            self.epochs_written = false;
        }
    }

    /// Makes an empty segment the active one. An active segment that is empty already stays.
    pub(crate) fn roll(&mut self, base: Offset, now_ms: i64) {
        if self.active().size == 0 {
            debug_assert_eq!(
                self.active().base,
                base,
                "an empty segment begins at the log's end"
            );
            return;
        }
        self.active_mut().seal();
        self.segments.push_back(Segment::new(base, now_ms));
    }

    /// Lets the log begin later. Gives the segments that hold nothing of it any more; the active one stays.
    pub(crate) fn advance_start(
        &mut self,
        log_start: Offset,
        local_log_start: Offset,
    ) -> Vec<Segment> {
        self.log_start = self.log_start.max(log_start);
        self.local_log_start = self
            .local_log_start
            .max(local_log_start)
            .max(self.log_start);
        let start = self.local_log_start;
        let dropped = self.segments.iter().take(self.segments.len() - 1);
        let dropped = dropped
            .take_while(|segment| segment.next_offset <= start)
            .count();
        let dropped = self.segments.drain(..dropped).collect();
        if self.epochs.truncate_start(self.log_start) {
            self.epochs_written = false;
        }
        // Of what is in the tier the footers there tell.
        self.producers
            .transactions
            .truncate_start(self.local_log_start);
        dropped
    }

    /// Drops everything; the log begins at `start`. Gives the segments.
    pub(crate) fn restart_at(&mut self, start: Offset, now_ms: i64) -> Vec<Segment> {
        let dropped = self.segments.drain(..).collect();
        self.segments.push_back(Segment::new(start, now_ms));
        (self.log_start, self.local_log_start, self.log_end) = (start, start, start);
        self.epochs.clear();
        self.epochs_written = false;
        self.producers = Producers::default();
        self.read_hints = [None; 4];
        dropped
    }

    /// Drops everything from `end` on, which is at byte `position` of a segment. What that segment's figures and the
    /// producers are then, only its batches tell: the caller counts them anew. Gives the segments after it.
    pub(crate) fn cut_at(&mut self, end: Offset, base: Offset, position: u32) -> Vec<Segment> {
        let at = self.segment_at(base);
        let dropped = self.segments.drain(at + 1..).collect();
        let mut cut = Segment::new(base, self.segments[at].created_ms);
        (cut.next_offset, cut.size, cut.drained) = (end, position, position);
        self.segments[at] = cut;
        self.log_end = end;
        self.epochs_written &= !self.epochs.truncate_end(end);
        dropped
    }

    pub(crate) fn roll_rules(&self) -> RollRules {
        RollRules {
            segment_bytes: self.config.segment_bytes,
            segment_ms: self.config.segment_ms,
            index_bytes: self.config.segment_index_bytes,
        }
    }

    /// Bytes of all segments, those not drained included.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| u64::from(segment.size))
            .sum()
    }

    /// Bytes that are not in a segment file yet.
    pub(crate) fn undrained_bytes(&self) -> usize {
        let undrained = self.segments.range(self.first_undrained()..);
        undrained
            .map(|segment| (segment.size - segment.drained) as usize)
            .sum()
    }

    /// The place in the segments up to which files hold everything.
    pub(crate) fn drained_place(&self) -> (Offset, u32) {
        match self.segments.get(self.first_undrained()) {
            Some(segment) => (segment.base, segment.drained),
            None => (self.active().base, self.active().drained),
        }
    }

    /// Index of the first segment that is not wholly in its files; one past the last if all are.
    pub(crate) fn first_undrained(&self) -> usize {
        let mut first = self.segments.len();
        // The active segment may be empty, which says nothing about the one before.
        while first > 0 && (!self.segments[first - 1].is_drained() || first == self.segments.len())
        {
            first -= 1;
        }
        match self.segments.get(first) {
            Some(segment) if segment.is_drained() => first + 1,
            _ => first,
        }
    }
}
