//! The coordinator over a log in memory, with a clock that the tests move.

mod durability;
mod loading;
mod offsets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::ErrorCode;
use tidemill_records::{LeaderEpoch, PartitionId};
use tidemill_storage::clock::{Clock, ManualClock};
use uuid::Uuid;

use super::classic::{
    GroupState, JoinRequest, LeavingMember, Protocol, SyncReply, SyncRequest, Terms,
};
use super::log::CoordinatorRecord;
use super::offsets::CommittedOffset;
use super::shard::{Commit, Committer};
use super::testing::{MemoryLog, START_MS};
use super::{GroupCoordinator, partition_of};
use crate::config::GroupConfig;

const PARTITION: PartitionId = PartitionId(0);

/// A coordinator of one partition, which every group belongs to.
struct Fixture {
    groups: Arc<GroupCoordinator>,
    log: Arc<MemoryLog>,
    clock: Arc<ManualClock>,
    epoch: i32,
}

impl Fixture {
    fn new() -> Self {
        Self::with(settings(), MemoryLog::new())
    }

    fn with(settings: GroupConfig, log: Arc<MemoryLog>) -> Self {
        let clock = Arc::new(ManualClock::new(START_MS));
        let groups = Arc::new(GroupCoordinator::new(settings, clock.clone()));
        let mut fixture = Self {
            groups,
            log,
            clock,
            epoch: 0,
        };
        fixture.lead();
        fixture
    }

    fn lead(&mut self) {
        self.epoch += 1;
        self.groups
            .lead(PARTITION, LeaderEpoch(self.epoch), 1, self.log.clone());
    }

    /// What another coordinator makes of the log as it is now.
    async fn reloaded(&self) -> Self {
        let fixture = Self::with(settings(), MemoryLog::of(self.log.records()));
        fixture.loaded().await;
        fixture
    }

    /// Lets time pass, in steps in which every timer fires when it is due.
    async fn advance(&self, by: Duration) {
        let end = self.clock.monotonic() + by;
        loop {
            let waits = self
                .groups
                .shards()
                .into_iter()
                .filter_map(|shard| shard.fire_due());
            let wait = waits.min().unwrap_or(by);
            // What the timers left is stored, and whoever they answered goes on.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            let now = self.clock.monotonic();
            if now >= end {
                return;
            }
            self.clock.advance(wait.min(end - now));
        }
    }

    async fn loaded(&self) {
        // A thread reads the log.
        while self.groups.visit(|_, _| {}) == Err(ErrorCode::CoordinatorLoadInProgress) {
            tokio::task::yield_now().await;
        }
    }

    async fn join(&self, group: &str, client: &str) -> super::JoinReply {
        self.groups.join(group, request(client, "")).await
    }

    /// Takes one member through a whole rebalance; gives its id and generation.
    async fn settle(&self, group: &str, client: &str) -> (Arc<str>, i32) {
        let joined = self.join(group, client).await.expect("joined");
        self.sync(group, &joined.member_id, joined.generation)
            .await
            .expect("synced");
        (joined.member_id, joined.generation)
    }

    async fn sync(&self, group: &str, member_id: &Arc<str>, generation: i32) -> SyncReply {
        self.groups
            .sync(group, sync_request(member_id, generation))
            .await
    }

    async fn commit(&self, group: &str, offset: i64) -> Result<(), ErrorCode> {
        self.groups
            .commit(group, &nobody(), vec![commit("flights", 0, offset)])
            .await
    }

    async fn committed(&self, group: &str) -> Option<i64> {
        self.read(group, false).await
    }

    async fn read(&self, group: &str, require_stable: bool) -> Option<i64> {
        let read = |offsets: Option<&super::GroupOffsets>| {
            Some(offsets?.get("flights", PartitionId(0))?.offset)
        };
        self.groups
            .with_offsets(group, require_stable, read)
            .await
            .expect("this is the coordinator")
    }

    fn state(&self, group: &str) -> Option<GroupState> {
        let state = |group: Option<&super::Group>| group.map(|group| group.classic.state());
        self.groups
            .with_group(group, state)
            .expect("this is the coordinator")
    }

    fn all_offsets(&self) -> BTreeMap<(String, String, i32), i64> {
        let mut all = BTreeMap::new();
        self.groups
            .visit_committed(|group, topic, partition, offset| {
                all.insert((group.to_owned(), topic.to_owned(), partition.0), offset);
            });
        all
    }
}

fn settings() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay: Duration::ZERO,
        ..GroupConfig::default()
    }
}

fn nobody() -> Committer {
    Committer {
        member_id: "".into(),
        group_instance_id: None,
        generation: -1,
    }
}

fn member(member_id: &Arc<str>, generation: i32) -> Committer {
    Committer {
        member_id: member_id.clone(),
        group_instance_id: None,
        generation,
    }
}

fn commit(topic: &str, partition: i32, offset: i64) -> Commit {
    let committed = CommittedOffset {
        offset,
        leader_epoch: LeaderEpoch(3),
        metadata: "note".into(),
        committed_at_ms: START_MS,
        expires_at_ms: None,
        topic_id: Uuid::nil(),
    };
    Commit {
        topic: topic.into(),
        partition: PartitionId(partition),
        committed,
    }
}

/// An old client, so that one request is enough.
fn request(client: &str, member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        group_instance_id: None,
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        protocol_type: "consumer".into(),
        terms: Terms {
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(30),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: subscription(&["flights"]),
            }],
        },
        new_member_id: format!("{client}-id").into(),
        requires_known_member_id: false,
        supports_skipping_assignment: false,
        reason: "".into(),
    }
}

fn sync_request(member_id: &Arc<str>, generation: i32) -> SyncRequest {
    SyncRequest {
        member_id: member_id.clone(),
        group_instance_id: None,
        generation,
        protocol_type: None,
        protocol_name: None,
        assignments: BTreeMap::from([(member_id.clone(), Bytes::from_static(b"all"))]),
    }
}

fn subscription(topics: &[&str]) -> Bytes {
    use tidemill_protocol::consumer_protocol_subscription::ConsumerProtocolSubscription;
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    let subscription = ConsumerProtocolSubscription {
        topics,
        ..Default::default()
    };
    tidemill_protocol::encode_versioned(&subscription, 0).expect("a valid subscription")
}

#[test]
fn groups_hash_as_in_kafka() {
    // From Kafka 4.2's own Utils.abs(id.hashCode()).
    let known = [
        ("", 0, 0),
        ("group", 15, 47),
        ("my-consumer-group", 9, 13),
        ("grüppe-😀", 4, 14),
        ("_tidemill.transform.x", 9, 33),
    ];
    for (group, of_16, of_50) in known {
        let found = (partition_of(group, 16), partition_of(group, 50));
        assert_eq!(found, (PartitionId(of_16), PartitionId(of_50)), "{group}");
    }
    // Its hash is the smallest number, which has no positive counterpart.
    assert_eq!(partition_of("polygenelubricants", 7), PartitionId(0));
}

#[tokio::test]
async fn two_members_share_a_group() {
    let fixture = Fixture::new();
    let (a, generation) = fixture.settle("g", "a").await;
    assert_eq!(generation, 1);
    let groups = fixture.groups.clone();
    let second = tokio::spawn(async move { groups.join("g", request("b", "")).await });
    tokio::task::yield_now().await;
    let told = fixture.groups.heartbeat("g", &a, None, 1);
    assert_eq!(told, Err(ErrorCode::RebalanceInProgress));
    let first = fixture
        .groups
        .join("g", request("a", &a))
        .await
        .expect("joined");
    let second = second.await.expect("no panic").expect("joined");
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(first.members.len(), 2);
    let follower = fixture.groups.clone();
    let waiting = second.member_id.clone();
    let follower = tokio::spawn(async move {
        let mut request = sync_request(&waiting, 2);
        request.assignments.clear();
        follower.sync("g", request).await
    });
    tokio::task::yield_now().await;
    assert_eq!(
        fixture.sync("g", &a, 2).await.expect("synced").assignment,
        "all"
    );
    assert_eq!(
        follower
            .await
            .expect("no panic")
            .expect("synced")
            .assignment,
        Bytes::new()
    );
    let figures = fixture.groups.figures();
    assert_eq!(
        (
            figures.members,
            figures.groups_by_state[&GroupState::Stable]
        ),
        (2, 1)
    );
}

#[tokio::test]
async fn sessions_end_by_the_clock() {
    let fixture = Fixture::new();
    let (a, _) = fixture.settle("g", "a").await;
    fixture.advance(Duration::from_millis(9_990)).await;
    assert_eq!(fixture.groups.heartbeat("g", &a, None, 1), Ok(()));
    fixture.advance(Duration::from_millis(9_990)).await;
    assert_eq!(fixture.state("g"), Some(GroupState::Stable));
    fixture.advance(Duration::from_millis(50)).await;
    assert_eq!(fixture.state("g"), Some(GroupState::Empty));
}

#[tokio::test]
async fn timer_that_is_set_later_may_fire_earlier() {
    let fixture = Fixture::new();
    let (a, _) = fixture.settle("g", "a").await;
    let mut newcomer = request("b", "");
    newcomer.requires_known_member_id = true;
    newcomer.terms.session_timeout = Duration::from_secs(6);
    fixture
        .groups
        .join("g", newcomer)
        .await
        .expect_err("id first");
    let groups = fixture.groups.clone();
    let rejoining = tokio::spawn(async move { groups.join("g", request("a", &a)).await });
    fixture.advance(Duration::from_millis(5_999)).await;
    assert!(!rejoining.is_finished(), "the newcomer may come back");
    fixture.advance(Duration::from_millis(1)).await;
    assert!(rejoining.is_finished());
}

#[tokio::test]
async fn requests_are_checked_before_they_reach_a_group() {
    let fixture = Fixture::new();
    let code = |reply: super::JoinReply| reply.expect_err("refused").code;
    assert_eq!(code(fixture.join("", "a").await), ErrorCode::InvalidGroupId);
    for timeout in [
        Duration::from_millis(5_999),
        Duration::from_millis(1_800_001),
    ] {
        let mut request = request("a", "");
        request.terms.session_timeout = timeout;
        let reply = fixture.groups.join("g", request).await;
        assert_eq!(code(reply), ErrorCode::InvalidSessionTimeout);
    }
    let known = fixture.groups.join("g", request("a", "somebody")).await;
    assert_eq!(code(known), ErrorCode::UnknownMemberId);
    assert_eq!(fixture.state("g"), None, "no request has made a group");
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(fixture.groups.heartbeat("g", "a", None, 0), Err(unknown));
    assert_eq!(
        fixture.groups.heartbeat("", "a", None, 0),
        Err(ErrorCode::InvalidGroupId)
    );
    assert_eq!(fixture.sync("g", &"a".into(), 0).await, Err(unknown));
    let leaving = LeavingMember {
        member_id: "a".into(),
        group_instance_id: None,
        reason: "".into(),
    };
    assert_eq!(
        fixture.groups.leave("g", &[leaving]),
        Ok(vec![Err(unknown)])
    );
}

#[tokio::test]
async fn group_that_never_formed_is_forgotten() {
    let fixture = Fixture::new();
    let mut newcomer = request("a", "");
    newcomer.requires_known_member_id = true;
    let refusal = fixture
        .groups
        .join("g", newcomer)
        .await
        .expect_err("id first");
    assert_eq!(refusal.code, ErrorCode::MemberIdRequired);
    assert_eq!(fixture.state("g"), Some(GroupState::Empty));
    fixture.advance(Duration::from_secs(11)).await;
    assert_eq!(fixture.state("g"), None);
    assert_eq!(fixture.groups.figures().memory_bytes, 0);
    assert_eq!(fixture.log.records(), []);
}

#[tokio::test]
async fn groups_take_no_more_memory_than_allowed() {
    let bounded = GroupConfig {
        memory_bytes_max: 8_000,
        ..settings()
    };
    let fixture = Fixture::with(bounded, MemoryLog::new());
    let (member_id, generation) = fixture.settle("member", "a").await;
    let large = |length: usize| {
        let mut large = commit("flights", 1, 1);
        large.committed.metadata = "x".repeat(length).into();
        vec![large]
    };
    let refused = fixture
        .groups
        .commit("simple", &nobody(), large(8_000))
        .await;
    assert_eq!(refused, Err(ErrorCode::InvalidCommitOffsetSize));
    assert_eq!(fixture.state("simple"), None);
    assert_eq!(
        fixture
            .groups
            .commit("simple", &nobody(), large(5_000))
            .await,
        Ok(())
    );

    let mut big = request("b", "");
    big.terms.protocols[0].metadata = Bytes::from(vec![0; 3_000]);
    let refusal = fixture.groups.join("other", big).await.expect_err("full");
    assert_eq!(refusal.code, ErrorCode::GroupMaxSizeReached);
    let mut assigning = sync_request(&member_id, generation);
    assigning
        .assignments
        .insert(member_id.clone(), Bytes::from(vec![0; 3_000]));
    let refused = fixture.groups.sync("member", assigning).await;
    assert_eq!(refused, Err(ErrorCode::UnknownServerError));

    // What is there already goes on: commits that replace others, members that stay as they are.
    let again = fixture
        .groups
        .commit("simple", &nobody(), large(5_000))
        .await;
    assert_eq!(again, Ok(()));
    assert_eq!(
        fixture
            .groups
            .heartbeat("member", &member_id, None, generation),
        Ok(())
    );
    let used = fixture.groups.figures().memory_bytes;
    assert!((5_000..8_000).contains(&used), "{used}");
}

#[tokio::test]
async fn shutdown_finishes_what_was_begun_and_sends_waiting_members_away() {
    let fixture = Fixture::new();
    let (a, _) = fixture.settle("g", "a").await;
    let groups = fixture.groups.clone();
    let joining = tokio::spawn(async move { groups.join("g", request("b", "")).await });
    tokio::task::yield_now().await;
    fixture.log.hold();
    let groups = fixture.groups.clone();
    let committing = tokio::spawn(async move {
        groups
            .commit("g", &member(&a, 1), vec![commit("flights", 0, 7)])
            .await
    });
    tokio::task::yield_now().await;
    let groups = fixture.groups.clone();
    let shutdown = tokio::spawn(async move { groups.shutdown().await });
    tokio::task::yield_now().await;
    assert!(!shutdown.is_finished(), "a commit is on its way");
    fixture.log.let_through(1);
    shutdown.await.expect("no panic");
    assert_eq!(committing.await.expect("no panic"), Ok(()));
    let refusal = joining.await.expect("no panic").expect_err("sent away");
    assert_eq!(refusal.code, ErrorCode::NotCoordinator);
    assert_eq!(fixture.commit("g", 8).await, Err(ErrorCode::NotCoordinator));
}
