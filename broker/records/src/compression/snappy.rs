//! Snappy in the framing of snappy-java: a 16-byte header, then blocks, each with its length in front.
//! librdkafka and others write one bare block instead; both are read.

use super::{Compression, CompressionError};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// Version and oldest compatible version, both 1.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
const FRAME_HEADER_BYTES: usize = MAGIC.len() + VERSIONS.len();
/// What Kafka's Java producer puts into a block.
const BLOCK_BYTES: usize = 32 * 1024;
/// Snappy's best case is 64 bytes from a copy element of three.
const EXPANSION_MAX: usize = 22;

const MALFORMED: CompressionError = CompressionError::Malformed(Compression::Snappy);

pub(super) fn compress(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(FRAME_HEADER_BYTES + plain.len() / 2);
    packed.extend_from_slice(&MAGIC);
    packed.extend_from_slice(&VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(BLOCK_BYTES) {
        let block = encoder
            .compress_vec(block)
            .expect("32 KiB are within Snappy's limit");
        let length = u32::try_from(block.len()).expect("32 KiB do not grow past 4 GiB");
        packed.extend_from_slice(&length.to_be_bytes());
        packed.extend_from_slice(&block);
    }
    packed
}

pub(super) fn decompress(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut plain = Vec::new();
    if !packed.starts_with(&MAGIC) {
        append_block(&mut plain, packed, bytes_max)?;
        return Ok(plain);
    }
    let mut rest = packed;
    while !rest.is_empty() {
        // snappy-java allows whole streams one after the other; a length is never the magic's first four bytes.
        if rest.starts_with(&MAGIC) {
            rest = rest.get(FRAME_HEADER_BYTES..).ok_or(MALFORMED)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| MALFORMED)?;
        let (block, after) = after.split_at_checked(length).ok_or(MALFORMED)?;
        append_block(&mut plain, block, bytes_max)?;
        rest = after;
    }
    Ok(plain)
}

fn append_block(
    plain: &mut Vec<u8>,
    block: &[u8],
    bytes_max: usize,
) -> Result<(), CompressionError> {
    let declared = snap::raw::decompress_len(block).map_err(|_| MALFORMED)?;
    if declared / EXPANSION_MAX > block.len() {
        return Err(MALFORMED);
    }
    if declared > bytes_max - plain.len() {
        return Err(CompressionError::TooLarge { bytes_max });
    }
    let start = plain.len();
    plain.resize(start + declared, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut plain[start..])
        .map_err(|_| MALFORMED)?;
    if written != declared {
        return Err(MALFORMED);
    }
    Ok(())
}
