//! Where a partition's files are, what they are called, and the bounded set of those that are open.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_records::{Offset, PartitionId, TopicId, TopicPartition};
use tidemill_storage::fs::{File, Fs, OpenMode, read_exact_at};

/// What the log directory's files and directories are called.
pub(crate) const TOPICS: &str = "topics";
pub(crate) const CHECKPOINT: &str = "log.checkpoint";
pub(crate) const DELETED_SUFFIX: &str = "-delete";
const PARTITION_METADATA: &str = "partition.metadata";
const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// A segment's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FileKind {
    Log,
    Index,
    TimeIndex,
}

impl FileKind {
    pub(crate) const ALL: [FileKind; 3] = [FileKind::Log, FileKind::Index, FileKind::TimeIndex];

    pub(crate) fn extension(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::Index => "index",
            FileKind::TimeIndex => "timeindex",
        }
    }
}

/// `<base:020>.<extension>`
pub(crate) fn segment_file(dir: &Path, base: Offset, kind: FileKind) -> PathBuf {
    dir.join(format!("{:020}.{}", base.0, kind.extension()))
}

/// The base offset that a segment file's name gives.
pub(crate) fn parse_segment_file(name: &str, kind: FileKind) -> Option<Offset> {
    let base = name.strip_suffix(kind.extension())?.strip_suffix('.')?;
    let digits = base.len() == 20 && base.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| base.parse().ok().map(Offset)).flatten()
}

/// `<data dir>/topics`
pub(crate) fn topics_dir(data_dir: &Path) -> PathBuf {
    data_dir.join(TOPICS)
}

/// `<data dir>/topics/<topic>-<partition>`
pub(crate) fn partition_dir(data_dir: &Path, partition: &TopicPartition) -> PathBuf {
    topics_dir(data_dir).join(partition.to_string())
}

/// What a partition's directory is called while its files are being removed.
pub(crate) fn deleted_dir(data_dir: &Path, partition: &TopicPartition, id: TopicId) -> PathBuf {
    topics_dir(data_dir).join(format!("{partition}.{}{DELETED_SUFFIX}", id.0.simple()))
}

/// What a partition's directory is called that nobody knows, as Kafka calls it.
pub(crate) fn stray_dir(data_dir: &Path, partition: &TopicPartition, id: TopicId) -> PathBuf {
    topics_dir(data_dir).join(format!("{partition}.{}-stray", id.0.simple()))
}

/// The partition that a directory's name gives.
pub(crate) fn parse_partition_dir(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition = partition.parse().ok().filter(|index| *index >= 0)?;
    Some(TopicPartition::new(topic, PartitionId(partition)))
}

/// Kafka's `partition.metadata`: whose files these are.
pub(crate) fn write_partition_metadata(fs: &dyn Fs, dir: &Path, id: TopicId) -> io::Result<()> {
    let text = format!("version: 0\ntopic_id: {id}\n");
    replace(fs, &dir.join(PARTITION_METADATA), text.as_bytes())
}

/// Whether the directory's files belong to this incarnation of the topic; None when it does not say.
pub(crate) fn belongs_to(fs: &dyn Fs, dir: &Path, id: TopicId) -> io::Result<Option<bool>> {
    let text = match read_small(fs, &dir.join(PARTITION_METADATA)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let text = String::from_utf8_lossy(&text);
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix("topic_id: "));
    Ok(found.map(|found| found == id.to_string()))
}

/// Takes a deleted partition's directory out of the way of the next of that name. False when it was not there.
pub(crate) fn move_away(fs: &dyn Fs, dir: &Path, deleted: &Path) -> io::Result<bool> {
    match fs.rename(dir, deleted) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // Moved away before; a crash brought the name back, or it was made anew.
        Err(_) if fs.read_dir(deleted).is_ok() => fs.remove_dir_all(dir).map(|()| true),
        Err(error) => Err(error),
    }
}

/// Takes a partition's directory out of the way and keeps it. False when it was not there.
pub(crate) fn put_aside(fs: &dyn Fs, dir: &Path, aside: &Path) -> io::Result<bool> {
    match fs.rename(dir, aside) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn write_leader_epochs(fs: &dyn Fs, dir: &Path, text: &str) -> io::Result<()> {
    replace(fs, &dir.join(LEADER_EPOCHS), text.as_bytes())
}

/// Replaces a small file that nothing of ours depends on. The next checkpoint syncs it.
fn replace(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = fs.open(&temporary, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(&[IoSlice::new(bytes)], 0)?;
    fs.rename(&temporary, path)
}

/// Makes a partition's directory, its names and its small files durable.
pub(crate) fn sync_partition_dir(fs: &dyn Fs, dir: &Path) -> io::Result<()> {
    for name in [PARTITION_METADATA, LEADER_EPOCHS] {
        match fs.open(&dir.join(name), OpenMode::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => file?.sync_data()?,
        }
    }
    match fs.sync_dir(dir) {
        // Nothing was ever drained, or the partition was deleted.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

const SMALL_BYTES_MAX: u64 = 1 << 20;

fn read_small(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let mut bytes = vec![0; file.len()?.min(SMALL_BYTES_MAX) as usize];
    read_exact_at(&*file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Which open file is meant. `log` is the number of a [`crate::PartitionLog`] in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileKey {
    pub(crate) log: u64,
    pub(crate) base: Offset,
    pub(crate) kind: FileKind,
}

/// Open files, those used longest ago closed first. Whoever holds a file keeps it open beyond that, and beyond its
/// removal.
pub(crate) struct OpenFiles {
    inner: Mutex<OpenFilesInner>,
    count_max: usize,
}

struct OpenFilesInner {
    files: HashMap<FileKey, OpenFile>,
    /// How often files were forgotten. What was opened before the last time may have lost its name since.
    forgotten: u64,
}

struct OpenFile {
    file: Arc<dyn File>,
    used: u64,
}

impl OpenFiles {
    pub(crate) fn new(count_max: usize) -> OpenFiles {
        OpenFiles {
            inner: Mutex::new(OpenFilesInner {
                files: HashMap::new(),
                forgotten: 0,
            }),
            count_max: count_max.max(8),
        }
    }

    /// The file, opened by `open` when it is not open. `stamp` grows with time.
    pub(crate) fn get<E>(
        &self,
        key: FileKey,
        stamp: u64,
        open: impl FnOnce() -> Result<Arc<dyn File>, E>,
    ) -> Result<Arc<dyn File>, E> {
        let forgotten = {
            let mut inner = self.inner.lock();
            if let Some(entry) = inner.files.get_mut(&key) {
                entry.used = stamp;
                return Ok(entry.file.clone());
            }
            inner.forgotten
        };
        // Opened outside of the lock: two readers may open the same file, and one handle wins.
        let file = open()?;
        let mut inner = self.inner.lock();
        if inner.forgotten != forgotten {
            return Ok(file);
        }
        if inner.files.len() >= self.count_max {
            Self::close_oldest(&mut inner.files, self.count_max / 8);
        }
        let entry = OpenFile {
            file: file.clone(),
            used: stamp,
        };
        inner.files.insert(key, entry);
        Ok(file)
    }

    fn close_oldest(files: &mut HashMap<FileKey, OpenFile>, count: usize) {
        let mut stamps: Vec<u64> = files.values().map(|entry| entry.used).collect();
        let (_, limit, _) = stamps.select_nth_unstable(count);
        let limit = *limit;
        files.retain(|_, entry| entry.used > limit);
    }

    /// Closes a segment's files. Called once their names are gone: whoever opens them from here on finds none, or those
    /// of the next segment of that offset.
    pub(crate) fn forget_segment(&self, log: u64, base: Offset) {
        let mut inner = self.inner.lock();
        inner.forgotten += 1;
        for kind in FileKind::ALL {
            inner.files.remove(&FileKey { log, base, kind });
        }
    }

    /// Closes all files of a log, once its directory is gone.
    pub(crate) fn forget_log(&self, log: u64) {
        let mut inner = self.inner.lock();
        inner.forgotten += 1;
        inner.files.retain(|key, _| key.log != log);
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().files.len()
    }
}

#[cfg(test)]
mod tests {
    use tidemill_storage::fs::RealFs;

    use super::*;

    #[test]
    fn names_are_kafkas() {
        let tp = TopicPartition::new("a-b", PartitionId(12));
        let dir = partition_dir(Path::new("d"), &tp);
        assert_eq!(dir, Path::new("d/topics/a-b-12"));
        assert_eq!(parse_partition_dir("a-b-12"), Some(tp));
        assert_eq!(parse_partition_dir("a-b"), None);
        let file = segment_file(&dir, Offset(42), FileKind::TimeIndex);
        assert!(file.ends_with("00000000000000000042.timeindex"));
        let parse = |name| parse_segment_file(name, FileKind::Log);
        assert_eq!(parse("00000000000000000042.log"), Some(Offset(42)));
        assert_eq!(parse("42.log"), None);
        assert_eq!(parse("00000000000000000042.log.deleted"), None);
        assert_eq!(parse("00000000000000000042log"), None);
    }

    #[test]
    fn a_directory_says_whose_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let (mine, other) = (
            TopicId(uuid::Uuid::from_u128(1)),
            TopicId(uuid::Uuid::from_u128(2)),
        );
        assert_eq!(belongs_to(&RealFs, dir.path(), mine).expect("reads"), None);
        write_partition_metadata(&RealFs, dir.path(), mine).expect("writes");
        assert_eq!(
            belongs_to(&RealFs, dir.path(), mine).expect("reads"),
            Some(true)
        );
        assert_eq!(
            belongs_to(&RealFs, dir.path(), other).expect("reads"),
            Some(false)
        );
        let text = std::fs::read_to_string(dir.path().join(PARTITION_METADATA)).expect("text");
        assert_eq!(text, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n");
    }

    #[test]
    fn open_files_are_bounded_and_those_in_use_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = OpenFiles::new(16);
        let key = |base| FileKey {
            log: 1,
            base: Offset(base),
            kind: FileKind::Log,
        };
        let open = |base| {
            let path = segment_file(dir.path(), Offset(base), FileKind::Log);
            move || RealFs.open(&path, OpenMode::Create)
        };
        for base in 0..100 {
            files
                .get(key(base), base as u64 * 2, open(base))
                .expect("opens");
            let hot: Result<_, io::Error> = files.get(key(0), base as u64 * 2 + 1, || {
                panic!("the hot one stays open")
            });
            hot.expect("open");
            assert!(files.len() <= 16);
        }
        files.forget_log(1);
        assert_eq!(files.len(), 0);
    }

    #[test]
    fn a_file_that_was_opened_before_its_name_went_is_not_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = OpenFiles::new(16);
        let key = FileKey {
            log: 1,
            base: Offset(0),
            kind: FileKind::Log,
        };
        let path = segment_file(dir.path(), Offset(0), FileKind::Log);
        let old = files.get(key, 1, || {
            let old = RealFs.open(&path, OpenMode::CreateNew)?;
            RealFs.remove_file(&path)?;
            files.forget_segment(1, Offset(0));
            Ok::<_, io::Error>(old)
        });
        let new = files.get(key, 2, || RealFs.open(&path, OpenMode::CreateNew));
        let (old, new) = (old.expect("opens"), new.expect("opens"));
        assert!(!Arc::ptr_eq(&old, &new));
    }
}
