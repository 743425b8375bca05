//! The task that fires groups' timers.

use std::sync::Arc;
use std::time::Duration;

use super::Shard;

impl Shard {
    /// Fires the groups' timers, each when it is due; looks at nothing in between.
    pub(super) async fn run_timers(self: Arc<Self>) {
        loop {
            let Some(wait) = self.fire_due() else { return };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake_timer.notified() => {}
            }
        }
    }

    /// Fires what is due and says how long nothing will be; none when the shard is closed.
    pub(in crate::group) fn fire_due(&self) -> Option<Duration> {
        let mut state = self.state.lock();
        if state.is_closed {
            return None;
        }
        let now = self.parts.clock.monotonic();
        if state.next_cleanup <= now {
            state.next_cleanup = now + self.parts.settings.offsets_retention_check_interval;
            self.clean_up(&mut state);
        }
        while let Some((at, id)) = state.timers.first().cloned()
            && at <= now
        {
            state.timers.pop_first();
            state
                .groups
                .get_mut(&id)
                .expect("timers are of groups")
                .timer = None;
            self.event(&mut state, &id, |group, turn| group.classic.on_time(turn));
            // A timer that comes due again at once waits for the next round, so that this one ends.
            if state
                .timers
                .first()
                .is_some_and(|(next, same)| *next <= now && *same == id)
            {
                break;
            }
        }
        let next = state
            .timers
            .first()
            .map_or(state.next_cleanup, |(at, _)| *at);
        let wait = next.min(state.next_cleanup).saturating_sub(now);
        Some(wait.max(Duration::from_millis(1)))
    }
}
