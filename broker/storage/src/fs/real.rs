//! The machine's file system.

use std::io::{self, IoSlice, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{DirEntry, File, Fs, Lock, LockHeld, OpenMode};

/// The most buffers that one `pwritev` takes (`IOV_MAX` of Linux).
const BUFFERS_PER_WRITE_MAX: usize = 1024;

/// The machine's file system, on plain system calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let flags = match mode {
            OpenMode::Direct => return open_direct(path),
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::ReadWrite => OFlags::RDWR,
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        Ok(Arc::new(RealFile {
            fd: open_fd(path, flags)?,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            entries.push(DirEntry {
                name: entry.file_name(),
                is_dir: entry.file_type()?.is_dir(),
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let fd = open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        retry(|| fs::fsync(&fd))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let fd = open_fd(path, OFlags::RDWR | OFlags::CREATE)?;
        match retry(|| fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let held = LockHeld {
                    path: path.to_owned(),
                    pid: holder(path),
                };
                return Err(io::Error::new(io::ErrorKind::WouldBlock, held));
            }
            Err(error) => return Err(error),
        }
        let mut file = std::fs::File::from(fd);
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

fn holder(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn open_direct(path: &Path) -> io::Result<Arc<dyn File>> {
    let fd = match open_fd(path, OFlags::RDWR | OFlags::DIRECT) {
        // How a file system says that it cannot.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            open_fd(path, OFlags::RDWR)?
        }
        fd => fd?,
    };
    Ok(Arc::new(RealFile { fd }))
}

fn open_fd(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o644);
    retry(|| fs::open(path, flags | OFlags::CLOEXEC, mode))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

struct RealLock {
    _file: std::fs::File,
}

impl Lock for RealLock {}

struct RealFile {
    fd: OwnedFd,
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        let stat = retry(|| fs::fstat(&self.fd))?;
        u64::try_from(stat.st_size).map_err(io::Error::other)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            let count =
                retry(|| rustix::io::pread(&self.fd, &mut buffer[read..], offset + read as u64))?;
            if count == 0 {
                break;
            }
            read += count;
        }
        Ok(read)
    }

    fn write_all_at(&self, buffers: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for group in buffers.chunks(BUFFERS_PER_WRITE_MAX) {
            offset = self.write_group(group, offset)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        retry(|| fs::ftruncate(&self.fd, len))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        retry(|| fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, offset, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        // Not repeated after EINTR: whatever a sync says but success, the pages may be gone.
        fs::fdatasync(&self.fd).map_err(io::Error::from)
    }
}

impl RealFile {
    /// Writes all of a group and returns the offset behind it.
    fn write_group(&self, group: &[IoSlice<'_>], mut offset: u64) -> io::Result<u64> {
        let total: usize = group.iter().map(|buffer| buffer.len()).sum();
        let mut written = match total {
            0 => return Ok(offset),
            _ => retry(|| rustix::io::pwritev(&self.fd, group, offset))?,
        };
        offset += written as u64;
        if written == total {
            return Ok(offset);
        }
        // A short write is rare: finish buffer by buffer.
        for buffer in group {
            let skip = written.min(buffer.len());
            written -= skip;
            let mut rest = &buffer[skip..];
            while !rest.is_empty() {
                let count = retry(|| rustix::io::pwrite(&self.fd, rest, offset))?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                rest = &rest[count..];
                offset += count as u64;
            }
        }
        Ok(offset)
    }
}

/// For messages: the path of a lock error, when it is one.
impl LockHeld {
    /// The lock error inside an `io::Error` that [`Fs::lock`] gave.
    pub fn from_io(error: &io::Error) -> Option<(&PathBuf, Option<u32>)> {
        let held = error.get_ref()?.downcast_ref::<LockHeld>()?;
        Some((&held.path, held.pid))
    }
}
