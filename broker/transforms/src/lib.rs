//! Runs WebAssembly functions on frames of records: the only user of wasmtime. ABI 1 is in `wasm-sdk/ABI.md`.
//!
//! A [`Host`] compiles an artifact into a [`Function`]. A [`Runner`] takes the records of one partition through it, on the threads of
//! [`Workers`], and finds the record that the function does not get through. What is read, written and committed is the caller's
//! matter; this crate does no I/O.
#![warn(missing_docs)]

mod artifact;
mod fault;
mod frame;
mod function;
mod host;
mod instance;
mod instances;
mod limits;
mod log;
mod runner;
#[cfg(test)]
mod tests;
mod workers;

pub use artifact::{ARTIFACT_BYTES_MAX, ArtifactError, Carrier, TooLarge, carrier};
pub use fault::Fault;
pub use frame::{
    Changed, Content, FRAME_BYTES_MAX, FRAME_RECORDS_MAX, FailedRecord, FrameFault, Manifest,
    Output, OutputBounds, Outputs, PartitionChoice, Source, content_bytes, fitting, parse_outputs,
};
pub use function::Function;
pub use host::{Host, HostError};
pub use instances::Instances;
pub use limits::Limits;
pub use log::{LogLevel, LogSink};
pub use runner::{Runner, RunnerConfig, Step};
pub use workers::{Share, Unfinished, Workers};
