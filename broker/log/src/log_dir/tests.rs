use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tidemill_records::{
    BatchRules, Compression, EndTransactionMarker, LeaderEpoch, ProducerEpoch, ProducerId,
    RecordBatch, RecordBatchBuilder, Sequence, TimestampType,
};
use tidemill_storage::fs::{SimFaults, SimFs};

use super::*;
use crate::testing::*;
use crate::{AppendError, AppendOrigin, OfflineCause, ReadError};

#[tokio::test]
async fn what_was_appended_is_read_from_memory_and_from_files_and_after_a_restart() {
    let bench = Bench::new();
    let log = bench.create("t");
    let mut appended = Vec::new();
    for at in 0..200 {
        let mut batch = batch_at(NOW_MS + at, 1 + at as usize % 3, 30 + at as usize * 7 % 400);
        let info = append(&log, batch.clone());
        batch.assign(info.base_offset, LeaderEpoch(0));
        appended.push(batch);
    }
    assert_eq!(read_all(&log, Offset(0), 1000), appended, "from memory");
    assert_eq!(bench.dir.figures().file_reads, 0);
    bench.drain_and_evict(&log).await;
    assert!(log.figures().segments > 5);
    for max_bytes in [1, 500, 5_000, 1 << 20] {
        assert_eq!(read_all(&log, Offset(0), max_bytes), appended, "from files");
    }
    let (figures, producers) = (log.figures(), log.producers());
    let bench = bench.restart().await;
    assert!(bench.report.clean);
    assert_eq!(bench.report.partitions, 1);
    let log = bench.get("t");
    assert_eq!(log.figures(), figures);
    assert_eq!(log.producers(), producers);
    assert_eq!(
        read_all(&log, Offset(0), 3_000),
        appended,
        "after a restart"
    );
}

#[tokio::test]
async fn a_read_gives_whole_batches_within_its_bounds() {
    let bench = Bench::new();
    let log = bench.create("t");
    for _ in 0..10 {
        append(&log, batch(3, 100));
    }
    for drained in [false, true] {
        if drained {
            bench.drain_and_evict(&log).await;
        }
        let size = batch(3, 100).size_bytes();
        let read = |from, up_to, max, one| {
            let read = log
                .read(Offset(from), Offset(up_to), max, one)
                .expect("readable");
            (read.bytes / size, read.next.0)
        };
        assert_eq!(
            read(4, 30, usize::MAX, true).0,
            9,
            "the batch that holds the offset, and on"
        );
        assert_eq!(
            read(4, 11, usize::MAX, true),
            (2, 9),
            "nothing that ends past the bound"
        );
        assert_eq!(read(0, 30, size * 2 + 1, true), (2, 6));
        assert_eq!(read(0, 30, 1, true), (1, 3), "at least one");
        assert_eq!(read(0, 30, 1, false), (0, 0));
        assert_eq!(read(30, 30, 100, true), (0, 30), "nothing at the end");
        assert_eq!(read(0, 2, 100, true), (0, 0));
    }
    assert!(matches!(
        log.read(Offset(31), Offset(99), 1, true),
        Err(ReadError::OffsetOutOfRange {
            start: Offset(0),
            end: Offset(30),
            ..
        })
    ));
}

#[tokio::test]
async fn a_crash_keeps_what_is_durable_and_replay_fills_the_files() {
    let bench = Bench::new();
    let log = bench.create("t");
    let mut appended = Vec::new();
    for at in 0..100 {
        let mut batch = sequenced(7, at, 1);
        let info = bench.append(&log, batch.clone()).await;
        batch.assign(info.base_offset, LeaderEpoch(0));
        appended.push(batch);
        if at == 60 {
            bench.dir.checkpoint().await.expect("a checkpoint");
        }
    }
    let bench = bench.crash();
    assert!(!bench.report.clean);
    assert_eq!(
        bench.report.replayed_entries, 39,
        "only what the checkpoint lacks"
    );
    let log = bench.get("t");
    assert_eq!(read_all(&log, Offset(0), 1000), appended);
    let again = append(&log, sequenced(7, 99, 1));
    assert!(again.duplicate);
    assert_eq!(again.base_offset, Offset(99));
    assert_eq!(append(&log, sequenced(7, 100, 1)).base_offset, Offset(100));
}

#[tokio::test]
async fn files_are_kafkas_and_the_directory_says_whose_they_are() {
    let bench = Bench::new();
    let log = bench.create("t");
    let mut expected = Vec::new();
    for at in 0..20 {
        let mut batch = batch_at(NOW_MS + at, 1, 50);
        append(&log, batch.clone());
        batch.assign(Offset(at), LeaderEpoch(0));
        expected.extend_from_slice(&batch.to_bytes());
    }
    bench.dir.checkpoint().await.expect("a checkpoint");
    assert_eq!(bench.file("t-0/00000000000000000000.log"), expected);
    let size = expected.len() / 20;
    let index = bench.file("00000000000000000000.index");
    let first = 200 / size + 1;
    assert_eq!(
        index[..8],
        [
            (first as u32).to_be_bytes(),
            ((first * size) as u32).to_be_bytes()
        ]
        .concat()
    );
    let time = bench.file("00000000000000000000.timeindex");
    assert_eq!(time.len() / 12, index.len() / 8);
    assert_eq!(time[..8], (NOW_MS + first as i64).to_be_bytes());
    assert_eq!(bench.file("leader-epoch-checkpoint"), b"0\n1\n0 0\n");
    let metadata = format!("version: 0\ntopic_id: {}\n", log.topic_id());
    assert_eq!(bench.file("partition.metadata"), metadata.as_bytes());
}

#[tokio::test]
async fn durability_is_told_once_it_is_reached() {
    let bench = Bench::new();
    let log = bench.create("t");
    let told = Arc::new(AtomicI64::new(0));
    let (for_log, wake) = (told.clone(), Arc::new(tokio::sync::Notify::new()));
    let waker = wake.clone();
    log.set_on_durable(Arc::new(move |end| {
        for_log.fetch_max(end.0, Ordering::SeqCst);
        waker.notify_one();
    }));
    for round in 1..=50 {
        append(&log, batch(2, 10));
        while told.load(Ordering::SeqCst) < round * 2 {
            wake.notified().await;
        }
        assert_eq!(log.durable_end_offset(), Offset(round * 2));
    }
}

#[tokio::test]
async fn retention_by_size_time_and_start() {
    let bench = Bench::new();
    let log = bench.create("t");
    for at in 0..100 {
        append(&log, batch_at(NOW_MS + at * 1000, 1, 300));
    }
    let segments = log.figures().segments;
    let config = |change: &dyn Fn(&mut LogConfig)| {
        let mut config = log_config();
        change(&mut config);
        Arc::new(config)
    };
    log.set_config(config(&|config| config.retention_bytes = Some(20_000)))
        .expect("set");
    let nothing = log.apply_retention(NOW_MS).expect("applied");
    assert_eq!(nothing.segments, 0, "nothing above the high watermark goes");
    log.set_high_watermark(Offset(100));
    let dropped = log.apply_retention(NOW_MS).expect("applied");
    assert!(dropped.segments > 0);
    assert!(log.size_bytes() >= 20_000 && log.size_bytes() < 24_100);
    assert_eq!(log.figures().segments, segments - dropped.segments);
    let start = log.log_start_offset();
    assert!(start > Offset(0));
    assert!(matches!(
        log.read(Offset(0), Offset(100), 1, true),
        Err(ReadError::OffsetOutOfRange { .. })
    ));
    log.delete_records_before(start + 20).expect("deleted");
    assert_eq!(log.log_start_offset(), start + 20);
    assert!(log.delete_records_before(Offset(101)).is_err());
    log.set_config(config(&|config| config.retention_ms = Some(5_000)))
        .expect("set");
    log.apply_retention(NOW_MS + 95_000).expect("applied");
    let kept = log.log_start_offset();
    assert!(kept > Offset(80) && kept <= Offset(90), "{kept}");
    log.apply_retention(NOW_MS + 200_000).expect("applied");
    assert_eq!(
        log.log_start_offset(),
        Offset(100),
        "the active segment is rolled and goes"
    );
    assert_eq!((log.figures().segments, log.size_bytes()), (1, 0));
    bench.dir.checkpoint().await.expect("a checkpoint");
    let logs = bench
        .fs
        .contents()
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "log"));
    assert_eq!(logs.count(), 0, "files follow");
    assert_eq!(append(&log, batch(1, 1)).base_offset, Offset(100));
    let bench = bench.restart().await;
    assert_eq!(bench.get("t").log_start_offset(), Offset(100));
    assert_eq!(bench.get("t").log_end_offset(), Offset(101));
}

#[tokio::test]
async fn a_reader_of_a_segment_that_goes_keeps_its_file() {
    let bench = Bench::new();
    let log = bench.create("t");
    for _ in 0..40 {
        append(&log, batch(1, 300));
    }
    bench.drain_and_evict(&log).await;
    let file = log
        .open_file(Offset(0), FileKind::Log, OpenMode::ReadWrite)
        .expect("open");
    log.set_high_watermark(Offset(40));
    log.delete_records_before(Offset(39)).expect("deleted");
    bench.dir.checkpoint().await.expect("a checkpoint");
    let mut bytes = [0; 61];
    assert_eq!(file.read_at(&mut bytes, 0).expect("still there"), 61);
    assert!(log.read(Offset(0), Offset(40), 1, true).is_err());
    assert_eq!(read_all(&log, Offset(39), 100).len(), 1);
}

#[tokio::test]
async fn a_deleted_partition_leaves_no_files_and_can_be_made_again() {
    let bench = Bench::new();
    let old = bench.create("t");
    append(&old, batch(1, 100));
    bench.dir.checkpoint().await.expect("a checkpoint");
    bench.dir.delete(&tp("t", 0)).expect("deleted");
    assert!(bench.dir.delete(&tp("t", 0)).is_err());
    assert!(matches!(
        old.append_as_leader(
            vec![batch(1, 1)],
            LeaderEpoch(0),
            AppendOrigin::Client,
            NOW_MS
        ),
        Err(AppendError::Deleted)
    ));
    let id = topic_id(99);
    let new = bench
        .dir
        .create(tp("t", 0), id, Arc::new(log_config()))
        .expect("made");
    assert!(matches!(
        bench.dir.create(tp("t", 0), id, Arc::new(log_config())),
        Err(LogError::Exists(_))
    ));
    append(&new, batch(3, 100));
    bench.dir.checkpoint().await.expect("a checkpoint");
    let fs = bench.fs.clone();
    eventually("the old files are gone", || {
        !fs.contents()
            .iter()
            .any(|(path, _)| path.to_string_lossy().contains("-delete"))
    })
    .await;
    let metadata = String::from_utf8(bench.file("partition.metadata")).expect("text");
    assert!(metadata.contains(&id.to_string()));
    let bench = bench.crash();
    assert_eq!(bench.get("t").topic_id(), id);
    assert_eq!(bench.get("t").log_end_offset(), Offset(3));
}

#[tokio::test]
async fn timestamps_are_bounded_and_stamped() {
    let bench = Bench::new();
    let log = bench.create("t");
    let append_at = |timestamp| {
        log.append_as_leader(
            vec![batch_at(timestamp, 1, 10)],
            LeaderEpoch(0),
            AppendOrigin::Client,
            NOW_MS,
        )
    };
    assert!(matches!(
        append_at(NOW_MS + 3_600_001),
        Err(AppendError::InvalidTimestamp { .. })
    ));
    assert_eq!(
        append_at(NOW_MS + 3_600_000)
            .expect("in time")
            .log_append_time_ms,
        -1
    );
    append_at(5).expect("the past is not bounded");
    let bounded = LogConfig {
        timestamp_before_max_ms: 1_000,
        ..log_config()
    };
    log.set_config(Arc::new(bounded)).expect("set");
    assert!(append_at(NOW_MS - 1_001).is_err());
    append_at(NOW_MS - 1_000).expect("in time");
    append_at(-1).expect("no timestamp");
    let stamped = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..log_config()
    };
    log.set_config(Arc::new(stamped)).expect("set");
    let info = append_at(NOW_MS + 99_999_999).expect("stamped");
    assert_eq!(info.log_append_time_ms, NOW_MS);
    let read = read_all(&log, info.base_offset, 1000);
    assert_eq!(read[0].max_timestamp(), NOW_MS);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let bench = Bench::new();
    let config = LogConfig {
        max_message_bytes: 1000,
        ..log_config()
    };
    let log = bench.create_with("t", config);
    let append =
        |batches| log.append_as_leader(batches, LeaderEpoch(0), AppendOrigin::Client, NOW_MS);
    assert!(matches!(
        append(vec![batch(1, 1000)]),
        Err(AppendError::MessageTooLarge { .. })
    ));
    let many = (0..5).map(|_| batch(1, 900)).collect();
    assert!(matches!(
        append(many),
        Err(AppendError::RecordListTooLarge { .. })
    ));
    assert!(matches!(
        append(Vec::new()),
        Err(AppendError::InvalidRecord)
    ));
    let two = append(vec![batch(2, 10), batch(3, 10)]).expect("two at once");
    assert_eq!((two.base_offset, two.next_offset), (Offset(0), Offset(5)));
    assert_eq!(log.log_end_offset(), Offset(5));
}

#[tokio::test]
async fn an_older_leader_cannot_append() {
    let bench = Bench::new();
    let log = bench.create("t");
    let append = |epoch| {
        let batches = vec![batch(2, 1)];
        log.append_as_leader(batches, LeaderEpoch(epoch), AppendOrigin::Client, NOW_MS)
    };
    append(3).expect("appended");
    append(5).expect("appended");
    assert!(matches!(
        append(4),
        Err(AppendError::FencedLeaderEpoch {
            found: 4,
            current: 5
        })
    ));
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(4)),
        (LeaderEpoch(3), Offset(2))
    );
    assert_eq!(log.latest_epoch(), LeaderEpoch(5));
    assert_eq!(log.epoch_at(Offset(1)), Some(LeaderEpoch(3)));
    let bench = bench.restart().await;
    let log = bench.get("t");
    assert_eq!(
        log.end_offset_for_epoch(LeaderEpoch(3)),
        (LeaderEpoch(3), Offset(2))
    );
}

#[tokio::test]
async fn transactions_hold_back_the_stable_offset_across_a_crash() {
    let bench = Bench::new();
    let log = bench.create("t");
    let id = ProducerId(4);
    let begin = |sequence| {
        let builder = RecordBatchBuilder::new(Compression::None)
            .producer(id, ProducerEpoch(0), Sequence(sequence))
            .transactional();
        fill(builder, NOW_MS, 2, 10)
    };
    append(&log, batch(1, 1));
    bench.append(&log, begin(0)).await;
    assert_eq!(log.last_stable_offset(Offset(3)), Offset(1));
    let marker = EndTransactionMarker {
        coordinator_epoch: 0,
    };
    assert!(matches!(
        log.append_as_leader(
            vec![marker.abort(id, ProducerEpoch(0), NOW_MS)],
            LeaderEpoch(0),
            AppendOrigin::Client,
            NOW_MS
        ),
        Err(AppendError::InvalidRecord)
    ));
    let bench = bench.crash();
    let log = bench.get("t");
    assert_eq!(
        log.last_stable_offset(Offset(3)),
        Offset(1),
        "replay knows of it"
    );
    let abort = marker.abort(id, ProducerEpoch(0), NOW_MS);
    log.append_as_leader(
        vec![abort],
        LeaderEpoch(0),
        AppendOrigin::Coordinator,
        NOW_MS,
    )
    .expect("the marker");
    assert_eq!(
        log.last_stable_offset(Offset(3)),
        Offset(1),
        "the marker is not replicated"
    );
    log.set_high_watermark(Offset(4));
    assert_eq!(log.last_stable_offset(Offset(4)), Offset(4));
    let bench = bench.restart().await;
    let log = bench.get("t");
    let aborted = log.aborted_transactions(Offset(0), Offset(4));
    assert_eq!(aborted.len(), 1);
    assert_eq!(
        (aborted[0].producer_id, aborted[0].first_offset),
        (id, Offset(1))
    );
    append(&log, begin(2));
    assert_eq!(log.last_stable_offset(Offset(6)), Offset(4));
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let bench = Bench::new();
    let log = bench.create("t");
    for at in 0..60 {
        let codec = [Compression::None, Compression::Zstd, Compression::Lz4][at as usize % 3];
        // Every second batch goes back in time.
        let timestamp = NOW_MS + at * 100 - (at % 2) * 500;
        append(
            &log,
            fill(RecordBatchBuilder::new(codec), timestamp, 4, 150),
        );
    }
    let records: Vec<_> = read_all(&log, Offset(0), 1 << 20)
        .iter()
        .flat_map(|batch| {
            let limit = tidemill_records::DecodeLimit(1 << 20);
            let records = batch.records(limit).expect("records");
            records
                .map(|record| record.expect("a record"))
                .collect::<Vec<_>>()
        })
        .collect();
    for drained in [false, true] {
        if drained {
            bench.drain_and_evict(&log).await;
            assert!(log.figures().segments > 3);
        }
        for probe in (-600..6_600).step_by(37) {
            let target = NOW_MS + probe;
            let expected = records.iter().find(|record| record.timestamp >= target);
            let found = log
                .offset_for_timestamp(target, Offset(i64::MAX))
                .expect("searched");
            assert_eq!(
                found.map(|found| (found.offset, found.timestamp)),
                expected.map(|record| (record.offset, record.timestamp)),
                "{probe}"
            );
        }
        let largest = records
            .iter()
            .rev()
            .max_by_key(|record| record.timestamp)
            .expect("records");
        let found = log
            .max_timestamp(Offset(i64::MAX))
            .expect("searched")
            .expect("found");
        assert_eq!(
            (found.offset, found.timestamp),
            (largest.offset, largest.timestamp)
        );
        let below = log
            .offset_for_timestamp(largest.timestamp, Offset(100))
            .expect("searched");
        assert_eq!(below, None, "not past the bound");
    }
}

#[tokio::test]
async fn a_batch_too_large_to_be_opened_is_found_by_time_as_a_whole() {
    let bench = Bench::new();
    let log = bench.create("t");
    append(&log, batch_at(NOW_MS - 1_000, 2, 100));
    // Two records of zeros, of a few KiB compressed.
    let bomb = fill(
        RecordBatchBuilder::new(Compression::Zstd),
        NOW_MS,
        2,
        12 << 20,
    );
    assert!(bomb.size_bytes() < 64 << 10);
    append(&log, bomb);
    let later = log
        .offset_for_timestamp(NOW_MS - 500, Offset(i64::MAX))
        .expect("searched")
        .expect("found");
    assert_eq!((later.offset, later.timestamp >= NOW_MS), (Offset(2), true));
    let largest = log
        .max_timestamp(Offset(i64::MAX))
        .expect("searched")
        .expect("found");
    assert!((Offset(2)..Offset(4)).contains(&largest.offset));
}

/// The base offset is outside of the checksum: a flipped one must neither send readers elsewhere nor make them wait.
#[tokio::test]
async fn a_batch_under_a_wrong_offset_is_not_read() {
    // A small step would be a gap, as compaction leaves them.
    for byte in 0..7 {
        let bench = Bench::new();
        let log = bench.create("t");
        for _ in 0..4 {
            append(&log, batch(2, 100));
        }
        bench.drain_and_evict(&log).await;
        let path = Path::new("/data/topics/t-0/00000000000000000000.log");
        let size = batch(2, 100).size_bytes() as u64;
        bench.fs.flip_bit(path, size + byte, 0).expect("flipped");
        // The batch before it is still read, from it on nothing.
        let before = log.read(Offset(0), Offset(8), 1, true).expect("read");
        assert_eq!(before.next, Offset(2));
        let refused = log.read(Offset(2), Offset(8), 1 << 20, true);
        assert!(
            matches!(refused, Err(ReadError::Corrupt { position, .. }) if position == size),
            "{byte}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_torn_index_is_rebuilt() {
    let bench = Bench::new();
    let log = bench.create("t");
    for at in 0..100 {
        append(&log, batch_at(NOW_MS + at, 1, 100));
    }
    let bench = bench.restart().await;
    let dir = bench.get("t").dir();
    let index = files_of(&bench, "index");
    let good = bench.fs.contents();
    for (damage, name) in index.iter().enumerate() {
        let path = dir.join(name);
        match damage % 2 {
            0 => bench.fs.zero_range(&path, 0, 64).expect("damaged"),
            _ => {
                let file = bench.fs.open(&path, OpenMode::ReadWrite).expect("open");
                file.set_len(4).expect("cut");
            }
        }
    }
    let log = bench.get("t");
    for from in (0..100).rev() {
        let read = log
            .read(Offset(from), Offset(100), 1, true)
            .expect("readable");
        assert_eq!(read.next, Offset(from + 1));
    }
    bench.dir.checkpoint().await.expect("a checkpoint");
    let sealed = |contents: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        let sealed = &index[..index.len() - 1];
        let files = contents.into_iter();
        files
            .filter(|(path, _)| sealed.iter().any(|name| path.ends_with(name)))
            .collect()
    };
    assert_eq!(sealed(bench.fs.contents()), sealed(good));
}

fn files_of(bench: &Bench, extension: &str) -> Vec<String> {
    let files = bench.fs.contents().into_iter();
    let files = files.filter(|(path, _)| path.extension().is_some_and(|found| found == extension));
    let name = |(path, _): (std::path::PathBuf, _)| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    files.map(name).collect()
}

#[tokio::test]
async fn a_segment_that_lost_synced_bytes_takes_its_partition_offline_and_no_other() {
    let bench = Bench::new();
    let (bad, good) = (bench.create("bad"), bench.create("good"));
    bench.append(&bad, batch(1, 100)).await;
    bench.append(&good, batch(1, 100)).await;
    bench.dir.checkpoint().await.expect("a checkpoint");
    bench.append(&bad, batch(1, 100)).await;
    bench.append(&good, batch(1, 100)).await;
    let path = bad.segment_path(Offset(0), FileKind::Log);
    let bench = {
        bench.fs.crash();
        let fs = bench.fs.reboot();
        let file = fs.open(&path, OpenMode::ReadWrite).expect("open");
        file.set_len(10).expect("cut");
        file.sync_data().expect("synced");
        Bench::with(fs, bench.config.clone())
    };
    let synced = batch(1, 100).size_bytes() as u64;
    let cause = OfflineCause::SegmentShort {
        base: Offset(0),
        bytes: 10,
        synced,
    };
    assert_eq!(bench.report.quarantined.len(), 1);
    assert_eq!(bench.report.quarantined[0].cause, cause);
    assert!(matches!(
        bench.get("bad").read(Offset(0), Offset(2), 1, true),
        Err(ReadError::Offline(_))
    ));
    assert_eq!(read_all(&bench.get("good"), Offset(0), 1000).len(), 2);
    bench.append(&bench.get("good"), batch(1, 1)).await;
    let bench = bench.restart().await;
    assert_eq!(
        bench.get("bad").offline().map(|offline| offline.cause),
        Some(cause),
        "for good"
    );
    assert_eq!(bench.get("good").log_end_offset(), Offset(3));
}

#[tokio::test]
async fn a_full_disk_holds_appends_back_and_loses_nothing() {
    let mut config = dir_config();
    config.undrained_bytes_max = 40_000;
    config.drain_run_bytes = 1_000;
    config.drain_delay = Duration::from_millis(1);
    let bench = Bench::with(SimFs::new(1), config);
    let log = bench.create_with(
        "t",
        LogConfig {
            segment_bytes: 1 << 20,
            ..log_config()
        },
    );
    bench.append(&log, batch(1, 1000)).await;
    bench.dir.checkpoint().await.expect("a checkpoint");
    // The write-ahead log's file has its space, and segment files get hardly more than they have.
    let full = SimFaults {
        capacity_bytes: Some(used_bytes(&bench.fs) + 8192),
        ..SimFaults::default()
    };
    bench.fs.set_faults(full);
    let mut appended = 1;
    // The drain may still find room after the first wait, but not for ever.
    loop {
        let admitted = tokio::time::timeout(Duration::from_millis(50), bench.dir.admit()).await;
        let figures = bench.dir.figures();
        match admitted {
            Ok(_) => {
                append(&log, batch(1, 1000));
                appended += 1;
            }
            Err(_) if figures.drain_errors > 0 && figures.undrained_bytes >= 40_000 => break,
            Err(_) => {}
        }
    }
    assert_eq!(
        read_all(&log, Offset(0), 1 << 20).len(),
        appended,
        "reads go on"
    );
    bench.fs.set_faults(SimFaults::default());
    // The write-ahead log may have found the disk full as well.
    eventually("there is room again", || {
        bench.dir.figures().undrained_bytes < 40_000
    })
    .await;
    while bench.dir.admit().await.is_err() {
        tokio::task::yield_now().await;
    }
    bench.append(&log, batch(1, 1000)).await;
    bench.dir.checkpoint().await.expect("a checkpoint");
    let bench = bench.crash();
    assert_eq!(
        read_all(&bench.get("t"), Offset(0), 1 << 20).len(),
        appended + 1
    );
}

/// Whatever is written to a damaged file afterwards, a restart knows of the damage.
#[tokio::test]
async fn damage_found_while_running_is_known_after_a_crash_and_until_the_file_is_put_back() {
    for missing in [false, true] {
        let bench = Bench::new();
        let log = bench.create("t");
        for _ in 0..3 {
            append(&log, batch(2, 100));
        }
        let mut bench = bench.restart().await;
        let path = Path::new("/data/topics/t-0/00000000000000000000.log");
        let whole = bench.file("00000000000000000000.log");
        match missing {
            true => {
                bench.fs.remove_file(path).expect("removed");
                let dir = path.parent().expect("a directory");
                bench.fs.sync_dir(dir).expect("for good");
            }
            false => {
                let file = bench.fs.open(path, OpenMode::ReadWrite).expect("opens");
                file.set_len(whole.len() as u64 - 20).expect("cut");
                file.sync_data().expect("for good");
            }
        }
        let log = bench.get("t");
        assert_eq!(log.offline(), None, "nobody has looked yet");
        let later = bench.append(&log, batch(2, 100)).await;
        // Drained all the same: it was acknowledged.
        assert!(bench.dir.shared.drain.flush().await);
        assert!(log.offline().is_some());
        assert!(bench.file("00000000000000000000.log").len() > whole.len());
        for checkpoint in [false, true] {
            if checkpoint {
                bench.dir.checkpoint().await.expect("a checkpoint");
            }
            bench = bench.crash();
            assert_eq!(bench.report.quarantined.len(), 1, "{missing} {checkpoint}");
            let refused = bench.get("t").read(Offset(0), Offset(1), 1000, true);
            assert!(matches!(refused, Err(ReadError::Offline(_))));
        }
        let file = bench.fs.open(path, OpenMode::ReadWrite).expect("opens");
        file.write_all_at(&[std::io::IoSlice::new(&whole)], 0)
            .expect("put back");
        let bench = bench.restart().await;
        assert!(bench.report.quarantined.is_empty());
        let batches = read_all(&bench.get("t"), Offset(0), 1 << 20);
        assert_eq!(batches.len(), 4);
        assert_eq!(batches[3].base_offset(), later.base_offset);
    }
}

#[tokio::test]
async fn a_log_that_is_put_aside_keeps_its_files_and_frees_its_name() {
    let bench = Bench::new();
    let log = bench.create("t");
    bench.append(&log, batch(2, 100)).await;
    let crashed = bench.crash();
    crashed.dir.put_aside(&tp("t", 0)).expect("put aside");
    let config = Arc::new(log_config());
    let again = crashed.dir.create(tp("t", 0), topic_id(99), config);
    crashed
        .append(&again.expect("the name is free"), batch(1, 10))
        .await;
    let aside = |fs: &SimFs| -> Vec<usize> {
        let files = fs.contents().into_iter();
        let logs = files.filter(|(path, _)| {
            path.to_string_lossy().contains("-stray/")
                && path.extension().is_some_and(|e| e == "log")
        });
        logs.map(|(_, bytes)| bytes.len()).collect()
    };
    // Before the rename is durable, and after.
    let crashed = crashed.crash();
    let size = batch(2, 100).size_bytes();
    assert_eq!(aside(&crashed.fs), [size]);
    assert_eq!(read_all(&crashed.get("t"), Offset(0), 1000).len(), 1);
    crashed.dir.checkpoint().await.expect("a checkpoint");
    let crashed = crashed.crash();
    assert_eq!(aside(&crashed.fs), [size]);
    assert_eq!(crashed.report.partitions, 1);
    assert_eq!(crashed.report.strays.len(), 1);
}

/// What recovery has written is not synced yet, and the next checkpoint recycles the entries that it came from.
#[tokio::test]
async fn a_log_that_is_put_aside_survives_the_next_checkpoint() {
    let bench = Bench::new();
    let log = bench.create("t");
    bench.append(&log, batch(2, 100)).await;
    let crashed = bench.crash();
    crashed.dir.put_aside(&tp("t", 0)).expect("put aside");
    crashed.dir.checkpoint().await.expect("a checkpoint");
    let crashed = crashed.crash();
    let files = crashed.fs.contents();
    let kept = files.iter().find(|(path, _)| {
        path.to_string_lossy().contains("-stray/") && path.extension().is_some_and(|e| e == "log")
    });
    let (_, bytes) = kept.expect("the file");
    let (whole, _) = RecordBatch::parse(&bytes.clone().into(), BatchRules::Stored).expect("whole");
    assert_eq!(whole.record_count(), 2);
}

#[tokio::test]
async fn a_segment_that_cannot_be_synced_stops_the_directory() {
    let bench = Bench::new();
    let log = bench.create("t");
    bench.append(&log, batch(1, 100)).await;
    let faults = SimFaults {
        fail_sync_at: Some(bench.fs.syncs() + 1),
        ..SimFaults::default()
    };
    bench.fs.set_faults(faults);
    assert!(matches!(
        bench.dir.checkpoint().await,
        Err(CheckpointError::Sync(_))
    ));
    assert!(matches!(
        log.append_as_leader(
            vec![batch(1, 1)],
            LeaderEpoch(0),
            AppendOrigin::Client,
            NOW_MS
        ),
        Err(AppendError::DirFailed)
    ));
    assert!(matches!(
        bench.dir.checkpoint().await,
        Err(CheckpointError::DirFailed)
    ));
    assert!(bench.dir.figures().failed);
    let bench = bench.crash();
    assert_eq!(
        bench.get("t").log_end_offset(),
        Offset(1),
        "the write-ahead log has it"
    );
}

#[tokio::test]
async fn truncation_cuts_memory_files_and_what_producers_did() {
    for drained in [0, 25, 60] {
        let bench = Bench::new();
        let log = bench.create("t");
        for at in 0..60 {
            append(&log, sequenced(1, at * 2, 2));
            if at + 1 == drained {
                bench.drain_and_evict(&log).await;
            }
        }
        assert!(log.figures().segments > 1);
        log.truncate_to(Offset(41)).expect("cut");
        assert_eq!(
            log.log_end_offset(),
            Offset(40),
            "back to the end of a batch"
        );
        assert_eq!(append(&log, sequenced(1, 40, 2)).base_offset, Offset(40));
        assert!(append(&log, sequenced(1, 38, 2)).duplicate);
        append(&log, sequenced(1, 42, 2));
        bench.drain_and_evict(&log).await;
        assert_eq!(read_all(&log, Offset(0), 700).len(), 22);
        let contents = |bench: &Bench| -> Vec<_> {
            let files = bench.fs.contents().into_iter();
            files
                .filter(|(path, _)| path.starts_with("/data/topics"))
                .collect()
        };
        let cut = contents(&bench);
        let bench = bench.crash();
        let log = bench.get("t");
        assert_eq!(read_all(&log, Offset(0), 700).len(), 22);
        assert_eq!(contents(&bench), cut);
        log.truncate_fully_and_start_at(Offset(100))
            .expect("restarted");
        assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (Offset(100), Offset(100))
        );
        assert_eq!(
            bench.append(&log, batch(1, 10)).await.base_offset,
            Offset(100)
        );
        eventually("durable", || log.durable_end_offset() == Offset(101)).await;
        let bench = bench.crash();
        assert_eq!(bench.get("t").log_start_offset(), Offset(100));
        assert_eq!(read_all(&bench.get("t"), Offset(100), 700).len(), 1);
    }
}

#[tokio::test]
async fn a_log_without_write_ahead_log_is_recovered_by_a_scan() {
    let mut config = dir_config();
    config.recovered_config.flush_messages = 1000;
    let bench = Bench::with(SimFs::new(5), config);
    let unlogged = LogConfig {
        flush_messages: 1000,
        ..log_config()
    };
    let log = bench.create_with("t", unlogged);
    for at in 0..50 {
        append(&log, sequenced(3, at, 1));
    }
    eventually("written", || log.durable_end_offset() == Offset(50)).await;
    bench.dir.checkpoint().await.expect("a checkpoint");
    let entries = bench.dir.figures().wal.entries;
    for at in 50..90 {
        append(&log, sequenced(3, at, 1));
    }
    assert_eq!(
        bench.dir.figures().wal.entries,
        entries,
        "nothing goes through it"
    );
    eventually("written", || log.durable_end_offset() == Offset(90)).await;
    // The process dies and the machine lives: what was written is there.
    bench.fs.kill();
    let config = bench.config.clone();
    let bench = Bench::with(bench.fs.reboot(), config);
    let log = bench.get("t");
    assert_eq!(log.log_end_offset(), Offset(90));
    assert!(append(&log, sequenced(3, 89, 1)).duplicate);
    for at in 90..140 {
        append(&log, sequenced(3, at, 1));
    }
    eventually("written", || log.durable_end_offset() == Offset(140)).await;
    let bench = bench.crash();
    let log = bench.get("t");
    let end = log.log_end_offset();
    assert!(end >= Offset(50), "what the checkpoint synced is there");
    let offsets: Vec<_> = read_all(&log, Offset(0), 900)
        .iter()
        .map(|b| b.base_offset().0)
        .collect();
    assert_eq!(
        offsets,
        (0..end.0).collect::<Vec<_>>(),
        "a torn end is cut off"
    );
}

#[tokio::test]
async fn flush_messages_syncs_where_the_write_ahead_log_is_skipped() {
    let bench = Bench::new();
    let log = bench.create_with(
        "t",
        LogConfig {
            flush_messages: 10,
            ..log_config()
        },
    );
    for _ in 0..9 {
        append(&log, batch(1, 10));
    }
    assert!(bench.dir.shared.drain.flush().await);
    assert_eq!(bench.dir.figures().file_syncs, 0);
    append(&log, batch(1, 10));
    assert!(bench.dir.shared.drain.flush().await);
    assert!(bench.dir.figures().file_syncs > 0);
}

#[tokio::test]
async fn the_cache_stays_within_its_bound_and_memory_is_settled() {
    let mut config = dir_config();
    config.tail_cache_bytes = 100_000;
    config.undrained_bytes_max = 50_000;
    config.drain_run_bytes = 2_000;
    let bench = Bench::with(SimFs::new(1), config);
    let logs = ["a", "b", "c"].map(|topic| {
        bench.create_with(
            topic,
            LogConfig {
                segment_bytes: 50_000,
                ..log_config()
            },
        )
    });
    for at in 0..3_000 {
        bench.dir.admit().await.expect("room");
        append(&logs[at % 3], batch(1, 200));
        let figures = bench.dir.figures();
        assert!(figures.cached_bytes < 160_000, "{}", figures.cached_bytes);
    }
    bench.dir.checkpoint().await.expect("a checkpoint");
    let figures = bench.dir.figures();
    assert_eq!(figures.undrained_bytes, 0);
    assert!(figures.cached_bytes <= 100_000);
    let cached: u64 = logs.iter().map(|log| log.figures().cached_bytes).sum();
    assert_eq!(cached, figures.cached_bytes as u64);
    for log in &logs {
        assert_eq!(read_all(log, Offset(0), 10_000).len(), 1_000);
    }
}
