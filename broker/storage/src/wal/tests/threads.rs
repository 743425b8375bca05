//! What only real threads show: windows that gather during a sync, back-pressure, idle memory.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::task::{Context, Poll, Waker};

use parking_lot::Condvar;

use super::*;
use crate::fs::{DirEntry, File, Lock, OpenMode};

/// A disk whose syncs of files wait while the gate is shut, and tell that they do.
#[derive(Clone)]
struct GatedFs {
    inner: SimFs,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// (shut, syncs that wait)
    state: Mutex<(bool, usize)>,
    changed: Condvar,
    writes: AtomicUsize,
    synced: AtomicU64,
}

impl Gate {
    fn shut(&self) {
        self.state.lock().0 = true;
    }

    fn open(&self) {
        self.state.lock().0 = false;
        self.changed.notify_all();
    }

    fn await_sync(&self) {
        let mut state = self.state.lock();
        while state.1 == 0 {
            self.changed.wait(&mut state);
        }
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            self.changed.wait(&mut state);
        }
        state.1 -= 1;
        self.synced.fetch_add(1, Ordering::SeqCst);
    }
}

struct GatedFile {
    inner: Arc<dyn File>,
    gate: Arc<Gate>,
}

#[allow(clippy::len_without_is_empty, reason = "as in the trait")]
impl File for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }
    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.gate.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.write_all_at(buffers, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.allocate(offset, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.inner.sync_data()
    }
}

impl Fs for GatedFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let gate = Arc::clone(&self.gate);
        Ok(Arc::new(GatedFile {
            inner: self.inner.open(path, mode)?,
            gate,
        }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.read_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
}

fn open_gated(config: WalConfig) -> (Arc<Gate>, Wal) {
    let fs = GatedFs {
        inner: new_disk(1),
        gate: Arc::default(),
    };
    let gate = Arc::clone(&fs.gate);
    let nothing = &mut |_, _: &[u8]| Ok::<(), Infallible>(());
    let (wal, _) = Wal::open(Arc::new(fs), config, Lsn(0), nothing).unwrap();
    (gate, wal)
}

fn large() -> WalConfig {
    WalConfig {
        file_bytes: 1 << 20,
        window_bytes_max: 64 << 10,
        ..small()
    }
}

#[test]
fn what_gathers_during_a_sync_is_one_window() {
    let (gate, wal) = open_gated(large());
    gate.shut();
    let first = append(&wal, b"first");
    gate.await_sync();
    let (writes, synced) = (
        gate.writes.load(Ordering::SeqCst),
        gate.synced.load(Ordering::SeqCst),
    );
    let last = (0..500)
        .map(|number| append(&wal, &payload(number, 20)))
        .last()
        .unwrap();
    assert!(
        wal.durable() < first,
        "nothing is durable before the sync returns"
    );
    gate.open();
    block_on(wal.wait_durable(last)).unwrap();
    assert_eq!(gate.writes.load(Ordering::SeqCst) - writes, 1);
    assert_eq!(gate.synced.load(Ordering::SeqCst) - synced, 2);
    let stats = wal.stats();
    assert_eq!((stats.entries, stats.windows, stats.fsyncs), (501, 2, 2));
    assert_eq!(
        (stats.payload_bytes, stats.buffered_bytes),
        (5 + 500 * 20, 0)
    );
}

#[test]
fn a_window_has_a_bound() {
    let (gate, wal) = open_gated(large());
    gate.shut();
    append(&wal, b"first");
    gate.await_sync();
    let last = (0..200)
        .map(|number| append(&wal, &payload(number, 1000)))
        .last()
        .unwrap();
    let whole = append(&wal, &payload(0, 100_000));
    gate.open();
    block_on(wal.wait_durable(last)).unwrap();
    block_on(wal.wait_durable(whole)).unwrap();
    // 1 + 200 entries of 1,040 bytes in windows of 64 KiB, + the large one.
    assert_eq!(wal.stats().windows, 1 + 4 + 1);
}

#[test]
fn admission_waits_for_the_disk() {
    let (gate, wal) = open_gated(large());
    gate.shut();
    let mut context = Context::from_waker(Waker::noop());
    let mut last = Lsn(0);
    let appended = (0..)
        .take_while(|number| {
            let mut admission = Box::pin(wal.admit());
            let admitted = admission.as_mut().poll(&mut context).is_ready();
            if admitted {
                last = append(&wal, &payload(*number, 960));
            }
            admitted
        })
        .count();
    assert_eq!(appended, 17, "16 KiB of entries of 1,000 bytes");
    gate.open();
    block_on(wal.admit()).unwrap();
    block_on(wal.wait_durable(last)).unwrap();
}

#[test]
fn a_wait_that_is_given_up_leaves_nothing_behind() {
    let (gate, wal) = open_gated(large());
    gate.shut();
    let lsn = append(&wal, b"x");
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        let mut wait = Box::pin(wal.wait_durable(lsn));
        assert!(!wait.as_mut().poll(&mut context).is_ready());
        assert!(matches!(wait.as_mut().poll(&mut context), Poll::Pending));
        assert_eq!(wal.shared.waiting(), 1);
    }
    assert_eq!(wal.shared.waiting(), 0);
    gate.open();
    block_on(wal.wait_durable(lsn)).unwrap();
}

#[test]
fn recycling_gives_memory_back() {
    let (_gate, wal) = open_gated(large());
    let last = (0..500)
        .map(|number| append(&wal, &payload(number, 2000)))
        .last()
        .unwrap();
    block_on(wal.wait_durable(last)).unwrap();
    assert!(wal.shared.idle_buffer_bytes() > 0);
    wal.recycle_below(last);
    while wal.shared.idle_buffer_bytes() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_sync_that_succeeds_after_the_log_failed_acknowledges_nothing() {
    let (gate, wal) = open_gated(large());
    let told = Arc::new(AtomicU64::new(0));
    let teller = Arc::clone(&told);
    wal.set_on_durable(Box::new(move |lsn| teller.store(lsn.0, Ordering::SeqCst)));
    gate.shut();
    let lsn = append(&wal, b"x");
    gate.await_sync();
    let source = io::ErrorKind::Other.into();
    wal.shared.fail(WalFailure {
        step: WalStep::Rename,
        path: PathBuf::new(),
        source,
    });
    gate.open();
    assert!(matches!(block_on(wal.close()), Err(WalError::Failed(_))));
    assert!(matches!(
        block_on(wal.wait_durable(lsn)),
        Err(WalError::Failed(_))
    ));
    assert_eq!((told.load(Ordering::SeqCst), wal.durable()), (0, Lsn(0)));
}

#[allow(
    clippy::disallowed_methods,
    reason = "appenders on threads of their own"
)]
#[test]
fn many_threads_share_the_log() {
    let fs = new_disk(9);
    let wal = Arc::new(open(&fs, Lsn(0)).0);
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let wal = Arc::clone(&wal);
            std::thread::spawn(move || {
                block_on(async {
                    let mut stored = Vec::new();
                    for number in 0..100 {
                        wal.admit().await.unwrap();
                        let payload = payload(thread * 1000 + number, number * 7);
                        stored.push((store(&wal, &payload).await, payload));
                    }
                    stored
                })
            })
        })
        .collect();
    let mut stored: Entries = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    stored.sort();
    fs.crash();
    let (_, _, entries) = open(&fs.reboot(), Lsn(0));
    assert_eq!(entries, stored);
}
