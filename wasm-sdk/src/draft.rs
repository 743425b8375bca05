//! A record that is being written.

use crate::Sink;
use crate::output::{OutputFrame, head, put};
use crate::wire::{
    CHANGE, EDIT, HEADER_APPEND, HEADER_CLEAR, HEADER_REMOVE, HEADER_SET, KEY_GIVEN,
    PARTITION_BITS, PARTITION_EXPLICIT, PARTITION_SOURCE, TIMESTAMP_GIVEN, VALUE_GIVEN, narrow,
};

const NULL: [u32; 2] = [0, -1i32 as u32];

/// A record that is being written; nothing comes of it until [`send`](Self::send).
///
/// Setting something again replaces it; header changes apply in order.
#[must_use = "a draft is emitted by `send`"]
pub struct Draft<'a> {
    frame: &'a mut OutputFrame,
    disposed: &'a mut bool,
    record: u32,
    kind: u8,
    flags: u8,
    sink: Sink,
    key: [u32; 2],
    value: [u32; 2],
    timestamp: i64,
    partition: i32,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        frame: &'a mut OutputFrame,
        disposed: &'a mut bool,
        record: u32,
        kind: u8,
        flags: u8,
    ) -> Self {
        frame.changes.clear();
        Self {
            frame,
            disposed,
            record,
            kind,
            flags,
            sink: Sink::default(),
            key: NULL,
            value: NULL,
            timestamp: 0,
            partition: 0,
        }
    }

    /// Writes to this sink instead of the first.
    pub fn sink(mut self, sink: Sink) -> Self {
        self.sink = sink;
        self
    }

    /// Gives the record a key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.flags |= KEY_GIVEN;
        self.key = self.frame.keep(key.as_ref());
        self
    }

    /// Makes the key null.
    pub fn null_key(mut self) -> Self {
        self.flags |= KEY_GIVEN;
        self.key = NULL;
        self
    }

    /// Gives the record a value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.flags |= VALUE_GIVEN;
        self.value = self.frame.keep(value.as_ref());
        self
    }

    /// Makes the value null: a compacted sink forgets the key.
    pub fn tombstone(mut self) -> Self {
        self.flags |= VALUE_GIVEN;
        self.value = NULL;
        self
    }

    /// Gives the record an event time, in milliseconds since 1970.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.flags |= TIMESTAMP_GIVEN;
        self.timestamp = milliseconds;
        self
    }

    /// Writes to this partition of the sink; without it the key decides.
    pub fn partition(mut self, partition: i32) -> Self {
        self.flags = self.flags & !PARTITION_BITS | PARTITION_EXPLICIT;
        self.partition = partition;
        self
    }

    /// Writes to the partition with the number of the source's (modulo, where the sink has fewer).
    pub fn same_partition(mut self) -> Self {
        self.flags = self.flags & !PARTITION_BITS | PARTITION_SOURCE;
        self
    }

    /// Appends a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.change(HEADER_APPEND, Some(name.as_ref()), Some(value.as_ref()));
        self
    }

    /// Appends a header with a null value.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.change(HEADER_APPEND, Some(name.as_ref()), None);
        self
    }

    /// Removes all headers of the name and appends one.
    pub fn set_header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.change(HEADER_SET, Some(name.as_ref()), Some(value.as_ref()));
        self
    }

    /// Removes all headers of the name.
    pub fn remove_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.change(HEADER_REMOVE, Some(name.as_ref()), None);
        self
    }

    /// Removes all headers.
    pub fn clear_headers(mut self) -> Self {
        self.change(HEADER_CLEAR, None, None);
        self
    }

    /// Emits the record.
    pub fn send(self) {
        let changes_at = if self.frame.changes.is_empty() {
            0
        } else {
            self.frame.frame.align();
            let at = self.frame.frame.len();
            self.frame.frame.extend(&self.frame.changes);
            narrow(at)
        };
        let mut operation = [0; 48];
        operation[..8].copy_from_slice(&head(self.kind, self.flags, self.sink, self.record));
        put(&mut operation, 8, self.key[0]);
        put(&mut operation, 12, self.key[1]);
        put(&mut operation, 16, self.value[0]);
        put(&mut operation, 20, self.value[1]);
        operation[24..32].copy_from_slice(&self.timestamp.to_le_bytes());
        put(&mut operation, 32, self.partition.cast_unsigned());
        put(&mut operation, 36, changes_at);
        put(
            &mut operation,
            40,
            narrow(self.frame.changes.len() / CHANGE),
        );
        self.frame.operation(operation);
        *self.disposed |= self.kind == EDIT;
    }

    fn change(&mut self, kind: u32, name: Option<&[u8]>, value: Option<&[u8]>) {
        let [name_at, name_length] = name.map_or(NULL, |name| self.frame.keep(name));
        let [value_at, value_length] = value.map_or(NULL, |value| self.frame.keep(value));
        for field in [kind, name_at, name_length, value_at, value_length, 0] {
            self.frame.changes.extend_from_slice(&field.to_le_bytes());
        }
    }
}
