//! Reading a log back: every entry up to the end, and where the end is.
//!
//! The end is the first place without a good entry. Unsynced writes may survive a power loss in any
//! order, so good entries may follow it. They never come back: the next file begins at the end, and
//! says so in its header before anything is written to it.
//!
//! But when anything says that the place was durable once (an entry that was appended later, or the
//! header of a later file), it is not the end but damage, and the log is not opened.
//!
//! What is read may be in the page cache only, and even count as clean there after a failed sync. So
//! the tail that nothing calls durable is written again and synced before the log goes on behind it.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{File, Fs, OpenMode};

use super::entry::{
    ALIGNMENT, BadBytes, ENTRY_HEADER_BYTES, EntryHeader, FILE_HEADER_BYTES, FIRST_ENTRY,
    FileHeader, Kind,
};
use super::files::{Files, LiveFile, Name, ReadyFile};
use super::{Lsn, WalConfig, WalFault, WalOpenError, WalRecovery};

/// How much is read at once.
const READ_BYTES: usize = 1 << 20;

/// From so many files on, those that are not full are cut to what they hold, so that a broker that starts again and again does
/// not fill the disk.
const UNCUT_FILES_MAX: usize = 4;

/// A log that was read back, and the directory ready for more of it.
pub(super) struct Opened {
    pub(super) files: Files,
    /// The file to write to; None while the disk is full.
    pub(super) first: Option<ReadyFile>,
    /// Where that file begins, and its generation.
    pub(super) start: u64,
    pub(super) generation: u32,
    pub(super) recovery: WalRecovery,
}

pub(super) fn open<E>(
    fs: Arc<dyn Fs>,
    config: &WalConfig,
    from: Lsn,
    visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
) -> Result<Opened, WalOpenError<E>> {
    make_dir(fs.as_ref(), &config.dir).map_err(io_fault(&config.dir))?;
    let names = read_names(fs.as_ref(), &config.dir)?;
    let (found, given_up) = open_needed(fs.as_ref(), config, &names, from, OpenMode::ReadWrite)?;
    let mut replay = Replay::new(from);
    replay.run(&found, visit)?;
    replay.make_tail_durable(&found)?;
    Ok(prepare_directory(
        fs, config, names, found, &given_up, &replay,
    )?)
}

/// The pass over the entries alone: nothing is made, written or synced.
pub(super) fn read<E>(
    fs: &dyn Fs,
    config: &WalConfig,
    from: Lsn,
    visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
) -> Result<WalRecovery, WalOpenError<E>> {
    let names = read_names(fs, &config.dir)?;
    let (found, _) = open_needed(fs, config, &names, from, OpenMode::Read)?;
    let mut replay = Replay::new(from);
    replay.run(&found, visit)?;
    Ok(replay.recovery)
}

fn make_dir(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    fs.create_dir_all(dir)?;
    match dir.parent() {
        Some(parent) if parent != Path::new("") => fs.sync_dir(parent),
        _ => fs.sync_dir(Path::new(".")),
    }
}

struct Names {
    /// Bases of the log's files, in order.
    live: Vec<u64>,
    spares: Vec<u64>,
    unfinished: Vec<u64>,
}

fn io_fault(path: &Path) -> impl Fn(io::Error) -> WalFault {
    move |source| WalFault::Io {
        path: path.to_owned(),
        source,
    }
}

/// The names in the directory; none where it is missing.
fn read_names(fs: &dyn Fs, dir: &Path) -> Result<Names, WalFault> {
    let read = || -> io::Result<Names> {
        let mut names = Names {
            live: Vec::new(),
            spares: Vec::new(),
            unfinished: Vec::new(),
        };
        let entries = match fs.read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            entries => entries?,
        };
        for entry in entries {
            match entry.name.to_str().and_then(Name::parse) {
                Some(Name::Live { base }) => names.live.push(base),
                Some(Name::Spare { number }) => names.spares.push(number),
                Some(Name::New { number }) => names.unfinished.push(number),
                None => {
                    tracing::warn!(dir = %dir.display(), name = ?entry.name, "not a write-ahead log file");
                }
            }
        }
        names.live.sort_unstable();
        Ok(names)
    };
    read().map_err(io_fault(dir))
}

/// A file of the log with a good header.
struct Found {
    path: PathBuf,
    file: Arc<dyn File>,
    header: FileHeader,
    /// Where it ends: at the next file, when that one begins inside of it.
    end: u64,
}

impl Found {
    fn first_entry(&self) -> u64 {
        self.header.base + FIRST_ENTRY
    }
}

/// Opens the files that hold what follows `from`. The second part names files that an operator has emptied, to give up what
/// they held: the log ends before the first of them. Nothing else leaves an empty file under such a name.
fn open_needed(
    fs: &dyn Fs,
    config: &WalConfig,
    names: &Names,
    from: Lsn,
    mode: OpenMode,
) -> Result<(Vec<Found>, Vec<u64>), WalFault> {
    let missing = |first: Option<u64>| WalFault::Missing {
        dir: config.dir.clone(),
        from,
        first: first.map(Lsn),
    };
    let older = names.live.partition_point(|base| *base <= from.0);
    if older == 0 && (from > Lsn(0) || !names.live.is_empty()) {
        return Err(missing(names.live.first().copied()));
    }
    let mut found: Vec<Found> = Vec::new();
    let needed = &names.live[older.saturating_sub(1)..];
    for (at, &base) in needed.iter().enumerate() {
        let Some(file) = open_file(fs, &config.dir, base, mode)? else {
            let path = Name::Live { base }.path(&config.dir);
            tracing::error!(path = %path.display(), "the file was emptied: what it held is given up");
            return Ok((found, needed[at..].to_vec()));
        };
        if let Some(before) = found.last_mut() {
            before.end = before.end.min(base);
        }
        found.push(file);
    }
    match found.first() {
        Some(first) if from.0 > first.end => Err(missing(Some(first.header.base))),
        _ => Ok((found, Vec::new())),
    }
}

/// None for an empty file.
fn open_file(
    fs: &dyn Fs,
    dir: &Path,
    base: u64,
    mode: OpenMode,
) -> Result<Option<Found>, WalFault> {
    let path = Name::Live { base }.path(dir);
    let file = fs.open(&path, mode).map_err(io_fault(&path))?;
    let mut bytes = [0; FILE_HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0).map_err(io_fault(&path))?;
    if read == 0 {
        return Ok(None);
    }
    let header = match FileHeader::decode(&bytes[..read]) {
        Ok(header) if header.base == base => Ok(header),
        Ok(_) => Err(BadBytes::Misplaced),
        Err(bad) => Err(bad),
    };
    match header {
        Ok(header) => Ok(Some(Found {
            path,
            file,
            header,
            end: base + header.file_bytes,
        })),
        Err(BadBytes::Version(found)) => Err(WalFault::Version { path, found }),
        // A file gets its name when its header is durable.
        Err(cause) => Err(WalFault::Damaged {
            path,
            offset: 0,
            position: Lsn(base),
            cause,
            durable: Lsn(base),
        }),
    }
}

/// Reads a file front to back through one buffer.
struct Reader<'a> {
    file: &'a dyn File,
    buffer: Vec<u8>,
    /// The range of the file that is in the buffer.
    start: u64,
    len: usize,
}

impl<'a> Reader<'a> {
    fn new(file: &'a dyn File, buffer: Vec<u8>) -> Reader<'a> {
        Reader {
            file,
            buffer,
            start: 0,
            len: 0,
        }
    }

    /// The bytes at `offset`; fewer than asked for where the file ends.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = offset + len as u64;
        if offset < self.start || end > self.start + self.len as u64 {
            let size = len.max(READ_BYTES);
            if self.buffer.len() < size {
                self.buffer.resize(size, 0);
            }
            self.len = self.file.read_at(&mut self.buffer[..size], offset)?;
            self.start = offset;
        }
        let at = (offset - self.start) as usize;
        Ok(&self.buffer[at.min(self.len)..(at + len).min(self.len)])
    }
}

/// The pass over the entries.
struct Replay {
    /// The end so far.
    end: u64,
    /// The largest position that anything read so far calls durable.
    claimed: u64,
    /// Whether it was closed there.
    closed: bool,
    /// How many files hold what was read, as an index behind the last one.
    files: usize,
    recovery: WalRecovery,
    buffer: Vec<u8>,
}

impl Replay {
    fn new(from: Lsn) -> Replay {
        Replay {
            end: from.0,
            claimed: from.0,
            closed: false,
            files: 0,
            recovery: WalRecovery::default(),
            buffer: Vec::new(),
        }
    }

    fn run<E>(
        &mut self,
        found: &[Found],
        visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<(), WalOpenError<E>> {
        for (index, file) in found.iter().enumerate() {
            // Not joined to what was read: a file that was prepared for what never came.
            let joined = index == 0 || self.end == file.header.base;
            let bad = match joined {
                true => {
                    self.files = index + 1;
                    self.end = self.end.max(file.first_entry());
                    self.claimed = self.claimed.max(file.header.durable);
                    self.read_file(file, visit)?
                }
                false => Some(BadBytes::Short),
            };
            if let Some(cause) = bad {
                if index == 0 {
                    self.check_reached(file)?;
                }
                self.check_torn(found, cause)?;
                break;
            }
        }
        self.recovery.end = Lsn(self.end);
        self.recovery.closed_in_order = self.closed || found.is_empty();
        Ok(())
    }

    /// Visits a file's entries from the end so far on: None when the file is read to its end, else why
    /// there is no further entry.
    fn read_file<E>(
        &mut self,
        file: &Found,
        visit: &mut dyn FnMut(Lsn, &[u8]) -> Result<(), E>,
    ) -> Result<Option<BadBytes>, WalOpenError<E>> {
        let mut reader = Reader::new(file.file.as_ref(), std::mem::take(&mut self.buffer));
        let bad = loop {
            if file.end.saturating_sub(self.end) < ENTRY_HEADER_BYTES as u64 {
                break None;
            }
            let header =
                match read_entry(&mut reader, file, self.end).map_err(io_fault(&file.path))? {
                    Ok(header) => header,
                    Err(bad) => break Some(bad),
                };
            self.claimed = self.claimed.max(header.durable);
            match header.kind {
                Kind::Data => {}
                Kind::RestUnused => break None,
                Kind::Closed => {
                    // It marks the end and is no part of the log: the next file begins here.
                    self.closed = true;
                    break Some(BadBytes::Misplaced);
                }
            }
            self.end += header.extent();
            self.recovery.entries += 1;
            self.recovery.bytes += u64::from(header.payload_bytes);
            let offset = header.position - file.header.base + ENTRY_HEADER_BYTES as u64;
            let payload = reader.bytes(offset, header.payload_bytes as usize);
            let payload = payload.map_err(io_fault(&file.path))?;
            visit(Lsn(self.end), payload).map_err(WalOpenError::Visit)?;
        };
        self.buffer = reader.buffer;
        if bad.is_none() {
            self.end = file.end;
        }
        Ok(bad)
    }

    /// There is no good entry where the caller begins, or it is the end. The file must have been written so far: else it
    /// lacks its end.
    fn check_reached(&self, file: &Found) -> Result<(), WalFault> {
        if self.recovery.entries > 0 || self.end <= file.first_entry() || self.closed {
            return Ok(());
        }
        let look = || Ok((search(file, file.first_entry())?, file.file.len()?));
        let (written, len) = look().map_err(io_fault(&file.path))?;
        if written.end >= self.end && len >= self.end - file.header.base {
            return Ok(());
        }
        Err(WalFault::Damaged {
            path: file.path.clone(),
            // What is left of it is of no use.
            offset: 0,
            position: Lsn(written.end.max(file.first_entry())),
            cause: BadBytes::Short,
            durable: Lsn(self.end),
        })
    }

    /// There is no good entry at the end so far: damage, when anything behind it says that there was
    /// one.
    fn check_torn(&mut self, found: &[Found], cause: BadBytes) -> Result<(), WalFault> {
        let Some((file, later)) = found[self.files - 1..].split_first() else {
            return Ok(());
        };
        let mut durable = later
            .iter()
            .map(|file| file.header.durable)
            .max()
            .unwrap_or(0);
        // After an orderly end nothing was written; what is behind is from earlier lives.
        let search_from = match self.closed {
            true => file.end,
            false => self.end,
        };
        let mut sought = vec![(file, search_from)];
        sought.extend(later.iter().map(|file| (file, file.first_entry())));
        for (file, from) in sought {
            let found = search(file, from).map_err(io_fault(&file.path))?;
            self.recovery.torn |= found.any;
            durable = durable.max(found.durable);
        }
        if durable > self.end {
            return Err(WalFault::Damaged {
                path: file.path.clone(),
                offset: self.end - file.header.base,
                position: Lsn(self.end),
                cause,
                durable: Lsn(durable),
            });
        }
        Ok(())
    }

    /// Writes what nothing calls durable again, and syncs it.
    fn make_tail_durable(&mut self, found: &[Found]) -> Result<(), WalFault> {
        for file in &found[..self.files] {
            let (mut at, end) = (self.claimed.max(file.first_entry()), self.end.min(file.end));
            if at >= end {
                continue;
            }
            let mut rewrite = || -> io::Result<()> {
                let mut reader = Reader::new(file.file.as_ref(), std::mem::take(&mut self.buffer));
                while at < end {
                    let count = READ_BYTES.min((end - at) as usize);
                    let bytes = reader.bytes(at - file.header.base, count)?;
                    if bytes.is_empty() {
                        // The unused rest of a file that was never written to its end.
                        break;
                    }
                    file.file
                        .write_all_at(&[IoSlice::new(bytes)], at - file.header.base)?;
                    at += bytes.len() as u64;
                }
                file.file.sync_data()
            };
            rewrite().map_err(io_fault(&file.path))?;
        }
        Ok(())
    }
}

/// The entry at `position`, with a good payload and an end inside the file.
fn read_entry(
    reader: &mut Reader<'_>,
    file: &Found,
    position: u64,
) -> io::Result<Result<EntryHeader, BadBytes>> {
    let offset = position - file.header.base;
    let bytes = reader.bytes(offset, ENTRY_HEADER_BYTES)?;
    let header = match EntryHeader::decode(bytes, position, file.header.generation) {
        Ok(header) => header,
        Err(bad) => return Ok(Err(bad)),
    };
    if header.extent() > file.end - position {
        return Ok(Err(BadBytes::Length));
    }
    let len = header.payload_bytes as usize;
    let payload = reader.bytes(offset + ENTRY_HEADER_BYTES as u64, len)?;
    Ok(match payload.len() == len {
        true => header.check_payload(payload).map(|()| header),
        false => Err(BadBytes::Short),
    })
}

#[derive(Default)]
struct SearchResult {
    /// Whether there is the header of any entry.
    any: bool,
    /// The largest position that one calls durable.
    durable: u64,
    /// Where the last one ends.
    end: u64,
}

/// Looks for headers of entries of the file's own generation from `position` on. Payloads are stepped
/// over unseen: what a client sent must not pass for an entry.
fn search(file: &Found, mut position: u64) -> io::Result<SearchResult> {
    let mut result = SearchResult::default();
    let mut reader = Reader::new(file.file.as_ref(), Vec::new());
    // Also behind the place where the next file begins: entries may be there that say something.
    let end = file.header.base + file.header.file_bytes;
    while position + ENTRY_HEADER_BYTES as u64 <= end {
        let bytes = reader.bytes(position - file.header.base, ENTRY_HEADER_BYTES)?;
        if bytes.len() < ENTRY_HEADER_BYTES {
            break;
        }
        position += match EntryHeader::looks_like(bytes) {
            false => ALIGNMENT,
            true => match EntryHeader::decode(bytes, position, file.header.generation) {
                Ok(header) => {
                    result.any = true;
                    result.durable = result.durable.max(header.durable);
                    result.end = match header.kind {
                        Kind::RestUnused => file.end,
                        Kind::Data | Kind::Closed => position + header.extent(),
                    };
                    header.extent()
                }
                Err(_) => ALIGNMENT,
            },
        };
    }
    Ok(result)
}

/// Puts away the files that are not needed, and begins the next one where the log ends.
fn prepare_directory(
    fs: Arc<dyn Fs>,
    config: &WalConfig,
    names: Names,
    found: Vec<Found>,
    given_up: &[u64],
    replay: &Replay,
) -> Result<Opened, WalFault> {
    let (kept, unused) = found.split_at(replay.files);
    let generation = found
        .iter()
        .map(|file| file.header.generation)
        .max()
        .map_or(1, |last| last + 1);
    let live = kept.iter().map(|file| LiveFile {
        base: file.header.base,
        reusable: true,
    });
    let numbers = names.spares.iter().chain(&names.unfinished);
    let mut files = Files {
        fs,
        dir: config.dir.clone(),
        file_bytes: config.file_bytes,
        spare_files_max: config.spare_files_max,
        live: live.collect(),
        spares: Vec::new(),
        next_number: numbers.max().map_or(0, |last| last + 1),
        next_base: replay.end,
        next_generation: generation,
        prewritten: false,
        lacks_space: false,
    };
    for base in given_up {
        files.retire(Name::Live { base: *base }, false)?;
    }
    put_away(&mut files, &names, kept, unused, given_up)?;
    cut_unfilled(&mut files, kept, replay.end)?;
    // Nobody waits for the fast syncs yet, but everybody waits for the start.
    let first = match files.prepare(replay.end, &|| true) {
        Ok(first) => Some(first),
        Err(failure) if failure.is_disk_full() => {
            tracing::warn!(path = %failure.path.display(), "no space for a write-ahead log file");
            None
        }
        Err(failure) => return Err(failure.into()),
    };
    let recovery = replay.recovery.clone();
    Ok(Opened {
        files,
        first,
        start: replay.end,
        generation,
        recovery,
    })
}

fn put_away(
    files: &mut Files,
    names: &Names,
    kept: &[Found],
    unused: &[Found],
    given_up: &[u64],
) -> Result<(), WalFault> {
    let first_kept = kept.first().map_or(u64::MAX, |file| file.header.base);
    let older = names.live.iter().copied();
    let older = older.filter(|base| *base < first_kept && !given_up.contains(base));
    let unused = unused.iter().map(|file| file.header.base);
    for number in &names.unfinished {
        files.retire(Name::New { number: *number }, false)?;
    }
    for number in &names.spares {
        match files.spares.len() < files.spare_files_max {
            true => files.spares.push(*number),
            false => files.retire(Name::Spare { number: *number }, false)?,
        }
    }
    for base in older.chain(unused) {
        files.retire(Name::Live { base }, true)?;
    }
    // Before the next file joins: one that was put away must not be taken for its continuation. Also
    // when nothing changed: names that a killed process left may not be durable, and a spare file
    // that could turn up under its old name must not be written to.
    Ok(files.sync_names()?)
}

fn cut_unfilled(files: &mut Files, kept: &[Found], end: u64) -> Result<(), WalFault> {
    if kept.len() < UNCUT_FILES_MAX {
        return Ok(());
    }
    for (live, found) in files.live.iter_mut().zip(kept) {
        let needed = found.end.min(end) - found.header.base;
        let cut = || -> io::Result<()> {
            if found.file.len()? > needed {
                found.file.set_len(needed)?;
                found.file.sync_data()?;
            }
            Ok(())
        };
        cut().map_err(io_fault(&found.path))?;
        live.reusable = needed == found.header.file_bytes;
    }
    Ok(())
}
