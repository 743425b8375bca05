//! How much memory all groups together may take.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes of groups, members and offsets against a bound.
#[derive(Debug)]
pub(crate) struct GroupMemory {
    used_bytes: AtomicUsize,
    bytes_max: usize,
}

impl GroupMemory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            used_bytes: AtomicUsize::new(0),
            bytes_max,
        }
    }

    pub(crate) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether so many bytes more stay within the bound. What the log brings back is never refused, so the
    /// bound may have been passed already.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.used_bytes().saturating_add(bytes) <= self.bytes_max
    }

    /// Something took `before` bytes and now takes `now`.
    pub(crate) fn resize(&self, before: usize, now: usize) {
        if now >= before {
            self.used_bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.used_bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}
