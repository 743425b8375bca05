//! Kafka's two sparse indexes beside a segment: offset → byte position (`.index`, 8 bytes an entry) and
//! timestamp → offset (`.timeindex`, 12 bytes an entry), big-endian, offsets relative to the segment's base.

use std::io;

use tidemill_records::Offset;
use tidemill_storage::fs::{File, read_exact_at};

/// An entry of an index file, of fixed size.
pub(crate) trait IndexEntry: Copy {
    const BYTES: usize;

    fn encode(&self, base: Offset, out: &mut Vec<u8>);

    /// Reads the entry at the front of `bytes`, which holds at least [`Self::BYTES`].
    fn decode(base: Offset, bytes: &[u8]) -> Self;
}

/// The batch whose last offset is `offset` begins at byte `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) offset: Offset,
    pub(crate) position: u32,
}

/// No record up to `offset` has a timestamp above `timestamp`, and the batch that ends there has one with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) offset: Offset,
}

fn relative(base: Offset, offset: Offset) -> i32 {
    i32::try_from(offset - base)
        .expect("a segment is rolled before its offsets outgrow its indexes")
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(*bytes[at..].first_chunk().expect("a whole entry was read"))
}

impl IndexEntry for OffsetEntry {
    const BYTES: usize = 8;

    fn encode(&self, base: Offset, out: &mut Vec<u8>) {
        out.extend_from_slice(&relative(base, self.offset).to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(base: Offset, bytes: &[u8]) -> OffsetEntry {
        OffsetEntry {
            offset: base + i64::from(i32_at(bytes, 0)),
            position: i32_at(bytes, 4).cast_unsigned(),
        }
    }
}

impl IndexEntry for TimeEntry {
    const BYTES: usize = 12;

    fn encode(&self, base: Offset, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&relative(base, self.offset).to_be_bytes());
    }

    fn decode(base: Offset, bytes: &[u8]) -> TimeEntry {
        let timestamp = *bytes.first_chunk().expect("a whole entry was read");
        TimeEntry {
            timestamp: i64::from_be_bytes(timestamp),
            offset: base + i64::from(i32_at(bytes, 8)),
        }
    }
}

/// Entries one after the other, as they are in the file.
pub(crate) fn encode_entries<E: IndexEntry>(base: Offset, entries: &[E]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * E::BYTES);
    for entry in entries {
        entry.encode(base, &mut out);
    }
    out
}

/// Few enough entries that one read of them is cheaper than another halving.
const READ_AT_ONCE: u32 = 512;

/// The last of the file's first `count` entries for which `at_or_before` holds, which must be so for all entries
/// before it too. `UnexpectedEof` when the file is shorter.
pub(crate) fn search<E: IndexEntry>(
    file: &dyn File,
    base: Offset,
    count: u32,
    at_or_before: impl Fn(&E) -> bool,
) -> io::Result<Option<E>> {
    let bytes_at = |entry: u32| u64::from(entry) * E::BYTES as u64;
    let (mut low, mut high) = (0, count);
    while high - low > READ_AT_ONCE {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; 16];
        read_exact_at(file, &mut bytes[..E::BYTES], bytes_at(middle))?;
        match at_or_before(&E::decode(base, &bytes)) {
            true => low = middle,
            false => high = middle,
        }
    }
    let mut bytes = vec![0; (high - low) as usize * E::BYTES];
    read_exact_at(file, &mut bytes, bytes_at(low))?;
    let entries = bytes.chunks_exact(E::BYTES);
    let found = entries
        .map(|entry| E::decode(base, entry))
        .take_while(|entry| at_or_before(entry))
        .last();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::io::IoSlice;
    use tidemill_storage::fs::{Fs, OpenMode, RealFs};

    use super::*;

    const BASE: Offset = Offset(1_000);

    fn file_of(bytes: &[u8]) -> (tempfile::TempDir, std::sync::Arc<dyn File>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealFs
            .open(&dir.path().join("index"), OpenMode::CreateNew)
            .expect("a file");
        file.write_all_at(&[IoSlice::new(bytes)], 0)
            .expect("written");
        (dir, file)
    }

    #[test]
    fn bytes_are_kafkas() {
        let offset = OffsetEntry {
            offset: BASE + 7,
            position: 0x0102_0304,
        };
        assert_eq!(encode_entries(BASE, &[offset]), [0, 0, 0, 7, 1, 2, 3, 4]);
        let time = TimeEntry {
            timestamp: 0x0102,
            offset: BASE + 9,
        };
        assert_eq!(
            encode_entries(BASE, &[time]),
            [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 9]
        );
    }

    #[test]
    fn a_file_shorter_than_its_count_is_an_error() {
        let (_dir, file) = file_of(&[0; 12]);
        let all = |_: &OffsetEntry| true;
        assert!(search(&*file, BASE, 1, all).is_ok());
        let error = search(&*file, BASE, 2, all).expect_err("torn");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn search_finds_what_a_scan_finds(gaps in proptest::collection::vec(1i64..5, 0..3000), probe in 0i64..9000) {
            let mut offset = BASE;
            let entries: Vec<_> = gaps.iter().enumerate().map(|(at, gap)| {
                offset = offset + *gap;
                OffsetEntry { offset, position: at as u32 * 100 }
            }).collect();
            let (_dir, file) = file_of(&encode_entries(BASE, &entries));
            let target = BASE + probe;
            let found = search(&*file, BASE, entries.len() as u32, |entry: &OffsetEntry| entry.offset <= target)
                .expect("reads");
            let expected = entries.iter().rev().find(|entry| entry.offset <= target).copied();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn entries_round_trip(relative in 0..=i32::MAX, position in 0..=i32::MAX as u32, timestamp: i64) {
            let offset = OffsetEntry { offset: BASE + i64::from(relative), position };
            let bytes = encode_entries(BASE, &[offset]);
            prop_assert_eq!(OffsetEntry::decode(BASE, &bytes), offset);
            let time = TimeEntry { timestamp, offset: BASE + i64::from(relative) };
            let bytes = encode_entries(BASE, &[time]);
            prop_assert_eq!(TimeEntry::decode(BASE, &bytes), time);
        }
    }
}
