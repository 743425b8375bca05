//! Those who wait until a position is durable.

use std::collections::BTreeMap;
use std::task::Waker;

use parking_lot::Mutex;

/// Wakers by the position that they wait for.
#[derive(Default)]
pub(super) struct Waiters {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    by_position: BTreeMap<Place, Waker>,
    next_id: u64,
}

/// A place in the list: the position, and what tells those with the same position apart.
pub(super) type Place = (u64, u64);

impl Waiters {
    /// Puts a waker into the list, or a new one into its place, unless `outcome` says that the wait is
    /// over. It is asked under the lock that [`Waiters::wake`] takes: no change goes unnoticed when
    /// whoever makes it wakes afterwards.
    pub(super) fn wait<T>(
        &self,
        position: u64,
        place: &mut Option<Place>,
        waker: &Waker,
        outcome: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let mut list = self.list.lock();
        if let Some(outcome) = outcome() {
            return Some(outcome);
        }
        let place = *place.get_or_insert_with(|| {
            list.next_id += 1;
            (position, list.next_id)
        });
        list.by_position.insert(place, waker.clone());
        None
    }

    pub(super) fn leave(&self, place: Place) {
        self.list.lock().by_position.remove(&place);
    }

    /// Wakes those who wait for a position up to `position`, in the order of their positions.
    pub(super) fn wake(&self, position: u64) {
        let mut list = self.list.lock();
        let later = match position.checked_add(1) {
            Some(next) => list.by_position.split_off(&(next, 0)),
            None => BTreeMap::new(),
        };
        let due = std::mem::replace(&mut list.by_position, later);
        drop(list);
        due.into_values().for_each(Waker::wake);
    }

    #[cfg(all(test, not(feature = "sim")))]
    pub(super) fn len(&self) -> usize {
        self.list.lock().by_position.len()
    }
}
