//! Deleting groups and offsets, and offsets that expire.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn only_empty_groups_are_deleted() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.groups.delete_group("g").await,
        Err(ErrorCode::GroupIdNotFound)
    );
    let (a, generation) = fixture.settle("g", "a").await;
    let commits = vec![commit("flights", 0, 7), commit("planes", 2, 8)];
    fixture
        .groups
        .commit("g", &member(&a, generation), commits)
        .await
        .expect("committed");
    assert_eq!(
        fixture.groups.delete_group("g").await,
        Err(ErrorCode::NonEmptyGroup)
    );
    let leaving = LeavingMember {
        member_id: a.clone(),
        group_instance_id: None,
        reason: "".into(),
    };
    fixture
        .groups
        .leave("g", &[leaving])
        .expect("known")
        .remove(0)
        .expect("left");
    assert_eq!(fixture.groups.delete_group("g").await, Ok(()));
    assert_eq!(fixture.state("g"), None);
    assert_eq!(fixture.groups.figures().memory_bytes, 0);
    let loaded = fixture.reloaded().await;
    assert_eq!((loaded.state("g"), loaded.all_offsets().len()), (None, 0));
}

#[tokio::test]
async fn deleted_group_takes_commits_on_their_way_with_it() {
    let fixture = Fixture::new();
    fixture.commit("g", 5).await.expect("committed");
    fixture.log.hold();
    let groups = fixture.groups.clone();
    let before = tokio::spawn(async move {
        groups
            .commit("g", &nobody(), vec![commit("planes", 0, 1)])
            .await
    });
    tokio::task::yield_now().await;
    let groups = fixture.groups.clone();
    let deleting = tokio::spawn(async move { groups.delete_group("g").await });
    tokio::task::yield_now().await;
    let groups = fixture.groups.clone();
    let after = tokio::spawn(async move {
        groups
            .commit("g", &nobody(), vec![commit("weather", 0, 2)])
            .await
    });
    tokio::task::yield_now().await;
    fixture.log.let_through(9);
    for task in [before, deleting, after] {
        assert_eq!(task.await.expect("no panic"), Ok(()));
    }
    let left = BTreeMap::from([(("g".to_owned(), "weather".to_owned(), 0), 2)]);
    assert_eq!(
        fixture.all_offsets(),
        left,
        "what came later is another group's"
    );
    assert_eq!(fixture.reloaded().await.all_offsets(), left);
}

#[tokio::test]
async fn deletion_that_fails_deletes_nothing() {
    let fixture = Fixture::new();
    fixture.commit("g", 5).await.expect("committed");
    fixture.log.refuse_next(ErrorCode::NotEnoughReplicas);
    let failed = fixture.groups.delete_group("g").await;
    assert_eq!(failed, Err(ErrorCode::CoordinatorNotAvailable));
    assert_eq!(fixture.committed("g").await, Some(5));
    assert_eq!(fixture.groups.delete_group("g").await, Ok(()));
    assert_eq!(fixture.committed("g").await, None);
}

#[tokio::test]
async fn single_offsets_are_deleted() {
    let fixture = Fixture::new();
    let commits = (0..3)
        .map(|partition| commit("flights", partition, 7))
        .collect();
    fixture
        .groups
        .commit("g", &nobody(), commits)
        .await
        .expect("committed");
    let choose = |partitions: Vec<i32>| {
        move |group: &super::super::classic::ClassicGroup| {
            assert!(!group.is_subscribed_to("flights"));
            partitions
                .into_iter()
                .map(|index| ("flights".into(), PartitionId(index)))
                .collect()
        }
    };
    assert_eq!(
        fixture
            .groups
            .delete_offsets("g", choose(vec![0, 2, 9]))
            .await,
        Ok(())
    );
    let left = BTreeMap::from([(("g".to_owned(), "flights".to_owned(), 1), 7)]);
    assert_eq!(fixture.all_offsets(), left);
    assert_eq!(fixture.reloaded().await.all_offsets(), left);
    let missing = fixture.groups.delete_offsets("none", |_| Vec::new()).await;
    assert_eq!(missing, Err(ErrorCode::GroupIdNotFound));
    // The last one takes the group with it, which only existed for its offsets.
    assert_eq!(
        fixture.groups.delete_offsets("g", choose(vec![1])).await,
        Ok(())
    );
    assert_eq!(fixture.state("g"), None);
}

#[tokio::test]
async fn offsets_of_a_group_that_is_no_consumer_are_kept_while_it_lives() {
    let fixture = Fixture::new();
    let mut worker = request("w", "");
    worker.protocol_type = "connect".into();
    fixture.groups.join("g", worker).await.expect("joined");
    let refused = fixture.groups.delete_offsets("g", |_| Vec::new()).await;
    assert_eq!(refused, Err(ErrorCode::NonEmptyGroup));
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_go() {
    let fixture = Fixture::new();
    for group in ["g", "h"] {
        let commits = vec![commit("flights", 0, 7), commit("planes", 0, 8)];
        fixture
            .groups
            .commit(group, &nobody(), commits)
            .await
            .expect("committed");
    }
    fixture.groups.on_topic_deleted("flights");
    fixture.read("g", true).await;
    let topics: Vec<_> = fixture
        .all_offsets()
        .into_keys()
        .map(|(_, topic, _)| topic)
        .collect();
    assert_eq!(topics, ["planes", "planes"]);
    assert_eq!(
        fixture.reloaded().await.all_offsets(),
        fixture.all_offsets()
    );
}

#[tokio::test]
async fn offsets_of_an_empty_group_expire() {
    let fixture = Fixture::new();
    let (a, generation) = fixture.settle("g", "a").await;
    let commits = vec![commit("flights", 0, 7)];
    fixture
        .groups
        .commit("g", &member(&a, generation), commits)
        .await
        .expect("committed");
    fixture.advance(Duration::from_secs(11)).await;
    assert_eq!(fixture.state("g"), Some(GroupState::Empty));
    fixture.advance(7 * DAY - Duration::from_secs(60)).await;
    assert_eq!(fixture.committed("g").await, Some(7));
    fixture.advance(Duration::from_secs(700)).await;
    assert_eq!(fixture.state("g"), None);
    let loaded = fixture.reloaded().await;
    assert_eq!((loaded.state("g"), loaded.all_offsets().len()), (None, 0));
}

#[tokio::test]
async fn offsets_outside_of_any_protocol_expire_after_their_commit() {
    let fixture = Fixture::new();
    fixture.commit("old", 1).await.expect("committed");
    fixture.advance(6 * DAY).await;
    let mut fresh = commit("flights", 0, 2);
    fresh.committed.committed_at_ms += i64::try_from((6 * DAY).as_millis()).expect("fits");
    fixture
        .groups
        .commit("fresh", &nobody(), vec![fresh])
        .await
        .expect("committed");
    fixture.advance(DAY + Duration::from_secs(700)).await;
    assert_eq!(
        (fixture.state("old"), fixture.committed("fresh").await),
        (None, Some(2))
    );
}

#[tokio::test]
async fn offset_that_is_being_committed_does_not_expire() {
    let fixture = Fixture::new();
    fixture.commit("g", 1).await.expect("committed");
    fixture.advance(7 * DAY - Duration::from_secs(60)).await;
    fixture.log.hold();
    let groups = fixture.groups.clone();
    let task = tokio::spawn(async move {
        groups
            .commit("g", &nobody(), vec![commit("flights", 0, 2)])
            .await
    });
    tokio::task::yield_now().await;
    fixture.advance(Duration::from_secs(700)).await;
    fixture.log.let_through(9);
    assert_eq!(task.await.expect("no panic"), Ok(()));
    assert_eq!(fixture.read("g", true).await, Some(2));
}

#[tokio::test]
async fn stable_group_keeps_what_it_subscribes_to() {
    let fixture = Fixture::new();
    let (a, generation) = fixture.settle("g", "a").await;
    let commits = vec![commit("flights", 0, 7), commit("unsubscribed", 0, 8)];
    fixture
        .groups
        .commit("g", &member(&a, generation), commits)
        .await
        .expect("committed");
    let end = fixture.clock.monotonic() + 7 * DAY + Duration::from_secs(700);
    while fixture.clock.monotonic() < end {
        fixture.advance(Duration::from_millis(9_900)).await;
        assert_eq!(fixture.groups.heartbeat("g", &a, None, generation), Ok(()));
    }
    let topics: Vec<_> = fixture
        .all_offsets()
        .into_keys()
        .map(|(_, topic, _)| topic)
        .collect();
    assert_eq!(topics, ["flights"]);
    assert_eq!(fixture.state("g"), Some(GroupState::Stable));
}

#[tokio::test]
async fn expiry_that_a_client_asked_for_counts() {
    let fixture = Fixture::new();
    let mut short = commit("flights", 0, 1);
    short.committed.expires_at_ms = Some(short.committed.committed_at_ms + 1_000);
    let mut long = commit("flights", 1, 1);
    let month = i64::try_from((30 * DAY).as_millis()).expect("fits");
    long.committed.expires_at_ms = Some(long.committed.committed_at_ms + month);
    fixture
        .groups
        .commit("g", &nobody(), vec![short, long])
        .await
        .expect("committed");
    fixture.advance(Duration::from_secs(700)).await;
    assert_eq!(fixture.all_offsets().len(), 1);
    assert_eq!(
        fixture.reloaded().await.all_offsets(),
        fixture.all_offsets()
    );
    fixture.advance(8 * DAY).await;
    assert_eq!(fixture.all_offsets().len(), 1);
    fixture.advance(30 * DAY).await;
    assert_eq!(fixture.state("g"), None);
}
