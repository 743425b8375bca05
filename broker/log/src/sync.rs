//! Syncing what the drain has written: what makes a checkpoint true.

use std::io;
use std::path::PathBuf;

use tidemill_records::Offset;
use tidemill_storage::fs::OpenMode;

use crate::files::{FileKind, sync_partition_dir};
use crate::partition_log::PartitionLog;
use crate::segment::{Segment, Unsynced};
use crate::shared::Counters;

/// A file or directory that cannot be synced. What was written to it may be lost, whatever a later sync says.
#[derive(Debug, thiserror::Error)]
#[error("cannot sync {}: {source}", .path.display())]
pub struct SyncError {
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl PartitionLog {
    /// Syncs the files that were written since they were last synced.
    pub(crate) fn sync_files(&self) -> Result<(), SyncError> {
        // One at a time, so that nobody takes for synced what another is still syncing.
        let _syncing = self.syncing.lock();
        let (segments, dir, cuts) = self.with_state(|state| {
            let dirty = state
                .segments
                .iter_mut()
                .filter(|segment| segment.unsynced.any());
            let dirty: Vec<_> = dirty.map(take_unsynced).collect();
            state.unflushed_records = 0;
            (dirty, std::mem::take(&mut state.dir_unsynced), state.cuts)
        });
        for (base, unsynced) in segments {
            let flags = [unsynced.log, unsynced.index, unsynced.time];
            let kinds = FileKind::ALL.into_iter().zip(flags);
            for (kind, _) in kinds.filter(|(_, dirty)| *dirty) {
                self.sync_file(base, kind, cuts)?;
            }
        }
        if dir {
            let path = self.dir();
            let synced = sync_partition_dir(&*self.shared.fs, &path);
            synced.map_err(|source| SyncError { path, source })?;
        }
        Ok(())
    }

    fn sync_file(&self, base: Offset, kind: FileKind, cuts: u64) -> Result<(), SyncError> {
        let path = self.segment_path(base, kind);
        let open = || self.shared.fs.open(&path, OpenMode::ReadWrite);
        let synced = self.open_or(base, kind, open).and_then(|file| {
            Counters::add(&self.shared.counters.file_syncs, 1);
            file.sync_data()
        });
        match synced {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_gone(base, cuts) => {
                Ok(())
            }
            synced => synced.map_err(|source| SyncError { path, source }),
        }
    }

    /// Whether retention, deletion or a cut has taken a segment since `State::cuts` was `cuts`. After a cut another
    /// may begin at the same offset, whose file is not there yet.
    fn is_gone(&self, base: Offset, cuts: u64) -> bool {
        self.with_state(|state| {
            state.deleted || state.cuts != cuts || state.segment_mut(base).is_none()
        })
    }
}

fn take_unsynced(segment: &mut Segment) -> (Offset, Unsynced) {
    (segment.base, std::mem::take(&mut segment.unsynced))
}
