//! Where a coordinator keeps its state: one partition of `__consumer_offsets`, as the coordinator sees it.

use std::pin::Pin;

use bytes::Bytes;
use tidemill_protocol::ErrorCode;

/// One record of `__consumer_offsets`; no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoordinatorRecord {
    pub(crate) key: Bytes,
    pub(crate) value: Option<Bytes>,
}

impl CoordinatorRecord {
    pub(crate) fn size_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The outcome of an append.
pub(crate) type Appending<'a> = Pin<Box<dyn Future<Output = Result<(), ErrorCode>> + Send + 'a>>;

/// The log of one coordinator partition. Its coordinator is the only one that writes to it.
pub(crate) trait CoordinatorLog: Send + Sync {
    /// Appends all of the records or none, in their order, and returns when every in-sync replica has made
    /// them durable. An error means that they may never become visible: the coordinator does not show
    /// them, though a later leader may still find them.
    fn append(&self, records: Vec<CoordinatorRecord>) -> Appending<'_>;

    /// Shows all records to `visit`, oldest first. Reads files, so it must not run where requests do.
    fn read_all(&self, visit: &mut dyn FnMut(CoordinatorRecord)) -> Result<(), ErrorCode>;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool;
}
