//! The fault double: a disk in memory that loses what was not synced.
//!
//! Everything that it chooses comes from one seed, so the same calls in the same order give the same
//! disk. Between syncs it writes back pages on its own, as a kernel does; a power loss then keeps any
//! subset of the unsynced pages (also single sectors of a page) and of the unsynced names.

mod content;
mod rng;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use self::content::{Content, PAGE_BYTES, Survival};
use self::rng::Rng;
use self::tree::{Dir, Inode, InodeId, Tree};
use super::{BLOCK_BYTES, DirEntry, File, Fs, Lock, LockHeld, OpenMode};

/// Which operations fail. Operations, syncs and writes are counted from 1, over all files.
#[derive(Debug, Clone, Default)]
pub struct SimFaults {
    /// The power goes during this operation: a write may have reached the disk in part, a sync has
    /// done nothing more than the write-back may do.
    pub crash_at_op: Option<u64>,
    /// This sync (of a file or a directory) fails with EIO. A file's dirty pages count as clean from
    /// then on, whether they reached the disk or not.
    pub fail_sync_at: Option<u64>,
    /// This write fails with EIO after some of its bytes.
    pub fail_write_at: Option<u64>,
    /// Space for data; what needs more fails with ENOSPC.
    pub capacity_bytes: Option<u64>,
    /// Syncs say that they succeeded and do nothing: what a test must notice.
    pub syncs_lie: bool,
}

/// A simulated disk. Clones are handles to the same disk.
#[derive(Clone)]
pub struct SimFs {
    world: Arc<Mutex<World>>,
}

struct World {
    tree: Tree,
    rng: Rng,
    faults: SimFaults,
    locks: BTreeSet<PathBuf>,
    ops: u64,
    syncs: u64,
    writes: u64,
    trace_hash: u64,
    trace: Option<Vec<String>>,
    /// The disk that a reboot finds; once it is set, every operation here fails.
    survivor: Option<Tree>,
}

#[derive(Debug, thiserror::Error)]
#[error("the simulated machine has crashed")]
struct SimulatedCrash;

/// Whether an error comes from an operation on a disk whose machine has crashed.
pub fn is_simulated_crash(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|inner| inner.is::<SimulatedCrash>())
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.world.lock();
        f.debug_struct("SimFs")
            .field("ops", &world.ops)
            .finish_non_exhaustive()
    }
}

impl SimFs {
    /// An empty disk.
    pub fn new(seed: u64) -> SimFs {
        SimFs::with_tree(Tree::new(), Rng::new(seed))
    }

    fn with_tree(tree: Tree, rng: Rng) -> SimFs {
        SimFs {
            world: Arc::new(Mutex::new(World {
                tree,
                rng,
                faults: SimFaults::default(),
                locks: BTreeSet::new(),
                ops: 0,
                syncs: 0,
                writes: 0,
                trace_hash: 0,
                trace: None,
                survivor: None,
            })),
        }
    }

    /// Replaces the faults. The counters run on.
    pub fn set_faults(&self, faults: SimFaults) {
        self.world.lock().faults = faults;
    }

    /// The power goes now. From here on every operation fails, until [`SimFs::reboot`].
    pub fn crash(&self) {
        self.world.lock().lose_power();
    }

    /// The process dies now, and the machine lives: nothing written is lost, nothing becomes durable,
    /// every operation fails until [`SimFs::reboot`].
    pub fn kill(&self) {
        let mut world = self.world.lock();
        if world.survivor.is_none() {
            let mut tree = world.tree.clone();
            tree.close_all();
            world.survivor = Some(tree);
        }
    }

    /// Whether the machine has crashed or the process was killed.
    pub fn is_crashed(&self) -> bool {
        self.world.lock().survivor.is_some()
    }

    /// The disk as the next start finds it, without faults and with counters at 0 (the power goes
    /// first when nothing has crashed yet). Each call gives an independent copy of the same disk.
    pub fn reboot(&self) -> SimFs {
        let mut world = self.world.lock();
        world.lose_power();
        let tree = world.survivor.clone().expect("set by the line above");
        // The same for each copy: they must not diverge by themselves.
        let rng = world.rng.clone();
        SimFs::with_tree(tree, rng)
    }

    /// An independent copy of the disk as it is now, synced or not, without faults and open files.
    pub fn clone_disk(&self) -> SimFs {
        let world = self.world.lock();
        let mut tree = world.tree.clone();
        tree.close_all();
        SimFs::with_tree(tree, world.rng.clone())
    }

    /// Operations so far.
    pub fn ops(&self) -> u64 {
        self.world.lock().ops
    }

    /// Syncs of files and directories so far.
    pub fn syncs(&self) -> u64 {
        self.world.lock().syncs
    }

    /// A hash over all operations so far, with their arguments and the bytes written: equal for equal
    /// runs.
    pub fn trace_hash(&self) -> u64 {
        self.world.lock().trace_hash
    }

    /// Keeps a line per operation from now on.
    pub fn record_trace(&self) {
        self.world.lock().trace = Some(Vec::new());
    }

    /// The lines since [`SimFs::record_trace`].
    pub fn trace(&self) -> Vec<String> {
        self.world.lock().trace.clone().unwrap_or_default()
    }

    /// Flips one bit of a file, on the platter too.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        self.damage(path, offset, 1, &mut |byte| byte ^ (1 << (bit % 8)))
    }

    /// Overwrites a range of a file with zeros, on the platter too.
    pub fn zero_range(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        self.damage(path, offset, len, &mut |_| 0)
    }

    fn damage(
        &self,
        path: &Path,
        offset: u64,
        len: u64,
        change: &mut dyn FnMut(u8) -> u8,
    ) -> io::Result<()> {
        let mut world = self.world.lock();
        let inode = world.tree.resolve(path)?;
        let content = world.tree.file_mut(inode)?;
        for at in offset..offset + len {
            content.damage(at, change);
        }
        Ok(())
    }

    /// All files with their bytes, for comparing two disks. Counts as no operation.
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        self.contents_of(|_| true)
    }

    /// Those files with their bytes whose path is wanted. Counts as no operation.
    pub fn contents_of(&self, is_wanted: impl Fn(&Path) -> bool) -> Vec<(PathBuf, Vec<u8>)> {
        let world = self.world.lock();
        let files = world.tree.paths().into_iter();
        files
            .filter(|(path, _)| is_wanted(path))
            .filter_map(|(path, inode)| {
                let file = world.tree.file(inode).ok()?;
                let mut bytes = vec![0; usize::try_from(file.len()).unwrap_or(usize::MAX)];
                file.read_at(&mut bytes, 0);
                Some((path, bytes))
            })
            .collect()
    }

    /// The files that only one of two disks has, or that a reader finds different on them. Files may be
    /// large where nothing was written: that is not looked at. Counts as no operation.
    pub fn differing_files(&self, other: &SimFs) -> Vec<PathBuf> {
        let versions = |fs: &SimFs| -> BTreeMap<PathBuf, content::Version> {
            let world = fs.world.lock();
            let files = world.tree.paths().into_iter();
            files
                .filter_map(|(path, inode)| Some((path, world.tree.file(inode).ok()?.version())))
                .collect()
        };
        let (ours, mut theirs) = (versions(self), versions(other));
        let mut differing = Vec::new();
        for (path, version) in ours {
            match theirs.remove(&path) {
                Some(their) if version.reads_like(&their) => {}
                _ => differing.push(path),
            }
        }
        differing.extend(theirs.into_keys());
        differing.sort();
        differing
    }

    /// Runs one operation: counts it, and lets the power go in the middle of it when it is the one.
    fn run<T>(&self, op: Op<'_>, apply: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.world.lock();
        if world.survivor.is_some() {
            return Err(io::Error::other(SimulatedCrash));
        }
        world.note(&op);
        let crashes = world.faults.crash_at_op == Some(world.ops);
        if crashes && matches!(op, Op::SyncData { .. } | Op::SyncDir { .. }) {
            world.lose_power();
            return Err(io::Error::other(SimulatedCrash));
        }
        let result = apply(&mut world);
        if crashes {
            world.lose_power();
            return Err(io::Error::other(SimulatedCrash));
        }
        result
    }
}

/// What is counted and traced.
#[derive(Debug)]
#[expect(
    dead_code,
    reason = "read by the derived Debug, which is what a trace shows"
)]
enum Op<'a> {
    Open {
        path: &'a Path,
        mode: OpenMode,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    RemoveFile {
        path: &'a Path,
    },
    CreateDirAll {
        path: &'a Path,
    },
    RemoveDirAll {
        path: &'a Path,
    },
    ReadDir {
        path: &'a Path,
    },
    SyncDir {
        path: &'a Path,
    },
    Lock {
        path: &'a Path,
    },
    Len {
        inode: InodeId,
    },
    ReadAt {
        inode: InodeId,
        offset: u64,
        bytes: usize,
    },
    WriteAt {
        inode: InodeId,
        offset: u64,
        bytes: usize,
        crc: u64,
    },
    SetLen {
        inode: InodeId,
        len: u64,
    },
    Allocate {
        inode: InodeId,
        offset: u64,
        len: u64,
    },
    SyncData {
        inode: InodeId,
    },
}

impl World {
    fn note(&mut self, op: &Op<'_>) {
        self.ops += 1;
        let line = format!("{op:?}");
        // FNV-1a, over the whole history.
        for byte in line.bytes() {
            self.trace_hash = (self.trace_hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(trace) = &mut self.trace {
            trace.push(line);
        }
    }

    fn lose_power(&mut self) {
        if self.survivor.is_some() {
            return;
        }
        let rng = &mut self.rng;
        let mut tree = self.tree.after_power_loss(rng);
        let choices = [0, 10, 50, 90, 100];
        let survival = Survival {
            page_percent: choices[rng.below(choices.len() as u64) as usize],
            torn_percent: choices[rng.below(choices.len() as u64) as usize],
        };
        for content in tree.files_mut() {
            *content = content.after_power_loss(survival, rng);
        }
        self.survivor = Some(tree);
    }

    /// Counts a sync, and says whether it is the one that fails.
    fn begin_sync(&mut self) -> bool {
        self.syncs += 1;
        self.faults.fail_sync_at == Some(self.syncs)
    }

    fn check_space(&self, pages: u64) -> io::Result<()> {
        let Some(capacity) = self.faults.capacity_bytes else {
            return Ok(());
        };
        match (self.tree.allocated_pages() + pages) * PAGE_BYTES <= capacity {
            true => Ok(()),
            false => Err(rustix::io::Errno::NOSPC.into()),
        }
    }
}

fn input_output_error() -> io::Error {
    rustix::io::Errno::IO.into()
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inode = self.run(Op::Open { path, mode }, |world| {
            let at = world.tree.name(path)?;
            let inode = match (world.tree.lookup(&at), mode) {
                (Some(_), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
                (Some(inode), _) => world.tree.file(inode).map(|_| inode),
                (None, OpenMode::Read | OpenMode::ReadWrite | OpenMode::Direct) => {
                    Err(io::ErrorKind::NotFound.into())
                }
                (None, OpenMode::Create | OpenMode::CreateNew) => {
                    Ok(world.tree.create(at, Inode::File(Content::default())))
                }
            }?;
            world.tree.opened(inode);
            Ok(inode)
        })?;
        Ok(Arc::new(SimFile {
            fs: self.clone(),
            inode,
            mode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Op::Rename { from, to }, |world| {
            let (from, to) = (world.tree.name(from)?, world.tree.name(to)?);
            world.tree.rename(from, to)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.run(Op::RemoveFile { path }, |world| {
            world.tree.file(world.tree.resolve(path)?)?;
            world.tree.remove(world.tree.name(path)?)
        })
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(Op::CreateDirAll { path }, |world| {
            let mut above: Vec<&Path> = path.ancestors().collect();
            above.reverse();
            for path in above {
                match world.tree.resolve(path) {
                    Ok(inode) => {
                        world.tree.dir(inode)?;
                    }
                    Err(_) => {
                        let at = world.tree.name(path)?;
                        world.tree.create(at, Inode::Dir(Dir::default()));
                    }
                }
            }
            Ok(())
        })
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.run(Op::RemoveDirAll { path }, |world| {
            world.tree.dir(world.tree.resolve(path)?)?;
            world.tree.remove_tree(world.tree.name(path)?)
        })
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.run(Op::ReadDir { path }, |world| {
            let dir = world.tree.dir(world.tree.resolve(path)?)?;
            let entry = |(name, inode): (&std::ffi::OsString, &InodeId)| DirEntry {
                name: name.clone(),
                is_dir: world.tree.is_dir(*inode),
            };
            Ok(dir.current.iter().map(entry).collect())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::SyncDir { path }, |world| {
            let dir = world.tree.resolve(path)?;
            world.tree.dir(dir)?;
            if world.begin_sync() {
                return Err(input_output_error());
            }
            match world.faults.syncs_lie {
                true => Ok(()),
                false => world.tree.sync_dir(dir),
            }
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.run(Op::Lock { path }, |world| {
            let at = world.tree.name(path)?;
            if !world.locks.insert(path.to_owned()) {
                let held = LockHeld {
                    path: path.to_owned(),
                    pid: None,
                };
                return Err(io::Error::new(io::ErrorKind::WouldBlock, held));
            }
            if world.tree.lookup(&at).is_none() {
                world.tree.create(at, Inode::File(Content::default()));
            }
            Ok(())
        })?;
        Ok(Box::new(SimLock {
            fs: self.clone(),
            path: path.to_owned(),
        }))
    }
}

struct SimLock {
    fs: SimFs,
    path: PathBuf,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.world.lock().locks.remove(&self.path);
    }
}

struct SimFile {
    fs: SimFs,
    inode: InodeId,
    mode: OpenMode,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.world.lock().tree.closed(self.inode);
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        match self.mode {
            OpenMode::Read => Err(rustix::io::Errno::BADF.into()),
            _ => Ok(()),
        }
    }

    /// As strict as a disk may be with what bypasses the page cache.
    fn check_aligned(&self, offset: u64, buffers: &[&[u8]]) -> io::Result<()> {
        let whole = |bytes: &&[u8]| {
            bytes.len().is_multiple_of(BLOCK_BYTES) && bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
        };
        let aligned = offset.is_multiple_of(BLOCK_BYTES as u64)
            && buffers.len() <= 1
            && buffers.iter().all(whole);
        match aligned || self.mode != OpenMode::Direct {
            true => Ok(()),
            false => Err(rustix::io::Errno::INVAL.into()),
        }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let inode = self.inode;
        self.fs
            .run(Op::Len { inode }, |world| Ok(world.tree.file(inode)?.len()))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_aligned(offset, &[&*buffer])?;
        let op = Op::ReadAt {
            inode: self.inode,
            offset,
            bytes: buffer.len(),
        };
        self.fs.run(op, |world| {
            Ok(world.tree.file(self.inode)?.read_at(buffer, offset))
        })
    }

    fn write_all_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.check_writable()?;
        let slices: Vec<&[u8]> = buffers.iter().map(|buffer| &**buffer).collect();
        self.check_aligned(offset, &slices)?;
        let bytes = slices.concat();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes);
        let op = Op::WriteAt {
            inode: self.inode,
            offset,
            bytes: bytes.len(),
            crc,
        };
        self.fs.run(op, |world| {
            world.writes += 1;
            let mut written = bytes.len() as u64;
            let mut result = Ok(());
            if world.faults.fail_write_at == Some(world.writes) {
                written = world.rng.below(written + 1);
                result = Err(input_output_error());
            }
            let needed = world.tree.file(self.inode)?.pages_needed(offset, written);
            world.check_space(needed)?;
            let content = world.tree.file_mut(self.inode)?;
            content.write_at(&bytes[..written as usize], offset);
            if world.rng.percent(20) {
                content.write_back_some(&mut world.rng);
            }
            result
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.fs.run(
            Op::SetLen {
                inode: self.inode,
                len,
            },
            |world| {
                world.tree.file_mut(self.inode)?.set_len(len);
                Ok(())
            },
        )
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.fs.run(
            Op::Allocate {
                inode: self.inode,
                offset,
                len,
            },
            |world| {
                let needed = world.tree.file(self.inode)?.pages_needed(offset, len);
                world.check_space(needed)?;
                world.tree.file_mut(self.inode)?.allocate(offset, len);
                Ok(())
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.run(Op::SyncData { inode: self.inode }, |world| {
            let fails = world.begin_sync();
            let content = world.tree.file_mut(self.inode)?;
            match (fails, world.faults.syncs_lie) {
                (true, _) => {
                    content.fail_sync(&mut world.rng);
                    Err(input_output_error())
                }
                (false, true) => Ok(()),
                (false, false) => {
                    content.sync();
                    Ok(())
                }
            }
        })
    }
}
