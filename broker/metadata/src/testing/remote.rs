//! What tests of the object tier share: a partition's leader that makes its commands, and arbitrary ones.

use proptest::collection::vec;
use proptest::prelude::*;
use tidemill_records::{
    EpochStart, Extent, LeaderEpoch, MaxTimestamp, ObjectId, Offset, PageRef, PartitionId,
    RemoteObject, TopicId,
};
use uuid::Uuid;

use super::History;
use crate::command::{Command, ExtentReplacement, PageSeal};
use crate::image::{MetadataImage, Prepare, RemoteLog};

pub(crate) fn data(object: u128) -> RemoteObject {
    RemoteObject::Data(ObjectId(object))
}

/// An extent of one leader epoch. Its length and its largest timestamp follow from its offsets.
pub(crate) fn extent(object: u128, base: i64, end: i64, epoch: LeaderEpoch) -> Extent {
    Extent {
        base: Offset(base),
        end: Offset(end),
        object: ObjectId(object),
        position: 24,
        length: u32::try_from((end - base).abs() * 100).expect("short"),
        footer_length: 200,
        footer_crc: object as u32,
        newest: MaxTimestamp {
            timestamp: base % 70,
            offset: Offset(base),
        },
        epochs: vec![EpochStart {
            epoch,
            start: Offset(base),
        }],
    }
}

/// What the metadata holds of a page of these extents. As in the store, its name follows from what is in it.
pub(crate) fn page_of(extents: &[Extent]) -> PageRef {
    let mut bytes = Vec::new();
    extents.iter().for_each(|extent| extent.encode(&mut bytes));
    let (first, last) = (&extents[0], &extents[extents.len() - 1]);
    let newest = extents.iter().map(|extent| extent.newest);
    PageRef {
        base: first.base,
        end: last.end,
        hash: crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &bytes),
        extents: extents.len() as u32,
        data_bytes: extents.iter().map(|extent| u64::from(extent.length)).sum(),
        length: bytes.len() as u32,
        newest: MaxTimestamp::first_of_newest(newest).expect("not empty"),
        last_epoch: last.last_epoch(),
    }
}

/// Who leads a partition, as it knows itself: it does not notice that another has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leader {
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
    pub(crate) epoch: LeaderEpoch,
}

impl Leader {
    /// The leader by now.
    pub(crate) fn of(image: &MetadataImage, topic: TopicId, partition: PartitionId) -> Self {
        let state = image.topic_by_id(topic).expect("the topic is there");
        let state = state.partition(partition).expect("the partition is there");
        Self {
            topic,
            partition,
            epoch: state.leader_epoch,
        }
    }

    pub(crate) fn log<'a>(&self, image: &'a MetadataImage) -> &'a RemoteLog {
        image
            .remote_log(self.topic, self.partition)
            .expect("it has something in the tier")
    }

    pub(crate) fn page_name(&self, page: &PageRef) -> RemoteObject {
        RemoteObject::Page {
            topic: self.topic,
            partition: self.partition,
            first: page.base,
            hash: page.hash,
        }
    }

    pub(crate) fn prepare(&self, object: RemoteObject) -> Command {
        let prepare = Prepare {
            topic: self.topic,
            partition: self.partition,
            leader_epoch: self.epoch,
        };
        Command::PrepareObject { object, prepare }
    }

    pub(crate) fn replace(&self, end: i64, remove: &[u128], add: Vec<Extent>) -> Command {
        Command::ReplaceExtents(ExtentReplacement {
            topic: self.topic,
            partition: self.partition,
            leader_epoch: self.epoch,
            expected_end: Offset(end),
            remove: remove.iter().copied().map(ObjectId).collect(),
            add,
        })
    }

    /// Puts extents at the end of a log that ends where the first of them begins.
    pub(crate) fn append(&self, add: Vec<Extent>) -> Command {
        self.replace(add[0].base.0, &[], add)
    }

    /// Moves the oldest `moved` extents of `log` into a page, after those of its last page if `paged` has them.
    pub(crate) fn seal(&self, log: &RemoteLog, paged: Option<&[Extent]>, moved: usize) -> PageSeal {
        let all = [paged.unwrap_or_default(), &log.extents()[..moved]].concat();
        let last = log.pages.last().filter(|_| paged.is_some());
        PageSeal {
            topic: self.topic,
            partition: self.partition,
            leader_epoch: self.epoch,
            generation: log.generation,
            page: page_of(&all),
            replaces: last.map(|last| last.hash),
            dropped: Vec::new(),
            moved: moved as u32,
        }
    }

    /// Writes the first page of `log`, which has the extents `paged`, without its first `dropped` ones and, where it is the last one too,
    /// with the oldest `moved` of those in no page.
    pub(crate) fn shorten(
        &self,
        log: &RemoteLog,
        paged: &[Extent],
        dropped: usize,
        moved: usize,
    ) -> PageSeal {
        let (dropped, kept) = paged.split_at(dropped);
        PageSeal {
            page: page_of(&[kept, &log.extents()[..moved]].concat()),
            replaces: Some(log.pages[0].hash),
            dropped: dropped.iter().map(|extent| extent.object).collect(),
            ..self.seal(log, Some(paged), moved)
        }
    }

    pub(crate) fn advance(&self, start: i64) -> Command {
        Command::AdvanceLogStart {
            topic: self.topic,
            partition: self.partition,
            leader_epoch: self.epoch,
            start: Offset(start),
        }
    }

    /// Announces extents and puts them at the end.
    pub(crate) fn upload(&self, history: &mut History, add: Vec<Extent>) {
        for extent in &add {
            history.ok(self.prepare(RemoteObject::Data(extent.object)));
        }
        history.ok(self.append(add));
    }

    /// Announces a page and seals it. Gives back its name.
    pub(crate) fn upload_page(&self, history: &mut History, seal: PageSeal) -> RemoteObject {
        let name = self.page_name(&seal.page);
        history.ok(self.prepare(name));
        history.ok(Command::SealPage(seal));
        name
    }
}

fn topic() -> impl Strategy<Value = TopicId> {
    any::<u128>().prop_map(|id| TopicId(Uuid::from_u128(id)))
}

fn object_id() -> impl Strategy<Value = ObjectId> {
    any::<u128>().prop_map(ObjectId)
}

/// A partition and a leader epoch, which a command may have wrong.
fn place() -> impl Strategy<Value = (TopicId, PartitionId, LeaderEpoch)> {
    (topic(), any::<i32>(), any::<i32>())
        .prop_map(|(topic, partition, epoch)| (topic, PartitionId(partition), LeaderEpoch(epoch)))
}

fn range() -> impl Strategy<Value = (Offset, Offset)> {
    (0..i64::MAX / 2, 1..i64::MAX / 2)
        .prop_map(|(base, count)| (Offset(base), Offset(base + count)))
}

/// The largest timestamp of a run.
fn newest((base, end): (Offset, Offset)) -> impl Strategy<Value = MaxTimestamp> {
    (any::<i64>(), base.0..end.0).prop_map(|(timestamp, offset)| MaxTimestamp {
        timestamp,
        offset: Offset(offset),
    })
}

/// Any extent that may be stored: others are refused before they are.
fn any_extent() -> impl Strategy<Value = Extent> {
    let fields = |(base, end): (Offset, Offset)| {
        let sizes = (0..u64::MAX >> 1, any::<u32>(), any::<u32>(), any::<u32>());
        let epochs = (0..i32::MAX - 3, 1..=(end - base).min(3));
        (object_id(), sizes, newest((base, end)), epochs).prop_map(
            move |(
                object,
                (position, length, footer_length, footer_crc),
                newest,
                (first, epochs),
            )| {
                let epoch = |at: i64| EpochStart {
                    epoch: LeaderEpoch(first + at as i32),
                    start: base + at,
                };
                Extent {
                    base,
                    end,
                    object,
                    position,
                    length,
                    footer_length,
                    footer_crc,
                    newest,
                    epochs: (0..epochs).map(epoch).collect(),
                }
            },
        )
    };
    range().prop_flat_map(fields)
}

fn any_page() -> impl Strategy<Value = PageRef> {
    let fields = |(base, end): (Offset, Offset)| {
        let sizes = (1..=u32::MAX, 0..u64::MAX >> 1, any::<u32>());
        (any::<u64>(), sizes, newest((base, end)), 0..=i32::MAX).prop_map(
            move |(hash, (extents, data_bytes, length), newest, last_epoch)| PageRef {
                base,
                end,
                hash,
                extents,
                data_bytes,
                length,
                newest,
                last_epoch: LeaderEpoch(last_epoch),
            },
        )
    };
    range().prop_flat_map(fields)
}

fn any_object() -> impl Strategy<Value = RemoteObject> {
    let page = (topic(), 0..=i32::MAX, 0..=i64::MAX, any::<u64>());
    prop_oneof![
        object_id().prop_map(RemoteObject::Data),
        page.prop_map(|(topic, partition, first, hash)| RemoteObject::Page {
            topic,
            partition: PartitionId(partition),
            first: Offset(first),
            hash,
        }),
    ]
}

fn replacement() -> impl Strategy<Value = ExtentReplacement> {
    let lists = (vec(object_id(), 0..3), vec(any_extent(), 0..3));
    (place(), any::<i64>(), lists).prop_map(
        |((topic, partition, leader_epoch), end, (remove, add))| ExtentReplacement {
            topic,
            partition,
            leader_epoch,
            expected_end: Offset(end),
            remove,
            add,
        },
    )
}

fn seal() -> impl Strategy<Value = PageSeal> {
    let numbers = (any::<u64>(), any::<Option<u64>>(), any::<u32>());
    let dropped = vec(object_id(), 0..3);
    (place(), numbers, dropped, any_page()).prop_map(
        |((topic, partition, leader_epoch), (generation, replaces, moved), dropped, page)| {
            PageSeal {
                topic,
                partition,
                leader_epoch,
                generation,
                page,
                replaces,
                dropped,
                moved,
            }
        },
    )
}

/// Any command of the object tier, sensible or not.
pub(super) fn command() -> impl Strategy<Value = Command> {
    let objects = || vec(any_object(), 0..4);
    prop_oneof![
        any::<u64>().prop_map(|incarnation| Command::ClaimTier { incarnation }),
        (any_object(), place()).prop_map(|(object, (topic, partition, leader_epoch))| {
            let prepare = Prepare {
                topic,
                partition,
                leader_epoch,
            };
            Command::PrepareObject { object, prepare }
        }),
        replacement().prop_map(Command::ReplaceExtents),
        seal().prop_map(Command::SealPage),
        (place(), any::<i64>()).prop_map(|((topic, partition, leader_epoch), start)| {
            Command::AdvanceLogStart {
                topic,
                partition,
                leader_epoch,
                start: Offset(start),
            }
        }),
        objects().prop_map(|objects| Command::ExpirePrepares { objects }),
        objects().prop_map(|objects| Command::ForgetGarbage { objects }),
    ]
}
