//! One suite for every file system.

use std::path::PathBuf;

use super::*;

/// Runs a check on each file system, in an empty directory.
fn on_each(check: impl Fn(&dyn Fs, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&RealFs, dir.path());
    let sim = SimFs::new(1);
    sim.create_dir_all(Path::new("/base")).unwrap();
    check(&sim, Path::new("/base"));
}

fn read_all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    read_exact_at(file, &mut bytes, 0).unwrap();
    bytes
}

#[test]
fn writes_all_buffers_and_reads_them_back() {
    on_each(|fs, dir| {
        let file = fs.open(&dir.join("f"), OpenMode::CreateNew).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let mut buffers: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        buffers.insert(5, IoSlice::new(b""));
        file.write_all_at(&buffers, 3).unwrap();
        file.write_all_at(&[], 100_000).unwrap();
        file.sync_data().unwrap();
        assert_eq!(
            read_all(file.as_ref()),
            [vec![0; 3], parts.concat()].concat()
        );
        let mut past = [7; 10];
        assert_eq!(file.read_at(&mut past, 12_000).unwrap(), 3);
        assert_eq!(file.read_at(&mut past, 12_003).unwrap(), 0);
        let error = read_exact_at(file.as_ref(), &mut past, 12_000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn lengths_and_reservations() {
    on_each(|fs, dir| {
        let file = fs.open(&dir.join("f"), OpenMode::Create).unwrap();
        file.allocate(0, 10_000).unwrap();
        assert_eq!(file.len().unwrap(), 0);
        file.write_all_at(&[IoSlice::new(b"abcdef")], 0).unwrap();
        file.set_len(3).unwrap();
        file.set_len(6).unwrap();
        assert_eq!(read_all(file.as_ref()), b"abc\0\0\0");
    });
}

#[test]
fn writes_past_the_page_cache_in_whole_blocks() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let sim = SimFs::new(1);
    for (fs, path) in [
        (&RealFs as &dyn Fs, dir.path().join("f")),
        (&sim, PathBuf::from("/f")),
    ] {
        fs.open(&path, OpenMode::Create)
            .unwrap()
            .set_len(3 * BLOCK_BYTES as u64)
            .unwrap();
        let file = fs.open(&path, OpenMode::Direct).unwrap();
        let memory: Vec<u8> = (0..3 * BLOCK_BYTES).map(|at| (at % 251) as u8).collect();
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        let block = &memory[start..start + BLOCK_BYTES];
        file.write_all_at(&[IoSlice::new(block)], BLOCK_BYTES as u64)
            .unwrap();
        file.sync_data().unwrap();
        let expected = [&[0; BLOCK_BYTES], block, &[0; BLOCK_BYTES]].concat();
        assert_eq!(
            read_all(fs.open(&path, OpenMode::Read).unwrap().as_ref()),
            expected
        );
    }
    let file = sim.open(Path::new("/f"), OpenMode::Direct).unwrap();
    let error = file
        .write_all_at(&[IoSlice::new(&[1; 100])], 0)
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn open_modes() {
    on_each(|fs, dir| {
        let path = dir.join("f");
        let kind = |mode| fs.open(&path, mode).err().map(|error| error.kind());
        assert_eq!(kind(OpenMode::Read), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::ReadWrite), Some(io::ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::CreateNew), None);
        assert_eq!(
            kind(OpenMode::CreateNew),
            Some(io::ErrorKind::AlreadyExists)
        );
        assert_eq!(kind(OpenMode::Create), None);
        let reader = fs.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_all_at(&[IoSlice::new(b"x")], 0).is_err());
    });
}

#[test]
fn directories() {
    on_each(|fs, dir| {
        let deep = dir.join("a/b");
        fs.create_dir_all(&deep).unwrap();
        fs.create_dir_all(&deep).unwrap();
        fs.open(&deep.join("2"), OpenMode::Create).unwrap();
        fs.open(&deep.join("1"), OpenMode::Create).unwrap();
        fs.open(&dir.join("f"), OpenMode::Create).unwrap();
        fs.rename(&deep.join("1"), &deep.join("0")).unwrap();
        fs.sync_dir(&deep).unwrap();
        let names = |path: &Path| -> Vec<(OsString, bool)> {
            let entries = fs.read_dir(path).unwrap();
            entries
                .into_iter()
                .map(|entry| (entry.name, entry.is_dir))
                .collect()
        };
        assert_eq!(names(&deep), [("0".into(), false), ("2".into(), false)]);
        assert_eq!(names(dir), [("a".into(), true), ("f".into(), false)]);
        fs.remove_file(&deep.join("2")).unwrap();
        assert!(fs.remove_file(&deep.join("2")).is_err());
        assert!(fs.rename(&deep.join("2"), &deep.join("3")).is_err());
        fs.remove_dir_all(&dir.join("a")).unwrap();
        assert_eq!(names(dir), [("f".into(), false)]);
        assert_eq!(
            fs.read_dir(&deep).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_each(|fs, dir| {
        let path = dir.join("f");
        let file = fs.open(&path, OpenMode::Create).unwrap();
        file.write_all_at(&[IoSlice::new(b"kept")], 0).unwrap();
        fs.remove_file(&path).unwrap();
        fs.sync_dir(dir).unwrap();
        assert_eq!(read_all(file.as_ref()), b"kept");
        fs.open(&path, OpenMode::CreateNew).unwrap();
    });
}

#[test]
fn a_second_lock_names_the_first() {
    on_each(|fs, dir| {
        let path: PathBuf = dir.join("LOCK");
        let first = fs.lock(&path).unwrap();
        let error = fs.lock(&path).err().expect("it is held");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let (held, pid) = LockHeld::from_io(&error).expect("a typed error");
        assert_eq!(held, &path);
        assert!(pid.is_none_or(|pid| pid == std::process::id()));
        assert!(
            error
                .to_string()
                .starts_with(&format!("{} is locked", path.display()))
        );
        drop(first);
        fs.lock(&path).unwrap();
    });
}
