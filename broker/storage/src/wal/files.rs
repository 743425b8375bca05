//! The files of a log: names, reuse, and the thread that prepares the next one and puts away those
//! that nobody needs.
//!
//! Three kinds of names are in the directory: `<base:020>.wal` is part of the log, `spare-<n>.wal` waits
//! to become a part, `new-<n>.wal` is being made. The order of steps is what keeps a crash between any
//! two of them harmless:
//! - A file joins the log by one rename, after its header is durable; nothing is written to it before
//!   that name is durable too. So a name in the log without a good header means damage.
//! - A file leaves the log by one rename, which is durable before anything in the file changes. So
//!   after a crash it has its old name with its old bytes, or it is a spare.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};

use crate::fs::{File, Fs, OpenMode};

use super::buffer::Shared;
use super::entry::FileHeader;
use super::window::Blocks;
use super::{WalFailure, WalStep};

/// Zeros are written in pieces of this size, with a sync after each: the log's own syncs must not
/// wait behind 64 MiB of them.
const PREWRITE_STEP_BYTES: u64 = 4 << 20;
const PREWRITE_CHUNK_BYTES: u64 = 256 << 10;

/// What a name in the directory means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Live { base: u64 },
    Spare { number: u64 },
    New { number: u64 },
}

impl Name {
    pub(super) fn parse(name: &str) -> Option<Name> {
        let stem = name.strip_suffix(".wal")?;
        let digits = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().ok(),
            false => None,
        };
        if let Some(number) = stem.strip_prefix("spare-") {
            return Some(Name::Spare {
                number: digits(number)?,
            });
        }
        if let Some(number) = stem.strip_prefix("new-") {
            return Some(Name::New {
                number: digits(number)?,
            });
        }
        match stem.len() {
            20 => Some(Name::Live {
                base: digits(stem)?,
            }),
            _ => None,
        }
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Name::Live { base } => format!("{base:020}.wal"),
            Name::Spare { number } => format!("spare-{number}.wal"),
            Name::New { number } => format!("new-{number}.wal"),
        })
    }
}

/// A file that is part of the log.
#[derive(Debug)]
pub(super) struct LiveFile {
    pub(super) base: u64,
    /// Whether it is worth reusing: of full size and, by the time that it is retired, written all over.
    pub(super) reusable: bool,
}

/// A file that entries may be written to.
pub(super) struct ReadyFile {
    pub(super) base: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
}

/// The files as the thread that owns them knows them.
pub(super) struct Files {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) dir: PathBuf,
    pub(super) file_bytes: u64,
    pub(super) spare_files_max: usize,
    /// By base. The last one is being written to, or is about to be.
    pub(super) live: VecDeque<LiveFile>,
    /// Numbers of the spare files.
    pub(super) spares: Vec<u64>,
    /// The next number of a spare or new file.
    pub(super) next_number: u64,
    pub(super) next_base: u64,
    /// Larger than any in the log.
    pub(super) next_generation: u32,
    /// Whether the last file was written all over before it came into use.
    pub(super) prewritten: bool,
    /// The last file could not be made, and that was said.
    pub(super) lacks_space: bool,
}

impl Files {
    /// Makes the file with the next base part of the log. `durable` is the position that is durable.
    /// `hurry` says between steps whether to leave out what only makes later syncs faster.
    pub(super) fn prepare(
        &mut self,
        durable: u64,
        hurry: &dyn Fn() -> bool,
    ) -> Result<ReadyFile, WalFailure> {
        let (old, file, prewritten) = match self.take_spare()? {
            Some((name, file)) => (name, file, true),
            None => self.create(hurry)?,
        };
        let base = self.next_base;
        let header = FileHeader {
            base,
            durable,
            file_bytes: self.file_bytes,
            generation: self.next_generation,
        };
        let (old, path) = (old.path(&self.dir), Name::Live { base }.path(&self.dir));
        let mut block = Blocks::default();
        block.extend(&header.encode());
        file.write_all_at(&[IoSlice::new(block.whole_blocks())], 0)
            .map_err(failed(WalStep::Write, &old))?;
        file.sync_data().map_err(failed(WalStep::Sync, &old))?;
        self.fs
            .rename(&old, &path)
            .map_err(failed(WalStep::Rename, &old))?;
        self.fs
            .sync_dir(&self.dir)
            .map_err(failed(WalStep::Sync, &self.dir))?;
        self.live.push_back(LiveFile {
            base,
            reusable: true,
        });
        self.next_base += self.file_bytes;
        self.next_generation += 1;
        self.prewritten = prewritten;
        Ok(ReadyFile { base, path, file })
    }

    fn take_spare(&mut self) -> Result<Option<(Name, Arc<dyn File>)>, WalFailure> {
        while let Some(number) = self.spares.pop() {
            let name = Name::Spare { number };
            let path = name.path(&self.dir);
            let open = || -> io::Result<Option<Arc<dyn File>>> {
                let file = self.fs.open(&path, OpenMode::Direct)?;
                if file.len()? == self.file_bytes {
                    return Ok(Some(file));
                }
                // Of another size setting, or cut.
                self.fs.remove_file(&path)?;
                Ok(None)
            };
            if let Some(file) = open().map_err(failed(WalStep::Create, &path))? {
                return Ok(Some((name, file)));
            }
        }
        Ok(None)
    }

    /// Keeps a file at hand that is written all over.
    fn create_spare(&mut self, hurry: &dyn Fn() -> bool) -> Result<(), WalFailure> {
        let (name, _file, _) = self.create(hurry)?;
        let Name::New { number } = name else {
            return Ok(());
        };
        let (old, new) = (name.path(&self.dir), Name::Spare { number }.path(&self.dir));
        self.fs
            .rename(&old, &new)
            .map_err(failed(WalStep::Rename, &old))?;
        self.spares.push(number);
        Ok(())
    }

    /// A new file of full size with space for all of it, and whether it is written all over.
    fn create(
        &mut self,
        hurry: &dyn Fn() -> bool,
    ) -> Result<(Name, Arc<dyn File>, bool), WalFailure> {
        let name = Name::New {
            number: self.next_number,
        };
        self.next_number += 1;
        let path = name.path(&self.dir);
        let create = || -> io::Result<(Arc<dyn File>, bool)> {
            let file = self.fs.open(&path, OpenMode::CreateNew)?;
            file.set_len(self.file_bytes)?;
            file.allocate(0, self.file_bytes)?;
            let file = self.fs.open(&path, OpenMode::Direct)?;
            let prewritten = prewrite(file.as_ref(), self.file_bytes, hurry)?;
            Ok((file, prewritten))
        };
        match create() {
            Ok((file, prewritten)) => Ok((name, file, prewritten)),
            Err(error) => {
                // Half a file would only take the space that somebody waits for.
                if let Err(error) = self.fs.remove_file(&path) {
                    tracing::warn!(%error, path = %path.display(), "cannot remove half a file");
                }
                Err(failed(WalStep::Create, &path)(error))
            }
        }
    }

    /// Takes the files out of the log that end at or below `below`, and says where the rest begins.
    pub(super) fn recycle(&mut self, below: u64) -> Result<u64, WalFailure> {
        let mut changed = false;
        while self.live.len() > 1 && self.live[1].base <= below {
            let LiveFile { base, reusable } = self.live[0];
            self.retire(Name::Live { base }, reusable)?;
            self.live.pop_front();
            changed = true;
        }
        if changed {
            self.sync_names()?;
        }
        Ok(self.live.front().map_or(0, |file| file.base))
    }

    /// Makes a file spare, or removes it. Nothing may be written to it before [`Files::sync_names`].
    pub(super) fn retire(&mut self, name: Name, reusable: bool) -> Result<(), WalFailure> {
        let path = name.path(&self.dir);
        if !reusable || self.spares.len() >= self.spare_files_max {
            return self
                .fs
                .remove_file(&path)
                .map_err(failed(WalStep::Remove, &path));
        }
        let number = self.next_number;
        self.next_number += 1;
        let spare = Name::Spare { number }.path(&self.dir);
        self.fs
            .rename(&path, &spare)
            .map_err(failed(WalStep::Rename, &path))?;
        self.spares.push(number);
        Ok(())
    }

    pub(super) fn sync_names(&self) -> Result<(), WalFailure> {
        self.fs
            .sync_dir(&self.dir)
            .map_err(failed(WalStep::Sync, &self.dir))
    }
}

/// Writes zeros over the file, unless it hurries: a sync of bytes that were written before needs no
/// change of the file system's own records. Says whether it did.
fn prewrite(file: &dyn File, bytes: u64, hurry: &dyn Fn() -> bool) -> io::Result<bool> {
    let zeros = Blocks::with_zeros(PREWRITE_CHUNK_BYTES.min(bytes) as usize);
    let mut written = 0;
    while written < bytes {
        if hurry() {
            return Ok(false);
        }
        let step_end = bytes.min(written + PREWRITE_STEP_BYTES);
        while written < step_end {
            let count = PREWRITE_CHUNK_BYTES.min(step_end - written);
            file.write_all_at(
                &[IoSlice::new(&zeros.as_slice()[..count as usize])],
                written,
            )?;
            written += count;
        }
        file.sync_data()?;
    }
    Ok(true)
}

pub(super) fn failed(step: WalStep, path: &Path) -> impl Fn(io::Error) -> WalFailure {
    move |source| WalFailure {
        step,
        path: path.to_owned(),
        source,
    }
}

/// What the writer and the callers tell the thread that owns the files, and what it tells them.
#[derive(Default)]
pub(super) struct Desk {
    /// See to it that syncs are fast from now on.
    pub(super) preallocate: bool,
    /// Whether that was done for the first file.
    preallocated: bool,
    /// The file in use is half full.
    pub(super) half_full: bool,
    /// The writer waits for the next file.
    pub(super) urgent: bool,
    /// Try again although the disk was full.
    pub(super) retry: bool,
    /// The disk was full.
    pub(super) full: bool,
    pub(super) recycle_below: u64,
    recycled_below: u64,
    /// No more entries will come.
    pub(super) closing: bool,
    pub(super) stop: bool,
    pub(super) ready: Option<ReadyFile>,
    pub(super) owner: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

enum Job {
    Prepare,
    Preallocate,
    Recycle(u64),
    Stop,
}

impl Desk {
    fn next_job(&mut self) -> Option<Job> {
        // First, since it may give a spare file.
        if self.recycle_below > self.recycled_below {
            self.recycled_below = self.recycle_below;
            self.retry = true;
            return Some(Job::Recycle(self.recycle_below));
        }
        if self.stop {
            return Some(Job::Stop);
        }
        let wanted = self.urgent || (self.preallocate && self.half_full);
        if wanted && self.ready.is_none() && (!self.full || self.retry) {
            self.retry = false;
            return Some(Job::Prepare);
        }
        if self.preallocate && !self.preallocated && self.ready.is_none() && !self.full {
            self.preallocated = true;
            return Some(Job::Preallocate);
        }
        None
    }
}

/// The thread that owns the files.
pub(super) async fn run(shared: Arc<Shared>, mut files: Files) {
    loop {
        let job = poll_fn(|context| {
            let mut desk = shared.desk.lock();
            match desk.next_job() {
                Some(job) => Poll::Ready(job),
                None => {
                    desk.owner = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        });
        let result = match job.await {
            Job::Stop => return,
            Job::Recycle(below) => recycle(&shared, &mut files, below),
            Job::Prepare => prepare_next(&shared, &mut files),
            Job::Preallocate => preallocate(&shared, &mut files),
        };
        if let Err(failure) = result {
            shared.fail(failure);
            return;
        }
    }
}

fn recycle(shared: &Shared, files: &mut Files, below: u64) -> Result<(), WalFailure> {
    let first = files.recycle(below)?;
    shared.first_live.store(first, Ordering::Release);
    shared.release_idle_buffers();
    Ok(())
}

fn prepare_next(shared: &Shared, files: &mut Files) -> Result<(), WalFailure> {
    match files.prepare(shared.durable(), &|| shared.hurries()) {
        Ok(ready) => {
            files.lacks_space = false;
            shared.file_is_ready(ready, files.next_base);
            Ok(())
        }
        Err(failure) if failure.is_disk_full() => {
            // It is tried again and again.
            if !std::mem::replace(&mut files.lacks_space, true) {
                tracing::warn!(path = %failure.path.display(), "no space for another write-ahead log file");
            }
            shared.disk_is_full();
            Ok(())
        }
        Err(failure) => Err(failure),
    }
}

/// Moves the log from a file that was never written to one that was: a sync there is faster.
fn preallocate(shared: &Shared, files: &mut Files) -> Result<(), WalFailure> {
    if files.prewritten {
        return Ok(());
    }
    if files.spares.is_empty() {
        match files.create_spare(&|| shared.hurries()) {
            Ok(()) => {}
            Err(failure) if failure.is_disk_full() => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
    let Some(current) = files.live.back_mut() else {
        return Ok(());
    };
    if let Some(base) = shared.leave_file(current.base) {
        current.reusable = false;
        files.next_base = base;
        prepare_next(shared, files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_left_alone() {
        let names = [
            Name::Live { base: 0 },
            Name::Live { base: u64::MAX },
            Name::Spare { number: 7 },
            Name::New { number: 0 },
        ];
        for name in names {
            let path = name.path(Path::new("/d"));
            let text = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(Name::parse(text), Some(name));
        }
        for other in [
            "1.wal",
            "spare-.wal",
            "spare-x.wal",
            "+0000000000000000001.wal",
            "LOCK",
            ".wal",
        ] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
