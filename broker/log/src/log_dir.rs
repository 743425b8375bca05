//! The log directory: all partitions of a broker behind one write-ahead log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tidemill_records::{Offset, TopicId, TopicPartition};
use tidemill_storage::clock::Clock;
use tidemill_storage::fs::{Fs, OpenMode};
use tidemill_storage::spawn::{ThreadHandle, spawn_thread};
use tidemill_storage::wal::{Wal, WalError};

use crate::checkpoint::{self, CheckpointError};
use crate::config::{LogConfig, LogDirConfig};
use crate::drain::{self, FileChangeKind};
use crate::error::LogError;
use crate::figures::LogDirFigures;
use crate::files::FileKind;
use crate::partition_log::PartitionLog;
use crate::recovery::{self, RecoveryReport};
use crate::shared::Shared;
use crate::state::State;
use crate::wal_entry::{Change, LogKey, WalEntry};

/// A broker's log directory. Dropping it without [`LogDir::close`] is a crash: the next start recovers.
pub struct LogDir {
    shared: Arc<Shared>,
    threads: Mutex<Vec<ThreadHandle>>,
}

impl LogDir {
    /// Opens the directory and recovers it: the checkpoint is read, and what the write-ahead log has beyond it is replayed.
    /// Blocks while it does. One directory has one opener at a time: the caller holds its lock.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time enabled.
    pub fn open(
        fs: Arc<dyn Fs>,
        config: LogDirConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<(Arc<LogDir>, RecoveryReport), LogError> {
        let recovered = recovery::recover(&fs, &config, &*clock)?;
        let shared = Arc::new(Shared::new(fs, clock, config, recovered.wal));
        shared.checkpoint.start_from(recovered.checkpoint_lsn);
        let weak = Arc::downgrade(&shared);
        shared.wal.set_on_durable(Box::new(move |lsn| {
            if let Some(shared) = weak.upgrade() {
                shared.on_durable(lsn);
            }
        }));
        let mut logs = shared.logs.change();
        for entry in recovered.partitions {
            let (partition, state) = (entry.partition, entry.state);
            let log = PartitionLog::new(
                shared.clone(),
                partition.clone(),
                entry.topic_id,
                state,
                entry.high_watermark,
            );
            logs.insert(partition, log);
        }
        drop(logs);
        if recovered.report.replayed_entries > 0 {
            shared.checkpoint.note_change(&shared.timer, &shared.config);
        }
        if recovered.topics_unsynced {
            shared.checkpoint.note_topics_unsynced();
        }
        let (for_drain, for_checkpoint) = (shared.clone(), shared.clone());
        let graveyard = recovered.graveyard;
        let threads = vec![
            spawn_thread("log-drain", move || drain::run(for_drain, graveyard)),
            spawn_thread("log-checkpoint", move || checkpoint::run(for_checkpoint)),
        ];
        let dir = LogDir {
            shared,
            threads: Mutex::new(threads),
        };
        Ok((Arc::new(dir), recovered.report))
    }

    /// The partition's log.
    pub fn get(&self, partition: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.shared.logs.get(partition)
    }

    /// All partitions, by topic and index.
    pub fn partitions(&self) -> Vec<Arc<PartitionLog>> {
        self.shared.logs.all()
    }

    /// Makes an empty log. It survives a crash from the moment that the write-ahead log is durable, as does what is appended to
    /// it; its files are made with its first records.
    pub fn create(
        &self,
        partition: TopicPartition,
        topic_id: TopicId,
        config: Arc<LogConfig>,
    ) -> Result<Arc<PartitionLog>, LogError> {
        let shared = &self.shared;
        let mut state = State::new(config, Offset::ZERO, shared.clock.now_ms());
        let key = LogKey {
            topic_id,
            partition: partition.partition,
        };
        let change = Change::Create {
            unlogged: state.unlogged,
            topic: &partition.topic,
        };
        let entry = WalEntry { key, change }.encode();
        let mut logs = shared.logs.change();
        if logs.contains_key(&partition) {
            return Err(LogError::Exists(partition));
        }
        state.last_lsn = shared.wal.append(&[std::io::IoSlice::new(&entry)])?;
        let zero = Offset::ZERO;
        let log = PartitionLog::new(shared.clone(), partition.clone(), topic_id, state, zero);
        logs.insert(partition, log.clone());
        drop(logs);
        log.note_changed();
        Ok(log)
    }

    /// Forgets a log at once; its files are removed in the background once the write-ahead log knows. Who still holds
    /// it can append no more.
    pub fn delete(&self, partition: &TopicPartition) -> Result<(), LogError> {
        self.forget(partition, false)
    }

    /// Like [`LogDir::delete`], but its files stay, in a directory of another name. For a log that is whole in its files, as after
    /// a start.
    pub fn put_aside(&self, partition: &TopicPartition) -> Result<(), LogError> {
        self.forget(partition, true)
    }

    fn forget(&self, partition: &TopicPartition, aside: bool) -> Result<(), LogError> {
        let mut logs = self.shared.logs.change();
        let log = logs.get(partition).cloned();
        let log = log.ok_or_else(|| LogError::NoSuchPartition(partition.clone()))?;
        log.with_state(|state| {
            let lsn = log.log_change(state, Change::Delete { aside })?;
            state.deleted = true;
            state.cuts += 1;
            let undrained = state.undrained_bytes();
            self.shared.sub_undrained(undrained);
            self.shared.sub_cached(state.tail.clear());
            let kind = match aside {
                true => FileChangeKind::PutAside,
                false => FileChangeKind::RemovePartition,
            };
            log.change_files(state, lsn, kind);
            Ok::<_, WalError>(())
        })?;
        logs.remove(partition);
        drop(logs);
        log.note_changed();
        Ok(())
    }

    /// Waits while too much is not durable, not drained, or not covered by a checkpoint. Call it before appending,
    /// which itself never waits.
    pub async fn admit(&self) -> Result<(), WalError> {
        self.shared.admit().await
    }

    /// The write-ahead log, for waiting until an append is durable.
    pub fn wal(&self) -> &Wal {
        &self.shared.wal
    }

    /// Takes a checkpoint now: all that is appended is in synced segment files when it returns.
    pub async fn checkpoint(&self) -> Result<(), CheckpointError> {
        self.shared.checkpoint.request().await
    }

    /// Applies retention to every partition; see [`PartitionLog::apply_retention`]. The first error ends it.
    pub fn apply_retention(&self, now_ms: i64) -> Result<(), LogError> {
        for log in self.partitions() {
            log.apply_retention(now_ms)?;
        }
        Ok(())
    }

    /// Drains, syncs, takes a checkpoint, and ends the threads: the next start reads only the checkpoint. The caller lets
    /// nobody append any more. On an error everything acknowledged is still in the write-ahead log.
    pub async fn close(&self) -> Result<(), CheckpointError> {
        let result = self.checkpoint().await;
        self.stop();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.join().await;
        }
        self.give_back_space();
        let closed = self.shared.wal.close().await;
        self.shared.logs.change().clear();
        result?;
        Ok(closed?)
    }

    /// What is reserved past the ends of active segments.
    fn give_back_space(&self) {
        for log in self.partitions() {
            let active = log.with_state(|state| {
                let active = state.active();
                (active.base, active.drained, active.allocated)
            });
            let (base, drained, allocated) = active;
            if allocated <= drained.into() {
                continue;
            }
            let path = log.segment_path(base, FileKind::Log);
            let file = self.shared.fs.open(&path, OpenMode::ReadWrite);
            if let Err(error) = file.and_then(|file| file.set_len(drained.into())) {
                tracing::debug!(path = %path.display(), %error, "cannot give back reserved space");
            }
        }
    }

    fn stop(&self) {
        self.shared.drain.stop();
        self.shared.checkpoint.stop();
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// Figures at this moment.
    pub fn figures(&self) -> LogDirFigures {
        let shared = &self.shared;
        let logs = shared.logs.all();
        let offline = logs.iter().filter(|log| log.offline().is_some());
        let counters = &shared.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        LogDirFigures {
            partitions: shared.logs.len(),
            offline_partitions: offline.count(),
            wal: shared.wal.stats(),
            undrained_bytes: shared.undrained_bytes(),
            cached_bytes: shared.cached_bytes(),
            drained_bytes: count(&counters.drained_bytes),
            drain_writes: count(&counters.drain_writes),
            drain_errors: count(&counters.drain_errors),
            file_syncs: count(&counters.file_syncs),
            file_reads: count(&counters.file_reads),
            file_read_bytes: count(&counters.file_read_bytes),
            open_files: shared.open_files.len(),
            checkpoints: count(&counters.checkpoints),
            checkpoint_errors: count(&counters.checkpoint_errors),
            failed: shared.has_failed(),
        }
    }
}

impl Drop for LogDir {
    fn drop(&mut self) {
        self.stop();
        // Partitions and what they share hold each other.
        self.shared.logs.change().clear();
        self.shared.forget_awaiting();
    }
}

#[cfg(test)]
mod tests;
