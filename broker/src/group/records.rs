//! The records of `__consumer_offsets`, in Kafka's own format, so that Kafka's tools and Burrow read them.
//!
//! A key begins with a number that says which kind of record it is: 0 and 1 a committed offset, 2 a classic
//! group. Others belong to group types that are not served here. Values begin with their version.

use std::sync::Arc;

use bytes::Bytes;
use tidemill_protocol::consumer_offsets::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use tidemill_protocol::{DecodeError, Message, Str, decode_versioned, encode_prefixed};
use tidemill_protocol::{encode_versioned, split_prefix};
use tidemill_records::{LeaderEpoch, PartitionId};

use super::log::CoordinatorRecord;
use super::offsets::CommittedOffset;

const OFFSET_KEY_OLD: i16 = 0;
const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
/// The only layout that keys have.
const KEY_LAYOUT: i16 = 0;
/// Newer layouts exist, but tools that follow offsets from outside know this one.
const GROUP_VALUE: i16 = 3;
/// As for groups.
const OFFSET_VALUE: i16 = 3;
/// The last layout with an expiry of the offset's own, for clients that ask for one.
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
/// The first layout with the topic's id.
const OFFSET_VALUE_WITH_TOPIC_ID: i16 = 4;

/// What a record means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stored {
    /// An offset was committed, or (none) deleted.
    Offset {
        group: Arc<str>,
        topic: Arc<str>,
        partition: PartitionId,
        committed: Option<CommittedOffset>,
    },
    /// A group completed a rebalance, or (none) was deleted.
    Group {
        group: Arc<str>,
        value: Option<GroupMetadataValue>,
    },
    /// A record of this kind is not ours.
    Unknown(i16),
}

/// The record of a group.
pub(crate) fn group(group: &str, value: &GroupMetadataValue) -> CoordinatorRecord {
    CoordinatorRecord {
        key: group_key(group),
        value: Some(versioned(value, GROUP_VALUE)),
    }
}

/// The record that deletes a group.
pub(crate) fn group_tombstone(group: &str) -> CoordinatorRecord {
    CoordinatorRecord {
        key: group_key(group),
        value: None,
    }
}

/// The record of a committed offset.
pub(crate) fn offset(
    group: &str,
    topic: &str,
    partition: PartitionId,
    committed: &CommittedOffset,
) -> CoordinatorRecord {
    let value = OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch.0,
        metadata: Str::from(&*committed.metadata),
        commit_timestamp: committed.committed_at_ms,
        expire_timestamp: committed.expires_at_ms.unwrap_or(-1),
        topic_id: committed.topic_id,
        ..Default::default()
    };
    let version = match committed {
        CommittedOffset {
            expires_at_ms: Some(_),
            ..
        } => OFFSET_VALUE_WITH_EXPIRY,
        CommittedOffset { topic_id, .. } if topic_id.is_nil() => OFFSET_VALUE,
        _ => OFFSET_VALUE_WITH_TOPIC_ID,
    };
    let key = offset_key(group, topic, partition);
    CoordinatorRecord {
        key,
        value: Some(versioned(&value, version)),
    }
}

/// The record that deletes a committed offset.
pub(crate) fn offset_tombstone(
    group: &str,
    topic: &str,
    partition: PartitionId,
) -> CoordinatorRecord {
    CoordinatorRecord {
        key: offset_key(group, topic, partition),
        value: None,
    }
}

/// Reads a record. The result shares no memory with it but for a group's value.
pub(crate) fn read(record: CoordinatorRecord) -> Result<Stored, DecodeError> {
    let (kind, key) = split_prefix(record.key)?;
    match kind {
        OFFSET_KEY_OLD | OFFSET_KEY => {
            let key = OffsetCommitKey::decode_exact(key, KEY_LAYOUT)?;
            let committed = record
                .value
                .map(decode_versioned::<OffsetCommitValue>)
                .transpose()?;
            Ok(Stored::Offset {
                group: (&*key.group).into(),
                topic: (&*key.topic).into(),
                partition: PartitionId(key.partition),
                committed: committed.map(|(_, value)| committed_offset(value)),
            })
        }
        GROUP_KEY => {
            let key = GroupMetadataKey::decode_exact(key, KEY_LAYOUT)?;
            let value = record
                .value
                .map(decode_versioned::<GroupMetadataValue>)
                .transpose()?;
            Ok(Stored::Group {
                group: (&*key.group).into(),
                value: value.map(|(_, value)| value),
            })
        }
        other => Ok(Stored::Unknown(other)),
    }
}

fn committed_offset(value: OffsetCommitValue) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: (&*value.metadata).into(),
        committed_at_ms: value.commit_timestamp,
        expires_at_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
        topic_id: value.topic_id,
    }
}

fn group_key(group: &str) -> Bytes {
    let key = GroupMetadataKey {
        group: Str::from(group),
    };
    prefixed(GROUP_KEY, &key)
}

fn offset_key(group: &str, topic: &str, partition: PartitionId) -> Bytes {
    let key = OffsetCommitKey {
        group: Str::from(group),
        topic: Str::from(topic),
        partition: partition.0,
    };
    prefixed(OFFSET_KEY, &key)
}

fn prefixed<M: Message>(kind: i16, key: &M) -> Bytes {
    encode_prefixed(kind, key, KEY_LAYOUT).expect(FITS)
}

fn versioned<M: Message>(value: &M, version: i16) -> Bytes {
    encode_versioned(value, version).expect(FITS)
}

/// Texts came out of requests with the same 16-bit lengths; bytes have 32 bits and a request is smaller.
const FITS: &str = "what came in one request fits into one record";

#[cfg(test)]
mod tests;
