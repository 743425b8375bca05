//! The small files beside the log, each replaced as a whole: the snapshot of the state machine, and
//! where in the write-ahead log the log begins. Encoding and writing happen on a thread of their own, so
//! that neither applying nor serving waits for the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidemill_storage::atomic::{AtomicFileError, read_atomic, write_atomic};
use tidemill_storage::fs::Fs;
use tidemill_storage::spawn::{ThreadHandle, spawn_thread};
use tidemill_storage::wal::Lsn;
use tokio::sync::{mpsc, oneshot};

use super::codec::{get_log_id, get_stored_membership, put_log_id, put_stored_membership};
use super::{LogId, SnapshotMeta, StoredMembership};
use crate::codec::{DecodeError, Reader, Writer};
use crate::image::{MetadataImage, codec};

/// Name of the snapshot's file. Its format is what goes over the wire, too.
const SNAPSHOT: &str = "snapshot";
/// Name of the file with the start of the log.
const LOG_START: &str = "log-start";
/// Format of both.
const FORMAT: u32 = 1;

/// An encoded snapshot, as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SnapshotBytes(pub(crate) Bytes);

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SnapshotState {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) image: Arc<MetadataImage>,
}

impl SnapshotState {
    pub(crate) fn encode(&self) -> SnapshotBytes {
        let mut w = Writer::default();
        w.option(self.last.as_ref(), put_log_id);
        put_stored_membership(&mut w, &self.membership);
        w.raw(&codec::encode(&self.image));
        SnapshotBytes(w.finish().into())
    }

    pub(crate) fn decode(bytes: &SnapshotBytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&bytes.0);
        let last = r.option(get_log_id)?;
        let membership = get_stored_membership(&mut r)?;
        let image = Arc::new(codec::decode(&mut r)?);
        r.end()?;
        Ok(Self {
            last,
            membership,
            image,
        })
    }

    pub(crate) fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
        }
    }
}

/// The newest snapshot on disk.
#[derive(Debug, Clone)]
pub(crate) struct SavedSnapshot {
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: SnapshotBytes,
}

type Reply<T> = oneshot::Sender<io::Result<T>>;

enum Job {
    Save(SnapshotState, Reply<SavedSnapshot>),
    Store(SavedSnapshot, Reply<SavedSnapshot>),
    Load(Reply<Option<SavedSnapshot>>),
    SetLogStart(Lsn, Reply<()>),
    End,
}

/// The files; clones are handles to the same ones.
#[derive(Clone)]
pub(crate) struct MetaFiles {
    jobs: mpsc::UnboundedSender<Job>,
    bytes: Arc<AtomicUsize>,
}

impl MetaFiles {
    /// Starts the thread that keeps the files in `dir`. It ends with [`MetaFiles::end`] or the last
    /// handle.
    pub(crate) fn open(fs: Arc<dyn Fs>, dir: PathBuf) -> (Self, ThreadHandle) {
        let (jobs, queue) = mpsc::unbounded_channel();
        let bytes = Arc::new(AtomicUsize::new(0));
        let keeper = Keeper {
            fs,
            dir,
            kept: None,
            bytes: Arc::clone(&bytes),
        };
        let thread = spawn_thread("meta-files", move || keeper.work(queue));
        (Self { jobs, bytes }, thread)
    }

    /// Size of the snapshot, once it was read or written.
    pub(crate) fn snapshot_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Encodes and keeps a state, unless a newer one is kept already; durable when it returns. Returns
    /// what is kept.
    pub(crate) async fn save_snapshot(&self, state: SnapshotState) -> io::Result<SavedSnapshot> {
        self.run(|reply| Job::Save(state, reply)).await
    }

    /// Keeps a snapshot that a leader sent, in place of any other; durable when it returns.
    pub(crate) async fn store_snapshot(&self, saved: SavedSnapshot) -> io::Result<SavedSnapshot> {
        self.run(|reply| Job::Store(saved, reply)).await
    }

    /// Reads the snapshot.
    pub(crate) async fn load_snapshot(&self) -> io::Result<Option<SavedSnapshot>> {
        self.run(Job::Load).await
    }

    /// Notes that the log begins after `start`; durable when it returns.
    pub(crate) async fn set_log_start(&self, start: Lsn) -> io::Result<()> {
        self.run(|reply| Job::SetLogStart(start, reply)).await
    }

    /// Ends the thread; whoever asks for something later gets an error.
    pub(crate) fn end(&self) {
        // It may have ended already.
        let _ = self.jobs.send(Job::End);
    }

    async fn run<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let ended = |()| io::Error::other("the thread of the metadata files has ended");
        self.jobs.send(job(reply)).map_err(|_| ended(()))?;
        answer.await.map_err(|_| ended(()))?
    }
}

/// Where the log in `dir` begins: 0 unless [`MetaFiles::set_log_start`] has said otherwise.
pub(crate) fn log_start(fs: &dyn Fs, dir: &Path) -> Result<Lsn, AtomicFileError> {
    let path = dir.join(LOG_START);
    let bytes = match read_atomic(fs, &path, FORMAT) {
        Ok((_, bytes)) => bytes,
        Err(AtomicFileError::Missing { .. }) => return Ok(Lsn(0)),
        Err(error) => return Err(error),
    };
    let mut r = Reader::new(&bytes);
    let lsn = r.u64().and_then(|lsn| r.end().map(|()| Lsn(lsn)));
    lsn.map_err(|error| AtomicFileError::Io {
        path,
        source: io::Error::other(error),
    })
}

/// The one who touches the files.
struct Keeper {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    kept: Option<LogId>,
    bytes: Arc<AtomicUsize>,
}

impl Keeper {
    async fn work(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = queue.recv().await {
            // Whoever asked may be gone by now.
            match job {
                Job::Save(state, reply) => drop(reply.send(self.save(&state))),
                Job::Store(saved, reply) => drop(reply.send(self.store(saved))),
                Job::Load(reply) => drop(reply.send(self.load())),
                Job::SetLogStart(lsn, reply) => drop(reply.send(self.set_log_start(lsn))),
                Job::End => return,
            }
        }
    }

    fn save(&mut self, state: &SnapshotState) -> io::Result<SavedSnapshot> {
        // A snapshot from the leader may have come in while this one was on its way.
        if self.kept > state.last
            && let Some(newer) = self.load()?
        {
            return Ok(newer);
        }
        self.store(SavedSnapshot {
            meta: state.meta(),
            bytes: state.encode(),
        })
    }

    fn store(&mut self, saved: SavedSnapshot) -> io::Result<SavedSnapshot> {
        self.write(SNAPSHOT, &saved.bytes.0)?;
        self.note(&saved);
        Ok(saved)
    }

    fn load(&mut self) -> io::Result<Option<SavedSnapshot>> {
        let bytes = match read_atomic(&*self.fs, &self.dir.join(SNAPSHOT), FORMAT) {
            Ok((_, bytes)) => SnapshotBytes(bytes.into()),
            Err(AtomicFileError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let mut r = Reader::new(&bytes.0);
        let head = r
            .option(get_log_id)
            .and_then(|last| Ok((last, get_stored_membership(&mut r)?)));
        let (last_log_id, last_membership) = head.map_err(io::Error::other)?;
        let saved = SavedSnapshot {
            meta: SnapshotMeta {
                last_log_id,
                last_membership,
            },
            bytes,
        };
        self.note(&saved);
        Ok(Some(saved))
    }

    fn set_log_start(&self, lsn: Lsn) -> io::Result<()> {
        let mut w = Writer::default();
        w.u64(lsn.0);
        self.write(LOG_START, &w.finish())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_atomic(&*self.fs, &self.dir.join(name), FORMAT, bytes).map_err(io_error)
    }

    fn note(&mut self, saved: &SavedSnapshot) {
        self.kept = saved.meta.last_log_id;
        self.bytes.store(saved.bytes.0.len(), Ordering::Relaxed);
    }
}

/// Keeps the kind: who writes a snapshot waits for space.
fn io_error(error: AtomicFileError) -> io::Error {
    let kind = match &error {
        AtomicFileError::Io { source, .. } => source.kind(),
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
