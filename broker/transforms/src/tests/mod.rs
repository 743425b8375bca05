//! The host with real guests: those of `functions`.

mod artifacts;
mod golden;
mod isolation;
mod limits;
mod outputs;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidemill_records::{
    Headers, LeaderEpoch, Offset, PartitionId, Record, RecordHeader, TimestampType,
};

use crate::{
    Fault, Function, Host, Limits, LogLevel, Manifest, Outputs, Runner, RunnerConfig, Share,
    Source, Step,
};

const IDENTITY: &[u8] = include_bytes!("../../../../functions/examples/dist/identity.wasm");
const DELAYS: &[u8] = include_bytes!("../../../../functions/examples/dist/delays.wasm");
const HOSTILE: &[u8] = include_bytes!("../../../../functions/examples/dist/hostile.wasm");

/// A host with its threads, which end with it.
struct Rig {
    host: Host,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> Self {
        Self::with(8, 2)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "there is no seam for threads below the broker"
    )]
    fn with(instances_max: usize, threads: usize) -> Self {
        let host = Host::new(instances_max).expect("this machine runs WebAssembly");
        let block_on = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build();
                runtime.expect("a runtime").block_on(work);
            })
        };
        for _ in 0..threads {
            block_on(Box::pin(host.workers().clone().work()));
        }
        block_on(Box::pin(host.workers().clone().tick()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        Self { host, runtime }
    }

    fn function(&self, artifact: &[u8]) -> Arc<Function> {
        self.host.compile_here(artifact).expect("it is a function")
    }

    fn runner(&self, artifact: &[u8], config: &[(&str, &str)], limits: Limits) -> Tester<'_> {
        let said: Arc<Mutex<Vec<(LogLevel, String)>>> = Arc::default();
        let lines = said.clone();
        let share = Arc::new(Share::default());
        let config = RunnerConfig {
            function: self.function(artifact),
            manifest: Arc::new(Manifest {
                config: config
                    .iter()
                    .map(|(key, value)| ((*key).into(), (*value).into()))
                    .collect(),
                sinks: vec!["sink-a".into(), "sink-b".into()],
            }),
            limits,
            source: Source {
                topic: "source".into(),
                partition: PartitionId(3),
                leader_epoch: LeaderEpoch(5),
            },
            share: share.clone(),
            log: Arc::new(move |level, line: &str| lines.lock().push((level, line.to_owned()))),
        };
        Tester {
            rig: self,
            runner: Some(Runner::new(&self.host, config)),
            share,
            said,
        }
    }

    fn run<T: Send + 'static>(
        &self,
        share: &Arc<Share>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let done = self.host.workers().run(share, call);
        let done = async { tokio::time::timeout(Duration::from_secs(60), done).await };
        let done = self.runtime.block_on(done);
        done.expect("it ends").expect("the threads live")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.host.workers().stop();
    }
}

/// A runner, and what its function says.
struct Tester<'a> {
    rig: &'a Rig,
    runner: Option<Runner>,
    share: Arc<Share>,
    said: Arc<Mutex<Vec<(LogLevel, String)>>>,
}

impl Tester<'_> {
    fn step(&mut self, records: &[Record]) -> Result<Step, Fault> {
        let mut runner = self.runner.take().expect("it is back after each call");
        let records = records.to_vec();
        let call = async move {
            let step = runner.run(&records, TimestampType::CreateTime).await;
            (runner, step)
        };
        let (runner, step) = self.rig.run(&self.share, call);
        self.runner = Some(runner);
        step
    }

    fn probe(&mut self) -> Result<(), Fault> {
        let runner = self.runner.take().expect("it is back after each call");
        let call = async move {
            let probed = runner.probe().await;
            (runner, probed)
        };
        let (runner, probed) = self.rig.run(&self.share, call);
        self.runner = Some(runner);
        probed
    }

    /// Takes all records through; the offsets that were written, and those that failed with the kind.
    fn all(&mut self, records: &[Record]) -> (Vec<i64>, Vec<(i64, &'static str)>) {
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < records.len() {
            let step = self.step(&records[at..]).expect("instances can be made");
            let of = |record: u32| records[at + record as usize].offset.0;
            written.extend(step.outputs.outputs.iter().map(|output| of(output.record)));
            failed.extend(
                step.outputs
                    .failed
                    .iter()
                    .map(|failed| (of(failed.record), "failed")),
            );
            if let Some(fault) = &step.fault {
                assert_eq!(step.taken, 1);
                failed.push((of(0), fault.kind()));
            }
            at += step.taken;
        }
        (written, failed)
    }
}

fn record(offset: i64, key: Option<&str>, value: Option<&str>) -> Record {
    Record {
        offset: Offset(offset),
        timestamp: 1_357_034_400_000 + offset,
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Headers::default(),
    }
}

fn with_headers(mut record: Record, headers: &[(&str, Option<&str>)]) -> Record {
    let header = |(key, value): &(&str, Option<&str>)| RecordHeader {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    };
    record.headers = headers.iter().map(header).collect();
    record
}

/// Records that pass, but for some.
fn records(count: i64, bad: &[(i64, &str)]) -> Vec<Record> {
    let value = |offset: i64| {
        bad.iter()
            .find(|(at, _)| *at == offset)
            .map_or("good", |bad| bad.1)
    };
    (0..count)
        .map(|offset| record(offset, Some("key"), Some(value(offset))))
        .collect()
}

#[test]
fn identity_passes_every_record_as_it_is() {
    let rig = Rig::new();
    let mut identity = rig.runner(IDENTITY, &[], Limits::default());
    let records = [
        record(10, None, None),
        record(11, Some(""), Some("")),
        with_headers(
            record(15, Some("k"), Some("v")),
            &[("h", None), ("h", Some("x")), ("", Some(""))],
        ),
    ];
    let step = identity.step(&records).unwrap();
    assert_eq!((step.taken, &step.fault), (3, &None));
    let content: Vec<_> = step
        .outputs
        .outputs
        .iter()
        .map(|output| &output.content)
        .collect();
    assert_eq!(content, [&crate::Content::Unchanged; 3]);
}

#[test]
fn delays_gets_a_new_key_and_keeps_the_event_time() {
    let rig = Rig::new();
    let mut delays = rig.runner(DELAYS, &[], Limits::default());
    let flight = |delay: &str, dest: &str| {
        format!(r#"{{"carrier":"UA","dest":"{dest}","dep_delay":{delay}}}"#)
    };
    let records = [
        record(0, None, Some(&flight("61", "IAH"))),
        record(1, None, Some(&flight("60", "MIA"))),
        record(2, Some("old"), Some(&flight("853.5", "ORD"))),
        record(3, None, Some(&flight("null", "BOS"))),
    ];
    let Outputs { outputs, failed } = delays.step(&records).unwrap().outputs;
    assert_eq!(failed, []);
    let found: Vec<_> = outputs
        .iter()
        .map(|output| {
            let crate::Content::Changed(changed) = &output.content else {
                panic!("{output:?}")
            };
            assert_eq!(changed.value, records[output.record as usize].value);
            assert_eq!(changed.timestamp, records[output.record as usize].timestamp);
            (output.record, changed.key.clone().unwrap())
        })
        .collect();
    assert_eq!(found, [(0, Bytes::from("IAH")), (2, Bytes::from("ORD"))]);
}
