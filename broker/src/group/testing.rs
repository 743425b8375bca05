//! A double for tests: a log in memory that can hold appends back or refuse them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;
use tidemill_protocol::ErrorCode;
use tokio::sync::Semaphore;

use super::log::{Appending, CoordinatorLog, CoordinatorRecord};

/// The wall clock of tests starts here.
pub(super) const START_MS: i64 = 1_700_000_000_000;

/// A log in memory.
pub(super) struct MemoryLog {
    records: Mutex<Vec<CoordinatorRecord>>,
    /// Sizes of the appends that succeeded, in records.
    appends: Mutex<Vec<usize>>,
    /// Outcomes of the next appends; afterwards they succeed.
    refusals: Mutex<VecDeque<Option<ErrorCode>>>,
    /// An append needs a permit while `is_held`.
    permits: Semaphore,
    is_held: Mutex<bool>,
    /// Reading waits for a message from here.
    read_gate: Mutex<Option<mpsc::Receiver<()>>>,
    bytes_max: usize,
}

impl MemoryLog {
    pub(super) fn new() -> Arc<Self> {
        Self::of(Vec::new())
    }

    pub(super) fn of(records: Vec<CoordinatorRecord>) -> Arc<Self> {
        Self::bounded(records, usize::MAX)
    }

    /// A log that refuses an append of more bytes.
    pub(super) fn bounded(records: Vec<CoordinatorRecord>, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::new(records),
            appends: Mutex::default(),
            refusals: Mutex::default(),
            permits: Semaphore::new(0),
            is_held: Mutex::new(false),
            read_gate: Mutex::default(),
            bytes_max,
        })
    }

    /// From now on appends wait for [`MemoryLog::let_through`].
    pub(super) fn hold(&self) {
        *self.is_held.lock() = true;
    }

    /// Lets so many appends through that wait or will come.
    pub(super) fn let_through(&self, appends: usize) {
        self.permits.add_permits(appends);
    }

    /// The next append that is not decided yet fails.
    pub(super) fn refuse_next(&self, code: ErrorCode) {
        self.refusals.lock().push_back(Some(code));
    }

    /// Reading waits until the sender sends or goes away.
    pub(super) fn gate_reading(&self) -> mpsc::Sender<()> {
        let (open, gate) = mpsc::channel();
        *self.read_gate.lock() = Some(gate);
        open
    }

    pub(super) fn records(&self) -> Vec<CoordinatorRecord> {
        self.records.lock().clone()
    }

    pub(super) fn appends(&self) -> Vec<usize> {
        self.appends.lock().clone()
    }

    async fn append_some(&self, records: Vec<CoordinatorRecord>) -> Result<(), ErrorCode> {
        let is_held = *self.is_held.lock();
        if is_held {
            self.permits.acquire().await.expect("never closed").forget();
        }
        let size: usize = records.iter().map(CoordinatorRecord::size_bytes).sum();
        if size > self.bytes_max {
            return Err(ErrorCode::MessageTooLarge);
        }
        if let Some(Some(code)) = self.refusals.lock().pop_front() {
            return Err(code);
        }
        self.appends.lock().push(records.len());
        self.records.lock().extend(records);
        Ok(())
    }
}

impl CoordinatorLog for MemoryLog {
    fn append(&self, records: Vec<CoordinatorRecord>) -> Appending<'_> {
        Box::pin(self.append_some(records))
    }

    fn read_all(&self, visit: &mut dyn FnMut(CoordinatorRecord)) -> Result<(), ErrorCode> {
        if let Some(gate) = self.read_gate.lock().take() {
            let _ = gate.recv();
        }
        if let Some(Some(code)) = self.refusals.lock().pop_front() {
            return Err(code);
        }
        self.records.lock().iter().cloned().for_each(visit);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.records.lock().is_empty()
    }
}
