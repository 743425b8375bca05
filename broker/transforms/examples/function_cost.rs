//! What functions cost a record, beside the same work in this process: `function_cost [ROUNDS]`.
//!
//! Each function gets frames of 1,000 records of the kind that it is for. The native column does the same to the same records without
//! WebAssembly: identity by a loop that ends with the same list of outputs, the others by their own source, compiled natively, whose
//! frames are written before and not read behind. Processor time of the thread, the median of the rounds; one JSON line a function.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use tidemill_records::{Headers, LeaderEpoch, Offset, PartitionId, Record, TimestampType};
use tidemill_sdk::Transform;
use tidemill_sdk::guest::Instance;
use tidemill_sdk::testing::{Input, frame};
use tidemill_transforms::{
    Content, Host, Limits, Manifest, Output, PartitionChoice, Runner, RunnerConfig, Share, Source,
};

const RECORDS: usize = 1_000;
const FRAMES: usize = 200;
const IDENTITY: &[u8] = include_bytes!("../../../functions/examples/dist/identity.wasm");
const DELAYS: &[u8] = include_bytes!("../../../functions/examples/dist/delays.wasm");
const JSON: &[u8] = include_bytes!("../../../functions/examples/dist/json.wasm");
const FILTER: &[u8] = include_bytes!("../../../functions/dist/filter.wasm");
const REDACT: &[u8] = include_bytes!("../../../functions/dist/redact.wasm");
const NO_CONFIG: &[(&str, &str)] = &[];

#[allow(clippy::print_stdout, reason = "what it is run for")]
#[allow(
    clippy::disallowed_methods,
    reason = "there is no seam for threads below the broker"
)]
fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(5, |text| text.parse().expect("a number"));
    let host = Host::new(16).expect("this machine runs WebAssembly");
    for work in [true, false] {
        let workers = host.workers().clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let runtime = runtime.expect("a runtime");
            match work {
                true => runtime.block_on(workers.work()),
                false => runtime.block_on(workers.tick()),
            }
        });
    }
    let filter: &[(&str, &str)] = &[("where", "/dep_delay"), ("op", "gt"), ("value", "60")];
    let redact: &[(&str, &str)] = &[("fields", "/tailnum,/flight")];
    for (name, artifact, config) in [
        ("identity", IDENTITY, NO_CONFIG),
        ("filter", FILTER, filter),
        ("delays", DELAYS, NO_CONFIG),
        ("redact", REDACT, redact),
        ("json", JSON, NO_CONFIG),
    ] {
        let records = Arc::new(records(name));
        let bytes = records[0].value.as_ref().map_or(0, Bytes::len);
        let guest = median(rounds, || guest(&host, artifact, config, &records));
        let native = median(rounds, || match name {
            "identity" => passed(&records),
            "filter" => native::<filter::Filter>(config, &records),
            "delays" => native::<delays::Function>(config, &records),
            "redact" => native::<redact::Redact>(config, &records),
            _ => native::<json::Json>(config, &records),
        });
        println!(
            "{{\"function\":\"{name}\",\"records\":{},\"value_bytes\":{bytes},\"ns_per_record\":{guest:.1},\
             \"native_ns_per_record\":{native:.1}}}",
            RECORDS * FRAMES
        );
    }
    host.workers().stop();
}

fn records(name: &str) -> Vec<Record> {
    let value = |at: usize| match name {
        "identity" => "x".repeat(100),
        _ => format!(
            "{{\"year\":2013,\"month\":1,\"day\":1,\"dep_time\":517,\"sched_dep_time\":515,\"dep_delay\":{},\
             \"carrier\":\"UA\",\"flight\":1545,\"tailnum\":\"N14228\",\"origin\":\"EWR\",\"dest\":\"IAH\",\"air_time\":227}}",
            at % 80
        ),
    };
    (0..RECORDS)
        .map(|at| Record {
            offset: Offset(at as i64),
            timestamp: at as i64,
            key: Some(Bytes::from_static(b"UA")),
            value: Some(value(at).into()),
            headers: Headers::default(),
        })
        .collect()
}

/// Nanoseconds a record, of the processor.
fn guest(host: &Host, artifact: &[u8], config: &[(&str, &str)], records: &Arc<Vec<Record>>) -> f64 {
    let share = Arc::new(Share::default());
    let config = config
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    let mut runner = Runner::new(
        host,
        RunnerConfig {
            function: host.compile_here(artifact).expect("a function"),
            manifest: Arc::new(Manifest {
                config: config.collect(),
                sinks: vec!["sink".into()],
            }),
            limits: Limits::default(),
            source: Source {
                topic: "source".into(),
                partition: PartitionId(0),
                leader_epoch: LeaderEpoch(0),
            },
            share: share.clone(),
            log: Arc::new(|_, _| {}),
        },
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut used = 0.0;
    for frame in 0..=FRAMES {
        let before = share.used();
        let records = records.clone();
        let call = async move {
            let step = runner
                .run(&records, TimestampType::CreateTime)
                .await
                .expect("it runs");
            assert_eq!(step.taken, RECORDS);
            black_box(step.outputs.outputs.len());
            runner
        };
        let ran = runtime.block_on(host.workers().run(&share, call));
        runner = ran.expect("the threads live");
        // The first makes the instance. What a slice used is charged just behind its answer.
        if frame > 0 {
            used += (share.used() - before).as_nanos() as f64;
        }
    }
    used / (FRAMES * RECORDS) as f64
}

/// The same list of outputs from the same records.
fn passed(records: &[Record]) -> f64 {
    let pass = |at: usize, record: &Record| Output {
        record: at as u32,
        sink: u16::from(record.offset.0 < 0),
        partition: PartitionChoice::Key,
        content: Content::Unchanged,
    };
    timed(|| {
        let outputs: Vec<Output> = records
            .iter()
            .enumerate()
            .map(|(at, record)| pass(at, record))
            .collect();
        black_box(outputs);
    })
}

/// A function's source in this process.
fn native<T: Transform>(config: &[(&str, &str)], records: &[Record]) -> f64 {
    let mut function = Instance::<T>::new();
    let entries: Vec<_> = config
        .iter()
        .map(|&(key, value)| (key, Some(value)))
        .collect();
    frame::read_answer(function.init(&frame::config(&entries, &["sink"]))).expect("a function");
    let inputs: Vec<Input> = records
        .iter()
        .map(|record| {
            let value = record.value.clone().unwrap_or_default();
            Input::new().key("UA").value(value)
        })
        .collect();
    let input = frame::input(&frame::Source::default(), &inputs);
    let progress = AtomicU32::new(0);
    timed(|| {
        black_box(function.process(&input, &progress));
    })
}

/// Nanoseconds a record, of the processor.
fn timed(mut frame: impl FnMut()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
    };
    let began = now();
    for _ in 0..FRAMES {
        frame();
    }
    (now() - began) / (FRAMES * RECORDS) as f64
}

fn median(rounds: usize, mut measure: impl FnMut() -> f64) -> f64 {
    let mut measured: Vec<f64> = (0..rounds).map(|_| measure()).collect();
    measured.sort_by(f64::total_cmp);
    measured[measured.len() / 2]
}
