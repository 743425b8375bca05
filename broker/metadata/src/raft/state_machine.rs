//! Raft's state machine: the image. It lives in memory; snapshots and the log bring it back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use tidemill_storage::fs::is_disk_full;
use tokio::sync::{Notify, watch};

use super::files::{MetaFiles, SavedSnapshot, SnapshotBytes, SnapshotState};
use super::log_store::weight;
use super::{Applied, Entry, LogId, Payload, SnapshotMeta, StoredMembership, TypeConfig};
use crate::apply::apply;
use crate::command::Command;
use crate::image::MetadataImage;
use crate::level::MetadataLevel;

/// A snapshot is due when this much was applied since the last one, or as much as that one takes:
/// writing snapshots then costs no more than writing the log.
const SNAPSHOT_AFTER_BYTES: usize = 4 << 20;

/// How often a full disk is tried again.
const DISK_FULL_RETRY: Duration = Duration::from_secs(2);

pub(crate) struct StateMachine {
    /// What readers see; it is only ever replaced as a whole.
    published: watch::Sender<Arc<MetadataImage>>,
    last: Option<LogId>,
    membership: StoredMembership,
    files: MetaFiles,
    applied_bytes: usize,
    snapshot_due: Arc<Notify>,
}

impl StateMachine {
    /// An empty state machine; openraft itself brings in the snapshot and the log.
    pub(crate) fn new(
        published: watch::Sender<Arc<MetadataImage>>,
        files: MetaFiles,
        snapshot_due: Arc<Notify>,
    ) -> Self {
        Self {
            published,
            last: None,
            membership: StoredMembership::default(),
            files,
            applied_bytes: 0,
            snapshot_due,
        }
    }

    fn take(&mut self, image: &mut MetadataImage, entry: &Entry) -> io::Result<Applied> {
        self.last = Some(entry.log_id);
        self.applied_bytes += weight(entry);
        let index = entry.log_id.index;
        match &entry.payload {
            Payload::Blank => image.index = index,
            Payload::Membership(membership) => {
                image.index = index;
                self.membership = StoredMembership::new(self.last, membership.clone());
            }
            Payload::Normal(command) => {
                let command = Command::decode(&command.0).map_err(io::Error::other)?;
                let (next, result) = apply(image, index, &command);
                *image = next;
                check_level(image)?;
                return Ok(Some(result));
            }
        }
        Ok(None)
    }

    fn notice_size(&mut self) {
        if self.applied_bytes >= SNAPSHOT_AFTER_BYTES.max(self.files.snapshot_bytes()) {
            self.applied_bytes = 0;
            self.snapshot_due.notify_one();
        }
    }
}

/// The image has a level that this release does not understand: it must not guess.
#[derive(Debug, thiserror::Error)]
#[error("metadata.version {0} is finalised and this release understands up to {ours}: run a later one", ours = MetadataLevel::LATEST)]
struct LevelTooHigh(MetadataLevel);

fn check_level(image: &MetadataImage) -> io::Result<()> {
    if image.level > MetadataLevel::LATEST {
        return Err(io::Error::other(LevelTooHigh(image.level)));
    }
    Ok(())
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut image = MetadataImage::clone(&self.published.borrow());
        let mut answers = Vec::new();
        while let Some((entry, responder)) = entries.try_next().await? {
            let applied = self.take(&mut image, &entry)?;
            answers.extend(responder.map(|responder| (responder, applied)));
        }
        // Who gets an answer reads an image that holds what was answered.
        self.published.send_replace(Arc::new(image));
        answers
            .into_iter()
            .for_each(|(responder, applied)| responder.send(applied));
        self.notice_size();
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let state = SnapshotState {
            last: self.last,
            membership: self.membership.clone(),
            image: Arc::clone(&self.published.borrow()),
        };
        SnapshotBuilder {
            state,
            files: self.files.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> io::Result<()> {
        let state = SnapshotState::decode(&snapshot).map_err(io::Error::other)?;
        check_level(&state.image)?;
        let saved = self.files.load_snapshot().await?;
        // At a start this very snapshot comes back from the disk.
        if saved.is_none_or(|saved| saved.meta != *meta) {
            self.files
                .store_snapshot(SavedSnapshot {
                    meta: meta.clone(),
                    bytes: snapshot,
                })
                .await?;
        }
        self.last = state.last;
        self.membership = state.membership;
        self.applied_bytes = 0;
        self.published.send_replace(state.image);
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<CommittedLeaderId, u64, super::RaftNode, SnapshotBytes>>> {
        let saved = self.files.load_snapshot().await?;
        Ok(saved.map(|saved| Snapshot {
            meta: saved.meta,
            snapshot: saved.bytes,
        }))
    }
}

type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;

/// Writes one view of the state machine.
pub(crate) struct SnapshotBuilder {
    state: SnapshotState,
    files: MetaFiles,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(
        &mut self,
    ) -> io::Result<Snapshot<CommittedLeaderId, u64, super::RaftNode, SnapshotBytes>> {
        let saved = loop {
            match self.files.save_snapshot(self.state.clone()).await {
                // An error would end Raft for good, and a full disk passes.
                Err(error) if is_disk_full(&error) => {
                    tracing::error!(%error, "no space for a metadata snapshot; waiting for some");
                    tokio::time::sleep(DISK_FULL_RETRY).await;
                }
                saved => break saved?,
            }
        };
        Ok(Snapshot {
            meta: saved.meta,
            snapshot: saved.bytes,
        })
    }
}
