//! Functions: artifacts that were uploaded. What one does, and where its bytes are, never changes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tidemill_records::{Offset, TopicId};

/// The SHA-256 of an artifact. Shown and read as 64 hexadecimal digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionId(pub [u8; 32]);

impl fmt::Display for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FunctionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FunctionId({self})")
    }
}

/// Text that is no function's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a function's id has 64 hexadecimal digits in lower case")]
pub struct FunctionIdFault;

impl FromStr for FunctionId {
    type Err = FunctionIdFault;

    fn from_str(text: &str) -> Result<Self, FunctionIdFault> {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(FunctionIdFault),
        };
        if text.len() != 64 {
            return Err(FunctionIdFault);
        }
        let mut id = [0; 32];
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(id))
    }
}

/// How the broker calls an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A core WebAssembly module.
    CoreModule,
    /// A WebAssembly component.
    Component,
}

/// The records that hold an artifact's bytes, at consecutive offsets of partition 0 of the internal
/// topic `_tidemill.functions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArtifactChunks {
    /// The internal topic.
    pub topic: TopicId,
    /// Offset of the first record.
    pub first: Offset,
    /// How many records; at least one.
    pub count: u32,
}

/// An artifact that transforms may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionImage {
    /// What it is.
    pub id: FunctionId,
    /// What people call it; may be empty, and several may have the same.
    pub label: Arc<str>,
    /// Length of the artifact.
    pub size_bytes: u64,
    /// How it is called.
    pub carrier: Carrier,
    /// Where its bytes are.
    pub chunks: ArtifactChunks,
    /// When it was uploaded, in milliseconds since 1970.
    pub uploaded_at_ms: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_come_back(id in any::<[u8; 32]>()) {
            prop_assert_eq!(FunctionId(id).to_string().parse(), Ok(FunctionId(id)));
        }

        #[test]
        fn other_text_is_refused(text in ".{0,70}") {
            prop_assume!(text.len() != 64);
            prop_assert_eq!(text.parse::<FunctionId>(), Err(FunctionIdFault));
        }
    }

    #[test]
    fn an_id_is_64_digits_in_lower_case() {
        let mut id = [0; 32];
        (id[0], id[31]) = (0xab, 0x0f);
        let text = format!("ab{}0f", "00".repeat(30));
        assert_eq!(FunctionId(id).to_string(), text);
        assert_eq!(text.parse(), Ok(FunctionId(id)));
        for wrong in [
            text.to_uppercase(),
            text.replace('b', "g"),
            text.replacen("00", "ä", 1),
            format!("{text}00"),
        ] {
            assert_eq!(wrong.parse::<FunctionId>(), Err(FunctionIdFault), "{wrong}");
        }
    }
}
