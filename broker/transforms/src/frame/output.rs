//! The output frame: what becomes of each record.

use bytes::Bytes;
use tidemill_records::{Headers, PartitionId, Record, RecordHeader};

use super::reader::{FrameFault, Reader};
use super::{ANSWER_MAGIC, OUTPUT_MAGIC};

const HEADER_BYTES: usize = 32;
const HEADER_CHANGE_BYTES: usize = 24;

const PASS: u8 = 1;
const DROP: u8 = 2;
const EDIT: u8 = 3;
const NEW: u8 = 4;
const FAIL: u8 = 5;

const PARTITION_MODE: u8 = 0b11;
const KEY_GIVEN: u8 = 1 << 2;
const VALUE_GIVEN: u8 = 1 << 3;
const TIMESTAMP_GIVEN: u8 = 1 << 4;
const COPY_OF_PARENT: u8 = 1 << 5;

/// How much one frame may bring forth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputBounds {
    /// Keys, values and headers of all outputs, in bytes.
    pub bytes_max: u64,
    /// Outputs.
    pub records_max: u32,
    /// How many sinks there are.
    pub sinks: u16,
}

/// What became of the records of a frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outputs {
    /// In the order in which they are to be written.
    pub outputs: Vec<Output>,
    /// Records that were refused; they have no outputs.
    pub failed: Vec<FailedRecord>,
}

/// A record for a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Index of the record that it comes from, in the frame.
    pub record: u32,
    /// Index of the sink.
    pub sink: u16,
    /// Which partition of the sink.
    pub partition: PartitionChoice,
    /// What is written.
    pub content: Content,
}

/// How an output finds its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionChoice {
    /// By the key, as Kafka's producers do; without a key as [`PartitionChoice::Source`].
    Key,
    /// The source's, modulo the sink's partitions.
    Source,
    /// This one.
    Explicit(PartitionId),
}

/// What an output holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Key, value, headers and timestamp of the record.
    Unchanged,
    /// Something else.
    Changed(Box<Changed>),
}

/// A record that a guest made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// A record that the guest refused, or whose outputs nobody could take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecord {
    /// Its index in the frame.
    pub record: u32,
    /// The guest's code; none where a sink cannot take what the guest made of it.
    pub code: Option<u32>,
    /// What it says.
    pub message: Box<str>,
}

/// Reads what `process` gave for `records`. Nothing of it is trusted.
pub fn parse_outputs(
    frame: &[u8],
    records: &[Record],
    bounds: OutputBounds,
) -> Result<Outputs, FrameFault> {
    let reader = Reader::header(frame, OUTPUT_MAGIC, HEADER_BYTES)?.cut(8)?;
    reader.sections(24)?;
    let (count, at, bytes) = (reader.u32(12), reader.u32(16), reader.u32(20));
    let operations = reader.range("the operations", at, u64::from(bytes))?;
    let mut parse = Parse {
        reader,
        records,
        bounds,
        heap: None,
        is_disposed: vec![false; records.len()],
        bytes_left: bounds.bytes_max,
        found: Outputs {
            // What most functions give; nobody can make it more than there are records.
            outputs: Vec::with_capacity(records.len().min(count as usize)),
            failed: Vec::new(),
        },
    };
    let mut rest = operations;
    for index in 0..count {
        let wrong_size = FrameFault::OperationBytes {
            operations: count,
            bytes,
        };
        let kind = *rest.first().ok_or(wrong_size)?;
        let size = match kind {
            PASS | DROP => 8,
            EDIT | NEW => 48,
            FAIL => 24,
            _ => return Err(FrameFault::Kind { index, kind }),
        };
        let (operation, left) = rest.split_at_checked(size).ok_or(wrong_size)?;
        parse.take(index, kind, Reader(operation))?;
        rest = left;
    }
    if !rest.is_empty() {
        return Err(FrameFault::OperationBytes {
            operations: count,
            bytes,
        });
    }
    parse.finish()
}

/// Which frame a guest gave back.
pub(crate) fn is_answer(frame: &[u8]) -> bool {
    frame.starts_with(&ANSWER_MAGIC.to_le_bytes())
}

struct Parse<'a> {
    reader: Reader<'a>,
    records: &'a [Record],
    bounds: OutputBounds,
    /// The frame, once something of it is kept.
    heap: Option<Bytes>,
    is_disposed: Vec<bool>,
    bytes_left: u64,
    found: Outputs,
}

impl<'a> Parse<'a> {
    fn take(&mut self, index: u32, kind: u8, operation: Reader<'a>) -> Result<(), FrameFault> {
        let flags = operation.0[1];
        let sink = u16::from_le_bytes([operation.0[2], operation.0[3]]);
        let record = operation.u32(4);
        let allowed = match kind {
            PASS => PARTITION_MODE,
            EDIT => PARTITION_MODE | KEY_GIVEN | VALUE_GIVEN | TIMESTAMP_GIVEN,
            NEW => PARTITION_MODE | KEY_GIVEN | VALUE_GIVEN | TIMESTAMP_GIVEN | COPY_OF_PARENT,
            _ => 0,
        };
        if flags & !allowed != 0 {
            return Err(FrameFault::Flags { index, flags });
        }
        let Some(parent) = self.records.get(record as usize) else {
            return Err(FrameFault::Record {
                index,
                record,
                records: self.records.len() as u32,
            });
        };
        if kind != NEW && std::mem::replace(&mut self.is_disposed[record as usize], true) {
            return Err(FrameFault::TwoDispositions(record));
        }
        let content = match kind {
            DROP => return Ok(()),
            FAIL => {
                let code = Some(operation.u32(8));
                let range = Reader(&operation.0[12..20]);
                let message = self.message(range)?;
                self.found.failed.push(FailedRecord {
                    record,
                    code,
                    message,
                });
                return Ok(());
            }
            PASS => {
                self.spend(record_bytes(parent))?;
                Content::Unchanged
            }
            _ => Content::Changed(Box::new(self.changed(
                operation,
                flags,
                parent,
                kind == EDIT || flags & COPY_OF_PARENT != 0,
            )?)),
        };
        let partition = match flags & PARTITION_MODE {
            0 => PartitionChoice::Key,
            1 => PartitionChoice::Source,
            2 if kind != PASS => PartitionChoice::Explicit(PartitionId(operation.u32(32) as i32)),
            _ => return Err(FrameFault::Flags { index, flags }),
        };
        if self.found.outputs.len() >= self.bounds.records_max as usize {
            return Err(FrameFault::TooManyOutputs(self.bounds.records_max));
        }
        self.found.outputs.push(Output {
            record,
            sink,
            partition,
            content,
        });
        Ok(())
    }

    /// The message whose place and length, in the frame, stand in `range`.
    fn message(&self, range: Reader<'_>) -> Result<Box<str>, FrameFault> {
        let (at, length) = (range.u32(0), range.u32(4) as i32);
        let length = u64::try_from(length).map_err(|_| FrameFault::Length {
            what: "a message",
            length,
        })?;
        let bytes = self.reader.range("a message", at, length)?;
        Ok(super::reader::message(bytes))
    }

    fn changed(
        &mut self,
        operation: Reader<'a>,
        flags: u8,
        parent: &Record,
        inherits: bool,
    ) -> Result<Changed, FrameFault> {
        let key = match flags & KEY_GIVEN {
            0 => parent.key.clone().filter(|_| inherits),
            _ => self.kept("a key", operation, 8)?,
        };
        let value = match flags & VALUE_GIVEN {
            0 => parent.value.clone().filter(|_| inherits),
            _ => self.kept("a value", operation, 16)?,
        };
        let timestamp = match flags & TIMESTAMP_GIVEN {
            0 => parent.timestamp,
            _ => operation.i64(24),
        };
        let headers = self.headers(operation, parent, inherits)?;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.spend(length(&key) + length(&value))?;
        Ok(Changed {
            key,
            value,
            headers,
            timestamp,
        })
    }

    fn headers(
        &mut self,
        operation: Reader<'a>,
        parent: &Record,
        inherits: bool,
    ) -> Result<Headers, FrameFault> {
        let (at, count) = (operation.u32(36), operation.u32(40));
        let inherited = match inherits {
            true => parent.headers.clone(),
            false => Headers::default(),
        };
        self.spend(inherited.encoded_bytes() as u64)?;
        if count == 0 {
            return Ok(inherited);
        }
        let bytes = u64::from(count) * HEADER_CHANGE_BYTES as u64;
        let table = self.reader.range("header changes", at, bytes)?;
        let mut headers: Vec<RecordHeader> = inherited.iter().collect();
        for change in table.chunks_exact(HEADER_CHANGE_BYTES) {
            let change = Reader(change);
            let kind = change.u32(0);
            // A table may be read again for the next operation: the work counts, not only what it makes.
            self.spend(HEADER_CHANGE_BYTES as u64 + headers.len() as u64)?;
            if kind == 4 {
                headers.clear();
                continue;
            }
            let key = self.kept("a header's key", change, 4)?;
            let key = key.ok_or(FrameFault::Length {
                what: "a header's key",
                length: -1,
            })?;
            if matches!(kind, 2 | 3) {
                self.spend((headers.len() * key.len()) as u64)?;
                headers.retain(|header| header.key != key);
            }
            match kind {
                1 | 3 => {
                    let value = self.kept("a header's value", change, 12)?;
                    let value_bytes = value.as_ref().map_or(0, |value| value.len());
                    self.spend((key.len() + value_bytes) as u64)?;
                    headers.push(RecordHeader { key, value });
                }
                2 => {}
                other => return Err(FrameFault::HeaderChange(other)),
            }
        }
        Ok(headers.into_iter().collect())
    }

    /// Bytes of the frame that outlive it, by place and length at `field`.
    fn kept(
        &mut self,
        what: &'static str,
        fields: Reader<'_>,
        field: usize,
    ) -> Result<Option<Bytes>, FrameFault> {
        let (at, length) = (fields.u32(field), fields.u32(field + 4) as i32);
        match length {
            -1 => Ok(None),
            ..-1 => Err(FrameFault::Length { what, length }),
            _ => {
                self.reader.range(what, at, length as u64)?;
                let frame = self.reader.0;
                let heap = self
                    .heap
                    .get_or_insert_with(|| Bytes::copy_from_slice(frame));
                Ok(Some(heap.slice(at as usize..at as usize + length as usize)))
            }
        }
    }

    fn spend(&mut self, bytes: u64) -> Result<(), FrameFault> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(FrameFault::TooManyBytes(self.bounds.bytes_max))?;
        Ok(())
    }

    fn finish(mut self) -> Result<Outputs, FrameFault> {
        if let Some(missing) = self.is_disposed.iter().position(|is_disposed| !is_disposed) {
            return Err(FrameFault::NoDisposition(missing as u32));
        }
        let sinks = self.bounds.sinks;
        let mut stray = None;
        for output in self
            .found
            .outputs
            .iter()
            .filter(|output| output.sink >= sinks)
        {
            if stray == Some(output.record) {
                continue;
            }
            stray = Some(output.record);
            self.found.failed.push(FailedRecord {
                record: output.record,
                code: None,
                message: format!(
                    "the function wrote to sink {}, but there are {sinks}",
                    output.sink
                )
                .into(),
            });
        }
        self.found.drop_failed(self.records.len());
        Ok(self.found)
    }
}

impl Outputs {
    /// Takes away what failed records brought forth, and failures that were told twice; both are in the order of the records
    /// or operations afterwards.
    pub fn drop_failed(&mut self, records: usize) {
        if self.failed.is_empty() {
            return;
        }
        let mut has_failed = vec![false; records];
        self.failed.sort_by_key(|failed| failed.record);
        self.failed
            .retain(|failed| !std::mem::replace(&mut has_failed[failed.record as usize], true));
        self.outputs
            .retain(|output| !has_failed[output.record as usize]);
    }
}

fn record_bytes(record: &Record) -> u64 {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len());
    (of(&record.key) + of(&record.value) + record.headers.encoded_bytes()) as u64
}
