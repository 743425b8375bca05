//! Record batches that no honest producer sends.

use bytes::Bytes;
use tidemill_records::{Compression, HEADER_BYTES, Headers, RecordBatchBuilder};
use tidemill_tests::records::now_ms;

use crate::dice::Dice;

const AT_LENGTH: usize = 8;
const AT_MAGIC: usize = 16;
const AT_CRC: usize = 17;
const AT_ATTRIBUTES: usize = 21;
const AT_LAST_OFFSET_DELTA: usize = 23;
const AT_BASE_TIMESTAMP: usize = 27;
const AT_MAX_TIMESTAMP: usize = 35;
const AT_PRODUCER_ID: usize = 43;
const AT_PRODUCER_EPOCH: usize = 51;
const AT_BASE_SEQUENCE: usize = 53;
const AT_COUNT: usize = 57;

/// What a bomb of each codec becomes when it is opened.
const BOMB_BYTES: usize = 100 << 20;
/// A batch of this size is kept by the broker as it came, not copied.
const LARGE_BYTES: usize = 20 << 10;

/// Made once: bombs take time.
pub(crate) struct Batches {
    good: Vec<Bytes>,
    bombs: Vec<Bytes>,
}

impl Batches {
    pub(crate) fn new() -> Self {
        let plain = |codec| batch(codec, &[b"a".as_slice(), b"bb", b""]);
        let zeros = vec![0; BOMB_BYTES];
        // The most that each codec can make of a few bytes; snappy packs 20 to 1 only, which no batch holds.
        let packing = [Compression::Gzip, Compression::Lz4, Compression::Zstd];
        Self {
            good: Compression::ALL.into_iter().map(plain).collect(),
            bombs: packing
                .into_iter()
                .map(|codec| batch(codec, &[&zeros]))
                .collect(),
        }
    }

    /// A valid batch that is large enough to be kept as it came.
    pub(crate) fn large(dice: &mut Dice) -> Bytes {
        batch(Compression::None, &[&dice.bytes(LARGE_BYTES)])
    }

    /// Opens into far more than it is.
    pub(crate) fn bomb(&self, dice: &mut Dice) -> Bytes {
        dice.pick(&self.bombs)
    }

    /// Anything but a good batch, as a rule.
    pub(crate) fn hostile(&self, dice: &mut Dice) -> Bytes {
        let mut bytes = dice.pick(&self.good).to_vec();
        match dice.below(12) {
            0 => put(&mut bytes, AT_CRC, &dice.bytes(4)),
            1 => {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            2 => put(&mut bytes, AT_LENGTH, &number(dice).to_be_bytes()),
            3 => bytes.truncate(dice.below(bytes.len())),
            4 => return self.bomb(dice),
            5 => put(&mut bytes, AT_MAGIC, &[dice.pick(&[0, 1, 3, 127, 255])]),
            6 => bytes.extend(self.hostile(dice)),
            7 => return garbage(dice),
            8 => bytes = dice.bytes(dice.clone().below(300)),
            _ => {
                for _ in 0..=dice.below(3) {
                    distort(&mut bytes, dice);
                }
                seal(&mut bytes);
            }
        }
        bytes.into()
    }
}

/// Puts a value that contradicts the rest into one of the header's fields.
fn distort(bytes: &mut [u8], dice: &mut Dice) {
    let wide = dice.pick(&[0, -1, 1, i64::MIN, i64::MAX, i64::MAX - 1, 7]);
    match dice.below(9) {
        0 | 1 => put(bytes, AT_COUNT, &number(dice).to_be_bytes()),
        2 => {
            // Count and last offset agree; the records do not.
            let count = number(dice);
            put(bytes, AT_COUNT, &count.to_be_bytes());
            let last = count.wrapping_sub(1);
            put(bytes, AT_LAST_OFFSET_DELTA, &last.to_be_bytes());
        }
        3 => put(bytes, AT_LAST_OFFSET_DELTA, &number(dice).to_be_bytes()),
        4 => put(bytes, AT_ATTRIBUTES, &dice.bytes(2)),
        5 => put(bytes, AT_BASE_TIMESTAMP, &wide.to_be_bytes()),
        6 => put(bytes, AT_MAX_TIMESTAMP, &wide.to_be_bytes()),
        7 => put(bytes, 0, &wide.to_be_bytes()),
        _ => {
            put(bytes, AT_PRODUCER_ID, &wide.to_be_bytes());
            let epoch = dice.pick(&[0, -1, i16::MAX, i16::MIN]);
            put(bytes, AT_PRODUCER_EPOCH, &epoch.to_be_bytes());
            put(bytes, AT_BASE_SEQUENCE, &number(dice).to_be_bytes());
        }
    }
}

/// A header and checksum in order, of any codec, before bytes that are no records.
fn garbage(dice: &mut Dice) -> Bytes {
    let mut bytes = batch(Compression::None, &[b"a"]).to_vec();
    bytes.truncate(HEADER_BYTES);
    let size = dice.below(2000);
    bytes.extend(dice.bytes(size));
    put(&mut bytes, AT_ATTRIBUTES, &[0, dice.below(5) as u8]);
    let count = dice.pick(&[1, 2, 1000, i32::MAX]);
    put(&mut bytes, AT_COUNT, &count.to_be_bytes());
    put(&mut bytes, AT_LAST_OFFSET_DELTA, &(count - 1).to_be_bytes());
    seal(&mut bytes);
    bytes.into()
}

fn number(dice: &mut Dice) -> i32 {
    dice.pick(&[
        0,
        1,
        2,
        4,
        -1,
        i32::MIN,
        i32::MAX,
        i32::MAX - 1,
        1 << 30,
        65_536,
    ])
}

/// Length and checksum that fit.
fn seal(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as i32;
    put(bytes, AT_LENGTH, &length.to_be_bytes());
    let crc = crc32c(&bytes[AT_ATTRIBUTES..]);
    put(bytes, AT_CRC, &crc.to_be_bytes());
}

/// Bit by bit, which is no code that the broker shares.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn batch(codec: Compression, values: &[&[u8]]) -> Bytes {
    let mut builder = RecordBatchBuilder::new(codec);
    for value in values {
        builder.push(now_ms(), Some(b"key"), Some(value), &Headers::default());
    }
    builder.build().expect("a batch").to_bytes()
}
