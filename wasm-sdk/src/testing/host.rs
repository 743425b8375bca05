//! What a host makes of operations.

use super::Input;
use super::frame::{Action, Changes, HeaderChange, Operation, Partition};

/// What a function made of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The records for the sinks, in order.
    pub written: Vec<Written>,
    /// The records that the function refused.
    pub refused: Vec<Refused>,
}

/// A record for a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Index of the input that it was emitted for.
    pub input: usize,
    /// Its topic.
    pub sink: String,
    /// Its partition.
    pub partition: Partition,
    /// Its key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order; a `None` is a null value.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; -1: none.
    pub timestamp: i64,
}

/// A record that the function refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the input.
    pub input: usize,
    /// Of the function's own choice.
    pub code: u32,
    /// For people.
    pub message: String,
}

pub(super) fn apply(records: &[Input], sinks: &[String], operations: Vec<Operation>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut disposed = vec![0; records.len()];
    for Operation { record, action } in operations {
        let input = record as usize;
        disposed[input] += usize::from(!matches!(action, Action::New { .. }));
        let record = &records[input];
        let write = |sink: u16, partition| Written {
            input,
            sink: sinks[usize::from(sink)].clone(),
            partition,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp: record.timestamp,
        };
        match action {
            Action::Pass { sink, partition } => outcome.written.push(write(sink, partition)),
            Action::Drop => {}
            Action::Edit(changes)
            | Action::New {
                inherit: true,
                changes,
            } => {
                let written = write(changes.sink, changes.partition);
                outcome.written.push(edit(written, changes));
            }
            Action::New {
                inherit: false,
                changes,
            } => {
                let parent = write(changes.sink, changes.partition);
                let bare = Written {
                    key: None,
                    value: None,
                    headers: Vec::new(),
                    ..parent
                };
                outcome.written.push(edit(bare, changes));
            }
            Action::Fail { code, message } => outcome.refused.push(Refused {
                input,
                code,
                message,
            }),
        }
    }
    assert!(
        disposed.iter().all(|&count| count == 1),
        "one disposition for each record"
    );
    outcome
}

fn edit(mut written: Written, changes: Changes) -> Written {
    if let Some(key) = changes.key {
        written.key = key;
    }
    if let Some(value) = changes.value {
        written.value = value;
    }
    written.timestamp = changes.timestamp.unwrap_or(written.timestamp);
    for change in changes.headers {
        let headers = &mut written.headers;
        match change {
            HeaderChange::Append(name, value) => headers.push((name, value)),
            HeaderChange::Remove(name) => headers.retain(|(other, _)| *other != name),
            HeaderChange::Set(name, value) => {
                headers.retain(|(other, _)| *other != name);
                headers.push((name, value));
            }
            HeaderChange::Clear => headers.clear(),
        }
    }
    written
}
