//! Keeps one task running for each partition of a transform's source that this broker leads.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tidemill_metadata::{MetadataImage, MetadataLog, TransformImage};
use tidemill_records::PartitionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::figures::TaskKey;
use super::task::{Task, Wanted};
use crate::broker::Broker;

/// At the end of the broker tasks are waited for so long.
const LAST_COMMIT_WITHIN: Duration = Duration::from_secs(10);
/// A task that panicked begins again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A task that runs.
struct Handle {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
    /// Told to end, and not begun again before it has: each at its own pace, so that nobody waits for another.
    is_ending: bool,
}

struct Manager {
    broker: Arc<Broker>,
    tasks: BTreeMap<TaskKey, Handle>,
    ended: mpsc::UnboundedSender<TaskKey>,
}

/// Follows the metadata until the broker stops; then waits for the last commit of every task.
pub(super) async fn run(broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    let mut images = broker.metadata.watch();
    images.mark_changed();
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut manager = Manager {
        broker,
        tasks: BTreeMap::new(),
        ended,
    };
    loop {
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            Some(key) = ends.recv() => {
                let ended = manager.tasks.remove(&key);
                if ended.is_some_and(|handle| handle.is_ending) {
                    manager.broker.transforms.tasks.end(&key);
                }
            }
            _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
        }
        let image = images.borrow_and_update().clone();
        // The partitions of this image are opened by another task.
        manager.broker.partitions.wait_applied(image.index()).await;
        manager.follow(&image);
    }
    let deadline = Instant::now() + LAST_COMMIT_WITHIN;
    for handle in manager.tasks.values() {
        handle.wanted.send_replace(None);
    }
    for ((transform, partition), mut handle) in manager.tasks {
        if tokio::time::timeout_at(deadline, &mut handle.task)
            .await
            .is_err()
        {
            // What it has written comes again after the start.
            tracing::warn!(%transform, %partition, "a task has not committed in time and is dropped");
            handle.task.abort();
        }
    }
}

impl Manager {
    fn follow(&mut self, image: &MetadataImage) {
        let mut wanted = BTreeSet::new();
        for transform in image.transforms() {
            let source = image.topic(&transform.source);
            let count = source.map_or(0, |topic| topic.partition_count());
            for partition in (0..count).map(PartitionId) {
                let leads = source
                    .and_then(|topic| topic.partition(partition))
                    .is_some_and(|assigned| assigned.leader == self.broker.node());
                if leads {
                    let key = (transform.name.clone(), partition);
                    wanted.insert(key.clone());
                    self.keep(key, transform);
                }
            }
        }
        let is_gone = |key: &TaskKey| !wanted.contains(key);
        for (_, handle) in self.tasks.iter_mut().filter(|(key, _)| is_gone(key)) {
            handle.wanted.send_replace(None);
            handle.is_ending = true;
        }
        // Those that panicked, and were not wanted any more when that was known.
        for (key, _) in self.broker.transforms.tasks.all() {
            if is_gone(&key) && !self.tasks.contains_key(&key) {
                self.broker.transforms.tasks.end(&key);
            }
        }
    }

    /// Makes sure that a task runs, and knows what is wanted of it.
    fn keep(&mut self, key: TaskKey, transform: &Arc<TransformImage>) {
        if let Some(handle) = self.tasks.get(&key) {
            if handle.is_ending {
                return;
            }
            handle.wanted.send_if_modified(|before| {
                let same = |before: &Arc<TransformImage>| Arc::ptr_eq(before, transform);
                let is_same = before.as_ref().is_some_and(same);
                if !is_same {
                    *before = Some(transform.clone());
                }
                !is_same
            });
            return;
        }
        let (send, receive) = watch::channel(Some(transform.clone()));
        let task = Task {
            broker: self.broker.clone(),
            partition: key.1,
            wanted: receive,
            figures: self.broker.transforms.tasks.begin(key.clone()),
        };
        let task = tokio::spawn(run_to_the_end(task, key.clone(), self.ended.clone()));
        let handle = Handle {
            wanted: send,
            task,
            is_ending: false,
        };
        self.tasks.insert(key, handle);
    }
}

/// Runs a task, and says when it has ended: as it was told to, or by a panic, after which it begins again at its committed offset.
async fn run_to_the_end(task: Task, key: TaskKey, ended: mpsc::UnboundedSender<TaskKey>) {
    let ran = AssertUnwindSafe(task.run()).catch_unwind().await;
    if ran.is_err() {
        tracing::error!(transform = %key.0, partition = %key.1, "a task ended by panic and begins again");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
    // The manager itself may have ended.
    let _ = ended.send(key);
}
