//! The instances that wait for their next frame. They are a cache: an instance takes memory, and a transform that has nothing
//! to do needs none, so the one that was used longest ago goes when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::instance::Instance;

/// Where a runner leaves its instance between two frames.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Held>);

#[derive(Default)]
struct Held {
    instance: Option<Box<Instance>>,
    /// Its place among all that wait.
    used: u64,
}

/// All instances that wait.
pub struct Instances {
    instances_max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    by_use: BTreeMap<u64, Weak<Slot>>,
    uses: u64,
}

impl Instances {
    pub(crate) fn new(instances_max: usize) -> Arc<Self> {
        Arc::new(Self {
            instances_max: instances_max.max(1),
            waiting: Mutex::default(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.waiting.lock().by_use.len()
    }

    /// Takes an instance for use.
    pub(crate) fn take(&self, slot: &Slot) -> Option<Box<Instance>> {
        let mut held = slot.0.lock();
        let instance = held.instance.take()?;
        self.waiting.lock().by_use.remove(&held.used);
        Some(instance)
    }

    /// Leaves an instance for the next frame; another one may have to go.
    pub(crate) fn put(&self, slot: &Arc<Slot>, instance: Box<Instance>) {
        let evicted = {
            let mut held = slot.0.lock();
            let mut waiting = self.waiting.lock();
            waiting.uses += 1;
            held.used = waiting.uses;
            held.instance = Some(instance);
            let used = held.used;
            waiting.by_use.insert(used, Arc::downgrade(slot));
            match waiting.by_use.len() > self.instances_max {
                true => waiting.by_use.pop_first(),
                false => None,
            }
        };
        if let Some((used, slot)) = evicted
            && let Some(slot) = slot.upgrade()
        {
            slot.clear_if(used);
        }
    }

    /// Drops the instance of a slot.
    pub(crate) fn drop_of(&self, slot: &Slot) {
        drop(self.take(slot));
    }
}

impl Slot {
    /// Drops the instance, unless it was used again meanwhile.
    fn clear_if(&self, used: u64) {
        let mut held = self.0.lock();
        let dropped = match held.used == used {
            true => held.instance.take(),
            false => None,
        };
        drop(held);
        drop(dropped);
    }
}
