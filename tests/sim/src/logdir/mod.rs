//! The log alone: one log directory with small files through a chain of lives.

mod check;
mod model;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_log::{LogDir, LogDirConfig, RecoveryReport};
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::{Fs, SimFs};
use tidemill_storage::wal::Lsn;

use crate::chain::{Plan, Report};
use crate::choices::Choices;
use crate::clock::PausedClock;
use crate::disk::{Disk, End, Lie, Phase, Stage};
use crate::dump::{check_segments, segments};
pub use check::recover_twice;
use model::Model;

/// The data directory.
const DIR: &str = "/data";

/// What the log does with its disk.
const STAGES: [Stage; 13] = [
    Stage::WalWrite,
    Stage::WalSync,
    Stage::WalFile,
    Stage::Drain,
    Stage::Index,
    Stage::Roll,
    Stage::SegmentSync,
    Stage::Retention,
    Stage::Cut,
    Stage::PartitionDir,
    Stage::PartitionDelete,
    Stage::Checkpoint,
    Stage::Recovery,
];

/// What is done to logs besides what a broker does today.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scope {
    /// They are cut at their end, as followers will do.
    pub cuts: bool,
    /// Some skip the write-ahead log.
    pub unlogged: bool,
}

impl Scope {
    /// Takes `--cuts` and `--unlogged` out of a command line.
    pub fn take(arguments: &mut Vec<String>) -> Scope {
        let mut take = |option: &str| {
            let given = arguments.len();
            arguments.retain(|argument| argument != option);
            arguments.len() < given
        };
        Scope {
            cuts: take("--cuts"),
            unlogged: take("--unlogged"),
        }
    }
}

/// Runs so many lives. Must be called within a `LocalSet` of a paused runtime.
pub async fn run(seed: u64, lives: u64, scope: Scope, lie: Lie) -> Result<Report> {
    let mut chain = Chain {
        choices: Choices::new(seed),
        scope,
        lie,
        clock: Arc::new(PausedClock::new()),
        config: settings(&mut Choices::new(seed ^ 0x6c6f_6764_6972)),
        model: Model::default(),
        report: Report::default(),
        next_id: 1,
        waiting: BTreeMap::new(),
    };
    let mut fs = SimFs::new(seed);
    for life in 0..lives {
        let plan = match chain.choices.percent(8) {
            true => Plan::choose(&mut chain.choices, &[Stage::Shutdown]),
            false => Plan::choose(&mut chain.choices, &STAGES),
        };
        fs = chain
            .live(fs, plan)
            .await
            .with_context(|| format!("life {life}, {plan:?}"))?;
    }
    chain.last_life(fs).await.context("last life")?;
    Ok(chain.report)
}

struct Chain {
    choices: Choices,
    scope: Scope,
    /// Of the disk in each life, not while recoveries are compared.
    lie: Lie,
    clock: Arc<PausedClock>,
    config: LogDirConfig,
    model: Model,
    report: Report,
    next_id: u128,
    /// What is not acknowledged yet: the position at which the write-ahead log must be durable, and the
    /// place of the change.
    waiting: BTreeMap<Lsn, u64>,
}

/// Small bounds, so that everything that happens now and then happens often.
fn settings(choices: &mut Choices) -> LogDirConfig {
    let mut config = LogDirConfig::new(DIR);
    config.wal.file_bytes = choices.pick(&[16, 64, 256]) << 10;
    config.wal.window_bytes_max = choices.pick(&[4, 64, 4096]) << 10;
    config.wal.spare_files_max = choices.pick(&[1, 2, 8]);
    let ms = Duration::from_millis;
    config.checkpoint_interval = choices.pick(&[ms(5), ms(50), ms(500), ms(30_000)]);
    config.checkpoint_wal_bytes = choices.pick(&[16, 64, 1024]) << 10;
    config.wal_bytes_max = 4 << 20;
    config.drain_run_bytes = choices.pick(&[256, 4 << 10, 128 << 10]);
    config.drain_delay = choices.pick(&[ms(1), ms(10), ms(100)]);
    config.tail_cache_bytes = choices.pick(&[0, 8 << 10, 64 << 20]);
    config.undrained_bytes_max = choices.pick(&[64 << 10, 32 << 20]);
    config.open_files_max = choices.pick(&[8, 512]);
    config
}

impl Chain {
    fn open(&self, fs: Arc<dyn Fs>) -> Result<(Arc<LogDir>, RecoveryReport)> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Ok(LogDir::open(fs, self.config.clone(), clock)?)
    }

    /// One life, from recovery to its end. Gives the disk that the next one finds.
    async fn live(&mut self, fs: SimFs, plan: Plan) -> Result<SimFs> {
        self.report.count(
            "recoveries",
            recover_twice(&fs, &self.config, &self.model.unlogged()).await?,
        );
        let disk = Disk::new(fs, plan.target, self.lie);
        let mut ended = End::PowerLoss;
        match self.open(Arc::new(disk.clone())) {
            Ok((dir, recovery)) => {
                disk.set_phase(Phase::Serving);
                let worked = self.serve(&disk, &dir, &recovery).await;
                if !disk.fs().is_crashed() {
                    worked?;
                    ended = plan.end;
                    self.end(&disk, &dir, plan.end).await?;
                }
                self.take_acks(&dir);
            }
            Err(error) => ensure!(disk.fs().is_crashed(), error.context("it does not open")),
        }
        match ended {
            _ if disk.fs().is_crashed() => {}
            End::PowerLoss => disk.fs().crash(),
            End::Kill | End::Shutdown => disk.fs().kill(),
        }
        self.report.life_ended(&disk, ended);
        Ok(disk.fs().reboot())
    }

    async fn serve(
        &mut self,
        disk: &Disk,
        dir: &Arc<LogDir>,
        recovery: &RecoveryReport,
    ) -> Result<()> {
        self.check_recovered(dir, recovery)?;
        self.work(disk, dir).await
    }

    async fn end(&mut self, disk: &Disk, dir: &LogDir, end: End) -> Result<()> {
        if end != End::Shutdown {
            return Ok(());
        }
        disk.set_phase(Phase::Ending);
        match dir.close().await {
            Ok(()) => {
                self.model.ack_all();
                Ok(())
            }
            Err(_) if disk.fs().is_crashed() => Ok(()),
            Err(error) => Err(error).context("it does not close"),
        }
    }

    /// Recovers once more, looks at everything, closes in order, and looks at the files.
    async fn last_life(&mut self, fs: SimFs) -> Result<()> {
        self.report.count(
            "recoveries",
            recover_twice(&fs, &self.config, &self.model.unlogged()).await?,
        );
        let (dir, recovery) = self.open(Arc::new(fs.clone()))?;
        self.check_recovered(&dir, &recovery)?;
        dir.close().await?;
        fs.kill();
        check_segments(&segments(&fs))?;
        let (dir, recovery) = self.open(Arc::new(fs.reboot()))?;
        ensure!(
            recovery.clean && recovery.replayed_entries == 0,
            "not clean after an end in order: {recovery:?}"
        );
        self.check_recovered(&dir, &recovery)
    }
}
