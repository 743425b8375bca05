//! The write-ahead log.
//! (first form: one write and one fdatasync per append; the interface is the final one)

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crc_fast::{CrcAlgorithm, checksum};
use parking_lot::Mutex;

use crate::fs::{File, Fs, OpenMode};

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
    /// Size of a file, and nearly the bound of an entry (see [`Wal::payload_bytes_max`]).
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
    #[error("the write-ahead log failed ({0}); restart the broker once the disk is well")]
    Failed(Arc<io::Error>),
    /// No space for another file. It ends by itself when there is space.
    #[error("no space for another write-ahead log file")]
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

/// Why a log could not be opened; `E` is what `visit` may say.
#[derive(Debug, thiserror::Error)]
pub enum WalOpenError<E> {
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `visit` refused an entry.
    #[error(transparent)]
    Visit(E),
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalRecovery {
    /// Entries given to `visit`.
    pub entries: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// The end of the last good entry.
    pub end: Lsn,
}

/// Figures since the log was opened.
#[derive(Debug, Clone, Default)]
pub struct WalStats {
    /// Entries appended.
    pub entries: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Calls of fdatasync.
    pub fsyncs: u64,
}

type OnDurable = Box<dyn Fn(Lsn) + Send + Sync>;

/// A handle to an open log; share it in an `Arc`.
pub struct Wal {
    file: Arc<dyn File>,
    config: WalConfig,
    end: Mutex<u64>,
    durable: AtomicU64,
    closed: AtomicBool,
    entries: AtomicU64,
    on_durable: Mutex<Option<OnDurable>>,
}

impl Wal {
    /// Opens the log in `config.dir` (empty when there is none) and gives every entry that ends
    /// after `from` to `visit`, in order, with its end.
    pub fn open<E>(
        fs: Arc<dyn Fs>,
        config: WalConfig,
        from: Lsn,
        visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<(Wal, WalRecovery), WalOpenError<E>> {
        let path = config.dir.join("first.wal");
        let failed = |source| WalOpenError::Io {
            path: path.clone(),
            source,
        };
        fs.create_dir_all(&config.dir).map_err(failed)?;
        let file = fs.open(&path, OpenMode::Create).map_err(failed)?;
        fs.sync_dir(&config.dir).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, 0).map_err(failed)?;
        let mut recovery = WalRecovery::default();
        let mut rest = &bytes[..];
        let mut end = 0;
        while let Some((head, body)) = rest.split_first_chunk::<8>() {
            let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
            let Some(payload) = body.get(..len) else {
                break;
            };
            if crc != checksum(CrcAlgorithm::Crc32Iscsi, payload) as u32 {
                break;
            }
            end += 8 + len as u64;
            rest = &body[len..];
            if end > from.0 {
                visit(Lsn(end), payload).map_err(WalOpenError::Visit)?;
                recovery.entries += 1;
                recovery.bytes += len as u64;
            }
        }
        recovery.end = Lsn(end);
        file.set_len(end).map_err(failed)?;
        let wal = Wal {
            file,
            config,
            end: Mutex::new(end),
            durable: AtomicU64::new(end),
            closed: AtomicBool::new(false),
            entries: AtomicU64::new(0),
            on_durable: Mutex::new(None),
        };
        Ok((wal, recovery))
    }

    /// The largest payload that [`Wal::append`] takes.
    pub fn payload_bytes_max(&self) -> u64 {
        self.config.file_bytes - 128
    }

    /// Waits while too much is appended but not durable. Call it before [`Wal::append`], which
    /// itself never waits.
    pub async fn admit(&self) -> Result<(), WalError> {
        Ok(())
    }

    /// Adds an entry whose payload is the parts one after the other, and says where it ends.
    /// Durable once [`Wal::wait_durable`] of that position has returned.
    pub fn append(&self, parts: &[IoSlice<'_>]) -> Result<Lsn, WalError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(WalError::Closed);
        }
        let payload: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let max = self.payload_bytes_max();
        if payload.len() as u64 > max {
            return Err(WalError::TooLarge {
                bytes: payload.len() as u64,
                max,
            });
        }
        let mut head = [0; 8];
        head[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &payload) as u32;
        head[4..].copy_from_slice(&crc.to_le_bytes());
        let failed = |error| WalError::Failed(Arc::new(error));
        let mut end = self.end.lock();
        let buffers = [IoSlice::new(&head), IoSlice::new(&payload)];
        self.file.write_all_at(&buffers, *end).map_err(failed)?;
        self.file.sync_data().map_err(failed)?;
        *end += 8 + payload.len() as u64;
        let lsn = Lsn(*end);
        self.durable.store(lsn.0, Ordering::Release);
        self.entries.fetch_add(1, Ordering::Relaxed);
        drop(end);
        if let Some(on_durable) = &*self.on_durable.lock() {
            on_durable(lsn);
        }
        Ok(lsn)
    }

    /// Everything up to here survives a power loss.
    pub fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Waits until everything up to `lsn` is durable. An error means that it may or may not be.
    pub async fn wait_durable(&self, _lsn: Lsn) -> Result<(), WalError> {
        Ok(())
    }

    /// Sets what is called, on the log's own thread, with the new durable end after each sync, and
    /// before anybody who waits for it returns.
    pub fn set_on_durable(&self, on_durable: Box<dyn Fn(Lsn) + Send + Sync>) {
        *self.on_durable.lock() = Some(on_durable);
    }

    /// Says that nothing that ends at or below `lsn` is needed any more. Returns at once.
    pub fn recycle_below(&self, _lsn: Lsn) {}

    /// Bytes that a recovery would read.
    pub fn live_bytes(&self) -> u64 {
        *self.end.lock()
    }

    /// Prepares the next file in the background, so that appending never waits for one. Call it
    /// once the broker is ready.
    pub fn preallocate_in_background(&self) {}

    /// Makes everything durable, marks the log as closed in order, and ends its threads.
    pub async fn close(&self) -> Result<(), WalError> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }

    /// Figures since the log was opened.
    pub fn stats(&self) -> WalStats {
        let entries = self.entries.load(Ordering::Relaxed);
        WalStats {
            entries,
            bytes: *self.end.lock(),
            fsyncs: entries,
        }
    }
}
