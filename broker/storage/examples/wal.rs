//! What the write-ahead log costs. Run with a directory on the disk in question:
//! `cargo run --release -p tidemill-storage --example wal -- DIR [small|large|plain|all]`
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::convert::Infallible;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tidemill_storage::fs::{Fs, OpenMode, RealFs};
use tidemill_storage::wal::{FSYNC_BUCKET_BOUNDS_US, Lsn, Wal, WalConfig};

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "/tmp/wal-example".to_owned()));
    let which = args.next().unwrap_or_else(|| "all".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build();
    let runtime = runtime.expect("a runtime");
    if ["small", "all"].contains(&which.as_str()) {
        for tasks in [1, 10, 100, 1_000] {
            runtime.block_on(small(&dir, tasks));
        }
    }
    if ["plain", "all"].contains(&which.as_str()) {
        plain(&dir);
    }
    if ["large", "all"].contains(&which.as_str()) {
        for bytes in [16 << 10, 256 << 10, 1 << 20] {
            runtime.block_on(large(&dir, bytes));
        }
    }
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

fn open(dir: &Path) -> Arc<Wal> {
    let _ = std::fs::remove_dir_all(dir);
    let nothing = &mut |_, _: &[u8]| Ok::<(), Infallible>(());
    let started = Instant::now();
    let (wal, _) =
        Wal::open(Arc::new(RealFs), WalConfig::new(dir), Lsn(0), nothing).expect("a log");
    let opened = started.elapsed();
    wal.preallocate_in_background();
    // Long enough for the 64 MiB of zeros.
    std::thread::sleep(Duration::from_millis(400));
    println!("open {} us", opened.as_micros());
    Arc::new(wal)
}

/// 1 KiB entries, each waited for, by many tasks at once.
async fn small(dir: &Path, tasks: usize) {
    let wal = open(dir);
    let per_task = if tasks == 1 { 2_000 } else { 100_000 / tasks };
    let (started, cpu_before) = (Instant::now(), cpu());
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let wal = Arc::clone(&wal);
            tokio::spawn(async move {
                let (head, body) = ([1; 40], [2; 984]);
                for _ in 0..per_task {
                    wal.admit().await.expect("admitted");
                    let parts = [IoSlice::new(&head), IoSlice::new(&body)];
                    let lsn = wal.append(&parts).expect("appended");
                    wal.wait_durable(lsn).await.expect("durable");
                }
            })
        })
        .collect();
    for handle in handles {
        handle.await.expect("no panic");
    }
    report(&wal, &format!("1 KiB, {tasks} tasks"), started, cpu_before);
    wal.close().await.expect("closed");
}

/// Batches as large as they come, as fast as the disk takes them.
async fn large(dir: &Path, bytes: usize) {
    let wal = open(dir);
    let payload = vec![7; bytes];
    let total = 1 << 30;
    let (started, cpu_before) = (Instant::now(), cpu());
    let mut last = Lsn(0);
    for number in 0..total / bytes {
        wal.admit().await.expect("admitted");
        last = wal.append(&[IoSlice::new(&payload)]).expect("appended");
        if number % 64 == 63 {
            wal.recycle_below(Lsn(wal.durable().0.saturating_sub(64 << 20)));
        }
    }
    wal.wait_durable(last).await.expect("durable");
    report(
        &wal,
        &format!("{} KiB, as fast as it goes", bytes >> 10),
        started,
        cpu_before,
    );
    wal.close().await.expect("closed");
}

/// The floor: the same bytes written and synced in pieces of 4 MiB, over a file written before.
fn plain(dir: &Path) {
    std::fs::create_dir_all(dir).expect("a directory");
    let file = RealFs
        .open(&dir.join("plain"), OpenMode::Create)
        .expect("a file");
    let piece = vec![7; 4 << 20];
    for round in 0..2 {
        let (started, cpu_before) = (Instant::now(), cpu());
        for number in 0..256u64 {
            let offset = number % 16 * (4 << 20);
            file.write_all_at(&[IoSlice::new(&piece)], offset)
                .expect("written");
            file.sync_data().expect("synced");
        }
        let (wall, cpu) = (started.elapsed(), cpu() - cpu_before);
        if round == 1 {
            println!(
                "plain 4 MiB writes + fdatasync: {:.3} CPU-s/GiB, {wall:.2?} wall",
                cpu.as_secs_f64()
            );
        }
    }
}

fn report(wal: &Wal, what: &str, started: Instant, cpu_before: Duration) {
    let (wall, cpu) = (started.elapsed(), cpu() - cpu_before);
    let stats = wal.stats();
    println!(
        "{what}: {:.2} us CPU/append, {:.3} CPU-s/GiB, {} appends, {} windows, {} fdatasyncs, {:.0} KiB/window, \
         mean fdatasync {:.0} us, {wall:.2?} wall",
        cpu.as_secs_f64() * 1e6 / stats.entries as f64,
        cpu.as_secs_f64() * f64::from(1 << 30) / stats.payload_bytes as f64,
        stats.entries,
        stats.windows,
        stats.fsyncs,
        stats.bytes as f64 / 1024.0 / stats.windows as f64,
        stats.fsync_time.as_secs_f64() * 1e6 / stats.fsyncs as f64,
    );
    let buckets = FSYNC_BUCKET_BOUNDS_US.iter().zip(stats.fsync_buckets);
    let shown: Vec<String> = buckets
        .filter(|(_, n)| *n > 0)
        .map(|(us, n)| format!("≤{us}us {n}"))
        .collect();
    println!("  fdatasync {}", shown.join(", "));
}
