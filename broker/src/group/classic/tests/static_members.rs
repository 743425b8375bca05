//! Static membership (KIP-345): a member that comes back under its instance id.

use tidemill_protocol::ErrorCode;

use super::rig::{Client, Rig, assignment_of, is_parked, seconds};
use crate::group::classic::{GroupState, SyncRequest};

fn pair() -> [Client; 2] {
    [
        Client::new("a").instance("i"),
        Client::new("b").instance("j"),
    ]
}

#[test]
fn comes_back_to_a_stable_group_without_a_rebalance() {
    let mut rig = Rig::new();
    let ids = rig.stable(&pair());
    let back = rig.join(&Client::new("b").instance("j"));
    assert!(is_parked(&back), "its new id must be durable first");
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()));
    rig.store(Ok(()));
    let joined = back.now().expect("joined");
    assert_eq!((joined.generation, &joined.leader), (1, &ids[0]));
    assert_ne!(joined.member_id, ids[1]);
    assert_eq!(rig.group.state(), GroupState::Stable);
    let synced = rig.sync(&joined.member_id, 1, &[]).now().expect("stable");
    assert_eq!(
        synced.assignment,
        assignment_of(&ids[1]),
        "it has its work back"
    );
    assert_eq!(rig.reload().heartbeat(&joined.member_id, 1), Ok(()));
}

#[test]
fn has_a_session_again_when_it_ended_while_the_new_id_was_stored() {
    let mut rig = Rig::new();
    let alone = [Client::new("a").instance("i")];
    rig.stable(&alone);
    let back = rig.join(&alone[0]);
    rig.advance(seconds(60));
    rig.store(Ok(()));
    assert!(back.now().is_ok());
    assert_eq!(rig.group.state(), GroupState::Stable);
    // It says nothing any more.
    rig.advance(seconds(60));
    rig.store_all();
    rig.advance(seconds(60));
    rig.store_all();
    assert_eq!(rig.group.state(), GroupState::Empty);
}

#[test]
fn former_self_is_fenced() {
    let mut rig = Rig::new();
    let ids = rig.stable(&pair());
    drop(rig.join(&Client::new("b").instance("j")));
    rig.store(Ok(()));
    let fenced = ErrorCode::FencedInstanceId;
    assert_eq!(rig.heartbeat_as(&ids[1], Some("j"), 1), Err(fenced));
    assert_eq!(
        rig.group.validate_commit(&ids[1], Some("j"), 1),
        Err(fenced)
    );
    let sync = SyncRequest {
        member_id: ids[1].clone(),
        group_instance_id: Some("j".into()),
        generation: 1,
        protocol_type: None,
        protocol_name: None,
        assignments: Default::default(),
    };
    assert_eq!(rig.sync_request(sync).now(), Err(fenced));
    let rejoin = rig.join(&Client::new("b").instance("j").with_id(&ids[1]));
    assert_eq!(rejoin.now().expect_err("fenced").code, fenced);
    // Without the instance id it is simply unknown.
    assert_eq!(rig.heartbeat(&ids[1], 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn former_self_that_waits_is_told() {
    let mut rig = Rig::new();
    let ids = rig.completing(&pair());
    let syncing = rig.sync(&ids[1], 1, &[]);
    drop(rig.join(&Client::new("b").instance("j")));
    assert_eq!(syncing.now(), Err(ErrorCode::FencedInstanceId));

    let mut rig = Rig::new();
    let joining = rig.join(&Client::new("a").instance("i"));
    let again = rig.join(&Client::new("a").instance("i"));
    assert_eq!(
        joining.now().expect_err("fenced").code,
        ErrorCode::FencedInstanceId
    );
    rig.advance(seconds(3));
    assert_eq!(again.now().expect("joined").members.len(), 1);
}

#[test]
fn new_leader_client_is_told_to_skip_the_assignment() {
    let mut rig = Rig::new();
    rig.stable(&pair());
    let back = rig.join(&Client::new("a").instance("i").skips_assignment());
    rig.store(Ok(()));
    let joined = back.now().expect("joined");
    assert_eq!(joined.leader, joined.member_id);
    assert!(joined.skip_assignment);
    assert_eq!(joined.members.len(), 2);
    let follower = rig.join(&Client::new("b").instance("j").skips_assignment());
    rig.store(Ok(()));
    assert!(!follower.now().expect("joined").skip_assignment);
}

#[test]
fn old_leader_client_is_shown_its_former_id_as_leader() {
    let mut rig = Rig::new();
    let ids = rig.stable(&pair());
    let back = rig.join(&Client::new("a").instance("i"));
    rig.store(Ok(()));
    let joined = back.now().expect("joined");
    assert_eq!(joined.leader, ids[0]);
    assert_ne!(joined.leader, joined.member_id);
    assert!(joined.members.is_empty() && !joined.skip_assignment);
    assert!(rig.group.is_leader(&joined.member_id));
}

#[test]
fn change_of_the_protocol_means_a_rebalance() {
    let mut rig = Rig::new();
    let both = Client::new("a")
        .instance("i")
        .protocols(&["range", "sticky"]);
    rig.stable(std::slice::from_ref(&both));
    let back = rig.join(&both.clone().protocols(&["sticky", "range"]));
    assert_eq!(rig.stores_waiting(), 0);
    let joined = back.now().expect("everybody is in");
    assert_eq!(
        (joined.generation, joined.protocol_name.as_deref()),
        (2, Some("sticky"))
    );
}

#[test]
fn coming_back_during_the_assignment_means_a_rebalance() {
    let mut rig = Rig::new();
    let ids = rig.completing(&pair());
    let leader = rig.sync(&ids[0], 1, &[(&ids[0], "A"), (&ids[1], "B")]);
    let back = rig.join(&Client::new("b").instance("j"));
    assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
    assert_eq!(leader.now(), Err(ErrorCode::RebalanceInProgress));
    rig.store(Ok(()));
    drop(rig.join(&Client::new("a").instance("i").with_id(&ids[0])));
    assert_eq!(back.now().expect("joined").generation, 2);
}

#[test]
fn id_that_cannot_be_stored_is_taken_back() {
    let mut rig = Rig::new();
    let ids = rig.stable(&pair());
    let changed = Client::new("b").instance("j").session_timeout(seconds(20));
    let back = rig.join(&changed);
    rig.store(Err(ErrorCode::RequestTimedOut));
    let refusal = back.now().expect_err("not stored");
    assert_eq!(refusal.code, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(rig.heartbeat_as(&ids[1], Some("j"), 1), Ok(()));
    rig.advance(seconds(9));
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()));
    rig.advance(seconds(1));
    assert_eq!(
        rig.heartbeat(&ids[1], 1),
        Err(ErrorCode::UnknownMemberId),
        "its former timeout"
    );
}

#[test]
fn rebalance_that_begins_meanwhile_answers_the_rejoin() {
    for outcome in [Ok(()), Err(ErrorCode::RequestTimedOut)] {
        let mut rig = Rig::new();
        let ids = rig.stable(&pair());
        let back = rig.join(&Client::new("b").instance("j"));
        let newcomer = rig.join(&Client::new("c").old());
        rig.store(outcome);
        assert!(is_parked(&back) && is_parked(&newcomer));
        drop(rig.join(&Client::new("a").instance("i").with_id(&ids[0])));
        assert_eq!(back.now().expect("joined").generation, 2);
    }
}

#[test]
fn stays_through_a_rebalance_until_its_session_ends() {
    let mut rig = Rig::new();
    let away = Client::new("b").instance("j").session_timeout(seconds(100));
    let ids = rig.stable(&[Client::new("a"), away]);
    let rejoin = rig.join(&Client::new("a").with_id(&ids[0]));
    rig.advance(seconds(30));
    let joined = rejoin.now().expect("the rebalance timeout has passed");
    let members: Vec<_> = joined
        .members
        .iter()
        .map(|member| &member.member_id)
        .collect();
    assert_eq!(
        members,
        [&ids[0], &ids[1]],
        "the static member keeps its place"
    );
}

#[test]
fn leader_that_stays_away_does_not_lead_the_next_generation() {
    let mut rig = Rig::new();
    let away = Client::new("a").instance("i").session_timeout(seconds(100));
    let ids = rig.stable(&[away, Client::new("b")]);
    let rejoin = rig.join(&Client::new("b").metadata("changed").with_id(&ids[1]));
    rig.advance(seconds(30));
    let joined = rejoin.now().expect("the rebalance timeout has passed");
    assert_eq!(joined.leader, ids[1]);
    assert_eq!(
        joined.members.len(),
        2,
        "it is only the lead that it has lost"
    );
}

#[test]
fn static_newcomer_needs_no_second_round() {
    let mut rig = Rig::new();
    let reply = rig.join(&Client::new("a").instance("i"));
    assert!(is_parked(&reply));
    rig.advance(seconds(3));
    let joined = reply.now().expect("joined");
    assert!(
        joined.member_id.starts_with("a-"),
        "the id was made by the caller"
    );
    assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("i"));
}
