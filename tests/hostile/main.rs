//! The clients of `tests/show/hostile`: hostile frames, stalled connections and a good client, all at once,
//! against a broker that runs already.
//!
//! ```text
//! hostile KAFKA ADMIN PID BODIES FRAMES CONNECTIONS SEED [KIND…]
//! ```
//!
//! With kinds of frames ([`frames::Kind`]) it leaves out all others: to see which one does it.
//! BODIES is a file that the example `bodies` of `tidemill-protocol` has written. Prints lines `ok NAME figure`
//! and `FAIL NAME reason`; ends with 0 when it came to its end.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for tests that prints figures, outside of the broker"
)]

mod attack;
mod batches;
mod dice;
mod frames;
mod good;
mod stalled;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidemill_tests::{Wire, get, rss_anon_bytes};
use tokio::sync::watch;
use uuid::Uuid;

use attack::Tally;
use frames::Frames;
use good::Ledger;

/// The good client's own.
const GOOD: &str = "good";
/// For hostile batches; nobody deletes them.
const BATCHES: &str = "batches";
/// The same, with a bound on timestamps, for which batches are opened.
const BOUNDED: &str = "bounded";
/// What generated requests name, and may delete.
const NAMED: [&str; 2] = ["hostile-0", "hostile-1"];

/// The good client alone, before the baseline is taken.
const WARM_UP: Duration = Duration::from_secs(5);
/// Between two looks at the broker's memory.
const LOOK: Duration = Duration::from_millis(20);
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// The broker closes a stalled connection after 30 s, and a connection that has asked nothing later.
const STALL_MAX: Duration = Duration::from_secs(30);
const STALL_GRACE: Duration = Duration::from_secs(10);

struct Options {
    kafka: SocketAddr,
    admin: SocketAddr,
    pid: u32,
    bodies: String,
    frames: u64,
    connections: usize,
    seed: u64,
    only: Vec<String>,
}

fn options() -> Options {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [
        kafka,
        admin,
        pid,
        bodies,
        frames,
        connections,
        seed,
        only @ ..,
    ] = &given[..]
    else {
        panic!("usage: hostile KAFKA ADMIN PID BODIES FRAMES CONNECTIONS SEED [KIND…]");
    };
    Options {
        kafka: kafka.parse().expect("an address"),
        admin: admin.parse().expect("an address"),
        pid: pid.parse().expect("a process id"),
        bodies: bodies.clone(),
        frames: frames.parse().expect("a count"),
        connections: connections.parse().expect("a count"),
        seed: seed.parse().expect("a seed"),
        only: only.to_vec(),
    }
}

/// Prints a line and remembers nothing: the show counts.
fn check(what: &str, good: bool, figure: &str) {
    println!("{} {what} {figure}", if good { "ok" } else { "FAIL" });
}

#[tokio::main]
async fn main() {
    let options = options();
    let (kafka, pid) = (options.kafka, options.pid);
    let frames = Arc::new(prepare(&options).await);
    let mut ledger = Ledger::default();
    good::fill(kafka, &mut ledger).await;
    let ledger = with_good_client(kafka, ledger, tokio::time::sleep(WARM_UP))
        .await
        .1;
    let connections = open_connections(options.admin).await;
    let baseline = rss_anon_bytes(pid);

    let peak = Arc::new(AtomicU64::new(baseline));
    let sampler = tokio::spawn(sample(pid, peak.clone()));
    let mut ledger = ledger;
    ledger.forget_times();
    let acked_before = ledger.records();
    let attacked = attack_all(&options, frames.clone());
    let (_, ledger) = with_good_client(kafka, ledger, attacked).await;
    sampler.abort();

    println!(
        "      baseline {} MiB, peak {} MiB",
        baseline >> 20,
        peak.load(Ordering::Relaxed) >> 20
    );
    let growth = peak.load(Ordering::Relaxed).saturating_sub(baseline);
    let figure = format!(
        "grew by {:.1} MiB at most",
        growth as f64 / f64::from(1 << 20)
    );
    check("memory", growth < GROWTH_BYTES_MAX, &figure);
    let figure = format!(
        "{} records acknowledged meanwhile and read at once, the slowest call took {} ms",
        ledger.records() - acked_before,
        ledger.slowest().as_millis()
    );
    check("good-client", true, &figure);
    good::check_all(kafka, &ledger).await;
    let figure = format!("all {} acknowledged records are there", ledger.records());
    check("acknowledged", true, &figure);
    connections_return(options.admin, connections).await;
}

/// Topics, and what to send.
async fn prepare(options: &Options) -> Frames {
    let mut wire = Wire::connect(options.kafka).await;
    wire.must_create(GOOD, 1, &[]).await;
    wire.must_create(BATCHES, 2, &[]).await;
    let bounded = ("message.timestamp.before.max.ms", "3600000");
    wire.must_create(BOUNDED, 2, &[bounded]).await;
    for name in NAMED {
        wire.must_create(name, 2, &[]).await;
    }
    let described = wire.metadata(&NAMED, false).await;
    let ids: Vec<Uuid> = described
        .topics
        .iter()
        .map(|topic| topic.topic_id)
        .collect();
    let bodies = std::fs::read(&options.bodies).expect("the file of bodies");
    Frames::new(
        options.seed,
        &wire.served().await,
        &bodies,
        &ids,
        options.only.clone(),
    )
}

/// Runs the good client beside something else until that has ended.
async fn with_good_client<T>(
    kafka: SocketAddr,
    ledger: Ledger,
    meanwhile: impl Future<Output = T>,
) -> (T, Ledger) {
    let (stop, stopped) = watch::channel(false);
    let client = tokio::spawn(good::work(kafka, ledger, stopped));
    let done = meanwhile.await;
    stop.send_replace(true);
    match client.await {
        Ok(ledger) => (done, ledger),
        Err(error) => {
            check("good-client", false, &error.to_string());
            std::process::exit(1);
        }
    }
}

/// Frames and stalled connections at once.
async fn attack_all(options: &Options, frames: Arc<Frames>) {
    let began = Instant::now();
    let stalled = stalled::open(options.kafka, options.connections, options.seed).await;
    let attack = attack::attack(options.kafka, frames.clone(), options.frames);
    let timed = async {
        let tally = attack.await;
        (tally, began.elapsed())
    };
    let ((tally, took), closed) = tokio::join!(timed, stalled::closed(stalled));
    report(&tally, took, frames.served(), options);
    let name = "stalled-connections";
    match closed {
        Ok((first, last)) => {
            let good = first >= STALL_MAX && last < STALL_MAX + STALL_GRACE;
            let (first, last) = (first.as_secs_f64(), last.as_secs_f64());
            let count = options.connections;
            let figure = format!("{count} closed after {first:.1} s to {last:.1} s");
            check(name, good || count == 0, &figure);
        }
        Err(reason) => check(name, false, &reason),
    }
}

fn report(tally: &Tally, took: Duration, served: &[(i16, i16)], options: &Options) {
    let wanted = options.frames;
    for (kind, sum) in &tally.by_kind {
        let name = format!("{kind:?}");
        let (answered, closed, left) = (sum.answered, sum.closed, sum.left);
        println!("      {name:12} {answered:6} answered {closed:6} closed {left:6} left waiting");
    }
    let covered = served.iter().filter(|api| tally.apis.contains(api)).count();
    let mut keys: Vec<i16> = served.iter().map(|(key, _)| *key).collect();
    keys.dedup();
    let figure = format!(
        "{} frames in {:.1} s over {covered} of {} versions of {} keys",
        tally.frames(),
        took.as_secs_f64(),
        served.len(),
        keys.len()
    );
    if !options.only.is_empty() {
        println!("      {figure}");
        return;
    }
    check("frames", tally.frames() == wanted, &figure);
    // A short run has not enough frames for all.
    let enough = wanted < 20 * served.len() as u64 || covered == served.len();
    check(
        "versions",
        enough,
        &format!("{covered} of {}", served.len()),
    );
}

async fn sample(pid: u32, peak: Arc<AtomicU64>) {
    loop {
        peak.fetch_max(rss_anon_bytes(pid), Ordering::Relaxed);
        tokio::time::sleep(LOOK).await;
    }
}

async fn open_connections(admin: SocketAddr) -> u64 {
    let (_, text) = get(admin, "/metrics").await;
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("tidemill_connections")?;
        let labels_and_value = rest
            .strip_prefix(' ')
            .or_else(|| rest.split_once("} ").map(|two| two.1))?;
        if rest.starts_with('_') {
            None
        } else {
            labels_and_value.parse::<u64>().ok()
        }
    });
    values.sum()
}

/// Connections that the attack has left end with their requests, or when they stall.
async fn connections_return(admin: SocketAddr, baseline: u64) {
    let deadline = Instant::now() + STALL_MAX + STALL_GRACE;
    let began = Instant::now();
    loop {
        let now = open_connections(admin).await;
        let figure = format!(
            "{now} after {:.1} s, {baseline} before",
            began.elapsed().as_secs_f64()
        );
        if now <= baseline || Instant::now() > deadline {
            return check("open-connections", now <= baseline, &figure);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
