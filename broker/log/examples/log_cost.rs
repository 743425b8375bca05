//! What the log costs by itself: `cargo run --release -p tidemill-log --example log_cost [append|many|recover] [DIR]`.
//!
//! - `append`: µs per append and CPU-seconds per GB of append, write-ahead log and drain together, for several batch sizes, with
//!   and without the write-ahead log, over 16 partitions, at most 256 MiB each.
//! - `many`: 10,000 partitions with a few records each: memory, idle CPU, close and open.
//! - `recover`: a directory that died with 512 MiB of write-ahead log.
#![allow(clippy::print_stdout, reason = "a program whose output is its figures")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_log::{AppendOrigin, LogConfig, LogDir, LogDirConfig, PartitionLog};
use tidemill_records::{
    Compression, Headers, LeaderEpoch, PartitionId, RecordBatch, RecordBatchBuilder, TopicId,
    TopicPartition,
};
use tidemill_storage::clock::{Clock, SystemClock};
use tidemill_storage::fs::RealFs;

const MIB: usize = 1 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "append".to_owned());
    let dir = args.next().map_or_else(
        || std::env::temp_dir().join("tidemill-log-cost"),
        PathBuf::from,
    );
    let _ = std::fs::remove_dir_all(&dir);
    match what.as_str() {
        "append" => append(&dir).await,
        "many" => many(&dir).await,
        "recover" => recover(&dir).await,
        other => println!("unknown: {other}"),
    }
    let _ = std::fs::remove_dir_all(&dir);
}

fn open(config: LogDirConfig) -> Arc<LogDir> {
    let started = Instant::now();
    let (dir, report) =
        LogDir::open(Arc::new(RealFs), config, Arc::new(SystemClock::new())).expect("opens");
    println!(
        "  opened in {:.1?}: {} partitions, {} entries of {} MiB replayed",
        started.elapsed(),
        report.partitions,
        report.replayed_entries,
        report.replayed_bytes >> 20
    );
    dir
}

fn partitions(dir: &LogDir, count: i32, flush_messages: i64) -> Vec<Arc<PartitionLog>> {
    let config = Arc::new(LogConfig {
        flush_messages,
        ..LogConfig::default()
    });
    let id = TopicId(uuid::Uuid::from_u128(7));
    let make = |index| {
        let partition = TopicPartition::new("cost", PartitionId(index));
        dir.create(partition, id, config.clone()).expect("made")
    };
    (0..count).map(make).collect()
}

/// A batch of about `bytes` bytes in records of at most 1 KiB. The values do not repeat.
fn batch(bytes: usize) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None);
    let mut state = 1u64;
    let mut left = bytes.saturating_sub(61).max(1);
    while left > 0 {
        let value: Vec<u8> = (0..left.min(1024))
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        left -= value.len();
        builder.push(
            SystemClock::new().now_ms(),
            None,
            Some(&value),
            &Headers::default(),
        );
    }
    builder.build().expect("a batch")
}

/// CPU time of the whole process, or of this thread.
fn cpu(clock: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(clock);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

async fn append(dir: &Path) {
    for flush_messages in [1, i64::MAX] {
        for bytes in [200, 1 << 10, 16 << 10, 128 << 10, MIB - 1024] {
            let _ = std::fs::remove_dir_all(dir);
            let log_dir = open(LogDirConfig::new(dir));
            log_dir.wal().preallocate_in_background();
            let logs = partitions(&log_dir, 16, flush_messages);
            measure(&log_dir, &logs, bytes).await;
            log_dir.close().await.expect("closes");
        }
    }
}

async fn measure(dir: &LogDir, logs: &[Arc<PartitionLog>], bytes: usize) {
    use rustix::time::ClockId::{ProcessCPUTime, ThreadCPUTime};
    let batch = batch(bytes);
    let total = (256 * MIB).min(200_000 * batch.size_bytes());
    let count = total / batch.size_bytes();
    let now_ms = SystemClock::new().now_ms();
    let (started, process) = (Instant::now(), cpu(ProcessCPUTime));
    let mut appending = Duration::ZERO;
    for at in 0..count {
        dir.admit().await.expect("room");
        let batches = vec![batch.clone()];
        let thread = cpu(ThreadCPUTime);
        logs[at % logs.len()]
            .append_as_leader(batches, LeaderEpoch(0), AppendOrigin::Client, now_ms)
            .expect("appended");
        appending += cpu(ThreadCPUTime) - thread;
    }
    dir.checkpoint().await.expect("drained and synced");
    let (wall, process) = (started.elapsed(), cpu(ProcessCPUTime) - process);
    let figures = dir.figures();
    let gb = (count * batch.size_bytes()) as f64 / 1e9;
    println!(
        "  {} batches of {} B, {}: {:.2} µs CPU an append ({:.3} CPU-s/GB), {:.3} CPU-s/GB in all, {:.0} MB/s, {} fsyncs of the log, {} drain writes",
        count,
        batch.size_bytes(),
        if logs[0].config().is_unlogged() {
            "without write-ahead log"
        } else {
            "with write-ahead log"
        },
        appending.as_secs_f64() * 1e6 / count as f64,
        appending.as_secs_f64() / gb,
        process.as_secs_f64() / gb,
        gb * 1e3 / wall.as_secs_f64(),
        figures.wal.fsyncs,
        figures.drain_writes,
    );
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}

async fn many(dir: &Path) {
    use rustix::time::ClockId::ProcessCPUTime;
    let log_dir = open(LogDirConfig::new(dir));
    let started = Instant::now();
    let logs = partitions(&log_dir, 10_000, 1);
    let batch = batch(300);
    for log in &logs {
        log_dir.admit().await.expect("room");
        let now_ms = SystemClock::new().now_ms();
        log.append_as_leader(
            vec![batch.clone()],
            LeaderEpoch(0),
            AppendOrigin::Client,
            now_ms,
        )
        .expect("appended");
    }
    println!("  made and written to in {:.1?}", started.elapsed());
    let started = Instant::now();
    log_dir.checkpoint().await.expect("a checkpoint");
    println!(
        "  first checkpoint in {:.1?}, {} files open, RssAnon {} MiB",
        started.elapsed(),
        log_dir.figures().open_files,
        resident_kib() >> 10
    );
    let idle = cpu(ProcessCPUTime);
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "  idle: {:.3} ms CPU/s",
        (cpu(ProcessCPUTime) - idle).as_secs_f64() * 200.0
    );
    let started = Instant::now();
    log_dir.close().await.expect("closes");
    println!("  closed in {:.1?}", started.elapsed());
    drop((log_dir, logs));
    let log_dir = open(LogDirConfig::new(dir));
    println!(
        "  RssAnon {} MiB, {} files open",
        resident_kib() >> 10,
        log_dir.figures().open_files
    );
    log_dir.close().await.expect("closes");
}

async fn recover(dir: &Path) {
    let mut config = LogDirConfig::new(dir);
    config.checkpoint_wal_bytes = u64::MAX;
    config.checkpoint_interval = Duration::from_secs(3600);
    let log_dir = open(config.clone());
    let logs = partitions(&log_dir, 100, 1);
    let batch = batch(16 << 10);
    let now_ms = SystemClock::new().now_ms();
    let mut last = None;
    for at in 0..512 * MIB / batch.size_bytes() {
        log_dir.admit().await.expect("room");
        let batches = vec![batch.clone()];
        let log = &logs[at % logs.len()];
        let info = log.append_as_leader(batches, LeaderEpoch(0), AppendOrigin::Client, now_ms);
        last = Some(info.expect("appended").lsn);
    }
    if let Some(lsn) = last {
        log_dir.wal().wait_durable(lsn).await.expect("durable");
    }
    drop((log_dir, logs));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let log_dir = open(config);
    let read = log_dir
        .partitions()
        .iter()
        .map(|log| log.log_end_offset().0)
        .sum::<i64>();
    println!("  {read} records are there");
    log_dir.close().await.expect("closes");
}
