//! Generated values for every field of every message: `Arbitrary` is implemented in a file that the
//! build script writes; what the values look like is decided here.

use bytes::Bytes;
use tidemill_protocol::{Message, Records, Str};
use uuid::Uuid;

/// A message with generated values in all fields that the version has.
pub(crate) trait Arbitrary: Sized {
    fn arbitrary(g: &mut Gen, version: i16) -> Self;
}

/// A seeded source of values that favours the edges: zero, extremes, empty, null, just over a length
/// that takes one more byte.
pub(crate) struct Gen {
    state: u64,
    /// Elements that may still be made, so that arrays in arrays stay within reason.
    elements: usize,
    /// Whether most fields stay at their defaults.
    sparse: bool,
    /// Names and ids that half of the strings and ids are, for requests to a broker which has them.
    pub(crate) names: Vec<Str>,
    /// See `names`.
    pub(crate) ids: Vec<Uuid>,
}

impl Gen {
    pub(crate) fn new(seed: u64) -> Gen {
        Gen {
            state: seed,
            elements: 400,
            sparse: false,
            names: Vec::new(),
            ids: Vec::new(),
        }
    }

    /// One that sets only some of the fields, so that the others' defaults and absence are met.
    pub(crate) fn sparse(seed: u64) -> Gen {
        Gen {
            sparse: true,
            ..Gen::new(seed)
        }
    }

    /// Whether to set the next field.
    pub(crate) fn sets(&mut self) -> bool {
        !self.sparse || self.below(3) == 0
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.below(2) == 1
    }

    pub(crate) fn i8(&mut self) -> i8 {
        let any = self.next() as i8;
        self.pick(&[0, 1, -1, i8::MIN, i8::MAX, any, any])
    }

    pub(crate) fn i16(&mut self) -> i16 {
        let any = self.next() as i16;
        self.pick(&[0, 1, -1, i16::MIN, i16::MAX, any, any])
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn u16(&mut self) -> u16 {
        let any = self.next() as u16;
        self.pick(&[0, 1, u16::MAX, any, any])
    }

    pub(crate) fn i32(&mut self) -> i32 {
        let any = self.next() as i32;
        self.pick(&[0, 1, -1, i32::MIN, i32::MAX, any, any])
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn u32(&mut self) -> u32 {
        let any = self.next() as u32;
        self.pick(&[0, 1, u32::MAX, any, any])
    }

    pub(crate) fn i64(&mut self) -> i64 {
        let any = self.next() as i64;
        self.pick(&[0, 1, -1, i64::MIN, i64::MAX, any, any])
    }

    #[allow(
        dead_code,
        reason = "a type of the grammar that no schema happens to use yet"
    )]
    pub(crate) fn f64(&mut self) -> f64 {
        let any = self.next() as i32;
        self.pick(&[0.0, -1.5, f64::MAX, f64::INFINITY, f64::from(any)])
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        if !self.ids.is_empty() && self.bool() {
            let at = self.below(self.ids.len());
            return self.ids[at];
        }
        let any = Uuid::from_u64_pair(self.next(), self.next());
        self.pick(&[Uuid::nil(), Uuid::max(), any, any])
    }

    fn length(&mut self) -> usize {
        match self.below(40) {
            0..10 => 0,
            10..20 => 1,
            // Just below and above what compact lengths hold in one byte.
            20 => 126,
            21 => 127,
            22 => 128,
            _ => 2 + self.below(20),
        }
    }

    pub(crate) fn string(&mut self) -> Str {
        if !self.names.is_empty() && self.bool() {
            let at = self.below(self.names.len());
            return self.names[at].clone();
        }
        let alphabet: Vec<char> = "abz.-_019\"\\ äß日\u{1f9ed}".chars().collect();
        let text: String = (0..self.length()).map(|_| self.pick(&alphabet)).collect();
        Str::from(text)
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = match self.below(20) {
            0 => 1023,
            1 => 1024,
            2 => 5000,
            _ => self.length(),
        };
        (0..length).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn records(&mut self) -> Records {
        Records::from_chunks((0..self.below(4)).map(|_| self.bytes()).collect())
    }

    pub(crate) fn nullable<T>(&mut self, make: impl FnOnce(&mut Gen) -> T) -> Option<T> {
        (self.below(4) > 0).then(|| make(self))
    }

    pub(crate) fn array<T>(&mut self, mut make: impl FnMut(&mut Gen) -> T) -> Vec<T> {
        let length = match self.below(30) {
            0..6 => 0,
            6..14 => 1,
            14 => 127,
            15 => 130,
            _ => 2 + self.below(3),
        };
        let length = length.min(self.elements);
        self.elements -= length;
        (0..length).map(|_| make(self)).collect()
    }

    /// Tagged fields from the tag `free` on, ascending.
    pub(crate) fn unknown_tagged_fields(&mut self, free: u32) -> Vec<(u32, Bytes)> {
        let count = self.pick(&[0, 0, 0, 1, 1, 2, 3]);
        let mut tag = free;
        let mut fields = Vec::new();
        for _ in 0..count {
            tag += self.pick(&[0, 0, 1, 5, 127, 20_000]);
            fields.push((tag, self.bytes()));
            tag += 1;
        }
        fields
    }
}

/// All pairs of a version of `M` and a seed.
pub(crate) fn versions_and_seeds<M: Message>(seeds: u64) -> impl Iterator<Item = (i16, u64)> {
    let versions = M::MIN_VERSION..=M::MAX_VERSION;
    versions.flat_map(move |version| (0..seeds).map(move |seed| (version, seed)))
}

#[allow(
    clippy::field_reassign_with_default,
    reason = "what the build script writes sets in turn"
)]
mod generated {
    use super::{Arbitrary, Gen};

    include!(concat!(env!("OUT_DIR"), "/arbitrary.rs"));

    pub(crate) use for_each_record;
}

pub(crate) use generated::for_each_record;
