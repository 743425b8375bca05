//! The limit of what logs may take of this disk, and what happens near it.
//!
//! What is used is measured round by round and counted up in between, so that a burst cannot pass the limit unseen. From
//! nine tenths on the disk is pressed: what is in the tier is trimmed whatever the topics would keep. At the limit producers
//! wait, and are refused when it takes too long.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Bytes of logs on this disk.
#[derive(Debug, Default)]
pub(crate) struct DiskLimit {
    bytes_max: Option<u64>,
    used: AtomicU64,
    room: Notify,
}

impl DiskLimit {
    pub(crate) fn new(bytes_max: Option<u64>) -> Self {
        Self {
            bytes_max,
            ..Self::default()
        }
    }

    pub(crate) fn bytes_max(&self) -> Option<u64> {
        self.bytes_max
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What was found when it was measured.
    pub(crate) fn measured(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
        self.wake();
    }

    pub(crate) fn appended(&self, bytes: usize) {
        if self.bytes_max.is_some() {
            self.used.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn freed(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.wake();
    }

    fn wake(&self) {
        if !self.is_full() {
            self.room.notify_waiters();
        }
    }

    fn is_full(&self) -> bool {
        self.bytes_max.is_some_and(|max| self.used_bytes() >= max)
    }

    pub(crate) fn is_pressed(&self) -> bool {
        self.bytes_max
            .is_some_and(|max| self.used_bytes() >= max / 10 * 9)
    }

    /// Waits while the limit is reached.
    pub(crate) async fn admit(&self) {
        while self.is_full() {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            // What made room before this line has left no wake-up.
            if self.is_full() {
                room.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_at_the_limit_goes_on_when_there_is_room() {
        let disk = std::sync::Arc::new(DiskLimit::new(Some(100)));
        disk.measured(89);
        assert!(!disk.is_pressed());
        disk.appended(11);
        assert!(disk.is_pressed());
        let waiting = tokio::spawn({
            let disk = disk.clone();
            async move { disk.admit().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        disk.freed(50);
        waiting.await.expect("it goes on");
        assert_eq!(disk.used_bytes(), 50);
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        let disk = DiskLimit::new(None);
        disk.measured(u64::MAX);
        disk.admit().await;
        assert!(!disk.is_pressed());
    }
}
