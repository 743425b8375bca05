//! What one function may use.

use std::time::Duration;

/// Bounds of one transform's instances; breaking one fails the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all memories of an instance.
    pub memory_bytes: u64,
    /// Processor time of one call.
    pub time: Duration,
    /// Keys, values and headers of the outputs of one frame, in bytes.
    pub output_bytes: u64,
    /// Outputs of one frame.
    pub output_records: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            time: Duration::from_secs(1),
            output_bytes: 16 << 20,
            output_records: 10_000,
        }
    }
}
