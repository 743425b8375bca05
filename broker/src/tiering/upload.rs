//! Uploading: what is due, and how it gets into the remote log.
//!
//! Build the object from the local log (every batch is verified on the way) → announce it → put it → commit it. An upload that
//! fails is kept and tried again with the same bytes under the same key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tidemill_log::{LogRead, ProducerSnapshot, ReadBuffers, ReadError, Uploadable};
use tidemill_metadata::{
    Command, ExtentReplacement, INLINE_EXTENTS_MAX, MetadataLog, Prepare, ProposeError, RemoteLog,
};
use tidemill_records::{
    BatchError, BatchRules, Extent, ObjectId, Offset, RecordBatch, RemoteObject,
};
use tidemill_tiered_store::StoreError;
use tidemill_tiered_store::footer::{Aborted, ExtentIdentity, Footer, FooterBuilder};
use tidemill_tiered_store::object;

use super::{Led, RemoteKey, Tier, led, outage};
use crate::broker::Broker;
use crate::partition::Isolation;

/// Uploads at the same time.
const UPLOADS_MAX: usize = 3;
/// One read of the local log.
const READ_BYTES: usize = 4 << 20;
/// Room in front of what was asked for, which a read of a file begins at an index entry for.
const READ_SLACK_BYTES: usize = 64 << 10;
/// Memory of reads that is kept between uploads.
const BUFFERS_KEPT_BYTES: usize = 96 << 20;
/// After a while without uploads it is given back.
pub(super) const BUFFERS_KEPT: Duration = Duration::from_secs(10);
/// After a failure the next attempt waits, twice as long each time up to this.
const RETRY_MAX: Duration = Duration::from_secs(30);
const RETRY_MIN: Duration = Duration::from_millis(500);
/// Producers that a footer remembers.
const PRODUCERS_MAX: usize = 10_000;

/// Why an upload did not succeed this time.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a batch of the local log is damaged: {0}; run `tidemill check`")]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Log(#[from] tidemill_log::LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metadata(#[from] ProposeError),
    #[error("the log no longer has what was to be uploaded, as it was then")]
    Changed,
    #[error("the footer of the extent before has producers that cannot be read: {0}")]
    Producers(#[from] tidemill_log::FormatError),
}

impl UploadError {
    /// Whether it is the store that fails, whatever is asked of it.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_outage())
    }
}

/// Memory for what uploads read.
pub(super) fn buffers() -> ReadBuffers {
    let buffer_bytes = READ_BYTES + READ_SLACK_BYTES;
    ReadBuffers::new(buffer_bytes, BUFFERS_KEPT_BYTES / buffer_bytes)
}

/// What is known of one partition's uploads between rounds.
#[derive(Default)]
pub(super) struct PartitionUpload {
    /// Since when something waits from this offset on.
    waits: Option<(Offset, Duration)>,
    /// The producers at the end of the remote log.
    snapshot: Option<(Offset, ProducerSnapshot)>,
    /// An object that is built and not committed.
    pending: Option<Pending>,
    /// Not to be tried before, after so many failures.
    retry_at: Duration,
    failures: u32,
    /// When it was tried last.
    tried_at: Duration,
}

/// An object on its way. Its batches are read again for each attempt: a store that is away must not fill the memory with them.
#[derive(Clone)]
struct Pending {
    object: RemoteObject,
    extent: Extent,
    footer: Arc<Footer>,
    /// What follows the batches.
    tail: Bytes,
    snapshot: ProducerSnapshot,
    is_announced: bool,
    is_put: bool,
}

impl Tier {
    /// Uploads what is due; true when something was committed.
    pub(super) async fn upload_round(&self, broker: &Arc<Broker>) -> bool {
        let now = broker.clock.monotonic();
        // What is in the tier can be trimmed: a disk that fills up waits for nothing.
        let is_pressed = broker.disk.is_pressed();
        let led = led(broker);
        let known: HashSet<RemoteKey> = led.iter().map(|led| led.key).collect();
        self.uploads.lock().retain(|key, _| known.contains(key));
        let mut due: Vec<Led> = led
            .into_iter()
            .filter(|led| self.is_due(led, now, is_pressed))
            .collect();
        let was_away = {
            let outage = self.outage.lock();
            if outage.is_waiting(now) {
                return false;
            }
            outage.is_on()
        };
        if was_away {
            // One finds out for all whether the store is back, each time another one.
            due.sort_by_key(|led| self.with_upload(led.key, |upload| upload.tried_at));
            due.truncate(1);
        } else {
            // Who has waited longest for the store comes first.
            due.sort_by_key(|led| {
                self.with_upload(led.key, |upload| upload.waits.map(|(_, since)| since))
            });
        }
        let uploads = stream::iter(due).map(|led| async move {
            if !was_away && self.outage.lock().is_on() {
                return false;
            }
            let result = self.upload(broker, &led).await;
            let ended = broker.clock.monotonic();
            self.with_upload(led.key, |upload| upload.note(&result, ended));
            match result {
                Ok(did_upload) => {
                    if did_upload {
                        self.counts.succeeded();
                        self.note_success();
                    }
                    did_upload
                }
                Err(error) => {
                    let partition = &led.partition.name;
                    match &error {
                        UploadError::Store(error) => {
                            self.counts.failed(error);
                            tracing::debug!(%partition, %error, "upload failed, will try again");
                        }
                        // No fault of the store's.
                        error => {
                            self.counts.refused();
                            tracing::warn!(%partition, %error, "upload failed, will try again");
                        }
                    }
                    if error.is_outage() {
                        self.note_failure(led.key, ended);
                    }
                    false
                }
            }
        });
        let results: Vec<bool> = uploads.buffer_unordered(UPLOADS_MAX).collect().await;
        results.contains(&true)
    }

    /// Notes that the store failed a partition. Whether it is away as a whole.
    pub(super) fn note_failure(&self, key: RemoteKey, now: Duration) -> bool {
        let mut outage = self.outage.lock();
        outage.note_failure(key, now);
        outage.is_on()
    }

    /// The store does what it is asked: whoever failed while it was away need not wait.
    fn note_success(&self) {
        let freed = self.outage.lock().note_success();
        let mut uploads = self.uploads.lock();
        for key in freed {
            if let Some(upload) = uploads.get_mut(&key) {
                upload.retry_at = Duration::ZERO;
            }
        }
    }

    /// Since when something of a partition waits, and from which offset on.
    pub(super) fn waits(&self, key: RemoteKey) -> Option<(Offset, Duration)> {
        self.uploads.lock().get(&key)?.waits
    }

    fn with_upload<R>(&self, key: RemoteKey, step: impl FnOnce(&mut PartitionUpload) -> R) -> R {
        step(self.uploads.lock().entry(key).or_default())
    }

    fn is_due(&self, led: &Led, now: Duration, is_pressed: bool) -> bool {
        let from = led.remote_end();
        let to = uploadable_end(led);
        let found = led.partition.log.uploadable(from, to);
        self.with_upload(led.key, |upload| {
            if upload.retry_at > now {
                return false;
            }
            if upload.pending.is_some() {
                return true;
            }
            if found.bytes == 0 || led.partition.log.config().remote_copy_disabled {
                upload.waits = None;
                return false;
            }
            let since = match upload.waits {
                Some((offset, since)) if offset == from => since,
                _ => now,
            };
            upload.waits = Some((from, since));
            is_pressed || self.is_enough(&found, now.saturating_sub(since))
        })
    }

    fn is_enough(&self, found: &Uploadable, waited: Duration) -> bool {
        found.bytes >= self.config.object_bytes_max.into()
            || (found.sealed_bytes > 0 && waited >= self.config.upload_merge_wait)
            || waited >= self.config.upload_max_lag
    }

    /// Uploads the next object; false when there is nothing to upload any more.
    async fn upload(&self, broker: &Broker, led: &Led) -> Result<bool, UploadError> {
        let start = led.partition.log.log_start_offset();
        if led.remote.as_ref().is_some_and(|remote| remote.end < start) {
            // Retention took what was not copied: the remote log goes on where this one begins.
            super::advance_log_start(broker, &led.partition, start).await?;
            return Ok(false);
        }
        if led
            .remote
            .as_ref()
            .is_some_and(|remote| remote.extent_count() + 1 >= INLINE_EXTENTS_MAX)
        {
            self.seal_page(broker, led).await?;
        }
        let pending = self.with_upload(led.key, |upload| upload.pending.clone());
        let (mut pending, batches) = match pending {
            Some(pending) => (pending, None),
            None => match self.build(broker, led).await? {
                Some((pending, batches)) => (pending, Some(batches)),
                None => return Ok(false),
            },
        };
        let keep = |pending: &Pending| {
            self.with_upload(led.key, |upload| upload.pending = Some(pending.clone()));
        };
        keep(&pending);
        if !pending.is_announced {
            if let Err(error) = self.announce(broker, led, pending.object).await {
                if matches!(error, ProposeError::Rejected(_)) {
                    self.with_upload(led.key, |upload| upload.pending = None);
                }
                return Err(error.into());
            }
            pending.is_announced = true;
            keep(&pending);
        }
        if !pending.is_put {
            let began = broker.clock.monotonic();
            let batches = match batches {
                Some(batches) => batches,
                None => match self.read_again(led, &pending) {
                    Ok(batches) => batches,
                    Err(error) => {
                        // What comes next begins anew.
                        self.with_upload(led.key, |upload| upload.pending = None);
                        return Err(error);
                    }
                },
            };
            let header = object::encode_header(self.store.cluster());
            let mut parts = vec![Bytes::copy_from_slice(&header)];
            parts.extend(batches);
            parts.push(pending.tail.clone());
            self.store.put(pending.object, parts).await?;
            self.counts.put(broker.clock.monotonic() - began);
            pending.is_put = true;
            keep(&pending);
        }
        match self.commit(broker, led, &pending).await {
            Ok(()) => {}
            Err(UploadError::Metadata(ProposeError::Rejected(rejection))) => {
                // It can never be committed as it is: what comes next begins anew.
                self.with_upload(led.key, |upload| upload.pending = None);
                expire(broker, vec![pending.object]).await?;
                return Err(UploadError::Metadata(ProposeError::Rejected(rejection)));
            }
            Err(error) => return Err(error),
        }
        let bytes = u64::from(pending.extent.length);
        tracing::debug!(
            partition = %led.partition.name, base = %pending.extent.base, end = %pending.extent.end, bytes,
            object = %pending.extent.object, "uploaded"
        );
        self.counts.committed(bytes);
        self.with_upload(led.key, |upload| {
            upload.snapshot = Some((pending.extent.end, pending.snapshot));
            upload.pending = None;
            upload.waits = None;
        });
        Ok(true)
    }

    pub(super) async fn announce(
        &self,
        broker: &Broker,
        led: &Led,
        object: RemoteObject,
    ) -> Result<(), ProposeError> {
        let prepare = Prepare {
            topic: led.key.0,
            partition: led.key.1,
            leader_epoch: led.leader_epoch,
        };
        let announced = broker
            .metadata
            .propose(Command::PrepareObject { object, prepare })
            .await;
        match announced {
            // Answered by nobody before, and taken all the same.
            Err(ProposeError::Rejected(_)) if is_announced(broker, &object, &prepare) => Ok(()),
            announced => announced.map(drop),
        }
    }

    async fn commit(
        &self,
        broker: &Broker,
        led: &Led,
        pending: &Pending,
    ) -> Result<(), UploadError> {
        let command = Command::ReplaceExtents(ExtentReplacement {
            topic: led.key.0,
            partition: led.key.1,
            leader_epoch: led.leader_epoch,
            expected_end: pending.extent.base,
            remove: Vec::new(),
            add: vec![pending.extent.clone()],
        });
        match broker.metadata.propose(command).await {
            Err(ProposeError::Rejected(_)) if is_committed(broker, led, &pending.extent) => Ok(()),
            committed => Ok(committed.map(drop)?),
        }
    }

    /// Makes an object of what comes next. None where there is nothing any more.
    async fn build(
        &self,
        broker: &Broker,
        led: &Led,
    ) -> Result<Option<(Pending, Vec<Bytes>)>, UploadError> {
        let log = &led.partition.log;
        let from = led.remote_end();
        let mut snapshot = self.snapshot_at(led, from).await?;
        let to = uploadable_end(led);
        // Nothing else makes what was written durable; what is written from here on waits for the next upload.
        if log.skips_wal() {
            log.sync()?;
        }
        let mut builder = FooterBuilder::new(from);
        let mut batches = Vec::new();
        let mut next = from;
        while next < to && builder.length() < self.config.object_bytes_max {
            let room = (self.config.object_bytes_max - builder.length()) as usize;
            let is_first = builder.length() == 0;
            let want = room.min(READ_BYTES);
            let read = log.read_into(&self.buffers, next, to, want, is_first)?;
            if read.bytes == 0 {
                break;
            }
            next = read.next;
            let bytes = self.joined(read);
            for batch in RecordBatch::parse_all(&bytes, BatchRules::Stored)? {
                builder.push_batch(&batch);
                snapshot.apply(&batch, PRODUCERS_MAX);
            }
            builder.push_bytes(&bytes);
            batches.push(bytes);
        }
        if builder.length() == 0 {
            return Ok(None);
        }
        let end = builder.end();
        let identity = ExtentIdentity {
            topic: led.key.0,
            partition: led.key.1,
            base: from,
            end,
        };
        let aborted = log
            .aborted_transactions(from, end)
            .into_iter()
            .map(|entry| Aborted {
                producer_id: entry.producer_id,
                first: entry.first_offset,
                last: entry.last_offset,
            });
        let epochs = builder.epochs().to_vec();
        let footer = builder.finish(
            identity,
            log.epochs_below(end),
            aborted.collect(),
            snapshot.encode().into(),
        );
        let id = ObjectId::new(broker.clock.now_ms(), broker.random.next_uuid().as_u128());
        let (extent, tail) = object::finish(id, &footer, &epochs);
        let pending = Pending {
            object: RemoteObject::Data(id),
            extent,
            footer: Arc::new(footer),
            tail: tail.into(),
            snapshot,
            is_announced: false,
            is_put: false,
        };
        Ok(Some((pending, batches)))
    }

    /// The batches of an object that was built before. They are not in the tier, so they are all here; a disk that gives other bytes
    /// now than it did then is noticed.
    fn read_again(&self, led: &Led, pending: &Pending) -> Result<Vec<Bytes>, UploadError> {
        let extent = &pending.extent;
        let mut batches = Vec::new();
        let mut next = extent.base;
        while next < extent.end {
            let log = &led.partition.log;
            let read = log.read_into(&self.buffers, next, extent.end, READ_BYTES, true)?;
            if read.bytes == 0 {
                break;
            }
            next = read.next;
            batches.push(self.joined(read));
        }
        match pending.footer.is_of(&batches) {
            true => Ok(batches),
            false => Err(UploadError::Changed),
        }
    }

    /// What was read, as one piece.
    fn joined(&self, read: LogRead) -> Bytes {
        match <[Bytes; 1]>::try_from(read.chunks) {
            Ok([one]) => one,
            Err(many) => {
                let mut buffer = self.buffers.take(read.bytes);
                let mut rest = buffer.space();
                for chunk in &many {
                    let (begin, after) = rest.split_at_mut(chunk.len());
                    begin.copy_from_slice(chunk);
                    rest = after;
                }
                buffer.freeze()
            }
        }
    }

    /// The producers at the end of the remote log: remembered, or from the footer of its last extent.
    async fn snapshot_at(&self, led: &Led, from: Offset) -> Result<ProducerSnapshot, UploadError> {
        let known = self.with_upload(led.key, |upload| upload.snapshot.clone());
        if let Some((_, snapshot)) = known.filter(|(end, _)| *end == from) {
            return Ok(snapshot);
        }
        let last = led
            .remote
            .as_ref()
            .and_then(|remote| remote.extents().pop());
        match last.filter(|last| last.end == from) {
            Some(last) => {
                let footer = self.store.footer(led.key.0, led.key.1, &last).await?;
                Ok(ProducerSnapshot::decode(&footer.producers)?)
            }
            // Nothing before it is in the tier.
            None => Ok(ProducerSnapshot::default()),
        }
    }

    /// Gives up what leaders of earlier epochs have announced: they are gone, and cannot commit it any more. So is what this one has
    /// announced and no longer holds. Nothing is under way while this runs.
    pub(super) async fn expire_stale_prepares(&self, broker: &Broker) {
        let image = broker.metadata.image();
        let held: HashSet<RemoteObject> = {
            let uploads = self.uploads.lock();
            let pending = uploads
                .values()
                .filter_map(|upload| upload.pending.as_ref());
            pending.map(|pending| pending.object).collect()
        };
        let is_stale = |object: &RemoteObject, prepare: &Prepare| {
            let topic = image.topic_by_id(prepare.topic);
            let state = topic.and_then(|topic| topic.partition(prepare.partition));
            state.is_none_or(|state| {
                state.leader_epoch != prepare.leader_epoch
                    || (state.leader == broker.node() && !held.contains(object))
            })
        };
        let stale = image
            .prepares()
            .filter(|(object, prepare)| is_stale(object, prepare));
        let objects: Vec<RemoteObject> = stale
            .map(|(object, _)| *object)
            .take(tidemill_metadata::limits::LOOSE_OBJECTS_PER_COMMAND_MAX)
            .collect();
        if objects.is_empty() {
            return;
        }
        let count = objects.len();
        match expire(broker, objects).await {
            Ok(()) => tracing::info!(count, "gave up uploads that were not finished"),
            Err(error) => tracing::warn!(%error, "cannot give up unfinished uploads now"),
        }
    }
}

impl PartitionUpload {
    fn note(&mut self, result: &Result<bool, UploadError>, now: Duration) {
        self.tried_at = now;
        match result {
            Ok(_) => self.failures = 0,
            Err(error) => {
                let longest = match error.is_outage() {
                    true => outage::RETRY_MAX,
                    false => RETRY_MAX,
                };
                self.retry_at = now + backoff(self.failures, longest);
                self.failures += 1;
            }
        }
    }
}

pub(super) fn backoff(failures: u32, longest: Duration) -> Duration {
    longest.min(RETRY_MIN * 2u32.pow(failures.min(10)))
}

pub(super) async fn expire(
    broker: &Broker,
    objects: Vec<RemoteObject>,
) -> Result<(), ProposeError> {
    let command = Command::ExpirePrepares { objects };
    broker.metadata.propose(command).await.map(drop)
}

/// What may be uploaded: durable here, on all in-sync replicas, and of decided transactions.
fn uploadable_end(led: &Led) -> Offset {
    let stable = led.partition.end_for(Isolation::Committed);
    stable.min(led.partition.log.durable_end_offset())
}

fn is_announced(broker: &Broker, object: &RemoteObject, prepare: &Prepare) -> bool {
    let image = broker.metadata.image();
    image
        .prepares()
        .any(|(known, found)| known == object && found == prepare)
}

fn is_committed(broker: &Broker, led: &Led, extent: &Extent) -> bool {
    let image = broker.metadata.image();
    let remote = image.remote_log(led.key.0, led.key.1);
    let has = |remote: &Arc<RemoteLog>| remote.extents().iter().any(|found| found == extent);
    remote.is_some_and(has)
}
