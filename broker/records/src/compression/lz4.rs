//! LZ4 frames. The frame is taken apart here rather than by `lz4_flex`, which would reserve the declared block
//! size, up to 4 MiB twice over, for a frame of a few bytes.
//!
//! Kafka's Java client writes independent blocks of 64 KiB and reads no other than independent ones.

use std::io::Write;

use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use twox_hash::XxHash32;

use super::{Compression, CompressionError};

const MAGIC: u32 = 0x184d_2204;
const VERSION_MASK: u8 = 0xc0;
const VERSION: u8 = 0x40;
const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED: u8 = 0x02;
const DICTIONARY: u8 = 0x01;
/// Marks a block that is stored as it is.
const STORED_BLOCK: u32 = 0x8000_0000;
/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 * 1024;
/// A length byte stands for at most 255 bytes; a token alone for a few more.
const EXPANSION_MAX: usize = 255;
const EXPANSION_SLACK: usize = 64;

const MALFORMED: CompressionError = CompressionError::Malformed(Compression::Lz4);

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder
        .write_all(plain)
        .expect("writing to memory does not fail");
    encoder
        .finish()
        .expect("no content size was declared that could be missed")
}

/// Opens one frame or several in a row.
pub(super) fn decompress(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut plain = Vec::new();
    let mut rest = Input(packed);
    loop {
        read_frame(&mut rest, &mut plain, bytes_max)?;
        if rest.0.is_empty() {
            return Ok(plain);
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], CompressionError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, CompressionError> {
        let (taken, rest) = self.0.split_first_chunk::<4>().ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*taken))
    }
}

struct Descriptor {
    flags: u8,
    block_bytes_max: usize,
}

impl Descriptor {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

fn read_frame(
    input: &mut Input<'_>,
    plain: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), CompressionError> {
    let descriptor = read_descriptor(input)?;
    let frame_start = plain.len();
    loop {
        let word = input.u32()?;
        if word == 0 {
            break;
        }
        let block = input.take((word & !STORED_BLOCK) as usize)?;
        if block.len() > descriptor.block_bytes_max {
            return Err(MALFORMED);
        }
        if descriptor.has(BLOCK_CHECKSUMS) && input.u32()? != XxHash32::oneshot(0, block) {
            return Err(MALFORMED);
        }
        if word & STORED_BLOCK != 0 {
            if block.len() > bytes_max - plain.len() {
                return Err(CompressionError::TooLarge { bytes_max });
            }
            plain.extend_from_slice(block);
        } else {
            append_block(plain, block, frame_start, &descriptor, bytes_max)?;
        }
    }
    if descriptor.has(CONTENT_CHECKSUM)
        && input.u32()? != XxHash32::oneshot(0, &plain[frame_start..])
    {
        return Err(MALFORMED);
    }
    Ok(())
}

fn read_descriptor(input: &mut Input<'_>) -> Result<Descriptor, CompressionError> {
    if input.u32()? != MAGIC {
        return Err(MALFORMED);
    }
    let start = input.0;
    let &[flags, sizes] = input.take(2)? else {
        return Err(MALFORMED);
    };
    // Nobody could have told us the dictionary.
    if flags & VERSION_MASK != VERSION || flags & (RESERVED | DICTIONARY) != 0 {
        return Err(MALFORMED);
    }
    let block_bytes_max = match sizes {
        0x40 => 64 << 10,
        0x50 => 256 << 10,
        0x60 => 1 << 20,
        0x70 => 4 << 20,
        _ => return Err(MALFORMED),
    };
    if flags & CONTENT_SIZE != 0 {
        // Only a hint for reserving memory, and we do not take hints.
        input.take(8)?;
    }
    let described = &start[..start.len() - input.0.len()];
    let &[checksum] = input.take(1)? else {
        return Err(MALFORMED);
    };
    if checksum != (XxHash32::oneshot(0, described) >> 8) as u8 {
        return Err(MALFORMED);
    }
    Ok(Descriptor {
        flags,
        block_bytes_max,
    })
}

fn append_block(
    plain: &mut Vec<u8>,
    block: &[u8],
    frame_start: usize,
    descriptor: &Descriptor,
    bytes_max: usize,
) -> Result<(), CompressionError> {
    let start = plain.len();
    let possible = (block.len() * EXPANSION_MAX + EXPANSION_SLACK).min(descriptor.block_bytes_max);
    let room = possible.min(bytes_max - start);
    plain.resize(start + room, 0);
    let (before, target) = plain.split_at_mut(start);
    let window = match descriptor.has(INDEPENDENT_BLOCKS) {
        true => &[],
        false => &before[frame_start.max(start.saturating_sub(WINDOW_BYTES))..],
    };
    match decompress_into_with_dict(block, target, window) {
        Ok(written) => {
            plain.truncate(start + written);
            Ok(())
        }
        Err(DecompressError::OutputTooSmall { .. }) if room < possible => {
            Err(CompressionError::TooLarge { bytes_max })
        }
        Err(_) => Err(MALFORMED),
    }
}
