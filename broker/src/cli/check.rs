//! `tidemill check`: verifies the segment files and indexes of a broker that is stopped, and with `--flush` first drains what
//! is only in the write-ahead log, so that Kafka's tools can read the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_log::{LogDir, LogDirConfig, Verified, verify_log_dir};
use tidemill_storage::clock::SystemClock;
use tidemill_storage::fs::{Fs, RealFs};

use super::exit::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = "./tidemill-data")]
    data_dir: PathBuf,
    /// Recover first, and write everything to the segment files.
    #[arg(long)]
    flush: bool,
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
    let verified = verify_log_dir(&*fs, &LogDirConfig::new(dir))
        .map_err(|error| Failure::new(format!("cannot read {}", dir.display())).because(&error))?;
    report(&verified)
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

/// A closed stderr is no reason to stop checking.
fn say(line: &str) {
    let _ = super::output::note(line);
}

fn report(verified: &Verified) -> Result<(), Failure> {
    say(&format!(
        "{} partitions, {} segments, {} batches, {} records, {} index entries, {} bytes verified",
        verified.partitions,
        verified.segments,
        verified.batches,
        verified.records,
        verified.index_entries,
        verified.bytes
    ));
    if verified.unfinished_bytes > 0 {
        say(&format!(
            "{} bytes were written after the last checkpoint and are not whole yet; the next start, or --flush, takes them from the write-ahead log",
            verified.unfinished_bytes
        ));
    }
    let Some(first) = verified.faults.first() else {
        return Ok(());
    };
    let count = verified.faults.len();
    let mut failure =
        Failure::new(format!("{count} faults in segment files")).cause(first.to_string());
    for fault in verified.faults.iter().skip(1).take(20) {
        failure = failure.cause(fault.to_string());
    }
    Err(failure
        .next("keep a copy of the files; the broker serves the other partitions without them"))
}
