//! Files that changed behind the log's back, and disks that fail.

use super::*;
use crate::fs::OpenMode;

/// A log of several files, closed in order or left by a crash after everything was durable.
fn written(closed: bool) -> (SimFs, Entries) {
    block_on(async {
        let fs = new_disk(5);
        let (wal, ..) = open(&fs, Lsn(0));
        let mut stored = Vec::new();
        for number in 0..40 {
            let payload = payload(number, 900);
            stored.push((store(&wal, &payload).await, payload));
        }
        match closed {
            true => wal.close().await.unwrap(),
            false => fs.kill(),
        }
        (fs.reboot(), stored)
    })
}

/// The file that holds a position, and where in it.
fn place(fs: &SimFs, position: u64) -> (PathBuf, u64) {
    let mut bases: Vec<u64> = names(fs)
        .iter()
        .filter_map(|name| name[..20].parse().ok())
        .collect();
    bases.retain(|base| *base <= position);
    let base = bases.into_iter().max().unwrap();
    (
        Path::new(DIR).join(format!("{base:020}.wal")),
        position - base,
    )
}

#[test]
fn a_flipped_bit_in_anything_known_to_be_durable_is_noticed() {
    let (fs, stored) = written(true);
    let end = stored.last().unwrap().0.0;
    for position in (0..end).step_by(13) {
        let copy = fs.reboot();
        let (path, offset) = place(&copy, position);
        copy.flip_bit(&path, offset, (position % 8) as u8).unwrap();
        block_on(async {
            match try_open(&copy, Lsn(0)) {
                Err(WalFault::Damaged {
                    position: found,
                    durable,
                    ..
                }) => {
                    assert!(
                        found.0 <= position && found <= durable,
                        "{found} {position} {durable}"
                    );
                }
                // Bytes that mean nothing: the unused rest of a file, padding, zeros of a header.
                Ok((_, _, entries)) => assert_eq!(entries, stored, "position {position}"),
                Err(other) => panic!("position {position}: {other}"),
            }
        });
    }
}

#[test]
fn damage_is_described_and_can_be_given_up_as_the_message_says() {
    let (fs, stored) = written(false);
    let start = stored[9].0.0;
    let (path, offset) = place(&fs, start);
    fs.zero_range(&path, offset + 500, 8).unwrap();
    let fault = block_on(async { try_open(&fs, Lsn(0)) })
        .err()
        .expect("it is damaged");
    let text = fault.to_string();
    assert!(
        text.contains(&format!("truncate --size={offset} '{}'", path.display())),
        "{text}"
    );
    let WalFault::Damaged {
        cause, position, ..
    } = fault
    else {
        panic!("{fault:?}")
    };
    assert_eq!((cause, position), (BadBytes::PayloadChecksum, Lsn(start)));

    fs.open(&path, crate::fs::OpenMode::ReadWrite)
        .unwrap()
        .set_len(offset)
        .unwrap();
    for name in names(&fs) {
        if Path::new(DIR).join(&name) > path {
            fs.remove_file(&Path::new(DIR).join(&name)).unwrap();
        }
    }
    let (_, _, entries) = block_on(async { open(&fs, Lsn(0)) });
    assert_eq!(entries, stored[..10]);
}

#[test]
fn what_a_recovery_found_is_known_to_be_durable_from_then_on() {
    let (fs, stored) = written(false);
    let last = stored.len() - 1;
    // Nothing was appended behind it, so nothing says that the last entry was durable: it may be torn.
    let (path, offset) = place(&fs, stored[last].0.0 - 100);
    let torn = fs.clone_disk();
    torn.flip_bit(&path, offset, 0).unwrap();
    let (_, recovery, entries) = block_on(async { open(&torn, Lsn(0)) });
    assert!(entries == stored[..last] && recovery.torn);
    // But the next opening says so.
    let (_, _, entries) = block_on(async { open(&fs, Lsn(0)) });
    assert_eq!(entries, stored);
    let fs = fs.reboot();
    fs.flip_bit(&path, offset, 0).unwrap();
    let fault = block_on(async { try_open(&fs, Lsn(0)) }).err();
    assert!(matches!(fault, Some(WalFault::Damaged { .. })), "{fault:?}");
}

#[test]
fn a_missing_file_is_noticed() {
    let (fs, stored) = written(false);
    let live: Vec<String> = names(&fs)
        .into_iter()
        .filter(|name| name.len() == 24)
        .collect();
    assert!(live.len() >= 3);
    for name in &live[..live.len() - 1] {
        let copy = fs.reboot();
        copy.remove_file(&Path::new(DIR).join(name)).unwrap();
        block_on(async {
            let fault = try_open(&copy, Lsn(0))
                .err()
                .unwrap_or_else(|| panic!("without {name}"));
            assert!(matches!(
                fault,
                WalFault::Damaged { .. } | WalFault::Missing { .. }
            ));
        });
    }
    let copy = fs.reboot();
    copy.remove_dir_all(Path::new(DIR)).unwrap();
    block_on(async {
        let fault = try_open(&copy, stored[5].0)
            .err()
            .expect("nothing is there");
        assert!(matches!(fault, WalFault::Missing { first: None, .. }));
    });
}

#[test]
fn a_later_format_is_named() {
    let (fs, _) = written(true);
    let path = Path::new(DIR).join(format!("{:020}.wal", 0));
    let file = fs.open(&path, crate::fs::OpenMode::ReadWrite).unwrap();
    let mut header = [0; 64];
    file.read_at(&mut header, 0).unwrap();
    header[12] = 2;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &header[12..]) as u32;
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&[IoSlice::new(&header)], 0).unwrap();
    let fault = block_on(async { try_open(&fs, Lsn(0)) }).err();
    assert!(
        matches!(fault, Some(WalFault::Version { found: 2, .. })),
        "{fault:?}"
    );
}

#[test]
fn a_torn_tail_is_cut_and_never_comes_back() {
    block_on(async {
        // Two entries in one window: neither says that the other is durable.
        let (fs, first, second) = loop {
            let fs = new_disk(5);
            let (wal, ..) = open(&fs, Lsn(0));
            let first = store(&wal, &payload(1, 300)).await;
            let second = append(&wal, &payload(2, 300));
            let third = append(&wal, &payload(3, 300));
            wal.wait_durable(third).await.unwrap();
            if wal.stats().windows == 2 {
                fs.kill();
                break (fs.reboot(), first, second);
            }
        };
        let (path, offset) = place(&fs, second.0 - 100);
        fs.flip_bit(&path, offset, 0).unwrap();
        let (wal, recovery, entries) = open(&fs, Lsn(0));
        assert_eq!(entries, [(first, payload(1, 300))]);
        assert!(recovery.torn && !recovery.closed_in_order);
        fs.kill();
        drop(wal);
        // Mend the tear: the cut entries are whole again, and must stay away.
        let fs = fs.reboot();
        fs.flip_bit(&path, offset, 0).unwrap();
        let (wal, _, entries) = open(&fs, Lsn(0));
        assert_eq!(entries, [(first, payload(1, 300))]);
        // So they must when new entries end where the cut ones began.
        let other = store(&wal, &payload(4, 300 - 64)).await;
        let (_, _, entries) = open(&fs.reboot(), first);
        assert_eq!(entries, [(other, payload(4, 300 - 64))]);
    });
}

#[test]
fn a_failed_sync_is_never_acknowledged() {
    for nth in 1..12 {
        block_on(async {
            let fs = new_disk(nth);
            let (wal, ..) = open(&fs, Lsn(0));
            let first = store(&wal, b"first").await;
            let told = Arc::new(Mutex::new(first));
            let teller = Arc::clone(&told);
            wal.set_on_durable(Box::new(move |lsn| *teller.lock() = lsn));
            fs.set_faults(SimFaults {
                fail_sync_at: Some(fs.syncs() + nth),
                ..SimFaults::default()
            });
            let mut acked = first;
            let error = loop {
                let lsn = match wal.append(&[IoSlice::new(&payload(1, 2500))]) {
                    Ok(lsn) => lsn,
                    Err(error) => break error,
                };
                match wal.wait_durable(lsn).await {
                    Ok(()) => acked = lsn,
                    Err(error) => break error,
                }
            };
            let WalError::Failed(failure) = error else {
                panic!("{error}")
            };
            assert_eq!(
                (failure.step, failure.source.raw_os_error()),
                (WalStep::Sync, Some(5))
            );
            // Less than an entry more: the rest of a file that has no room for one.
            assert!(wal.durable() >= acked && wal.durable().0 < acked.0 + 2540);
            assert_eq!(*told.lock(), wal.durable());
            for _ in 0..3 {
                assert!(matches!(wal.append(&[]), Err(WalError::Failed(_))));
                assert!(matches!(wal.admit().await, Err(WalError::Failed(_))));
            }
            assert!(matches!(wal.close().await, Err(WalError::Failed(_))));
            wal.wait_durable(acked).await.unwrap();
            assert_eq!(*told.lock(), wal.durable());
            let (_, _, entries) = open(&fs.reboot(), Lsn(0));
            assert!(entries.last().unwrap().0 >= acked);
        });
    }
}

#[test]
fn a_failed_write_is_never_acknowledged() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        let first = store(&wal, b"first").await;
        fs.set_faults(SimFaults {
            fail_write_at: Some(3 + 1),
            ..SimFaults::default()
        });
        let error = loop {
            let lsn = append(&wal, &payload(2, 100));
            if let Err(error) = wal.wait_durable(lsn).await {
                break error;
            }
        };
        assert!(matches!(error, WalError::Failed(failure) if failure.step == WalStep::Write));
        assert!(wal.durable() >= first);
    });
}

#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    block_on(async {
        let fs = new_disk(1);
        let (wal, ..) = open(&fs, Lsn(0));
        wal.set_on_durable(Box::new(|_| panic!("on purpose")));
        let lsn = append(&wal, b"x");
        assert!(matches!(
            wal.wait_durable(lsn).await,
            Err(WalError::Failed(_))
        ));
        assert!(matches!(wal.append(&[]), Err(WalError::Failed(_))));
    });
}

/// Every entry below `from` was durable, whatever is left of the file that held it.
#[test]
fn a_log_that_ends_before_the_callers_place_is_noticed_and_can_be_given_up() {
    let (fs, stored) = written(false);
    let last = stored.last().unwrap().0;
    let (path, offset) = place(&fs, last.0 - 1);
    for len in [offset - 500, 5_000, 100, 1] {
        let cut = fs.reboot();
        let file = cut.open(&path, OpenMode::ReadWrite).unwrap();
        file.set_len(len).unwrap();
        let fault = block_on(async { try_open(&cut, last) }).err();
        let Some(fault @ WalFault::Damaged { offset: 0, .. }) = fault else {
            panic!("{len}: {fault:?}")
        };
        // The advice.
        assert!(fault.to_string().contains("truncate --size=0 "), "{fault}");
        file.set_len(0).unwrap();
        block_on(async {
            let (wal, _, entries) = open(&cut, last);
            assert_eq!(entries, []);
            let next = store(&wal, b"more").await;
            wal.close().await.unwrap();
            let (_, _, entries) = open(&cut.reboot(), last);
            assert_eq!(entries, [(next, b"more".to_vec())]);
        });
    }
    let missing = fs.reboot();
    missing.remove_file(&path).unwrap();
    let fault = block_on(async { try_open(&missing, last) }).err();
    assert!(
        matches!(
            fault,
            Some(WalFault::Damaged { .. } | WalFault::Missing { .. })
        ),
        "{fault:?}"
    );
}

#[test]
fn a_file_whose_header_is_damaged_can_be_given_up() {
    let (fs, stored) = written(true);
    let (path, offset) = place(&fs, stored.last().unwrap().0.0 - 1);
    fs.flip_bit(&path, 3, 1).unwrap();
    let fault = block_on(async { try_open(&fs, Lsn(0)) }).err().unwrap();
    assert!(fault.to_string().contains("truncate --size=0 "), "{fault}");
    let file = fs.open(&path, OpenMode::ReadWrite).unwrap();
    file.set_len(0).unwrap();
    let base = stored.last().unwrap().0.0 - 1 - offset;
    block_on(async {
        let (wal, _, entries) = open(&fs, Lsn(0));
        let kept = stored.iter().filter(|(end, _)| end.0 <= base).count();
        assert_eq!(entries, stored[..kept]);
        assert!(kept > 0);
        store(&wal, b"more").await;
    });
    let (_, _, entries) = block_on(async { open(&fs.reboot(), Lsn(0)) });
    assert_eq!(entries.last().unwrap().1, b"more");
}

#[test]
fn many_short_lives_take_little_space() {
    let fs = new_disk(5);
    for life in 0..40 {
        block_on(async {
            let (wal, ..) = open(&fs, Lsn(0));
            store(&wal, &payload(life, 100)).await;
            wal.close().await.unwrap();
        });
    }
    let (_, _, entries) = block_on(async { open(&fs, Lsn(0)) });
    assert_eq!(entries.len(), 40);
    let files = fs.contents();
    let full = small().file_bytes as usize;
    let full = files
        .iter()
        .filter(|(_, bytes)| bytes.len() >= full)
        .count();
    assert!(full < 8, "{full} of {} files", files.len());
}
