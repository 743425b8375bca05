//! The harness of the integration tests: brokers in this process and as child processes, a client that can
//! say anything on the wire, and files that run out of space.
//!
//! It is for tests, so what goes wrong in it panics with words about what was expected.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness stands outside of the broker and uses the machine as it is"
)]

mod child;
mod full_disk;
mod http;
mod in_process;
mod memory;
pub mod records;
pub mod requests;
mod wire;

pub use child::{ChildBroker, Refused, refused_start, tidemill_binary};
pub use full_disk::FullDisk;
pub use http::{get, request};
pub use in_process::{TestBroker, fast_config};
pub use memory::rss_anon_bytes;
pub use wire::Wire;

use std::time::Duration;

/// Nothing that a test waits for takes this long on a machine that works at all.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; panics when there is none within [`LIMIT`]. For conditions
/// that nobody announces.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    const ASK_AGAIN: Duration = Duration::from_millis(5);
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    let answer = tokio::time::timeout(LIMIT, asking).await;
    answer.unwrap_or_else(|_| panic!("{what} did not come about within {LIMIT:?}"))
}
