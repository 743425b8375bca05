//! Files behind one small seam: [`RealFs`] is the machine's, [`SimFs`] loses what was not synced.
//!
//! The traits' docs are the specification that both keep, and that every caller may rely on. It is
//! deliberately weaker than what ext4 or xfs happen to do:
//! - Bytes, length and allocation of a file are durable after [`File::sync_data`]; before that, any
//!   subset of what was written may survive a power loss, in any order, also parts of one write.
//! - A name (created, renamed or removed) is durable after [`Fs::sync_dir`] of the directory that
//!   holds it; syncing the file does not do it. A rename is atomic: the target name shows the old
//!   file or the new one.
//! - After a failed `sync_data` nothing may be concluded about what was written since the last good
//!   one, not even by a later `sync_data` that succeeds.

mod real;
mod sim;

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use real::RealFs;
pub use sim::{SimFaults, SimFs, is_simulated_crash};

/// Whether it ends when there is space.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// How [`Fs::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// For reading and writing; created empty when it does not exist.
    Create,
    /// For reading and writing; `AlreadyExists` when it exists.
    CreateNew,
    /// An existing file, for writing past the page cache, where the file system can do that. Each
    /// write is one buffer; its address, length and offset are multiples of [`BLOCK_BYTES`].
    Direct,
}

/// What [`OpenMode::Direct`] writes in.
pub const BLOCK_BYTES: usize = 4096;

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name without the directory.
    pub name: OsString,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A tree of files. See the module's page for what is durable when.
pub trait Fs: Send + Sync {
    /// Opens or creates a file. `NotFound`, `AlreadyExists` as `mode` says.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Moves a file or directory, atomically replacing a file that is at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name; open handles stay usable.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and the missing ones above it.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes an exclusive lock on a file, created when missing, without waiting. It is held until
    /// the guard is dropped or the process ends. A lock that somebody holds is `WouldBlock`, with a
    /// [`LockHeld`] inside.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
}

/// An open file. All methods take offsets: a handle has no position and may be shared.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length that costs a system call, not a collection"
)]
pub trait File: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file, where it is 0.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all buffers one after the other, growing the file where needed. After an error any
    /// part may have been written.
    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Cuts the file, or grows it with zeros that occupy no space.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space so that later writes to the range cannot fail for lack of it. Neither length
    /// nor bytes change.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes bytes and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
}

/// A held lock; dropping it releases the lock.
pub trait Lock: Send + Sync {}

/// Somebody else holds the lock.
#[derive(Debug, thiserror::Error)]
#[error("{} is locked{}", .path.display(), .pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
pub struct LockHeld {
    /// The lock file.
    pub path: std::path::PathBuf,
    /// The process that holds it, as far as the file tells.
    pub pid: Option<u32>,
}

/// Reads until `buffer` is full; `UnexpectedEof` when the file ends before.
pub fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let read = file.read_at(buffer, offset)?;
    if read < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
