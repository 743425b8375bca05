//! Runs a function here as a broker does: the same host, on threads of its own, with the same search for the record that
//! it does not get through.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tidemill_records::{LeaderEpoch, PartitionId, Record, TimestampType};
use tidemill_storage::spawn::spawn_thread;
use tidemill_transforms::{
    Fault, Function, Host, Limits, LogLevel, Manifest, Runner, RunnerConfig, Share, Source, Step,
};

use super::super::super::exit::Failure;
use super::super::super::output::{note, printable};
use super::super::artifact::refused;
use super::outcome::{Failed, Outcome};

/// Instances that are kept: one partition is run after the other.
const INSTANCES_MAX: usize = 1;
/// Lines of the function that are shown.
const LOG_LINES_MAX: u32 = 1_000;

/// A function that is ready to run.
pub(super) struct Engine {
    host: Host,
    function: Arc<Function>,
    pub(super) manifest: Arc<Manifest>,
    limits: Limits,
    log_lines: Arc<AtomicU32>,
}

impl Engine {
    /// Compiles the artifact that `name` names.
    pub(super) fn start(
        name: &Path,
        artifact: &[u8],
        manifest: Arc<Manifest>,
        limits: Limits,
    ) -> Result<Engine, Failure> {
        let host = Host::new(INSTANCES_MAX)
            .map_err(|error| Failure::new(error.to_string()).because(&error))?;
        let function = host
            .compile_here(artifact)
            .map_err(|error| refused(name, &error))?;
        let (worker, clock) = (host.workers().clone(), host.workers().clone());
        spawn_thread("function", move || worker.work());
        spawn_thread("function-clock", move || clock.tick());
        Ok(Engine {
            host,
            function,
            manifest,
            limits,
            log_lines: Arc::default(),
        })
    }

    /// What becomes of each of these records of one partition.
    pub(super) async fn run(
        &self,
        topic: &str,
        partition: PartitionId,
        records: Vec<Record>,
    ) -> Result<Vec<Outcome>, Failure> {
        let share = Arc::new(Share::default());
        let lines = self.log_lines.clone();
        let runner = Runner::new(
            &self.host,
            RunnerConfig {
                function: self.function.clone(),
                manifest: self.manifest.clone(),
                limits: self.limits,
                source: Source {
                    topic: topic.into(),
                    partition,
                    leader_epoch: LeaderEpoch(0),
                },
                share: share.clone(),
                log: Arc::new(move |level, text| {
                    // A terminal that is gone is no matter of the function's.
                    let _ = log(&lines, level, text);
                }),
            },
        );
        let ran = run_all(runner, records);
        let outcomes = self.host.workers().run(&share, ran).await;
        let outcomes =
            outcomes.map_err(|error| Failure::new("the engine gave up").because(&error))?;
        outcomes.map_err(|fault| match &fault {
            Fault::Configuration { .. } => Failure::new(fault.to_string()).next(
                "give the function what it asks for with --config K=V, or other --sink names",
            ),
            _ => Failure::new(fault.to_string()).cause("no instance can be made"),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.host.workers().stop();
    }
}

/// An error is not about the records: there can be no instance.
async fn run_all(mut runner: Runner, records: Vec<Record>) -> Result<Vec<Outcome>, Fault> {
    runner.probe().await?;
    let mut outcomes = Vec::with_capacity(records.len());
    while outcomes.len() < records.len() {
        let step = runner
            .run(&records[outcomes.len()..], TimestampType::CreateTime)
            .await?;
        outcomes.extend(outcomes_of(step));
    }
    Ok(outcomes)
}

fn outcomes_of(step: Step) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    outcomes.resize_with(step.taken, Outcome::default);
    for output in step.outputs.outputs {
        outcomes[output.record as usize].outputs.push(output);
    }
    for failed in step.outputs.failed {
        let at = failed.record as usize;
        outcomes[at].failed = Some(Failed::of_record(failed));
    }
    if let (Some(fault), Some(outcome)) = (step.fault, outcomes.first_mut()) {
        outcome.failed = Some(Failed::of_fault(&fault));
    }
    outcomes
}

fn log(lines: &AtomicU32, level: LogLevel, text: &str) -> io::Result<()> {
    match lines.fetch_add(1, Ordering::Relaxed) {
        ..LOG_LINES_MAX => note(&format!("log {}: {}", level.as_str(), printable(text))),
        LOG_LINES_MAX => note("log: further lines are not shown"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidemill_records::{Headers, Offset};

    use super::super::super::artifact::of_stock;
    use super::*;

    const HOSTILE: &[u8] = include_bytes!("../../../../../functions/examples/dist/hostile.wasm");

    fn record(offset: i64, value: &'static str) -> Record {
        Record {
            offset: Offset(offset),
            timestamp: 0,
            key: None,
            value: Some(Bytes::from_static(value.as_bytes())),
            headers: Headers::default(),
        }
    }

    fn engine(artifact: &[u8], config: &[(&str, &str)]) -> Result<Engine, Failure> {
        let config = config
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let manifest = Manifest {
            config: config.collect(),
            sinks: vec!["sink".into()],
        };
        let limits = Limits::default();
        Engine::start(Path::new("it"), artifact, Arc::new(manifest), limits)
    }

    #[tokio::test]
    async fn one_record_that_traps_costs_no_other() {
        let engine = engine(HOSTILE, &[]).unwrap();
        let values = ["a", "trap", "b", "fail no", "c"];
        let records = values.iter().enumerate();
        let records = records.map(|(offset, value)| record(offset as i64, value));
        let ran = engine.run("t", PartitionId(0), records.collect()).await;
        let outcomes = ran.unwrap();
        let kinds = outcomes.iter().map(|outcome| {
            let failed = outcome.failed.as_ref().map(|failed| failed.kind);
            (outcome.outputs.len(), failed)
        });
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [
                (1, None),
                (0, Some("trap")),
                (1, None),
                (0, Some("failed")),
                (1, None)
            ]
        );
    }

    #[tokio::test]
    async fn a_configuration_that_is_refused_is_said() {
        let filter = of_stock("filter").unwrap();
        let engine = engine(filter, &[("wher", "/x")]).unwrap();
        let ran = engine.run("t", PartitionId(0), vec![record(0, "{}")]);
        assert!(ran.await.unwrap_err().mentions("configuration"));
    }

    #[test]
    fn what_is_no_function_is_refused() {
        let failure = engine(b"#!/bin/sh", &[]).err().unwrap();
        assert!(failure.mentions("is no function"));
        assert!(of_stock("fliter").is_err());
    }
}
