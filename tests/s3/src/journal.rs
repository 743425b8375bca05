//! What was asked and answered: counts without end, and the last requests one by one.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;

/// So many requests are kept one by one.
pub const LOG_ENTRIES_MAX: usize = 10_000;

/// Counts of requests since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Operation, then status (`closed` where the connection was closed without one), then how many.
    /// `Refused` stands for requests that s3s turned away before it knew their operation.
    pub by_op: BTreeMap<String, BTreeMap<String, u64>>,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of answers' bodies as the double meant to send them.
    pub bytes_out: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Counts from 0 since the start or the last reset.
    pub number: u64,
    /// The S3 operation.
    pub op: String,
    /// The object's key, or "" where the operation is not on one object.
    pub key: String,
    /// Without one, the connection was closed.
    pub status: Option<u16>,
    /// The fault that struck.
    pub fault: Option<&'static str>,
}

/// The owner of both.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: Requests,
    log: VecDeque<Entry>,
    next: u64,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) op: &'a str,
    pub(crate) key: &'a str,
    pub(crate) status: Option<u16>,
    pub(crate) fault: Option<&'static str>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Journal {
    pub(crate) fn record(&self, outcome: &Outcome<'_>) {
        let mut state = self.state.lock();
        let status = outcome
            .status
            .map_or("closed".to_owned(), |status| status.to_string());
        let by_status = state
            .requests
            .by_op
            .entry(outcome.op.to_owned())
            .or_default();
        *by_status.entry(status).or_default() += 1;
        state.requests.bytes_in += outcome.bytes_in;
        state.requests.bytes_out += outcome.bytes_out;
        let number = state.next;
        state.next += 1;
        if state.log.len() == LOG_ENTRIES_MAX {
            state.log.pop_front();
        }
        state.log.push_back(Entry {
            number,
            op: outcome.op.to_owned(),
            key: outcome.key.to_owned(),
            status: outcome.status,
            fault: outcome.fault,
        });
    }

    pub(crate) fn requests(&self) -> Requests {
        self.state.lock().requests.clone()
    }

    pub(crate) fn log(&self) -> Vec<Entry> {
        self.state.lock().log.iter().cloned().collect()
    }

    /// Forgets counts and log.
    pub(crate) fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_bounded() {
        let journal = Journal::default();
        let outcome = Outcome {
            op: "GetObject",
            key: "a",
            status: Some(200),
            fault: None,
            bytes_in: 0,
            bytes_out: 3,
        };
        for _ in 0..LOG_ENTRIES_MAX + 5 {
            journal.record(&outcome);
        }
        let log = journal.log();
        assert_eq!((log.len(), log[0].number), (LOG_ENTRIES_MAX, 5));
        let requests = journal.requests();
        assert_eq!(
            requests.by_op["GetObject"]["200"],
            LOG_ENTRIES_MAX as u64 + 5
        );
        assert_eq!(requests.bytes_out, 3 * (LOG_ENTRIES_MAX as u64 + 5));
    }
}
