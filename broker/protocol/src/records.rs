//! The `records` field of Produce and Fetch: record batches that the codec does not look into.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// A chain of chunks that follow each other on the wire.
///
/// Decoding gives a single chunk, a view into the frame. Fetch answers chain what the log's cache
/// holds, and the encoder passes large chunks on without copying them.
#[derive(Clone, Default)]
pub struct Records {
    /// Kept apart from `rest`, so that the usual single chunk needs no allocation.
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Records {
    /// Chains the chunks in their order.
    pub fn from_chunks(mut chunks: Vec<Bytes>) -> Records {
        match chunks.len() {
            0 => Records::default(),
            1 => Records {
                first: chunks.remove(0),
                rest: Vec::new(),
            },
            _ => Records {
                first: Bytes::new(),
                rest: chunks,
            },
        }
    }

    /// Bytes of all chunks together.
    pub fn len(&self) -> usize {
        self.chunks().map(Bytes::len).sum()
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.chunks().next().is_none()
    }

    /// The chunks that are not empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first)
            .chain(&self.rest)
            .filter(|chunk| !chunk.is_empty())
    }

    /// All bytes in one piece: copied only if there are several chunks.
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut joined = BytesMut::with_capacity(self.len());
        self.chunks()
            .for_each(|chunk| joined.extend_from_slice(chunk));
        joined.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records {
            first: bytes,
            rest: Vec::new(),
        }
    }
}

/// Equal bytes are equal records, however they are cut into chunks.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        let left = self.chunks().flat_map(|chunk| chunk.iter());
        let right = other.chunks().flat_map(|chunk| chunk.iter());
        self.len() == other.len() && left.eq(right)
    }
}

impl Eq for Records {}

/// Only the size: records are payload, and payload does not belong into logs.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(texts: &[&'static str]) -> Records {
        Records::from_chunks(
            texts
                .iter()
                .map(|text| Bytes::from_static(text.as_bytes()))
                .collect(),
        )
    }

    #[test]
    fn equality_ignores_the_cuts() {
        assert_eq!(chunks(&["ab", "", "c"]), chunks(&["a", "bc"]));
        assert_eq!(chunks(&["abc"]), Records::from(Bytes::from_static(b"abc")));
        assert_ne!(chunks(&["ab"]), chunks(&["a", "bc"]));
        assert_ne!(chunks(&["abd"]), chunks(&["a", "bc"]));
        assert_eq!(chunks(&[]), chunks(&["", ""]));
    }

    #[test]
    fn joins_chunks() {
        assert_eq!(chunks(&["ab", "", "c"]).into_bytes(), "abc");
        assert_eq!(chunks(&["ab", "", "c"]).len(), 3);
        assert_eq!(chunks(&["ab", "", "c"]).chunks().count(), 2);
        assert!(chunks(&["", ""]).is_empty());
        assert!(chunks(&[]).is_empty());
    }

    #[test]
    fn one_chunk_is_not_copied() {
        let bytes = Bytes::from(vec![7; 10]);
        let records = Records::from(bytes.clone());
        assert_eq!(records.into_bytes().as_ptr(), bytes.as_ptr());
    }
}
