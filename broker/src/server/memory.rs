//! Bounds on what requests may hold in memory, for all connections together.
//!
//! A connection charges bytes as they arrive, never the length that a frame announces. Over the bound a
//! connection stops reading, which TCP turns into back-pressure; what it waits for is given back when
//! requests end. A stalled frame is closed by its deadline, so that waiters always get their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Shared budget of request bytes.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    used_bytes: AtomicUsize,
    bytes_max: usize,
    released: Notify,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            used_bytes: AtomicUsize::new(0),
            bytes_max,
            released: Notify::new(),
        })
    }

    /// Bytes charged now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// An empty charge that grows as bytes arrive and gives all back when dropped.
    pub(crate) fn charge(self: &Arc<Self>) -> Charge {
        Charge {
            budget: self.clone(),
            bytes: 0,
            pinned_bytes: 0,
        }
    }

    /// Waits until the budget is not exhausted. The last one in may overshoot by one read.
    pub(crate) async fn available(&self) {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.used_bytes() < self.bytes_max {
                return;
            }
            released.await;
        }
    }

    /// Is there room at once?
    pub(crate) fn is_available(&self) -> bool {
        self.used_bytes() < self.bytes_max
    }
}

/// Bytes that one frame holds.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<MemoryBudget>,
    bytes: usize,
    pinned_bytes: usize,
}

impl Charge {
    /// Size of the buffer that the frame is part of: so much stays in memory with any piece of it.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.pinned_bytes
    }

    /// Says how large the buffer is.
    pub(crate) fn pin(&mut self, bytes: usize) {
        self.pinned_bytes = bytes;
    }

    /// Counts bytes that arrived.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.budget.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let before = self
            .budget
            .used_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.budget.bytes_max {
            self.budget.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_full_budget_waits_until_a_charge_is_dropped() {
        let budget = MemoryBudget::new(10);
        let mut charge = budget.charge();
        charge.grow(10);
        assert!(!budget.is_available());
        let waiting = budget.available();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(charge);
        assert_eq!(budget.used_bytes(), 0);
        assert!(waiting.now_or_never().is_some());
    }
}
