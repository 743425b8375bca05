//! A chain of lives: how each ends, and what the chain comes to.

use std::collections::BTreeMap;
use std::fmt;

use crate::choices::Choices;
use crate::disk::{Disk, End, Stage, Target};

/// How a life is to end.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The operation in the middle of which the power goes, if the broker gets there.
    pub target: Option<Target>,
    /// Else, so it ends after its work.
    pub end: End,
}

impl Plan {
    /// Mostly a power loss in a stage of `stages`, so that rare ones come as often as frequent ones.
    pub fn choose(choices: &mut Choices, stages: &[Stage]) -> Plan {
        // The first operations of a stage matter as much as one deep in the work.
        let deep = choices.pick(&[1, 3, 10, 30]);
        let target = Target {
            stage: choices.pick(stages),
            nth: choices.between(1, deep),
        };
        let end = choices.pick(&[End::PowerLoss, End::PowerLoss, End::Kill, End::Shutdown]);
        let end = if target.stage == Stage::Shutdown {
            End::Shutdown
        } else {
            end
        };
        Plan {
            target: choices.percent(80).then_some(target),
            end,
        }
    }
}

/// What a chain of lives came to.
#[derive(Debug, Default)]
pub struct Report {
    /// Power losses in the middle of an operation, by what the operation was for.
    pub hits: BTreeMap<Stage, u64>,
    /// Power losses at another moment.
    pub idle_losses: u64,
    /// Deaths of the process alone.
    pub kills: u64,
    /// Ends in order.
    pub shutdowns: u64,
    /// Counts of what was done and checked.
    pub figures: BTreeMap<&'static str, u64>,
    /// A hash over everything that happened.
    pub trace: u64,
}

impl Report {
    /// Notes how a life ended, `ended` being what was done to it unless the power went by itself.
    pub fn life_ended(&mut self, disk: &Disk, ended: End) {
        match (disk.hit(), ended) {
            (Some(stage), _) => *self.hits.entry(stage).or_default() += 1,
            (None, End::PowerLoss) => self.idle_losses += 1,
            (None, End::Kill) => self.kills += 1,
            (None, End::Shutdown) => self.shutdowns += 1,
        }
        self.mix(disk.fs().trace_hash());
    }

    /// Takes something that happened into the trace.
    pub fn mix(&mut self, event: u64) {
        self.trace = (self.trace.rotate_left(5) ^ event).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Adds to a figure.
    pub fn count(&mut self, figure: &'static str, more: u64) {
        *self.figures.entry(figure).or_default() += more;
    }

    /// Power losses. Where only the process died, nothing unsynced was lost.
    pub fn crash_points(&self) -> u64 {
        self.hits.values().sum::<u64>() + self.idle_losses
    }
}

/// `NAME VALUE` lines, which tests/show/crash adds up, and the trace.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "points {}", self.crash_points())?;
        for (stage, count) in &self.hits {
            writeln!(f, "stage {} {count}", stage.name())?;
        }
        writeln!(f, "stage idle {}", self.idle_losses)?;
        writeln!(f, "figure kills {}", self.kills)?;
        writeln!(f, "figure shutdowns {}", self.shutdowns)?;
        for (figure, count) in &self.figures {
            writeln!(f, "figure {figure} {count}")?;
        }
        write!(f, "trace {:016x}", self.trace)
    }
}
