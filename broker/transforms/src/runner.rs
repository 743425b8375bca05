//! Takes the records of one partition through a function, and finds the one that it does not get through.

use std::sync::Arc;

use tidemill_records::{Record, TimestampType};

use crate::fault::Fault;
use crate::frame::{FRAME_RECORDS_MAX, Manifest, Outputs, Source, fitting};
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
    search: Option<Search>,
    window: Window,
}

/// How many records make a frame, as far as they fit: a function that runs out of its time gets fewer for a while, and so do the
/// neighbours of a bad record, since one seldom comes alone and each costs a search.
#[derive(Debug, Clone, Copy)]
struct Window {
    records: usize,
    /// The function gets through so many in its time.
    in_time: usize,
}

/// The search for a record that the function does not get through.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// It is among so many that come next.
    among: usize,
    /// So many are tried next.
    count: usize,
    /// How the search goes on after those.
    stride: Stride,
}

#[derive(Debug, Clone, Copy)]
enum Stride {
    /// Half of what is left: as few calls as can be.
    Half,
    /// One record: a call that runs out of its time costs more than all the calls that do not.
    One,
}

impl Window {
    const WIDE: Self = Self {
        records: FRAME_RECORDS_MAX,
        in_time: FRAME_RECORDS_MAX,
    };

    /// After a frame of `count` records went through: twice as many, and a little more than were known to be in time.
    fn after_success(&mut self, count: usize) {
        if count == self.in_time {
            self.in_time = (count + count / 8 + 1).min(FRAME_RECORDS_MAX);
        }
        if count == self.records {
            self.records = (count * 2).min(self.in_time);
        }
    }

    /// After a record failed alone.
    fn after_bad_record(&mut self) {
        self.records = 1;
    }

    /// After `count` records, more than one, took too long.
    fn after_time_out(&mut self, count: usize) {
        self.in_time = count / 2;
        self.records = self.in_time;
    }
}

impl Search {
    /// On among so many records; none when nothing is left.
    fn among(among: usize, stride: Stride) -> Option<Self> {
        let count = match stride {
            Stride::Half => (among / 2).max(1),
            Stride::One => 1,
        };
        (among > 0).then_some(Self {
            among,
            count,
            stride,
        })
    }

    /// What is looked for lies behind the records that just went through.
    fn after_success(self) -> Option<Self> {
        Self::among(self.among - self.count, self.stride)
    }

    /// After `count` records failed together.
    fn after_failure(count: usize, failed: &Failed) -> Option<Self> {
        let stride = match failed.fault {
            Fault::Time(_) => Stride::One,
            _ => Stride::Half,
        };
        let at = failed.at.map(|at| at as usize).filter(|at| *at < count);
        match (at, stride) {
            (None, _) => Self::among(count, stride),
            (Some(0), _) => Self::among(1, stride),
            // It may be slow everywhere, so that those before it take as long as it did.
            (Some(at), Stride::One) => Self::among(at + 1, stride),
            (Some(at), Stride::Half) => Some(Self {
                among: at + 1,
                count: at,
                stride,
            }),
        }
    }
}

/// How far one call of [`Runner::run`] came.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// So many of the records are done with; none when a frame failed and a smaller one is tried next. Indices in `outputs` count
    /// from the first.
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
            search: None,
            window: Window::WIDE,
        }
    }

    /// Finds out whether the function takes its configuration.
    pub async fn probe(&self) -> Result<(), Fault> {
        let instance = Instance::new(&self.function, &self.settings).await?;
        self.instances.put(&self.slot, Box::new(instance));
        Ok(())
    }

    /// Gives records, whose timestamps are all of one kind, to the function: as many as make a frame, fewer while a record is looked
    /// for that it does not get through. One call of the function at most, so that the caller can do something else in between.
    /// An error is not about the records: no instance can be made.
    ///
    /// A frame that fails is cut in half (or just before the record that the guest says it was working on) until the rest goes
    /// through or one record is left, so that nothing is passed over and nothing twice. One that ran out of its time is taken
    /// record by record, unless the guest says which it was. Behind what failed frames begin small again.
    pub async fn run(&mut self, records: &[Record], stamped: TimestampType) -> Result<Step, Fault> {
        let fits = fitting(records);
        let search = self.search.take().filter(|search| search.among <= fits);
        let count = search.map_or(fits.min(self.window.records), |search| search.count);
        match self.attempt(&records[..count], stamped).await? {
            Ok(outputs) => {
                self.search = search.and_then(Search::after_success);
                if search.is_none() {
                    self.window.after_success(count);
                }
                Ok(Step {
                    taken: count,
                    outputs,
                    fault: None,
                })
            }
            Err(Failed { fault, .. }) if count == 1 => {
                self.window.after_bad_record();
                Ok(Step {
                    taken: 1,
                    outputs: Outputs::default(),
                    fault: Some(fault),
                })
            }
            Err(failed) => {
                if matches!(failed.fault, Fault::Time(_)) {
                    self.window.after_time_out(count);
                }
                self.search = Search::after_failure(count, &failed);
                Ok(Step {
                    taken: 0,
                    outputs: Outputs::default(),
                    fault: None,
                })
            }
        }
    }

    /// Lets the next call of [`Runner::run`] try the first record alone.
    pub fn suspect_first(&mut self) {
        self.search = Search::among(1, Stride::One);
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

impl Drop for Runner {
    fn drop(&mut self) {
        self.rest();
    }
}
