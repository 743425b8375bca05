//! Work that goes on when its client is gone.
//!
//! A store that has received a PUT stores it whether or not somebody still waits for the answer, so
//! operations do not run in their connection's task.

use std::future::Future;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Running operations and PUTs that are late on purpose. Their number is bounded by the connections,
/// and that of late PUTs by the memory budget.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Mutex<JoinSet<()>>,
}

impl Tasks {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock();
        while running.try_join_next().is_some() {}
        running.spawn(work);
    }

    /// Runs `work` to its end even if the caller stops waiting. None if it panicked or was stopped.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.spawn(async move {
            // The receiver is gone when the client is, and then nobody wants the result.
            drop(done.send(work.await));
        });
        result.await.ok()
    }

    /// Ends all work where it stands.
    pub(crate) async fn stop(&self) {
        let mut running = std::mem::take(&mut *self.running.lock());
        running.shutdown().await;
    }
}
