//! The whole broker: one machine, clients on a simulated network, a chain of lives.
//!
//! In each life the judge first holds what the broker says against what clients were told in earlier
//! lives, then everybody works until the life ends. Clients live on through all of it and try again, as
//! clients do.

mod groups;
mod history;
mod judge;
mod lanes;
mod machine;
mod stage;
mod topics;

use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use tidemill_log::LogDirConfig;
use tidemill_storage::fs::SimFs;
use turmoil::Sim;

use crate::chain::{Plan, Report};
use crate::choices::Choices;
use crate::clock::WALL_BEGIN_MS;
use crate::determinism::run_local;
use crate::disk::{Disk, End, Lie, Stage};
use crate::dump::{check_segments, segments};
use crate::logdir::recover_twice;
use machine::Machine;
use stage::{Now, Shared};

/// Where the broker is on the simulated network.
const BROKER: &str = "broker";
const KAFKA: &str = "broker:9092";

const DATA_DIR: &str = "/data";

/// A life that takes longer, in simulated time, is stuck.
const LIFE_MAX: Duration = Duration::from_secs(180);

/// What the power may go in the middle of.
const STAGES: [Stage; 16] = [
    Stage::WalWrite,
    Stage::WalSync,
    Stage::GroupCommit,
    Stage::GroupCommit,
    Stage::GroupCommit,
    Stage::Drain,
    Stage::Index,
    Stage::Roll,
    Stage::SegmentSync,
    Stage::Retention,
    Stage::PartitionDir,
    Stage::PartitionDelete,
    Stage::Checkpoint,
    Stage::RaftLog,
    Stage::RaftSync,
    Stage::Recovery,
];

/// Runs so many lives, and a last one that only looks.
pub fn run(seed: u64, lives: u64, lie: Lie) -> Result<Report> {
    let mut choices = Choices::new(seed);
    let mut world = World::new(&mut choices, lie);
    let mut fs = SimFs::new(choices.bits());
    for life in 0..lives {
        let plan = match choices.percent(10) {
            true => Plan::choose(&mut choices, &[Stage::Shutdown]),
            false => Plan::choose(&mut choices, &STAGES),
        };
        let work_max = Duration::from_millis(choices.pick(&[50, 300, 1_500]));
        tracing::info!(life, ?plan, ?work_max, "a life begins");
        fs = world
            .live(fs, plan, work_max, &mut choices)
            .with_context(|| format!("life {life}, {plan:?}"))?;
        world
            .recover_twice(&fs)
            .with_context(|| format!("after life {life}, {plan:?}"))?;
    }
    let plan = Plan {
        target: None,
        end: End::Shutdown,
    };
    let fs = world
        .live(fs, plan, Duration::ZERO, &mut choices)
        .context("the last life")?;
    check_segments(&segments(&fs))?;
    Ok(world.into_report())
}

struct World {
    sim: Sim<'static>,
    machine: Rc<Machine>,
    shared: Rc<Shared>,
    /// Of the disk in each life, not while recoveries are compared.
    lie: Lie,
    report: Report,
}

impl World {
    fn new(choices: &mut Choices, lie: Lie) -> World {
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(choices.bits())
            .epoch(UNIX_EPOCH + Duration::from_millis(WALL_BEGIN_MS as u64))
            .simulation_duration(Duration::from_secs(24 * 3600))
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::from_millis(choices.pick(&[1, 3, 15])))
            .tcp_capacity(1 << 16)
            .enable_random_order();
        let mut sim = builder.build();
        let shared = Rc::new(Shared::new());
        let machine = Rc::new(Machine::new(choices, shared.clone()));
        let host = machine.clone();
        sim.host(BROKER, move || host.clone().run());
        sim.client("judge", judge::run(shared.clone()));
        lanes::start(&mut sim, &shared, choices);
        groups::start(&mut sim, &shared, choices);
        topics::start(&mut sim, &shared, choices);
        World {
            sim,
            machine,
            shared,
            lie,
            report: Report::default(),
        }
    }

    /// One life, from the start of the broker to its end. Gives the disk that the next one finds.
    fn live(
        &mut self,
        fs: SimFs,
        plan: Plan,
        work_max: Duration,
        choices: &mut Choices,
    ) -> Result<SimFs> {
        let disk = Disk::new(fs, plan.target, self.lie);
        self.machine.insert(disk.clone(), choices.bits());
        self.shared.begin_life(disk.clone());
        self.sim.bounce(BROKER);
        self.work(&disk, work_max)?;
        if plan.end == End::Shutdown && !disk.fs().is_crashed() {
            self.machine.order_to_stop();
            self.step_until("the broker does not end", |world| {
                world.machine.has_stopped() || disk.fs().is_crashed()
            })?;
        }
        match plan.end {
            _ if disk.fs().is_crashed() => {}
            End::PowerLoss => disk.fs().crash(),
            End::Kill | End::Shutdown => disk.fs().kill(),
        }
        self.shared.set(Now::Down);
        self.sim.crash(BROKER);
        self.report.life_ended(&disk, plan.end);
        self.report.mix(self.sim.elapsed().as_micros() as u64);
        Ok(disk.fs().reboot())
    }

    /// Lets the judge look and the others work, until the time for work is over or the power goes.
    fn work(&mut self, disk: &Disk, work_max: Duration) -> Result<()> {
        self.step_until(
            "the broker does not start, or the judge does not come to an end",
            |world| world.shared.now() == Now::Working || disk.fs().is_crashed(),
        )?;
        let until = self.sim.elapsed() + work_max;
        self.step_until("unreachable", |world| {
            world.sim.elapsed() >= until || disk.fs().is_crashed()
        })
    }

    fn step_until(
        &mut self,
        stuck: &'static str,
        mut done: impl FnMut(&World) -> bool,
    ) -> Result<()> {
        let began = self.sim.elapsed();
        while !done(self) {
            self.sim.step().map_err(|error| anyhow!("{error}"))?;
            if self.sim.elapsed() - began > LIFE_MAX {
                bail!("{stuck}");
            }
        }
        Ok(())
    }

    fn recover_twice(&mut self, fs: &SimFs) -> Result<()> {
        let mut config = LogDirConfig::new(DATA_DIR);
        // Smaller than the broker's, whose files are read all the same: making one takes time.
        config.wal.file_bytes = 1 << 20;
        let recoveries = run_local(recover_twice(fs, &config, &[]))?;
        self.report.count("recoveries", recoveries);
        Ok(())
    }

    fn into_report(mut self) -> Report {
        self.shared.history().tell(&mut self.report);
        self.report
    }
}
