//! Kafka's default choice of a partition for a keyed record.

use crate::ids::PartitionId;

/// The 32-bit MurmurHash2 of `key` with Kafka's seed.
pub fn murmur2(key: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Kafka mixes a 32-bit length; keys are shorter than that, and a longer one wraps as Java's would.
    let mut hash = SEED ^ key.len() as u32;
    let words = key.chunks_exact(4);
    let tail = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash as i32
}

/// The partition among `partitions` that Kafka's Java client gives a record with this key.
///
/// # Panics
/// When `partitions` is not positive.
pub fn murmur2_partition(key: &[u8], partitions: i32) -> PartitionId {
    assert!(partitions > 0, "a topic has at least one partition");
    // Kafka clears the sign bit; it does not take the absolute value.
    PartitionId((murmur2(key) & i32::MAX) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_kafkas_own_tests_say() {
        for (key, hash) in [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58897971,
            ),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit() {
        let expected = (-790332482i32 & i32::MAX) % 7;
        assert_eq!(murmur2_partition(b"foobar", 7), PartitionId(expected));
        assert_ne!(expected, 790332482 % 7, "the two rules differ for this key");
    }

    #[test]
    #[should_panic(expected = "at least one partition")]
    fn a_topic_without_partitions_is_a_bug() {
        murmur2_partition(b"k", 0);
    }
}
