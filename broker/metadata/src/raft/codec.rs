//! Raft's own data as bytes, for the log, for snapshots and for peers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    EncodedCommand, Entry, LogId, Membership, Payload, RaftNode, StoredMembership, TypeConfig, Vote,
};
use crate::codec::{DecodeError, Reader, Writer};

type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub(crate) fn put_log_id(w: &mut Writer, log_id: &LogId) {
    w.u64(log_id.leader_id.term);
    w.u64(log_id.index);
}

pub(crate) fn get_log_id(r: &mut Reader<'_>) -> Result<LogId, DecodeError> {
    Ok(LogId::new_term_index(r.u64()?, r.u64()?))
}

pub(crate) fn put_vote(w: &mut Writer, vote: &Vote) {
    w.u64(vote.leader_id.term);
    w.u64(vote.leader_id.voted_for);
    w.bool(vote.committed);
}

pub(crate) fn get_vote(r: &mut Reader<'_>) -> Result<Vote, DecodeError> {
    let leader_id = LeaderId {
        term: r.u64()?,
        voted_for: r.u64()?,
    };
    Ok(Vote {
        leader_id,
        committed: r.bool()?,
    })
}

/// Everything of an entry but a command's bytes, which are to follow.
pub(crate) fn put_entry_head<'a>(w: &mut Writer, log_id: &LogId, payload: &'a Payload) -> &'a [u8] {
    put_log_id(w, log_id);
    match payload {
        Payload::Blank => {
            w.u8(BLANK);
            &[]
        }
        Payload::Normal(EncodedCommand(bytes)) => {
            w.u8(COMMAND);
            bytes
        }
        Payload::Membership(membership) => {
            w.u8(MEMBERSHIP);
            put_membership(w, membership);
            &[]
        }
    }
}

/// Reads an entry that takes up all that is left.
pub(crate) fn get_entry(r: &mut Reader<'_>) -> Result<Entry, DecodeError> {
    let log_id = get_log_id(r)?;
    let payload = match r.u8()? {
        BLANK => Payload::Blank,
        COMMAND => Payload::Normal(EncodedCommand(Bytes::copy_from_slice(r.rest()))),
        MEMBERSHIP => Payload::Membership(get_membership(r)?),
        _ => return Err(DecodeError::Invalid("an entry's payload")),
    };
    r.end()?;
    Ok(Entry { log_id, payload })
}

pub(crate) fn put_membership(w: &mut Writer, membership: &Membership) {
    let configs = membership.get_joint_config();
    w.count(configs.len());
    for voters in configs {
        w.count(voters.len());
        voters.iter().for_each(|voter| w.u64(*voter));
    }
    w.count(membership.nodes().count());
    for (id, node) in membership.nodes() {
        w.u64(*id);
        w.uuid(node.directory);
        w.text(&node.host);
        w.u64(node.port.into());
    }
}

pub(crate) fn get_membership(r: &mut Reader<'_>) -> Result<Membership, DecodeError> {
    let configs: Vec<BTreeSet<u64>> = r.list(|r| Ok(r.list(Reader::u64)?.into_iter().collect()))?;
    let nodes: BTreeMap<u64, RaftNode> = r
        .list(|r| {
            let id = r.u64()?;
            let (directory, host) = (r.uuid()?, r.text()?.to_string());
            Ok((
                id,
                RaftNode {
                    directory,
                    host,
                    port: r.u16()?,
                },
            ))
        })?
        .into_iter()
        .collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| DecodeError::Invalid("a membership"))
}

pub(crate) fn put_stored_membership(w: &mut Writer, stored: &StoredMembership) {
    w.option(stored.log_id().as_ref(), put_log_id);
    put_membership(w, stored.membership());
}

pub(crate) fn get_stored_membership(r: &mut Reader<'_>) -> Result<StoredMembership, DecodeError> {
    let log_id = r.option(get_log_id)?;
    Ok(StoredMembership::new(log_id, get_membership(r)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn log_id() -> impl Strategy<Value = LogId> {
        any::<(u64, u64)>().prop_map(|(term, index)| LogId::new_term_index(term, index))
    }

    pub(crate) fn vote() -> impl Strategy<Value = Vote> {
        any::<(u64, u64, bool)>().prop_map(|(term, node, committed)| Vote {
            leader_id: LeaderId {
                term,
                voted_for: node,
            },
            committed,
        })
    }

    pub(crate) fn membership() -> impl Strategy<Value = Membership> {
        (
            vec(btree_set(0..5u64, 1..4), 1..3),
            "[a-z]{0,5}",
            any::<(u128, u16)>(),
        )
            .prop_map(|(configs, host, (directory, port))| {
                let directory = uuid::Uuid::from_u128(directory);
                let node = RaftNode {
                    directory,
                    host,
                    port,
                };
                let nodes: BTreeMap<_, _> = (0..6).map(|id| (id, node.clone())).collect();
                Membership::new(configs, nodes).expect("every voter has a node")
            })
    }

    pub(crate) fn entry() -> impl Strategy<Value = Entry> {
        let payload = prop_oneof![
            Just(Payload::Blank),
            vec(any::<u8>(), 0..40).prop_map(|b| Payload::Normal(EncodedCommand(b.into()))),
            membership().prop_map(Payload::Membership),
        ];
        (log_id(), payload).prop_map(|(log_id, payload)| Entry { log_id, payload })
    }

    proptest! {
        #[test]
        fn votes_and_entries_come_back(vote in vote(), entry in entry()) {
            let mut w = Writer::default();
            put_vote(&mut w, &vote);
            let command = put_entry_head(&mut w, &entry.log_id, &entry.payload);
            w.raw(command);
            let bytes = w.finish();
            let mut r = Reader::new(&bytes);
            prop_assert_eq!(get_vote(&mut r)?, vote);
            prop_assert_eq!(get_entry(&mut r)?, entry);
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
            let _ = get_entry(&mut Reader::new(&bytes));
            let _ = get_stored_membership(&mut Reader::new(&bytes));
        }
    }
}
