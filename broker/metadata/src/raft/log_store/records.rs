//! What the metadata log's write-ahead log holds: one ordered stream of votes, entries, truncations and
//! purges. A record is its kind, the version of its kind, and its fields.

use tidemill_records::NodeId;

use crate::codec::{DecodeError, Reader, Writer};
use crate::identity::Identity;
use crate::raft::codec::{get_entry, get_log_id, get_vote, put_entry_head, put_log_id, put_vote};
use crate::raft::{Entry, LogId, Payload, Vote};

const IDENTITY: u8 = 1;
const VOTE: u8 = 2;
const ENTRY: u8 = 3;
const TRUNCATE: u8 = 4;
const BASE: u8 = 5;
const COMMITTED: u8 = 6;
const VERSION: u8 = 1;

/// A record of the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    /// Whose log this is; the first record of every log.
    Identity(Identity),
    /// The vote.
    Vote(Vote),
    /// An entry, at the end of the log.
    Entry(Entry),
    /// Everything after this entry (all of it: `None`) is gone.
    Truncate(Option<LogId>),
    /// Everything up to this entry is gone, and all else that earlier records said is said again: no
    /// record before it is needed, but for the entries that are left.
    Base(Base),
    /// How far the log is known to be committed. Only a hint: it is written with the next entries.
    Committed(LogId),
}

/// See [`Record::Base`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Base {
    pub(super) identity: Option<Identity>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: LogId,
}

/// An entry's record but for its command, which comes second: nothing copies commands.
pub(super) fn encode_entry<'a>(log_id: &LogId, payload: &'a Payload) -> (Vec<u8>, &'a [u8]) {
    let mut w = head(ENTRY);
    let command = put_entry_head(&mut w, log_id, payload);
    (w.finish(), command)
}

pub(super) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut w = head(IDENTITY);
    put_identity(&mut w, identity);
    w.finish()
}

pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut w = head(VOTE);
    put_vote(&mut w, vote);
    w.finish()
}

pub(super) fn encode_truncate(after: Option<&LogId>) -> Vec<u8> {
    let mut w = head(TRUNCATE);
    w.option(after, put_log_id);
    w.finish()
}

pub(super) fn encode_base(base: &Base) -> Vec<u8> {
    let mut w = head(BASE);
    w.option(base.identity.as_ref(), put_identity);
    w.option(base.vote.as_ref(), put_vote);
    w.option(base.committed.as_ref(), put_log_id);
    put_log_id(&mut w, &base.purged);
    w.finish()
}

pub(super) fn encode_committed(committed: &LogId) -> Vec<u8> {
    let mut w = head(COMMITTED);
    put_log_id(&mut w, committed);
    w.finish()
}

fn head(kind: u8) -> Writer {
    let mut w = Writer::default();
    w.u8(kind);
    w.u8(VERSION);
    w
}

fn put_identity(w: &mut Writer, identity: &Identity) {
    w.uuid(identity.cluster_id);
    w.i32(identity.node.0);
    w.uuid(identity.directory);
}

fn get_identity(r: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    Ok(Identity {
        cluster_id: r.uuid()?,
        node: NodeId(r.i32()?),
        directory: r.uuid()?,
    })
}

impl Record {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let (kind, version) = (r.u8()?, r.u8()?);
        let newer = DecodeError::Newer {
            what: "metadata log record",
            kind: kind.into(),
            version,
        };
        if version != VERSION {
            return Err(newer);
        }
        let record = match kind {
            IDENTITY => Self::Identity(get_identity(&mut r)?),
            VOTE => Self::Vote(get_vote(&mut r)?),
            ENTRY => Self::Entry(get_entry(&mut r)?),
            TRUNCATE => Self::Truncate(r.option(get_log_id)?),
            BASE => Self::Base(Base {
                identity: r.option(get_identity)?,
                vote: r.option(get_vote)?,
                committed: r.option(get_log_id)?,
                purged: get_log_id(&mut r)?,
            }),
            COMMITTED => Self::Committed(get_log_id(&mut r)?),
            _ => return Err(newer),
        };
        r.end()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::raft::EncodedCommand;
    use crate::raft::codec::tests::{entry, log_id, vote};

    fn encode(record: &Record) -> Vec<u8> {
        match record {
            Record::Identity(identity) => encode_identity(identity),
            Record::Vote(vote) => encode_vote(vote),
            Record::Entry(entry) => {
                let (head, command) = encode_entry(&entry.log_id, &entry.payload);
                [&head, command].concat()
            }
            Record::Truncate(after) => encode_truncate(after.as_ref()),
            Record::Base(base) => encode_base(base),
            Record::Committed(committed) => encode_committed(committed),
        }
    }

    fn identity() -> impl Strategy<Value = Identity> {
        any::<(u128, i32, u128)>().prop_map(|(cluster, node, directory)| Identity {
            cluster_id: Uuid::from_u128(cluster),
            node: NodeId(node),
            directory: Uuid::from_u128(directory),
        })
    }

    fn record() -> impl Strategy<Value = Record> {
        use prop::option::of;
        prop_oneof![
            identity().prop_map(Record::Identity),
            vote().prop_map(Record::Vote),
            entry().prop_map(Record::Entry),
            of(log_id()).prop_map(Record::Truncate),
            (of(identity()), of(vote()), of(log_id()), log_id()).prop_map(
                |(identity, vote, committed, purged)| {
                    Record::Base(Base {
                        identity,
                        vote,
                        committed,
                        purged,
                    })
                }
            ),
            log_id().prop_map(Record::Committed),
        ]
    }

    proptest! {
        #[test]
        fn records_come_back(record in record()) {
            prop_assert_eq!(Record::decode(&encode(&record)), Ok(record));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Record::decode(&bytes);
        }
    }

    /// These bytes are in data directories out there.
    #[test]
    fn the_bytes_stay_as_they_are() {
        let id = Uuid::from_u128(0x000102030405060708090a0b0c0d0e0f);
        let identity = Identity {
            cluster_id: id,
            node: NodeId(1),
            directory: id,
        };
        let log_id = LogId::new_term_index(2, 300);
        let vote = Vote::new_committed(2, 1);
        let payload = Payload::Normal(EncodedCommand(b"cmd".as_slice().into()));
        const ID: &str = "000102030405060708090a0b0c0d0e0f";
        let cases = [
            (Record::Identity(identity), format!("0101{ID}02{ID}")),
            (Record::Vote(vote), "0201020101".to_owned()),
            (
                Record::Entry(Entry { log_id, payload }),
                "030102ac0201636d64".to_owned(),
            ),
            (
                Record::Entry(Entry {
                    log_id,
                    payload: Payload::Blank,
                }),
                "030102ac0200".to_owned(),
            ),
            (Record::Truncate(None), "040100".to_owned()),
            (Record::Truncate(Some(log_id)), "04010102ac02".to_owned()),
            (
                Record::Base(Base {
                    identity: None,
                    vote: Some(vote),
                    committed: None,
                    purged: log_id,
                }),
                "05010001020101 0002ac02".replace(' ', ""),
            ),
            (Record::Committed(log_id), "060102ac02".to_owned()),
        ];
        for (record, golden) in cases {
            let hex: String = encode(&record)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(hex, golden, "{record:?}");
        }
    }
}
