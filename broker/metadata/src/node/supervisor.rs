//! A small task beside Raft: it stops the clock of a group of one, and asks for snapshots when they are
//! due.

use std::sync::Arc;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::Notify;

use crate::raft::{Raft, TypeConfig};

/// Runs until Raft ends.
pub(super) async fn supervise(raft: Raft, snapshot_due: Arc<Notify>) {
    let mut metrics = raft.server_metrics();
    loop {
        let alone = leads_alone(&metrics.borrow_and_update());
        // Heartbeats and election timers serve other members; without any the node sleeps while
        // nothing happens.
        raft.runtime_config().tick(!alone);
        tokio::select! {
            biased;
            changed = metrics.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = snapshot_due.notified() => {
                if raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn leads_alone(metrics: &RaftServerMetrics<TypeConfig>) -> bool {
    let membership = metrics.membership_config.membership();
    metrics.state == ServerState::Leader && membership.nodes().count() == 1
}
