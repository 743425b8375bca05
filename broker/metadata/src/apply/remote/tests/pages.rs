//! Moving extents into pages, and what becomes of pages.

use super::*;
use crate::testing::remote::page_of;

/// A log of twelve extents, the first eight of which are in two pages: four and four.
fn paged() -> (History, Leader, [RemoteObject; 2]) {
    let (mut history, leader) = uploaded(12);
    let pages = [(); 2].map(|()| {
        let seal = leader.seal(leader.log(&history.image), None, 4);
        leader.upload_page(&mut history, seal)
    });
    (history, leader, pages)
}

fn is_with_extents(history: &History, object: &RemoteObject) -> bool {
    let mut garbage = history.image.garbage();
    let (_, found) = garbage.find(|(name, _)| *name == object).expect("garbage");
    found.with_extents
}

#[test]
fn a_page_takes_the_oldest_extents() {
    let (mut history, leader) = uploaded(6);
    let before = leader.log(&history.image).clone();
    let seal = leader.seal(&before, None, 4);
    leader.upload_page(&mut history, seal.clone());
    let log = leader.log(&history.image);
    assert_eq!(objects_of(log), [4, 5]);
    assert_eq!(*log.pages, [seal.page]);
    assert_eq!(log.generation, before.generation + 1);
    // As a whole the log is what it was.
    assert_eq!(bounds(log), bounds(&before));
    assert_eq!(log.size_bytes(), before.size_bytes());
    assert_eq!(log.newest(), before.newest());
    assert_eq!(history.image.garbage().len(), 0);
    assert_eq!(history.image.prepares().len(), 0);
    // All of them may go; then only pages are left, and uploads go on.
    let seal = leader.seal(log, None, 2);
    leader.upload_page(&mut history, seal);
    let log = leader.log(&history.image);
    assert_eq!((log.extent_count(), log.is_empty()), (0, false));
    assert_eq!(log.last_epoch(), leader.epoch);
    leader.upload(&mut history, vec![tenth(6, leader.epoch)]);
    assert_eq!(bounds(leader.log(&history.image)), (0, 70));
}

#[test]
fn the_last_page_is_written_anew_with_more_extents() {
    let (mut history, leader, pages) = paged();
    let last: Vec<_> = (4..8).map(|at| tenth(at, leader.epoch)).collect();
    let log = leader.log(&history.image).clone();
    let seal = leader.seal(&log, Some(&last), 2);
    leader.upload_page(&mut history, seal.clone());
    assert_eq!(
        *leader.log(&history.image).pages,
        [log.pages[0].clone(), seal.page]
    );
    assert_eq!(objects_of(leader.log(&history.image)), [10, 11]);
    assert_eq!(new_garbage(&history), [pages[1]]);
    assert!(
        !is_with_extents(&history, &pages[1]),
        "the new page has its extents now"
    );
}

#[test]
fn a_page_that_was_made_of_another_state_is_refused() {
    let (mut history, leader, pages) = paged();
    let log = leader.log(&history.image).clone();
    let good = leader.seal(&log, None, 2);
    let all: Vec<_> = (0..12).map(|at| tenth(at, leader.epoch)).collect();
    let with = |change: &dyn Fn(&mut PageSeal)| {
        let mut seal = good.clone();
        change(&mut seal);
        seal
    };
    let cases = [
        (
            with(&|s| s.generation += 1),
            Rejection::RemoteGeneration(log.generation),
        ),
        (
            with(&|s| s.generation -= 1),
            Rejection::RemoteGeneration(log.generation),
        ),
        (with(&|s| s.moved = 1), Rejection::ExtentsOutOfOrder),
        (with(&|s| s.moved = 3), Rejection::ExtentsOutOfOrder),
        (with(&|s| s.moved = 0), Rejection::ExtentsOutOfOrder),
        (with(&|s| s.moved = 5), Rejection::UnknownExtent),
        (with(&|s| s.moved = u32::MAX), Rejection::UnknownExtent),
        (with(&|s| s.page.extents += 1), Rejection::ExtentsOutOfOrder),
        (
            with(&|s| s.page.end = Offset(101)),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            with(&|s| s.page.data_bytes += 1),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            with(&|s| s.page.newest.timestamp += 1),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            with(&|s| s.page.last_epoch.0 += 1),
            Rejection::ExtentsOutOfOrder,
        ),
        // Others than the oldest, those of the page before, too few of the last page.
        (
            with(&|s| s.page = page_of(&all[9..11])),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            with(&|s| s.page = page_of(&all[7..9])),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            with(&|s| s.replaces = Some(log.pages[1].hash)),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            with(&|s| s.replaces = Some(log.pages[0].hash)),
            Rejection::ExtentsOutOfOrder,
        ),
        (with(&|s| s.replaces = Some(1)), Rejection::UnknownExtent),
        (
            with(&|s| s.dropped = vec![ObjectId(0)]),
            Rejection::ExtentsOutOfOrder,
        ),
        (
            leader.seal(&log, Some(&all[5..8]), 2),
            Rejection::ExtentsOutOfOrder,
        ),
        // Without a new extent there is no reason to write a page again.
        (
            leader.seal(&log, Some(&all[4..8]), 0),
            Rejection::ExtentsOutOfOrder,
        ),
    ];
    for (seal, rejection) in cases {
        let name = leader.page_name(&seal.page);
        if name != pages[1] {
            // Some differ in what the name does not say.
            let _ = history.run(leader.prepare(name));
            refused(&mut history, Command::SealPage(seal), rejection);
        }
    }
    history.ok(Command::SealPage(good));
}

#[test]
fn a_page_needs_an_announcement_and_a_log() {
    let (mut history, leader) = uploaded(4);
    let log = leader.log(&history.image).clone();
    let seal = leader.seal(&log, None, 2);
    refused(
        &mut history,
        Command::SealPage(seal.clone()),
        Rejection::NotPrepared,
    );
    let no_last = PageSeal {
        replaces: Some(1),
        ..seal.clone()
    };
    history.ok(leader.prepare(leader.page_name(&seal.page)));
    refused(
        &mut history,
        Command::SealPage(no_last),
        Rejection::UnknownExtent,
    );
    let other = Leader::of(&history.image, topic_id(1), PartitionId(1));
    let no_log = PageSeal {
        partition: other.partition,
        ..seal
    };
    refused(
        &mut history,
        Command::SealPage(no_log),
        Rejection::UnknownExtent,
    );
}

#[test]
fn an_upload_makes_a_page_stale_and_a_later_start_does_not() {
    let (mut history, leader) = uploaded(5);
    let seal = leader.seal(leader.log(&history.image), None, 4);
    history.ok(leader.prepare(leader.page_name(&seal.page)));
    let (mut moved, generation) = (history.image.clone(), seal.generation);
    leader.upload(&mut history, vec![tenth(5, leader.epoch)]);
    let stale = Rejection::RemoteGeneration(generation + 1);
    refused(&mut history, Command::SealPage(seal.clone()), stale);
    // The page has all that the start lies in: were it refused, its name would be taken until it is deleted.
    std::mem::swap(&mut history.image, &mut moved);
    history.ok(leader.advance(5));
    history.ok(Command::SealPage(seal));
    let log = leader.log(&history.image);
    assert_eq!((bounds(log), log.pages[0].base), ((5, 50), Offset(0)));
}

#[test]
fn a_later_start_drops_whole_pages_with_their_extents() {
    let (mut history, leader, pages) = paged();
    history.ok(leader.advance(39));
    assert_eq!(leader.log(&history.image).pages.len(), 2);
    assert_eq!(history.image.garbage().len(), 0);
    history.ok(leader.advance(40));
    assert_eq!(leader.log(&history.image).pages.len(), 1);
    assert_eq!(new_garbage(&history), [pages[0]]);
    assert!(is_with_extents(&history, &pages[0]));
    // The start lies in the page that stays, and that one may still grow.
    history.ok(leader.advance(75));
    let last: Vec<_> = (4..8).map(|at| tenth(at, leader.epoch)).collect();
    let seal = leader.seal(leader.log(&history.image), Some(&last), 1);
    let page = leader.upload_page(&mut history, seal);
    let log = leader.log(&history.image);
    assert_eq!((bounds(log), log.pages[0].base), ((75, 120), Offset(40)));
    // All pages and some extents at once.
    history.ok(leader.advance(105));
    let log = leader.log(&history.image);
    assert_eq!((log.pages.len(), objects_of(log)), (0, vec![10, 11]));
    assert_eq!(new_garbage(&history), [data(9), page]);
    assert!(is_with_extents(&history, &page));
}

#[test]
fn the_first_page_drops_what_lies_wholly_below_the_start() {
    let (mut history, leader, pages) = paged();
    let first: Vec<_> = (0..4).map(|at| tenth(at, leader.epoch)).collect();
    history.ok(leader.advance(25));
    let before = leader.log(&history.image).clone();
    let seal = leader.shorten(&before, &first, 2, 0);
    leader.upload_page(&mut history, seal.clone());
    let log = leader.log(&history.image);
    assert_eq!(*log.pages, [seal.page, before.pages[1].clone()]);
    assert_eq!((bounds(log), log.extent_count()), ((25, 120), 4));
    assert_eq!(log.size_bytes(), before.size_bytes() - 2_000);
    assert_eq!(log.generation, before.generation + 1);
    assert_eq!(new_garbage(&history), [data(0), data(1), pages[0]]);
    assert!(
        !is_with_extents(&history, &pages[0]),
        "the others are in use"
    );
    // Once more, and from what is the first page and the last one at once, with extents moved there.
    history.ok(leader.advance(75));
    let last: Vec<_> = (4..8).map(|at| tenth(at, leader.epoch)).collect();
    let seal = leader.shorten(leader.log(&history.image), &last, 3, 2);
    leader.upload_page(&mut history, seal);
    let log = leader.log(&history.image);
    assert_eq!((log.pages[0].base, log.pages[0].end.0), (Offset(70), 100));
    assert_eq!((log.pages.len(), objects_of(log)), (1, vec![10, 11]));
    assert_eq!(new_garbage(&history), [data(4), data(5), data(6), pages[1]]);
}

#[test]
fn a_page_drops_nothing_that_may_still_be_read() {
    let (mut history, leader, _) = paged();
    let first: Vec<_> = (0..4).map(|at| tenth(at, leader.epoch)).collect();
    let last: Vec<_> = (4..8).map(|at| tenth(at, leader.epoch)).collect();
    history.ok(leader.advance(25));
    let log = leader.log(&history.image).clone();
    let good = leader.shorten(&log, &first, 2, 0);
    let with = |change: &dyn Fn(&mut PageSeal)| {
        let mut seal = good.clone();
        change(&mut seal);
        seal
    };
    let many = vec![ObjectId(0); LOOSE_OBJECTS_PER_COMMAND_MAX + 1];
    let cases = [
        // The start lies in the third extent.
        leader.shorten(&log, &first, 3, 0),
        // Of another page than the first, or with extents at its end although it is not the last.
        PageSeal {
            replaces: Some(log.pages[1].hash),
            ..leader.shorten(&log, &last, 2, 0)
        },
        leader.shorten(&log, &first, 2, 1),
        // What it does not name stays for ever, and what is in use must not go.
        with(&|s| s.dropped.truncate(1)),
        with(&|s| s.dropped.push(ObjectId(2))),
        with(&|s| s.dropped[0] = ObjectId(9)),
        with(&|s| s.replaces = None),
        with(&|s| s.page.data_bytes = log.pages[0].data_bytes),
        with(&|s| s.page.newest.timestamp += 1_000),
        with(&|s| s.page.end = Offset(50)),
        with(&|s| s.page.last_epoch.0 += 1),
    ];
    for seal in cases {
        let _ = history.run(leader.prepare(leader.page_name(&seal.page)));
        refused(
            &mut history,
            Command::SealPage(seal),
            Rejection::ExtentsOutOfOrder,
        );
    }
    let seal = with(&|s| s.dropped = many.clone());
    let _ = history.run(leader.prepare(leader.page_name(&seal.page)));
    let too_many = Rejection::TooManyObjects(many.len());
    refused(&mut history, Command::SealPage(seal), too_many);
    history.ok(Command::SealPage(good));
}

#[test]
fn extents_in_pages_are_not_replaced() {
    let (mut history, leader, _) = paged();
    history.ok(leader.prepare(data(50)));
    let cases: [(&[u128], i64, i64); 2] = [(&[7], 70, 80), (&[7, 8], 70, 90)];
    for (remove, base, end) in cases {
        let replace = leader.replace(120, remove, vec![extent(50, base, end, leader.epoch)]);
        refused(&mut history, replace, Rejection::UnknownExtent);
    }
}
