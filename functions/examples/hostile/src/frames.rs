//! Frames, right ones and wrong ones. Kinds of wrong ones:
//!
//! | kind | the output frame |
//! |---|---|
//! | `magic` | has another magic number |
//! | `empty` | is no byte long |
//! | `short` | ends inside of its header |
//! | `length` | says that it is longer than it is |
//! | `operations` | has its operations behind its end |
//! | `count` | says that it has 2^32 - 1 operations |
//! | `none` | says nothing about any record |
//! | `double` | passes the first record twice or as often as there are records, and no other |
//! | `record` | passes a record that is not there |
//! | `kind` | has an operation of kind 9 |
//! | `flags` | has a flag that is not defined |
//! | `sink` | passes everything to sink 65,535, which fails the records, not the frame |
//! | `partition` | writes everything to partition 2^31 - 1, which fails the records, not the frame |
//! | `value` | has a value behind its end |
//! | `negative` | has a value of length -2 |
//! | `headers` | has 2^32 - 1 header changes |
//! | `section` | has a section that must be understood |
//! | `done` | is an answer with status 0 |
//! | `pointer` | lies beyond all memory |
//! | `huge` | is 2^32 - 1 bytes long |
//!
//! An unknown kind passes all records.

use super::Response;

const PASS: u8 = 1;
const EDIT: u8 = 3;
const NEW: u8 = 4;
const FAIL: u8 = 5;

const VALUE_GIVEN: u8 = 1 << 3;
const EXPLICIT_PARTITION: u8 = 2;

/// An answer frame.
pub(super) fn answer(status: u32, message: &[u8]) -> Vec<u8> {
    let mut frame = b"TMA1".to_vec();
    for field in [24, status, 0, 24, message.len() as u32] {
        frame.extend(field.to_le_bytes());
    }
    frame.extend(message);
    frame
}

/// An output frame that grows: the header and what ranges mean, and the operations that follow.
pub(super) struct Output {
    frame: Vec<u8>,
    operations: Vec<u8>,
    count: u32,
}

/// What follows the head of EDIT and NEW.
#[derive(Default)]
struct Changes {
    value_at: u32,
    value_length: i32,
    partition: i32,
    header_changes: u32,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            frame: vec![0; 32],
            operations: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn pass(&mut self, record: u32) {
        self.head(PASS, 0, 0, record);
    }

    pub(super) fn fail(&mut self, record: u32, code: u32, message: &[u8]) {
        let at = self.keep(message);
        self.head(FAIL, 0, 0, record);
        self.words(&[code, at, message.len() as u32, 0]);
    }

    pub(super) fn flood(&mut self, record: u32) {
        let value_at = self.keep(&[b'x'; 1024]);
        for _ in 0..100_000 {
            let changes = Changes {
                value_at,
                value_length: 1024,
                ..Changes::default()
            };
            self.change(NEW, VALUE_GIVEN, record, &changes);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.frame.resize(self.frame.len().next_multiple_of(8), 0);
        let operations_at = self.frame.len() as u32;
        self.frame.extend(&self.operations);
        let length = self.frame.len() as u32;
        set(&mut self.frame, 0, u32::from_le_bytes(*b"TMO1"));
        set(&mut self.frame, 4, 32);
        set(&mut self.frame, 8, length);
        set(&mut self.frame, 12, self.count);
        set(&mut self.frame, 16, operations_at);
        set(&mut self.frame, 20, self.operations.len() as u32);
        self.frame
    }

    fn keep(&mut self, bytes: &[u8]) -> u32 {
        self.frame.extend(bytes);
        (self.frame.len() - bytes.len()) as u32
    }

    fn head(&mut self, kind: u8, flags: u8, sink: u16, record: u32) {
        self.operations.extend([kind, flags]);
        self.operations.extend(sink.to_le_bytes());
        self.words(&[record]);
        self.count += 1;
    }

    fn change(&mut self, kind: u8, flags: u8, record: u32, changes: &Changes) {
        self.head(kind, flags, 0, record);
        self.words(&[
            0,
            u32::MAX,
            changes.value_at,
            changes.value_length as u32,
            0,
            0,
        ]);
        self.words(&[changes.partition as u32, 32, changes.header_changes, 0]);
    }

    fn words(&mut self, words: &[u32]) {
        self.operations
            .extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
}

fn set(frame: &mut [u8], at: usize, field: u32) {
    frame[at..at + 4].copy_from_slice(&field.to_le_bytes());
}

/// The wrong frame of a kind, for `records` records; of an unknown kind it is right.
pub(super) fn wrong(kind: &[u8], records: u32) -> Response {
    Response::Bytes(match kind {
        b"pointer" => return Response::Raw(i64::from_le_bytes([64, 0, 0, 0, 0, 0, 0xff, 0xff])),
        b"huge" => return Response::Raw(0xffff_ffff),
        b"empty" => Vec::new(),
        b"done" => answer(0, b""),
        b"short" => passes(records)[..20].to_vec(),
        b"none" => Output::new().finish(),
        b"magic" => patched(records, 0, 0),
        b"length" => patched(records, 8, 1 << 30),
        b"count" => patched(records, 12, u32::MAX),
        b"operations" => patched(records, 16, 1 << 30),
        b"section" => section(records),
        b"double" => with(|output, _| output.pass(0), records.max(2)),
        b"record" => passes(records + 1),
        b"kind" => with(|output, record| output.head(9, 0, 0, record), records),
        b"flags" => with(
            |output, record| output.head(PASS, 1 << 7, 0, record),
            records,
        ),
        b"sink" => with(
            |output, record| output.head(PASS, 0, u16::MAX, record),
            records,
        ),
        b"partition" => {
            let changes = Changes {
                partition: i32::MAX,
                ..Changes::default()
            };
            edits(EXPLICIT_PARTITION, &changes, records)
        }
        b"value" => {
            let changes = Changes {
                value_at: 1 << 30,
                value_length: 1 << 30,
                ..Changes::default()
            };
            edits(VALUE_GIVEN, &changes, records)
        }
        b"negative" => edits(
            VALUE_GIVEN,
            &Changes {
                value_length: -2,
                ..Changes::default()
            },
            records,
        ),
        b"headers" => edits(
            0,
            &Changes {
                header_changes: u32::MAX,
                ..Changes::default()
            },
            records,
        ),
        _ => passes(records),
    })
}

fn with(mut operation: impl FnMut(&mut Output, u32), records: u32) -> Vec<u8> {
    let mut output = Output::new();
    for record in 0..records {
        operation(&mut output, record);
    }
    output.finish()
}

fn passes(records: u32) -> Vec<u8> {
    with(Output::pass, records)
}

fn edits(flags: u8, changes: &Changes, records: u32) -> Vec<u8> {
    with(
        |output, record| output.change(EDIT, flags, record, changes),
        records,
    )
}

fn patched(records: u32, at: usize, field: u32) -> Vec<u8> {
    let mut frame = passes(records);
    set(&mut frame, at, field);
    frame
}

fn section(records: u32) -> Vec<u8> {
    let mut frame = passes(records);
    let at = frame.len() as u32;
    frame.extend([0; 16]);
    set(&mut frame, at as usize, 1 << 31 | 5);
    set(&mut frame, 8, at + 16);
    set(&mut frame, 24, at);
    frame
}
