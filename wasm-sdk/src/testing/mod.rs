//! Runs a function in the author's own tests, through the frames that a broker would send.
//!
//! ```
//! use tidemill_sdk::testing::{Harness, Input};
//!
//! # mod function {
//! tidemill_sdk::transform!(|record, out| {
//!     out.edit().key(b"all").send();
//!     Ok(())
//! });
//! # }
//! # use function::Function;
//! # fn main() -> Result<(), tidemill_sdk::Failure> {
//! let mut harness = Harness::<Function>::new(&[], &["sink"])?;
//! let outcome = harness.process(&[Input::new().key("7").value("first")]);
//! let [written] = &outcome.written[..] else { panic!("one record") };
//! assert_eq!(written.sink, "sink");
//! assert_eq!(written.key.as_deref(), Some(&b"all"[..]));
//! assert_eq!(written.value.as_deref(), Some(&b"first"[..]));
//! # Ok(())
//! # }
//! ```

pub mod frame;
mod host;
mod input;

pub use host::{Outcome, Refused, Written};
pub use input::Input;

use std::sync::atomic::AtomicU32;

use crate::guest::Instance;
use crate::{Failure, Transform};
use frame::Source;

/// A deployment of a function in this process, of the topic `source`, partition 0.
pub struct Harness<T> {
    instance: Instance<T>,
    sinks: Vec<String>,
    source: Source,
}

impl<T: Transform> Harness<T> {
    /// Deploys with a configuration and sinks, or says why the function refuses them.
    pub fn new(config: &[(&str, &str)], sinks: &[&str]) -> Result<Self, Failure> {
        let config: Vec<_> = config
            .iter()
            .map(|(key, value)| (*key, Some(*value)))
            .collect();
        let mut instance = Instance::new();
        frame::read_answer(instance.init(&frame::config(&config, sinks)))?;
        Ok(Self {
            instance,
            sinks: sinks.iter().map(|&sink| sink.to_owned()).collect(),
            source: Source {
                topic: "source".to_owned(),
                ..Source::default()
            },
        })
    }

    /// Runs the function on records, as one frame; later calls go on with the offsets.
    ///
    /// # Panics
    ///
    /// Where the frame faults, which the SDK makes impossible.
    pub fn process(&mut self, records: &[Input]) -> Outcome {
        let input = frame::input(&self.source, records);
        let output = self.instance.process(&input, &AtomicU32::new(0));
        let operations = frame::read_output(output).expect("the SDK writes valid frames");
        self.source.base_offset += records.len() as i64;
        host::apply(records, &self.sinks, operations)
    }
}
