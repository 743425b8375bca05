//! The good client: it produces with `acks=all` and reads back what was acknowledged, and nothing that others
//! do to the broker may make it fail.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidemill_tests::Wire;
use tidemill_tests::records::batch;
use tokio::sync::watch;

use crate::GOOD;

/// Records of a batch.
const RECORDS: usize = 10;
/// A new connection after so many rounds: connecting must not fail either.
const ROUNDS_PER_CONNECTION: usize = 50;
/// It is a client, not a load test.
const PAUSE: Duration = Duration::from_millis(5);
/// Values that fill the broker's cache, which is part of the baseline.
const FILLING_BYTES: usize = 512 << 10;
const FILLINGS: usize = 160;

/// What it was acknowledged, and how long that took.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// (base offset, values) in the order of the log.
    acked: Vec<(i64, Vec<String>)>,
    slowest: Duration,
}

impl Ledger {
    /// Records that were acknowledged.
    pub(crate) fn records(&self) -> usize {
        self.acked.iter().map(|(_, values)| values.len()).sum()
    }

    /// The longest that one produce or fetch took.
    pub(crate) fn slowest(&self) -> Duration {
        self.slowest
    }

    pub(crate) fn forget_times(&mut self) {
        self.slowest = Duration::ZERO;
    }
}

/// Fills the cache of the broker's newest batches.
pub(crate) async fn fill(kafka: SocketAddr, ledger: &mut Ledger) {
    let mut wire = Wire::connect(kafka).await;
    for number in 0..FILLINGS {
        let mut value = format!("filling {number} ");
        value.extend(std::iter::repeat_n('.', FILLING_BYTES));
        let base = wire.must_produce(GOOD, 0, &batch(&[&value])).await;
        ledger.acked.push((base, vec![value]));
    }
}

/// Works until it is told to stop. Panics, with the reason, when anything fails.
pub(crate) async fn work(
    kafka: SocketAddr,
    mut ledger: Ledger,
    mut stop: watch::Receiver<bool>,
) -> Ledger {
    loop {
        let mut wire = Wire::connect(kafka).await;
        for _ in 0..ROUNDS_PER_CONNECTION {
            round(&mut wire, &mut ledger).await;
            if tokio::time::timeout(PAUSE, stop.wait_for(|stop| *stop))
                .await
                .is_ok()
            {
                return ledger;
            }
        }
    }
}

async fn round(wire: &mut Wire, ledger: &mut Ledger) {
    let number = ledger.acked.len();
    let values: Vec<String> = (0..RECORDS).map(|at| format!("{number}/{at}")).collect();
    let borrowed: Vec<&str> = values.iter().map(String::as_str).collect();
    let began = Instant::now();
    let base = wire.must_produce(GOOD, 0, &batch(&borrowed)).await;
    let produced = began.elapsed();
    ledger.acked.push((base, values));
    let began = Instant::now();
    check(wire, &ledger.acked[number..]).await;
    ledger.slowest = ledger.slowest.max(produced).max(began.elapsed());
}

/// Reads all again that was ever acknowledged.
pub(crate) async fn check_all(kafka: SocketAddr, ledger: &Ledger) {
    check(&mut Wire::connect(kafka).await, &ledger.acked).await;
}

async fn check(wire: &mut Wire, acked: &[(i64, Vec<String>)]) {
    let Some((first, _)) = acked.first() else {
        return;
    };
    let found = wire.read_from(GOOD, 0, *first).await;
    let expected = acked.iter().flat_map(|(base, values)| {
        let numbered = values.iter().enumerate();
        numbered.map(move |(at, value)| (base + at as i64, value))
    });
    let mut found_ones = found.iter();
    for (offset, value) in expected {
        let (at, what) = found_ones.next().expect("a record that was acknowledged");
        assert!(
            *at == offset && what == value,
            "offset {offset}: {} is there, {} was acknowledged",
            &what[..what.len().min(40)],
            &value[..value.len().min(40)]
        );
    }
}
