//! The thread that makes windows durable: one write and one sync for each.

use std::io::IoSlice;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};

use super::buffer::Shared;
use super::files::{ReadyFile, failed};
use super::window::Window;
use super::{WalFailure, WalStep};

/// `first` is the file that the log begins with, when there was space for one.
pub(super) async fn run(shared: Arc<Shared>, first: Option<ReadyFile>) {
    let mut ending = Ending {
        shared: &shared,
        in_order: false,
    };
    match write_windows(&shared, first).await {
        Ok(()) => ending.in_order = true,
        Err(failure) => shared.fail(failure),
    }
}

/// However the writer ends, nobody may wait for it any longer: also when it panics, or when a
/// simulation drops it.
struct Ending<'a> {
    shared: &'a Shared,
    in_order: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if self.in_order {
            self.shared.writer_ended();
        } else if !self.shared.has_failed() {
            self.shared
                .fail(failed(WalStep::Write, &self.shared.config.dir)(
                    std::io::ErrorKind::Interrupted.into(),
                ));
        }
    }
}

async fn write_windows(shared: &Shared, first: Option<ReadyFile>) -> Result<(), WalFailure> {
    // Its readings become figures and nothing else.
    let clock = SystemClock::new();
    let mut file = first;
    let half = shared.config.file_bytes / 2;
    while let Some(mut window) = shared.next_window().await {
        if file.as_ref().is_none_or(|file| file.base != window.base) {
            file = shared.take_file(window.base).await;
        }
        let Some(file) = &file else { return Ok(()) };
        write(shared, file, &mut window, &clock)?;
        if window.offset < half && window.end() - window.base >= half {
            shared.tell_file_thread(|desk| desk.half_full = true);
        }
        shared.window_is_durable(window);
    }
    if let Some(mut window) = shared.closing_mark() {
        if file.as_ref().is_none_or(|file| file.base != window.base) {
            file = shared.take_file(window.base).await;
        }
        if let Some(file) = &file {
            write(shared, file, &mut window, &clock)?;
        }
    }
    Ok(())
}

fn write(
    shared: &Shared,
    file: &ReadyFile,
    window: &mut Window,
    clock: &dyn Clock,
) -> Result<(), WalFailure> {
    let bytes = window.blocks.whole_blocks();
    let written = file
        .file
        .write_all_at(&[IoSlice::new(bytes)], window.offset);
    written.map_err(failed(WalStep::Write, &file.path))?;
    shared.counters.wrote_window(bytes.len());
    let before = clock.monotonic();
    file.file
        .sync_data()
        .map_err(failed(WalStep::Sync, &file.path))?;
    shared.counters.synced(clock.monotonic() - before);
    Ok(())
}
