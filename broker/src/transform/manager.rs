//! Keeps one task running for each partition of a transform's source that this broker leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemill_metadata::{MetadataImage, MetadataLog};
use tidemill_records::PartitionId;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::figures::TaskKey;
use super::task::{Task, Wanted};
use crate::broker::Broker;

/// At the end of the broker tasks are waited for so long.
const LAST_COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// A task that runs.
struct Handle {
    wanted: watch::Sender<Wanted>,
    task: JoinHandle<()>,
}

/// Follows the metadata until the broker stops; then waits for the last commit of every task.
pub(super) async fn run(broker: Arc<Broker>, mut stopped: watch::Receiver<bool>) {
    let mut images = broker.metadata.watch();
    images.mark_changed();
    let mut running: BTreeMap<TaskKey, Handle> = BTreeMap::new();
    loop {
        tokio::select! {
            changed = images.changed() => if changed.is_err() { break },
            _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
        }
        let image = images.borrow_and_update().clone();
        // The partitions of this image are opened by another task.
        broker.partitions.wait_applied(image.index()).await;
        follow(&broker, &image, &mut running).await;
    }
    for handle in running.values() {
        handle.wanted.send_replace(None);
    }
    let deadline = Instant::now() + LAST_COMMIT_WITHIN;
    for ((transform, partition), mut handle) in running {
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

async fn follow(
    broker: &Arc<Broker>,
    image: &MetadataImage,
    running: &mut BTreeMap<TaskKey, Handle>,
) {
    let mut wanted = BTreeSet::new();
    for transform in image.transforms() {
        let count = image
            .topic(&transform.source)
            .map_or(0, |topic| topic.partition_count());
        for partition in (0..count).map(PartitionId) {
            let leads = image
                .topic(&transform.source)
                .and_then(|topic| topic.partition(partition))
                .is_some_and(|assigned| assigned.leader == broker.node());
            if !leads {
                continue;
            }
            let key = (transform.name.clone(), partition);
            wanted.insert(key.clone());
            match running.get(&key).filter(|held| !held.task.is_finished()) {
                Some(handle) => {
                    handle.wanted.send_if_modified(|before| {
                        let is_same = before
                            .as_ref()
                            .is_some_and(|before| Arc::ptr_eq(before, transform));
                        if !is_same {
                            *before = Some(transform.clone());
                        }
                        !is_same
                    });
                }
                None => {
                    let (send, receive) = watch::channel(Some(transform.clone()));
                    let task = Task {
                        broker: broker.clone(),
                        partition,
                        wanted: receive,
                        figures: broker.transforms.tasks.begin(key.clone()),
                    };
                    let task = tokio::spawn(task.run());
                    running.insert(key, Handle { wanted: send, task });
                }
            }
        }
    }
    let gone: Vec<TaskKey> = running
        .keys()
        .filter(|key| !wanted.contains(*key))
        .cloned()
        .collect();
    for key in gone {
        if let Some(handle) = running.remove(&key) {
            handle.wanted.send_replace(None);
            ended(handle.task).await;
            broker.transforms.tasks.end(&key);
        }
    }
}

async fn ended(task: JoinHandle<()>) {
    if task.await.is_err() {
        tracing::error!("a task of a transform ended by panic");
    }
}
