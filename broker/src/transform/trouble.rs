//! Why a task cannot go on.

use tidemill_metadata::ProposeError;
use tidemill_protocol::ErrorCode;
use tidemill_records::{BatchError, Offset};
use tidemill_transforms::{ArtifactError, Fault, Unfinished};

use crate::partition::PartitionError;
use crate::tiering::RemoteError;

/// Why a task cannot go on for now. Nothing is lost by it: the task begins again at its committed offset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("cannot read the source")]
    Source(#[from] PartitionError),
    #[error("cannot read the source from the tier")]
    Remote(#[from] RemoteError),
    #[error("the source's records are in the tier, and this broker has none")]
    NoTier,
    #[error("the source holds a batch that is none")]
    Batch(#[from] BatchError),
    #[error("the source ends at {end}, before {next}, where the transform goes on; rewind it")]
    SourceEnds { end: Offset, next: Offset },
    #[error("there is no topic {0}; create it, or deploy with another")]
    NoTopic(String),
    #[error("cannot write to {sink}")]
    Sink {
        sink: String,
        #[source]
        source: PartitionError,
    },
    #[error("what was written to {0} is not durable in time")]
    NotDurable(String),
    #[error("the logs take no more: the disk is full, or more than its limit is used")]
    NoRoom,
    #[error("the group coordinator answers {0}")]
    Offsets(ErrorCode),
    #[error("the metadata does not take it")]
    Metadata(#[from] ProposeError),
    #[error("the artifact is not there any more")]
    NoFunction,
    #[error("the artifact's records cannot be read: {0}")]
    Artifact(&'static str),
    #[error(transparent)]
    Load(#[from] ArtifactError),
    #[error("the function cannot be started")]
    Start(#[source] Fault),
    #[error("the dead letter of offset {offset} cannot be written: {refusal}")]
    DeadLetter { offset: Offset, refusal: String },
    #[error(transparent)]
    Host(#[from] Unfinished),
    #[error("the broker stops")]
    Stopping,
}

impl Trouble {
    /// Only what lacks a topic waits for somebody.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self, Self::NoTopic(_))
    }

    /// The error and what it was caused by, in one line.
    pub(crate) fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                told = format!("{told}: {text}");
            }
            cause = error.source();
        }
        told
    }
}
