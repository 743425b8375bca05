//! Prints how fast batches are scanned, decoded, built and opened by one thread: the best of ten
//! rounds, so that a busy machine spoils little.
//!
//! `cargo run --release -p tidemill-records --example throughput`
#![allow(clippy::print_stdout, reason = "a program that prints figures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidemill_records::{
    BatchRules, Compression, DecodeLimit, Headers, LeaderEpoch, Offset, RecordBatch,
    RecordBatchBuilder, RecordHeader,
};

const LIMIT: DecodeLimit = DecodeLimit(64 << 20);

fn main() {
    println!("scan = header, CRC32C and consistency (the bar is 6.5 GB/s)");
    for (records, value_bytes) in [(1, 100), (10, 100), (150, 100), (16, 1024), (1000, 1024)] {
        let log = log(records, value_bytes, 64 << 20);
        let batches = RecordBatch::parse_all(&log, BatchRules::Stored)
            .expect("our own")
            .len();
        let per_run = best(|| {
            let mut rest = log.clone();
            while !rest.is_empty() {
                let parsed = RecordBatch::parse(&rest, BatchRules::Stored);
                let (batch, size) = parsed.expect("our own");
                black_box(&batch);
                rest = rest.slice(size..);
            }
        });
        println!(
            "  {records:5} x {value_bytes:4} B a batch: {:6.2} GB/s  {:6.0} ns a batch",
            log.len() as f64 / per_run.as_secs_f64() / 1e9,
            per_run.as_nanos() as f64 / batches as f64,
        );
    }

    println!("decode (the bar is 5 M records/s at 100 B), and the walk that keeps nothing");
    for (what, value_bytes, headers) in [
        ("100 B", 100, 0),
        ("1 KiB", 1024, 0),
        ("100 B, 2 headers", 100, 2),
    ] {
        let batch = batch(Compression::None, 1000, value_bytes, headers);
        let decode = best(|| {
            for record in batch.records(LIMIT).expect("opens") {
                black_box(record.expect("decodes"));
            }
        });
        let walk = best(|| {
            black_box(batch.validate_records(LIMIT)).expect("decodes");
        });
        let rate = |time: Duration| 1000.0 / time.as_secs_f64() / 1e6;
        println!(
            "  {what:17}: {:6.1} M/s decoded  {:6.1} M/s walked",
            rate(decode),
            rate(walk)
        );
    }

    println!("assign, append time, build");
    let mut one = batch(Compression::None, 1000, 1024, 0);
    let assign = best(|| one.assign(black_box(Offset(77)), LeaderEpoch(3)));
    let stamp = best(|| one.set_log_append_time(black_box(77)));
    let value = [b'x'; 100];
    let build = best(|| {
        let mut builder = RecordBatchBuilder::new(Compression::None);
        for at in 0..1000 {
            builder.push(
                at,
                Some(b"UA"),
                Some(black_box(&value)),
                &Headers::default(),
            );
        }
        black_box(builder.build()).expect("a batch");
    });
    println!("  assign {assign:?}; append time on 1 MiB {stamp:?}; build 1000 x 100 B {build:?}");

    println!("codecs on 1000 x 1 KiB, plain bytes a second");
    for codec in Compression::ALL {
        let plain = batch(Compression::None, 1000, 1024, 0).body().clone();
        let packed = codec.compress(&plain, None);
        let gigabytes = |time: Duration| plain.len() as f64 / time.as_secs_f64() / 1e9;
        let pack = best(|| {
            black_box(codec.compress(&plain, None));
        });
        let open = best(|| {
            black_box(codec.decompress(&packed, LIMIT.0)).expect("our own");
        });
        println!(
            "  {:6} {:5.2} GB/s in  {:6.2} GB/s out  ratio {:4.1}",
            codec.name(),
            gigabytes(pack),
            gigabytes(open),
            plain.len() as f64 / packed.len() as f64,
        );
    }
}

fn batch(codec: Compression, records: usize, value_bytes: usize, headers: usize) -> RecordBatch {
    let header = |at| RecordHeader {
        key: format!("header-{at}").into(),
        value: Some("value".into()),
    };
    let headers: Headers = (0..headers).map(header).collect();
    let mut builder = RecordBatchBuilder::new(codec);
    let mut state = 1u64;
    for at in 0..records {
        let mut value = Vec::with_capacity(value_bytes + 20);
        while value.len() < value_bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            value.extend_from_slice(format!("flight {}, ", state >> 52).as_bytes());
        }
        let timestamp = 1_357_034_400_000 + at as i64;
        builder.push(
            timestamp,
            Some(b"UA"),
            Some(&value[..value_bytes]),
            &headers,
        );
    }
    builder.build().expect("a batch")
}

/// About `bytes` of batches in a row.
fn log(records: usize, value_bytes: usize, bytes: usize) -> Bytes {
    let one = batch(Compression::None, records, value_bytes, 0).to_bytes();
    let mut log = BytesMut::with_capacity(bytes + one.len());
    while log.len() < bytes {
        log.extend_from_slice(&one);
    }
    log.freeze()
}

/// The best time of one call: of rounds of at least 20 ms, ten times.
fn best(mut run: impl FnMut()) -> Duration {
    let mut calls = 1u32;
    let mut round = |calls: u32| {
        let start = Instant::now();
        for _ in 0..calls {
            run();
        }
        start.elapsed()
    };
    while round(calls) < Duration::from_millis(20) {
        calls *= 2;
    }
    let rounds = (0..10).map(|_| round(calls));
    rounds.min().expect("ten rounds") / calls
}
