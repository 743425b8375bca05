//! In a build for simulation: everything on one thread, and the same events every time.

use std::path::Path;

use futures_util::future::join_all;
use tidemill_storage::fs::SimFs;
use tokio::task::LocalSet;
use uuid::Uuid;

use super::*;
use crate::raft::peers::NoPeers;
use crate::testing::{create, register};

const DIR: &str = "/data";

/// What a node alone does to its disk, over a start, some proposals, a crash and another start.
async fn run() -> (u64, u64) {
    let fs = SimFs::new(3);
    fs.record_trace();
    let mut ids = 1..;
    let mut open = async |fs: &SimFs| {
        let config = MetadataConfig::new(Path::new(DIR), NodeId(1));
        let new_id = || Uuid::from_u128(ids.next().expect("endless"));
        let node = Metadata::open(Arc::new(fs.clone()), config, Arc::new(NoPeers), new_id).await;
        node.expect("opened")
    };
    let node = open(&fs).await;
    node.propose(register(1, 1)).await.expect("registered");
    let proposals = (1..50).map(|id| node.propose(create(&format!("t{id}"), id, &[&[1]])));
    assert!(
        join_all(proposals)
            .await
            .into_iter()
            .all(|result| result.is_ok())
    );
    node.raft.trigger().snapshot().await.expect("asked for");
    node.propose(create("last", 99, &[&[1]]))
        .await
        .expect("created");
    fs.crash();
    node.close().await;
    let rebooted = fs.reboot();
    let node = open(&rebooted).await;
    assert_eq!(node.image().topics().len(), 50);
    node.close().await;
    (fs.trace_hash(), rebooted.trace_hash())
}

#[test]
fn the_same_run_leaves_the_same_trace() {
    let traces: Vec<_> = (0..3)
        .map(|_| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, run())
        })
        .collect();
    assert!(
        traces.windows(2).all(|pair| pair[0] == pair[1]),
        "{traces:?}"
    );
}
