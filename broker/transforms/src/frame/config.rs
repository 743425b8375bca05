//! The configuration frame.

use std::sync::Arc;

use super::{CONFIG_MAGIC, Heap, aligned, put_u32};

const HEADER_BYTES: usize = 40;
const ENTRY_BYTES: usize = 16;
const SINK_BYTES: usize = 8;

/// What a function is deployed with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Keys and values for the function itself.
    pub config: Vec<(Arc<str>, Arc<str>)>,
    /// The topics that sink indices mean.
    pub sinks: Vec<Arc<str>>,
}

impl Manifest {
    /// The frame that `init` takes.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let entries_at = HEADER_BYTES;
        let sinks_at = entries_at + ENTRY_BYTES * self.config.len();
        let heap_at = aligned(sinks_at + SINK_BYTES * self.sinks.len());
        let entries = self.config.iter();
        let bytes: usize = entries.map(|(key, value)| key.len() + value.len()).sum();
        let bytes = bytes + self.sinks.iter().map(|name| name.len()).sum::<usize>();
        let mut out = vec![0; heap_at + bytes];
        put_u32(&mut out, 0, CONFIG_MAGIC);
        put_u32(&mut out, 4, HEADER_BYTES as u32);
        put_u32(&mut out, 8, (heap_at + bytes) as u32);
        put_u32(&mut out, 12, self.config.len() as u32);
        put_u32(&mut out, 16, entries_at as u32);
        put_u32(&mut out, 20, self.sinks.len() as u32);
        put_u32(&mut out, 24, sinks_at as u32);
        let mut heap = Heap {
            out: &mut out,
            before: 0,
            at: heap_at,
        };
        for (index, (key, value)) in self.config.iter().enumerate() {
            let entry = entries_at + index * ENTRY_BYTES;
            heap.put_at(entry, Some(key.as_bytes()));
            heap.put_at(entry + 8, Some(value.as_bytes()));
        }
        for (index, name) in self.sinks.iter().enumerate() {
            heap.put_at(sinks_at + index * SINK_BYTES, Some(name.as_bytes()));
        }
        out
    }
}
