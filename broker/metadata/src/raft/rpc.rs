//! Raft's messages between nodes as bytes. A request says for whom it is: node, directory and cluster,
//! so that nobody answers in another's name after addresses or disks were swapped.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use tidemill_records::NodeId;

use super::codec::{
    get_entry, get_log_id, get_stored_membership, get_vote, put_entry_head, put_log_id,
    put_stored_membership, put_vote,
};
use super::files::SnapshotBytes;
use super::{SnapshotMeta, TypeConfig, Vote};
use crate::codec::{DecodeError, Reader, Writer};
use crate::identity::Identity;

const VERSION: u8 = 1;

/// A request to a peer.
#[derive(Debug, Clone)]
pub(super) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Snapshot {
        vote: Vote,
        meta: SnapshotMeta,
        bytes: SnapshotBytes,
    },
    TransferLeader(TransferLeaderRequest<TypeConfig>),
}

/// A peer's answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Response {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    Snapshot(Vote),
    TransferLeader(Result<(), TransferLeaderError<TypeConfig>>),
    /// The request was for somebody else.
    NotMe,
    /// The request could not be read.
    Malformed,
    /// Raft has stopped there.
    Stopped,
}

pub(super) fn encode_request(to: &Identity, request: &Request) -> Bytes {
    let mut w = Writer::default();
    w.u8(VERSION);
    w.uuid(to.cluster_id);
    w.i32(to.node.0);
    w.uuid(to.directory);
    match request {
        Request::Append(append) => {
            w.u8(1);
            put_append(&mut w, append);
        }
        Request::Vote(vote) => {
            w.u8(2);
            put_vote_request(&mut w, vote);
        }
        Request::PreVote(vote) => {
            w.u8(3);
            put_vote_request(&mut w, vote);
        }
        Request::Snapshot { vote, meta, bytes } => {
            w.u8(4);
            put_vote(&mut w, vote);
            w.option(meta.last_log_id.as_ref(), put_log_id);
            put_stored_membership(&mut w, &meta.last_membership);
            w.u64(checksum(&bytes.0));
            w.raw(&bytes.0);
        }
        Request::TransferLeader(transfer) => {
            w.u8(5);
            put_vote(&mut w, transfer.from_leader());
            w.u64(*transfer.to_node_id());
            w.option(transfer.last_log_id(), put_log_id);
        }
    }
    w.finish().into()
}

pub(super) fn decode_request(bytes: &[u8]) -> Result<(Identity, Request), DecodeError> {
    let mut r = Reader::new(bytes);
    check_version(&mut r, "request of a peer")?;
    let to = Identity {
        cluster_id: r.uuid()?,
        node: NodeId(r.i32()?),
        directory: r.uuid()?,
    };
    let request = match r.u8()? {
        1 => Request::Append(get_append(&mut r)?),
        2 => Request::Vote(get_vote_request(&mut r)?),
        3 => Request::PreVote(get_vote_request(&mut r)?),
        4 => {
            let vote = get_vote(&mut r)?;
            let last_log_id = r.option(get_log_id)?;
            let last_membership = get_stored_membership(&mut r)?;
            let crc = r.u64()?;
            let bytes = r.rest();
            if checksum(bytes) != crc {
                return Err(DecodeError::Checksum("a snapshot"));
            }
            let bytes = SnapshotBytes(Bytes::copy_from_slice(bytes));
            Request::Snapshot {
                vote,
                meta: SnapshotMeta {
                    last_log_id,
                    last_membership,
                },
                bytes,
            }
        }
        5 => {
            let (from, to) = (get_vote(&mut r)?, r.u64()?);
            Request::TransferLeader(TransferLeaderRequest::new(from, to, r.option(get_log_id)?))
        }
        _ => return Err(DecodeError::Invalid("a peer's request")),
    };
    r.end()?;
    Ok((to, request))
}

pub(super) fn encode_response(response: &Response) -> Bytes {
    let mut w = Writer::default();
    w.u8(VERSION);
    match response {
        Response::Append(append) => {
            w.u8(1);
            match append {
                AppendEntriesResponse::Success => w.u8(0),
                AppendEntriesResponse::PartialSuccess(upto) => {
                    w.u8(1);
                    w.option(upto.as_ref(), put_log_id);
                }
                AppendEntriesResponse::Conflict => w.u8(2),
                AppendEntriesResponse::HigherVote(vote) => {
                    w.u8(3);
                    put_vote(&mut w, vote);
                }
            }
        }
        Response::Vote(vote) => {
            w.u8(2);
            put_vote(&mut w, &vote.vote);
            w.bool(vote.vote_granted);
            w.option(vote.last_log_id.as_ref(), put_log_id);
        }
        Response::Snapshot(vote) => {
            w.u8(3);
            put_vote(&mut w, vote);
        }
        Response::TransferLeader(result) => {
            w.u8(4);
            match result {
                Ok(()) => w.u8(0),
                Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                    w.u8(1);
                    put_vote(&mut w, expected);
                    put_vote(&mut w, actual);
                }
                Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                    w.u8(2);
                    w.option(expected.as_ref(), put_log_id);
                    w.option(actual.as_ref(), put_log_id);
                }
            }
        }
        Response::NotMe => w.u8(5),
        Response::Malformed => w.u8(6),
        Response::Stopped => w.u8(7),
    }
    w.finish().into()
}

pub(super) fn decode_response(bytes: &[u8]) -> Result<Response, DecodeError> {
    let mut r = Reader::new(bytes);
    check_version(&mut r, "answer of a peer")?;
    let response = match r.u8()? {
        1 => Response::Append(match r.u8()? {
            0 => AppendEntriesResponse::Success,
            1 => AppendEntriesResponse::PartialSuccess(r.option(get_log_id)?),
            2 => AppendEntriesResponse::Conflict,
            3 => AppendEntriesResponse::HigherVote(get_vote(&mut r)?),
            _ => return Err(DecodeError::Invalid("an answer to an append")),
        }),
        2 => Response::Vote(VoteResponse {
            vote: get_vote(&mut r)?,
            vote_granted: r.bool()?,
            last_log_id: r.option(get_log_id)?,
        }),
        3 => Response::Snapshot(get_vote(&mut r)?),
        4 => Response::TransferLeader(match r.u8()? {
            0 => Ok(()),
            1 => Err(TransferLeaderError::VoteChanged {
                expected: get_vote(&mut r)?,
                actual: get_vote(&mut r)?,
            }),
            2 => Err(TransferLeaderError::LogNotFlushed {
                expected: r.option(get_log_id)?,
                actual: r.option(get_log_id)?,
            }),
            _ => return Err(DecodeError::Invalid("an answer to a transfer")),
        }),
        5 => Response::NotMe,
        6 => Response::Malformed,
        7 => Response::Stopped,
        _ => return Err(DecodeError::Invalid("a peer's answer")),
    };
    r.end()?;
    Ok(response)
}

fn check_version(r: &mut Reader<'_>, what: &'static str) -> Result<(), DecodeError> {
    match r.u8()? {
        VERSION => Ok(()),
        version => Err(DecodeError::Newer {
            what,
            kind: 0,
            version,
        }),
    }
}

fn put_append(w: &mut Writer, append: &AppendEntriesRequest<TypeConfig>) {
    put_vote(w, &append.vote);
    w.option(append.prev_log_id.as_ref(), put_log_id);
    w.option(append.leader_commit.as_ref(), put_log_id);
    w.count(append.entries.len());
    for entry in &append.entries {
        let mut head = Writer::default();
        let command = put_entry_head(&mut head, &entry.log_id, &entry.payload);
        let head = head.finish();
        w.count(head.len() + command.len());
        w.raw(&head);
        w.raw(command);
    }
}

fn get_append(r: &mut Reader<'_>) -> Result<AppendEntriesRequest<TypeConfig>, DecodeError> {
    Ok(AppendEntriesRequest {
        vote: get_vote(r)?,
        prev_log_id: r.option(get_log_id)?,
        leader_commit: r.option(get_log_id)?,
        entries: r.list(|r| get_entry(&mut Reader::new(r.bytes()?)))?,
    })
}

fn put_vote_request(w: &mut Writer, request: &VoteRequest<TypeConfig>) {
    put_vote(w, &request.vote);
    w.option(request.last_log_id.as_ref(), put_log_id);
    w.bool(request.leadership_transfer);
}

fn get_vote_request(r: &mut Reader<'_>) -> Result<VoteRequest<TypeConfig>, DecodeError> {
    Ok(VoteRequest {
        vote: get_vote(r)?,
        last_log_id: r.option(get_log_id)?,
        leadership_transfer: r.bool()?,
    })
}

fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::raft::StoredMembership;
    use crate::raft::codec::tests::{entry, log_id, membership, vote};

    fn identity() -> impl Strategy<Value = Identity> {
        any::<(u128, i32, u128)>().prop_map(|(cluster, node, directory)| Identity {
            cluster_id: Uuid::from_u128(cluster),
            node: NodeId(node),
            directory: Uuid::from_u128(directory),
        })
    }

    fn request() -> impl Strategy<Value = Request> {
        let vote_request = || {
            (vote(), of(log_id()), any::<bool>()).prop_map(|(vote, last_log_id, transfer)| {
                VoteRequest {
                    vote,
                    last_log_id,
                    leadership_transfer: transfer,
                }
            })
        };
        prop_oneof![
            (vote(), of(log_id()), of(log_id()), vec(entry(), 0..4)).prop_map(
                |(vote, prev_log_id, leader_commit, entries)| {
                    Request::Append(AppendEntriesRequest {
                        vote,
                        prev_log_id,
                        leader_commit,
                        entries,
                    })
                }
            ),
            vote_request().prop_map(Request::Vote),
            vote_request().prop_map(Request::PreVote),
            (
                vote(),
                of(log_id()),
                of(log_id()),
                membership(),
                vec(any::<u8>(), 0..50)
            )
                .prop_map(|(vote, last_log_id, at, membership, bytes)| {
                    let last_membership = StoredMembership::new(at, membership);
                    let meta = SnapshotMeta {
                        last_log_id,
                        last_membership,
                    };
                    Request::Snapshot {
                        vote,
                        meta,
                        bytes: SnapshotBytes(bytes.into()),
                    }
                }),
            (vote(), any::<u64>(), of(log_id())).prop_map(|(from, to, last)| {
                Request::TransferLeader(TransferLeaderRequest::new(from, to, last))
            }),
        ]
    }

    fn response() -> impl Strategy<Value = Response> {
        let append = prop_oneof![
            Just(AppendEntriesResponse::Success),
            of(log_id()).prop_map(AppendEntriesResponse::PartialSuccess),
            Just(AppendEntriesResponse::Conflict),
            vote().prop_map(AppendEntriesResponse::HigherVote),
        ];
        let transfer = prop_oneof![
            Just(Ok(())),
            (vote(), vote()).prop_map(|(expected, actual)| {
                Err(TransferLeaderError::VoteChanged { expected, actual })
            }),
            (of(log_id()), of(log_id())).prop_map(|(expected, actual)| {
                Err(TransferLeaderError::LogNotFlushed { expected, actual })
            }),
        ];
        prop_oneof![
            append.prop_map(Response::Append),
            (vote(), any::<bool>(), of(log_id())).prop_map(|(vote, vote_granted, last_log_id)| {
                Response::Vote(VoteResponse {
                    vote,
                    vote_granted,
                    last_log_id,
                })
            }),
            vote().prop_map(Response::Snapshot),
            transfer.prop_map(Response::TransferLeader),
            Just(Response::NotMe),
            Just(Response::Malformed),
            Just(Response::Stopped),
        ]
    }

    proptest! {
        #[test]
        fn requests_come_back(to in identity(), request in request()) {
            let (found, back) = decode_request(&encode_request(&to, &request))?;
            prop_assert_eq!(found, to);
            prop_assert_eq!(format!("{back:?}"), format!("{request:?}"));
        }

        #[test]
        fn responses_come_back(response in response()) {
            prop_assert_eq!(decode_response(&encode_response(&response)), Ok(response));
        }

        #[test]
        fn cut_or_random_bytes_are_refused_without_a_panic(
            to in identity(),
            request in request(),
            cut in any::<prop::sample::Index>(),
            random in vec(any::<u8>(), 0..100),
        ) {
            let bytes = encode_request(&to, &request);
            prop_assert!(decode_request(&bytes[..cut.index(bytes.len())]).is_err());
            let _ = decode_request(&random);
            let _ = decode_response(&random);
        }
    }

    #[test]
    fn a_flipped_bit_in_a_snapshot_is_noticed() {
        let identity = Identity {
            cluster_id: Uuid::nil(),
            node: NodeId(1),
            directory: Uuid::nil(),
        };
        let bytes = SnapshotBytes(Bytes::from_static(b"snapshot"));
        let vote = Vote::new_committed(1, 1);
        let request = Request::Snapshot {
            vote,
            meta: SnapshotMeta::default(),
            bytes,
        };
        let mut frame = encode_request(&identity, &request).to_vec();
        *frame.last_mut().expect("not empty") ^= 1;
        let refused = decode_request(&frame).expect_err("the checksum is wrong");
        assert_eq!(refused, DecodeError::Checksum("a snapshot"));
    }
}
