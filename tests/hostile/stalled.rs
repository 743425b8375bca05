//! Connections that announce a large frame and never send it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidemill_tests::Wire;

use crate::dice::Dice;

/// The largest frame that the broker takes.
const FRAME_BYTES_MAX: i32 = 100 << 20;
/// Later than this the broker has forgotten its deadline of 30 s.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
/// Key and version of a produce request, which alone may be so large.
const PRODUCE: [u8; 4] = [0, 0, 0, 9];

/// Opens so many; they stall from then on.
pub(crate) async fn open(kafka: SocketAddr, count: usize, seed: u64) -> Vec<Stalled> {
    let mut all = Vec::with_capacity(count);
    for number in 0..count {
        let mut wire = Wire::connect(kafka).await;
        let bytes = opening(number, &mut Dice::of(seed, number as u64));
        // Before the broker's own clock starts, at the last byte that it gets.
        let since = Instant::now();
        wire.write(&bytes).await;
        all.push(Stalled { wire, since });
    }
    all
}

/// One of them.
pub(crate) struct Stalled {
    wire: Wire,
    since: Instant,
}

/// Four of five announce all that is allowed and send nothing more, or very little; the others announce less and
/// send some of it.
fn opening(number: usize, dice: &mut Dice) -> Vec<u8> {
    let (announced, sent) = match number % 10 {
        0..5 => (FRAME_BYTES_MAX, 0),
        5..8 => (FRAME_BYTES_MAX, 4 + dice.below(600)),
        8 => (64 << 10, 4 + dice.below(32 << 10)),
        // A few that send a good part.
        _ if number % 100 == 9 => (10 << 20, 256 << 10),
        _ => (1 << 20, 4 + dice.below(4 << 10)),
    };
    let mut bytes = announced.to_be_bytes().to_vec();
    bytes.extend(PRODUCE);
    bytes.resize(4 + sent, 0x5a);
    bytes
}

/// Waits until the broker has closed all of them; the shortest and the longest time that it took.
pub(crate) async fn closed(all: Vec<Stalled>) -> Result<(Duration, Duration), String> {
    let mut times = Vec::with_capacity(all.len());
    let count = all.len();
    let mut waiting = tokio::task::JoinSet::new();
    for mut one in all {
        waiting.spawn(async move {
            let closed = tokio::time::timeout(CLOSED_WITHIN, one.wire.ended()).await;
            closed.is_ok().then(|| one.since.elapsed())
        });
    }
    while let Some(ended) = waiting.join_next().await {
        times.extend(ended.map_err(|error| error.to_string())?);
    }
    if times.len() < count {
        let open = count - times.len();
        return Err(format!("{open} are still open after {CLOSED_WITHIN:?}"));
    }
    let longest = times.iter().max().copied().unwrap_or_default();
    Ok((times.into_iter().min().unwrap_or_default(), longest))
}
