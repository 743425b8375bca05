//! Progress on stderr, only where a person looks at it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `total` bytes, or a spinner where the total is not known. Draws nothing unless stderr is a
/// terminal.
pub(super) fn bytes(total: Option<u64>) -> ProgressBar {
    let style = match total {
        Some(_) => "{bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {msg}",
        None => "{spinner} {bytes}  {bytes_per_sec}  {msg}",
    };
    start(total, style)
}

/// A bar over `total` records.
pub(super) fn records(total: Option<u64>) -> ProgressBar {
    let style = match total {
        Some(_) => "{bar:30} {human_pos} of {human_len} records  {per_sec}  {msg}",
        None => "{spinner} {human_pos} records  {per_sec}  {msg}",
    };
    start(total, style)
}

fn start(total: Option<u64>, style: &str) -> ProgressBar {
    const DRAWS_PER_SECOND: u8 = 10;
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(total, target);
    bar.set_style(
        ProgressStyle::with_template(style).expect("the templates above are well-formed"),
    );
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
