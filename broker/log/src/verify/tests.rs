use tidemill_storage::fs::SimFs;

use super::*;
use crate::testing::*;

/// A closed directory with one partition of several segments.
async fn closed() -> SimFs {
    let bench = Bench::new();
    let log = bench.create("t");
    for at in 0..60 {
        append(&log, batch_at(NOW_MS + at, 2, 50 + at as usize * 7 % 300));
    }
    bench.dir.close().await.expect("closes");
    bench.fs.reboot()
}

fn verify(fs: &SimFs) -> Verified {
    verify_log_dir(fs, &dir_config()).expect("readable")
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
    let fs = closed().await;
    let verified = verify(&fs);
    assert!(verified.faults.is_empty(), "{:?}", verified.faults);
    assert_eq!((verified.batches, verified.records), (60, 120));
    assert!(verified.segments > 3);
    assert!(verified.index_entries > 40, "{}", verified.index_entries);
    assert_eq!(verified.unfinished_bytes, 0);
}

#[tokio::test]
async fn a_flipped_bit_is_found_in_every_file_wherever_it_lies() {
    let fs = closed().await;
    let mut found = 0;
    for extension in ["log", "index", "timeindex"] {
        let path = largest(&fs, extension);
        let len = fs.open(&path, OpenMode::Read).expect("opens");
        let len = len.len().expect("a length");
        for position in (0..len).step_by(5) {
            let damaged = fs.clone_disk();
            damaged.flip_bit(&path, position, 3).expect("flips");
            let verified = verify(&damaged);
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
    let fs = closed().await;
    let path = largest(&fs, "index");
    let torn = fs.clone_disk();
    let file = torn.open(&path, OpenMode::ReadWrite).expect("opens");
    file.set_len(file.len().expect("a length") - 3)
        .expect("cut");
    let faults = verify(&torn).faults;
    assert!(matches!(faults[0].cause, FaultCause::Torn), "{faults:?}");
    let missing = fs.clone_disk();
    missing.remove_file(&path).expect("removed");
    let faults = verify(&missing).faults;
    assert!(matches!(faults[0].cause, FaultCause::Missing), "{faults:?}");
}

#[tokio::test]
async fn what_was_synced_must_be_there_to_its_last_byte() {
    let fs = closed().await;
    let mut logs: Vec<_> = fs.contents().into_iter().map(|(path, _)| path).collect();
    logs.retain(|path| path.extension().is_some_and(|found| found == "log"));
    let last = logs.iter().max().expect("a segment");
    let changed = |change: &dyn Fn(&dyn tidemill_storage::fs::File, u64)| {
        let disk = fs.clone_disk();
        let file = disk.open(last, OpenMode::ReadWrite).expect("opens");
        change(&*file, file.len().expect("a length"));
        let mut faults = verify(&disk).faults;
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0).cause
    };
    let cut = changed(&|file, len| file.set_len(len - 10).expect("cut"));
    assert!(matches!(cut, FaultCause::Batch(_)), "{cut:?}");
    let emptied = changed(&|file, _| file.set_len(0).expect("cut"));
    assert!(
        matches!(
            emptied,
            FaultCause::Short {
                bytes: 0,
                synced: 1..
            }
        ),
        "{emptied:?}"
    );
    let grown = changed(&|file, len| file.set_len(len + 10).expect("grown"));
    assert!(matches!(grown, FaultCause::Beyond { .. }), "{grown:?}");
    let missing = fs.clone_disk();
    missing.remove_file(last).expect("removed");
    let faults = verify(&missing).faults;
    assert!(
        matches!(faults[0].cause, FaultCause::SegmentMissing { .. }),
        "{faults:?}"
    );
}

#[tokio::test]
async fn what_only_the_write_ahead_log_has_may_be_unfinished() {
    let mut config = dir_config();
    config.drain_delay = std::time::Duration::from_secs(3_600);
    let bench = Bench::with(SimFs::new(1), config);
    let log = bench.create("t");
    append(&log, batch(2, 100));
    bench.drain_and_evict(&log).await;
    let file = bench
        .fs
        .contents()
        .into_iter()
        .map(|(path, _)| path)
        .find(|path| path.extension().is_some_and(|found| found == "log"))
        .expect("a segment");
    let file = bench.fs.open(&file, OpenMode::ReadWrite).expect("opens");
    file.set_len(file.len().expect("a length") + 10)
        .expect("grown");
    assert_eq!(verify(&bench.fs).faults.len(), 1);
    bench.append(&log, batch(2, 100)).await;
    let verified = verify(&bench.fs);
    assert!(verified.faults.is_empty(), "{:?}", verified.faults);
    assert!(verified.unfinished_bytes > 0);
    assert_eq!(verified.partitions, 1);
}
