//! What all partitions of a log directory share, and the bounds that hold over all of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tidemill_records::{Compression, RecordBatch};
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::Fs;
use tidemill_storage::wal::{Lsn, Wal, WalError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::checkpoint::CheckpointTrigger;
use crate::config::LogDirConfig;
use crate::drain::DrainQueue;
use crate::files::OpenFiles;
use crate::logs::Logs;
use crate::partition_log::PartitionLog;

/// Shared by a log directory, its partitions and its threads.
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: LogDirConfig,
    pub(crate) wal: Wal,
    pub(crate) timer: Timer,
    pub(crate) open_files: OpenFiles,
    pub(crate) drain: DrainQueue,
    pub(crate) checkpoint: CheckpointTrigger,
    pub(crate) counters: Counters,
    pub(crate) logs: Logs,
    /// Held while a compressed batch is open, so that bombs of many connections take the memory of one.
    opening: Mutex<()>,
    /// Partitions with appends that were not durable when they were made.
    awaiting: Mutex<Vec<Arc<PartitionLog>>>,
    /// What the write-ahead log last told to be durable. It tells before its own figure shows it.
    durable: AtomicU64,
    undrained_bytes: AtomicUsize,
    cached_bytes: AtomicUsize,
    admission: Notify,
    failed: AtomicBool,
    next_number: AtomicU64,
}

/// Counts since the directory was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) drained_bytes: AtomicU64,
    pub(crate) drain_writes: AtomicU64,
    pub(crate) drain_errors: AtomicU64,
    pub(crate) file_syncs: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) checkpoint_errors: AtomicU64,
    pub(crate) file_reads: AtomicU64,
    pub(crate) file_read_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

impl Shared {
    /// # Panics
    /// Outside of a tokio runtime with time, whose timer the threads use.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        config: LogDirConfig,
        wal: Wal,
    ) -> Shared {
        Shared {
            fs,
            clock,
            open_files: OpenFiles::new(config.open_files_max),
            config,
            wal,
            timer: Timer::of_this_runtime(),
            drain: DrainQueue::default(),
            checkpoint: CheckpointTrigger::default(),
            counters: Counters::default(),
            logs: Logs::default(),
            opening: Mutex::new(()),
            awaiting: Mutex::new(Vec::new()),
            durable: AtomicU64::new(0),
            undrained_bytes: AtomicUsize::new(0),
            cached_bytes: AtomicUsize::new(0),
            admission: Notify::new(),
            failed: AtomicBool::new(false),
            next_number: AtomicU64::new(0),
        }
    }

    /// Waits until no other compressed batch is open; the guard is held while this one is.
    pub(crate) fn opens_alone(&self, batch: &RecordBatch) -> Option<MutexGuard<'_, ()>> {
        (batch.compression() != Compression::None).then(|| self.opening.lock())
    }

    /// A number that no other call gives: it names logs, and orders the use of files.
    pub(crate) fn next_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Nothing is acknowledged any more: a file that a checkpoint needs could not be synced.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.admission.notify_waiters();
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Waits while too much is not durable, not drained, or not covered by a checkpoint.
    pub(crate) async fn admit(&self) -> Result<(), WalError> {
        loop {
            self.wal.admit().await?;
            if self.has_room() {
                return Ok(());
            }
            let admission = self.admission.notified();
            tokio::pin!(admission);
            admission.as_mut().enable();
            // What ended the lack of room before this line has left no wake-up.
            if self.has_room() {
                return Ok(());
            }
            self.drain.wake();
            self.checkpoint.wake();
            admission.await;
        }
    }

    fn has_room(&self) -> bool {
        let undrained = self.undrained_bytes.load(Ordering::Acquire);
        (undrained < self.config.undrained_bytes_max
            && self.wal.live_bytes() < self.config.wal_bytes_max)
            || self.has_failed()
    }

    /// Lets those look again who wait in [`Self::admit`].
    pub(crate) fn notify_admission(&self) {
        self.admission.notify_waiters();
    }

    pub(crate) fn undrained_bytes(&self) -> usize {
        self.undrained_bytes.load(Ordering::Acquire)
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cached_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_appended(&self, bytes: usize) {
        self.undrained_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.cached_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub_cached(&self, bytes: usize) {
        self.cached_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub_undrained(&self, bytes: usize) {
        let before = self.undrained_bytes.fetch_sub(bytes, Ordering::AcqRel);
        let bound = self.config.undrained_bytes_max;
        if before >= bound && before - bytes < bound {
            self.notify_admission();
        }
    }

    /// Whether the drain should not wait for full runs.
    pub(crate) fn is_drain_pressed(&self) -> bool {
        self.undrained_bytes() >= self.config.undrained_bytes_max / 2
    }

    /// Puts a partition on the list of those to be told when the write-ahead log's durable end advances.
    pub(crate) fn await_durable(&self, log: Arc<PartitionLog>) {
        self.awaiting.lock().push(log);
    }

    /// Tells nobody any more.
    pub(crate) fn forget_awaiting(&self) {
        let _let_go = std::mem::take(&mut *self.awaiting.lock());
    }

    /// How far partitions on the list were told. Who was listed after that was told sees it here.
    pub(crate) fn told_durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// The write-ahead log is durable up to `lsn`: tells every partition that waits for it. Runs on its thread.
    pub(crate) fn on_durable(&self, lsn: Lsn) {
        self.durable.fetch_max(lsn.0, Ordering::AcqRel);
        let mut logs = std::mem::take(&mut *self.awaiting.lock());
        logs.retain(|log| log.on_wal_durable(lsn));
        if !logs.is_empty() {
            self.awaiting.lock().append(&mut logs);
        }
        if self.is_drain_pressed() {
            self.drain.wake();
        }
        if self.checkpoint.is_behind(self) {
            self.checkpoint.wake();
        }
    }
}

/// Timers for threads that run no runtime of their own: those of the runtime in which the directory was opened.
pub(crate) struct Timer(tokio::runtime::Handle);

impl Timer {
    fn of_this_runtime() -> Timer {
        Timer(tokio::runtime::Handle::current())
    }

    pub(crate) fn now(&self) -> Instant {
        let _context = self.0.enter();
        Instant::now()
    }

    pub(crate) fn after(&self, delay: Duration) -> Instant {
        self.now() + delay
    }

    pub(crate) fn sleep_until(&self, deadline: Instant) -> impl Future<Output = ()> + use<> {
        // Only making the timer needs the runtime; polling it does not.
        let _context = self.0.enter();
        tokio::time::sleep_until(deadline)
    }

    /// Ends when `event` does, or at `deadline`.
    pub(crate) async fn event_or(
        &self,
        event: impl Future<Output = ()>,
        deadline: Option<Instant>,
    ) {
        match deadline {
            None => event.await,
            Some(deadline) => {
                let sleep = self.sleep_until(deadline);
                tokio::select! {
                    () = event => {}
                    () = sleep => {}
                }
            }
        }
    }
}
