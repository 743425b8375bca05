//! Zstandard frames.

use ::zstd::bulk::Compressor;
use ::zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use ::zstd::zstd_safe::{DCtx, ErrorCode};

use super::{Compression, CompressionError};

const DEFAULT_LEVEL: i32 = 3;
/// What the first attempt reserves, as a multiple of the input: most records compress less.
const FIRST_EXPANSION: usize = 8;
const OUTPUT_FULL: ErrorCode =
    (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as ErrorCode).wrapping_neg();

pub(super) fn compress(plain: &[u8], level: Option<i32>) -> Vec<u8> {
    let range = ::zstd::compression_level_range();
    let level = level
        .unwrap_or(DEFAULT_LEVEL)
        .clamp(*range.start(), *range.end());
    Compressor::new(level)
        .and_then(|mut compressor| compressor.compress(plain))
        .expect("zstd fails on valid levels only when memory is gone")
}

/// Decompresses in one go into a buffer that grows by attempts. Streaming would instead reserve the window that
/// the frame declares, up to 128 MiB for a frame of a few bytes.
pub(super) fn decompress(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut context = DCtx::create();
    let mut reserved = packed.len().saturating_mul(FIRST_EXPANSION).min(bytes_max);
    loop {
        let mut plain = Vec::with_capacity(reserved);
        match context.decompress(&mut plain, packed) {
            Ok(_) if plain.len() <= bytes_max => return Ok(plain),
            // An allocator may give more than was asked for.
            Ok(_) => return Err(CompressionError::TooLarge { bytes_max }),
            Err(OUTPUT_FULL) if plain.capacity() >= bytes_max => {
                return Err(CompressionError::TooLarge { bytes_max });
            }
            Err(OUTPUT_FULL) => reserved = plain.capacity().saturating_mul(4).min(bytes_max),
            Err(_) => return Err(CompressionError::Malformed(Compression::Zstd)),
        }
    }
}
