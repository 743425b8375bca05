//! A value that is written again and again, by one writer.

use anyhow::{Result, ensure};

/// The last write that was acknowledged must be there, or one that was tried since.
#[derive(Debug, Default)]
pub(crate) struct Register {
    /// All that was tried, in order.
    tried: Vec<i64>,
    /// Which of them was acknowledged last.
    acked: Option<usize>,
    /// How many were acknowledged.
    pub(crate) acks: u64,
}

/// What had been acknowledged before a read began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(Option<usize>);

impl Register {
    pub(crate) fn try_out(&mut self, value: i64) {
        self.tried.push(value);
    }

    pub(crate) fn ack(&mut self, value: i64) {
        let at = self.tried.iter().rposition(|tried| *tried == value);
        self.acked = self.acked.max(at);
        self.acks += 1;
    }

    /// To be taken before the value is read: it may change while it is.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.acked)
    }

    /// Checks what a read has found.
    pub(crate) fn check(&self, mark: Mark, found: Option<i64>) -> Result<()> {
        let possible = &self.tried[mark.0.unwrap_or(0)..];
        let is_possible = match found {
            Some(found) => possible.contains(&found),
            None => mark.0.is_none(),
        };
        let acked = mark.0.map(|at| self.tried[at]);
        ensure!(
            is_possible,
            "{found:?} is there; {acked:?} was acknowledged, and then tried {possible:?}"
        );
        Ok(())
    }
}
