//! Frames as a host writes and reads them.

use super::Input;
use crate::Failure;
use crate::aligned::Aligned;
use crate::sections;
use crate::wire::{
    ANSWER_HEADER, ANSWER_MAGIC, CHANGE, CONFIG_HEADER, CONFIG_MAGIC, DROP, EDIT, FAIL, INHERIT,
    INPUT_HEADER, INPUT_MAGIC, KEY_GIVEN, Malformed, NEW, OUTPUT_HEADER, OUTPUT_MAGIC, PAIR,
    PARTITION_BITS, PARTITION_EXPLICIT, PARTITION_SOURCE, PASS, RECORD, TIMESTAMP_GIVEN,
    VALUE_GIVEN, fixed, i32_at, i64_at, narrow, open, range, size_at, table, u32_at,
};

/// Where an input frame comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The source topic.
    pub topic: String,
    /// The source partition.
    pub partition: i32,
    /// The epoch of its leader.
    pub leader_epoch: i32,
    /// The offset that those of the records count from.
    pub base_offset: i64,
}

/// A configuration frame.
pub fn config(entries: &[(&str, Option<&str>)], sinks: &[&str]) -> Vec<u8> {
    let mut frame = Writer::new(CONFIG_MAGIC, CONFIG_HEADER);
    let entries_at = frame.table(entries.len() * PAIR);
    let sinks_at = frame.table(sinks.len() * PAIR / 2);
    for (row, (key, value)) in entries.iter().enumerate() {
        frame.range(entries_at + row * PAIR, Some(key.as_bytes()));
        frame.range(entries_at + row * PAIR + 8, value.map(str::as_bytes));
    }
    for (row, sink) in sinks.iter().enumerate() {
        frame.range(sinks_at + row * PAIR / 2, Some(sink.as_bytes()));
    }
    frame.put(12, narrow(entries.len()));
    frame.put(16, narrow(entries_at));
    frame.put(20, narrow(sinks.len()));
    frame.put(24, narrow(sinks_at));
    frame.finish()
}

/// An input frame.
pub fn input(source: &Source, records: &[Input]) -> Vec<u8> {
    input_with(source, records, &Growth::default())
}

/// How a frame of a later host differs from one of this text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Bytes behind the header, a multiple of 8.
    pub header: usize,
    /// Bytes behind each record's descriptor, a multiple of 8.
    pub record: usize,
    /// Sections, as kinds and payloads.
    pub sections: Vec<(u32, Vec<u8>)>,
}

/// An input frame of a later host. What it has more is filled with `0xee`.
pub fn input_with(source: &Source, records: &[Input], growth: &Growth) -> Vec<u8> {
    let mut frame = Writer::new(INPUT_MAGIC, INPUT_HEADER + growth.header);
    frame.bytes.bytes_mut()[INPUT_HEADER..].fill(0xee);
    let stride = RECORD + growth.record;
    let records_at = frame.table(records.len() * stride);
    for (index, record) in records.iter().enumerate() {
        let at = records_at + index * stride;
        let headers_at = frame.table(record.headers.len() * PAIR);
        frame.put_i64(at, record.timestamp);
        frame.put(at + 8, record.offset_delta.unwrap_or(narrow(index)));
        frame.range(at + 12, record.key.as_deref());
        frame.range(at + 20, record.value.as_deref());
        frame.put(at + 28, narrow(headers_at));
        frame.put(at + 32, narrow(record.headers.len()));
        frame.put(at + 36, u32::from(record.append_time));
        frame.bytes.bytes_mut()[at + RECORD..at + stride].fill(0xee);
        for (row, (name, value)) in record.headers.iter().enumerate() {
            frame.range(headers_at + row * PAIR, Some(name));
            frame.range(headers_at + row * PAIR + 8, value.as_deref());
        }
    }
    let sections_at = frame.sections(&growth.sections);
    frame.put(12, narrow(records.len()));
    frame.put(16, narrow(records_at));
    frame.put(20, narrow(stride));
    frame.put(24, sections_at);
    frame.put(28, source.partition.cast_unsigned());
    frame.put_i64(32, source.base_offset);
    frame.put(40, source.leader_epoch.cast_unsigned());
    frame.range(48, Some(source.topic.as_bytes()));
    frame.finish()
}

/// A frame that grows; fields are filled in later.
struct Writer {
    bytes: Aligned,
}

impl Writer {
    fn new(magic: [u8; 4], header: usize) -> Self {
        let mut writer = Self {
            bytes: Aligned::new(),
        };
        writer.table(header);
        writer.put(0, u32::from_le_bytes(magic));
        writer.put(4, narrow(header));
        writer
    }

    /// Appends zeros at a multiple of 8.
    fn table(&mut self, length: usize) -> usize {
        self.bytes.align();
        let at = self.bytes.len();
        self.bytes.extend(&vec![0; length]);
        at
    }

    fn put(&mut self, at: usize, field: u32) {
        self.bytes.bytes_mut()[at..at + 4].copy_from_slice(&field.to_le_bytes());
    }

    fn put_i64(&mut self, at: usize, field: i64) {
        self.bytes.bytes_mut()[at..at + 8].copy_from_slice(&field.to_le_bytes());
    }

    fn range(&mut self, field: usize, bytes: Option<&[u8]>) {
        let at = self.bytes.len();
        self.put(field, bytes.map_or(0, |_| narrow(at)));
        self.put(
            field + 4,
            bytes.map_or(u32::MAX, |bytes| narrow(bytes.len())),
        );
        self.bytes.extend(bytes.unwrap_or_default());
    }

    fn sections(&mut self, sections: &[(u32, Vec<u8>)]) -> u32 {
        if sections.is_empty() {
            return 0;
        }
        let at = self.table(0);
        for (kind, payload) in sections {
            self.bytes.extend(&kind.to_le_bytes());
            self.bytes.extend(&narrow(payload.len()).to_le_bytes());
            self.bytes.extend(payload);
            self.bytes.align();
        }
        self.table(8);
        narrow(at)
    }

    fn finish(mut self) -> Vec<u8> {
        let length = narrow(self.bytes.len());
        self.put(8, length);
        self.bytes.bytes().to_vec()
    }
}

/// An operation of an output frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The record that it is about.
    pub record: u32,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The record goes to a sink as it is.
    Pass {
        /// Index of the sink.
        sink: u16,
        /// Partition of the sink.
        partition: Partition,
    },
    /// The record goes nowhere.
    Drop,
    /// The record goes to a sink, changed.
    Edit(Changes),
    /// A further record.
    New {
        /// Whether it begins with key, value and headers of its parent.
        inherit: bool,
        /// What it has for itself.
        changes: Changes,
    },
    /// The record is refused.
    Fail {
        /// Of the function's own choice.
        code: u32,
        /// For people.
        message: String,
    },
}

/// Which partition of a sink a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The key decides.
    ByKey,
    /// The one with the source partition's number.
    Source,
    /// This one.
    Explicit(i32),
}

/// How a record differs from the one it is made of; an outer `None` is no change, an inner one null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Index of the sink.
    pub sink: u16,
    /// Partition of the sink.
    pub partition: Partition,
    /// The key.
    pub key: Option<Option<Vec<u8>>>,
    /// The value.
    pub value: Option<Option<Vec<u8>>>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// In the order in which they apply.
    pub headers: Vec<HeaderChange>,
}

/// A change of a record's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderChange {
    /// Appends a header.
    Append(Vec<u8>, Option<Vec<u8>>),
    /// Removes all headers of a name.
    Remove(Vec<u8>),
    /// Removes all headers of a name and appends one.
    Set(Vec<u8>, Option<Vec<u8>>),
    /// Removes all headers.
    Clear,
}

/// Reads an answer: done, or the failure.
pub fn read_answer(frame: &[u8]) -> Result<(), Failure> {
    let header = fixed::<ANSWER_HEADER>(frame, 0)?;
    if header[..4] != ANSWER_MAGIC {
        return Err(Malformed("the magic number is another").into());
    }
    let message = range(frame, header, 16)?.unwrap_or_default();
    match u32_at(header, 8) {
        0 => Ok(()),
        code => Err(Failure::new(
            code,
            String::from_utf8_lossy(message).into_owned(),
        )),
    }
}

/// Reads an output frame, or the answer in its place. That each record has one disposition is not
/// checked here.
pub fn read_output(frame: &[u8]) -> Result<Vec<Operation>, Failure> {
    if frame.starts_with(&ANSWER_MAGIC) {
        read_answer(frame)?;
        return Err(Malformed("an answer without a failure").into());
    }
    let (frame, header) = open::<OUTPUT_HEADER>(frame, OUTPUT_MAGIC)?;
    sections::check(frame, size_at(header, 24))?;
    let mut rest = table(frame, size_at(header, 16), 1, size_at(header, 20))?;
    let mut operations = Vec::new();
    for _ in 0..u32_at(header, 12) {
        let (operation, length) = read_operation(frame, rest)?;
        operations.push(operation);
        rest = &rest[length..];
    }
    match rest {
        [] => Ok(operations),
        _ => Err(Malformed("bytes behind the last operation").into()),
    }
}

fn read_operation(frame: &[u8], bytes: &[u8]) -> Result<(Operation, usize), Malformed> {
    let head = fixed::<8>(bytes, 0)?;
    let flags = head[1];
    let sink = u16::from_le_bytes([head[2], head[3]]);
    let (action, length) = match head[0] {
        PASS => {
            let partition = read_partition(flags, None)?;
            (Action::Pass { sink, partition }, 8)
        }
        DROP => (Action::Drop, 8),
        EDIT => (Action::Edit(read_changes(frame, fixed(bytes, 0)?)?), 48),
        NEW => {
            let changes = read_changes(frame, fixed(bytes, 0)?)?;
            (
                Action::New {
                    inherit: flags & INHERIT != 0,
                    changes,
                },
                48,
            )
        }
        FAIL => {
            let fail = fixed::<24>(bytes, 0)?;
            let message = range(frame, fail, 12)?.unwrap_or_default();
            let message = String::from_utf8_lossy(message).into_owned();
            (
                Action::Fail {
                    code: u32_at(fail, 8),
                    message,
                },
                24,
            )
        }
        _ => return Err(Malformed("an operation is of an unknown kind")),
    };
    Ok((
        Operation {
            record: u32_at(head, 4),
            action,
        },
        length,
    ))
}

fn read_partition(flags: u8, explicit: Option<i32>) -> Result<Partition, Malformed> {
    match (flags & PARTITION_BITS, explicit) {
        (0, _) => Ok(Partition::ByKey),
        (PARTITION_SOURCE, _) => Ok(Partition::Source),
        (PARTITION_EXPLICIT, Some(partition)) => Ok(Partition::Explicit(partition)),
        _ => Err(Malformed("a partition is chosen in an unknown way")),
    }
}

fn read_changes(frame: &[u8], operation: &[u8; 48]) -> Result<Changes, Malformed> {
    let flags = operation[1];
    let given = |bit, field| match flags & bit {
        0 => Ok(None),
        _ => Ok(Some(range(frame, operation, field)?.map(<[u8]>::to_vec))),
    };
    let rows = table(
        frame,
        size_at(operation, 36),
        size_at(operation, 40),
        CHANGE,
    )?;
    Ok(Changes {
        sink: u16::from_le_bytes([operation[2], operation[3]]),
        partition: read_partition(flags, Some(i32_at(operation, 32)))?,
        key: given(KEY_GIVEN, 8)?,
        value: given(VALUE_GIVEN, 16)?,
        timestamp: (flags & TIMESTAMP_GIVEN != 0).then(|| i64_at(operation, 24)),
        headers: rows
            .chunks_exact(CHANGE)
            .map(|row| read_header_change(frame, row))
            .collect::<Result<_, _>>()?,
    })
}

fn read_header_change(frame: &[u8], row: &[u8]) -> Result<HeaderChange, Malformed> {
    let name = range(frame, row, 4)?.map(<[u8]>::to_vec);
    let value = range(frame, row, 12)?.map(<[u8]>::to_vec);
    match (u32_at(row, 0), name) {
        (crate::wire::HEADER_APPEND, Some(name)) => Ok(HeaderChange::Append(name, value)),
        (crate::wire::HEADER_REMOVE, Some(name)) => Ok(HeaderChange::Remove(name)),
        (crate::wire::HEADER_SET, Some(name)) => Ok(HeaderChange::Set(name, value)),
        (crate::wire::HEADER_CLEAR, None) => Ok(HeaderChange::Clear),
        _ => Err(Malformed("a header change is of an unknown kind")),
    }
}
