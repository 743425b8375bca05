//! What a tidemill function in Rust is written with.
//!
//! A function sees one record at a time and emits any number of records for it:
//!
//! ```
//! use tidemill_sdk::{Config, Failure, Output, Record, Transform, json, transform};
//!
//! struct Delays {
//!     minutes: f64,
//! }
//!
//! impl Transform for Delays {
//!     fn new(config: &Config) -> Result<Self, Failure> {
//!         config.allow(&["minutes"])?;
//!         Ok(Self { minutes: config.parse("minutes")?.unwrap_or(60.0) })
//!     }
//!
//!     fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
//!         let Some(flight) = record.value() else { return Ok(()) };
//!         let delay = json::find(flight, "/dep_delay")?.and_then(|delay| delay.number());
//!         if delay.is_some_and(|delay| delay > self.minutes) {
//!             out.pass();
//!         }
//!         Ok(())
//!     }
//! }
//!
//! transform!(Delays);
//! # fn main() {}
//! ```
//!
//! [`testing`] runs it in the author's own `cargo test`; `cargo build --release --target
//! wasm32-unknown-unknown` of a `cdylib` makes the artifact. The crate has no dependencies, and the
//! path of a record allocates nothing.

mod aligned;
mod answer;
mod batch;
mod config;
mod draft;
mod export;
mod failure;
pub mod guest;
pub mod json;
pub mod log;
mod output;
mod sections;
pub mod testing;
mod wire;

pub use batch::{Header, Headers, Record};
pub use config::{Config, Sink};
pub use draft::Draft;
pub use failure::Failure;
pub use output::Output;

/// A function: what [`transform!`] makes an artifact of.
///
/// An instance sees the records of one source partition. Its fields are a cache: the broker may make a
/// new instance between any two records, and a record may come again.
pub trait Transform: Sized {
    /// Reads the configuration. A failure refuses the deployment, with the message for whoever
    /// deploys.
    fn new(config: &Config) -> Result<Self, Failure>;

    /// Emits what becomes of `record`; nothing emitted drops it. After a failure nothing of the
    /// record is written, and the transform's error policy takes it.
    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure>;
}
