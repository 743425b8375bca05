//! Consumer groups: one that commits from outside, and one with a member that joins, reads and commits.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tidemill_client::{FetchLimits, GroupConfig, GroupConsumer};
use tidemill_records::{Offset, PartitionId, TopicPartition};
use turmoil::Sim;

use super::lanes::{KEPT, PARTITIONS};
use super::stage::{Now, Shared, client};
use crate::choices::Choices;

/// Groups without members.
pub(super) const OUTSIDE: [&str; 3] = ["outside-a", "outside-b", "outside-c"];
/// The group with a member.
pub(super) const JOINED: &str = "joined";

const CALL_MAX: Duration = Duration::from_secs(20);

/// Registers the clients.
pub(super) fn start(sim: &mut Sim<'_>, shared: &Rc<Shared>, choices: &mut Choices) {
    for group in OUTSIDE {
        sim.client(
            group,
            commit_from_outside(group, shared.clone(), choices.fork()),
        );
    }
    sim.client(JOINED, read_as_member(shared.clone(), choices.fork()));
}

async fn commit_from_outside(
    group: &'static str,
    shared: Rc<Shared>,
    mut choices: Choices,
) -> turmoil::Result {
    let client = client(CALL_MAX);
    for next in 1.. {
        shared.until(Now::Working).await;
        let partition = choices.below(PARTITIONS as u64) as i32;
        let offsets = BTreeMap::from([(
            TopicPartition::new(KEPT, PartitionId(partition)),
            Offset(next),
        )]);
        note_tried(&shared, group, &offsets);
        let waits = shared.commit_waits();
        if client.set_committed_offsets(group, &offsets).await.is_ok() {
            note_acked(&shared, group, &offsets);
        }
        drop(waits);
        tokio::time::sleep(Duration::from_millis(choices.below(40))).await;
    }
    Ok(())
}

async fn read_as_member(shared: Rc<Shared>, mut choices: Choices) -> turmoil::Result {
    let mut config = GroupConfig::new(JOINED, vec![KEPT.to_owned()]);
    config.session_timeout = Duration::from_secs(6);
    config.rebalance_timeout = Duration::from_secs(6);
    config.heartbeat_interval = Duration::from_secs(1);
    config.limits = FetchLimits {
        wait_max: Duration::from_millis(50),
        partition_bytes_max: 4 << 10,
        ..FetchLimits::default()
    };
    loop {
        shared.until(Now::Working).await;
        let mut member = GroupConsumer::new(Arc::new(client(CALL_MAX)), config.clone());
        // Another member comes now and then, because this one is forgotten.
        for _ in 0..choices.between(5, 60) {
            if member.poll().await.is_err() {
                break;
            }
            // What was under way when the broker died goes on while the judge looks; nothing new begins.
            shared.until(Now::Working).await;
            if choices.percent(50) {
                let offsets = member.positions();
                note_tried(&shared, JOINED, &offsets);
                let waits = shared.commit_waits();
                match member.commit(&offsets).await {
                    Ok(true) => note_acked(&shared, JOINED, &offsets),
                    // The member is none any more, or nobody has answered.
                    Ok(false) | Err(_) => break,
                }
                drop(waits);
            }
            tokio::time::sleep(Duration::from_millis(choices.below(30))).await;
        }
        if choices.percent(50) {
            // Else the coordinator finds out by itself.
            let _ = member.leave().await;
        }
    }
}

fn note_tried(shared: &Shared, group: &str, offsets: &BTreeMap<TopicPartition, Offset>) {
    for (partition, offset) in offsets {
        let key = (group.to_owned(), partition.clone());
        tracing::debug!(group, %partition, %offset, "commit tried");
        shared
            .history_mut()
            .commits
            .entry(key)
            .or_default()
            .try_out(offset.0);
    }
}

fn note_acked(shared: &Shared, group: &str, offsets: &BTreeMap<TopicPartition, Offset>) {
    for (partition, offset) in offsets {
        let key = (group.to_owned(), partition.clone());
        tracing::debug!(group, %partition, %offset, "commit acknowledged");
        shared
            .history_mut()
            .commits
            .entry(key)
            .or_default()
            .ack(offset.0);
    }
}
