//! Directories of the simulated disk: names as a reader sees them, names on the platter, and the
//! changes between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::content::Content;
use super::rng::Rng;

pub(super) type InodeId = u64;
pub(super) const ROOT: InodeId = 0;

#[derive(Debug, Clone)]
pub(super) enum Inode {
    File(Content),
    Dir(Dir),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dir {
    pub(super) current: BTreeMap<OsString, InodeId>,
    durable: BTreeMap<OsString, InodeId>,
}

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Link {
        at: Name,
        inode: InodeId,
    },
    Unlink {
        at: Name,
    },
    Rename {
        from: Name,
        to: Name,
        inode: InodeId,
    },
}

/// A name and the directory that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    dir: InodeId,
    name: OsString,
}

#[derive(Debug, Clone)]
pub(super) struct Tree {
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    changes: Vec<Change>,
    /// Open handles of each file.
    handles: BTreeMap<InodeId, usize>,
    /// Names taken away since unreachable files were last dropped.
    removals: usize,
}

/// Dropping unreachable files walks the whole tree, so it waits for so many removals.
const REMOVALS_PER_SWEEP: usize = 64;

impl Tree {
    pub(super) fn new() -> Tree {
        let inodes = BTreeMap::from([(ROOT, Inode::Dir(Dir::default()))]);
        Tree {
            inodes,
            next_inode: ROOT + 1,
            changes: Vec::new(),
            handles: BTreeMap::new(),
            removals: 0,
        }
    }

    pub(super) fn opened(&mut self, inode: InodeId) {
        *self.handles.entry(inode).or_default() += 1;
    }

    pub(super) fn closed(&mut self, inode: InodeId) {
        if let Some(count) = self.handles.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&inode);
            }
        }
    }

    /// The process that held the handles is gone.
    pub(super) fn close_all(&mut self) {
        self.handles.clear();
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<InodeId> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self
                .dir(at)?
                .current
                .get(&name)
                .ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    /// All files as a reader sees them, in order.
    pub(super) fn paths(&self) -> BTreeMap<PathBuf, InodeId> {
        let mut found = BTreeMap::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, inode)) = todo.pop() {
            match self.dir(inode) {
                Ok(dir) => {
                    todo.extend(dir.current.iter().map(|(name, id)| (path.join(name), *id)));
                }
                Err(_) => {
                    found.insert(path, inode);
                }
            }
        }
        found
    }

    /// The name that `path` ends in; its directory exists, the name itself may not.
    pub(super) fn name(&self, path: &Path) -> io::Result<Name> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut dir = ROOT;
        for name in names {
            dir = *self
                .dir(dir)?
                .current
                .get(&name)
                .ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(dir)?;
        Ok(Name { dir, name })
    }

    pub(super) fn lookup(&self, at: &Name) -> Option<InodeId> {
        self.dir(at.dir).ok()?.current.get(&at.name).copied()
    }

    pub(super) fn dir(&self, inode: InodeId) -> io::Result<&Dir> {
        match self.inodes.get(&inode) {
            Some(Inode::Dir(dir)) => Ok(dir),
            Some(Inode::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn is_dir(&self, inode: InodeId) -> bool {
        self.dir(inode).is_ok()
    }

    pub(super) fn file(&self, inode: InodeId) -> io::Result<&Content> {
        match self.inodes.get(&inode) {
            Some(Inode::File(content)) => Ok(content),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn file_mut(&mut self, inode: InodeId) -> io::Result<&mut Content> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(content)) => Ok(content),
            Some(Inode::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn create(&mut self, at: Name, inode: Inode) -> InodeId {
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, inode);
        self.entries(at.dir).insert(at.name.clone(), id);
        self.changes.push(Change::Link { at, inode: id });
        id
    }

    pub(super) fn remove(&mut self, at: Name) -> io::Result<()> {
        self.entries(at.dir)
            .remove(&at.name)
            .ok_or(io::ErrorKind::NotFound)?;
        self.changes.push(Change::Unlink { at });
        self.removals += 1;
        Ok(())
    }

    pub(super) fn remove_tree(&mut self, at: Name) -> io::Result<()> {
        let inode = self.lookup(&at).ok_or(io::ErrorKind::NotFound)?;
        let held: Vec<OsString> = match self.inodes.get(&inode) {
            Some(Inode::Dir(dir)) => dir.current.keys().cloned().collect(),
            _ => Vec::new(),
        };
        for name in held {
            self.remove_tree(Name { dir: inode, name })?;
        }
        self.remove(at)
    }

    pub(super) fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        let inode = self.lookup(&from).ok_or(io::ErrorKind::NotFound)?;
        match self.lookup(&to) {
            Some(replaced) if replaced == inode => return Ok(()),
            Some(replaced) if self.is_dir(replaced) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            _ => {}
        }
        self.entries(from.dir).remove(&from.name);
        self.entries(to.dir).insert(to.name.clone(), inode);
        self.changes.push(Change::Rename { from, to, inode });
        self.removals += 1;
        Ok(())
    }

    /// Makes every change that touches the directory durable, and no other.
    pub(super) fn sync_dir(&mut self, dir: InodeId) -> io::Result<()> {
        self.dir(dir)?;
        for change in std::mem::take(&mut self.changes) {
            if change.touches(dir) {
                self.persist(&change);
                if let Change::Rename { from, .. } = &change {
                    // The file has left that name for good: a link that is still under way to it
                    // must not bring it back.
                    self.changes.retain(|earlier| !earlier.links(from));
                }
            } else {
                self.changes.push(change);
            }
        }
        if self.removals >= REMOVALS_PER_SWEEP {
            self.forget_unreachable();
        }
        Ok(())
    }

    /// What is on the platter after a power loss: of the unsynced changes none, all, the first few,
    /// or any subset.
    pub(super) fn after_power_loss(&self, rng: &mut Rng) -> Tree {
        let mut tree = self.clone();
        tree.close_all();
        let changes = std::mem::take(&mut tree.changes);
        let mode = rng.below(4);
        let first = rng.below(changes.len() as u64 + 1) as usize;
        for (index, change) in changes.iter().enumerate() {
            let survives = match mode {
                0 => false,
                1 => true,
                2 => index < first,
                _ => rng.percent(50),
            };
            if survives {
                tree.persist(change);
            }
        }
        for inode in tree.inodes.values_mut() {
            if let Inode::Dir(dir) = inode {
                dir.current = dir.durable.clone();
            }
        }
        tree.forget_unreachable();
        tree
    }

    pub(super) fn files_mut(&mut self) -> impl Iterator<Item = &mut Content> {
        self.inodes.values_mut().filter_map(|inode| match inode {
            Inode::File(content) => Some(content),
            Inode::Dir(_) => None,
        })
    }

    /// Pages occupied by files that have a name.
    pub(super) fn allocated_pages(&self) -> u64 {
        let mut named = BTreeSet::<InodeId>::new();
        for inode in self.inodes.values() {
            if let Inode::Dir(dir) = inode {
                named.extend(dir.current.values());
            }
        }
        named
            .into_iter()
            .filter_map(|id| self.file(id).ok())
            .map(Content::allocated_pages)
            .sum()
    }

    fn entries(&mut self, dir: InodeId) -> &mut BTreeMap<OsString, InodeId> {
        match self.inodes.get_mut(&dir) {
            Some(Inode::Dir(dir)) => &mut dir.current,
            _ => unreachable!("a Name is made only for a directory"),
        }
    }

    fn durable_entries(&mut self, dir: InodeId) -> &mut BTreeMap<OsString, InodeId> {
        match self.inodes.get_mut(&dir) {
            Some(Inode::Dir(dir)) => &mut dir.durable,
            _ => unreachable!("a Name is made only for a directory"),
        }
    }

    fn persist(&mut self, change: &Change) {
        match change {
            Change::Link { at, inode } => {
                self.durable_entries(at.dir).insert(at.name.clone(), *inode);
            }
            Change::Unlink { at } => {
                self.durable_entries(at.dir).remove(&at.name);
            }
            Change::Rename { from, to, inode } => {
                let source = self.durable_entries(from.dir);
                if source.get(&from.name) == Some(inode) {
                    source.remove(&from.name);
                }
                self.durable_entries(to.dir).insert(to.name.clone(), *inode);
            }
        }
    }

    /// Drops what neither a name, nor an unsynced change, nor an open handle can lead to.
    fn forget_unreachable(&mut self) {
        self.removals = 0;
        let mut reachable: BTreeSet<InodeId> = self.handles.keys().copied().collect();
        reachable.insert(ROOT);
        for inode in self.inodes.values() {
            if let Inode::Dir(dir) = inode {
                reachable.extend(dir.current.values().chain(dir.durable.values()));
            }
        }
        for change in &self.changes {
            match change {
                Change::Link { at, inode } => reachable.extend([at.dir, *inode]),
                Change::Unlink { at } => reachable.extend([at.dir]),
                Change::Rename { from, to, inode } => reachable.extend([from.dir, to.dir, *inode]),
            }
        }
        self.inodes.retain(|id, _| reachable.contains(id));
    }
}

impl Change {
    fn touches(&self, inode: InodeId) -> bool {
        match self {
            Change::Link { at, .. } | Change::Unlink { at } => at.dir == inode,
            Change::Rename { from, to, .. } => from.dir == inode || to.dir == inode,
        }
    }

    fn links(&self, name: &Name) -> bool {
        matches!(self, Change::Link { at, .. } if at == name)
    }
}

fn names(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}
