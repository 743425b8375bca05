//! gzip, of one member or several.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Compression, CompressionError};

pub(super) fn compress(plain: &[u8], level: Option<i32>) -> Vec<u8> {
    let level = match level {
        None => flate2::Compression::default(),
        Some(level) => flate2::Compression::new(level.clamp(1, 9) as u32),
    };
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder
        .write_all(plain)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

pub(super) fn decompress(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, CompressionError> {
    let mut plain = Vec::new();
    // One byte past the limit tells "too large" from "just fits".
    MultiGzDecoder::new(packed)
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| CompressionError::Malformed(Compression::Gzip))?;
    if plain.len() > bytes_max {
        return Err(CompressionError::TooLarge { bytes_max });
    }
    Ok(plain)
}
