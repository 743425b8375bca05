//! Changing settings, and with them whether appends go through the write-ahead log.

use std::io::IoSlice;
use std::sync::Arc;

use tidemill_records::Offset;
use tidemill_storage::wal::WalError;

use crate::config::LogConfig;
use crate::drain::Command;
use crate::error::LogError;
use crate::partition_log::PartitionLog;
use crate::state::State;
use crate::wal_entry::{AppendHead, Change, encode_append_head};

impl PartitionLog {
    /// Puts settings in force. A segment that is longer or older than they allow is rolled by the next append.
    /// Where `flush.messages` goes down to 1, appends are durable before they are acknowledged from a moment on
    /// that comes soon after.
    pub fn set_config(&self, config: Arc<LogConfig>) -> Result<(), LogError> {
        let starts_logging = self.with_state(|state| {
            let unlogged = config.is_unlogged();
            if unlogged && !state.unlogged && !state.deleted {
                let change = Change::Unlogged {
                    unlogged,
                    segment_base: state.active().base,
                    position: state.active().size,
                };
                self.log_change(state, change)?;
                state.unlogged = true;
            }
            state.config = config;
            Ok::<_, WalError>(state.unlogged && !unlogged)
        })?;
        if starts_logging {
            self.shared
                .drain
                .push_command(Command::StartLogging(self.arc()));
        }
        self.note_changed();
        Ok(())
    }

    /// Lets appends go through the write-ahead log from here on. The drain calls it when all that is drained is synced: what
    /// is not drained is logged after the fact, so that nothing lies between what is synced and what is logged.
    pub(crate) fn start_logging(&self) -> Result<(), WalError> {
        let after = self.with_state(|state| {
            if !state.unlogged || state.config.is_unlogged() || state.deleted {
                return Ok(None);
            }
            let first = state.first_undrained().min(state.segments.len() - 1);
            let segment = &state.segments[first];
            let change = Change::Unlogged {
                unlogged: false,
                segment_base: segment.base,
                position: segment.drained,
            };
            self.log_change(state, change)?;
            for at in first..state.segments.len() {
                self.log_undrained(state, at)?;
            }
            state.unlogged = false;
            // What was not drained is durable with its entries.
            Ok::<_, WalError>(Some(self.note_appended(state, state.last_lsn, 0)))
        })?;
        if let Some(after) = after {
            self.after_append(after);
        }
        Ok(())
    }

    fn log_undrained(&self, state: &mut State, at: usize) -> Result<(), WalError> {
        let (base, drained) = (state.segments[at].base, state.segments[at].drained);
        let append_time_ms = state.segments[at].last_append_ms;
        let everything = Offset(i64::MAX);
        for chunk in state.tail.undrained(base, drained, everything, usize::MAX) {
            let head = AppendHead {
                leader_epoch: state.epochs.latest(),
                segment_base: base,
                position: chunk.position,
                append_time_ms,
            };
            let head = encode_append_head(self.key(), &head);
            state.last_lsn = self.shared.wal.append(&[
                IoSlice::new(&head),
                IoSlice::new(&chunk.head),
                IoSlice::new(&chunk.body),
            ])?;
        }
        Ok(())
    }
}
