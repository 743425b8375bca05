//! Taking over a partition and giving it away.

use super::*;
use crate::group::records::{self, Stored};

#[tokio::test]
async fn groups_and_offsets_come_back() {
    let fixture = Fixture::new();
    let (a, generation) = fixture.settle("g", "a").await;
    let commits = (0..3).map(|partition| commit("flights", partition, 10 + i64::from(partition)));
    let member_of_g = member(&a, generation);
    fixture
        .groups
        .commit("g", &member_of_g, commits.collect())
        .await
        .expect("committed");
    fixture.commit("simple", 5).await.expect("committed");
    fixture.commit("simple", 6).await.expect("committed");
    fixture.commit("gone", 1).await.expect("committed");
    fixture.groups.delete_group("gone").await.expect("empty");

    let loaded = fixture.reloaded().await;
    assert_eq!(loaded.all_offsets(), fixture.all_offsets());
    assert_eq!(loaded.all_offsets().len(), 4);
    assert_eq!(loaded.state("gone"), None);
    assert_eq!(loaded.state("simple"), Some(GroupState::Empty));
    assert_eq!(loaded.state("g"), Some(GroupState::Stable));
    assert_eq!(loaded.groups.heartbeat("g", &a, None, generation), Ok(()));
    assert_eq!(
        loaded
            .sync("g", &a, generation)
            .await
            .expect("stable")
            .assignment,
        "all"
    );
    // The member's session began anew, and ends when it stays silent.
    loaded.advance(Duration::from_millis(10_100)).await;
    assert_eq!(loaded.state("g"), Some(GroupState::Empty));
    let found = loaded.groups.with_offsets("g", false, |offsets| {
        offsets
            .and_then(|offsets| offsets.get("flights", PartitionId(1)))
            .cloned()
    });
    assert_eq!(
        found.await.expect("coordinator"),
        Some(commit("flights", 1, 11).committed)
    );
}

#[tokio::test]
async fn tombstones_count_in_their_order() {
    let offset = |value: i64| {
        let Commit {
            topic,
            partition,
            committed,
        } = commit("flights", 0, value);
        records::offset("g", &topic, partition, &committed)
    };
    let offset_tombstone = || records::offset_tombstone("g", "flights", PartitionId(0));
    let group_tombstone = || records::group_tombstone("g");
    let cases = [
        (vec![offset(1), offset_tombstone()], None),
        (vec![offset(1), offset_tombstone(), offset(2)], Some(2)),
        (vec![offset_tombstone(), offset(3)], Some(3)),
        (vec![offset(1), offset(2), group_tombstone()], Some(2)),
        (vec![offset(1), offset_tombstone(), group_tombstone()], None),
        (vec![group_tombstone(), offset(4)], Some(4)),
    ];
    for (records, expected) in cases {
        let fixture = Fixture::with(settings(), MemoryLog::of(records));
        fixture.loaded().await;
        assert_eq!(fixture.committed("g").await, expected);
        assert_eq!(fixture.state("g").is_some(), expected.is_some());
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_skipped() {
    let fixture = Fixture::new();
    fixture.settle("g", "a").await;
    fixture.commit("simple", 5).await.expect("committed");
    let raw = |key: &'static [u8], value: Option<&'static [u8]>| CoordinatorRecord {
        key: Bytes::from_static(key),
        value: value.map(Bytes::from_static),
    };
    let mut records = fixture.log.records();
    records.extend([
        raw(b"", None),
        raw(b"\0", None),
        raw(b"\x00\x01", Some(b"")),
        raw(b"\x00\x03\x00\x01g", Some(b"\x00\x00")),
        raw(b"\x7f\xff", None),
        raw(b"\x00\x02\x00\x01g", Some(b"\x00\x09")),
        raw(b"\x00\x02\x00\x01g", Some(b"\x00\x03\xff\xff\xff\xff")),
    ]);
    let loaded = Fixture::with(settings(), MemoryLog::of(records));
    loaded.loaded().await;
    assert_eq!(loaded.committed("simple").await, Some(5));
    assert_eq!(loaded.state("g"), Some(GroupState::Stable));
}

#[tokio::test]
async fn stages_of_a_partition_have_their_answers() {
    let mut fixture = Fixture::new();
    fixture.commit("g", 5).await.expect("committed");
    fixture.groups.resign(PARTITION);
    assert_eq!(fixture.commit("g", 6).await, Err(ErrorCode::NotCoordinator));

    let open = fixture.log.gate_reading();
    fixture.lead();
    let loading = Err(ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(fixture.commit("g", 6).await, loading);
    assert_eq!(fixture.groups.visit(|_, _| {}), loading);
    assert_eq!(
        fixture.groups.heartbeat("g", "a", None, 1),
        Ok(()),
        "nobody can tell"
    );
    open.send(()).expect("the reader waits");
    fixture.loaded().await;
    assert_eq!(fixture.committed("g").await, Some(5));

    fixture.log.refuse_next(ErrorCode::CorruptMessage);
    fixture.lead();
    fixture.loaded().await;
    assert_eq!(fixture.commit("g", 6).await, Err(ErrorCode::NotCoordinator));
}

#[tokio::test]
async fn reading_that_ends_after_its_term_changes_nothing() {
    let with_offset = |offset: i64| {
        let Commit {
            topic,
            partition,
            committed,
        } = commit("flights", 0, offset);
        MemoryLog::of(vec![records::offset("g", &topic, partition, &committed)])
    };
    let (slow, fast) = (with_offset(5), with_offset(9));
    let open = slow.gate_reading();
    let mut fixture = Fixture::with(settings(), slow.clone());
    fixture.log = fast;
    fixture.lead();
    fixture.loaded().await;
    assert_eq!(fixture.committed("g").await, Some(9));
    open.send(()).expect("the reader waits");
    // The reader lets go of the log when it has found that nobody wants it.
    while Arc::strong_count(&slow) > 1 {
        assert_eq!(fixture.committed("g").await, Some(9));
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.committed("g").await, Some(9));
    assert_eq!(fixture.commit("g", 10).await, Ok(()));
}

#[tokio::test]
async fn resigning_answers_whoever_waits() {
    let fixture = Fixture::new();
    fixture.settle("g", "a").await;
    let groups = fixture.groups.clone();
    let joining = tokio::spawn(async move { groups.join("g", request("b", "")).await });
    tokio::task::yield_now().await;
    fixture.log.hold();
    let mut commits = Vec::new();
    for group in ["first", "second"] {
        let groups = fixture.groups.clone();
        commits.push(tokio::spawn(async move {
            groups
                .commit(group, &nobody(), vec![commit("flights", 0, 1)])
                .await
        }));
        tokio::task::yield_now().await;
    }
    fixture.groups.resign(PARTITION);
    let refusal = joining.await.expect("no panic").expect_err("gone");
    assert_eq!(refusal.code, ErrorCode::NotCoordinator);
    assert_eq!(fixture.groups.figures().memory_bytes, 0);
    // The first was being appended; the second never will be.
    let second = commits.pop().expect("two").await.expect("no panic");
    assert_eq!(second, Err(ErrorCode::NotCoordinator));
    fixture.log.let_through(9);
    assert_eq!(commits.pop().expect("two").await.expect("no panic"), Ok(()));
    assert!(!fixture.log.records().iter().any(|record| {
        matches!(records::read(record.clone()), Ok(Stored::Offset { group, .. }) if &*group == "second")
    }));
}
