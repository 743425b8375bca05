//! What a checkpoint waits for before it is written, on a disk whose write-ahead log is slow at the worst moment.

use std::io::{self, IoSlice};
use std::path::Path;
use std::time::Duration;

use parking_lot::Condvar;
use tidemill_storage::clock::ManualClock;
use tidemill_storage::fs::{DirEntry, File, Fs, Lock, OpenMode, SimFs};

use super::*;
use crate::LogDir;
use crate::testing::{NOW_MS, append, batch, dir_config, log_config, topic_id, tp};

/// How long the write-ahead log is held up: a checkpoint that does not wait for it is written at once.
const HELD: Duration = Duration::from_millis(300);

/// Something that happens when the first segment file is synced.
type Happening = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Gate {
    happening: Mutex<Option<Happening>>,
    is_wal_held: Mutex<bool>,
    released: Condvar,
    written_too_early: AtomicBool,
}

/// A disk on which [`Gate::happening`] happens in the middle of a checkpoint's syncs, and whose write-ahead log then lags.
#[derive(Clone)]
struct GatedFs {
    disk: SimFs,
    gate: Arc<Gate>,
}

struct GatedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
    is_wal: bool,
    is_segment: bool,
}

impl Fs for GatedFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if path.ends_with("log.checkpoint.tmp") && *self.gate.is_wal_held.lock() {
            self.gate.written_too_early.store(true, Ordering::Release);
        }
        Ok(Arc::new(GatedFile {
            file: self.disk.open(path, mode)?,
            gate: Arc::clone(&self.gate),
            is_wal: path.to_string_lossy().contains("/wal/"),
            is_segment: path.extension().is_some_and(|found| found == "log"),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }
}

impl File for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buffers, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let happening = match self.is_segment {
            true => self.gate.happening.lock().take(),
            false => None,
        };
        if let Some(happening) = happening {
            *self.gate.is_wal_held.lock() = true;
            happening();
            let gate = Arc::clone(&self.gate);
            std::thread::spawn(move || {
                std::thread::sleep(HELD);
                *gate.is_wal_held.lock() = false;
                gate.released.notify_all();
            });
        }
        if self.is_wal {
            let mut is_held = self.gate.is_wal_held.lock();
            self.gate
                .released
                .wait_while(&mut is_held, |is_held| *is_held);
        }
        self.file.sync_data()
    }
}

/// A segment that goes while a checkpoint is taken is synced by nobody any more.
#[tokio::test]
async fn a_checkpoint_is_not_written_before_what_was_dropped_meanwhile_is_known_to_be() {
    type Drop = fn(&PartitionLog);
    let at_the_start: Drop = |log| {
        log.set_high_watermark(log.durable_end_offset());
        log.delete_records_before(Offset(4)).expect("dropped");
    };
    let at_the_end: Drop = |log| log.truncate_to(Offset(2)).expect("cut");
    for (case, dropped) in [("start", at_the_start), ("end", at_the_end)] {
        let gate = Arc::new(Gate::default());
        let fs = GatedFs {
            disk: SimFs::new(1),
            gate: Arc::clone(&gate),
        };
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let (dir, _) = LogDir::open(Arc::new(fs), dir_config(), clock).expect("it opens");
        let config = LogConfig {
            segment_bytes: 200,
            ..log_config()
        };
        let log = dir
            .create(tp("t", 0), topic_id(1), Arc::new(config))
            .expect("made");
        for _ in 0..6 {
            let info = append(&log, batch(1, 100));
            dir.wal().wait_durable(info.lsn).await.expect("durable");
        }
        let of_log = Arc::clone(&log);
        *gate.happening.lock() = Some(Box::new(move || dropped(&of_log)));
        dir.checkpoint().await.expect("a checkpoint");
        assert!(gate.happening.lock().is_none(), "{case}: it happened");
        assert!(!gate.written_too_early.load(Ordering::Acquire), "{case}");
        let told = log.with_state(|state| state.last_lsn);
        assert!(dir.wal().durable() >= told, "{case}");
    }
}
