//! `tidemill check`: verifies the segment files of a broker that is stopped, and with `--flush` first drains what
//! is only in the write-ahead log, so that Kafka's tools can read the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use tidemill_log::{LogDir, LogDirConfig};
use tidemill_records::{BatchError, BatchRules, Offset, RecordBatch};
use tidemill_storage::clock::SystemClock;
use tidemill_storage::fs::{File, Fs, OpenMode, RealFs};

use super::exit::Failure;

/// Read at a time; a larger batch is read whole.
const READ_BYTES: usize = 4 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "./tidemill-data")]
    data_dir: PathBuf,
    /// Recover first, and write everything to the segment files.
    #[arg(long)]
    flush: bool,
}

/// What was found in all segment files.
#[derive(Debug, Default)]
struct Found {
    partitions: usize,
    segments: usize,
    batches: u64,
    records: u64,
    bytes: u64,
    /// Bytes behind the last whole batch of a partition that the write-ahead log completes.
    unfinished_bytes: u64,
    faults: Vec<String>,
}

/// Why a segment's batches end.
enum End {
    File,
    Bad { position: u64, cause: String },
}

pub(super) async fn run(args: CheckArgs) -> Result<(), Failure> {
    let dir = &args.data_dir;
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    if !dir.join("topics").is_dir() && !dir.join("wal").is_dir() {
        let what = format!("{} is no data directory of tidemill", dir.display());
        return Err(Failure::new(what).next("name one with --data-dir DIR"));
    }
    let _lock = fs.lock(&dir.join("LOCK")).map_err(|error| {
        Failure::new(format!("{} is in use", dir.display()))
            .because(&error)
            .next("stop the broker, then check again")
    })?;
    if args.flush {
        flush(&fs, dir).await?;
    }
    let found = scan(&*fs, dir, args.flush)
        .map_err(|error| Failure::new(format!("cannot read {}", dir.display())).because(&error))?;
    report(&found, args.flush)
}

/// Recovers as a start of the broker would, and closes in order.
async fn flush(fs: &Arc<dyn Fs>, dir: &Path) -> Result<(), Failure> {
    let failed = |what: &str| Failure::new(format!("{what} {}", dir.display()));
    let config = LogDirConfig::new(dir);
    let (logs, recovery) = LogDir::open(fs.clone(), config, Arc::new(SystemClock::new()))
        .map_err(|error| failed("cannot recover").because(&error))?;
    logs.close()
        .await
        .map_err(|error| failed("cannot flush").because(&error))?;
    let line = format!(
        "recovered {} of {} partitions from {} bytes of write-ahead log",
        recovery.replayed_partitions, recovery.partitions, recovery.replayed_bytes
    );
    say(&line);
    match recovery.quarantined.first() {
        None => Ok(()),
        Some(offline) => Err(failed("damaged files in").because(offline)),
    }
}

fn scan(fs: &dyn Fs, dir: &Path, is_flushed: bool) -> std::io::Result<Found> {
    let mut found = Found::default();
    let topics = dir.join("topics");
    for entry in fs.read_dir(&topics)? {
        if !entry.is_dir || entry.name.to_string_lossy().ends_with("-delete") {
            continue;
        }
        found.partitions += 1;
        scan_partition(fs, &topics.join(&entry.name), is_flushed, &mut found)?;
    }
    Ok(found)
}

fn scan_partition(
    fs: &dyn Fs,
    dir: &Path,
    is_flushed: bool,
    found: &mut Found,
) -> std::io::Result<()> {
    let names = fs
        .read_dir(dir)?
        .into_iter()
        .map(|entry| entry.name.to_string_lossy().into_owned());
    let mut segments: Vec<String> = names.filter(|name| name.ends_with(".log")).collect();
    segments.sort();
    let mut next = Offset::ZERO;
    for (at, name) in segments.iter().enumerate() {
        let path = dir.join(name);
        let base = name.trim_end_matches(".log").parse().map(Offset);
        let base = base.unwrap_or(Offset::NONE);
        if base < next {
            let fault = format!("{}: begins below offset {next}", path.display());
            found.faults.push(fault);
        }
        next = next.max(base);
        found.segments += 1;
        let file = fs.open(&path, OpenMode::Read)?;
        let is_last = at + 1 == segments.len();
        if let End::Bad { position, cause } = scan_segment(&*file, &mut next, found)? {
            // Drained without a sync: until it is, the write-ahead log has the truth.
            if is_last && !is_flushed {
                found.unfinished_bytes += file.len()? - position;
            } else {
                let fault = format!("{} at byte {position}: {cause}", path.display());
                found.faults.push(fault);
            }
        }
    }
    Ok(())
}

/// Every batch: checksum, header, and offsets that go up.
fn scan_segment(file: &dyn File, next: &mut Offset, found: &mut Found) -> std::io::Result<End> {
    let mut position = 0;
    let mut wanted = READ_BYTES;
    loop {
        let size = std::mem::replace(&mut wanted, READ_BYTES);
        let mut buffer = BytesMut::zeroed(size);
        let count = file.read_at(&mut buffer, position)?;
        buffer.truncate(count);
        let is_rest = count < size;
        let mut bytes = buffer.freeze();
        while !bytes.is_empty() {
            let bad = |cause: String| Ok(End::Bad { position, cause });
            match RecordBatch::parse(&bytes, BatchRules::Stored) {
                Ok((batch, size)) => {
                    if batch.base_offset() < *next {
                        return bad(format!("offset {} again", batch.base_offset()));
                    }
                    *next = batch.next_offset();
                    found.batches += 1;
                    found.records += batch.record_count() as u64;
                    found.bytes += size as u64;
                    position += size as u64;
                    bytes = bytes.slice(size..);
                }
                Err(BatchError::Truncated { needed, .. }) if !is_rest => {
                    wanted = needed.max(READ_BYTES);
                    break;
                }
                Err(error) => return bad(error.to_string()),
            }
        }
        if is_rest {
            return Ok(End::File);
        }
    }
}

/// A closed stderr is no reason to stop checking.
fn say(line: &str) {
    let _ = super::output::note(line);
}

fn report(found: &Found, is_flushed: bool) -> Result<(), Failure> {
    say(&format!(
        "{} partitions, {} segments, {} batches, {} records, {} bytes verified",
        found.partitions, found.segments, found.batches, found.records, found.bytes
    ));
    if found.unfinished_bytes > 0 && !is_flushed {
        say(&format!(
            "{} bytes at the ends are not whole yet; the next start, or --flush, takes them from the write-ahead log",
            found.unfinished_bytes
        ));
    }
    let Some(first) = found.faults.first() else {
        return Ok(());
    };
    let mut failure =
        Failure::new(format!("{} faults in segment files", found.faults.len())).cause(first);
    for fault in found.faults.iter().skip(1).take(20) {
        failure = failure.cause(fault);
    }
    Err(failure
        .next("keep a copy of the files; the broker serves the other partitions without them"))
}
