//! Threads for work that may block. In a build for simulation (feature `sim`) such work is a task of
//! the current `LocalSet` instead, so that one seed gives one order of events.
//!
//! Code that runs here waits only by `.await` (never on a condition variable or a blocking channel);
//! file calls may block.

use std::future::Future;

/// Runs the future that `make` gives on a thread of its own, until it ends.
///
/// # Panics
/// When the system refuses another thread, as `std::thread::spawn` does.
pub fn spawn_thread<F, Fut>(name: &str, make: F) -> ThreadHandle
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    ThreadHandle {
        inner: imp::spawn(name, make),
    }
}

/// A spawned thread. Dropping it leaves the thread running.
#[derive(Debug)]
pub struct ThreadHandle {
    inner: imp::Handle,
}

impl ThreadHandle {
    /// Waits until the thread has ended, however it ended.
    pub async fn join(self) {
        imp::join(self.inner).await;
    }
}

#[cfg(not(feature = "sim"))]
mod imp {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};
    use std::thread::{JoinHandle, Thread};

    use futures_channel::oneshot;

    #[derive(Debug)]
    pub(super) struct Handle {
        thread: JoinHandle<()>,
        /// Never sent to: it resolves when the thread drops its half, by return or by panic.
        ended: oneshot::Receiver<()>,
    }

    pub(super) fn spawn<F, Fut>(name: &str, make: F) -> Handle
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let (alive, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _alive = alive;
                block_on(make());
            })
            .expect("the system refuses another thread");
        Handle { thread, ended }
    }

    pub(super) async fn join(handle: Handle) {
        let _ = handle.ended.await;
        if handle.thread.join().is_err() {
            tracing::error!("a thread ended by panic");
        }
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on(future: impl Future<Output = ()>) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        while future.as_mut().poll(&mut context).is_pending() {
            // A wake-up that came before this line has left its token: park returns at once.
            std::thread::park();
        }
    }
}

#[cfg(feature = "sim")]
mod imp {
    use std::future::Future;

    pub(super) type Handle = tokio::task::JoinHandle<()>;

    pub(super) fn spawn<F, Fut>(_name: &str, make: F) -> Handle
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        tokio::task::spawn_local(make())
    }

    pub(super) async fn join(handle: Handle) {
        if handle.await.is_err() {
            tracing::error!("a task ended by panic");
        }
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[tokio::test]
    async fn runs_a_future_that_is_not_send_on_a_named_thread() {
        let (send, receive) = tokio::sync::oneshot::channel();
        let (go, wait) = tokio::sync::oneshot::channel::<u32>();
        let handle = spawn_thread("tide-test", move || async move {
            let local = Rc::new(wait.await.expect("told to go"));
            let name = std::thread::current().name().map(str::to_owned);
            send.send((*local, name)).expect("somebody listens");
        });
        go.send(7).expect("the thread waits");
        assert_eq!(receive.await, Ok((7, Some("tide-test".to_owned()))));
        handle.join().await;
    }

    #[tokio::test]
    async fn join_returns_after_a_panic() {
        spawn_thread("tide-panics", || async { panic!("on purpose") })
            .join()
            .await;
    }
}
