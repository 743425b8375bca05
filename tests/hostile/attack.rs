//! Sends the frames, over connections that are used as long as the broker keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidemill_tests::Wire;
use tokio::time::timeout;

use crate::dice::Dice;
use crate::frames::{Frames, Kind, Sent};

/// Senders at once.
const SENDERS: usize = 8;
/// A frame that is neither answered nor refused by then waits for more bytes or for an event; its connection
/// is left.
const PATIENCE: Duration = Duration::from_millis(40);

/// What became of the frames of one kind.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcomes {
    pub(crate) answered: u64,
    pub(crate) closed: u64,
    pub(crate) left: u64,
}

/// What was sent.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) by_kind: BTreeMap<Kind, Outcomes>,
    pub(crate) apis: BTreeSet<(i16, i16)>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.apis.extend(other.apis);
        for (kind, outcomes) in other.by_kind {
            let sum = self.by_kind.entry(kind).or_default();
            sum.answered += outcomes.answered;
            sum.closed += outcomes.closed;
            sum.left += outcomes.left;
        }
    }

    /// All frames.
    pub(crate) fn frames(&self) -> u64 {
        let all = self.by_kind.values();
        all.map(|one| one.answered + one.closed + one.left).sum()
    }
}

/// Sends the frames 0 to `count`.
pub(crate) async fn attack(kafka: SocketAddr, frames: Arc<Frames>, count: u64) -> Tally {
    let next = Arc::new(AtomicU64::new(0));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| tokio::spawn(send_some(kafka, frames.clone(), next.clone(), count)))
        .collect();
    let mut tally = Tally::default();
    for sender in senders {
        tally.add(sender.await.expect("a sender that does not fail"));
    }
    tally
}

async fn send_some(
    kafka: SocketAddr,
    frames: Arc<Frames>,
    next: Arc<AtomicU64>,
    count: u64,
) -> Tally {
    let mut tally = Tally::default();
    let mut wire = None;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return tally;
        }
        let sent = frames.frame(number);
        if !frames.is_wanted(sent.kind) {
            continue;
        }
        let outcomes = tally.by_kind.entry(sent.kind).or_default();
        let mut used = match wire.take() {
            Some(wire) => wire,
            None => Wire::connect(kafka).await,
        };
        match exchange(&mut used, &sent, &mut Dice::new(number)).await {
            Some(true) => {
                outcomes.answered += 1;
                wire = Some(used);
            }
            Some(false) => outcomes.closed += 1,
            None => outcomes.left += 1,
        }
        tally.apis.extend(sent.api);
    }
}

/// Whether it was answered; nothing when nothing came in time.
async fn exchange(wire: &mut Wire, sent: &Sent, dice: &mut Dice) -> Option<bool> {
    // The broker may refuse it before it has taken it all.
    if wire.try_write(&sent.bytes).await.is_err() {
        return Some(false);
    }
    if sent.kind == Kind::Torn && dice.one_in(2) {
        let _ = wire.try_finish_writing().await;
    }
    match timeout(PATIENCE, wire.read_frame()).await {
        Ok(answer) => Some(answer.is_some()),
        Err(_) => None,
    }
}
