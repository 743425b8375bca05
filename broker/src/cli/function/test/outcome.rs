//! What became of a record, as it is printed.

use serde::Serialize;
use tidemill_records::{PartitionId, Record};
use tidemill_transforms::{
    Changed, Content, FailedRecord, Fault, Manifest, Output, PartitionChoice,
};

use super::super::super::record_json::Fields;

/// Outputs in the order of their operations, or a failure. Neither: the record was dropped.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) outputs: Vec<Output>,
    pub(super) failed: Option<Failed>,
}

/// Why there are no outputs, in the words of a dead letter's headers.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    pub(super) kind: &'static str,
    pub(super) code: Option<u32>,
    pub(super) error: String,
}

impl Failed {
    /// The function refused the record.
    pub(super) fn of_record(failed: FailedRecord) -> Failed {
        Failed {
            kind: "failed",
            code: failed.code,
            error: failed.message.into(),
        }
    }

    /// The function did not get through the record.
    pub(super) fn of_fault(fault: &Fault) -> Failed {
        let (code, error) = match fault {
            Fault::Refused { code, message } => (Some(*code), message.to_string()),
            _ => (None, fault.to_string()),
        };
        Failed {
            kind: fault.kind(),
            code,
            error,
        }
    }
}

/// An output as a line.
#[derive(Debug, Serialize)]
pub(super) struct OutputLine<'a> {
    pub(super) sink: &'a str,
    /// None: the key decides.
    pub(super) partition: Option<i32>,
    #[serde(flatten)]
    pub(super) fields: Fields<'a>,
}

impl<'a> OutputLine<'a> {
    /// `record` is the one that the output comes from, in `source`.
    pub(super) fn new(
        output: &'a Output,
        record: &'a Record,
        source: PartitionId,
        manifest: &'a Manifest,
    ) -> OutputLine<'a> {
        let fields = match &output.content {
            Content::Unchanged => Fields::of(record),
            Content::Changed(changed) => {
                let Changed {
                    key,
                    value,
                    headers,
                    timestamp,
                } = &**changed;
                Fields::new(*timestamp, key.as_deref(), value.as_deref(), headers)
            }
        };
        OutputLine {
            sink: &manifest.sinks[usize::from(output.sink)],
            partition: match output.partition {
                PartitionChoice::Key => None,
                PartitionChoice::Source => Some(source.0),
                PartitionChoice::Explicit(partition) => Some(partition.0),
            },
            fields,
        }
    }
}
