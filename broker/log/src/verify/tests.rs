use std::path::Path;

use tidemill_storage::fs::SimFs;

use super::*;
use crate::testing::*;

/// A closed directory with one partition of several segments.
async fn closed() -> (SimFs, PathBuf) {
    let bench = Bench::new();
    let log = bench.create("t");
    for at in 0..60 {
        append(&log, batch_at(NOW_MS + at, 2, 50 + at as usize * 7 % 300));
    }
    bench.dir.close().await.expect("closes");
    (bench.fs.reboot(), PathBuf::from("/data/topics/t-0"))
}

fn verify(fs: &SimFs, dir: &Path) -> Verified {
    verify_partition(fs, dir, true).expect("readable")
}

fn largest(fs: &SimFs, extension: &str) -> PathBuf {
    let files = fs.contents();
    let of_kind = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|found| found == extension));
    let found = of_kind.max_by_key(|(_, bytes)| bytes.len());
    found.expect("a file").0.clone()
}

#[tokio::test]
async fn whole_files_have_no_faults() {
    let (fs, dir) = closed().await;
    let verified = verify(&fs, &dir);
    assert!(verified.faults.is_empty(), "{:?}", verified.faults);
    assert_eq!((verified.batches, verified.records), (60, 120));
    assert!(verified.segments > 3);
    assert!(verified.index_entries > 40, "{}", verified.index_entries);
    assert_eq!(verified.unfinished_bytes, 0);
}

#[tokio::test]
async fn a_flipped_bit_is_found_in_every_file_wherever_it_lies() {
    let (fs, dir) = closed().await;
    let mut found = 0;
    for extension in ["log", "index", "timeindex"] {
        let path = largest(&fs, extension);
        let len = fs.open(&path, OpenMode::Read).expect("opens");
        let len = len.len().expect("a length");
        for position in (0..len).step_by(5) {
            let damaged = fs.clone_disk();
            damaged.flip_bit(&path, position, 3).expect("flips");
            let verified = verify(&damaged, &dir);
            // A batch's checksum does not cover its base offset and leader epoch; the former an index may tell.
            let covered = extension != "log" || verified.faults.iter().any(|f| f.path == path);
            if !covered {
                continue;
            }
            let fault = verified.faults.iter().find(|fault| fault.path == path);
            let fault = fault.unwrap_or_else(|| panic!("{} {position}", path.display()));
            assert!(extension == "log" || fault.position <= position, "{fault}");
            found += usize::from(extension == "log");
        }
    }
    assert!(found > 500, "nearly every bit of the log counts: {found}");
}

#[tokio::test]
async fn a_missing_or_torn_index_is_told() {
    let (fs, dir) = closed().await;
    let path = largest(&fs, "index");
    let torn = fs.clone_disk();
    let file = torn.open(&path, OpenMode::ReadWrite).expect("opens");
    file.set_len(file.len().expect("a length") - 3)
        .expect("cut");
    let faults = verify(&torn, &dir).faults;
    assert!(matches!(faults[0].cause, FaultCause::Torn), "{faults:?}");
    let missing = fs.clone_disk();
    missing.remove_file(&path).expect("removed");
    let faults = verify(&missing, &dir).faults;
    assert!(matches!(faults[0].cause, FaultCause::Missing), "{faults:?}");
}

#[tokio::test]
async fn the_end_may_be_unfinished_until_it_is_flushed() {
    let (fs, dir) = closed().await;
    let mut logs: Vec<_> = fs.contents().into_iter().map(|(path, _)| path).collect();
    logs.retain(|path| path.extension().is_some_and(|found| found == "log"));
    let last = logs.iter().max().expect("a segment");
    let file = fs.open(last, OpenMode::ReadWrite).expect("opens");
    file.set_len(file.len().expect("a length") - 10)
        .expect("cut");
    let unfinished = verify_partition(&fs, &dir, false).expect("readable");
    assert!(unfinished.faults.is_empty() && unfinished.unfinished_bytes > 0);
    assert_eq!(verify(&fs, &dir).faults.len(), 1);
}
