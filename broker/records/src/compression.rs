//! The five codecs of Kafka's batches, each opened only up to a limit.
//!
//! Decompression never believes a declared size: buffers grow with what really comes out, or are bounded by
//! what the codec can make of the bytes at hand.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;

use bytes::Bytes;

/// How a batch's records are compressed, by its code in the batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As they are.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy blocks in the framing of snappy-java, or one bare block.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

/// Why compressed bytes could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// There is more in them than the caller allows. They may be fine otherwise.
    #[error("decompresses to more than {bytes_max} bytes")]
    TooLarge {
        /// The caller's limit.
        bytes_max: usize,
    },
    /// They are not what the codec writes.
    #[error("malformed {0} data")]
    Malformed(Compression),
}

impl Compression {
    /// All codecs, by code.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this code, if there is one.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The codec that Kafka's configurations call `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// The code in a batch's attributes.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The name in Kafka's configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses as Kafka's Java client can read it. `level` is clamped to the codec's range (gzip 1 to 9, zstd
    /// as it allows); None is the codec's default. Snappy and LZ4 have one level only.
    pub fn compress(self, plain: &Bytes, level: Option<i32>) -> Bytes {
        match self {
            Self::None => plain.clone(),
            Self::Gzip => gzip::compress(plain, level).into(),
            Self::Snappy => snappy::compress(plain).into(),
            Self::Lz4 => lz4::compress(plain).into(),
            Self::Zstd => zstd::compress(plain, level).into(),
        }
    }

    /// Opens what [`Self::compress`] or another Kafka client wrote. Bytes that are not compressed are shared,
    /// whatever their size: the limit is on what this call brings into being.
    pub fn decompress(self, packed: &Bytes, bytes_max: usize) -> Result<Bytes, CompressionError> {
        let mut plain = match self {
            Self::None => return Ok(packed.clone()),
            Self::Gzip => gzip::decompress(packed, bytes_max)?,
            Self::Snappy => snappy::decompress(packed, bytes_max)?,
            Self::Lz4 => lz4::decompress(packed, bytes_max)?,
            Self::Zstd => zstd::decompress(packed, bytes_max)?,
        };
        // Slices of it may live long: do not keep what was reserved in vain.
        plain.shrink_to_fit();
        Ok(plain.into())
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
