//! One partition's files while the write-ahead log is replayed: batches are gathered and written in runs, and at the end the files
//! end where the log does.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use tidemill_records::{Offset, TopicId};
use tidemill_storage::fs::{File, Fs, OpenMode, is_disk_full};

use crate::error::OfflineCause;
use crate::files::{self, FileKind, parse_segment_file, segment_file};
use crate::index::{IndexEntry, encode_entries};
use crate::scan::Scan;
use crate::segment::Segment;
use crate::state::State;

/// A partition's buffer is written when it has grown to this.
const RUN_BYTES: usize = 1 << 20;

pub(crate) struct ReplayFiles {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    topic_id: TopicId,
    /// Consecutive bytes of one segment.
    run: Vec<u8>,
    run_base: Offset,
    run_position: u32,
    /// The first segment that replay may have changed.
    first: Option<Offset>,
    /// Segments that were written to.
    written: BTreeSet<Offset>,
    made_dir: bool,
    /// Names were taken away, which a power loss may bring back.
    unlinked: bool,
    failed: bool,
    /// What the write-ahead log has could not be written.
    unwritten: Option<io::Error>,
}

impl ReplayFiles {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf, topic_id: TopicId) -> ReplayFiles {
        ReplayFiles {
            fs,
            dir,
            topic_id,
            run: Vec::new(),
            run_base: Offset::ZERO,
            run_position: 0,
            first: None,
            written: BTreeSet::new(),
            made_dir: false,
            unlinked: false,
            failed: false,
            unwritten: None,
        }
    }

    /// Segments from `base` on are made to agree with the log at the end.
    pub(crate) fn begin_at(&mut self, base: Offset) {
        self.first = Some(self.first.map_or(base, |first| first.min(base)));
    }

    pub(crate) fn buffered(&self) -> usize {
        self.run.len()
    }

    /// Whether the directory was made here.
    pub(crate) fn made_dir(&self) -> bool {
        self.made_dir
    }

    /// Whether a file could not be used.
    pub(crate) fn failure(&self) -> Option<OfflineCause> {
        self.failed.then_some(OfflineCause::Unusable)
    }

    /// What a segment's file lacks of its `synced` bytes.
    pub(crate) fn check(&mut self, base: Offset, synced: u64) -> Option<OfflineCause> {
        if synced == 0 {
            return None;
        }
        match self.open_log(base).and_then(|file| file.len()) {
            Ok(bytes) if bytes >= synced => None,
            Ok(bytes) => Some(OfflineCause::SegmentShort {
                base,
                bytes,
                synced,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(OfflineCause::SegmentMissing { base })
            }
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    pub(crate) fn open_log(&self, base: Offset) -> io::Result<Arc<dyn File>> {
        self.fs.open(
            &segment_file(&self.dir, base, FileKind::Log),
            OpenMode::ReadWrite,
        )
    }

    pub(crate) fn has_segment(&self, base: Offset) -> bool {
        self.open_log(base).is_ok()
    }

    /// Adds batches at a position.
    pub(crate) fn push(&mut self, base: Offset, position: u32, bytes: &[u8]) {
        let end = u64::from(self.run_position) + self.run.len() as u64;
        let continues = self.run_base == base && end == u64::from(position);
        if !continues || self.run.len() >= RUN_BYTES {
            self.write_buffered();
        }
        if self.run.is_empty() {
            (self.run_base, self.run_position) = (base, position);
        }
        self.run.extend_from_slice(bytes);
    }

    pub(crate) fn write_buffered(&mut self) {
        if self.run.is_empty() {
            return;
        }
        let run = std::mem::take(&mut self.run);
        if let Err(error) = self.write_run(&run) {
            self.unwritten.get_or_insert(error);
        }
    }

    /// The directory, and why something of the write-ahead log could not be written to it. The log must not go on then: it
    /// would be recycled.
    pub(crate) fn take_unwritten(&mut self) -> Option<(PathBuf, io::Error)> {
        Some((self.dir.clone(), self.unwritten.take()?))
    }

    /// Counts a segment as written here, whose bytes have skipped the write-ahead log: nobody has synced them.
    pub(crate) fn take_in(&mut self, base: Offset) {
        if let Err(error) = self.make_dir() {
            self.unwritten.get_or_insert(error);
        }
        self.written.insert(base);
    }

    fn write_run(&mut self, run: &[u8]) -> io::Result<()> {
        self.make_dir()?;
        self.written.insert(self.run_base);
        let path = segment_file(&self.dir, self.run_base, FileKind::Log);
        let file = self.fs.open(&path, OpenMode::Create)?;
        file.write_all_at(&[IoSlice::new(run)], self.run_position.into())
    }

    fn make_dir(&mut self) -> io::Result<()> {
        if self.made_dir {
            return Ok(());
        }
        self.made_dir = true;
        if files::belongs_to(&*self.fs, &self.dir, self.topic_id)? != Some(true) {
            self.fs.create_dir_all(&self.dir)?;
            files::write_partition_metadata(&*self.fs, &self.dir, self.topic_id)?;
        }
        Ok(())
    }

    /// Removes the files of segments, and forgets what waits to be written to them.
    pub(crate) fn unlink(&mut self, segments: &[Segment]) {
        for segment in segments {
            if self.run_base == segment.base {
                self.run.clear();
            }
            self.written.remove(&segment.base);
            self.unlink_segment(segment.base);
        }
    }

    fn unlink_segment(&mut self, base: Offset) {
        for kind in FileKind::ALL {
            match self.fs.remove_file(&segment_file(&self.dir, base, kind)) {
                Ok(()) => self.unlinked = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fail(error),
            }
        }
    }

    /// Removes segments that begin after `base`: what follows a torn end is not of the log.
    pub(crate) fn unlink_after(&mut self, base: Offset) {
        let Ok(entries) = self.fs.read_dir(&self.dir) else {
            return;
        };
        for entry in entries {
            let name = entry.name.to_string_lossy();
            let found = FileKind::ALL
                .iter()
                .find_map(|kind| parse_segment_file(&name, *kind));
            if let Some(found) = found.filter(|found| *found > base) {
                self.unlink_segment(found);
            }
        }
    }

    /// Writes what is left and the indexes, and cuts the files where the log ends.
    pub(crate) fn finish(&mut self, state: &mut State) {
        self.write_buffered();
        let first = self.first.unwrap_or(state.active().base);
        let at = state
            .segments
            .partition_point(|segment| segment.base < first);
        let interval = state.config.index_interval_bytes;
        let last = state.segments.len() - 1;
        let mut leftovers = Vec::new();
        for (at, segment) in state.segments.iter_mut().enumerate().skip(at) {
            segment.drained = segment.size;
            let written = self.written.contains(&segment.base);
            if segment.size == 0 && !written {
                leftovers.push(segment.base);
                continue;
            }
            match self.finish_segment(segment, interval, at < last) {
                Ok(changed) => {
                    segment.unsynced.log |= written || changed;
                    segment.unsynced.index |= written || changed;
                    segment.unsynced.time |= written || changed;
                }
                // Missing files are reported by whoever checked them.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fail(error),
            }
        }
        // What a power loss has brought back under the name of an empty segment is not of this log.
        leftovers
            .into_iter()
            .for_each(|base| self.unlink_segment(base));
        state.dir_unsynced |= !self.written.is_empty() || self.made_dir || self.unlinked;
        state.dir_made = self.made_dir;
        if !state.epochs_written && self.made_dir {
            let text = state.epochs.to_text();
            match files::write_leader_epochs(&*self.fs, &self.dir, &text) {
                Ok(()) => state.epochs_written = true,
                Err(error) => self.fail(error),
            }
        }
    }

    /// True when a file was changed.
    fn finish_segment(
        &self,
        segment: &mut Segment,
        interval: u32,
        sealed: bool,
    ) -> io::Result<bool> {
        let log = self.open_log(segment.base)?;
        let mut changed = false;
        if log.len()? > segment.size.into() {
            log.set_len(segment.size.into())?;
            changed = true;
        }
        let path = |kind| segment_file(&self.dir, segment.base, kind);
        let index = self.fs.open(&path(FileKind::Index), OpenMode::Create)?;
        let time = self.fs.open(&path(FileKind::TimeIndex), OpenMode::Create)?;
        let whole = has_entries::<crate::index::OffsetEntry>(&*index, segment.index_written())?
            && has_entries::<crate::index::TimeEntry>(&*time, segment.time_written())?;
        if !whole {
            rebuild(&*log, segment, interval, sealed)?;
        }
        let written = segment.index_written();
        changed |= write_entries(&*index, segment.base, &segment.index_pending, written)?;
        let written = segment.time_written();
        changed |= write_entries(&*time, segment.base, &segment.time_pending, written)?;
        segment.index_pending.clear();
        segment.time_pending.clear();
        Ok(changed)
    }

    fn fail(&mut self, error: io::Error) {
        if is_disk_full(&error) {
            self.unwritten.get_or_insert(error);
            return;
        }
        tracing::error!(dir = %self.dir.display(), %error, "cannot recover the files of a partition");
        self.failed = true;
    }
}

fn has_entries<E: IndexEntry>(file: &dyn File, count: u32) -> io::Result<bool> {
    Ok(file.len()? >= u64::from(count) * E::BYTES as u64)
}

/// Decides anew about every index entry of a segment whose index files are torn.
fn rebuild(log: &dyn File, segment: &mut Segment, interval: u32, sealed: bool) -> io::Result<()> {
    let mut rebuilt = Segment::new(segment.base, segment.created_ms);
    let mut scan = Scan::new(log, 0, segment.size.into());
    while let Ok(Some(header)) = scan.next_header() {
        rebuilt.push(&header, interval, segment.last_append_ms);
    }
    if sealed {
        rebuilt.seal();
    }
    segment.index_entries = rebuilt.index_entries;
    segment.index_position = rebuilt.index_position;
    segment.index_pending = rebuilt.index_pending;
    segment.time_entries = rebuilt.time_entries;
    segment.time_last = rebuilt.time_last;
    segment.time_pending = rebuilt.time_pending;
    Ok(())
}

/// Writes entries behind the first `written`, and cuts off what follows. True when that changed anything.
fn write_entries<E: IndexEntry>(
    file: &dyn File,
    base: Offset,
    entries: &[E],
    written: u32,
) -> io::Result<bool> {
    let at = u64::from(written) * E::BYTES as u64;
    let bytes = encode_entries(base, entries);
    let end = at + bytes.len() as u64;
    let longer = file.len()? > end;
    if longer {
        file.set_len(end)?;
    }
    if !bytes.is_empty() {
        file.write_all_at(&[IoSlice::new(&bytes)], at)?;
    }
    Ok(longer || !bytes.is_empty())
}
