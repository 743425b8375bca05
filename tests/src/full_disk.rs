//! A disk that is full while a test says so: a fault double around real files.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidemill_storage::fs::{DirEntry, File, Fs, Lock, OpenMode, RealFs};

/// Real files on which nothing can grow while the disk is full. What is allocated already can be written.
#[derive(Clone, Default)]
pub struct FullDisk {
    is_full: Arc<AtomicBool>,
}

impl FullDisk {
    /// A disk with space.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills the disk, or makes space.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Fs for FullDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        // A name needs no space of its own as a rule: what is written behind it does.
        let file = RealFs.open(path, mode)?;
        Ok(Arc::new(FullDiskFile {
            file,
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        RealFs.lock(path)
    }
}

struct FullDiskFile {
    file: Arc<dyn File>,
    disk: FullDisk,
}

impl File for FullDiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        if offset + bytes as u64 > self.file.len()? {
            self.disk.check()?;
        }
        self.file.write_all_at(buffers, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk.check()?;
        self.file.allocate(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
