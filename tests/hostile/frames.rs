//! The frames: for a number always the same, over all APIs and versions that are served.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidemill_protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use tidemill_protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use tidemill_protocol::{
    ApiKey, Encoder, Message, Records, RequestHeader, Str, request_header_version,
};
use tidemill_tests::records::now_ms;
use uuid::Uuid;

use crate::batches::Batches;
use crate::dice::Dice;
use crate::{BATCHES, BOUNDED};

/// What `bodies` writes where a topic's id belongs.
const ID: &[u8] = b"hostile-topic-id";
/// What a padded frame carries beside its batch.
const PADDING_BYTES: usize = 2 << 20;

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Random bytes behind a right length.
    Noise,
    /// Random bytes behind a right header.
    RandomBody,
    /// A request with generated values.
    Generated,
    /// The same, cut somewhere, with a length that fits.
    Cut,
    /// The same, of which the end is never sent.
    Torn,
    /// The same with huge and negative numbers in place of what is there.
    Numbers,
    /// The same with a few bits changed.
    FlippedBits,
    /// The same with pieces doubled, left out or of another request.
    Spliced,
    /// A good body behind a header that is none.
    WrongHeader,
    /// A key or a version that is not served.
    Unknown,
    /// A length that cannot be or is not true.
    WrongLength,
    /// A produce request with a batch that is none, or a bomb.
    Batch,
    /// A good batch in a frame that is large for other reasons.
    Padded,
    /// A look-up by time, for which stored batches are opened, bombs among them.
    LookUp,
}

/// One after the other; batches twice, since there are so many ways.
const KINDS: [Kind; 14] = [
    Kind::Noise,
    Kind::RandomBody,
    Kind::Generated,
    Kind::Cut,
    Kind::Torn,
    Kind::Numbers,
    Kind::FlippedBits,
    Kind::Batch,
    Kind::Spliced,
    Kind::WrongHeader,
    Kind::Unknown,
    Kind::WrongLength,
    Kind::Batch,
    Kind::Numbers,
];
/// One frame of so many is padded: they are large.
const PADDED_EVERY: u64 = 100;
/// One frame of so many looks up a time.
const LOOK_UP_EVERY: u64 = 75;

/// A frame as it goes onto the wire, length and all.
pub(crate) struct Sent {
    pub(crate) kind: Kind,
    /// Key and version, where there are such.
    pub(crate) api: Option<(i16, i16)>,
    pub(crate) bytes: Vec<u8>,
}

/// Makes frames.
pub(crate) struct Frames {
    seed: u64,
    served: Vec<(i16, i16)>,
    bodies: BTreeMap<(i16, i16), Vec<Vec<u8>>>,
    batches: Batches,
    /// Names of the kinds to send; empty for all.
    only: Vec<String>,
}

impl Frames {
    /// `written` is what `bodies` wrote; `served` what ApiVersions announced.
    pub(crate) fn new(
        seed: u64,
        served: &BTreeMap<i16, (i16, i16)>,
        written: &[u8],
        topic_ids: &[Uuid],
        only: Vec<String>,
    ) -> Self {
        let mut bodies: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, (api, mut body)) in read(written).into_iter().enumerate() {
            while let Some(at) = find(&body, ID) {
                let id = topic_ids[number % topic_ids.len()].as_bytes();
                body[at..at + ID.len()].copy_from_slice(id);
            }
            bodies.entry(api).or_default().push(body);
        }
        let versions = |(key, (min, max)): (&i16, &(i16, i16))| {
            let key = *key;
            (*min..=*max).map(move |version| (key, version))
        };
        // Produce 0 to 2 are announced for old clients' sake, and have no schema.
        let served = served.iter().flat_map(versions);
        let served = served.filter(|api| bodies.contains_key(api)).collect();
        Self {
            seed,
            served,
            bodies,
            batches: Batches::new(),
            only,
        }
    }

    /// How many keys with their versions there are.
    pub(crate) fn served(&self) -> &[(i16, i16)] {
        &self.served
    }

    /// Is this kind to be sent?
    pub(crate) fn is_wanted(&self, kind: Kind) -> bool {
        self.only.is_empty() || self.only.contains(&format!("{kind:?}"))
    }

    /// The frame of this number.
    pub(crate) fn frame(&self, number: u64) -> Sent {
        let dice = &mut Dice::of(self.seed, number);
        let kinds = KINDS.len() as u64;
        let mut kind = KINDS[(number % kinds) as usize];
        if number % PADDED_EVERY == PADDED_EVERY - 1 {
            kind = Kind::Padded;
        } else if number % LOOK_UP_EVERY == LOOK_UP_EVERY - 1 {
            kind = Kind::LookUp;
        }
        // Each kind goes through all versions.
        let api = self.served[(number / kinds) as usize % self.served.len()];
        let (api, frame) = match kind {
            Kind::Noise => (None, dice.bytes(dice.clone().below(3000))),
            Kind::Unknown => (None, self.unknown(dice)),
            Kind::Batch => self.batch(dice),
            Kind::Padded => self.padded(dice),
            Kind::LookUp => look_up(dice),
            Kind::WrongHeader => (Some(api), self.wrong_header(api, dice)),
            Kind::RandomBody => {
                let body = dice.bytes(dice.clone().below(1000));
                (Some(api), [header(api, number), body].concat())
            }
            _ => {
                let frame = [header(api, number), self.body(api, dice)].concat();
                (Some(api), self.mutated(kind, frame, dice))
            }
        };
        let bytes = framed(kind, frame, dice);
        Sent { kind, api, bytes }
    }

    fn body(&self, api: (i16, i16), dice: &mut Dice) -> Vec<u8> {
        dice.pick(&self.bodies[&api])
    }

    fn mutated(&self, kind: Kind, mut frame: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
        // Key and version stay as they are, or the rest would not be reached.
        let rest = frame.len() - 4;
        match kind {
            Kind::Cut => frame.truncate(4 + dice.below(rest)),
            Kind::Numbers => (0..=dice.below(3)).for_each(|_| put_number(&mut frame, dice)),
            Kind::FlippedBits => {
                for _ in 0..=dice.below(16) {
                    frame[4 + dice.clone().below(rest)] ^= 1 << (dice.next() % 8);
                }
            }
            Kind::Spliced => {
                let from = 4 + dice.below(rest);
                let api = dice.pick(&self.served);
                let other = self.body(api, dice);
                let to = dice.below(other.len() + 1);
                match dice.below(3) {
                    0 => frame.extend(frame[from..].to_vec()),
                    1 => drop(frame.drain(from..(from + dice.below(20)).min(4 + rest))),
                    _ => drop(frame.splice(from.., other[to..].iter().copied())),
                }
            }
            _ => {}
        }
        frame
    }

    fn wrong_header(&self, api: (i16, i16), dice: &mut Dice) -> Vec<u8> {
        let mut frame = [api.0.to_be_bytes(), api.1.to_be_bytes()].concat();
        frame.extend(dice.bytes(4));
        match dice.below(4) {
            // A client id that is longer than all the rest.
            0 => frame.extend(dice.pick(&[i16::MAX, i16::MIN, -2, 30_000]).to_be_bytes()),
            // Tagged fields where there are none, and the other way round.
            1 => {
                frame.extend((-1i16).to_be_bytes());
                let flexible = request_header_version(ApiKey(api.0), api.1) == Some(2);
                frame.extend(if flexible { &[][..] } else { &[0][..] });
            }
            // More tagged fields than there can be, of any size.
            2 => {
                frame.extend((-1i16).to_be_bytes());
                frame.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
                frame.extend(dice.bytes(dice.clone().below(20)));
            }
            // A client id that is no text.
            _ => frame.extend([0, 4, 0xff, 0xfe, 0xc0, 0x80]),
        }
        frame.extend(self.body(api, dice));
        frame
    }

    fn unknown(&self, dice: &mut Dice) -> Vec<u8> {
        let (key, version) = dice.pick(&self.served);
        let (key, version) = match dice.below(3) {
            0 => (dice.next() as i16, version),
            1 => (key, dice.next() as i16),
            _ => (
                dice.pick(&[-1, 4, 5, 6, 7, 24, 26, 76, 1000]),
                dice.pick(&[0, 1, 9, -1]),
            ),
        };
        let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
        frame.extend(dice.bytes(dice.clone().below(400)));
        frame
    }

    /// Into a topic that keeps batches closed, or into one that opens them.
    fn batch(&self, dice: &mut Dice) -> (Option<(i16, i16)>, Vec<u8>) {
        let count = 1 + dice.below(3);
        let data = |dice: &mut Dice| PartitionProduceData {
            index: dice.pick(&[0, 0, 0, 1, -1, i32::MAX]),
            records: Some(Records::from(self.batches.hostile(dice))),
            ..Default::default()
        };
        let partitions = (0..count).map(|_| data(dice)).collect();
        let topic = dice.pick(&[BATCHES, BOUNDED]);
        self.produce(topic, partitions, Vec::new(), dice)
    }

    /// A batch that is worth keeping, in a frame that is not.
    fn padded(&self, dice: &mut Dice) -> (Option<(i16, i16)>, Vec<u8>) {
        let data = PartitionProduceData {
            records: Some(Records::from(Batches::large(dice))),
            ..Default::default()
        };
        let padding = Bytes::from(vec![0x5a; PADDING_BYTES]);
        if dice.one_in(2) {
            return self.produce(BATCHES, vec![data], vec![(77, padding)], dice);
        }
        // Or behind the request, where it is passed over.
        let (api, mut frame) = self.produce(BATCHES, vec![data], Vec::new(), dice);
        frame.extend(&padding);
        (api, frame)
    }

    fn produce(
        &self,
        topic: &str,
        partition_data: Vec<PartitionProduceData>,
        unknown_tagged_fields: Vec<(u32, Bytes)>,
        dice: &mut Dice,
    ) -> (Option<(i16, i16)>, Vec<u8>) {
        // The last version that names topics by name; the first that has tagged fields is 9.
        let least: i16 = match unknown_tagged_fields.is_empty() {
            true => 3,
            false => 9,
        };
        let version = least + dice.below(13 - least as usize) as i16;
        let request = ProduceRequest {
            acks: dice.pick(&[-1, -1, 1, 1, 0]),
            timeout_ms: dice.pick(&[0, 1000, -1, i32::MAX]),
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data,
                ..Default::default()
            }],
            unknown_tagged_fields,
            ..Default::default()
        };
        let api = (ApiKey::PRODUCE.0, version);
        let body = request.encode_to_bytes(version).expect("a request");
        (Some(api), [&header(api, 1)[..], &body].concat())
    }
}

fn look_up(dice: &mut Dice) -> (Option<(i16, i16)>, Vec<u8>) {
    let version = 7;
    let partition = ListOffsetsPartition {
        current_leader_epoch: -1,
        timestamp: dice.pick(&[0, now_ms(), now_ms() - 1000, -3, i64::MAX]),
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: dice.pick(&[BATCHES, BOUNDED]).into(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let api = (ApiKey::LIST_OFFSETS.0, version);
    let body = request.encode_to_bytes(version).expect("a request");
    (Some(api), [&header(api, 2)[..], &body].concat())
}

/// With its length in front, which is a lie in some kinds.
fn framed(kind: Kind, frame: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let length = frame.len() as i32;
    let announced = match kind {
        Kind::Torn => length + 1 + dice.below(1 << 16) as i32,
        Kind::WrongLength => match dice.below(3) {
            0 => dice.pick(&[-1, i32::MIN, i32::MAX, (100 << 20) + 1]),
            1 => dice.pick(&[0, 1, 2, 7, 8]),
            _ => dice.next() as i32,
        },
        _ => length,
    };
    let mut bytes = announced.to_be_bytes().to_vec();
    bytes.extend(frame);
    bytes
}

/// As it should be.
fn header((key, version): (i16, i16), number: u64) -> Vec<u8> {
    let header = RequestHeader::new(
        ApiKey(key),
        version,
        number as i32,
        Some(Str::from("hostile")),
    );
    let mut encoder = Encoder::new();
    header.encode(&mut encoder).expect("a header");
    encoder.into_bytes().to_vec()
}

/// Writes a number that is much too large, or negative, over what is there.
fn put_number(frame: &mut [u8], dice: &mut Dice) {
    let numbers: [&[u8]; 12] = [
        &i32::MAX.to_be_bytes(),
        &i32::MIN.to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &(-2i32).to_be_bytes(),
        &(1i32 << 30).to_be_bytes(),
        &1_000_000i32.to_be_bytes(),
        &i64::MAX.to_be_bytes(),
        &i64::MIN.to_be_bytes(),
        &i16::MAX.to_be_bytes(),
        &(-2i16).to_be_bytes(),
        // Compact lengths.
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    ];
    let number = dice.pick(&numbers);
    let at = 4 + dice.below(frame.len() - 4);
    for (place, byte) in frame[at..].iter_mut().zip(number) {
        *place = *byte;
    }
}

/// What `bodies` wrote.
fn read(mut written: &[u8]) -> Vec<((i16, i16), Vec<u8>)> {
    let mut bodies = Vec::new();
    while let Some((head, rest)) = written.split_first_chunk::<8>() {
        let [k0, k1, v0, v1, size @ ..] = *head;
        let api = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
        let (body, rest) = rest.split_at(u32::from_be_bytes(size) as usize);
        bodies.push((api, body.to_vec()));
        written = rest;
    }
    bodies
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
