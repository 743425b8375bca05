//! Nodes alone, and groups of nodes whose messages go through a router in memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use tidemill_records::{LeaderEpoch, Offset, PartitionId, TopicId};
use tidemill_storage::fs::{Fs, RealFs, SimFaults, SimFs};
use uuid::Uuid;

use super::*;
use crate::identity::IdentityError;
use crate::raft::log_store::FILE_BYTES;
use crate::raft::peers::{NoPeers, PeerError, PeerTransport};
use crate::testing::remote::{Leader, extent};
use crate::testing::{create, register, topic_id};

const DIR: &str = "/data";

/// Carries requests between the nodes of one test.
#[derive(Default)]
struct Router {
    nodes: Mutex<HashMap<NodeId, Weak<Metadata>>>,
    /// Nodes that nothing reaches and nothing comes from.
    cut_off: Mutex<BTreeSet<NodeId>>,
    /// Requests that a node has answered.
    answered: AtomicU64,
}

/// One node's end of it.
struct RouterEnd {
    router: Arc<Router>,
    from: NodeId,
}

impl PeerTransport for RouterEnd {
    fn call(
        &self,
        peer: Peer,
        request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let router = Arc::clone(&self.router);
        let from = self.from;
        Box::pin(async move {
            let passes = || {
                !router
                    .cut_off
                    .lock()
                    .iter()
                    .any(|node| [from, peer.node].contains(node))
            };
            let node = router.nodes.lock().get(&peer.node).and_then(Weak::upgrade);
            let node = node.filter(|_| passes()).ok_or_else(|| {
                PeerError::Unreachable(std::io::ErrorKind::ConnectionRefused.into())
            })?;
            let answer = node.handle_peer(&request).await;
            router.answered.fetch_add(1, Ordering::Relaxed);
            if !passes() {
                std::future::pending::<()>().await;
            }
            Ok(answer)
        })
    }
}

/// A group of nodes, each on a simulated disk of its own.
struct Group {
    router: Arc<Router>,
    cluster_id: Uuid,
    disks: BTreeMap<NodeId, SimFs>,
    nodes: BTreeMap<NodeId, Arc<Metadata>>,
    starts: u128,
    /// Hashes of all images that anybody has seen, by index.
    hashes: Arc<Mutex<BTreeMap<u64, u64>>>,
}

impl Group {
    async fn of_one() -> Self {
        let mut group = Self {
            router: Arc::default(),
            cluster_id: Uuid::from_u128(99),
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
            starts: 0,
            hashes: Arc::default(),
        };
        group.start(1).await;
        group
    }

    async fn of_three() -> Self {
        let mut group = Self::of_one().await;
        for id in [2, 3] {
            group.start(id).await;
            group
                .node(1)
                .add_learner(group.peer(id))
                .await
                .expect("added");
        }
        let voters = [1, 2, 3].map(NodeId).into();
        group.node(1).set_voters(&voters).await.expect("promoted");
        group
    }

    fn node(&self, id: i32) -> &Arc<Metadata> {
        &self.nodes[&NodeId(id)]
    }

    fn peer(&self, id: i32) -> Peer {
        let directory = self.node(id).identity().directory;
        Peer {
            node: NodeId(id),
            directory,
            host: format!("host{id}"),
            port: 9093,
        }
    }

    /// Starts a node on its disk; node 1 forms the cluster, the others join it.
    async fn start(&mut self, id: i32) {
        let disk = self
            .disks
            .entry(NodeId(id))
            .or_insert_with(|| SimFs::new(id as u64))
            .clone();
        let mut config = MetadataConfig::new(DIR, NodeId(id));
        config.heartbeat = Duration::from_millis(50);
        config.propose_deadline = Duration::from_secs(20);
        if id != 1 {
            config.formation = Formation::Join(self.cluster_id);
        }
        let transport = RouterEnd {
            router: Arc::clone(&self.router),
            from: NodeId(id),
        };
        self.starts += 1;
        let mut ids = [Uuid::from_u128(self.starts), self.cluster_id].into_iter();
        let new_id = move || ids.next().expect("two ids are drawn");
        let node = Metadata::open(Arc::new(disk), config, Arc::new(transport), new_id).await;
        let node = Arc::new(node.expect("the node opens"));
        self.router
            .nodes
            .lock()
            .insert(NodeId(id), Arc::downgrade(&node));
        tokio::spawn(compare_hashes(node.watch(), Arc::clone(&self.hashes)));
        self.nodes.insert(NodeId(id), node);
    }

    /// Ends a node as a crash would: with its disk gone from one moment to the next.
    async fn kill(&mut self, id: i32) {
        let node = self.nodes.remove(&NodeId(id)).expect("it runs");
        self.router.nodes.lock().remove(&NodeId(id));
        let disk = self.disks.get_mut(&NodeId(id)).expect("it has a disk");
        disk.crash();
        *disk = disk.reboot();
        node.close().await;
    }

    /// Proposes to whoever leads, until somebody takes it.
    async fn propose(&self, command: Command) -> Outcome {
        loop {
            for node in self.nodes.values() {
                match node.propose(command.clone()).await {
                    Ok(outcome) => return outcome,
                    Err(ProposeError::Rejected(Rejection::TopicExists(id))) => {
                        return Outcome::TopicCreated(id);
                    }
                    Err(ProposeError::NotController { .. } | ProposeError::OutcomeUnknown) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn create_topics(&self, names: std::ops::Range<u128>) {
        for id in names {
            self.propose(create(&format!("topic{id}"), id + 1, &[&[1]]))
                .await;
        }
    }

    async fn leader(&self) -> i32 {
        loop {
            for (id, node) in &self.nodes {
                if node.barrier().await.is_ok() {
                    return id.0;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until all nodes have the same image.
    async fn settle(&self) {
        let index = self.node(self.leader().await).image().index();
        for node in self.nodes.values() {
            let mut images = node.watch();
            images
                .wait_for(|image| image.index() >= index)
                .await
                .expect("it follows");
        }
        let hashes: BTreeSet<u64> = self
            .nodes
            .values()
            .map(|node| node.image().hash())
            .collect();
        assert_eq!(hashes.len(), 1, "replicas agree");
    }

    async fn close(self) {
        join_all(self.nodes.values().map(|node| node.close())).await;
    }
}

async fn compare_hashes(
    mut images: watch::Receiver<Arc<MetadataImage>>,
    hashes: Arc<Mutex<BTreeMap<u64, u64>>>,
) {
    let mut last = 0;
    while images.changed().await.is_ok() {
        let image = Arc::clone(&images.borrow_and_update());
        assert!(image.index() >= last, "an image never goes back");
        last = image.index();
        let hash = image.hash();
        let known = *hashes.lock().entry(last).or_insert(hash);
        // A panic here would end this task only: leave a mark that every later comparison trips over.
        if known != hash {
            hashes.lock().insert(u64::MAX, last);
        }
    }
}

fn assert_all_agreed(group: &Group) {
    let hashes = group.hashes.lock();
    assert_eq!(
        hashes.get(&u64::MAX),
        None,
        "two replicas differ at an index"
    );
    assert!(hashes.len() > 10, "there was something to compare");
}

async fn open_alone(fs: Arc<dyn Fs>, dir: &Path, node: i32) -> Result<Metadata, OpenError> {
    let config = MetadataConfig::new(dir, NodeId(node));
    Metadata::open(fs, config, Arc::new(NoPeers), Uuid::new_v4).await
}

#[tokio::test]
async fn a_node_alone_leads_at_once_and_finds_everything_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || open_alone(Arc::new(RealFs), dir.path(), 7);
    let node = open().await.expect("opened");
    let identity = node.identity();
    assert_eq!(node.controller(), Some(NodeId(7)));
    assert_eq!(node.image().cluster_id(), identity.cluster_id);
    node.propose(register(7, 1)).await.expect("registered");
    let created = node
        .propose(create("t", 1, &[&[7]]))
        .await
        .expect("created");
    assert_eq!(created, Outcome::TopicCreated(topic_id(1)));
    assert!(
        node.image().topic("t").is_some(),
        "what was answered is seen"
    );
    let again = node
        .propose(create("t", 2, &[&[7]]))
        .await
        .expect_err("it exists");
    assert!(matches!(
        again,
        ProposeError::Rejected(Rejection::TopicExists(_))
    ));
    node.barrier().await.expect("it leads");
    let (image, hash) = (node.image(), node.image().hash());
    node.close().await;
    let closed = node
        .propose(create("u", 3, &[&[7]]))
        .await
        .expect_err("closed");
    assert!(matches!(closed, ProposeError::Shutdown), "{closed:?}");
    drop(node);

    for _ in 0..2 {
        let node = open().await.expect("opened again");
        assert_eq!(node.identity(), identity);
        assert!(node.image().index() > image.index(), "a new term has begun");
        let found = MetadataImage {
            index: image.index(),
            ..MetadataImage::clone(&node.image())
        };
        assert_eq!((found.hash(), found), (hash, MetadataImage::clone(&image)));
        node.close().await;
    }
}

#[tokio::test]
async fn a_command_that_could_not_be_read_back_never_reaches_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = open_alone(Arc::new(RealFs), dir.path(), 7)
        .await
        .expect("opened");
    let leader = Leader {
        topic: topic_id(1),
        partition: PartitionId(0),
        epoch: LeaderEpoch(0),
    };
    // What a log that begins inside a batch would give: an epoch that starts before its extent.
    let mut extent = extent(1, 10, 20, leader.epoch);
    extent.epochs[0].start = Offset(5);
    let refused = node
        .propose(leader.append(vec![extent]))
        .await
        .expect_err("no such extent");
    let is_malformed = matches!(refused, ProposeError::Rejected(Rejection::Malformed(_)));
    assert!(is_malformed, "{refused:?}");
    node.propose(register(7, 1)).await.expect("the log goes on");
    node.close().await;
}

#[tokio::test]
async fn a_directory_that_is_not_this_nodes_is_refused() {
    let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
    let dir = Path::new(DIR);
    let refused = |error: OpenError| match error {
        OpenError::Identity(error) => error,
        other => panic!("{other}"),
    };
    let node = open_alone(Arc::clone(&fs), dir, 1).await.expect("opened");
    let identity = node.identity();
    node.close().await;
    let error = refused(
        open_alone(Arc::clone(&fs), dir, 2)
            .await
            .err()
            .expect("node 1's"),
    );
    let text = error.to_string();
    assert!(matches!(error, IdentityError::OtherNode { .. }), "{text}");
    assert!(
        text.contains("belongs to node 1") && text.contains("--node-id 1"),
        "{text}"
    );

    // Without the file the log still knows whose it is.
    fs.remove_file(&dir.join("meta.properties"))
        .expect("removed");
    let error = refused(
        open_alone(Arc::clone(&fs), dir, 2)
            .await
            .err()
            .expect("node 1's"),
    );
    assert!(matches!(error, IdentityError::OtherNode { .. }), "{error}");
    let node = open_alone(Arc::clone(&fs), dir, 1).await.expect("opened");
    assert_eq!(node.identity(), identity);
    node.close().await;
    let written = Identity::read(&*fs, dir)
        .expect("read")
        .expect("written again");
    assert_eq!(written, identity);

    let other = Identity {
        directory: Uuid::from_u128(5),
        ..identity
    };
    other.write(&*fs, dir).expect("written");
    let error = refused(
        open_alone(Arc::clone(&fs), dir, 1)
            .await
            .err()
            .expect("swapped"),
    );
    assert!(matches!(error, IdentityError::Mixed { .. }), "{error}");

    identity.write(&*fs, dir).expect("written");
    fs.remove_dir_all(&dir.join("meta")).expect("removed");
    let error = refused(
        open_alone(Arc::clone(&fs), dir, 1)
            .await
            .err()
            .expect("wiped"),
    );
    assert!(matches!(error, IdentityError::LogLost { .. }), "{error}");
}

#[tokio::test]
async fn many_proposals_at_once_share_syncs() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = open_alone(Arc::new(RealFs), dir.path(), 1)
        .await
        .expect("opened");
    node.propose(register(1, 1)).await.expect("registered");
    let before = node.log_stats().fsyncs;
    let proposals = (0..500u128).map(|id| node.propose(create(&format!("t{id}"), id + 1, &[&[1]])));
    for result in join_all(proposals).await {
        result.expect("created");
    }
    assert_eq!(node.image().topics().len(), 500);
    let syncs = node.log_stats().fsyncs - before;
    assert!(syncs < 100, "{syncs} syncs for 500 proposals");
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_and_a_third_node_join_and_the_group_survives_its_leader() {
    let mut group = Group::of_one().await;
    group.propose(register(1, 1)).await;
    group.create_topics(0..10).await;
    group.start(2).await;
    assert_eq!(group.node(2).image().index(), 0, "it waits to be added");
    group
        .node(1)
        .add_learner(group.peer(2))
        .await
        .expect("added");
    let (voters, members) = group.node(1).members();
    assert_eq!(voters, [NodeId(1)].into());
    assert_eq!(members[&NodeId(2)], group.peer(2));
    group.create_topics(10..20).await;
    group.start(3).await;
    group
        .node(1)
        .add_learner(group.peer(3))
        .await
        .expect("added");
    let voters = [1, 2, 3].map(NodeId).into();
    group.node(1).set_voters(&voters).await.expect("promoted");
    group.settle().await;
    assert_eq!(group.node(3).image().topics().len(), 20);

    let leader = group.leader().await;
    assert_eq!(leader, 1);
    group.kill(leader).await;
    group.create_topics(20..30).await;
    let next = group.leader().await;
    assert_ne!(next, leader);
    let on_follower = if next == 2 { 3 } else { 2 };
    let refused = group
        .node(on_follower)
        .propose(create("no", 999, &[&[1]]))
        .await;
    match refused {
        Err(ProposeError::NotController { leader }) => assert_eq!(leader, Some(NodeId(next))),
        other => panic!("{other:?}"),
    }

    group.start(leader).await;
    group.settle().await;
    assert_eq!(group.node(leader).image().topics().len(), 30);
    assert_all_agreed(&group);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_commits_nothing_and_comes_back_as_a_follower() {
    let group = Group::of_three().await;
    group.propose(register(1, 1)).await;
    group.create_topics(0..5).await;
    group.settle().await;
    let old = group.leader().await;
    group.router.cut_off.lock().insert(NodeId(old));
    let lost = group.node(old).propose(create("lost", 999, &[&[1]]));
    let others = async {
        let rest: Vec<_> = [1, 2, 3].into_iter().filter(|id| *id != old).collect();
        loop {
            for id in &rest {
                let taken = group.node(*id).propose(create("kept", 500, &[&[1]])).await;
                if taken.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (lost, ()) = tokio::join!(lost, async {
        others.await;
        group.router.cut_off.lock().clear();
    });
    assert!(
        matches!(
            lost,
            Err(ProposeError::OutcomeUnknown | ProposeError::NotController { .. })
        ),
        "{lost:?}"
    );
    group.settle().await;
    assert!(group.node(old).image().topic("kept").is_some());
    assert!(group.node(old).image().topic("lost").is_none());
    assert_all_agreed(&group);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_far_behind_gets_a_snapshot() {
    let mut group = Group::of_one().await;
    group.propose(register(1, 1)).await;
    group.create_topics(0..400).await;
    let node = Arc::clone(group.node(1));
    node.raft.trigger().snapshot().await.expect("asked for");
    let mut metrics = node.raft.metrics();
    metrics
        .wait_until(|metrics| metrics.snapshot.is_some())
        .await
        .expect("written");
    let upto = node.image().index();
    node.raft
        .trigger()
        .purge_log(upto)
        .await
        .expect("asked for");
    metrics
        .wait_until(|metrics| metrics.purged.is_some())
        .await
        .expect("purged");
    drop(metrics);
    drop(node);

    group.start(2).await;
    group
        .node(1)
        .add_learner(group.peer(2))
        .await
        .expect("added");
    group.create_topics(400..410).await;
    group.settle().await;
    assert_eq!(group.node(2).image().topics().len(), 410);
    let installed = group.node(2).raft.metrics().borrow_watched().snapshot;
    assert!(
        installed.is_some_and(|snapshot| snapshot.index > 400),
        "{installed:?}"
    );

    // Both go on from their snapshots.
    for id in [2, 1] {
        group.kill(id).await;
        group.start(id).await;
    }
    group.create_topics(410..420).await;
    group.settle().await;
    assert_eq!(group.node(2).image().topics().len(), 420);
    assert_all_agreed(&group);
    group.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_when_asked() {
    let group = Group::of_three().await;
    group.propose(register(1, 1)).await;
    assert_eq!(group.leader().await, 1);
    group.settle().await;
    group
        .node(1)
        .transfer_leadership(NodeId(3))
        .await
        .expect("asked for");
    while group.leader().await != 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    group.create_topics(0..3).await;
    group.settle().await;
    group.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_disk_is_not_believed_to_be_the_member() {
    let mut group = Group::of_one().await;
    group.start(2).await;
    let mut other = group.peer(2);
    group
        .node(1)
        .add_learner(other.clone())
        .await
        .expect("added");
    other.directory = Uuid::from_u128(12345);
    let refused = group.node(1).add_learner(other).await;
    assert!(
        matches!(refused, Err(MemberError::OtherDirectory(NodeId(2)))),
        "{refused:?}"
    );
    let unknown = group.node(1).set_voters(&[1, 5].map(NodeId).into()).await;
    assert!(
        matches!(unknown, Err(MemberError::UnknownMember(NodeId(5)))),
        "{unknown:?}"
    );

    // The node comes back with an empty disk: what is sent to the member is not for it.
    group.kill(2).await;
    group.disks.remove(&NodeId(2));
    group.start(2).await;
    group.propose(register(1, 1)).await;
    group.create_topics(0..3).await;
    let reached = group.router.answered.load(Ordering::Relaxed);
    while group.router.answered.load(Ordering::Relaxed) < reached + 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = group.node(2).image().index();
    assert_eq!(seen, 0, "nothing of the log has reached the wiped disk");
    group.close().await;
}

#[tokio::test]
async fn a_group_of_one_sleeps_while_nothing_happens() {
    let fs = SimFs::new(1);
    let node = open_alone(Arc::new(fs.clone()), Path::new(DIR), 1)
        .await
        .expect("opened");
    node.propose(register(1, 1)).await.expect("registered");
    // Let everything end that the proposal has set in motion.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let runtime = tokio::runtime::Handle::current().metrics();
    let (ops, parks) = (fs.ops(), runtime.worker_park_count(0));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fs.ops(), ops);
    let parks = runtime.worker_park_count(0) - parks;
    assert!(parks <= 3, "the runtime woke up {parks} times");
    node.close().await;
}

#[tokio::test]
async fn a_failed_disk_ends_it_loudly() {
    let fs = SimFs::new(1);
    let node = open_alone(Arc::new(fs.clone()), Path::new(DIR), 1)
        .await
        .expect("opened");
    node.propose(register(1, 1)).await.expect("registered");
    let fail_sync_at = Some(fs.syncs() + 1);
    fs.set_faults(SimFaults {
        fail_sync_at,
        ..SimFaults::default()
    });
    let failed = node
        .propose(create("t", 1, &[&[1]]))
        .await
        .expect_err("the disk failed");
    assert!(matches!(failed, ProposeError::Fatal(_)), "{failed:?}");
    assert!(
        node.failed()
            .await
            .to_string()
            .contains("metadata log has stopped")
    );
    assert!(node.image().topic("t").is_none());
    let later = node
        .propose(create("t", 1, &[&[1]]))
        .await
        .expect_err("it stays failed");
    assert!(matches!(later, ProposeError::Fatal(_)), "{later:?}");
    node.close().await;
}

/// Proposes topics until the power goes, then starts again: what was answered must be there. Gives
/// how many were answered.
async fn crash_once(seed: u64, lying: bool) -> Result<usize, TopicId> {
    let fs = SimFs::new(seed);
    let crash_at_op = Some(1 + seed % 150);
    fs.set_faults(SimFaults {
        crash_at_op,
        syncs_lie: lying,
        ..SimFaults::default()
    });
    let mut acked = Vec::new();
    if let Ok(node) = open_alone(Arc::new(fs.clone()), Path::new(DIR), 1).await {
        if node.propose(register(1, 1)).await.is_ok() {
            for id in 1..100u128 {
                if id % 20 == 0 {
                    let _ = node.raft.trigger().snapshot().await;
                    let _ = node
                        .raft
                        .trigger()
                        .purge_log(node.image().index() / 2)
                        .await;
                }
                match node.propose(create(&format!("t{id}"), id, &[&[1]])).await {
                    Ok(_) => acked.push(topic_id(id)),
                    Err(_) => break,
                }
            }
        }
        node.close().await;
    }
    let rebooted = fs.reboot();
    let mut hash = None;
    for _ in 0..2 {
        let node = open_alone(Arc::new(rebooted.clone()), Path::new(DIR), 1).await;
        let Ok(node) = node else {
            // Only a lying disk may leave nothing that can be started.
            assert!(lying, "seed {seed}: {}", node.err().expect("it failed"));
            return Err(TopicId::ZERO);
        };
        let image = node.image();
        if let Some(lost) = acked.iter().find(|id| image.topic_by_id(**id).is_none()) {
            return Err(*lost);
        }
        let found = MetadataImage {
            index: 0,
            ..MetadataImage::clone(&image)
        }
        .hash();
        assert_eq!(
            *hash.get_or_insert(found),
            found,
            "seed {seed}: a second start differs"
        );
        node.close().await;
    }
    Ok(acked.len())
}

#[tokio::test]
async fn a_power_loss_takes_no_topic_that_was_answered() {
    let mut acked = 0;
    for seed in 0..300 {
        acked += crash_once(seed, false)
            .await
            .unwrap_or_else(|lost| panic!("{seed}: {lost} lost"));
    }
    assert!(acked > 1_000, "only {acked} topics were created in all");
}

#[tokio::test]
async fn a_disk_that_lies_about_syncs_is_noticed_by_that_test() {
    for seed in 0..300 {
        if crash_once(seed, true).await.is_err() {
            return;
        }
    }
    panic!("300 crashes without a working sync lost nothing: the test sees nothing");
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let fs = SimFs::new(1);
    // Space for one file of the log and little else.
    let full = SimFaults {
        capacity_bytes: Some(FILE_BYTES + (1 << 20)),
        ..SimFaults::default()
    };
    fs.set_faults(full);
    let mut config = MetadataConfig::new(DIR, NodeId(1));
    config.propose_deadline = Duration::from_millis(500);
    let node = Metadata::open(
        Arc::new(fs.clone()),
        config,
        Arc::new(NoPeers),
        Uuid::new_v4,
    )
    .await;
    let node = node.expect("opened");
    let value: Arc<str> = "v".repeat(30 << 10).into();
    let mut unknown = 0;
    for _ in 0..FILE_BYTES as usize / value.len() + 100 {
        let resource = crate::ConfigResource::DefaultBroker;
        let changes = vec![("k".into(), Some(Arc::clone(&value)))];
        match node
            .propose(Command::SetConfigs { resource, changes })
            .await
        {
            Ok(_) => {}
            Err(ProposeError::OutcomeUnknown) => {
                unknown += 1;
                if unknown == 3 {
                    fs.set_faults(SimFaults::default());
                }
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(unknown, 3, "it was full, and then it was not");
    node.barrier().await.expect("it leads on");
    node.close().await;
}
