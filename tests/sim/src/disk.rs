//! The simulated disk, watched: which part of the broker every operation belongs to, and the power
//! that goes in the middle of a chosen one.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_storage::fs::{
    DirEntry, File, Fs, Lock, OpenMode, SimFaults, SimFs, is_simulated_crash,
};

/// What the broker is doing when it changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Entries go to the write-ahead log.
    WalWrite,
    /// The sync that acknowledgements wait for.
    WalSync,
    /// The same two while an OffsetCommit waits for its answer.
    GroupCommit,
    /// Files of the write-ahead log are made, renamed, filled, removed.
    WalFile,
    /// The drain writes batches.
    Drain,
    /// The drain writes index entries.
    Index,
    /// A segment that is not the first of its log is begun.
    Roll,
    /// Segment files are synced, for a roll or a checkpoint.
    SegmentSync,
    /// A segment's files are removed: retention or DeleteRecords.
    Retention,
    /// Segment files are cut: truncation, or a sealed segment gives back what was reserved.
    Cut,
    /// A partition's directory and its small files.
    PartitionDir,
    /// A deleted partition's files go.
    PartitionDelete,
    /// The checkpoint's file is replaced.
    Checkpoint,
    /// Raft's log is written.
    RaftLog,
    /// Raft's log is synced.
    RaftSync,
    /// Files of Raft's log are made, renamed, filled, removed.
    RaftFile,
    /// The snapshot of the metadata is replaced.
    Snapshot,
    /// The note of where Raft's log begins is replaced.
    RaftStart,
    /// Anything while the broker starts.
    Recovery,
    /// Anything while the broker ends in order.
    Shutdown,
    /// What is in none of these: the data directory itself, its identity.
    Other,
}

impl Stage {
    /// All of them.
    pub const ALL: [Stage; 21] = [
        Stage::WalWrite,
        Stage::WalSync,
        Stage::GroupCommit,
        Stage::WalFile,
        Stage::Drain,
        Stage::Index,
        Stage::Roll,
        Stage::SegmentSync,
        Stage::Retention,
        Stage::Cut,
        Stage::PartitionDir,
        Stage::PartitionDelete,
        Stage::Checkpoint,
        Stage::RaftLog,
        Stage::RaftSync,
        Stage::RaftFile,
        Stage::Snapshot,
        Stage::RaftStart,
        Stage::Recovery,
        Stage::Shutdown,
        Stage::Other,
    ];

    /// How figures call it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::WalWrite => "wal-write",
            Stage::WalSync => "wal-sync",
            Stage::GroupCommit => "group-commit",
            Stage::WalFile => "wal-file",
            Stage::Drain => "drain",
            Stage::Index => "index",
            Stage::Roll => "roll",
            Stage::SegmentSync => "segment-sync",
            Stage::Retention => "retention",
            Stage::Cut => "cut",
            Stage::PartitionDir => "partition-dir",
            Stage::PartitionDelete => "partition-delete",
            Stage::Checkpoint => "checkpoint",
            Stage::RaftLog => "raft-log",
            Stage::RaftSync => "raft-sync",
            Stage::RaftFile => "raft-file",
            Stage::Snapshot => "snapshot",
            Stage::RaftStart => "raft-start",
            Stage::Recovery => "recovery",
            Stage::Shutdown => "shutdown",
            Stage::Other => "other",
        }
    }
}

/// What the broker is doing as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// It recovers.
    #[default]
    Starting,
    /// It serves.
    Serving,
    /// It ends in order.
    Ending,
}

/// What is known about the operations of one life of a machine.
#[derive(Debug, Default)]
struct Watch {
    phase: Phase,
    commits_waiting: usize,
    counts: BTreeMap<Stage, u64>,
    target: Option<Target>,
    hit: Option<Stage>,
    lie: Lie,
}

/// Which syncs the disk says to have done and has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lie {
    /// None.
    #[default]
    Never,
    /// Those that acknowledgements wait for, of the write-ahead log and of Raft's log, while the broker serves. What is
    /// lost then is mostly found by recovery, and else only by who remembers what was acknowledged.
    Acknowledgements,
    /// All, of directories too.
    Always,
}

impl Lie {
    /// Takes `--lie` or `--lie-acks` out of a command line. A chain that does not fail then proves nothing.
    pub fn take(arguments: &mut Vec<String>) -> Lie {
        let mut lie = Lie::Never;
        arguments.retain(|argument| {
            lie = match argument.as_str() {
                "--lie" => Lie::Always,
                "--lie-acks" => Lie::Acknowledgements,
                _ => return true,
            };
            false
        });
        lie
    }

    fn faults(self) -> SimFaults {
        SimFaults {
            syncs_lie: self == Lie::Always,
            ..SimFaults::default()
        }
    }
}

/// The operation in the middle of which the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// What kind of operation,
    pub stage: Stage,
    /// and the how-manieth of its kind in this life, from 1.
    pub nth: u64,
}

/// The disk of a machine during one life. Clones are handles to the same one.
#[derive(Clone)]
pub struct Disk {
    fs: SimFs,
    watch: Arc<Mutex<Watch>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("watch", &self.watch.lock())
            .finish_non_exhaustive()
    }
}

/// How an operation touches a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    Name,
    Write,
    Cut,
    Sync,
}

impl Disk {
    /// Watches a disk; the power goes in the middle of `target`, if the broker gets there.
    pub fn new(fs: SimFs, target: Option<Target>, lie: Lie) -> Disk {
        fs.set_faults(lie.faults());
        let watch = Watch {
            target,
            lie,
            ..Watch::default()
        };
        Disk {
            fs,
            watch: Arc::new(Mutex::new(watch)),
        }
    }

    /// The disk itself.
    pub fn fs(&self) -> &SimFs {
        &self.fs
    }

    /// Notes what the broker is doing from here on.
    pub fn set_phase(&self, phase: Phase) {
        self.watch.lock().phase = phase;
    }

    /// An OffsetCommit is on its way, until the guard is dropped.
    pub fn commit_waits(&self) -> CommitWaits {
        self.watch.lock().commits_waiting += 1;
        CommitWaits(self.watch.clone())
    }

    /// In which stage the power went by itself.
    pub fn hit(&self) -> Option<Stage> {
        self.watch.lock().hit
    }

    /// Operations that changed the disk, by stage.
    pub fn counts(&self) -> BTreeMap<Stage, u64> {
        self.watch.lock().counts.clone()
    }

    /// Counts an operation, and sets the fault that lets the power go when it is the one.
    fn begin(&self, stage: Stage, path: &Path, what: &str) {
        let mut watch = self.watch.lock();
        let stage = watch.in_phase(stage);
        tracing::trace!(stage = stage.name(), what, path = %path.display(), "disk");
        let count = watch.counts.entry(stage).or_default();
        *count += 1;
        let target = Target { stage, nth: *count };
        if watch.target == Some(target) && watch.hit.is_none() && !self.fs.is_crashed() {
            watch.hit = Some(stage);
            let crash_at_op = Some(self.fs.ops() + 1);
            self.fs.set_faults(SimFaults {
                crash_at_op,
                ..watch.lie.faults()
            });
        }
    }

    fn watched<T>(
        &self,
        path: &Path,
        touch: Touch,
        what: &str,
        run: impl FnOnce(&SimFs) -> io::Result<T>,
    ) -> io::Result<T> {
        self.begin(classify(path, touch), path, what);
        run(&self.fs)
    }
}

impl Watch {
    fn lies_about_acknowledgements(&self) -> bool {
        self.lie == Lie::Acknowledgements && self.phase == Phase::Serving
    }

    fn in_phase(&self, stage: Stage) -> Stage {
        match self.phase {
            Phase::Starting => Stage::Recovery,
            Phase::Ending => Stage::Shutdown,
            Phase::Serving => match stage {
                Stage::WalWrite | Stage::WalSync if self.commits_waiting > 0 => Stage::GroupCommit,
                stage => stage,
            },
        }
    }
}

/// See [`Disk::commit_waits`].
pub struct CommitWaits(Arc<Mutex<Watch>>);

impl Drop for CommitWaits {
    fn drop(&mut self) {
        self.0.lock().commits_waiting -= 1;
    }
}

fn classify(path: &Path, touch: Touch) -> Stage {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let has = |name: &str| parts.contains(&name);
    let name = parts.last().copied().unwrap_or_default();
    let log_file = |write, sync, names| match touch {
        Touch::Write => write,
        Touch::Sync => sync,
        Touch::Name | Touch::Cut => names,
    };
    if has("meta") {
        return match name {
            _ if has("wal") => log_file(Stage::RaftLog, Stage::RaftSync, Stage::RaftFile),
            name if name.starts_with("snapshot") => Stage::Snapshot,
            name if name.starts_with("log-start") => Stage::RaftStart,
            _ => Stage::RaftFile,
        };
    }
    if has("wal") {
        return log_file(Stage::WalWrite, Stage::WalSync, Stage::WalFile);
    }
    if name.starts_with("log.checkpoint") {
        return Stage::Checkpoint;
    }
    if !has("topics") {
        return Stage::Other;
    }
    if parts.iter().any(|part| part.ends_with("-delete")) {
        return Stage::PartitionDelete;
    }
    match (
        name.rsplit_once('.').map_or("", |(_, extension)| extension),
        touch,
    ) {
        ("log" | "index" | "timeindex", Touch::Sync) => Stage::SegmentSync,
        ("log" | "index" | "timeindex", Touch::Cut) => Stage::Cut,
        ("log", Touch::Write) => Stage::Drain,
        ("index" | "timeindex", Touch::Write) => Stage::Index,
        ("log" | "index" | "timeindex", Touch::Name) if !name.starts_with(FIRST_SEGMENT) => {
            Stage::Roll
        }
        _ => Stage::PartitionDir,
    }
}

/// How the names of a log's first segment begin.
const FIRST_SEGMENT: &str = "00000000000000000000.";

/// What a removed name stands for.
fn classify_removal(path: &Path) -> Stage {
    match classify(path, Touch::Name) {
        Stage::Roll => Stage::Retention,
        Stage::PartitionDir
            if path
                .to_str()
                .is_some_and(|path| path.contains(FIRST_SEGMENT)) =>
        {
            Stage::Retention
        }
        stage => stage,
    }
}

impl Fs for Disk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if matches!(mode, OpenMode::Create | OpenMode::CreateNew) {
            self.begin(classify(path, Touch::Name), path, "open");
        }
        let file = self.fs.open(path, mode)?;
        Ok(Arc::new(WatchedFile {
            file,
            path: path.to_owned(),
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.watched(to, Touch::Name, "rename", |fs| fs.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.begin(classify_removal(path), path, "remove");
        self.fs.remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.watched(path, Touch::Name, "create_dir_all", |fs| {
            fs.create_dir_all(path)
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.watched(path, Touch::Name, "remove_dir_all", |fs| {
            fs.remove_dir_all(path)
        })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.fs.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.watched(path, Touch::Name, "sync_dir", |fs| fs.sync_dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.watched(path, Touch::Name, "lock", |fs| fs.lock(path))
    }
}

struct WatchedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    disk: Disk,
}

impl WatchedFile {
    fn run<T>(
        &self,
        touch: Touch,
        what: &str,
        run: impl FnOnce(&dyn File) -> io::Result<T>,
    ) -> io::Result<T> {
        self.disk
            .begin(classify(&self.path, touch), &self.path, what);
        run(&*self.file)
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.run(Touch::Write, "write_all_at", |file| {
            file.write_all_at(buffers, offset)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(Touch::Cut, "set_len", |file| file.set_len(len))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.run(Touch::Name, "allocate", |file| file.allocate(offset, len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let stage = classify(&self.path, Touch::Sync);
        let is_lie = matches!(stage, Stage::WalSync | Stage::RaftSync)
            && self.disk.watch.lock().lies_about_acknowledgements();
        self.run(Touch::Sync, "sync_data", |file| match is_lie {
            // An operation that shows whether there is power.
            true => file.len().map(drop),
            false => file.sync_data(),
        })
    }
}

/// How a life of a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The power goes: what was not synced may be lost.
    PowerLoss,
    /// The process dies and the machine lives.
    Kill,
    /// The broker ends in order.
    Shutdown,
}

/// Whether an error is that of a machine without power, somewhere down its causes.
pub fn is_without_power(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(is_simulated_crash)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
