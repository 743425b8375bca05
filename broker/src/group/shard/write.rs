//! The way into the log: one append at a time, as many writes at once as have gathered meanwhile.

use std::sync::Arc;

use tidemill_protocol::ErrorCode;
use tokio::sync::oneshot;

use super::{Commit, CoordinatorRecord, Place, Shard, State};
use crate::group::classic::{AfterStore, answer};

/// Writes are appended together up to this. A larger one goes alone, so that a log that finds it too large
/// refuses nothing else.
const APPEND_BYTES_MAX: usize = 512 << 10;

/// Records that are appended together or not at all, and what follows.
pub(super) struct Write {
    records: Vec<CoordinatorRecord>,
    pub(super) then: Then,
    size_bytes: usize,
}

/// What follows when the outcome of an append is known.
pub(super) enum Then {
    /// A group's state machine goes on.
    Store { group: Arc<str>, after: AfterStore },
    /// Offsets are shown and the commit is answered.
    Commit {
        group: Arc<str>,
        commits: Vec<Commit>,
        reply: Reply,
    },
    /// Offsets, and maybe the group, are gone.
    Delete {
        group: Arc<str>,
        places: Vec<Place>,
        and_group: bool,
        reply: Option<Reply>,
    },
    /// Somebody waits for everything before.
    Barrier { reply: Reply },
}

type Reply = oneshot::Sender<Result<(), ErrorCode>>;

impl Write {
    pub(super) fn new(records: Vec<CoordinatorRecord>, then: Then) -> Self {
        let size_bytes = records.iter().map(CoordinatorRecord::size_bytes).sum();
        Self {
            records,
            then,
            size_bytes,
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

impl Then {
    /// Answers whoever waits, when there is no group any more that could do it.
    pub(super) fn refuse(self, code: ErrorCode) {
        match self {
            Self::Commit { reply, .. }
            | Self::Barrier { reply }
            | Self::Delete {
                reply: Some(reply), ..
            } => answer(reply, Err(code)),
            // The group's members have been answered when the shard was closed.
            Self::Store { .. } | Self::Delete { reply: None, .. } => {}
        }
    }
}

/// Appends what the queue holds until the shard is closed.
pub(super) async fn run(shard: Arc<Shard>) {
    loop {
        let Some(batch) = shard.next_batch() else {
            return;
        };
        let (records, followers) = batch;
        if followers.is_empty() {
            shard.wake_writer.notified().await;
            continue;
        }
        let outcome = if records.is_empty() {
            Ok(())
        } else {
            shard.parts.log.append(records).await
        };
        shard.finish(followers, outcome);
    }
}

type Batch = (Vec<CoordinatorRecord>, Vec<Then>);

impl Shard {
    /// The next writes to append together; nothing when the queue is empty, none when it will stay so.
    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        if state.is_closed {
            return None;
        }
        let (mut records, mut followers, mut size) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = state.queue.front()
            && (followers.is_empty() || size + next.size_bytes <= APPEND_BYTES_MAX)
        {
            let write = state.queue.pop_front().expect("looked at above");
            state.queued_bytes -= write.size_bytes;
            size += write.size_bytes;
            records.extend(write.records);
            followers.push(write.then);
        }
        state.is_writing = !followers.is_empty();
        Some((records, followers))
    }

    /// Continues what waited for an append, in the log's order.
    fn finish(&self, followers: Vec<Then>, outcome: Result<(), ErrorCode>) {
        let mut state = self.state.lock();
        for then in followers {
            self.finish_one(&mut state, then, outcome);
        }
        state.is_writing = false;
        self.idle.notify_waiters();
    }

    fn finish_one(&self, state: &mut State, then: Then, outcome: Result<(), ErrorCode>) {
        match then {
            Then::Store { group: id, after } if state.groups.contains_key(&id) => {
                self.event(state, &id, |group, turn| {
                    group.in_flight -= 1;
                    group.stored |= outcome.is_ok();
                    group.classic.stored(turn, after, outcome);
                });
            }
            // The shard was closed, which answered the members.
            Then::Store { .. } => {}
            Then::Commit {
                group: id,
                commits,
                reply,
            } => {
                if let Some(group) = state.groups.get_mut(&id) {
                    group.in_flight -= 1;
                    for Commit {
                        topic,
                        partition,
                        committed,
                    } in commits
                    {
                        group
                            .offsets
                            .finish(&(topic, partition), outcome.ok().map(|()| committed));
                    }
                    self.settle(state, &id);
                }
                answer(reply, outcome.map_err(answer_to_failed_commit));
            }
            Then::Delete {
                group: id,
                places,
                and_group,
                reply,
            } => {
                if let Some(group) = state.groups.get_mut(&id) {
                    group.in_flight -= 1;
                    if outcome.is_ok() {
                        for (topic, partition) in &places {
                            group.offsets.remove(topic, *partition);
                        }
                        group.stored &= !and_group;
                    }
                    self.settle(state, &id);
                }
                if let Some(reply) = reply {
                    answer(reply, outcome.map_err(answer_to_failed_commit));
                }
            }
            Then::Barrier { reply } => answer(reply, outcome),
        }
    }
}

/// What a client is told when the log refused its offsets.
fn answer_to_failed_commit(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidFetchSize => ErrorCode::InvalidCommitOffsetSize,
        other => other,
    }
}
