//! The bytes of a file: a header, and then entries one after the other.
//!
//! A position (LSN) counts bytes over all files: a file with base `b` holds the positions from `b`
//! to `b + file_bytes`, its header among them. All numbers are little-endian.
//!
//! File header, 64 bytes and zeros up to byte 4096, where the first entry is:
//!
//! | at | what |
//! |---|---|
//! | 0 | magic `TIDEWAL` and a zero |
//! | 8 | CRC32C of bytes 12..64, u32 |
//! | 12 | format version, u32, 1 |
//! | 16 | base, u64 |
//! | 24 | position that was durable when the header was written, u64 |
//! | 32 | file_bytes, u64 |
//! | 40 | generation, u32: larger for each use of a file |
//! | 44 | zeros |
//!
//! Entry, at a multiple of 8, padded to a multiple of 8 with zeros:
//!
//! | at | what |
//! |---|---|
//! | 0 | magic, u32 |
//! | 4 | CRC32C of bytes 8..40, u32 |
//! | 8 | position of the entry itself, u64 |
//! | 16 | position that was durable when it was appended, u64 |
//! | 24 | generation of the file, u32 |
//! | 28 | kind, u32: 0 data, 1 the rest of the file is unused, 2 closed in order |
//! | 32 | payload length, u32 |
//! | 36 | CRC32C of the payload, u32 |
//! | 40 | payload |
//!
//! Files are reused without being cleared, so what follows the last entry is anything: zeros, an
//! earlier life of the file, unsynced entries that a crash cut off. An entry counts only at its own
//! position and with the generation of its file's header, which no earlier life has.

use std::io::IoSlice;

use crc_fast::{CrcAlgorithm, Digest, checksum};

use crate::fs::BLOCK_BYTES;

pub(super) const FILE_HEADER_BYTES: usize = 64;
/// Where the first entry of a file is: the header has a block of its own.
pub(super) const FIRST_ENTRY: u64 = BLOCK_BYTES as u64;
pub(super) const ENTRY_HEADER_BYTES: usize = 40;
pub(super) const ALIGNMENT: u64 = 8;
const FILE_MAGIC: &[u8; 8] = b"TIDEWAL\0";
const ENTRY_MAGIC: u32 = 0x7e1d_e109;
const FORMAT_VERSION: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) base: u64,
    pub(super) durable: u64,
    pub(super) file_bytes: u64,
    pub(super) generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    RestUnused,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryHeader {
    pub(super) position: u64,
    pub(super) durable: u64,
    pub(super) generation: u32,
    pub(super) kind: Kind,
    pub(super) payload_bytes: u32,
    pub(super) payload_crc: u32,
}

/// What is wrong with a place where an entry or a file header should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadBytes {
    /// The file ends there.
    #[error("the file ends before it")]
    Short,
    /// Something else is there.
    #[error("there is something else in its place")]
    Magic,
    /// The checksum over the header is wrong.
    #[error("the checksum of its header is wrong")]
    HeaderChecksum,
    /// A header that belongs elsewhere: another position, another life of the file.
    #[error("an older entry or one of another file is in its place")]
    Misplaced,
    /// It would not end where something ends.
    #[error("it reaches past the end of what the file holds")]
    Length,
    /// The checksum over the payload is wrong.
    #[error("the checksum of its payload is wrong")]
    PayloadChecksum,
    /// A later release wrote it.
    #[error("a later release wrote it (format version {0})")]
    Version(u32),
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..8].copy_from_slice(FILE_MAGIC);
        bytes[12..16].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.file_bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.generation.to_le_bytes());
        let crc = crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<FileHeader, BadBytes> {
        let bytes: &[u8; FILE_HEADER_BYTES] = bytes.first_chunk().ok_or(BadBytes::Short)?;
        if &bytes[..8] != FILE_MAGIC {
            return Err(BadBytes::Magic);
        }
        if read_u32(bytes, 8) != crc32c(&bytes[12..]) {
            return Err(BadBytes::HeaderChecksum);
        }
        match read_u32(bytes, 12) {
            FORMAT_VERSION => {}
            version => return Err(BadBytes::Version(version)),
        }
        let header = FileHeader {
            base: read_u64(bytes, 16),
            durable: read_u64(bytes, 24),
            file_bytes: read_u64(bytes, 32),
            generation: read_u32(bytes, 40),
        };
        // Sums of positions within a file must not overflow later on.
        match header.base.checked_add(header.file_bytes) {
            Some(_) => Ok(header),
            None => Err(BadBytes::Length),
        }
    }
}

impl EntryHeader {
    pub(super) fn encode(&self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        let kind: u32 = match self.kind {
            Kind::Data => 0,
            Kind::RestUnused => 1,
            Kind::Closed => 2,
        };
        bytes[..4].copy_from_slice(&ENTRY_MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.generation.to_le_bytes());
        bytes[28..32].copy_from_slice(&kind.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at `position` of a file of this generation.
    pub(super) fn decode(
        bytes: &[u8],
        position: u64,
        generation: u32,
    ) -> Result<EntryHeader, BadBytes> {
        let bytes: &[u8; ENTRY_HEADER_BYTES] = bytes.first_chunk().ok_or(BadBytes::Short)?;
        if read_u32(bytes, 0) != ENTRY_MAGIC {
            return Err(BadBytes::Magic);
        }
        if read_u32(bytes, 4) != crc32c(&bytes[8..]) {
            return Err(BadBytes::HeaderChecksum);
        }
        let kind = match read_u32(bytes, 28) {
            0 => Kind::Data,
            1 => Kind::RestUnused,
            2 => Kind::Closed,
            _ => return Err(BadBytes::Misplaced),
        };
        let header = EntryHeader {
            position: read_u64(bytes, 8),
            durable: read_u64(bytes, 16),
            generation: read_u32(bytes, 24),
            kind,
            payload_bytes: read_u32(bytes, 32),
            payload_crc: read_u32(bytes, 36),
        };
        // Nothing is durable before it is appended: a larger claim belongs to no entry of ours.
        let placed = header.position == position
            && header.generation == generation
            && header.durable <= position;
        match placed {
            true => Ok(header),
            false => Err(BadBytes::Misplaced),
        }
    }

    /// Bytes from this entry to the next.
    pub(super) fn extent(&self) -> u64 {
        extent(u64::from(self.payload_bytes))
    }

    pub(super) fn check_payload(&self, payload: &[u8]) -> Result<(), BadBytes> {
        match crc32c(payload) == self.payload_crc {
            true => Ok(()),
            false => Err(BadBytes::PayloadChecksum),
        }
    }

    /// Whether bytes may begin an entry: what a search looks at first.
    pub(super) fn looks_like(bytes: &[u8]) -> bool {
        bytes.starts_with(&ENTRY_MAGIC.to_le_bytes())
    }
}

/// Bytes that an entry with such a payload occupies.
pub(super) fn extent(payload_bytes: u64) -> u64 {
    (ENTRY_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(ALIGNMENT)
}

pub(super) fn crc32c_of_parts(parts: &[IoSlice<'_>]) -> u32 {
    match parts {
        [part] => crc32c(part),
        parts => {
            let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
            for part in parts {
                digest.update(part);
            }
            digest.finalize() as u32
        }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The algorithm is 32 bits wide, so the upper half of the result is zero.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(read_u32(bytes, at)) | u64::from(read_u32(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileHeader = FileHeader {
        base: 1 << 40,
        durable: 77,
        file_bytes: 4096,
        generation: 9,
    };
    const ENTRY: EntryHeader = EntryHeader {
        position: (1 << 40) + 64,
        durable: 1 << 39,
        generation: 9,
        kind: Kind::Data,
        payload_bytes: 123,
        payload_crc: 0xdead_beef,
    };

    #[test]
    fn headers_survive_the_round_trip() {
        assert_eq!(FileHeader::decode(&FILE.encode()), Ok(FILE));
        for kind in [Kind::Data, Kind::RestUnused, Kind::Closed] {
            let entry = EntryHeader { kind, ..ENTRY };
            assert_eq!(
                EntryHeader::decode(&entry.encode(), ENTRY.position, 9),
                Ok(entry)
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in 0..FILE_HEADER_BYTES * 8 {
            let mut bytes = FILE.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            FileHeader::decode(&bytes).unwrap_err();
        }
        for bit in 0..ENTRY_HEADER_BYTES * 8 {
            let mut bytes = ENTRY.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            EntryHeader::decode(&bytes, ENTRY.position, 9).unwrap_err();
        }
    }

    #[test]
    fn an_entry_counts_only_in_its_place() {
        let bytes = ENTRY.encode();
        let misplaced = Err(BadBytes::Misplaced);
        assert_eq!(
            EntryHeader::decode(&bytes, ENTRY.position + 8, 9),
            misplaced
        );
        assert_eq!(EntryHeader::decode(&bytes, ENTRY.position, 8), misplaced);
        let boastful = EntryHeader {
            durable: ENTRY.position + 8,
            ..ENTRY
        };
        assert_eq!(
            EntryHeader::decode(&boastful.encode(), ENTRY.position, 9),
            misplaced
        );
        assert_eq!(
            EntryHeader::decode(&bytes[..39], ENTRY.position, 9),
            Err(BadBytes::Short)
        );
    }

    #[test]
    fn a_file_header_whose_end_overflows_is_refused() {
        let header = FileHeader {
            base: u64::MAX - 10,
            ..FILE
        };
        assert_eq!(FileHeader::decode(&header.encode()), Err(BadBytes::Length));
    }

    #[test]
    fn extents_are_aligned() {
        assert_eq!(
            (extent(0), extent(1), extent(8), extent(9)),
            (40, 48, 48, 56)
        );
    }
}
