//! What makes a process repeat itself: seeded randomness, simulated clocks, one thread.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tracing_subscriber::EnvFilter;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Seeds all randomness of the process, the standard library's hash maps included, counts panics, and
/// shows what the environment variable RUST_LOG asks for. Call it first, once.
pub fn begin(seed: u64) {
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed));
    let off = tracing_subscriber::filter::LevelFilter::OFF.into();
    let filter = EnvFilter::builder()
        .with_default_directive(off)
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        print(panic);
    }));
}

/// An error when something has panicked, in a task that nobody joins too.
pub fn check_panics() -> Result<()> {
    let panics = PANICS.load(Ordering::Relaxed);
    ensure!(panics == 0, "{panics} panics");
    Ok(())
}

/// Runs a scenario on this thread under simulated clocks.
pub fn run_simulated<T>(scenario: impl FnOnce() -> Result<T>) -> Result<T> {
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let result = scenario();
    check_panics()?;
    result
}

/// Runs a future, and the tasks that stand for threads, on this thread in a time of its own.
pub fn run_local<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
