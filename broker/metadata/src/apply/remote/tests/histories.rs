//! Any history of uploads, pages, trims, new leaders and deleted topics keeps the invariants. Beside the image runs
//! a model that knows what the metadata does not: which extents are in which page, and every name that was ever
//! announced.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::testing;

/// Two topics of two partitions each.
const PARTITIONS: usize = 4;

/// A step of a history. Which objects and offsets it is about depends on the state that it finds.
#[derive(Debug, Clone)]
enum Step {
    /// Announces objects of new names.
    Announce { at: usize, count: usize },
    /// Announces once more what was announced before, perhaps for another partition.
    AnnounceAgain { at: usize, object: Index },
    /// Commits announced objects at the end, or `skew` away from it.
    Append {
        at: usize,
        objects: Vec<Index>,
        skew: i64,
    },
    /// Puts announced objects in the place of others, whose last end is moved by `skew`.
    Merge {
        at: usize,
        from: Index,
        count: usize,
        objects: Vec<Index>,
        skew: i64,
    },
    /// Makes a page and announces it. Perhaps it is sealed before anything else happens.
    DraftPage {
        at: usize,
        moved: usize,
        with_last: bool,
        is_at_once: bool,
    },
    /// Makes the first page without what lies below the start, and `moved` further extents, and announces it.
    ShortenPage {
        at: usize,
        moved: usize,
        is_at_once: bool,
    },
    /// Seals a page that was made at some time.
    Seal { draft: Index },
    /// Moves the start by so much.
    Advance { at: usize, by: i64 },
    /// Gives up an announced object.
    Expire { object: Index },
    /// Deletes garbage.
    Forget { object: Index },
    /// A broker starts again.
    Restart { node: i32 },
    /// A topic is deleted, and created again under another id.
    Recreate { topic: usize },
    /// Whatever.
    Any(Command),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..PARTITIONS;
    let index = any::<Index>;
    let objects = || prop::collection::vec(any::<Index>(), 1..4);
    let skew = || prop_oneof![9 => Just(0), 1 => -1..2i64];
    prop_oneof![
        20 => (at.clone(), 1..4usize).prop_map(|(at, count)| Step::Announce { at, count }),
        3 => (at.clone(), index()).prop_map(|(at, object)| Step::AnnounceAgain { at, object }),
        30 => (at.clone(), objects(), skew())
            .prop_map(|(at, objects, skew)| Step::Append { at, objects, skew }),
        10 => (at.clone(), index(), 1..4usize, objects(), skew()).prop_map(
            |(at, from, count, objects, skew)| Step::Merge { at, from, count, objects, skew }
        ),
        10 => (at.clone(), 1..6usize, any::<bool>(), any::<bool>()).prop_map(
            |(at, moved, with_last, is_at_once)| Step::DraftPage { at, moved, with_last, is_at_once }
        ),
        5 => (at.clone(), 0..3usize, any::<bool>()).prop_map(
            |(at, moved, is_at_once)| Step::ShortenPage { at, moved, is_at_once }
        ),
        8 => index().prop_map(|draft| Step::Seal { draft }),
        6 => (at, -5..60i64).prop_map(|(at, by)| Step::Advance { at, by }),
        4 => index().prop_map(|object| Step::Expire { object }),
        6 => index().prop_map(|object| Step::Forget { object }),
        1 => (1..3i32).prop_map(|node| Step::Restart { node }),
        1 => (0..2usize).prop_map(|topic| Step::Recreate { topic }),
        2 => testing::command().prop_map(Step::Any),
    ]
}

struct World {
    history: History,
    /// The ids that the two topics have now, and the next one that is free.
    topics: [u128; 2],
    next_topic: u128,
    next_object: u128,
    restarts: u128,
    /// Pages that were announced, with their extents.
    pages: BTreeMap<RemoteObject, Vec<Extent>>,
    drafts: Vec<PageSeal>,
    announced: BTreeSet<RemoteObject>,
    forgotten: BTreeSet<RemoteObject>,
}

impl World {
    fn new() -> Self {
        let mut history = History::with_brokers(2);
        for (name, id) in [("t0", 1), ("t1", 2)] {
            history.ok(create(name, id, &[&[1, 2], &[2, 1]]));
        }
        Self {
            history,
            topics: [1, 2],
            next_topic: 3,
            next_object: 0,
            restarts: 1_000,
            pages: BTreeMap::new(),
            drafts: Vec::new(),
            announced: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        }
    }

    fn leader(&self, at: usize) -> Leader {
        let topic = topic_id(self.topics[at / 2]);
        Leader::of(&self.history.image, topic, PartitionId((at % 2) as i32))
    }

    fn log(&self, leader: &Leader) -> Option<&RemoteLog> {
        let log = self
            .history
            .image
            .remote_log(leader.topic, leader.partition);
        log.map(|log| &**log)
    }

    /// Some of the data objects that are announced for a partition, none twice; such of earlier leaders only where the
    /// present one has announced none.
    fn some_prepared(&self, leader: &Leader, picks: &[Index]) -> Vec<u128> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (object, prepare) in self.history.image.prepares() {
            let is_here = (prepare.topic, prepare.partition) == (leader.topic, leader.partition);
            match object {
                RemoteObject::Data(id) if is_here && prepare.leader_epoch == leader.epoch => {
                    ours.push(id.0)
                }
                RemoteObject::Data(id) if is_here => theirs.push(id.0),
                _ => {}
            }
        }
        let objects = if ours.is_empty() { theirs } else { ours };
        let picked = picks
            .iter()
            .filter(|_| !objects.is_empty())
            .map(|pick| *pick.get(&objects));
        BTreeSet::from_iter(picked).into_iter().collect()
    }

    /// The commands of a step, none where there is nothing that it could be about.
    fn commands(&mut self, step: Step) -> Vec<Command> {
        match step {
            Step::Announce { at, count } => {
                let leader = self.leader(at);
                let first = self.next_object;
                self.next_object += count as u128;
                let names = first..self.next_object;
                names.map(|object| leader.prepare(data(object))).collect()
            }
            Step::AnnounceAgain { at, object } => {
                self.announce_again(at, object).into_iter().collect()
            }
            Step::Append { at, objects, skew } => {
                let leader = self.leader(at);
                let end = self.log(&leader).map_or(7, |log| log.end.0);
                let objects = self.some_prepared(&leader, &objects);
                let run = |(at, object): (usize, u128)| {
                    let base = end + skew * at as i64 + 10 * at as i64;
                    extent(object, base, base + 10, leader.epoch)
                };
                let add: Vec<_> = objects.into_iter().enumerate().map(run).collect();
                let command = leader.replace(end + skew, &[], add.clone());
                (!add.is_empty()).then_some(command).into_iter().collect()
            }
            Step::Merge {
                at,
                from,
                count,
                objects,
                skew,
            } => self
                .merge(at, from, count, &objects, skew)
                .into_iter()
                .collect(),
            Step::DraftPage {
                at,
                moved,
                with_last,
                is_at_once,
            } => {
                let prepare = self.draft_page(at, moved, with_last);
                self.with_seal(prepare, is_at_once)
            }
            Step::ShortenPage {
                at,
                moved,
                is_at_once,
            } => {
                let prepare = self.shorten_page(at, moved);
                self.with_seal(prepare, is_at_once)
            }
            Step::Seal { draft } => {
                // One of the last few: the older ones are of a state that has passed.
                let drafts = &self.drafts[self.drafts.len().saturating_sub(4)..];
                let draft = (!drafts.is_empty()).then(|| draft.get(drafts).clone());
                draft.map(Command::SealPage).into_iter().collect()
            }
            Step::Advance { at, by } => {
                let leader = self.leader(at);
                let start = self.log(&leader).map_or(0, |log| log.start.0);
                vec![leader.advance(start + by)]
            }
            Step::Expire { object } => {
                let prepares = self.history.image.prepares();
                let objects: Vec<_> = prepares.map(|(object, _)| *object).collect();
                let objects = pick(&objects, object);
                vec![Command::ExpirePrepares { objects }]
            }
            Step::Forget { object } => {
                let garbage = self.history.image.garbage();
                let objects: Vec<_> = garbage.map(|(object, _)| *object).collect();
                let objects = pick(&objects, object);
                vec![Command::ForgetGarbage { objects }]
            }
            Step::Restart { node } => {
                self.restarts += 1;
                vec![register(node, self.restarts)]
            }
            Step::Recreate { topic } => {
                let old = topic_id(self.topics[topic]);
                self.topics[topic] = self.next_topic;
                self.next_topic += 1;
                vec![
                    Command::DeleteTopic { id: old },
                    create(["t0", "t1"][topic], self.topics[topic], &[&[1, 2], &[2, 1]]),
                ]
            }
            Step::Any(command) => vec![command],
        }
    }

    fn announce_again(&self, at: usize, object: Index) -> Option<Command> {
        // Two things the metadata cannot know, and need not: what is in pages, since an announcement does not come
        // again after so many uploads, and what other partitions have, since names of data are drawn at random.
        let paged = self.pages.values().flatten();
        let paged: BTreeSet<_> = paged
            .map(|extent| RemoteObject::Data(extent.object))
            .collect();
        let leader = self.leader(at);
        let elsewhere: BTreeSet<_> = self
            .history
            .image
            .remote_logs()
            .filter(|(topic, partition, _)| {
                (*topic, *partition) != (leader.topic, leader.partition)
            })
            .flat_map(|(_, _, log)| log.extents())
            .map(|extent| RemoteObject::Data(extent.object))
            .collect();
        let known: Vec<_> = self
            .announced
            .iter()
            .filter(|object| !paged.contains(object) && !elsewhere.contains(object))
            .copied()
            .collect();
        pick(&known, object)
            .pop()
            .map(|object| leader.prepare(object))
    }

    fn merge(
        &self,
        at: usize,
        from: Index,
        count: usize,
        objects: &[Index],
        skew: i64,
    ) -> Option<Command> {
        let leader = self.leader(at);
        let log = self.log(&leader)?;
        let extents = log.extents();
        let from = (!extents.is_empty()).then(|| from.index(extents.len()))?;
        let removed = &extents[from..(from + count).min(extents.len())];
        let (base, end) = (removed[0].base.0, removed[removed.len() - 1].end.0 + skew);
        let objects = self.some_prepared(&leader, objects);
        let epoch = removed[0].last_epoch();
        let last = objects.len().checked_sub(1)?;
        let run = |(at, object): (usize, u128)| {
            let to = if at == last {
                end
            } else {
                base + at as i64 + 1
            };
            extent(object, base + at as i64, to, epoch)
        };
        let add = objects.into_iter().enumerate().map(run).collect();
        let removed: Vec<_> = removed.iter().map(|extent| extent.object.0).collect();
        Some(leader.replace(log.end.0, &removed, add))
    }

    fn draft_page(&mut self, at: usize, moved: usize, with_last: bool) -> Option<Command> {
        let leader = self.leader(at);
        let log = self.log(&leader)?;
        let last = log.pages.last().filter(|_| with_last);
        let paged = last.map(|last| self.pages[&leader.page_name(last)].clone());
        let moved = moved.min(log.extent_count());
        if moved == 0 {
            return None;
        }
        let seal = leader.seal(log, paged.as_deref(), moved);
        let moved = log.extents()[..moved].to_vec();
        let name = leader.page_name(&seal.page);
        self.pages
            .insert(name, [paged.unwrap_or_default(), moved].concat());
        self.drafts.push(seal);
        Some(leader.prepare(name))
    }

    fn shorten_page(&mut self, at: usize, moved: usize) -> Option<Command> {
        let leader = self.leader(at);
        let log = self.log(&leader)?;
        let first = log.pages.first()?;
        let paged = self.pages[&leader.page_name(first)].clone();
        let dropped = paged.partition_point(|extent| extent.end <= log.start);
        let moved = moved.min(log.extent_count());
        let seal = leader.shorten(log, &paged, dropped, moved);
        let extents = [&paged[dropped..], &log.extents()[..moved]].concat();
        let name = leader.page_name(&seal.page);
        self.pages.insert(name, extents);
        self.drafts.push(seal);
        Some(leader.prepare(name))
    }

    /// The announcement of a page and, at once, its seal.
    fn with_seal(&self, prepare: Option<Command>, is_at_once: bool) -> Vec<Command> {
        let draft = self
            .drafts
            .last()
            .filter(|_| prepare.is_some() && is_at_once);
        let seal = draft.cloned().map(Command::SealPage);
        prepare.into_iter().chain(seal).collect()
    }

    /// Runs a command as two replicas would, one of which read it from its log.
    fn run(&mut self, command: &Command) -> Result<(), TestCaseError> {
        let before = self.history.image.clone();
        let Ok(read) = Command::decode(&command.encode()) else {
            // Nobody may propose it.
            return Ok(());
        };
        let (twin, there) = crate::apply(&before, before.index + 1, &read);
        let here = self.history.run(command.clone());
        prop_assert_eq!(&here, &there);
        prop_assert!(twin == self.history.image);
        if here.is_ok() {
            self.note(command, &before);
        }
        self.check(&before)
    }

    fn note(&mut self, command: &Command, before: &MetadataImage) {
        match command {
            Command::PrepareObject { object, .. } => {
                self.announced.insert(*object);
                self.forgotten.remove(object);
            }
            Command::ForgetGarbage { objects } => {
                for object in objects {
                    let Some(garbage) = before.garbage.get(object) else {
                        continue;
                    };
                    self.forgotten.insert(*object);
                    if garbage.with_extents {
                        let extents = self.pages[object].iter();
                        let names = extents.map(|extent| RemoteObject::Data(extent.object));
                        self.forgotten.extend(names);
                    }
                }
            }
            _ => {}
        }
    }

    fn check(&self, before: &MetadataImage) -> Result<(), TestCaseError> {
        let image = &self.history.image;
        for (topic, partition, log) in image.remote_logs() {
            prop_assert!(
                image.topic_by_id(topic).is_some(),
                "of a topic that is there"
            );
            let leader = Leader::of(image, topic, partition);
            self.check_log(&leader, log)?;
            if let Some(older) = before.remote_log(topic, partition) {
                prop_assert!(older.start <= log.start && older.end <= log.end);
                let is_same = older.pages == log.pages && older.extents == log.extents;
                prop_assert_eq!(older.generation == log.generation, is_same);
            }
        }
        self.check_places()?;
        self.check_references(before)?;
        let bytes = codec::encode(image);
        let mut reader = Reader::new(&bytes);
        prop_assert!(codec::decode(&mut reader)? == *image);
        prop_assert_eq!(reader.end(), Ok(()));
        Ok(())
    }

    /// Pages, then extents, in one row.
    fn check_log(&self, leader: &Leader, log: &RemoteLog) -> Result<(), TestCaseError> {
        let inline = log.extents();
        prop_assert!(inline.len() <= INLINE_EXTENTS_MAX);
        prop_assert_eq!(inline.len(), log.extent_count());
        let mut all = Vec::new();
        for page in log.pages.iter() {
            let extents = &self.pages[&leader.page_name(page)];
            prop_assert_eq!(page, &testing::remote::page_of(extents));
            prop_assert!(page.end > log.start, "a page below the start is gone");
            all.extend_from_slice(extents);
        }
        all.extend_from_slice(&inline);
        prop_assert!(log.start <= log.end);
        prop_assert!(all.windows(2).all(|pair| pair[0].end == pair[1].base));
        let epochs = all.iter().flat_map(|extent| &extent.epochs);
        prop_assert!(epochs.map(|entry| entry.epoch).is_sorted());
        match (all.first(), all.last()) {
            (Some(first), Some(last)) => {
                prop_assert!(first.base <= log.start && log.start < log.end);
                prop_assert_eq!(last.end, log.end);
                prop_assert_eq!(last.last_epoch(), log.last_epoch());
            }
            _ => prop_assert_eq!(log.start, log.end),
        }
        Ok(())
    }

    /// Every object that was ever announced is in one place: in use, announced, garbage or forgotten.
    fn check_places(&self) -> Result<(), TestCaseError> {
        let image = &self.history.image;
        let mut places: BTreeMap<RemoteObject, usize> = BTreeMap::new();
        let mut found = |object| *places.entry(object).or_default() += 1;
        for (topic, partition, log) in image.remote_logs() {
            let leader = Leader::of(image, topic, partition);
            log.extents()
                .iter()
                .for_each(|extent| found(RemoteObject::Data(extent.object)));
            for page in log.pages.iter() {
                let name = leader.page_name(page);
                found(name);
                self.pages[&name]
                    .iter()
                    .for_each(|extent| found(RemoteObject::Data(extent.object)));
            }
        }
        image.prepares().for_each(|(object, _)| found(*object));
        for (object, garbage) in image.garbage() {
            found(*object);
            if garbage.with_extents {
                self.pages[object]
                    .iter()
                    .for_each(|extent| found(RemoteObject::Data(extent.object)));
            }
        }
        self.forgotten.iter().for_each(|object| found(*object));
        for object in &self.announced {
            prop_assert_eq!(places.remove(object), Some(1), "{:?}", object);
        }
        prop_assert!(places.is_empty(), "never announced: {:?}", places);
        Ok(())
    }

    /// What is in use now and was not before had been announced in the leader epoch that there was.
    fn check_references(&self, before: &MetadataImage) -> Result<(), TestCaseError> {
        let names = |image: &MetadataImage, leader: &Leader| -> BTreeSet<RemoteObject> {
            let Some(log) = image.remote_log(leader.topic, leader.partition) else {
                return BTreeSet::new();
            };
            let extents = log
                .extents()
                .into_iter()
                .map(|extent| RemoteObject::Data(extent.object));
            let pages = log.pages.iter().map(|page| leader.page_name(page));
            extents.chain(pages).collect()
        };
        for (topic, partition, _) in self.history.image.remote_logs() {
            let leader = Leader::of(&self.history.image, topic, partition);
            let (old, new) = (names(before, &leader), names(&self.history.image, &leader));
            for object in new.difference(&old) {
                let prepare = before.prepares.get(object);
                prop_assert_eq!(
                    prepare.map(|prepare| prepare.leader_epoch),
                    Some(leader.epoch)
                );
            }
        }
        Ok(())
    }
}

fn pick(objects: &[RemoteObject], index: Index) -> Vec<RemoteObject> {
    match objects {
        [] => vec![],
        objects => vec![*index.get(objects)],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_keeps_every_object_in_one_place(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            for command in world.commands(step) {
                world.run(&command)?;
            }
        }
    }
}
