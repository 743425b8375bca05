//! What the tier's commands do and refuse, one rule after the other. Everything is about partition 0 of one topic.

mod histories;
mod pages;

use super::*;
use crate::codec::{DecodeError, Reader};
use crate::command::Command;
use crate::image::codec;
use crate::testing::remote::{Leader, data, extent};
use crate::testing::{History, create, register, topic_id};

/// A topic on two brokers, and its first leader.
fn led() -> (History, Leader) {
    let mut history = History::with_brokers(2);
    history.ok(create("t", 1, &[&[1, 2], &[2, 1]]));
    let leader = Leader::of(&history.image, topic_id(1), PartitionId(0));
    (history, leader)
}

/// Such a topic with `count` extents of ten records each, objects 0, 1, 2 and so on.
fn uploaded(count: i64) -> (History, Leader) {
    let (mut history, leader) = led();
    for at in 0..count {
        leader.upload(&mut history, vec![tenth(at, leader.epoch)]);
    }
    (history, leader)
}

/// The extent number `at` of ten records.
fn tenth(at: i64, epoch: LeaderEpoch) -> Extent {
    extent(at as u128, at * 10, at * 10 + 10, epoch)
}

/// The first leader's broker starts again: the other one leads.
fn change_leader(history: &mut History) -> Leader {
    history.ok(register(1, 77));
    Leader::of(&history.image, topic_id(1), PartitionId(0))
}

fn bounds(log: &RemoteLog) -> (i64, i64) {
    (log.start.0, log.end.0)
}

fn objects_of(log: &RemoteLog) -> Vec<u128> {
    log.extents().iter().map(|extent| extent.object.0).collect()
}

/// What is garbage since the last command, in the order of names.
fn new_garbage(history: &History) -> Vec<RemoteObject> {
    let is_new = |garbage: &Garbage| garbage.since == history.image.index;
    let garbage = history.image.garbage();
    garbage
        .filter(|(_, garbage)| is_new(garbage))
        .map(|(object, _)| *object)
        .collect()
}

/// Tries a command that must be refused, and proves that it changes nothing.
#[track_caller]
fn refused(history: &mut History, command: Command, rejection: Rejection) {
    let before = MetadataImage {
        index: history.image.index + 1,
        ..history.image.clone()
    };
    let shown = format!("{command:?}");
    assert_eq!(history.run(command), Err(rejection), "{shown:.300}");
    assert!(
        history.image == before,
        "it changed something: {shown:.300}"
    );
}

#[test]
fn a_tier_is_claimed_by_later_incarnations_only() {
    let (mut history, _) = led();
    let claim = |incarnation| Command::ClaimTier { incarnation };
    refused(&mut history, claim(0), Rejection::TierClaimed(0));
    history.ok(claim(2));
    for earlier in [0, 1, 2] {
        refused(&mut history, claim(earlier), Rejection::TierClaimed(2));
    }
    history.ok(claim(3));
    assert_eq!(history.image.tier_incarnation(), 3);
}

#[test]
fn the_first_upload_sets_the_start_and_the_next_ones_move_the_end() {
    let (mut history, leader) = led();
    leader.upload(&mut history, vec![extent(1, 40, 50, leader.epoch)]);
    assert_eq!(bounds(leader.log(&history.image)), (40, 50));
    let two = [(2, 50, 60), (3, 60, 90)].map(|(id, from, to)| extent(id, from, to, leader.epoch));
    leader.upload(&mut history, two.to_vec());
    let log = leader.log(&history.image);
    assert_eq!(bounds(log), (40, 90));
    assert_eq!(objects_of(log), [1, 2, 3]);
    assert_eq!((log.extent_count(), log.generation), (3, 2));
    assert_eq!((log.size_bytes(), log.last_epoch()), (5_000, leader.epoch));
    // Of the bases 40, 50 and 60 the timestamps are the same numbers.
    assert_eq!(log.newest(), Some(two[1].newest));
    assert_eq!(history.image.prepares().len(), 0, "all are committed");
    assert_eq!(history.image.garbage().len(), 0);
    assert_eq!(history.image.remote_logs().len(), 1);
}

#[test]
fn what_was_not_announced_by_this_leader_for_this_partition_is_not_committed() {
    let (mut history, leader) = led();
    let append = leader.append(vec![tenth(0, leader.epoch)]);
    refused(&mut history, append.clone(), Rejection::NotPrepared);
    let other = Leader::of(&history.image, topic_id(1), PartitionId(1));
    history.ok(other.prepare(data(0)));
    refused(&mut history, append, Rejection::NotPrepared);
    // One announcement is for one extent.
    history.ok(leader.prepare(data(1)));
    let twice = [(0, 10), (10, 20)].map(|(from, to)| extent(1, from, to, leader.epoch));
    let twice = leader.append(twice.to_vec());
    refused(&mut history, twice, Rejection::NotPrepared);
}

#[test]
fn a_leader_that_was_replaced_neither_announces_nor_commits() {
    let (mut history, old) = uploaded(2);
    let seal = old.seal(old.log(&history.image), None, 1);
    history.ok(old.prepare(data(8)));
    history.ok(old.prepare(old.page_name(&seal.page)));
    let new = change_leader(&mut history);
    assert!(new.epoch > old.epoch);
    let add = vec![extent(8, 20, 30, old.epoch)];
    let late = [
        old.prepare(data(9)),
        old.append(add.clone()),
        Command::SealPage(seal.clone()),
        old.advance(20),
    ];
    for command in late {
        refused(&mut history, command, Rejection::StaleLeaderEpoch);
    }
    // Nor may the new leader take over what the old one has announced: the object may not be there yet.
    refused(&mut history, new.append(add), Rejection::NotPrepared);
    let seal = PageSeal {
        leader_epoch: new.epoch,
        ..seal
    };
    refused(
        &mut history,
        Command::SealPage(seal),
        Rejection::NotPrepared,
    );
}

#[test]
fn a_partition_that_is_not_there_has_no_tier() {
    let (mut history, leader) = led();
    let no_topic = Leader {
        topic: topic_id(9),
        ..leader
    };
    let no_partition = Leader {
        partition: PartitionId(2),
        ..leader
    };
    for (nobody, rejection) in [
        (no_topic, Rejection::UnknownTopic),
        (no_partition, Rejection::UnknownPartition),
    ] {
        for command in [
            nobody.prepare(data(1)),
            nobody.append(vec![tenth(0, leader.epoch)]),
            nobody.advance(5),
        ] {
            refused(&mut history, command, rejection.clone());
        }
    }
}

#[test]
fn an_object_is_announced_once() {
    let (mut history, leader) = uploaded(3);
    history.ok(leader.prepare(data(8)));
    refused(
        &mut history,
        leader.prepare(data(8)),
        Rejection::ObjectTaken,
    );
    // An announcement that comes a second time after the commit would expire one day, and delete what is in use.
    refused(
        &mut history,
        leader.prepare(data(2)),
        Rejection::ObjectTaken,
    );
    let seal = leader.seal(leader.log(&history.image), None, 2);
    let page = leader.upload_page(&mut history, seal);
    refused(&mut history, leader.prepare(page), Rejection::ObjectTaken);
    history.ok(Command::ExpirePrepares {
        objects: vec![data(8)],
    });
    refused(
        &mut history,
        leader.prepare(data(8)),
        Rejection::ObjectTaken,
    );
    // Another partition has no business with that page: it would expire there too.
    let other = Leader::of(&history.image, topic_id(1), PartitionId(1));
    let foreign = RemoteObject::Page {
        topic: leader.topic,
        partition: leader.partition,
        first: Offset(0),
        hash: 5,
    };
    refused(&mut history, other.prepare(foreign), Rejection::ObjectTaken);
}

#[test]
fn announcements_are_bounded() {
    let (mut history, leader) = led();
    for object in 0..PREPARES_MAX as u128 {
        history.ok(leader.prepare(data(object)));
    }
    let one_more = leader.prepare(data(u128::MAX));
    refused(&mut history, one_more.clone(), Rejection::TooManyPrepares);
    history.ok(leader.append(vec![tenth(0, leader.epoch)]));
    history.ok(one_more);
}

#[test]
fn gaps_overlaps_and_epochs_that_go_down_are_refused() {
    let (mut history, old) = uploaded(2);
    let leader = change_leader(&mut history);
    let now = leader.epoch;
    leader.upload(&mut history, vec![tenth(2, now)]);
    for object in [7, 8, 9] {
        history.ok(leader.prepare(data(object)));
    }
    let e = |object, from, to| extent(object, from, to, now);
    let cases = [
        (
            leader.append(vec![e(7, 31, 40)]),
            Rejection::RemoteEnd(Offset(30)),
        ),
        (
            leader.append(vec![e(7, 29, 40)]),
            Rejection::RemoteEnd(Offset(30)),
        ),
        // The end is as expected, and yet the extent begins elsewhere.
        (
            leader.replace(30, &[], vec![e(7, 31, 40)]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.replace(30, &[], vec![e(7, 29, 40)]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.append(vec![e(7, 30, 40), e(8, 41, 50)]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.append(vec![e(7, 30, 40), e(8, 39, 50)]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.append(vec![e(7, 30, 30)]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.replace(30, &[], vec![]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.append(vec![extent(7, 30, 40, old.epoch)]),
            Rejection::ExtentsOutOfOrder,
        ),
        // The last extent has a later epoch than the one in the middle may get.
        (
            leader.replace(30, &[1], vec![extent(7, 10, 20, LeaderEpoch(now.0 + 1))]),
            Rejection::ExtentsOutOfOrder,
        ),
    ];
    for (command, rejection) in cases {
        refused(&mut history, command, rejection);
    }
    history.ok(leader.append(vec![e(7, 30, 40), e(8, 40, 50), e(9, 50, 60)]));
}

#[test]
fn epochs_go_on_from_the_last_page() {
    let (mut history, old) = uploaded(2);
    let leader = change_leader(&mut history);
    leader.upload(&mut history, vec![tenth(2, leader.epoch)]);
    let seal = leader.seal(leader.log(&history.image), None, 3);
    leader.upload_page(&mut history, seal);
    assert_eq!(leader.log(&history.image).last_epoch(), leader.epoch);
    history.ok(leader.prepare(data(3)));
    let back = leader.append(vec![tenth(3, old.epoch)]);
    refused(&mut history, back, Rejection::ExtentsOutOfOrder);
    history.ok(leader.append(vec![tenth(3, leader.epoch)]));
}

#[test]
fn what_has_expired_is_never_committed() {
    let (mut history, leader) = uploaded(1);
    history.ok(leader.prepare(data(1)));
    history.ok(Command::ExpirePrepares {
        objects: vec![data(1), data(0), data(5)],
    });
    assert_eq!(
        new_garbage(&history),
        [data(1)],
        "the others were not announced"
    );
    let (_, garbage) = history.image.garbage().next().expect("there is one");
    let expected = Garbage {
        since: history.image.index,
        with_extents: false,
        expired: true,
    };
    assert_eq!(*garbage, expected);
    let append = leader.append(vec![tenth(1, leader.epoch)]);
    refused(&mut history, append.clone(), Rejection::NotPrepared);
    history.ok(Command::ForgetGarbage {
        objects: vec![data(1)],
    });
    refused(&mut history, append, Rejection::NotPrepared);
}

#[test]
fn extents_in_the_middle_are_replaced_by_others_of_the_same_offsets() {
    let (mut history, leader) = uploaded(5);
    for object in [10, 11] {
        history.ok(leader.prepare(data(object)));
    }
    let e = |object, from, to| extent(object, from, to, leader.epoch);
    let cases = [
        (
            vec![1, 2],
            vec![e(10, 10, 29)],
            Rejection::ExtentsOutOfOrder,
        ),
        (
            vec![1, 2],
            vec![e(10, 10, 31)],
            Rejection::ExtentsOutOfOrder,
        ),
        (
            vec![1, 2],
            vec![e(10, 11, 30)],
            Rejection::ExtentsOutOfOrder,
        ),
        (vec![1, 2], vec![e(10, 9, 30)], Rejection::ExtentsOutOfOrder),
        (vec![1, 2], vec![], Rejection::ExtentsOutOfOrder),
        // The end of the log is no exception.
        (vec![4], vec![e(10, 40, 60)], Rejection::ExtentsOutOfOrder),
        (vec![1, 3], vec![e(10, 10, 40)], Rejection::UnknownExtent),
        (vec![2, 1], vec![e(10, 10, 30)], Rejection::UnknownExtent),
        (vec![1, 1], vec![e(10, 10, 30)], Rejection::UnknownExtent),
        (vec![4, 5], vec![e(10, 40, 60)], Rejection::UnknownExtent),
        (vec![9], vec![e(10, 10, 20)], Rejection::UnknownExtent),
    ];
    for (remove, add, rejection) in cases {
        refused(&mut history, leader.replace(50, &remove, add), rejection);
    }
    let merge = vec![e(10, 10, 22), e(11, 22, 30)];
    let stale = leader.replace(40, &[1, 2], merge.clone());
    refused(&mut history, stale, Rejection::RemoteEnd(Offset(50)));
    let generation = leader.log(&history.image).generation;
    history.ok(leader.replace(50, &[1, 2], merge));
    let log = leader.log(&history.image);
    assert_eq!(objects_of(log), [0, 10, 11, 3, 4]);
    assert_eq!((bounds(log), log.generation), ((0, 50), generation + 1));
    assert_eq!(new_garbage(&history), [data(1), data(2)]);
    assert!(history.image.garbage().all(|(_, garbage)| !garbage.expired));
}

#[test]
fn no_extent_comes_that_lies_wholly_below_the_start() {
    let (mut history, leader) = uploaded(2);
    history.ok(leader.prepare(data(10)));
    history.ok(leader.prepare(data(11)));
    history.ok(leader.advance(5));
    let split = |at| {
        let add =
            [(10, 0, at), (11, at, 10)].map(|(id, from, to)| extent(id, from, to, leader.epoch));
        leader.replace(20, &[0], add.to_vec())
    };
    refused(&mut history, split(5), Rejection::ExtentsOutOfOrder);
    history.ok(split(6));
    assert_eq!(objects_of(leader.log(&history.image)), [10, 11, 1]);
}

#[test]
fn no_more_extents_are_held_than_a_log_may_have() {
    let (mut history, leader) = uploaded(INLINE_EXTENTS_MAX as i64);
    history.ok(leader.prepare(data(16)));
    let append = leader.append(vec![tenth(16, leader.epoch)]);
    refused(&mut history, append.clone(), Rejection::TooManyExtents);
    history.ok(leader.prepare(data(20)));
    let merge = leader.replace(160, &[0, 1], vec![extent(20, 0, 20, leader.epoch)]);
    history.ok(merge);
    history.ok(append);
    assert_eq!(
        leader.log(&history.image).extent_count(),
        INLINE_EXTENTS_MAX
    );
}

#[test]
fn a_log_begins_later_and_what_lies_wholly_below_is_garbage() {
    let (mut history, leader) = uploaded(4);
    let generation = leader.log(&history.image).generation;
    for start in [i64::MIN, -1, 0] {
        history.ok(leader.advance(start));
        assert_eq!(bounds(leader.log(&history.image)), (0, 40));
    }
    history.ok(leader.advance(9));
    assert_eq!(objects_of(leader.log(&history.image)), [0, 1, 2, 3]);
    assert_eq!(leader.log(&history.image).generation, generation);
    history.ok(leader.advance(25));
    let log = leader.log(&history.image);
    assert_eq!((bounds(log), objects_of(log)), ((25, 40), vec![2, 3]));
    assert_eq!(log.generation, generation + 1);
    assert_eq!(new_garbage(&history), [data(0), data(1)]);
    history.ok(leader.advance(20));
    assert_eq!(
        bounds(leader.log(&history.image)),
        (25, 40),
        "never earlier"
    );
}

#[test]
fn a_log_that_begins_past_its_end_is_empty_and_goes_on_there() {
    let (mut history, leader) = uploaded(2);
    // An upload is on its way meanwhile.
    history.ok(leader.prepare(data(2)));
    history.ok(leader.advance(25));
    let log = leader.log(&history.image);
    assert_eq!((bounds(log), log.is_empty()), ((25, 25), true));
    assert_eq!((log.newest(), log.size_bytes()), (None, 0));
    assert_eq!(new_garbage(&history), [data(0), data(1)]);
    let late = leader.append(vec![tenth(2, leader.epoch)]);
    refused(&mut history, late, Rejection::RemoteEnd(Offset(25)));
    history.ok(leader.append(vec![extent(2, 25, 30, leader.epoch)]));
    assert_eq!(bounds(leader.log(&history.image)), (25, 30));
    history.ok(leader.advance(i64::MAX));
    assert_eq!(bounds(leader.log(&history.image)), (i64::MAX, i64::MAX));
}

#[test]
fn a_log_without_anything_in_the_tier_remembers_where_it_begins() {
    let (mut history, leader) = led();
    for start in [-5, 0] {
        history.ok(leader.advance(start));
        assert_eq!(history.image.remote_logs().len(), 0);
    }
    history.ok(leader.advance(70));
    assert_eq!(bounds(leader.log(&history.image)), (70, 70));
    history.ok(leader.prepare(data(7)));
    let earlier = leader.append(vec![extent(7, 60, 80, leader.epoch)]);
    refused(&mut history, earlier, Rejection::RemoteEnd(Offset(70)));
    history.ok(leader.append(vec![tenth(7, leader.epoch)]));
    assert_eq!(bounds(leader.log(&history.image)), (70, 80));
}

#[test]
fn deleting_a_topic_leaves_garbage_only() {
    let (mut history, leader) = uploaded(5);
    let other = Leader::of(&history.image, topic_id(1), PartitionId(1));
    other.upload(&mut history, vec![extent(20, 3, 5, other.epoch)]);
    let seal = leader.seal(leader.log(&history.image), None, 3);
    let page = leader.upload_page(&mut history, seal);
    history.ok(leader.prepare(data(30)));
    history.ok(create("u", 2, &[&[1]]));
    let another = Leader::of(&history.image, topic_id(2), PartitionId(0));
    another.upload(&mut history, vec![extent(40, 0, 5, another.epoch)]);

    history.ok(Command::DeleteTopic { id: topic_id(1) });
    let left: Vec<_> = history.image.remote_logs().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, topic_id(2), "another topic keeps what it has");
    assert_eq!(new_garbage(&history), [data(3), data(4), data(20), page]);
    for (object, garbage) in history.image.garbage() {
        assert_eq!(garbage.with_extents, *object == page);
    }
    // What was announced is still announced: it expires like that of any leader that is gone.
    let append = leader.append(vec![extent(30, 50, 60, leader.epoch)]);
    refused(&mut history, append, Rejection::UnknownTopic);
    history.ok(Command::ExpirePrepares {
        objects: vec![data(30)],
    });
    assert_eq!(new_garbage(&history), [data(30)]);
}

#[test]
fn garbage_is_forgotten_and_nothing_else() {
    let (mut history, leader) = uploaded(3);
    history.ok(leader.prepare(data(9)));
    history.ok(leader.advance(10));
    history.ok(Command::ForgetGarbage {
        objects: vec![data(0), data(1), data(9), data(50)],
    });
    assert_eq!(history.image.garbage().len(), 0);
    assert!(!history.image.is_garbage(&data(0)));
    assert_eq!(objects_of(leader.log(&history.image)), [1, 2]);
    assert_eq!(history.image.prepares().len(), 1);
    let many = || vec![data(1); LOOSE_OBJECTS_PER_COMMAND_MAX + 1];
    for command in [
        Command::ForgetGarbage { objects: many() },
        Command::ExpirePrepares { objects: many() },
    ] {
        refused(&mut history, command, Rejection::TooManyObjects(10_001));
    }
}

#[test]
fn an_image_comes_back_with_everything_that_is_in_the_tier() {
    let (mut history, leader) = uploaded(6);
    history.ok(Command::ClaimTier { incarnation: 7 });
    let seal = leader.seal(leader.log(&history.image), None, 3);
    leader.upload_page(&mut history, seal);
    history.ok(leader.prepare(data(9)));
    history.ok(leader.prepare(data(10)));
    history.ok(Command::ExpirePrepares {
        objects: vec![data(10)],
    });
    history.ok(leader.replace(60, &[4], vec![extent(9, 40, 50, leader.epoch)]));
    history.ok(leader.prepare(data(11)));
    history.ok(leader.advance(35));
    let bytes = codec::encode(&history.image);
    let mut reader = Reader::new(&bytes);
    let read = codec::decode(&mut reader).expect("it was written here");
    reader.end().expect("all of it was read");
    assert!(read == history.image);
    assert_eq!(read.garbage().len(), 3, "expired, replaced, a page");
    for cut in 0..bytes.len() {
        let mut reader = Reader::new(&bytes[..cut]);
        assert!(codec::decode(&mut reader).is_err(), "{cut} bytes");
    }
}

#[test]
fn an_image_of_version_1_is_still_read() {
    let (history, _) = led();
    let mut bytes = codec::encode(&history.image);
    // Without a tier and functions the end is six zeros: incarnation, remote logs, prepares, garbage,
    // functions, transforms.
    assert_eq!(bytes.split_off(bytes.len() - 6), [0; 6]);
    assert_eq!(std::mem::replace(&mut bytes[0], 1), 3);
    let mut reader = Reader::new(&bytes);
    assert_eq!(codec::decode(&mut reader), Ok(history.image));
    assert_eq!(reader.end(), Ok(()));
}

#[test]
fn an_image_with_more_extents_than_a_log_may_have_is_refused() {
    let (mut history, leader) = uploaded(1);
    let mut log = leader.log(&history.image).clone();
    let extents: Vec<_> = (0..17).map(|at| tenth(at, leader.epoch)).collect();
    log.set_extents(&extents);
    put(&mut history.image, leader.topic, leader.partition, log);
    let bytes = codec::encode(&history.image);
    let refusal = DecodeError::Invalid("the extents of a remote log");
    assert_eq!(codec::decode(&mut Reader::new(&bytes)), Err(refusal));
}
