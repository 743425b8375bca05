//! Threads are shared out by what was used: who loops does not keep the others away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{HOSTILE, IDENTITY, Rig, records};
use crate::{Limits, Share};

#[test]
fn a_quiet_task_gets_through_beside_looping_ones_on_one_thread() {
    let rig = Rig::with(64, 1);
    let is_over = Arc::new(AtomicBool::new(false));
    let limits = Limits {
        time: Duration::from_secs(3600),
        ..Limits::default()
    };
    let mut looping: Vec<_> = (0..8).map(|_| rig.runner(HOSTILE, &[], limits)).collect();
    let mut identity = rig.runner(IDENTITY, &[], Limits::default());
    let loops: Vec<Arc<Share>> = looping.iter().map(|tester| tester.share.clone()).collect();
    let mut calls = Vec::new();
    for tester in &mut looping {
        let mut runner = tester.runner.take().unwrap();
        let share = tester.share.clone();
        let workers = rig.host.workers().clone();
        let is_over = is_over.clone();
        calls.push(async move {
            let stuck = records(1, &[(0, "loop")]);
            let call = async move {
                runner
                    .run(&stuck, tidemill_records::TimestampType::CreateTime)
                    .await
            };
            let done = workers.run(&share, call).await;
            assert!(
                is_over.load(Ordering::SeqCst) && done.is_err(),
                "it ends with its threads"
            );
        });
    }
    let local = tokio::task::LocalSet::new();
    for call in calls {
        local.spawn_local(call);
    }
    rig.runtime.block_on(local.run_until(async {
        while loops.iter().any(|share| share.used().is_zero()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }));
    for _ in 0..20 {
        assert_eq!(identity.all(&records(100, &[])).0.len(), 100);
    }
    let used: Vec<Duration> = loops.iter().map(|share| share.used()).collect();
    let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
    assert!(
        *most < *least * 3 + Duration::from_millis(20),
        "they share alike: {used:?}"
    );
    is_over.store(true, Ordering::SeqCst);
    rig.host.workers().stop();
    rig.runtime.block_on(local);
}
