//! Threads that run functions, apart from the threads that do I/O, and how they are shared out.
//!
//! A [`Job`] is one call. While it waits for a thread it stands in a queue that is ordered by the processor time that its
//! [`Share`] has used: whoever used least is next, and whoever runs on gives way at each tick (1 ms), or at once to somebody who
//! is far behind. So a function that needs a tenth of a core gets it at once, however many others loop. A share that was idle
//! does not save up time: it is put level with those that run now, a little ahead.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use parking_lot::Mutex;

/// After so long a call gives way to others.
const TICK: Duration = Duration::from_millis(1);
/// The clock goes on for so many ticks after the last call: waking it costs more than a few ticks do.
const IDLE_TICKS: u32 = 100;
/// How far a share that wakes up is put ahead of those that have been running.
const WAKE_BONUS_NS: u64 = 4_000_000;
/// Those that run give way at once to who has used so much less: a smaller difference is not worth that all of them stop.
const PREEMPT_NS: u64 = 2_000_000;
/// And no more often than that, since all threads stop for one.
const PREEMPT_EVERY: Duration = Duration::from_micros(250);

thread_local! {
    /// This thread's processor time when the job that it runs got it.
    static SLICE_BEGAN_NS: Cell<u64> = const { Cell::new(0) };
}

/// Processor time that this thread has used.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What one task may claim of the threads, and what it has had.
#[derive(Debug, Default)]
pub struct Share {
    /// Position in the queue.
    virtual_ns: AtomicU64,
    used_ns: AtomicU64,
}

impl Share {
    /// Processor time that its calls have used.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    /// The same, with the running slice. Only the job itself may ask.
    pub(crate) fn used_with_slice_ns(&self) -> u64 {
        let slice = thread_cpu_ns().saturating_sub(SLICE_BEGAN_NS.get());
        self.used_ns.load(Ordering::Relaxed) + slice
    }
}

type BoxedFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

const WAITING: usize = 0;
const QUEUED: usize = 1;
const RUNNING: usize = 2;
const RUNNING_AND_WOKEN: usize = 3;

/// One call that goes through the queue.
struct Job {
    share: Arc<Share>,
    workers: Arc<Workers>,
    state: AtomicUsize,
    /// None once it has ended.
    future: Mutex<Option<BoxedFuture>>,
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        loop {
            let (from, to) = match self.state.load(Ordering::Acquire) {
                WAITING => (WAITING, QUEUED),
                RUNNING => (RUNNING, RUNNING_AND_WOKEN),
                _ => return,
            };
            let changed =
                self.state
                    .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            if changed.is_ok() {
                if to == QUEUED {
                    let workers = self.workers.clone();
                    workers.enqueue(self, false);
                }
                return;
            }
        }
    }
}

#[derive(Default)]
struct Queue {
    ready: BTreeMap<(u64, u64), Arc<Job>>,
    /// Jobs that were queued: breaks ties in order.
    sequence: u64,
    /// Where those stand that run now.
    floor_ns: u64,
    preempted_at: Option<Instant>,
    idle_threads: Vec<Waker>,
}

impl Queue {
    fn may_preempt(&mut self) -> bool {
        let now = Instant::now();
        let may = self.preempted_at.is_none_or(|at| now - at >= PREEMPT_EVERY);
        if may {
            self.preempted_at = Some(now);
        }
        may
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfinished {
    /// The threads were stopped before it ended.
    #[error("the functions' threads have stopped")]
    Stopped,
    /// The host itself failed.
    #[error("the host of the functions failed by panic")]
    Panicked,
}

/// The queue, its threads and the clock that makes them give way.
pub struct Workers {
    engine: wasmtime::Engine,
    queue: Mutex<Queue>,
    /// Jobs that are on a thread.
    running: AtomicUsize,
    clock_waits: AtomicBool,
    clock: Mutex<Option<Waker>>,
    stopped: AtomicBool,
}

impl Workers {
    pub(crate) fn new(engine: wasmtime::Engine) -> Arc<Self> {
        Arc::new(Self {
            engine,
            queue: Mutex::default(),
            running: AtomicUsize::new(0),
            clock_waits: AtomicBool::new(false),
            clock: Mutex::new(None),
            stopped: AtomicBool::new(false),
        })
    }

    /// Runs a call on one of the threads. One whose caller goes away ends where it gives way next.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        share: &Arc<Share>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Unfinished> {
        let (mut send, result) = oneshot::channel();
        let future = async move {
            let mut call = std::pin::pin!(call);
            let done = std::future::poll_fn(|context| match send.poll_canceled(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => call.as_mut().poll(context).map(Some),
            });
            if let Some(done) = done.await {
                // The caller may go away even now.
                let _ = send.send(done);
            }
        };
        let job = Arc::new(Job {
            share: share.clone(),
            workers: self.clone(),
            state: AtomicUsize::new(QUEUED),
            future: Mutex::new(Some(Box::pin(future))),
        });
        self.enqueue(job, true);
        result
            .await
            .map_err(|_| match self.stopped.load(Ordering::SeqCst) {
                true => Unfinished::Stopped,
                false => Unfinished::Panicked,
            })
    }

    /// One thread's work, until [`Workers::stop`].
    pub async fn work(self: Arc<Self>) {
        std::future::poll_fn(|context| {
            loop {
                if self.stopped.load(Ordering::Acquire) {
                    return Poll::Ready(());
                }
                let job = {
                    let mut queue = self.queue.lock();
                    match queue.ready.pop_first() {
                        Some(((position, _), job)) => {
                            queue.floor_ns = queue.floor_ns.max(position);
                            job
                        }
                        None => {
                            queue.idle_threads.push(context.waker().clone());
                            return Poll::Pending;
                        }
                    }
                };
                self.advance(job);
            }
        })
        .await;
    }

    /// Makes calls give way at each tick, until [`Workers::stop`].
    pub async fn tick(self: Arc<Self>) {
        let mut idle_ticks = 0;
        std::future::poll_fn(|context| {
            // As long as somebody runs: who loops gives its thread back at a tick only.
            if self.stopped.load(Ordering::Acquire) && self.running.load(Ordering::Acquire) == 0 {
                return Poll::Ready(());
            }
            if self.running.load(Ordering::Acquire) > 0 {
                idle_ticks = 0;
            } else if idle_ticks >= IDLE_TICKS {
                *self.clock.lock() = Some(context.waker().clone());
                self.clock_waits.store(true, Ordering::SeqCst);
                if self.running.load(Ordering::SeqCst) == 0 && !self.stopped.load(Ordering::SeqCst)
                {
                    return Poll::Pending;
                }
                self.clock_waits.store(false, Ordering::SeqCst);
                idle_ticks = 0;
            } else {
                idle_ticks += 1;
            }
            std::thread::sleep(TICK);
            self.engine.increment_epoch();
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Ends the threads. Calls that wait or run come to nothing.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        let (idle, ready) = {
            let mut queue = self.queue.lock();
            (
                std::mem::take(&mut queue.idle_threads),
                std::mem::take(&mut queue.ready),
            )
        };
        idle.into_iter().for_each(Waker::wake);
        self.wake_clock();
        for job in ready.into_values() {
            job.future.lock().take();
        }
    }

    fn wake_clock(&self) {
        if self.clock_waits.swap(false, Ordering::SeqCst)
            && let Some(clock) = self.clock.lock().take()
        {
            clock.wake();
        }
    }

    fn enqueue(&self, job: Arc<Job>, is_new: bool) {
        let (idle, is_urgent) = {
            let mut queue = self.queue.lock();
            if self.stopped.load(Ordering::Acquire) {
                drop(queue);
                job.future.lock().take();
                return;
            }
            let mut position = job.share.virtual_ns.load(Ordering::Relaxed);
            if is_new {
                position = position.max(queue.floor_ns.saturating_sub(WAKE_BONUS_NS));
                job.share.virtual_ns.store(position, Ordering::Relaxed);
            }
            queue.sequence += 1;
            let sequence = queue.sequence;
            queue.ready.insert((position, sequence), job);
            let is_behind = is_new && position + PREEMPT_NS <= queue.floor_ns;
            let idle = queue.idle_threads.pop();
            let is_urgent = is_behind && idle.is_none() && queue.may_preempt();
            (idle, is_urgent)
        };
        match idle {
            Some(thread) => thread.wake(),
            None if is_urgent => self.engine.increment_epoch(),
            None => {}
        }
    }

    /// Polls a job once, and charges its share.
    fn advance(&self, job: Arc<Job>) {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.wake_clock();
        job.state.store(RUNNING, Ordering::Release);
        let began = thread_cpu_ns();
        SLICE_BEGAN_NS.set(began);
        let waker = Waker::from(job.clone());
        let mut slot = job.future.lock();
        let polled = slot.as_mut().map(|future| {
            let mut context = Context::from_waker(&waker);
            let poll = || future.as_mut().poll(&mut context);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(poll))
        });
        match polled {
            Some(Ok(Poll::Pending)) => {}
            Some(Err(_)) => {
                tracing::error!("a call of a function ended by panic");
                slot.take();
            }
            Some(Ok(Poll::Ready(()))) | None => {
                slot.take();
            }
        }
        let is_over = slot.is_none();
        drop(slot);
        let used = thread_cpu_ns().saturating_sub(began);
        job.share.used_ns.fetch_add(used, Ordering::Relaxed);
        job.share.virtual_ns.fetch_add(used, Ordering::Relaxed);
        self.running.fetch_sub(1, Ordering::SeqCst);
        if is_over {
            return;
        }
        let parked =
            job.state
                .compare_exchange(RUNNING, WAITING, Ordering::AcqRel, Ordering::Acquire);
        if parked.is_err() {
            job.state.store(QUEUED, Ordering::Release);
            self.enqueue(job, false);
        }
    }
}
