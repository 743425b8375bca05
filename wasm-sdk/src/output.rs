//! The output frame: the operations of all records, and what one record emits.

use crate::aligned::Aligned;
use crate::answer::clip;
use crate::draft::Draft;
use crate::wire::{DROP, EDIT, FAIL, INHERIT, NEW, OUTPUT_HEADER, OUTPUT_MAGIC, PASS, narrow};
use crate::{Failure, Sink};

/// A frame while it grows. Keys, values and header changes go straight to their place behind the
/// header; the operations, whose number is known at the end, follow them.
pub(crate) struct OutputFrame {
    pub(crate) frame: Aligned,
    pub(crate) operations: Vec<u8>,
    pub(crate) count: u32,
    /// Header changes of the draft at hand.
    pub(crate) changes: Vec<u8>,
}

/// Where a record begins, to return to.
#[derive(Clone, Copy)]
struct Mark {
    bytes: usize,
    operations: usize,
    count: u32,
}

impl OutputFrame {
    pub(crate) const fn new() -> Self {
        Self {
            frame: Aligned::new(),
            operations: Vec::new(),
            count: 0,
            changes: Vec::new(),
        }
    }

    pub(crate) fn begin(&mut self) {
        self.frame.truncate(0);
        self.frame.extend(&[0; OUTPUT_HEADER]);
        self.operations.clear();
        self.count = 0;
    }

    /// Writes what a record becomes by `process`: its emissions, a DROP or a FAIL.
    pub(crate) fn record(
        &mut self,
        record: u32,
        process: impl FnOnce(&mut Output<'_>) -> Result<(), Failure>,
    ) {
        let start = self.mark();
        let mut out = Output {
            frame: self,
            record,
            disposed: false,
            start,
        };
        let result = process(&mut out);
        let disposed = out.disposed;
        if let Err(failure) = result {
            self.rewind(start);
            self.fail(record, &failure);
        } else if !disposed {
            self.short(DROP, Sink::default(), record);
        }
    }

    pub(crate) fn finish(&mut self) -> &[u8] {
        self.frame.align();
        let operations_at = self.frame.len();
        self.frame.extend(&self.operations);
        let fields = [
            u32::from_le_bytes(OUTPUT_MAGIC),
            narrow(OUTPUT_HEADER),
            narrow(self.frame.len()),
            self.count,
            narrow(operations_at),
            narrow(self.operations.len()),
        ];
        let header = self.frame.bytes_mut();
        for (place, field) in header.chunks_exact_mut(4).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        self.frame.bytes()
    }

    /// Keeps bytes in the frame; gives the pair of position and length that means them.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> [u32; 2] {
        let at = self.frame.len();
        self.frame.extend(bytes);
        [narrow(at), narrow(bytes.len())]
    }

    pub(crate) fn operation<const N: usize>(&mut self, operation: [u8; N]) {
        self.operations.extend_from_slice(&operation);
        self.count += 1;
    }

    fn short(&mut self, kind: u8, sink: Sink, record: u32) {
        self.operation(head(kind, 0, sink, record));
    }

    fn fail(&mut self, record: u32, failure: &Failure) {
        let [at, length] = self.keep(clip(failure.message()).as_bytes());
        let mut operation = [0; 24];
        operation[..8].copy_from_slice(&head(FAIL, 0, Sink::default(), record));
        put(&mut operation, 8, failure.code());
        put(&mut operation, 12, at);
        put(&mut operation, 16, length);
        self.operation(operation);
    }

    fn mark(&self) -> Mark {
        Mark {
            bytes: self.frame.len(),
            operations: self.operations.len(),
            count: self.count,
        }
    }

    fn rewind(&mut self, mark: Mark) {
        self.frame.truncate(mark.bytes);
        self.operations.truncate(mark.operations);
        self.count = mark.count;
    }
}

/// The eight bytes that every operation begins with.
pub(crate) fn head(kind: u8, flags: u8, sink: Sink, record: u32) -> [u8; 8] {
    let low = u64::from(kind) | u64::from(flags) << 8 | u64::from(sink.0) << 16;
    (low | u64::from(record) << 32).to_le_bytes()
}

pub(crate) fn put(operation: &mut [u8], at: usize, field: u32) {
    operation[at..at + 4].copy_from_slice(&field.to_le_bytes());
}

/// Takes what becomes of one record: any number of records, in the order in which they are emitted.
pub struct Output<'a> {
    frame: &'a mut OutputFrame,
    record: u32,
    /// Whether the frame says already what becomes of the record itself. What is emitted from then on
    /// are further records.
    disposed: bool,
    start: Mark,
}

impl Output<'_> {
    /// Emits the record as it is, to the first sink.
    pub fn pass(&mut self) {
        self.pass_to(Sink::default());
    }

    /// Emits the record as it is.
    pub fn pass_to(&mut self, sink: Sink) {
        if self.disposed {
            self.edit().sink(sink).send();
        } else {
            self.disposed = true;
            self.frame.short(PASS, sink, self.record);
        }
    }

    /// Takes back what this record has emitted so far. A record that emits nothing is dropped, so
    /// this need not be called for it.
    #[allow(
        clippy::should_implement_trait,
        reason = "the name of what happens to the record"
    )]
    pub fn drop(&mut self) {
        self.disposed = false;
        self.frame.rewind(self.start);
    }

    /// Emits the record with changes, once they are sent. What is not changed stays: key, value,
    /// headers, timestamp.
    pub fn edit(&mut self) -> Draft<'_> {
        let (kind, flags) = if self.disposed {
            (NEW, INHERIT)
        } else {
            (EDIT, 0)
        };
        Draft::new(self.frame, &mut self.disposed, self.record, kind, flags)
    }

    /// Emits a record of its own, once it is sent. It begins with a null key, a null value, no headers,
    /// and the timestamp of this record.
    pub fn new_record(&mut self) -> Draft<'_> {
        Draft::new(self.frame, &mut self.disposed, self.record, NEW, 0)
    }
}
