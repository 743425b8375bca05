//! Small files that change as a whole: a reader sees the old bytes or the new ones, never a mixture.
//!
//! A file is a header of 32 bytes and the payload, little-endian:
//!
//! | at | what |
//! |---|---|
//! | 0 | magic `TIDEATOM` |
//! | 8 | version of this envelope, u32, 1 |
//! | 12 | version of the payload's format, u32, the caller's |
//! | 16 | payload length, u64 |
//! | 24 | CRC32C of the payload, u32 |
//! | 28 | CRC32C of bytes 0..28, u32 |
//! | 32 | payload |

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use crc_fast::{CrcAlgorithm, checksum};

use crate::fs::{Fs, OpenMode};

const MAGIC: &[u8; 8] = b"TIDEATOM";
const ENVELOPE_VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;

/// Ends the name of a file that is being written; a crash may leave one behind.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AtomicFileError {
    /// There is no such file.
    #[error("{} does not exist", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// What the file holds was not written by [`write_atomic`], or has changed since.
    #[error("{} is damaged: {cause}; restore it from a copy", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Corruption,
    },
    /// A later release wrote it.
    #[error("{} has format version {found}, and this release reads up to {supported}: run the release that wrote it", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The newest that the caller can read.
        supported: u32,
    },
    /// The file system failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// Shorter than its header.
    #[error("it is shorter than its header")]
    Short,
    /// The first bytes are not ours.
    #[error("it does not begin as such a file does")]
    Magic,
    /// The header's own checksum is wrong.
    #[error("the checksum of its header is wrong")]
    HeaderChecksum,
    /// The file is longer or shorter than its header says.
    #[error("its length is not what its header says")]
    Length,
    /// The payload's checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
}

/// Replaces the file at `path` by `payload`; durable when it returns. On an error the old file is
/// still there, or (when only the last step failed) the new one.
///
/// One writer per path at a time. `format` is the version of what is in `payload`.
pub fn write_atomic(
    fs: &dyn Fs,
    path: &Path,
    format: u32,
    payload: &[u8],
) -> Result<(), AtomicFileError> {
    let steps = || -> io::Result<()> {
        let temporary = temporary_path(path);
        let file = fs.open(&temporary, OpenMode::Create)?;
        file.set_len(0)?;
        let header = encode_header(format, payload);
        file.write_all_at(&[IoSlice::new(&header), IoSlice::new(payload)], 0)?;
        file.sync_data()?;
        fs.rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if parent != Path::new("") => fs.sync_dir(parent),
            _ => fs.sync_dir(Path::new(".")),
        }
    };
    steps().map_err(|source| AtomicFileError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file that [`write_atomic`] wrote with a `format` from 0 to `supported`: (format, payload).
pub fn read_atomic(
    fs: &dyn Fs,
    path: &Path,
    supported: u32,
) -> Result<(u32, Vec<u8>), AtomicFileError> {
    let corrupt = |cause| AtomicFileError::Corrupt {
        path: path.to_owned(),
        cause,
    };
    let mut bytes = read_whole(fs, path)?;
    let header = bytes
        .first_chunk::<HEADER_BYTES>()
        .ok_or(corrupt(Corruption::Short))?;
    let header = decode_header(header).map_err(corrupt)?;
    let payload = &bytes[HEADER_BYTES..];
    if header.envelope != ENVELOPE_VERSION || header.format > supported {
        let (found, supported) = match header.envelope {
            ENVELOPE_VERSION => (header.format, supported),
            envelope => (envelope, ENVELOPE_VERSION),
        };
        return Err(AtomicFileError::Version {
            path: path.to_owned(),
            found,
            supported,
        });
    }
    if payload.len() as u64 != header.payload_bytes {
        return Err(corrupt(Corruption::Length));
    }
    if crc32c(payload) != header.payload_crc {
        return Err(corrupt(Corruption::Checksum));
    }
    bytes.drain(..HEADER_BYTES);
    Ok((header.format, bytes))
}

struct Header {
    envelope: u32,
    format: u32,
    payload_bytes: u64,
    payload_crc: u32,
}

fn encode_header(format: u32, payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&ENVELOPE_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&format.to_le_bytes());
    header[16..24].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    header[24..28].copy_from_slice(&crc32c(payload).to_le_bytes());
    let crc = crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<Header, Corruption> {
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if &header[..8] != MAGIC {
        return Err(Corruption::Magic);
    }
    if crc32c(&header[..28]) != word(28) {
        return Err(Corruption::HeaderChecksum);
    }
    Ok(Header {
        envelope: word(8),
        format: word(12),
        payload_bytes: u64::from(word(16)) | u64::from(word(20)) << 32,
        payload_crc: word(24),
    })
}

fn read_whole(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>, AtomicFileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => AtomicFileError::Missing {
            path: path.to_owned(),
        },
        _ => AtomicFileError::Io {
            path: path.to_owned(),
            source,
        },
    };
    let file = fs.open(path, OpenMode::Read).map_err(failed)?;
    let len = usize::try_from(file.len().map_err(failed)?)
        .map_err(|error| failed(io::Error::other(error)))?;
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    PathBuf::from(name)
}

fn crc32c(bytes: &[u8]) -> u32 {
    // The algorithm is 32 bits wide, so the upper half of the result is zero.
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{RealFs, SimFaults, SimFs};

    fn cause(result: Result<(u32, Vec<u8>), AtomicFileError>) -> Corruption {
        match result {
            Err(AtomicFileError::Corrupt { cause, .. }) => cause,
            other => panic!("not corrupt: {other:?}"),
        }
    }

    #[test]
    fn reads_back_what_was_written_and_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let missing = read_atomic(&RealFs, &path, 3);
        assert!(matches!(missing, Err(AtomicFileError::Missing { .. })));
        for payload in [&b"a longer payload"[..], b"", b"short"] {
            write_atomic(&RealFs, &path, 3, payload).unwrap();
            assert_eq!(
                read_atomic(&RealFs, &path, 3).unwrap(),
                (3, payload.to_vec())
            );
        }
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn refuses_a_later_format() {
        let fs = SimFs::new(0);
        let path = Path::new("/state");
        write_atomic(&fs, path, 4, b"x").unwrap();
        let refused = read_atomic(&fs, path, 3);
        assert!(
            matches!(
                refused,
                Err(AtomicFileError::Version {
                    found: 4,
                    supported: 3,
                    ..
                })
            ),
            "{refused:?}"
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let path = Path::new("/state");
        let len = HEADER_BYTES as u64 + 5;
        for bit in 0..len * 8 {
            let fs = SimFs::new(0);
            write_atomic(&fs, path, 1, b"hello").unwrap();
            fs.flip_bit(path, bit / 8, (bit % 8) as u8).unwrap();
            cause(read_atomic(&fs, path, u32::MAX));
        }
        for cut in 0..len {
            let fs = SimFs::new(0);
            write_atomic(&fs, path, 1, b"hello").unwrap();
            fs.open(path, OpenMode::ReadWrite)
                .unwrap()
                .set_len(cut)
                .unwrap();
            let expected = match cut {
                0..32 => Corruption::Short,
                _ => Corruption::Length,
            };
            assert_eq!(cause(read_atomic(&fs, path, 1)), expected);
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_the_old_or_the_new_bytes() {
        let path = Path::new("/d/state");
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            for step in 1.. {
                let fs = SimFs::new(seed);
                fs.create_dir_all(Path::new("/d")).unwrap();
                fs.sync_dir(Path::new("/")).unwrap();
                write_atomic(&fs, path, 1, b"old").unwrap();
                let crash_at_op = Some(fs.ops() + step);
                fs.set_faults(SimFaults {
                    crash_at_op,
                    ..SimFaults::default()
                });
                let written = write_atomic(&fs, path, 1, &[b'n'; 9000]).is_ok();
                let (_, found) = read_atomic(&fs.reboot(), path, 1).unwrap();
                assert!(found == b"old" || found == [b'n'; 9000]);
                assert!(!written || found != b"old");
                seen.insert(found.len());
                if written {
                    break;
                }
            }
        }
        assert_eq!(seen.len(), 2, "both outcomes occur");
    }
}
