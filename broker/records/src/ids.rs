//! Identifiers as types, so that an offset is never taken for an epoch.
//!
//! All of them serialise as their bare number; [`TopicId`] prints as Kafka's tools print it.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number_id! {
    /// Position of a record in its partition. End offsets are exclusive.
    Offset(i64)
}
number_id! {
    /// Counts the leaders of a partition; never goes down.
    LeaderEpoch(i32)
}
number_id! {
    /// Names one idempotent or transactional producer.
    ProducerId(i64)
}
number_id! {
    /// Fences older instances of the same producer id.
    ProducerEpoch(i16)
}
number_id! {
    /// Number of a record within one producer id, epoch and partition; after `i32::MAX` comes 0.
    Sequence(i32)
}
number_id! {
    /// A broker's id in the cluster.
    NodeId(i32)
}
number_id! {
    /// Index of a partition within its topic.
    PartitionId(i32)
}

impl Offset {
    /// The first offset of a log that was never trimmed.
    pub const ZERO: Self = Self(0);
    /// "No offset" on the wire.
    pub const NONE: Self = Self(-1);
}

impl Add<i64> for Offset {
    type Output = Self;

    fn add(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

impl Sub for Offset {
    type Output = i64;

    /// How many offsets lie between the two.
    fn sub(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl LeaderEpoch {
    /// "Unknown epoch" on the wire and in batches that no leader has stamped yet.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// The batch's producer is not idempotent.
    pub const NONE: Self = Self(-1);

    /// Whether this is a real id.
    pub fn is_some(self) -> bool {
        self.0 >= 0
    }
}

impl ProducerEpoch {
    /// The batch's producer is not idempotent.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// The batch's producer is not idempotent.
    pub const NONE: Self = Self(-1);

    /// The number `records` further on. `i32::MAX` is followed by 0, as in Kafka.
    ///
    /// # Panics
    /// When either side is negative: [`Sequence::NONE`] has no successor.
    #[must_use]
    pub fn advance(self, records: i32) -> Self {
        assert!(
            self.0 >= 0 && records >= 0,
            "a sequence advances from a number, by a count"
        );
        const PERIOD: i64 = i32::MAX as i64 + 1;
        let wrapped = (i64::from(self.0) + i64::from(records)) % PERIOD;
        Self(i32::try_from(wrapped).expect("a remainder of 2^31 fits an i32"))
    }

    /// The number that the next record must carry.
    #[must_use]
    pub fn next(self) -> Self {
        self.advance(1)
    }
}

impl NodeId {
    /// "No broker", such as the leader of an offline partition.
    pub const NONE: Self = Self(-1);
}

/// Identity of a topic; a topic that is deleted and created again gets another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// "No topic id" on the wire.
    pub const ZERO: Self = Self(Uuid::nil());
}

/// Kafka's form: URL-safe base64 without padding, 22 characters.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 22 digits of 6 bits are 132 bits: the last digit carries 4 bits of padding.
        let bits = self.0.as_u128();
        let mut text = [0u8; 22];
        for (at, digit) in text.iter_mut().enumerate() {
            let shift = 122 - 6 * at as i32;
            let six = if shift >= 0 {
                bits >> shift
            } else {
                bits << -shift
            };
            *digit = ALPHABET[(six & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

/// A partition of a topic by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index.
    pub partition: PartitionId,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: PartitionId) -> Self {
        Self {
            topic: topic.into(),
            partition,
        }
    }
}

/// `topic-partition`, as Kafka names directories and log lines.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_from_the_largest_number_to_zero() {
        assert_eq!(Sequence(i32::MAX).next(), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).advance(3), Sequence(1));
        assert_eq!(Sequence(i32::MAX).advance(i32::MAX), Sequence(i32::MAX - 1));
        assert_eq!(Sequence(7).advance(0), Sequence(7));
    }

    #[test]
    #[should_panic(expected = "a sequence advances from a number")]
    fn no_sequence_has_no_successor() {
        let _ = Sequence::NONE.next();
    }

    #[test]
    fn topic_id_prints_as_kafka_does() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // Kafka's reserved id of its metadata topic.
        assert_eq!(
            TopicId(Uuid::from_u128(1)).to_string(),
            "AAAAAAAAAAAAAAAAAAAAAQ"
        );
        assert_eq!(
            TopicId(Uuid::from_u128(u128::MAX)).to_string(),
            "_____________________w"
        );
    }

    #[test]
    fn ids_serialise_as_bare_numbers() {
        let json = serde_json::to_string(&(Offset(7), NodeId(-1))).expect("plain numbers");
        assert_eq!(json, "[7,-1]");
        assert_eq!(
            serde_json::from_str::<(Offset, NodeId)>(&json).expect("read"),
            (Offset(7), NodeId::NONE)
        );
    }

    #[test]
    fn topic_partition_prints_as_its_directory() {
        assert_eq!(
            TopicPartition::new("a-b", PartitionId(3)).to_string(),
            "a-b-3"
        );
    }
}
