//! What is appended and not yet durable, and everybody who waits for it.
//!
//! A *window* is what one write and one sync make durable. Callers copy entries into the filling
//! window; the writer takes it as soon as the sync of the one before has returned, so an idle disk
//! never waits, and a busy one gets larger windows.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, RwLock};

use super::entry::{ENTRY_HEADER_BYTES, EntryHeader, FIRST_ENTRY, Kind, crc32c_of_parts, extent};
use super::files::{Desk, ReadyFile};
use super::stats::Counters;
use super::waiters::{Place, Waiters};
use super::window::{Blocks, Window};
use super::{Lsn, WalConfig, WalError, WalFailure};

/// Buffers of windows that are kept for the next ones.
const IDLE_BUFFERS_MAX: usize = 4;

struct State {
    filling: Window,
    generation: u32,
    /// End of the file that the filling window is in.
    file_end: u64,
    /// End of the last file that is ready to be written to.
    ready_end: u64,
    /// Full windows, before the filling one.
    full: VecDeque<Window>,
    idle_buffers: Vec<Blocks>,
    /// Bytes in windows that are not durable.
    buffered: usize,
    /// Callers of admit.
    admissions: Vec<Waker>,
    writer: Option<Waker>,
    closing: bool,
    /// The writer has ended, in order or not.
    ended: bool,
    disk_full: bool,
    /// An append found the disk full.
    refused: bool,
    failure: Option<Arc<WalFailure>>,
}

/// Everything that the callers and the two threads share.
pub(super) struct Shared {
    pub(super) config: WalConfig,
    state: Mutex<State>,
    pub(super) desk: Mutex<Desk>,
    /// The state's `buffered`, to be read without the lock.
    buffered: AtomicUsize,
    /// Whether admit must look closer: the log is closing, failed or out of space.
    troubled: AtomicBool,
    durable: AtomicU64,
    /// The next position.
    end: AtomicU64,
    pub(super) first_live: AtomicU64,
    waiters: Waiters,
    pub(super) on_durable: RwLock<Option<Box<dyn Fn(Lsn) + Send + Sync>>>,
    pub(super) counters: Counters,
}

impl Shared {
    /// `start` is where what recovery found ends, `generation` that of the file that begins there, which need
    /// not exist yet.
    pub(super) fn new(config: WalConfig, start: u64, generation: u32, first_live: u64) -> Shared {
        let begin = start + FIRST_ENTRY;
        let state = State {
            filling: Window::new(start, begin, Blocks::default(), &[]),
            generation,
            file_end: start + config.file_bytes,
            ready_end: start,
            full: VecDeque::new(),
            idle_buffers: Vec::new(),
            buffered: 0,
            admissions: Vec::new(),
            writer: None,
            closing: false,
            ended: false,
            disk_full: false,
            refused: false,
            failure: None,
        };
        Shared {
            config,
            state: Mutex::new(state),
            desk: Mutex::new(Desk::default()),
            buffered: AtomicUsize::new(0),
            troubled: AtomicBool::new(false),
            durable: AtomicU64::new(start),
            end: AtomicU64::new(begin),
            first_live: AtomicU64::new(first_live),
            waiters: Waiters::default(),
            on_durable: RwLock::new(None),
            counters: Counters::default(),
        }
    }

    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    pub(super) fn payload_bytes_max(&self) -> u64 {
        let headers = FIRST_ENTRY + ENTRY_HEADER_BYTES as u64;
        (self.config.file_bytes - headers).min(u64::from(u32::MAX))
    }

    pub(super) async fn admit(&self) -> Result<(), WalError> {
        poll_fn(|context| self.poll_admit(context)).await
    }

    fn has_room(&self) -> bool {
        self.buffered() < self.config.buffer_bytes_max
    }

    fn poll_admit(&self, context: &mut Context<'_>) -> Poll<Result<(), WalError>> {
        if self.has_room() && !self.troubled.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.state.lock();
        state.check_open()?;
        if state.disk_full && (state.refused || !self.has_room()) {
            drop(state);
            self.retry_after_disk_full();
            return Poll::Ready(Err(WalError::DiskFull));
        }
        if self.has_room() {
            return Poll::Ready(Ok(()));
        }
        state.admissions.push(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn append(&self, parts: &[IoSlice<'_>]) -> Result<Lsn, WalError> {
        let payload_bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let max = self.payload_bytes_max();
        if payload_bytes > max {
            return Err(WalError::TooLarge {
                bytes: payload_bytes,
                max,
            });
        }
        // Outside the lock, as all that takes long.
        let payload_crc = crc32c_of_parts(parts);
        let extent = extent(payload_bytes);
        let mut state = self.state.lock();
        state.check_open()?;
        let rolls = state.filling.end() + extent > state.file_end;
        let needs = match rolls {
            true => state.file_end + self.config.file_bytes,
            false => state.file_end,
        };
        if state.disk_full && needs > state.ready_end {
            state.refused = true;
            self.troubled.store(true, Ordering::Release);
            drop(state);
            self.retry_after_disk_full();
            return Err(WalError::DiskFull);
        }
        if rolls {
            self.roll(&mut state);
        } else if !state.filling.is_empty()
            && state.filling.len() as u64 + extent > self.config.window_bytes_max as u64
        {
            state.begin_window();
        }
        // Below `payload_bytes_max`, which a u32 holds.
        self.push(
            &mut state,
            Kind::Data,
            payload_bytes as u32,
            payload_crc,
            parts,
        );
        let lsn = Lsn(state.filling.end());
        self.end.store(lsn.0, Ordering::Release);
        self.buffered.store(state.buffered, Ordering::Relaxed);
        let writer = state.writer.take();
        drop(state);
        self.counters.appended(payload_bytes);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(lsn)
    }

    /// Goes on in another file from here, when entries still go to the file with this base: says where
    /// that one begins.
    pub(super) fn leave_file(&self, base: u64) -> Option<u64> {
        let mut state = self.state.lock();
        if state.filling.base != base || state.check_open().is_err() {
            return None;
        }
        let next = state.filling.end();
        state.begin_file(next);
        state.file_end = next + self.config.file_bytes;
        state.ready_end = next;
        state.generation += 1;
        self.end.store(state.filling.end(), Ordering::Release);
        Some(next)
    }

    /// Whether somebody waits for the thread that owns the files.
    pub(super) fn hurries(&self) -> bool {
        let desk = self.desk.lock();
        desk.urgent || desk.stop
    }

    /// Leaves the rest of the file unused and goes on in the next one.
    fn roll(&self, state: &mut State) {
        if state.file_end - state.filling.end() >= ENTRY_HEADER_BYTES as u64 {
            self.push(state, Kind::RestUnused, 0, crc32c_of_parts(&[]), &[]);
            state.filling.last = true;
        }
        let base = state.file_end;
        state.begin_file(base);
        state.file_end = base + self.config.file_bytes;
        state.generation += 1;
    }

    fn push(
        &self,
        state: &mut State,
        kind: Kind,
        payload_bytes: u32,
        payload_crc: u32,
        parts: &[IoSlice<'_>],
    ) {
        let header = EntryHeader {
            position: state.filling.end(),
            durable: self.durable(),
            generation: state.generation,
            kind,
            payload_bytes,
            payload_crc,
        };
        let blocks = &mut state.filling.blocks;
        let extent = header.extent() as usize;
        blocks.reserve(extent);
        blocks.extend(&header.encode());
        for part in parts {
            blocks.extend(part);
        }
        blocks.extend_zeros(extent - ENTRY_HEADER_BYTES - payload_bytes as usize);
        state.buffered += extent;
    }

    /// The next window to write; None when the log ends.
    pub(super) async fn next_window(&self) -> Option<Window> {
        poll_fn(|context| {
            let mut state = self.state.lock();
            if state.failure.is_some() {
                return Poll::Ready(None);
            }
            if let Some(window) = state.full.pop_front() {
                return Poll::Ready(Some(window));
            }
            if !state.filling.is_empty() {
                state.begin_window();
                return Poll::Ready(state.full.pop_front());
            }
            if state.closing {
                return Poll::Ready(None);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The entry that says that the log was closed in order: where it belongs, and its bytes. None
    /// when the file has no room for it or does not exist.
    pub(super) fn closing_mark(&self) -> Option<Window> {
        let mut state = self.state.lock();
        let room = state.file_end - state.filling.end() >= ENTRY_HEADER_BYTES as u64;
        if !room || state.failure.is_some() || state.file_end > state.ready_end {
            return None;
        }
        self.push(&mut state, Kind::Closed, 0, crc32c_of_parts(&[]), &[]);
        // Nobody waits for it.
        state.buffered = 0;
        state.begin_window();
        state.full.pop_front()
    }

    /// Everything up to the window's end is durable: says so to everybody, and keeps its buffer.
    pub(super) fn window_is_durable(&self, mut window: Window) {
        // A recovery that began behind the mark for the unused rest would find nothing there.
        let end = match window.last {
            true => window.base + self.config.file_bytes,
            false => window.end(),
        };
        let mut state = self.state.lock();
        if state.failure.is_some() {
            return;
        }
        state.buffered -= window.len();
        self.buffered.store(state.buffered, Ordering::Relaxed);
        window.blocks.clear();
        let worth_keeping = window.blocks.capacity() <= 4 * self.config.window_bytes_max;
        if worth_keeping && state.idle_buffers.len() < IDLE_BUFFERS_MAX {
            state.idle_buffers.push(window.blocks);
        }
        let admitted = match state.buffered <= self.config.buffer_bytes_max / 2 {
            true => std::mem::take(&mut state.admissions),
            false => Vec::new(),
        };
        drop(state);
        if let Some(on_durable) = &*self.on_durable.read() {
            on_durable(Lsn(end));
        }
        self.durable.store(end, Ordering::Release);
        self.waiters.wake(end);
        admitted.into_iter().for_each(Waker::wake);
    }

    /// Gives memory back that no window uses.
    pub(super) fn release_idle_buffers(&self) {
        let released = std::mem::take(&mut self.state.lock().idle_buffers);
        drop(released);
    }

    pub(super) fn file_is_ready(&self, file: ReadyFile, end: u64) {
        let mut state = self.state.lock();
        state.ready_end = end;
        state.disk_full = false;
        state.refused = false;
        self.troubled
            .store(state.closing || state.failure.is_some(), Ordering::Release);
        let admitted = std::mem::take(&mut state.admissions);
        drop(state);
        let mut desk = self.desk.lock();
        desk.ready = Some(file);
        desk.urgent = false;
        desk.half_full = false;
        desk.full = false;
        let writer = desk.writer.take();
        drop(desk);
        admitted.into_iter().chain(writer).for_each(Waker::wake);
    }

    pub(super) fn disk_is_full(&self) {
        let mut state = self.state.lock();
        state.disk_full = true;
        self.troubled.store(true, Ordering::Release);
        let admissions = std::mem::take(&mut state.admissions);
        drop(state);
        let mut desk = self.desk.lock();
        desk.full = true;
        let writer = desk.writer.take();
        drop(desk);
        admissions.into_iter().chain(writer).for_each(Waker::wake);
    }

    fn retry_after_disk_full(&self) {
        self.tell_file_thread(|desk| {
            desk.retry = true;
            desk.urgent = true;
        });
    }

    pub(super) fn tell_file_thread(&self, change: impl FnOnce(&mut Desk)) {
        let mut desk = self.desk.lock();
        change(&mut desk);
        let owner = desk.owner.take();
        drop(desk);
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// The file that begins at `base`, once it is ready; None when it never will be.
    pub(super) async fn take_file(&self, base: u64) -> Option<ReadyFile> {
        poll_fn(|context| {
            let mut desk = self.desk.lock();
            if let Some(file) = desk.ready.take() {
                assert_eq!(
                    file.base, base,
                    "files are prepared in the order of their positions"
                );
                // The one after it may be prepared from now on.
                let owner = desk.owner.take();
                drop(desk);
                if let Some(owner) = owner {
                    owner.wake();
                }
                return Poll::Ready(Some(file));
            }
            // A full disk is not waited for when nobody can come any more who would try again.
            if desk.stop || (desk.closing && desk.full && !desk.retry) {
                return Poll::Ready(None);
            }
            desk.urgent = true;
            desk.writer = Some(context.waker().clone());
            let owner = desk.owner.take();
            drop(desk);
            if let Some(owner) = owner {
                owner.wake();
            }
            Poll::Pending
        })
        .await
    }

    /// No more entries; the writer ends once all are durable.
    pub(super) fn begin_closing(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        self.troubled.store(true, Ordering::Release);
        let admissions = std::mem::take(&mut state.admissions);
        let writer = state.writer.take();
        drop(state);
        admissions.into_iter().chain(writer).for_each(Waker::wake);
        self.tell_file_thread(|desk| {
            desk.closing = true;
            desk.retry = true;
        });
    }

    /// The log has failed for ever: nothing that is not durable now is ever acknowledged.
    pub(super) fn fail(&self, failure: WalFailure) {
        tracing::error!(%failure, "the write-ahead log failed, nothing more is acknowledged");
        let mut state = self.state.lock();
        state.failure.get_or_insert_with(|| Arc::new(failure));
        self.troubled.store(true, Ordering::Release);
        state.full = VecDeque::new();
        state.filling.blocks = Blocks::default();
        state.idle_buffers = Vec::new();
        let admissions = std::mem::take(&mut state.admissions);
        let writer = state.writer.take();
        drop(state);
        admissions.into_iter().chain(writer).for_each(Waker::wake);
        self.desk.lock().recycle_below = 0;
        self.writer_ended();
    }

    /// Nobody will make anything durable any more: ends every wait, and the other thread.
    pub(super) fn writer_ended(&self) {
        self.state.lock().ended = true;
        self.waiters.wake(u64::MAX);
        let mut desk = self.desk.lock();
        desk.stop = true;
        let wakers = [desk.owner.take(), desk.writer.take()];
        drop(desk);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().failure.is_some()
    }

    /// How the log ended, once its threads have.
    pub(super) fn closing_result(&self) -> Result<(), WalError> {
        let state = self.state.lock();
        match &state.failure {
            Some(failure) => Err(WalError::Failed(Arc::clone(failure))),
            // The writer ends in order with something left only when there is no space for it.
            None if state.buffered > 0 => Err(WalError::DiskFull),
            None => Ok(()),
        }
    }

    pub(super) fn first_file_is_ready(&self) {
        let mut state = self.state.lock();
        state.ready_end = state.file_end;
    }

    /// Whether a wait for a position is over, and how.
    fn outcome(&self, lsn: Lsn) -> Option<Result<(), WalError>> {
        if self.durable() >= lsn.0 {
            return Some(Ok(()));
        }
        let state = self.state.lock();
        match &state.failure {
            Some(failure) => Some(Err(WalError::Failed(Arc::clone(failure)))),
            None if state.ended => Some(Err(WalError::Closed)),
            None => None,
        }
    }

    pub(super) async fn wait_durable(&self, lsn: Lsn) -> Result<(), WalError> {
        let mut wait = Wait {
            shared: self,
            lsn,
            place: None,
        };
        poll_fn(|context| wait.poll(context)).await
    }
}

#[cfg(all(test, not(feature = "sim")))]
impl Shared {
    pub(super) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn idle_buffer_bytes(&self) -> usize {
        self.state
            .lock()
            .idle_buffers
            .iter()
            .map(Blocks::capacity)
            .sum()
    }
}

impl State {
    /// Puts the filling window behind the full ones, and begins the next one in the same file.
    fn begin_window(&mut self) {
        let blocks = self.idle_buffers.pop().unwrap_or_default();
        let filled = &self.filling;
        let next = Window::new(filled.base, filled.end(), blocks, filled.unfinished_block());
        self.replace_window(next);
    }

    /// Puts the filling window behind the full ones, and begins the first one in another file.
    fn begin_file(&mut self, base: u64) {
        let blocks = self.idle_buffers.pop().unwrap_or_default();
        self.replace_window(Window::new(base, base + FIRST_ENTRY, blocks, &[]));
    }

    fn replace_window(&mut self, next: Window) {
        let mut filled = std::mem::replace(&mut self.filling, next);
        if filled.is_empty() {
            filled.blocks.clear();
            self.idle_buffers.push(filled.blocks);
        } else {
            self.full.push_back(filled);
        }
    }

    fn check_open(&self) -> Result<(), WalError> {
        match &self.failure {
            Some(failure) => Err(WalError::Failed(Arc::clone(failure))),
            None if self.closing || self.ended => Err(WalError::Closed),
            None => Ok(()),
        }
    }
}

/// Somebody who waits for a position. Leaves the list when dropped.
struct Wait<'a> {
    shared: &'a Shared,
    lsn: Lsn,
    place: Option<Place>,
}

impl Wait<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), WalError>> {
        let Wait { shared, lsn, place } = self;
        if shared.durable() >= lsn.0 {
            return Poll::Ready(Ok(()));
        }
        let outcome = || shared.outcome(*lsn);
        match shared.waiters.wait(lsn.0, place, context.waker(), outcome) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.waiters.leave(place);
        }
    }
}
