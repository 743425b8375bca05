//! The write-ahead log: what was appended is durable after one write and one sync that many callers
//! share, in files that are used again and again.
//!
//! [`entry`] describes the bytes, [`recovery`] how they are read back, [`files`] how files come and go,
//! [`buffer`] what callers share, [`window`] what is written at once, [`writer`] the thread that writes.
//!
//! What it relies on: the file system keeps [`crate::fs`]'s promises, and a write that a power loss
//! interrupts leaves each sector of 512 bytes either old or new.

mod buffer;
mod entry;
mod files;
mod recovery;
mod stats;
#[cfg(test)]
mod tests;
mod waiters;
mod window;
mod writer;

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::fs::{BLOCK_BYTES, Fs, is_disk_full};
use crate::spawn::{ThreadHandle, spawn_thread};

use self::buffer::Shared;
pub use self::entry::BadBytes;
pub use self::stats::{FSYNC_BUCKET_BOUNDS_US, WalStats};

/// A position in the log: where an entry ends. Strictly increasing; `Lsn(0)` is before everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Settings of a log. `WalConfig::new(dir)` has the defaults.
#[derive(Debug, Clone)]
pub struct WalConfig {
    /// The directory; made when missing. Nothing else may be in it.
    pub dir: PathBuf,
    /// Size of a file, and nearly the bound of an entry (see [`Wal::payload_bytes_max`]); rounded up
    /// to a multiple of 4 KiB. Files of another size are read, too.
    pub file_bytes: u64,
    /// The most that is written and synced at once, except for a larger single entry.
    pub window_bytes_max: usize,
    /// [`Wal::admit`] waits while so much is appended but not durable.
    pub buffer_bytes_max: usize,
    /// The most files kept for reuse.
    pub spare_files_max: usize,
}

impl WalConfig {
    /// 64 MiB files, 4 MiB windows, 16 MiB of buffer, 8 spare files.
    pub fn new(dir: impl Into<PathBuf>) -> WalConfig {
        WalConfig {
            dir: dir.into(),
            file_bytes: 64 << 20,
            window_bytes_max: 4 << 20,
            buffer_bytes_max: 16 << 20,
            spare_files_max: 8,
        }
    }
}

/// Why the log refuses.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WalError {
    /// A write or a sync failed. The log stays failed: nothing is acknowledged until a restart has
    /// read the files again.
    #[error("the write-ahead log has failed: {0}; restart the broker once the disk is well")]
    Failed(Arc<WalFailure>),
    /// No space for another file. It ends by itself when there is space.
    #[error("no space for another write-ahead log file; free some, and it goes on by itself")]
    DiskFull,
    /// The payload is larger than a file holds.
    #[error("an entry of {bytes} bytes is larger than the write-ahead log's bound of {max}")]
    TooLarge {
        /// Bytes of the payload.
        bytes: u64,
        /// The most.
        max: u64,
    },
    /// [`Wal::close`] was called.
    #[error("the write-ahead log is closed")]
    Closed,
}

/// An operation on the log's files that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}: {source}", .path.display())]
pub struct WalFailure {
    /// What was tried.
    pub step: WalStep,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What was tried when the log failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalStep {
    /// Making a file, with the space for all of it.
    Create,
    /// Writing entries or a file's header.
    Write,
    /// Making a file or its name durable.
    Sync,
    /// Changing a file's name.
    Rename,
    /// Removing a file.
    Remove,
}

impl std::fmt::Display for WalStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            WalStep::Create => "create",
            WalStep::Write => "write to",
            WalStep::Sync => "sync",
            WalStep::Rename => "rename",
            WalStep::Remove => "remove",
        })
    }
}

impl WalFailure {
    /// Whether it is only that there was no space for a file that nothing was written to yet.
    fn is_disk_full(&self) -> bool {
        self.step == WalStep::Create && is_disk_full(&self.source)
    }
}

/// Why a log could not be opened; `E` is what `visit` may say.
#[derive(Debug, thiserror::Error)]
pub enum WalOpenError<E> {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] WalFault),
    /// `visit` refused an entry.
    #[error(transparent)]
    Visit(E),
}

/// What keeps a log from being opened.
#[derive(Debug, thiserror::Error)]
pub enum WalFault {
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something that was durable is not there any more.
    #[error(
        "{path} is damaged at byte {offset} (position {position}): {cause}, although everything up to \
         position {durable} was durable; restore the file from a copy, or give up what was \
         acknowledged after that point: truncate --size={offset} '{path}', and remove the .wal files \
         that come after it in that directory",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// Where in the log.
        position: Lsn,
        /// What is wrong there.
        cause: BadBytes,
        /// Everything up to here was durable.
        durable: Lsn,
    },
    /// The log does not reach back, or not forward, to where the caller stands.
    #[error(
        "the write-ahead log in {} does not hold position {from}, where recovery has to begin (its \
         first is {}): put its missing files back", .dir.display(),
        .first.map_or_else(|| "none".to_owned(), |first| first.to_string())
    )]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// Where recovery has to begin.
        from: Lsn,
        /// The first position that it holds.
        first: Option<Lsn>,
    },
    /// A later release wrote it.
    #[error("{} has format version {found}: run the release that wrote it", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
}

impl From<WalFailure> for WalFault {
    fn from(failure: WalFailure) -> WalFault {
        WalFault::Io {
            path: failure.path,
            source: failure.source,
        }
    }
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalRecovery {
    /// Entries given to `visit`.
    pub entries: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// The end of the log.
    pub end: Lsn,
    /// Whether [`Wal::close`] was the last that happened to it.
    pub closed_in_order: bool,
    /// Whether parts of entries behind the end were cut off: they were never acknowledged.
    pub torn: bool,
}

/// A handle to an open log; share it in an `Arc`. Dropping it without [`Wal::close`] writes what was
/// appended, and ends the threads.
pub struct Wal {
    shared: Arc<Shared>,
    threads: Mutex<Vec<ThreadHandle>>,
}

impl Wal {
    /// Opens the log in `config.dir` (empty when there is none) and gives every entry that ends
    /// after `from` to `visit`, in order, with its end. `from` is 0, or a position that was durable
    /// ([`Wal::durable`]) when it was noted and is not below what was given to
    /// [`Wal::recycle_below`] since.
    ///
    /// Everything that was ever acknowledged is visited, and possibly some entries after it that were
    /// not; all that was visited is durable when this returns. One log per directory at a time: the
    /// caller holds a lock.
    pub fn open<E>(
        fs: Arc<dyn Fs>,
        mut config: WalConfig,
        from: Lsn,
        visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<(Wal, WalRecovery), WalOpenError<E>> {
        let block = BLOCK_BYTES as u64;
        config.file_bytes = config.file_bytes.max(2 * block).next_multiple_of(block);
        let opened = recovery::open(fs, &config, from, visit)?;
        let first_live = opened
            .files
            .live
            .front()
            .map_or(opened.start, |file| file.base);
        let shared = Arc::new(Shared::new(
            config,
            opened.start,
            opened.generation,
            first_live,
        ));
        match &opened.first {
            Some(_) => shared.first_file_is_ready(),
            None => shared.disk_is_full(),
        }
        let (files, first) = (opened.files, opened.first);
        let (for_writer, for_files) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            spawn_thread("wal-writer", move || writer::run(for_writer, first)),
            spawn_thread("wal-files", move || files::run(for_files, files)),
        ];
        Ok((
            Wal {
                shared,
                threads: Mutex::new(threads),
            },
            opened.recovery,
        ))
    }

    /// What [`Wal::open`] would visit, without changing anything. The caller holds the lock.
    pub fn read<E>(
        fs: &dyn Fs,
        config: &WalConfig,
        from: Lsn,
        visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<WalRecovery, WalOpenError<E>> {
        recovery::read(fs, config, from, visit)
    }

    /// The largest payload that [`Wal::append`] takes.
    pub fn payload_bytes_max(&self) -> u64 {
        self.shared.payload_bytes_max()
    }

    /// Waits while too much is appended but not durable. Call it before [`Wal::append`], which
    /// itself never waits: what is buffered stays below the bound plus one entry per caller between
    /// the two.
    pub async fn admit(&self) -> Result<(), WalError> {
        self.shared.admit().await
    }

    /// Adds an entry whose payload is the parts one after the other, and says where it ends.
    /// Durable once [`Wal::wait_durable`] of that position has returned.
    pub fn append(&self, parts: &[IoSlice<'_>]) -> Result<Lsn, WalError> {
        self.shared.append(parts)
    }

    /// Everything up to here survives a power loss.
    pub fn durable(&self) -> Lsn {
        Lsn(self.shared.durable())
    }

    /// Waits until everything up to `lsn` is durable. An error means that it may or may not be.
    pub async fn wait_durable(&self, lsn: Lsn) -> Result<(), WalError> {
        self.shared.wait_durable(lsn).await
    }

    /// Sets what is called, on the log's own thread, with the new durable end after each sync.
    /// [`Wal::durable`] shows that end, and those who wait for it return, when the call has returned.
    pub fn set_on_durable(&self, on_durable: Box<dyn Fn(Lsn) + Send + Sync>) {
        *self.shared.on_durable.write() = Some(on_durable);
    }

    /// Says that nothing that ends at or below `lsn` is needed any more: from now on, the log is
    /// opened with a `from` that is not lower. Returns at once.
    pub fn recycle_below(&self, lsn: Lsn) {
        self.shared
            .tell_file_thread(|desk| desk.recycle_below = desk.recycle_below.max(lsn.0));
    }

    /// Bytes that a recovery would read.
    pub fn live_bytes(&self) -> u64 {
        self.shared.end() - self.shared.first_live.load(Ordering::Acquire)
    }

    /// Writes zeros over the files before they come into use, from now on and in the background, so
    /// that syncs are fast and appending never waits for a file. Call it once the broker is ready.
    pub fn preallocate_in_background(&self) {
        self.shared.tell_file_thread(|desk| desk.preallocate = true);
    }

    /// Makes everything durable, marks the log as closed in order, and ends its threads.
    pub async fn close(&self) -> Result<(), WalError> {
        self.shared.begin_closing();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.join().await;
        }
        self.shared.closing_result()
    }

    /// Figures since the log was opened.
    pub fn stats(&self) -> WalStats {
        WalStats {
            buffered_bytes: self.shared.buffered() as u64,
            live_bytes: self.live_bytes(),
            ..self.shared.counters.read()
        }
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.shared.begin_closing();
    }
}
