//! Raft's log on a write-ahead log of its own. Every write goes into one ordered stream, so what a
//! crash leaves is always a prefix of what happened. Nothing is reported as flushed before the disk
//! has it.

mod live;
mod records;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tidemill_storage::atomic::AtomicFileError;
use tidemill_storage::fs::Fs;
use tidemill_storage::wal::{Lsn, Wal, WalConfig, WalError, WalOpenError, WalStats};
use tokio::sync::mpsc;

use super::files::{MetaFiles, log_start};
use super::{Entry, LogId, TypeConfig, Vote};
use crate::identity::Identity;
use live::{Live, Stored};

pub use live::LogFault;
pub(super) use live::weight;

/// Name of the write-ahead log's directory.
const DIR: &str = "wal";
/// Metadata logs are short: a snapshot lets most of them go. Larger than any entry.
pub(crate) const FILE_BYTES: u64 = 16 << 20;
/// One message to a peer carries about so much.
const READ_BYTES_MAX: usize = 1 << 20;
/// How often a full disk is tried again.
const DISK_FULL_RETRY: Duration = Duration::from_millis(100);

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The write-ahead log, or what is in it.
    #[error("metadata log: {0}")]
    Wal(#[from] WalOpenError<LogFault>),
    /// The file that says where it begins.
    #[error(transparent)]
    Start(#[from] AtomicFileError),
}

/// The log; clones are handles to the same one.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    wal: Arc<Wal>,
    live: Mutex<Live>,
    /// Whether `live.identity` is not in the stream yet.
    identity_ahead: AtomicBool,
    /// Whether `live.committed` is not in the stream yet.
    committed_ahead: AtomicBool,
    closing: AtomicBool,
    /// Whether a write waits for space.
    lacks_space: AtomicBool,
    durable: mpsc::UnboundedSender<WhenDurable>,
}

/// What to do once the stream is durable up to an LSN.
struct WhenDurable {
    lsn: Lsn,
    action: Action,
}

enum Action {
    Report(IOFlushed<TypeConfig>),
    /// Nothing up to here is needed any more.
    StartAt(Lsn),
}

impl LogStore {
    /// Opens the log below `meta_dir` (empty when there is none). Must be called within a runtime.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        meta_dir: &Path,
        files: MetaFiles,
        file_bytes: u64,
    ) -> Result<Self, LogOpenError> {
        let config = WalConfig {
            file_bytes,
            spare_files_max: 1,
            ..WalConfig::new(meta_dir.join(DIR))
        };
        let start = log_start(&*fs, meta_dir)?;
        let mut live = Live::starting_at(start);
        let (wal, recovery) =
            Wal::open(fs, config, start, &mut |end, bytes| live.replay(end, bytes))?;
        live.check().map_err(WalOpenError::Visit)?;
        if recovery.torn {
            let end = recovery.end;
            tracing::warn!(%end, "the metadata log ended in entries that are not whole, and were cut off: nothing says that they were acknowledged");
        }
        tracing::debug!(?recovery, "metadata log opened");
        let wal = Arc::new(wal);
        let (durable, actions) = mpsc::unbounded_channel();
        tokio::spawn(act_when_durable(Arc::clone(&wal), files, actions));
        let shared = Shared {
            wal,
            live: Mutex::new(live),
            identity_ahead: AtomicBool::new(false),
            committed_ahead: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            lacks_space: AtomicBool::new(false),
            durable,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Whose log it is; `None` before [`LogStore::set_identity`].
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.shared.live.lock().identity
    }

    /// Marks a new log. It is written with the first vote or entry, or by [`LogStore::sync`].
    pub(crate) fn set_identity(&self, identity: Identity) {
        self.shared.live.lock().identity = Some(identity);
        self.shared.identity_ahead.store(true, Ordering::Release);
    }

    /// Waits until everything so far is durable.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        self.shared.write_ahead().await?;
        let end = self.shared.live.lock().end();
        self.shared.wait_durable(end).await
    }

    /// Whether nothing was ever decided here.
    pub(crate) fn is_empty(&self) -> bool {
        let live = self.shared.live.lock();
        live.vote.is_none() && live.last_log_id().is_none()
    }

    /// Takes a file of the write-ahead log ahead of need, in the background.
    pub(crate) fn preallocate_in_background(&self) {
        self.shared.wal.preallocate_in_background();
    }

    /// Figures of the write-ahead log.
    pub(crate) fn stats(&self) -> WalStats {
        self.shared.wal.stats()
    }

    /// Whether something waits for space on the disk.
    pub(crate) fn lacks_space(&self) -> bool {
        self.shared.lacks_space.load(Ordering::Acquire)
    }

    /// From now on a full disk is an error instead of a wait, so that shutting down ends.
    pub(crate) fn stop_waiting(&self) {
        self.shared.closing.store(true, Ordering::Release);
    }

    /// Makes everything durable and ends the log.
    pub(crate) async fn close(&self) -> Result<(), WalError> {
        self.stop_waiting();
        if let Err(error) = self.shared.write_ahead().await {
            tracing::warn!(%error, "the committed index was not written; a restart finds it again");
        }
        self.shared.wal.close().await
    }
}

/// Runs until every handle to the log is gone.
async fn act_when_durable(
    wal: Arc<Wal>,
    files: MetaFiles,
    mut actions: mpsc::UnboundedReceiver<WhenDurable>,
) {
    while let Some(WhenDurable { lsn, action }) = actions.recv().await {
        let result = wal.wait_durable(lsn).await.map_err(io::Error::other);
        match action {
            Action::Report(callback) => callback.io_completed(result),
            // Before the base record is durable nothing may go. If it never is, the log has failed.
            Action::StartAt(start) if result.is_ok() => match files.set_log_start(start).await {
                Ok(()) => wal.recycle_below(start),
                Err(error) => {
                    tracing::warn!(%error, "the metadata log keeps what it needs no more")
                }
            },
            Action::StartAt(_) => {}
        }
    }
}

impl Shared {
    /// Appends a record out of two parts and takes it up in memory, with where the record before it
    /// ends. Returns where it ends. A full disk is waited for: proposals time out meanwhile, while an
    /// error here would end Raft for good.
    async fn write(
        &self,
        head: &[u8],
        tail: &[u8],
        take_up: impl FnOnce(&mut Live, Lsn),
    ) -> io::Result<Lsn> {
        let end = loop {
            let appended = match self.wal.admit().await {
                Ok(()) => self.wal.append(&[IoSlice::new(head), IoSlice::new(tail)]),
                Err(error) => Err(error),
            };
            match appended {
                Err(WalError::DiskFull) if !self.closing.load(Ordering::Acquire) => {
                    if !self.lacks_space.swap(true, Ordering::AcqRel) {
                        tracing::error!("no space for the metadata log; waiting for some");
                    }
                    tokio::time::sleep(DISK_FULL_RETRY).await;
                }
                appended => break appended.map_err(io::Error::other)?,
            }
        };
        self.lacks_space.store(false, Ordering::Release);
        let mut live = self.live.lock();
        let before = live.written(end);
        take_up(&mut live, before);
        Ok(end)
    }

    async fn wait_durable(&self, end: Lsn) -> io::Result<()> {
        self.wal.wait_durable(end).await.map_err(io::Error::other)
    }

    /// Writes what was not worth a sync of its own, before something that is.
    async fn write_ahead(&self) -> io::Result<()> {
        if self.identity_ahead.swap(false, Ordering::AcqRel) {
            let identity = self.live.lock().identity;
            if let Some(identity) = identity {
                let record = records::encode_identity(&identity);
                self.write(&record, &[], |_, _| {}).await?;
            }
        }
        if self.committed_ahead.swap(false, Ordering::AcqRel) {
            let committed = self.live.lock().committed;
            if let Some(committed) = committed {
                let record = records::encode_committed(&committed);
                self.write(&record, &[], |_, _| {}).await?;
            }
        }
        Ok(())
    }

    fn when_durable(&self, lsn: Lsn, action: Action) {
        // The receiver lives as long as this sender, unless the runtime is gone with everything else.
        let _ = self.durable.send(WhenDurable { lsn, action });
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.shared.live.lock().range(range).cloned().collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.live.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += weight(entry);
            first || bytes <= READ_BYTES_MAX
        };
        Ok(self
            .shared
            .live
            .lock()
            .range(start..end)
            .take_while(fits)
            .cloned()
            .collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let live = self.shared.live.lock();
        Ok(LogState {
            last_purged_log_id: live.purged,
            last_log_id: live.last_log_id(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.shared.write_ahead().await?;
        let saved = self.shared.live.lock().vote;
        let record = records::encode_vote(vote);
        let end = self.shared.write(&record, &[], |_, _| {}).await?;
        // A vote promises not to vote for another in its term. When that promise is on disk already,
        // that it has won is only news: it may be lost with the entries that come after it.
        if saved.is_none_or(|saved| saved.leader_id != vote.leader_id) {
            self.shared.wait_durable(end).await?;
        }
        self.shared.live.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // Not worth a sync of its own: it goes out with the next entries, or at close.
        self.shared.live.lock().committed = committed;
        self.shared
            .committed_ahead
            .store(committed.is_some(), Ordering::Release);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.live.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.shared.write_ahead().await?;
        let mut end = None;
        for entry in entries {
            self.shared
                .live
                .lock()
                .accepts(&entry)
                .map_err(io::Error::other)?;
            let payload = entry.payload.clone();
            let (head, command) = records::encode_entry(&entry.log_id, &payload);
            let take_up = |live: &mut Live, before| live.push(Stored { before, entry });
            end = Some(self.shared.write(&head, command, take_up).await?);
        }
        match end {
            Some(lsn) => self.shared.when_durable(lsn, Action::Report(callback)),
            None => callback.io_completed(Ok(())),
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        // Needs no sync: whatever is appended after it comes later in the same stream.
        let record = records::encode_truncate(last_log_id.as_ref());
        let take_up = |live: &mut Live, _| live.truncate_after(last_log_id.as_ref());
        self.shared.write(&record, &[], take_up).await.map(drop)
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let base = {
            let mut live = self.shared.live.lock();
            live.purge(log_id);
            live.base()
        };
        let Some(base) = base else { return Ok(()) };
        let mut start = Lsn(0);
        let take_up = |live: &mut Live, before| start = live.start().unwrap_or(before);
        let end = self
            .shared
            .write(&records::encode_base(&base), &[], take_up)
            .await?;
        self.shared.when_durable(end, Action::StartAt(start));
        Ok(())
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
