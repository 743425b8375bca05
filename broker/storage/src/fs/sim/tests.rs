use super::*;
use crate::fs::read_exact_at;

const FILE: &str = "/d/f";

fn disk(seed: u64) -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new(seed);
    fs.create_dir_all(Path::new("/d")).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let file = fs.open(Path::new(FILE), OpenMode::Create).unwrap();
    (fs, file)
}

fn write(file: &Arc<dyn File>, bytes: &[u8], offset: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], offset).unwrap();
}

fn bytes(fs: &SimFs) -> Option<Vec<u8>> {
    let found = fs
        .contents()
        .into_iter()
        .find(|(path, _)| path == Path::new(FILE))?;
    Some(found.1)
}

#[test]
fn reads_back_what_was_written_across_pages() {
    let (fs, file) = disk(1);
    let pattern: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
    write(&file, &pattern, 100);
    let mut read = vec![9; pattern.len() + 200];
    assert_eq!(file.read_at(&mut read, 0).unwrap(), pattern.len() + 100);
    assert!(read[..100].iter().all(|byte| *byte == 0));
    assert_eq!(&read[100..pattern.len() + 100], &pattern[..]);
    file.set_len(150).unwrap();
    file.set_len(5000).unwrap();
    let mut tail = [1; 4850];
    read_exact_at(file.as_ref(), &mut tail, 150).unwrap();
    assert_eq!(tail, [0; 4850]);
    assert_eq!(bytes(&fs).unwrap().len(), 5000);
}

#[test]
fn a_synced_file_with_a_synced_name_survives_and_nothing_else_is_certain() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..400 {
        let (fs, file) = disk(seed);
        write(&file, &[1; 8192], 0);
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        write(&file, &[2; 8192], 0);
        write(&file, &[3; 100], 8192);
        fs.crash();
        let error = file.sync_data().unwrap_err();
        assert!(is_simulated_crash(&error));
        let survived = bytes(&fs.reboot()).expect("the name was synced");
        assert!(survived.len() == 8192 || survived.len() == 8292);
        assert!(survived[..8192].iter().all(|byte| *byte == 1 || *byte == 2));
        let sectors: Vec<u8> = survived.chunks(512).map(|sector| sector[0]).collect();
        for (sector, first) in survived.chunks(512).zip(&sectors) {
            assert!(
                sector.iter().all(|byte| byte == first),
                "sectors are atomic"
            );
        }
        outcomes.insert(sectors);
    }
    assert!(
        outcomes.contains(&vec![1; 16]),
        "sometimes nothing survives"
    );
    assert!(
        outcomes.contains(&[vec![2; 16], vec![3]].concat()),
        "sometimes everything does"
    );
    let first_lost = |sectors: &&Vec<u8>| sectors[..8] == [1; 8] && sectors[8..16] == [2; 8];
    assert!(
        outcomes.iter().any(|sectors| first_lost(&sectors)),
        "sometimes out of order"
    );
    assert!(
        outcomes.iter().any(|sectors| sectors[0] != sectors[3]),
        "sometimes torn"
    );
}

#[test]
fn syncing_a_file_does_not_make_its_name_durable() {
    let outcomes: BTreeSet<bool> = (0..50)
        .map(|seed| {
            let (fs, file) = disk(seed);
            write(&file, b"x", 0);
            file.sync_data().unwrap();
            bytes(&fs.reboot()).is_some()
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([false, true]));
}

#[test]
fn an_unsynced_rename_shows_the_old_file_or_the_new_one() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (fs, file) = disk(seed);
        write(&file, b"old", 0);
        file.sync_data().unwrap();
        fs.sync_dir(Path::new("/d")).unwrap();
        let new = fs.open(Path::new("/d/new"), OpenMode::CreateNew).unwrap();
        write(&new, b"new", 0);
        new.sync_data().unwrap();
        fs.rename(Path::new("/d/new"), Path::new(FILE)).unwrap();
        outcomes.insert(bytes(&fs.reboot()).expect("one of the two is there"));
        fs.reboot().sync_dir(Path::new("/d")).unwrap();
    }
    assert_eq!(outcomes, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn a_synced_rename_and_removal_stay() {
    for seed in 0..50 {
        let (fs, file) = disk(seed);
        write(&file, b"x", 0);
        file.sync_data().unwrap();
        fs.rename(Path::new(FILE), Path::new("/d/g")).unwrap();
        let gone = fs.open(Path::new("/d/gone"), OpenMode::Create).unwrap();
        fs.remove_file(Path::new("/d/gone")).unwrap();
        write(&gone, b"still open", 0);
        fs.sync_dir(Path::new("/d")).unwrap();
        let left = fs.reboot().contents();
        assert_eq!(left, [(PathBuf::from("/d/g"), b"x".to_vec())]);
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_the_next_one() {
    let outcomes: BTreeSet<Vec<u8>> = (0..50)
        .map(|seed| {
            let (fs, file) = disk(seed);
            write(&file, b"a", 0);
            file.sync_data().unwrap();
            fs.sync_dir(Path::new("/d")).unwrap();
            write(&file, b"b", 0);
            let syncs = fs.syncs();
            fs.set_faults(SimFaults {
                fail_sync_at: Some(syncs + 1),
                ..SimFaults::default()
            });
            assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
            file.sync_data().unwrap();
            assert_eq!(bytes(&fs).unwrap(), b"b", "the page cache still shows it");
            bytes(&fs.reboot()).unwrap()
        })
        .collect();
    assert_eq!(outcomes, BTreeSet::from([b"a".to_vec(), b"b".to_vec()]));
}

#[test]
fn a_killed_process_loses_nothing_and_makes_nothing_durable() {
    let outcomes: BTreeSet<Option<Vec<u8>>> = (0..50)
        .map(|seed| {
            let (fs, file) = disk(seed);
            write(&file, b"x", 0);
            fs.kill();
            assert!(file.len().is_err());
            let next = fs.reboot();
            assert_eq!(bytes(&next), Some(b"x".to_vec()));
            bytes(&next.reboot())
        })
        .collect();
    assert!(outcomes.contains(&None) && outcomes.contains(&Some(b"x".to_vec())));
}

#[test]
fn crashes_at_the_operation_that_was_named() {
    let (fs, file) = disk(7);
    let ops = fs.ops();
    fs.set_faults(SimFaults {
        crash_at_op: Some(ops + 2),
        ..SimFaults::default()
    });
    write(&file, b"x", 0);
    assert!(!fs.is_crashed());
    assert!(is_simulated_crash(&file.sync_data().unwrap_err()));
    assert!(fs.is_crashed());
    assert!(is_simulated_crash(
        &fs.read_dir(Path::new("/")).unwrap_err()
    ));
}

#[test]
fn space_is_bounded_and_comes_back() {
    let (fs, file) = disk(3);
    let faults = SimFaults {
        capacity_bytes: Some(3 * PAGE_BYTES),
        ..SimFaults::default()
    };
    fs.set_faults(faults);
    file.allocate(0, 2 * PAGE_BYTES).unwrap();
    assert_eq!(file.len().unwrap(), 0, "only space, no length");
    write(&file, &[1; 8192], 0);
    let other = fs.open(Path::new("/d/g"), OpenMode::Create).unwrap();
    write(&other, b"x", 0);
    let error = other
        .write_all_at(&[IoSlice::new(b"y")], PAGE_BYTES)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    fs.remove_file(Path::new(FILE)).unwrap();
    write(&other, b"y", PAGE_BYTES);
}

#[test]
fn one_seed_gives_one_disk() {
    let run = |seed| {
        let (fs, file) = disk(seed);
        for round in 0..50u8 {
            write(&file, &[round; 3000], u64::from(round) * 1700);
            if round % 10 == 9 {
                file.sync_data().unwrap();
                fs.sync_dir(Path::new("/d")).unwrap();
            }
        }
        let hash = fs.trace_hash();
        write(&file, b"unsynced", 0);
        (hash, fs.trace_hash(), fs.reboot().contents())
    };
    assert_eq!(run(5), run(5));
    let (before, after, _) = run(5);
    assert_ne!(before, after);
}

#[test]
fn a_lock_is_exclusive_until_dropped() {
    let (fs, _) = disk(1);
    let path = Path::new("/d/LOCK");
    let held = fs.lock(path).unwrap();
    let error = fs.lock(path).err().unwrap();
    assert_eq!(LockHeld::from_io(&error).unwrap().0, path);
    drop(held);
    fs.lock(path).unwrap();
}

#[test]
fn damage_reaches_the_platter() {
    let (fs, file) = disk(1);
    write(&file, &[0b1010; 10], 0);
    file.sync_data().unwrap();
    fs.sync_dir(Path::new("/d")).unwrap();
    fs.flip_bit(Path::new(FILE), 3, 0).unwrap();
    fs.zero_range(Path::new(FILE), 8, 2).unwrap();
    assert_eq!(
        bytes(&fs.reboot()).unwrap(),
        [10, 10, 10, 11, 10, 10, 10, 10, 0, 0]
    );
}

#[test]
fn two_disks_differ_in_the_files_that_read_differently() {
    let (fs, file) = disk(1);
    file.set_len(1 << 20).unwrap();
    write(&file, &[0; 100], 8192);
    write(&file, &[7; 100], 0);
    let other = fs.clone_disk();
    assert_eq!(fs.differing_files(&other), Vec::<PathBuf>::new());
    let opened = other.open(Path::new(FILE), OpenMode::ReadWrite).unwrap();
    // A page of zeros that was written reads like one that was not.
    write(&opened, &[0; 10], 12_288);
    assert_eq!(fs.differing_files(&other), Vec::<PathBuf>::new());
    write(&opened, &[7; 10], 12_288);
    assert_eq!(fs.differing_files(&other), [PathBuf::from(FILE)]);
    fs.open(Path::new("/d/g"), OpenMode::Create).unwrap();
    let both = [PathBuf::from(FILE), PathBuf::from("/d/g")];
    assert_eq!(fs.differing_files(&other), both);
    assert_eq!(other.differing_files(&fs), both);
    let wanted = fs.contents_of(|path| path.ends_with("g"));
    assert_eq!(wanted, [(PathBuf::from("/d/g"), Vec::new())]);
}
