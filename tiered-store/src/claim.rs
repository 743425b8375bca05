//! Who owns a prefix of the bucket: one create-only object per incarnation of the cluster.
//!
//! Magic `TMCL`, u16 version 1, cluster id of 16 bytes, u64 incarnation, a random id of 16 bytes, CRC32C of all before. The random
//! id tells two claims of the same incarnation apart.

use uuid::Uuid;

use crate::codec::{Fields, FormatError, Put, crc32c};

const MAGIC: &[u8; 4] = b"TMCL";
const VERSION: u16 = 1;

/// A claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Whose it is.
    pub cluster: Uuid,
    /// Which life of the cluster; a restore begins the next one.
    pub incarnation: u64,
    /// Drawn by who wrote it.
    pub id: Uuid,
}

impl Claim {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.raw(MAGIC);
        out.u16(VERSION);
        out.raw(self.cluster.as_bytes());
        out.u64(self.incarnation);
        out.raw(self.id.as_bytes());
        let crc = crc32c(&out);
        out.u32(crc);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let covered = bytes.len().checked_sub(4).ok_or(FormatError::Truncated)?;
        let (covered, stored) = bytes.split_at(covered);
        let (computed, expected) = (crc32c(covered), Fields(stored).u32()?);
        if computed != expected {
            return Err(FormatError::Checksum {
                expected: expected.into(),
                computed: computed.into(),
            });
        }
        let mut fields = Fields(covered);
        if fields.array()? != *MAGIC {
            return Err(FormatError::Magic);
        }
        match fields.u16()? {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let claim = Self {
            cluster: Uuid::from_bytes(fields.array()?),
            incarnation: fields.u64()?,
            id: Uuid::from_bytes(fields.array()?),
        };
        fields.end()?;
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_keeps_its_bytes() {
        let claim = Claim {
            cluster: Uuid::from_u128(1),
            incarnation: 2,
            id: Uuid::from_u128(3),
        };
        let bytes = claim.encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            &hex[..hex.len() - 8],
            concat!(
                "544d434c",
                "0100",
                "00000000000000000000000000000001",
                "0200000000000000",
                "00000000000000000000000000000003"
            )
        );
        assert_eq!(Claim::decode(&bytes), Ok(claim));
        for at in 0..bytes.len() {
            assert!(Claim::decode(&bytes[..at]).is_err());
        }
    }
}
