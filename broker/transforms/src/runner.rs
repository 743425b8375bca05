//! Takes the records of one partition through a function, and finds the one that it does not get through.

use std::sync::Arc;

use tidemill_records::{Record, TimestampType};

use crate::fault::Fault;
use crate::frame::{Manifest, Outputs, Source, fitting};
use crate::function::Function;
use crate::host::Host;
use crate::instance::{Failed, Instance, InstanceSettings};
use crate::instances::{Instances, Slot};
use crate::limits::Limits;
use crate::log::LogSink;
use crate::workers::Share;

/// What a runner is made for.
pub struct RunnerConfig {
    /// The function.
    pub function: Arc<Function>,
    /// Its configuration and sinks.
    pub manifest: Arc<Manifest>,
    /// What it may use.
    pub limits: Limits,
    /// The records' partition.
    pub source: Source,
    /// The task's share of the threads.
    pub share: Arc<Share>,
    /// Takes what the function says.
    pub log: LogSink,
}

/// One version of a transform on one source partition.
pub struct Runner {
    function: Arc<Function>,
    settings: InstanceSettings,
    source: Source,
    instances: Arc<Instances>,
    slot: Arc<Slot>,
    /// Among so many records that come next is one on which the function failed.
    suspects: Option<usize>,
}

/// How far one call of [`Runner::run`] came.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// So many of the records are done with. Indices in `outputs` count from the first.
    pub taken: usize,
    /// What became of them.
    pub outputs: Outputs,
    /// The function does not get through the one record that was taken; it has no outputs.
    pub fault: Option<Fault>,
}

impl Runner {
    /// Makes a runner; an instance is made when the first records come.
    pub fn new(host: &Host, config: RunnerConfig) -> Self {
        Self {
            function: config.function,
            settings: InstanceSettings {
                manifest: config.manifest,
                limits: config.limits,
                share: config.share,
                log: config.log,
            },
            source: config.source,
            instances: host.instances().clone(),
            slot: Arc::default(),
            suspects: None,
        }
    }

    /// Finds out whether the function takes its configuration.
    pub async fn probe(&self) -> Result<(), Fault> {
        let instance = Instance::new(&self.function, &self.settings).await?;
        self.instances.put(&self.slot, Box::new(instance));
        Ok(())
    }

    /// Gives records, whose timestamps are all of one kind, to the function: as many as make a frame, fewer while a record is looked for that it does not get
    /// through. An error is not about the records: no instance can be made.
    ///
    /// A frame that fails is cut in half (or just before the record that the guest says it was working on) until the rest goes
    /// through or one record is left, so that nothing is passed over and nothing twice.
    pub async fn run(&mut self, records: &[Record], stamped: TimestampType) -> Result<Step, Fault> {
        let whole = fitting(records);
        let mut suspects = self.suspects.take().filter(|count| *count <= whole);
        let mut count = match suspects {
            None => whole,
            Some(1) => 1,
            Some(among) => among / 2,
        };
        loop {
            match self.attempt(&records[..count], stamped).await? {
                Ok(outputs) => {
                    // What is suspected lies behind what just went through.
                    self.suspects = suspects
                        .map(|among| among - count)
                        .filter(|among| *among > 0);
                    return Ok(Step {
                        taken: count,
                        outputs,
                        fault: None,
                    });
                }
                Err(Failed { fault, .. }) if count == 1 => {
                    return Ok(Step {
                        taken: 1,
                        outputs: Outputs::default(),
                        fault: Some(fault),
                    });
                }
                Err(Failed { at, .. }) => {
                    let at = at.map(|at| at as usize).filter(|at| *at < count);
                    (count, suspects) = match at {
                        Some(0) => (1, Some(1)),
                        Some(at) => (at, Some(at + 1)),
                        None => (count / 2, Some(count)),
                    };
                }
            }
        }
    }

    /// Lets the next call of [`Runner::run`] try the first record alone.
    pub fn suspect_first(&mut self) {
        self.suspects = Some(1);
    }

    /// Lets go of the instance.
    pub fn rest(&self) {
        self.instances.drop_of(&self.slot);
    }

    /// One call, on an instance that no other call has failed on.
    async fn attempt(
        &self,
        records: &[Record],
        stamped: TimestampType,
    ) -> Result<Result<Outputs, Failed>, Fault> {
        let mut instance = match self.instances.take(&self.slot) {
            Some(instance) => instance,
            None => Box::new(Instance::new(&self.function, &self.settings).await?),
        };
        let processed = instance.process(&self.source, records, stamped).await;
        if processed.is_ok() {
            self.instances.put(&self.slot, instance);
        }
        Ok(processed)
    }
}
