//! What callers see when nothing goes wrong, and the errors that are theirs.

use std::sync::atomic::AtomicU64;

use super::*;

#[test]
fn replays_what_was_stored_from_any_entry_on() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, recovery, entries) = open(&fs, Lsn(0));
        assert_eq!(
            (recovery.entries, entries.len(), wal.durable()),
            (0, 0, Lsn(0))
        );
        let mut stored = Vec::new();
        for number in 0..60 {
            let payload = payload(number, number * 37 % 3000);
            let (first, second) = payload.split_at(payload.len() / 3);
            let lsn = wal
                .append(&[IoSlice::new(first), IoSlice::new(second)])
                .unwrap();
            wal.wait_durable(lsn).await.unwrap();
            assert!(wal.durable() >= lsn);
            stored.push((lsn, payload));
        }
        assert!(stored.is_sorted_by(|a, b| a.0 < b.0));
        assert!(names(&fs).len() > 4, "several files: {:?}", names(&fs));
        wal.close().await.unwrap();
        for from in [0usize, 1, 30, 59, 60] {
            let copy = fs.reboot();
            let after = from.checked_sub(1).map_or(Lsn(0), |last| stored[last].0);
            let (wal, recovery, entries) = open(&copy, after);
            assert_eq!(entries, stored[from..]);
            assert!(recovery.closed_in_order && !recovery.torn);
            assert_eq!(wal.durable(), recovery.end);
        }
    });
}

#[test]
fn takes_entries_up_to_its_bound_and_none_larger() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let max = usize::try_from(wal.payload_bytes_max()).unwrap();
        let too_large = wal.append(&[IoSlice::new(&vec![1; max + 1])]);
        assert!(
            matches!(too_large, Err(WalError::TooLarge { bytes, .. }) if bytes == max as u64 + 1)
        );
        let stored = [
            payload(1, max),
            payload(2, max),
            payload(3, 1),
            payload(4, max - 100),
        ];
        for payload in &stored {
            store(&wal, payload).await;
        }
        drop(wal);
        let (_, _, entries) = open(&fs.reboot(), Lsn(0));
        let replayed: Vec<Vec<u8>> = entries.into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(replayed, stored);
    });
}

#[test]
fn tells_the_listener_before_those_who_wait() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let told = Arc::new(AtomicU64::new(0));
        let teller = Arc::clone(&told);
        wal.set_on_durable(Box::new(move |lsn| {
            let before = teller.swap(lsn.0, Ordering::SeqCst);
            assert!(before < lsn.0, "it only goes forward");
        }));
        for number in 0..50 {
            let lsn = store(&wal, &payload(number, 500)).await;
            assert!(told.load(Ordering::SeqCst) >= lsn.0);
        }
    });
}

#[test]
fn files_that_are_not_needed_are_used_again_and_never_read_again() {
    block_on(async {
        let fs = new_disk(1);
        fs.record_trace();
        let (wal, ..) = open(&fs, Lsn(0));
        let mut stored = Vec::new();
        for number in 0..200 {
            let payload = payload(number, 2000);
            let lsn = store(&wal, &payload).await;
            stored.push((lsn, payload));
            if number >= 10 {
                wal.recycle_below(stored[number - 10].0);
            }
        }
        let live_bytes = wal.stats().live_bytes;
        assert!(live_bytes < 10 * 2048 + 3 * (16 << 10), "{live_bytes}");
        wal.close().await.unwrap();
        // 10 entries of 2,000 bytes touch 3 files; one is being filled, one is ready.
        assert!(
            names(&fs).len() <= 5 + small().spare_files_max,
            "{:?}",
            names(&fs)
        );
        let made = fs
            .trace()
            .iter()
            .filter(|line| line.contains("new-"))
            .count();
        assert!(
            made < 20,
            "200 entries fill 27 files, of which most are old ones: {made}"
        );
        let (_, _, entries) = open(&fs.reboot(), stored[192].0);
        assert_eq!(entries, stored[193..]);
        let too_early = try_open(&fs.reboot(), stored[3].0);
        assert!(matches!(
            too_early,
            Err(WalFault::Missing { first: Some(_), .. })
        ));
    });
}

#[test]
fn preallocation_moves_the_log_to_files_that_were_written_before() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let mut stored = vec![(store(&wal, b"before").await, b"before".to_vec())];
        wal.preallocate_in_background();
        // The move shows in the position: the rest of the first file is left out.
        while names(&fs).len() < 2 {
            let lsn = store(&wal, b"meanwhile").await;
            stored.push((lsn, b"meanwhile".to_vec()));
            tokio::task::yield_now().await;
        }
        for number in 0..30 {
            let payload = payload(number, 1500);
            stored.push((store(&wal, &payload).await, payload));
        }
        wal.close().await.unwrap();
        let (_, _, entries) = open(&fs.reboot(), Lsn(0));
        assert_eq!(entries, stored);
    });
}

#[test]
fn starting_again_and_again_does_not_fill_the_disk() {
    block_on(async {
        let mut fs = new_disk(1);
        let mut stored = Vec::new();
        for life in 0..20 {
            let (wal, _, entries) = open(&fs, Lsn(0));
            assert_eq!(entries, stored);
            let payload = payload(life, 100);
            stored.push((store(&wal, &payload).await, payload));
            fs = fs.reboot();
        }
        let bytes: usize = fs.contents().iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes < 20 * (16 << 10) / 2, "{bytes}");
    });
}

#[test]
fn after_closing_everything_is_refused() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let lsn = append(&wal, b"last");
        wal.close().await.unwrap();
        wal.wait_durable(lsn).await.unwrap();
        assert!(matches!(wal.append(&[]), Err(WalError::Closed)));
        assert!(matches!(wal.admit().await, Err(WalError::Closed)));
        assert!(matches!(
            wal.wait_durable(Lsn(lsn.0 + 1)).await,
            Err(WalError::Closed)
        ));
        wal.close().await.unwrap();
    });
}

#[test]
fn a_dropped_log_writes_what_it_has() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let lsn = append(&wal, b"last");
        let shared = Arc::clone(&wal.shared);
        drop(wal);
        shared.wait_durable(lsn).await.unwrap();
    });
}

#[test]
fn visit_may_refuse() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        store(&wal, b"unwelcome").await;
        wal.close().await.unwrap();
        let refused = Wal::open(Arc::new(fs.reboot()), small(), Lsn(0), &mut |lsn, _| {
            Err(lsn)
        });
        assert!(matches!(refused, Err(WalOpenError::Visit(Lsn(4152)))));
    });
}

#[test]
fn a_full_disk_is_an_error_that_ends_by_itself() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let first = store(&wal, b"first").await;
        fs.set_faults(SimFaults {
            capacity_bytes: Some(20 << 10),
            ..SimFaults::default()
        });
        let mut last = first;
        // What the file has room for is taken, what it has not is refused; then all is.
        let refused = loop {
            if let Err(error) = wal.admit().await {
                break error;
            }
            match wal.append(&[IoSlice::new(&[7; 1000])]) {
                Ok(lsn) => last = lsn,
                Err(error) => break error,
            }
            tokio::task::yield_now().await;
        };
        assert!(matches!(refused, WalError::DiskFull));
        assert!(last.0 > 10_000);
        assert!(matches!(wal.admit().await, Err(WalError::DiskFull)));
        fs.set_faults(SimFaults::default());
        while wal.admit().await.is_err() {
            tokio::task::yield_now().await;
        }
        wal.wait_durable(last).await.unwrap();
        let lsn = store(&wal, b"goes on").await;
        wal.close().await.unwrap();
        let (_, _, entries) = open(&fs.reboot(), first);
        assert_eq!(entries.last().unwrap(), &(lsn, b"goes on".to_vec()));
    });
}

#[test]
fn closing_on_a_full_disk_says_that_not_all_is_durable() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        store(&wal, b"first").await;
        fs.set_faults(SimFaults {
            capacity_bytes: Some(20 << 10),
            ..SimFaults::default()
        });
        // More than the file has room for, in buffers before anybody knows that the disk is full.
        let appended = (0..6).map_while(|_| wal.append(&[IoSlice::new(&[7; 3000])]).ok());
        let last = appended.last().unwrap();
        let closed = wal.close().await;
        match wal.durable() >= last {
            true => closed.unwrap(),
            false => {
                assert!(matches!(closed, Err(WalError::DiskFull)));
                assert!(matches!(
                    wal.wait_durable(last).await,
                    Err(WalError::Closed)
                ));
            }
        }
        assert!(cfg!(not(feature = "sim")) || wal.durable() < last);
    });
}

#[test]
fn opens_on_a_full_disk_and_waits_for_space() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let lsn = store(&wal, b"first").await;
        drop(wal);
        let fs = fs.reboot();
        fs.set_faults(SimFaults {
            capacity_bytes: Some(20 << 10),
            ..SimFaults::default()
        });
        let (wal, _, entries) = open(&fs, Lsn(0));
        assert_eq!(entries, [(lsn, b"first".to_vec())]);
        assert!(matches!(wal.append(&[]), Err(WalError::DiskFull)));
        fs.set_faults(SimFaults::default());
        while wal.admit().await.is_err() {
            tokio::task::yield_now().await;
        }
        store(&wal, b"second").await;
        wal.close().await.unwrap();
    });
}

#[test]
fn a_log_of_another_file_size_is_read() {
    block_on(async {
        let fs = new_disk(1);
        let mut stored = Vec::new();
        for file_bytes in [16 << 10, 64 << 10, 8 << 10] {
            let config = WalConfig {
                file_bytes,
                ..small()
            };
            let mut entries = Vec::new();
            let visit = &mut |lsn, payload: &[u8]| {
                entries.push((lsn, payload.to_vec()));
                Ok::<(), Infallible>(())
            };
            let (wal, _) = Wal::open(Arc::new(fs.clone()), config, Lsn(0), visit).unwrap();
            assert_eq!(entries, stored);
            for number in 0..30 {
                let payload = payload(number, 1200);
                stored.push((store(&wal, &payload).await, payload));
            }
            wal.close().await.unwrap();
        }
    });
}
