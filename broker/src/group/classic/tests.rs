//! The rules of a classic group, one test each.

mod random;
mod rig;
mod static_members;

use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::ErrorCode;

use super::{ClassicGroup, GroupState, LeavingMember};
use rig::{Client, Rig, assignment_of, is_parked, seconds, subscription};

fn leaving(member_id: &str, instance: Option<&str>) -> LeavingMember {
    LeavingMember {
        member_id: member_id.into(),
        group_instance_id: instance.map(Into::into),
        reason: "test".into(),
    }
}

#[test]
fn newcomer_is_given_an_id_first() {
    let mut rig = Rig::new();
    let refusal = rig.join(&Client::new("c")).now().expect_err("no id yet");
    assert_eq!(refusal.code, ErrorCode::MemberIdRequired);
    assert!(refusal.member_id.starts_with("c-"));
    assert_eq!(rig.group.state(), GroupState::Empty);
    assert!(!rig.group.is_abandoned());

    let reply = rig.join(&Client::new("c").with_id(&refusal.member_id));
    rig.advance(seconds(3));
    let joined = reply.now().expect("the initial delay is over");
    assert_eq!(joined.member_id, refusal.member_id);
    assert_eq!(joined.leader, refusal.member_id);
    assert_eq!(joined.generation, 1);
}

#[test]
fn id_that_was_given_out_is_forgotten_after_the_session_timeout() {
    let mut rig = Rig::new();
    let refusal = rig.join(&Client::new("c")).now().expect_err("no id yet");
    rig.advance(seconds(10) - Duration::from_millis(1));
    assert!(!rig.group.is_abandoned());
    rig.advance(Duration::from_millis(1));
    assert!(rig.group.is_abandoned());
    let late = rig
        .join(&Client::new("c").with_id(&refusal.member_id))
        .now();
    assert_eq!(
        late.expect_err("forgotten").code,
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn old_newcomer_is_taken_in_at_once() {
    let mut rig = Rig::new();
    let reply = rig.join(&Client::new("c").old());
    assert!(is_parked(&reply));
    rig.advance(seconds(3));
    assert_eq!(reply.now().expect("joined").generation, 1);
}

#[test]
fn first_rebalance_waits_on_while_members_come() {
    let mut rig = Rig::new();
    let first = rig.join(&Client::new("a").old());
    rig.advance(seconds(2));
    let second = rig.join(&Client::new("b").old());
    rig.advance(seconds(1));
    assert!(
        is_parked(&first) && is_parked(&second),
        "b came: another delay begins"
    );
    rig.advance(seconds(3));
    assert_eq!(first.now().expect("joined").generation, 1);
    assert_eq!(second.now().expect("joined").generation, 1);
    assert_eq!(rig.group.member_count(), 2);
}

#[test]
fn first_rebalance_waits_no_longer_than_the_rebalance_timeout() {
    let mut rig = Rig::new();
    let first = rig.join(&Client::new("first").old().rebalance_timeout(seconds(7)));
    for second in 0..6 {
        rig.advance(seconds(1));
        drop(
            rig.join(
                &Client::new(&format!("{second}"))
                    .old()
                    .rebalance_timeout(seconds(7)),
            ),
        );
    }
    assert!(is_parked(&first));
    rig.advance(seconds(1));
    assert_eq!(first.now().expect("joined").members.len(), 7);
}

#[test]
fn without_initial_delay_the_first_member_joins_at_the_next_tick() {
    let mut rig = Rig::new();
    rig.settings.initial_rebalance_delay = Duration::ZERO;
    let reply = rig.join(&Client::new("a").old());
    rig.advance(Duration::ZERO);
    assert_eq!(reply.now().expect("joined").generation, 1);
}

#[test]
fn only_the_leader_sees_the_members() {
    let mut rig = Rig::new();
    let (a, b) = (
        Client::new("a").old(),
        Client::new("b").old().metadata("of b"),
    );
    let (reply_a, reply_b) = (rig.join(&a), rig.join(&b));
    rig.advance(seconds(6));
    let (joined_a, joined_b) = (
        reply_a.now().expect("joined"),
        reply_b.now().expect("joined"),
    );
    assert_eq!(
        joined_a.leader, joined_a.member_id,
        "the first to join leads"
    );
    assert_eq!(joined_b.leader, joined_a.member_id);
    assert_eq!(joined_b.members, []);
    let of_b = joined_a
        .members
        .iter()
        .find(|member| member.member_id == joined_b.member_id);
    assert_eq!(of_b.expect("listed").metadata, Bytes::from_static(b"of b"));
}

#[test]
fn members_vote_for_a_protocol_that_all_know() {
    let mut rig = Rig::new();
    let clients = [
        Client::new("a")
            .old()
            .protocols(&["range", "sticky", "rare"]),
        Client::new("b").old().protocols(&["sticky", "range"]),
        Client::new("c").old().protocols(&["sticky", "range"]),
    ];
    let replies: Vec<_> = clients.iter().map(|client| rig.join(client)).collect();
    rig.advance(seconds(9));
    for reply in replies {
        assert_eq!(
            reply.now().expect("joined").protocol_name.as_deref(),
            Some("sticky")
        );
    }
}

#[test]
fn members_that_do_not_fit_are_refused() {
    let mut rig = Rig::new();
    rig.stable(&[Client::new("a").protocols(&["range"])]);
    let refused =
        |rig: &mut Rig, client: Client| rig.join(&client).now().expect_err("refused").code;
    let other_type = Client::new("b")
        .protocol_type("connect")
        .protocols(&["range"]);
    let inconsistent = ErrorCode::InconsistentGroupProtocol;
    assert_eq!(refused(&mut rig, other_type), inconsistent);
    assert_eq!(
        refused(&mut rig, Client::new("b").protocols(&["sticky"])),
        inconsistent
    );
    let mut empty = Rig::new();
    assert_eq!(
        refused(&mut empty, Client::new("a").protocol_type("")),
        inconsistent
    );
    assert_eq!(
        refused(&mut empty, Client::new("a").protocols(&[])),
        inconsistent
    );
}

#[test]
fn nobody_gets_an_assignment_before_it_is_stored() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let follower = rig.sync(&ids[1], 1, &[]);
    assert!(is_parked(&follower));
    let leader = rig.sync(&ids[0], 1, &[(&ids[0], "A"), (&ids[1], "B")]);
    assert!(is_parked(&leader) && is_parked(&follower));
    assert_eq!(rig.group.state(), GroupState::CompletingRebalance);
    rig.store(Ok(()));
    assert_eq!(rig.group.state(), GroupState::Stable);
    assert_eq!(leader.now().expect("synced").assignment, "A");
    assert_eq!(follower.now().expect("synced").assignment, "B");
}

#[test]
fn assignment_that_cannot_be_stored_is_given_to_nobody() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let follower = rig.sync(&ids[1], 1, &[]);
    let leader = rig.sync(&ids[0], 1, &[(&ids[0], "A"), (&ids[1], "B")]);
    rig.store(Err(ErrorCode::NotEnoughReplicas));
    let code = ErrorCode::CoordinatorNotAvailable;
    assert_eq!((leader.now(), follower.now()), (Err(code), Err(code)));
    assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
    assert!(
        rig.group
            .members()
            .all(|(_, member)| member.assignment.is_empty())
    );
}

#[test]
fn assignment_stored_too_late_changes_nothing() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let leader = rig.sync(&ids[0], 1, &[(&ids[0], "A"), (&ids[1], "B")]);
    drop(rig.join(&Client::new("c").old()));
    assert_eq!(leader.now(), Err(ErrorCode::RebalanceInProgress));
    rig.store(Ok(()));
    assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
    assert!(
        rig.group
            .members()
            .all(|(_, member)| member.assignment.is_empty())
    );
}

#[test]
fn leader_that_repeats_its_sync_is_stored_once() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a")]);
    let lost = rig.sync(&ids[0], 1, &[(&ids[0], "first")]);
    let again = rig.sync(&ids[0], 1, &[(&ids[0], "second")]);
    assert_eq!(rig.stores_waiting(), 1);
    assert_eq!(lost.now(), Err(ErrorCode::RebalanceInProgress));
    rig.store(Ok(()));
    assert_eq!(
        again.now().expect("synced").assignment,
        "first",
        "as the log has it"
    );
}

#[test]
fn member_without_assignment_gets_an_empty_one() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let follower = rig.sync(&ids[1], 1, &[]);
    drop(rig.sync(&ids[0], 1, &[(&ids[0], "A"), ("stranger", "S")]));
    rig.store(Ok(()));
    assert_eq!(follower.now().expect("synced").assignment, Bytes::new());
}

#[test]
fn sync_of_a_stable_group_answers_the_current_assignment() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
    for id in &ids {
        let synced = rig.sync(id, 1, &[]).now().expect("stable");
        assert_eq!(synced.assignment, assignment_of(id));
        assert_eq!(synced.protocol_type.as_deref(), Some("consumer"));
    }
    assert_eq!(rig.stores_waiting(), 0);
}

#[test]
fn sync_is_refused_when_it_does_not_fit() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a")]);
    assert_eq!(
        rig.sync("nobody", 1, &[]).now(),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        rig.sync(&ids[0], 0, &[]).now(),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(
        rig.sync(&ids[0], 2, &[]).now(),
        Err(ErrorCode::IllegalGeneration)
    );
    let inconsistent = Err(ErrorCode::InconsistentGroupProtocol);
    assert_eq!(
        rig.sync_as(&ids[0], 1, Some("connect"), None).now(),
        inconsistent
    );
    assert_eq!(
        rig.sync_as(&ids[0], 1, Some("consumer"), Some("other"))
            .now(),
        inconsistent
    );
    assert!(is_parked(&rig.sync_as(
        &ids[0],
        1,
        Some("consumer"),
        Some("range")
    )));
    drop(rig.join(&Client::new("b").old()));
    assert_eq!(
        rig.sync(&ids[0], 1, &[]).now(),
        Err(ErrorCode::RebalanceInProgress)
    );
}

#[test]
fn heartbeat_tells_what_to_do() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a")]);
    assert_eq!(
        rig.heartbeat(&ids[0], 1),
        Ok(()),
        "clients begin before they have synced"
    );
    assert_eq!(rig.heartbeat(&ids[0], 0), Err(ErrorCode::IllegalGeneration));
    assert_eq!(rig.heartbeat("nobody", 1), Err(ErrorCode::UnknownMemberId));
    drop(rig.join(&Client::new("b").old()));
    assert_eq!(
        rig.heartbeat(&ids[0], 1),
        Err(ErrorCode::RebalanceInProgress)
    );
}

#[test]
fn member_that_falls_silent_is_removed() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
    rig.advance(seconds(9));
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()));
    rig.advance(seconds(1));
    assert_eq!(rig.group.member_count(), 1);
    assert_eq!(
        rig.heartbeat(&ids[0], 1),
        Err(ErrorCode::RebalanceInProgress)
    );
    assert_eq!(rig.heartbeat(&ids[1], 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn member_that_waits_for_the_group_is_not_taken_for_silent() {
    let mut rig = Rig::new();
    let slow = Client::new("slow")
        .rebalance_timeout(seconds(60))
        .session_timeout(seconds(60));
    let ids = rig.stable(&[Client::new("a"), slow]);
    let rejoining = rig.join(&Client::new("a").with_id(&ids[0]));
    assert!(is_parked(&rejoining));
    rig.advance(seconds(30));
    assert!(is_parked(&rejoining), "three session timeouts long");
    rig.advance(seconds(30));
    assert_eq!(rejoining.now().expect("joined").generation, 2);
    // The answer began a new session.
    rig.advance(seconds(9));
    assert_eq!(rig.heartbeat(&ids[0], 2), Ok(()));
}

#[test]
fn newcomer_waits_for_the_group_no_longer_than_five_minutes() {
    let mut rig = Rig::new();
    let slow = Client::new("a")
        .rebalance_timeout(seconds(900))
        .session_timeout(seconds(900));
    rig.stable(&[slow]);
    let newcomer = rig.join(&Client::new("b").old());
    rig.advance(seconds(299));
    assert!(is_parked(&newcomer));
    rig.advance(seconds(1));
    assert_eq!(
        newcomer.now().expect_err("removed").code,
        ErrorCode::UnknownMemberId
    );
    assert_eq!(rig.group.member_count(), 1);
}

#[test]
fn rebalance_goes_on_without_those_that_do_not_come_back() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
    assert!(rig.group.is_leader(&ids[0]));
    drop(rig.join(&Client::new("c").old()));
    let rejoining = rig.join(&Client::new("b").with_id(&ids[1]));
    for _ in 0..29 {
        rig.advance(seconds(1));
        assert_eq!(
            rig.heartbeat(&ids[0], 1),
            Err(ErrorCode::RebalanceInProgress)
        );
    }
    assert!(is_parked(&rejoining));
    rig.advance(seconds(1));
    let joined = rejoining.now().expect("the rebalance timeout has passed");
    assert_eq!(joined.generation, 2);
    assert_ne!(joined.leader, ids[0], "the leader did not come back");
    assert_eq!(rig.group.member_count(), 2);
    assert_eq!(rig.heartbeat(&ids[0], 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn members_that_do_not_sync_are_removed() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    drop(rig.sync(&ids[0], 1, &[]));
    rig.store(Ok(()));
    assert_eq!(rig.group.state(), GroupState::Stable);
    for _ in 0..29 {
        rig.advance(seconds(1));
        assert_eq!(
            (rig.heartbeat(&ids[0], 1), rig.heartbeat(&ids[1], 1)),
            (Ok(()), Ok(()))
        );
    }
    rig.advance(seconds(1));
    assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
    assert_eq!(rig.heartbeat(&ids[1], 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(
        rig.heartbeat(&ids[0], 1),
        Err(ErrorCode::RebalanceInProgress)
    );
}

#[test]
fn last_member_leaves_an_empty_generation_behind() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a")]);
    assert_eq!(rig.leave(&[leaving(&ids[0], None)]), [Ok(())]);
    assert_eq!(rig.group.state(), GroupState::Empty);
    assert_eq!(rig.stores_waiting(), 1);
    rig.store(Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(rig.group.state(), GroupState::Empty);
    let generation = rig.generation_of_next(&Client::new("b"));
    assert_eq!(generation, 3);
}

#[test]
fn members_leave_one_by_one_or_together() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[
        Client::new("a"),
        Client::new("b"),
        Client::new("c").instance("i"),
        Client::new("d").instance("j"),
    ]);
    let pending = rig
        .join(&Client::new("e"))
        .now()
        .expect_err("pending")
        .member_id;
    let outcomes = rig.leave(&[
        leaving(&ids[1], None),
        leaving("", Some("i")),
        leaving(&ids[2], Some("j")),
        leaving("", Some("nobody")),
        leaving("nobody", None),
        leaving("", None),
        leaving(&pending, None),
    ]);
    let unknown = Err(ErrorCode::UnknownMemberId);
    let fenced = Err(ErrorCode::FencedInstanceId);
    assert_eq!(
        outcomes,
        [Ok(()), Ok(()), fenced, unknown, unknown, unknown, Ok(())]
    );
    assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
    assert_eq!(rig.group.member_count(), 2);
}

#[test]
fn members_that_leave_while_they_wait_are_answered() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let syncing = rig.sync(&ids[1], 1, &[]);
    rig.leave(&[leaving(&ids[1], None)]);
    assert_eq!(syncing.now(), Err(ErrorCode::UnknownMemberId));
    let joining = rig.join(&Client::new("c").old());
    let joining_id = rig
        .ids()
        .into_iter()
        .find(|id| *id != ids[0])
        .expect("the newcomer");
    rig.leave(&[leaving(&joining_id, None)]);
    assert_eq!(
        joining.now().expect_err("left").code,
        ErrorCode::UnknownMemberId
    );
}

#[test]
fn rejoining_with_nothing_new_gives_the_same_generation_again() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let leader = rig
        .join(&Client::new("a").with_id(&ids[0]))
        .now()
        .expect("answered at once");
    assert_eq!((leader.generation, leader.members.len()), (1, 2));
    let follower = rig
        .join(&Client::new("b").with_id(&ids[1]))
        .now()
        .expect("answered at once");
    assert_eq!((follower.generation, follower.members.len()), (1, 0));

    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
    let follower = rig
        .join(&Client::new("b").with_id(&ids[1]))
        .now()
        .expect("answered at once");
    assert_eq!(follower.generation, 1);
    assert_eq!(rig.group.state(), GroupState::Stable);
}

#[test]
fn rejoining_leader_or_changed_metadata_means_a_rebalance() {
    for (index, client) in [
        (0, Client::new("a")),
        (1, Client::new("b").metadata("changed")),
    ] {
        let mut rig = Rig::new();
        let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
        assert!(is_parked(&rig.join(&client.with_id(&ids[index]))));
        assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
    }
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let syncing = rig.sync(&ids[0], 1, &[]);
    drop(rig.join(&Client::new("b").metadata("changed").with_id(&ids[1])));
    assert_eq!(syncing.now(), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(rig.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn second_join_of_a_member_takes_the_place_of_the_first() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
    let lost = rig.join(&Client::new("a").with_id(&ids[0]));
    let again = rig.join(&Client::new("a").with_id(&ids[0]));
    assert_eq!(
        lost.now().expect_err("lost").code,
        ErrorCode::RebalanceInProgress
    );
    drop(rig.join(&Client::new("b").with_id(&ids[1])));
    assert_eq!(again.now().expect("joined").generation, 2);
}

#[test]
fn unknown_member_cannot_rejoin() {
    let mut rig = Rig::new();
    rig.stable(&[Client::new("a")]);
    let refusal = rig
        .join(&Client::new("b").with_id("stranger"))
        .now()
        .expect_err("unknown");
    assert_eq!(refusal.code, ErrorCode::UnknownMemberId);
    assert_eq!(&*refusal.member_id, "stranger");
}

#[test]
fn group_does_not_grow_past_its_size() {
    let mut rig = Rig::new();
    rig.settings.size_max = 2;
    let ids = rig.stable(&[Client::new("a"), Client::new("b")]);
    for newcomer in [
        Client::new("c"),
        Client::new("c").old(),
        Client::new("c").instance("i"),
    ] {
        let refusal = rig.join(&newcomer).now().expect_err("full");
        assert_eq!(refusal.code, ErrorCode::GroupMaxSizeReached);
    }
    let follower = rig.join(&Client::new("b").with_id(&ids[1])).now();
    assert!(follower.is_ok(), "members may come back");
}

#[test]
fn group_that_has_become_too_large_loses_the_last_to_come_back() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a"), Client::new("b"), Client::new("c")]);
    rig.settings.size_max = 2;
    let first = rig.join(&Client::new("a").with_id(&ids[0]));
    let second = rig.join(&Client::new("b").with_id(&ids[1]));
    let third = rig
        .join(&Client::new("c").with_id(&ids[2]))
        .now()
        .expect_err("full");
    assert_eq!(third.code, ErrorCode::GroupMaxSizeReached);
    assert_eq!(first.now().expect("joined").generation, 2);
    assert_eq!(second.now().expect("joined").generation, 2);
}

#[test]
fn ids_that_are_given_out_are_bounded() {
    let mut rig = Rig::new();
    rig.settings.size_max = 3;
    let codes: Vec<_> = (0..4)
        .map(|_| rig.join(&Client::new("c")).now().expect_err("pending").code)
        .collect();
    let required = ErrorCode::MemberIdRequired;
    assert_eq!(
        codes,
        [required, required, required, ErrorCode::GroupMaxSizeReached]
    );
}

#[test]
fn commits_are_taken_from_members_of_the_generation() {
    let mut rig = Rig::new();
    let simple = |group: &ClassicGroup| group.validate_commit("", None, -1);
    assert_eq!(simple(&rig.group), Ok(()), "nobody is in the group");
    assert_eq!(
        rig.group.validate_commit("a", None, 0),
        Err(ErrorCode::UnknownMemberId)
    );

    let ids = rig.completing(&[Client::new("a").instance("i"), Client::new("b")]);
    let unknown = Err(ErrorCode::UnknownMemberId);
    let id = &*ids[0];
    assert_eq!(
        rig.group.validate_commit(id, None, 1),
        Err(ErrorCode::RebalanceInProgress)
    );
    rig.make_stable(&ids);
    assert_eq!(simple(&rig.group), unknown);
    assert_eq!(rig.group.validate_commit("stranger", None, 1), unknown);
    assert_eq!(rig.group.validate_commit(id, Some("other"), 1), unknown);
    let fenced = Err(ErrorCode::FencedInstanceId);
    assert_eq!(rig.group.validate_commit(&ids[1], Some("i"), 1), fenced);
    assert_eq!(
        rig.group.validate_commit(id, None, 0),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(
        rig.group.validate_commit(id, None, -1),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(rig.group.validate_commit(id, Some("i"), 1), Ok(()));
    drop(rig.join(&Client::new("c").old()));
    assert_eq!(
        rig.group.validate_commit(id, None, 1),
        Ok(()),
        "of the generation that ends"
    );
}

#[test]
fn commit_keeps_a_member_alive() {
    let mut rig = Rig::new();
    let ids = rig.stable(&[Client::new("a")]);
    for _ in 0..5 {
        rig.advance(seconds(9));
        rig.keep_alive_by_commit(&ids[0]);
    }
    assert_eq!(rig.heartbeat(&ids[0], 1), Ok(()));
}

#[test]
fn consumer_group_knows_its_topics() {
    let mut rig = Rig::new();
    assert!(
        !rig.group.is_subscribed_to("flights"),
        "a group that only stores offsets"
    );
    let a = Client::new("a").subscription(subscription(&["flights", "weather"]));
    let b = Client::new("b").subscription(subscription(&["planes"]));
    let ids = rig.stable(&[a, b]);
    for (topic, expected) in [("flights", true), ("planes", true), ("airports", false)] {
        assert_eq!(rig.group.is_subscribed_to(topic), expected, "{topic}");
    }
    rig.leave(&[leaving(&ids[0], None), leaving(&ids[1], None)]);
    assert!(!rig.group.is_subscribed_to("flights"));
    assert!(rig.group.knows_subscribed_topics());
}

#[test]
fn unreadable_subscription_counts_as_all_topics() {
    let mut rig = Rig::new();
    rig.stable(&[Client::new("a").metadata("?")]);
    assert!(rig.group.is_subscribed_to("anything"));
    assert!(!rig.group.knows_subscribed_topics());
    let mut connect = Rig::new();
    connect.stable(&[Client::new("a").protocol_type("connect")]);
    assert!(!connect.group.is_subscribed_to("anything"));
}

#[test]
fn stable_group_comes_back_from_its_record() {
    let mut rig = Rig::new();
    let clients = [
        Client::new("a").instance("i"),
        Client::new("b").subscription(subscription(&["flights"])),
    ];
    let ids = rig.stable(&clients);
    let loaded = rig.reload();
    assert_eq!(loaded.group.state(), GroupState::Stable);
    let describe = |group: &ClassicGroup| {
        let member = |(id, member): (&std::sync::Arc<str>, super::MemberView<'_>)| {
            format!("{id} {member:?}")
        };
        group.members().map(member).collect::<Vec<_>>()
    };
    assert_eq!(describe(&loaded.group), describe(&rig.group));
    let mut loaded = loaded;
    assert!(loaded.group.is_leader(&ids[0]));
    assert_eq!(loaded.heartbeat(&ids[0], 1), Ok(()));
    assert_eq!(loaded.group.validate_commit(&ids[1], None, 1), Ok(()));
    // Sessions begin anew and end as before.
    loaded.advance(seconds(10));
    assert_eq!(loaded.group.state(), GroupState::Empty);
}

#[test]
fn group_loaded_above_its_size_is_rebalanced() {
    let mut rig = Rig::new();
    rig.stable(&[Client::new("a"), Client::new("b")]);
    rig.settings.size_max = 1;
    assert_eq!(rig.reload().group.state(), GroupState::PreparingRebalance);
}

#[test]
fn whoever_waits_is_told_when_the_coordinator_goes() {
    let mut rig = Rig::new();
    let ids = rig.completing(&[Client::new("a"), Client::new("b")]);
    let syncing = rig.sync(&ids[1], 1, &[]);
    rig.retire();
    assert_eq!(syncing.now(), Err(ErrorCode::NotCoordinator));
    let mut rig = Rig::new();
    let joining = rig.join(&Client::new("a").old());
    rig.retire();
    assert_eq!(
        joining.now().expect_err("gone").code,
        ErrorCode::NotCoordinator
    );
    let late = rig.join(&Client::new("b")).now().expect_err("gone");
    assert_eq!(late.code, ErrorCode::CoordinatorNotAvailable);
}

#[test]
fn timeouts_of_nothing_do_not_spin() {
    let mut rig = Rig::new();
    let hasty = Client::new("a").old().rebalance_timeout(Duration::ZERO);
    let mut joining = rig.join(&hasty);
    let mut generations = 0;
    for _ in 0..100 {
        // The member joins and never syncs, so each generation ends as soon as it has begun.
        if joining.poll().is_some() {
            generations += 1;
            joining = rig.join(&hasty);
        }
        rig.advance(seconds(1));
        rig.store_all();
    }
    assert!(generations > 10);
    assert!(
        rig.group.wake_at().is_some_and(|at| at > rig.now),
        "a timer is always ahead"
    );
}
