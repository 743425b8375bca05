//! What one write-ahead log entry says about a partition: the payload that `tidemill_storage::wal` carries.
//!
//! Little-endian: version u8 (1), kind u8, topic id u128, partition i32, then by kind:
//!
//! | kind | fields |
//! |---|---|
//! | 1 append | leader epoch i32, segment base i64, position u32, append time i64, batches to the end |
//! | 2 truncate | end offset i64, segment base i64, position u32 |
//! | 3 restart | start offset i64: all is dropped, the log begins there |
//! | 4 roll | base offset i64 |
//! | 5 log start | log start i64, local log start i64 |
//! | 6 create | unlogged u8, topic name |
//! | 7 delete | whether its files are put aside u8 |
//! | 8 unlogged | whether what follows skips this log u8, segment base i64, position u32 |
//! | 9 offline | why, as in a checkpoint |

use tidemill_records::{LeaderEpoch, Offset, PartitionId, TopicId};
use uuid::Uuid;

use crate::checkpoint::{decode_offline, encode_offline};
use crate::codec::{Put, Reader};
use crate::error::{FormatError, OfflineCause};

const VERSION: u8 = 1;

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const RESTART: u8 = 3;
const ROLL: u8 = 4;
const LOG_START: u8 = 5;
const CREATE: u8 = 6;
const DELETE: u8 = 7;
const UNLOGGED: u8 = 8;
const OFFLINE: u8 = 9;

const PREFIX_BYTES: usize = 22;

/// Bytes in front of the batches of an append.
pub(crate) const APPEND_HEAD_BYTES: usize = PREFIX_BYTES + 24;

/// Which log an entry is about. A topic that is created again has another id, so entries of both
/// incarnations can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LogKey {
    pub(crate) topic_id: TopicId,
    pub(crate) partition: PartitionId,
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalEntry<'a> {
    pub(crate) key: LogKey,
    pub(crate) change: Change<'a>,
}

/// What happened to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// `batches`, whole and with their offsets, were written at byte `position` of a segment. A segment that is not
    /// the active one becomes so: appends imply their rolls.
    Append { head: AppendHead, batches: &'a [u8] },
    /// Everything from `end` on is dropped: from byte `position` of a segment, which is the active one now.
    Truncate {
        end: Offset,
        segment_base: Offset,
        position: u32,
    },
    /// Everything is dropped, and the log begins at `start`.
    Restart { start: Offset },
    /// An empty segment became the active one.
    Roll { base: Offset },
    /// The log, and what of it is on this disk, begin later.
    LogStart {
        log_start: Offset,
        local_log_start: Offset,
    },
    /// The partition begins, empty.
    Create { unlogged: bool, topic: &'a str },
    /// The partition is gone: its files are removed, or put aside under another name.
    Delete { aside: bool },
    /// Its files are not what they must be.
    Offline { cause: OfflineCause },
    /// From this place on appends skip this log, or no longer do; what is before it is in the segment files.
    Unlogged {
        unlogged: bool,
        segment_base: Offset,
        position: u32,
    },
}

/// Where and when batches were appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppendHead {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) segment_base: Offset,
    pub(crate) position: u32,
    pub(crate) append_time_ms: i64,
}

/// A fixed buffer: appends encode without allocating.
struct Head {
    bytes: [u8; APPEND_HEAD_BYTES],
    len: usize,
}

impl Put for Head {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

fn put_prefix(out: &mut impl Put, kind: u8, key: LogKey) {
    out.u8(VERSION);
    out.u8(kind);
    out.u128(key.topic_id.0.as_u128());
    out.i32(key.partition.0);
}

/// The bytes of an append entry before its batches.
pub(crate) fn encode_append_head(key: LogKey, head: &AppendHead) -> [u8; APPEND_HEAD_BYTES] {
    let mut out = Head {
        bytes: [0; APPEND_HEAD_BYTES],
        len: 0,
    };
    put_prefix(&mut out, APPEND, key);
    out.i32(head.leader_epoch.0);
    out.i64(head.segment_base.0);
    out.u32(head.position);
    out.i64(head.append_time_ms);
    debug_assert_eq!(out.len, APPEND_HEAD_BYTES, "every byte has a field");
    out.bytes
}

impl WalEntry<'_> {
    /// The entry's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let prefix = |out: &mut Vec<u8>, kind| put_prefix(out, kind, self.key);
        match self.change {
            Change::Append { head, batches } => {
                out.bytes(&encode_append_head(self.key, &head));
                out.bytes(batches);
            }
            Change::Truncate {
                end,
                segment_base,
                position,
            } => {
                prefix(&mut out, TRUNCATE);
                out.i64(end.0);
                out.i64(segment_base.0);
                out.u32(position);
            }
            Change::Restart { start } => {
                prefix(&mut out, RESTART);
                out.i64(start.0);
            }
            Change::Roll { base } => {
                prefix(&mut out, ROLL);
                out.i64(base.0);
            }
            Change::LogStart {
                log_start,
                local_log_start,
            } => {
                prefix(&mut out, LOG_START);
                out.i64(log_start.0);
                out.i64(local_log_start.0);
            }
            Change::Create { unlogged, topic } => {
                prefix(&mut out, CREATE);
                out.bool(unlogged);
                out.text(topic);
            }
            Change::Delete { aside } => {
                prefix(&mut out, DELETE);
                out.bool(aside);
            }
            Change::Offline { cause } => {
                prefix(&mut out, OFFLINE);
                encode_offline(Some(cause), &mut out);
            }
            Change::Unlogged {
                unlogged,
                segment_base,
                position,
            } => {
                prefix(&mut out, UNLOGGED);
                out.bool(unlogged);
                out.i64(segment_base.0);
                out.u32(position);
            }
        }
        out
    }
}

impl<'a> WalEntry<'a> {
    /// Reads an entry, sharing `bytes`. The batches are not looked into.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<WalEntry<'a>, FormatError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let kind = reader.u8()?;
        let topic_id = TopicId(Uuid::from_u128(reader.u128()?));
        let partition = PartitionId(reader.i32()?);
        let offset = |reader: &mut Reader<'_>| reader.i64_from_zero().map(Offset);
        let change = match kind {
            APPEND => {
                let head = AppendHead {
                    leader_epoch: LeaderEpoch(reader.i32()?),
                    segment_base: offset(&mut reader)?,
                    position: reader.u32()?,
                    append_time_ms: reader.i64()?,
                };
                let batches = reader.rest();
                reader = Reader::new(&[]);
                Change::Append { head, batches }
            }
            TRUNCATE => Change::Truncate {
                end: offset(&mut reader)?,
                segment_base: offset(&mut reader)?,
                position: reader.u32()?,
            },
            RESTART => Change::Restart {
                start: offset(&mut reader)?,
            },
            ROLL => Change::Roll {
                base: offset(&mut reader)?,
            },
            LOG_START => Change::LogStart {
                log_start: offset(&mut reader)?,
                local_log_start: offset(&mut reader)?,
            },
            CREATE => Change::Create {
                unlogged: reader.bool()?,
                topic: reader.text()?,
            },
            DELETE => Change::Delete {
                aside: reader.bool()?,
            },
            OFFLINE => Change::Offline {
                cause: decode_offline(&mut reader)?.ok_or(FormatError::Kind(0))?,
            },
            UNLOGGED => Change::Unlogged {
                unlogged: reader.bool()?,
                segment_base: offset(&mut reader)?,
                position: reader.u32()?,
            },
            other => return Err(FormatError::Kind(other)),
        };
        reader.finish()?;
        let key = LogKey {
            topic_id,
            partition,
        };
        Ok(WalEntry { key, change })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The owned parts that an entry borrows.
    fn parts() -> impl Strategy<
        Value = (
            u8,
            u128,
            i32,
            [i64; 2],
            (i32, u32, i64),
            bool,
            String,
            Vec<u8>,
        ),
    > {
        (
            0u8..9,
            any::<u128>(),
            any::<i32>(),
            [0..=i64::MAX, 0..=i64::MAX],
            (any::<i32>(), any::<u32>(), any::<i64>()),
            any::<bool>(),
            "[a-zA-Z0-9._é-]{0,20}",
            proptest::collection::vec(any::<u8>(), 0..200),
        )
    }

    proptest! {
        #[test]
        fn entries_round_trip((kind, id, partition, offsets, numbers, flag, topic, batches) in parts()) {
            let [first, second] = offsets.map(Offset);
            let change = match kind {
                0 => Change::Append {
                    head: AppendHead {
                        leader_epoch: LeaderEpoch(numbers.0),
                        segment_base: first,
                        position: numbers.1,
                        append_time_ms: numbers.2,
                    },
                    batches: &batches,
                },
                1 => Change::Truncate { end: first, segment_base: second, position: numbers.1 },
                2 => Change::Restart { start: first },
                3 => Change::Roll { base: first },
                4 => Change::LogStart { log_start: first, local_log_start: second },
                5 => Change::Create { unlogged: flag, topic: &topic },
                6 => Change::Delete { aside: flag },
                7 => Change::Offline { cause: OfflineCause::SegmentShort { base: first, bytes: second.0.cast_unsigned(), synced: 7 } },
                _ => Change::Unlogged { unlogged: flag, segment_base: first, position: numbers.1 },
            };
            let key = LogKey { topic_id: TopicId(Uuid::from_u128(id)), partition: PartitionId(partition) };
            let entry = WalEntry { key, change };
            let bytes = entry.encode();
            prop_assert_eq!(WalEntry::decode(&bytes), Ok(entry));
            if kind != 0 {
                prop_assert!(WalEntry::decode(&bytes[..bytes.len() - 1]).is_err());
                let longer = [&bytes[..], &[0]].concat();
                prop_assert_eq!(WalEntry::decode(&longer), Err(FormatError::TrailingBytes(1)));
            }
        }

        #[test]
        fn hostile_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(entry) = WalEntry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_later_version_is_told_apart() {
        let key = LogKey {
            topic_id: TopicId::ZERO,
            partition: PartitionId(0),
        };
        let mut bytes = WalEntry {
            key,
            change: Change::Delete { aside: false },
        }
        .encode();
        bytes[0] = 2;
        assert_eq!(WalEntry::decode(&bytes), Err(FormatError::Version(2)));
    }
}
