//! Classic groups: as the client crate lives in them, and step by step on the wire.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidemill_client::{Client, FetchLimits, GroupConfig, GroupConsumer};
use tidemill_protocol::ErrorCode;
use tidemill_protocol::find_coordinator::FindCoordinatorRequest;
use tidemill_protocol::heartbeat::HeartbeatRequest;
use tidemill_protocol::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use tidemill_protocol::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidemill_protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidemill_protocol::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponsePartitions,
};
use tidemill_protocol::sync_group::{
    SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse,
};
use tidemill_records::{Offset, TopicPartition};
use tidemill_tests::records::batch;
use tidemill_tests::{LIMIT, TestBroker, Wire, until};

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;

/// Who a request is from.
#[derive(Clone, Default)]
struct Member {
    id: String,
    instance: Option<String>,
    generation: i32,
}

fn join_request(member: &Member) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member.id.as_str().into(),
        group_instance_id: member.instance.as_deref().map(Into::into),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"subscription"),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Joins, with the second round that a newcomer is sent into.
async fn join(wire: &mut Wire, member: &mut Member) -> JoinGroupResponse {
    let mut answer = wire.call(JOIN, &join_request(member)).await;
    if answer.error_code == ErrorCode::MemberIdRequired.code() {
        assert_eq!(answer.error_code, 79);
        member.id = answer.member_id.as_str().to_owned();
        answer = wire.call(JOIN, &join_request(member)).await;
    }
    if answer.error_code == 0 {
        member.id = answer.member_id.as_str().to_owned();
        member.generation = answer.generation_id;
    }
    answer
}

async fn sync(
    wire: &mut Wire,
    member: &Member,
    assignments: &[(&str, &'static str)],
) -> SyncGroupResponse {
    let assignment = |(id, bytes): &(&str, &'static str)| SyncGroupRequestAssignment {
        member_id: (*id).into(),
        assignment: Bytes::from_static(bytes.as_bytes()),
        ..Default::default()
    };
    let request = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: member.generation,
        member_id: member.id.as_str().into(),
        group_instance_id: member.instance.as_deref().map(Into::into),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.iter().map(assignment).collect(),
        ..Default::default()
    };
    wire.call(SYNC, &request).await
}

async fn heartbeat(wire: &mut Wire, member: &Member) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: member.generation,
        member_id: member.id.as_str().into(),
        group_instance_id: member.instance.as_deref().map(Into::into),
        ..Default::default()
    };
    let code = wire.call(HEARTBEAT, &request).await.error_code;
    ErrorCode::from_code(code).expect("a known code")
}

async fn leave(wire: &mut Wire, member: &Member) -> i16 {
    let request = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity {
            member_id: member.id.as_str().into(),
            group_instance_id: member.instance.as_deref().map(Into::into),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = wire.call(LEAVE, &request).await;
    assert_eq!(answer.error_code, 0);
    answer.members[0].error_code
}

async fn commit(wire: &mut Wire, member: &Member, offset: i64) -> i16 {
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: member.generation,
        member_id: member.id.as_str().into(),
        group_instance_id: member.instance.as_deref().map(Into::into),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                committed_leader_epoch: 0,
                committed_metadata: Some("as of noon".into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    wire.call(9, &request).await.topics[0].partitions[0].error_code
}

async fn committed(wire: &mut Wire) -> OffsetFetchResponsePartitions {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: vec![0],
                ..Default::default()
            }]),
            ..Default::default()
        }],
        require_stable: true,
        ..Default::default()
    };
    let mut answer = wire.call(9, &request).await;
    assert_eq!(answer.groups[0].error_code, 0);
    answer
        .groups
        .remove(0)
        .topics
        .remove(0)
        .partitions
        .remove(0)
}

/// The first request creates the offsets topic and waits until its coordinator is there.
async fn ready(broker: &TestBroker) -> Wire {
    let mut wire = broker.wire().await;
    wire.must_create("t", 4, &[]).await;
    let kafka = broker.addresses().kafka;
    until("the coordinator", async || {
        let mut wire = Wire::connect(kafka).await;
        let request = FindCoordinatorRequest {
            coordinator_keys: vec!["g".into()],
            ..Default::default()
        };
        let found = wire.call(6, &request).await.coordinators.remove(0);
        if found.error_code != 0 {
            return None;
        }
        assert_eq!((found.node_id, found.port), (1, i32::from(kafka.port())));
        // It may still be loading.
        (heartbeat(&mut wire, &Member::default()).await == ErrorCode::UnknownMemberId).then_some(())
    })
    .await;
    wire
}

#[tokio::test]
async fn two_members_step_by_step() {
    let broker = TestBroker::start().await;
    let mut wire = ready(&broker).await;
    let mut other_wire = broker.wire().await;
    let (mut first, mut second) = (Member::default(), Member::default());
    let joined = join(&mut wire, &mut first).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(joined.leader.as_str(), first.id);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(
        joined.members[0].metadata,
        Bytes::from_static(b"subscription")
    );
    let synced = sync(&mut wire, &first, &[(&first.id, "all")]).await;
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"all"[..])
    );
    assert_eq!(heartbeat(&mut wire, &first).await, ErrorCode::None);

    // A second member: the first is told by its heartbeat, and both join again.
    let second_joins = async {
        let joined = join(&mut other_wire, &mut second).await;
        (joined, other_wire, second)
    };
    let second_joins = tokio::spawn(second_joins);
    until("the rebalance", async || {
        (heartbeat(&mut wire, &first).await == ErrorCode::RebalanceInProgress).then_some(())
    })
    .await;
    let joined = join(&mut wire, &mut first).await;
    let (other_joined, mut other_wire, second) = second_joins.await.unwrap();
    assert_eq!((joined.generation_id, other_joined.generation_id), (2, 2));
    assert_eq!(
        (joined.members.len(), other_joined.members.len()),
        (2, 0),
        "only the leader is told"
    );
    assert_eq!(joined.leader, other_joined.leader);

    // The follower waits for the leader's assignment.
    let follower = second.clone();
    let follows = tokio::spawn(async move {
        let synced = sync(&mut other_wire, &follower, &[]).await;
        (synced, other_wire)
    });
    let synced = sync(
        &mut wire,
        &first,
        &[(&first.id, "left"), (&second.id, "right")],
    )
    .await;
    assert_eq!(&synced.assignment[..], b"left");
    let (synced, mut other_wire) = follows.await.unwrap();
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"right"[..])
    );

    // What does not belong is refused by what is wrong with it.
    let mut old = first.clone();
    old.generation = 1;
    assert_eq!(
        heartbeat(&mut wire, &old).await,
        ErrorCode::IllegalGeneration
    );
    let stranger = Member {
        id: "nobody".to_owned(),
        generation: 2,
        ..Member::default()
    };
    assert_eq!(
        heartbeat(&mut wire, &stranger).await,
        ErrorCode::UnknownMemberId
    );
    assert_eq!(
        commit(&mut wire, &old, 5).await,
        ErrorCode::IllegalGeneration.code()
    );
    assert_eq!(
        commit(&mut wire, &stranger, 5).await,
        ErrorCode::UnknownMemberId.code()
    );
    assert_eq!(commit(&mut wire, &first, 5).await, 0);

    // Who leaves is missed at once.
    assert_eq!(leave(&mut other_wire, &second).await, 0);
    assert_eq!(
        leave(&mut other_wire, &second).await,
        ErrorCode::UnknownMemberId.code()
    );
    assert_eq!(
        heartbeat(&mut wire, &first).await,
        ErrorCode::RebalanceInProgress
    );
    let joined = join(&mut wire, &mut first).await;
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
}

#[tokio::test]
async fn a_static_member_that_restarts_keeps_its_place() {
    let broker = TestBroker::start().await;
    let mut wire = ready(&broker).await;
    let static_member = || Member {
        instance: Some("pod-1".to_owned()),
        ..Member::default()
    };
    let mut before = static_member();
    let joined = join(&mut wire, &mut before).await;
    assert_eq!((joined.error_code, joined.generation_id), (0, 1));
    assert_eq!(
        sync(&mut wire, &before, &[(&before.id, "mine")])
            .await
            .error_code,
        0
    );
    // Its successor has the same instance id and no member id yet.
    let mut after = static_member();
    let mut new_wire = broker.wire().await;
    let joined = join(&mut new_wire, &mut after).await;
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (0, 1),
        "nobody has to rebalance"
    );
    assert_ne!(after.id, before.id);
    let synced = sync(&mut new_wire, &after, &[]).await;
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"mine"[..])
    );
    assert_eq!(heartbeat(&mut new_wire, &after).await, ErrorCode::None);
    // The one before is fenced, should it still be alive.
    assert_eq!(
        heartbeat(&mut wire, &before).await,
        ErrorCode::FencedInstanceId
    );
    assert_eq!(
        commit(&mut wire, &before, 1).await,
        ErrorCode::FencedInstanceId.code()
    );
    assert_eq!(commit(&mut new_wire, &after, 1).await, 0);
}

#[tokio::test]
async fn offsets_and_members_survive_a_restart() {
    let mut broker = TestBroker::start().await;
    let mut wire = ready(&broker).await;
    let mut member = Member::default();
    join(&mut wire, &mut member).await;
    sync(&mut wire, &member, &[(&member.id, "all")]).await;
    assert_eq!(committed(&mut wire).await.committed_offset, -1);
    assert_eq!(commit(&mut wire, &member, 7).await, 0);
    assert_eq!(commit(&mut wire, &member, 42).await, 0);
    broker.restart().await;
    let mut wire = ready_again(&broker).await;
    let found = committed(&mut wire).await;
    assert_eq!((found.error_code, found.committed_offset), (0, 42));
    assert_eq!(
        found.metadata.as_deref(),
        Some("as of noon"),
        "commit metadata round-trips"
    );
    // The member goes on where it was: no storm of strangers after a broker's restart.
    assert_eq!(heartbeat(&mut wire, &member).await, ErrorCode::None);
    assert_eq!(commit(&mut wire, &member, 43).await, 0);
}

/// The coordinator has loaded when it knows strangers again: while it loads, it takes everybody for a member.
async fn ready_again(broker: &TestBroker) -> Wire {
    let kafka = broker.addresses().kafka;
    until("the coordinator", async || {
        let mut wire = Wire::connect(kafka).await;
        let told = heartbeat(&mut wire, &Member::default()).await;
        (told == ErrorCode::UnknownMemberId).then_some(())
    })
    .await;
    broker.wire().await
}

#[tokio::test]
async fn offsets_go_with_their_topic() {
    let broker = TestBroker::start().await;
    let mut wire = ready(&broker).await;
    let simple = Member {
        generation: -1,
        ..Member::default()
    };
    assert_eq!(commit(&mut wire, &simple, 9).await, 0);
    assert_eq!(committed(&mut wire).await.committed_offset, 9);
    assert_eq!(wire.delete("t").await, 0);
    wire.must_create("t", 4, &[]).await;
    until("the offsets are gone", async || {
        (committed(&mut wire).await.committed_offset == -1).then_some(())
    })
    .await;
    assert_eq!(commit(&mut wire, &simple, 1).await, 0);
    assert_eq!(wire.delete("t").await, 0);
    assert_eq!(
        commit(&mut wire, &simple, 1).await,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

/// A consumer of the group `g` as the CLI makes them, in a hurry; `bytes_max` bounds what it reads at a time.
fn consumer(client: &Arc<Client>, session: Duration, bytes_max: i32) -> GroupConsumer {
    let mut config = GroupConfig::new("g", vec!["t".to_owned()]);
    config.session_timeout = session;
    config.rebalance_timeout = session;
    config.heartbeat_interval = session / 10;
    config.limits = FetchLimits {
        wait_max: Duration::from_millis(100),
        bytes_max,
        ..FetchLimits::default()
    };
    GroupConsumer::new(client.clone(), config)
}

/// Polls once; (partition, offset) of every record, and what to commit.
async fn poll(consumer: &mut GroupConsumer) -> (Vec<(i32, i64)>, BTreeMap<TopicPartition, Offset>) {
    let fetched = consumer.poll().await.expect("a poll");
    let mut read = Vec::new();
    let mut offsets: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    for part in &fetched {
        for record in part.records() {
            read.push((
                part.partition.partition.0,
                record.expect("a record").offset.0,
            ));
        }
        offsets.insert(part.partition.clone(), part.next());
    }
    (read, offsets)
}

/// Polls once and commits what came; (partition, offset) of every record.
async fn step(consumer: &mut GroupConsumer) -> Vec<(i32, i64)> {
    let (read, offsets) = poll(consumer).await;
    if !offsets.is_empty() && !consumer.commit(&offsets).await.expect("a commit") {
        // Taken away: whoever has it now reads it.
        return Vec::new();
    }
    read
}

async fn fill(broker: &TestBroker, each: usize) {
    let mut wire = broker.wire().await;
    for partition in 0..4 {
        for at in 0..each {
            wire.must_produce("t", partition, &batch(&[&at.to_string()]))
                .await;
        }
    }
}

#[tokio::test]
async fn members_share_a_topic_and_every_record_is_read_once() {
    const EACH: usize = 30;
    let broker = TestBroker::start().await;
    ready(&broker).await;
    fill(&broker, EACH).await;
    let session = Duration::from_secs(10);
    // Each on a task of its own, since a rebalance waits for both; until all is read and shared out.
    let read = Arc::new(Mutex::new(Vec::new()));
    let shares = Arc::new(Mutex::new([0; 2]));
    let members: Vec<_> = (0..2)
        .map(|number| {
            let (read, shares) = (read.clone(), shares.clone());
            let mut member = consumer(&broker.client(), session, i32::MAX);
            tokio::spawn(async move {
                loop {
                    let some = step(&mut member).await;
                    shares.lock().unwrap()[number] = member.positions().len();
                    read.lock().unwrap().extend(some);
                    let is_read = read.lock().unwrap().len() >= 4 * EACH;
                    if is_read && *shares.lock().unwrap() == [2, 2] {
                        return member;
                    }
                }
            })
        })
        .collect();
    let mut left = Vec::new();
    for member in members {
        let ended = tokio::time::timeout(LIMIT, member).await;
        left.push(ended.expect("all records in time").unwrap());
    }
    let mut read = std::mem::take(&mut *read.lock().unwrap());
    read.sort_unstable();
    let before = read.len();
    read.dedup();
    assert_eq!((read.len(), before), (4 * EACH, 4 * EACH));
    // One leaves in order: the other has all at once, without a session timeout.
    left.pop().unwrap().leave().await.unwrap();
    let mut last = left.pop().unwrap();
    let alone = async {
        while last.positions().len() != 4 {
            step(&mut last).await;
        }
    };
    tokio::time::timeout(session / 2, alone)
        .await
        .expect("all partitions in time");
}

#[tokio::test]
async fn who_dies_is_replaced_after_its_session_and_only_uncommitted_records_come_again() {
    const EACH: usize = 20;
    let broker = TestBroker::start().await;
    ready(&broker).await;
    fill(&broker, EACH).await;
    let client = broker.client();
    let session = Duration::from_millis(600);
    // One batch at a time, so that much is left when it dies.
    let mut dying = consumer(&client, session, 1);
    let mut committed = Vec::new();
    while committed.len() < 10 {
        committed.extend(step(&mut dying).await);
    }
    // It reads on, and dies before it commits.
    let mut uncommitted = Vec::new();
    while uncommitted.is_empty() {
        uncommitted = poll(&mut dying).await.0;
    }
    drop(dying);
    let mut heir = consumer(&client, session, i32::MAX);
    let mut read = Vec::new();
    let rest = async {
        while read.len() + committed.len() < 4 * EACH {
            read.extend(step(&mut heir).await);
        }
    };
    tokio::time::timeout(LIMIT, rest)
        .await
        .expect("the rest in time");
    assert!(read.iter().all(|record| !committed.contains(record)));
    assert!(uncommitted.iter().all(|record| read.contains(record)));
    let group = client
        .describe_group("g")
        .await
        .unwrap()
        .expect("the group");
    assert_eq!(group.members.len(), 1, "{group:?}");
    heir.leave().await.unwrap();
    let group = client
        .describe_group("g")
        .await
        .unwrap()
        .expect("the group");
    assert_eq!((group.state.as_str(), group.members.len()), ("Empty", 0));
    client.delete_group("g").await.unwrap();
    assert!(client.describe_group("g").await.unwrap().is_none());
}
