//! What is not in the log is not shown, and what is shown is in the log.

use super::*;

/// Starts a commit and lets it reach the queue.
async fn begin(
    fixture: &Fixture,
    group: &'static str,
    offset: i64,
) -> tokio::task::JoinHandle<Result<(), ErrorCode>> {
    let groups = fixture.groups.clone();
    let task = tokio::spawn(async move {
        groups
            .commit(group, &nobody(), vec![commit("flights", 0, offset)])
            .await
    });
    tokio::task::yield_now().await;
    task
}

#[tokio::test]
async fn commit_is_answered_and_shown_when_it_is_durable() {
    let fixture = Fixture::new();
    fixture.commit("g", 5).await.expect("committed");
    fixture.log.hold();
    let task = begin(&fixture, "g", 6).await;
    fixture.advance(Duration::from_secs(60)).await;
    assert!(!task.is_finished());
    assert_eq!(fixture.committed("g").await, Some(5));
    fixture.log.let_through(1);
    assert_eq!(task.await.expect("no panic"), Ok(()));
    assert_eq!(fixture.committed("g").await, Some(6));
}

#[tokio::test]
async fn reader_that_needs_stable_offsets_waits_for_commits() {
    let fixture = Fixture::new();
    fixture.log.hold();
    let task = begin(&fixture, "g", 6).await;
    let (groups, log) = (fixture.groups.clone(), fixture.log.clone());
    let reader = tokio::spawn(async move {
        let read = |offsets: Option<&super::super::GroupOffsets>| {
            Some(offsets?.get("flights", PartitionId(0))?.offset)
        };
        groups.with_offsets("g", true, read).await
    });
    tokio::task::yield_now().await;
    assert!(!reader.is_finished());
    assert_eq!(fixture.read("g", false).await, None);
    log.let_through(1);
    assert_eq!(reader.await.expect("no panic"), Ok(Some(6)));
    assert_eq!(task.await.expect("no panic"), Ok(()));
    assert_eq!(
        fixture.read("g", true).await,
        Some(6),
        "nothing is on its way any more"
    );
}

#[tokio::test]
async fn commit_that_fails_never_shows() {
    let fixture = Fixture::new();
    for (from_log, to_client) in [
        (
            ErrorCode::NotEnoughReplicas,
            ErrorCode::CoordinatorNotAvailable,
        ),
        (
            ErrorCode::RequestTimedOut,
            ErrorCode::CoordinatorNotAvailable,
        ),
        (ErrorCode::NotLeaderOrFollower, ErrorCode::NotCoordinator),
        (ErrorCode::KafkaStorageError, ErrorCode::NotCoordinator),
        (
            ErrorCode::RecordListTooLarge,
            ErrorCode::InvalidCommitOffsetSize,
        ),
    ] {
        fixture.log.refuse_next(from_log);
        assert_eq!(fixture.commit("g", 6).await, Err(to_client));
        assert_eq!(
            fixture.state("g"),
            None,
            "the group was only made for the commit"
        );
        assert_eq!(fixture.groups.figures().memory_bytes, 0);
    }
    fixture.commit("g", 5).await.expect("committed");
    fixture.log.refuse_next(ErrorCode::NotEnoughReplicas);
    assert_eq!(
        fixture.commit("g", 6).await,
        Err(ErrorCode::CoordinatorNotAvailable)
    );
    assert_eq!(fixture.committed("g").await, Some(5));
    assert_eq!(fixture.reloaded().await.committed("g").await, Some(5));
}

#[tokio::test]
async fn commits_count_in_the_order_of_the_log() {
    let fixture = Fixture::new();
    fixture.log.hold();
    let mut tasks = Vec::new();
    for offset in [1, 9, 4] {
        tasks.push(begin(&fixture, "g", offset).await);
    }
    fixture.log.let_through(1);
    assert_eq!(tasks.remove(0).await.expect("no panic"), Ok(()));
    assert_eq!(fixture.committed("g").await, Some(1));
    fixture.log.let_through(1);
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), Ok(()));
    }
    assert_eq!(fixture.committed("g").await, Some(4));
    assert_eq!(fixture.reloaded().await.committed("g").await, Some(4));
    assert_eq!(
        fixture.log.appends(),
        [1, 2],
        "what gathers meanwhile goes together"
    );
}

#[tokio::test]
async fn slow_log_holds_nobody_else_up() {
    let fixture = Fixture::new();
    let (a, _) = fixture.settle("g", "a").await;
    fixture.log.hold();
    let task = begin(&fixture, "other", 6).await;
    assert_eq!(fixture.groups.heartbeat("g", &a, None, 1), Ok(()));
    assert_eq!(
        fixture.sync("g", &a, 1).await.expect("stable").assignment,
        "all"
    );
    assert_eq!(fixture.committed("other").await, None);
    fixture.advance(Duration::from_secs(11)).await;
    assert_eq!(fixture.state("g"), Some(GroupState::Empty), "timers go on");
    fixture.log.let_through(9);
    assert_eq!(task.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn too_large_a_commit_takes_no_other_with_it() {
    let fixture = Fixture::with(settings(), MemoryLog::bounded(Vec::new(), 600 << 10));
    fixture.log.hold();
    let first = begin(&fixture, "g", 1).await;
    let groups = fixture.groups.clone();
    let large = tokio::spawn(async move {
        let mut large = commit("flights", 0, 2);
        large.committed.metadata = "x".repeat(30_000).into();
        groups.commit("g", &nobody(), vec![large; 21]).await
    });
    tokio::task::yield_now().await;
    let last = begin(&fixture, "g", 3).await;
    fixture.log.let_through(9);
    assert_eq!(first.await.expect("no panic"), Ok(()));
    let refused = large.await.expect("no panic");
    assert_eq!(refused, Err(ErrorCode::InvalidCommitOffsetSize));
    assert_eq!(last.await.expect("no panic"), Ok(()));
    assert_eq!(fixture.committed("g").await, Some(3));
}

#[tokio::test]
async fn log_that_falls_behind_is_not_piled_up() {
    let settings = GroupConfig {
        memory_bytes_max: usize::MAX,
        ..settings()
    };
    let fixture = Fixture::with(settings, MemoryLog::new());
    fixture.log.hold();
    let mut tasks = Vec::new();
    for _ in 0..30 {
        let groups = fixture.groups.clone();
        tasks.push(tokio::spawn(async move {
            let mut large = commit("flights", 0, 2);
            large.committed.metadata = "x".repeat(30_000).into();
            groups.commit("g", &nobody(), vec![large; 30]).await
        }));
        tokio::task::yield_now().await;
    }
    fixture.log.let_through(99);
    let mut refused = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(()) => {}
            Err(code) => {
                assert_eq!(code, ErrorCode::CoordinatorNotAvailable);
                refused += 1;
            }
        }
    }
    assert!(
        (5..15).contains(&refused),
        "{refused} of 30 times 900 kB are refused"
    );
}

#[tokio::test]
async fn members_commit_and_others_do_not() {
    let fixture = Fixture::new();
    let (a, generation) = fixture.settle("g", "a").await;
    let one = || vec![commit("flights", 0, 7)];
    assert_eq!(
        fixture
            .groups
            .commit("g", &member(&a, generation), one())
            .await,
        Ok(())
    );
    let refused = [
        (nobody(), ErrorCode::UnknownMemberId),
        (member(&a, generation + 1), ErrorCode::IllegalGeneration),
        (member(&"b".into(), generation), ErrorCode::UnknownMemberId),
    ];
    for (committer, code) in refused {
        assert_eq!(
            fixture.groups.commit("g", &committer, one()).await,
            Err(code)
        );
    }
    let no_group = fixture.groups.commit("none", &member(&a, 1), one()).await;
    assert_eq!(no_group, Err(ErrorCode::GroupIdNotFound));
    assert_eq!(fixture.state("none"), None);
}
