//! One simulated file: what a reader sees, and what the platter holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rng::Rng;

pub(super) const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;
const SECTOR: usize = 512;

type Page = [u8; PAGE];

/// A version of a file. A page that is absent is all zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

/// What a power loss leaves of things that were not synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Survival {
    /// The chance in percent that an unsynced page survives.
    pub(super) page_percent: u64,
    /// The chance in percent that a page which survives does so only in some of its sectors.
    pub(super) torn_percent: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    current: Version,
    durable: Version,
    /// Pages whose durable version is behind.
    dirty: BTreeSet<u64>,
    /// Whether the durable length may be behind.
    len_dirty: bool,
    /// Pages that occupy space.
    allocated: BTreeSet<u64>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.current.len
    }

    /// What a reader sees, as it is now.
    pub(super) fn version(&self) -> Version {
        self.current.clone()
    }

    pub(super) fn allocated_pages(&self) -> u64 {
        self.allocated.len() as u64
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let available = self.current.len.saturating_sub(offset);
        let wanted = buffer
            .len()
            .min(usize::try_from(available).unwrap_or(usize::MAX));
        for (page, within, range) in spans(offset, wanted) {
            match self.current.pages.get(&page) {
                Some(bytes) => {
                    let count = range.len();
                    buffer[range].copy_from_slice(&bytes[within..within + count]);
                }
                None => buffer[range].fill(0),
            }
        }
        wanted
    }

    /// How many pages a write or reservation of this range would newly occupy.
    pub(super) fn pages_needed(&self, offset: u64, len: u64) -> u64 {
        page_range(offset, len)
            .filter(|page| !self.allocated.contains(page))
            .count() as u64
    }

    pub(super) fn allocate(&mut self, offset: u64, len: u64) {
        self.allocated.extend(page_range(offset, len));
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) {
        for (page, within, range) in spans(offset, bytes.len()) {
            let source = &bytes[range];
            if source.len() == PAGE && source.iter().all(|byte| *byte == 0) {
                self.current.pages.remove(&page);
            } else {
                let target = self
                    .current
                    .pages
                    .entry(page)
                    .or_insert_with(|| Arc::new([0; PAGE]));
                Arc::make_mut(target)[within..within + source.len()].copy_from_slice(source);
            }
            self.dirty.insert(page);
            self.allocated.insert(page);
        }
        let end = offset + bytes.len() as u64;
        if end > self.current.len && !bytes.is_empty() {
            self.current.len = end;
            self.len_dirty = true;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.current.len {
            let kept = len.div_ceil(PAGE_BYTES);
            let cut: Vec<u64> = self
                .current
                .pages
                .range(kept..)
                .map(|(page, _)| *page)
                .collect();
            self.dirty.extend(cut);
            self.allocated.split_off(&kept);
            self.current.clip(len);
            if !len.is_multiple_of(PAGE_BYTES) {
                self.dirty.insert(len / PAGE_BYTES);
            }
        }
        self.len_dirty |= len != self.current.len;
        self.current.len = len;
    }

    pub(super) fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            self.durable.copy_page(&self.current, page);
        }
        self.durable.clip(self.current.len);
        self.durable.len = self.current.len;
        self.len_dirty = false;
    }

    /// A sync that fails as Linux does it: the pages count as clean from now on, whether they
    /// reached the platter or not.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        for page in std::mem::take(&mut self.dirty) {
            if rng.percent(50) {
                self.durable.copy_page(&self.current, page);
            }
        }
        if self.len_dirty && rng.percent(50) {
            self.durable.len = self.current.len;
        }
        self.len_dirty = false;
    }

    /// The kernel writes some dirty pages back whenever it likes.
    pub(super) fn write_back_some(&mut self, rng: &mut Rng) {
        let Some(last) = self.dirty.last() else {
            return;
        };
        let from = rng.below(last + 1);
        let chosen: Vec<u64> = self.dirty.range(from..).take(4).copied().collect();
        for page in chosen {
            self.durable.copy_page(&self.current, page);
            self.dirty.remove(&page);
        }
    }

    /// What is on the platter after a power loss.
    pub(super) fn after_power_loss(&self, survival: Survival, rng: &mut Rng) -> Content {
        let mut version = self.durable.clone();
        for &page in &self.dirty {
            if !rng.percent(survival.page_percent) {
                continue;
            }
            if rng.percent(survival.torn_percent) {
                version.tear_page(&self.current, page, rng);
            } else {
                version.copy_page(&self.current, page);
            }
        }
        if self.len_dirty && rng.percent(survival.page_percent) {
            version.len = self.current.len;
        }
        let len = version.len;
        version.clip(len);
        Content {
            current: version.clone(),
            durable: version,
            dirty: BTreeSet::new(),
            len_dirty: false,
            allocated: self.allocated.clone(),
        }
    }

    /// Changes bytes behind everybody's back, on the platter too.
    pub(super) fn damage(&mut self, offset: u64, change: &mut dyn FnMut(u8) -> u8) {
        let (page, within) = (offset / PAGE_BYTES, (offset % PAGE_BYTES) as usize);
        for version in [&mut self.current, &mut self.durable] {
            let bytes = version
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; PAGE]));
            let byte = &mut Arc::make_mut(bytes)[within];
            *byte = change(*byte);
        }
    }
}

impl Version {
    /// Whether a reader finds the same length and bytes.
    pub(super) fn reads_like(&self, other: &Version) -> bool {
        static ZEROS: Page = [0; PAGE];
        let same = |page: &u64| {
            let of = |version: &Version| version.pages.get(page).cloned();
            match (of(self), of(other)) {
                (Some(one), Some(two)) => Arc::ptr_eq(&one, &two) || one == two,
                (Some(one), None) | (None, Some(one)) => *one == ZEROS,
                (None, None) => true,
            }
        };
        self.len == other.len && self.pages.keys().chain(other.pages.keys()).all(same)
    }

    fn copy_page(&mut self, from: &Version, page: u64) {
        match from.pages.get(&page) {
            Some(bytes) => self.pages.insert(page, Arc::clone(bytes)),
            None => self.pages.remove(&page),
        };
    }

    fn tear_page(&mut self, from: &Version, page: u64, rng: &mut Rng) {
        let zeros = [0; PAGE];
        let new = from.pages.get(&page).map_or(&zeros, |bytes| bytes.as_ref());
        let mut torn = self.pages.get(&page).map_or(zeros, |bytes| **bytes);
        for sector in (0..PAGE).step_by(SECTOR) {
            if rng.percent(50) {
                torn[sector..sector + SECTOR].copy_from_slice(&new[sector..sector + SECTOR]);
            }
        }
        self.pages.insert(page, Arc::new(torn));
    }

    /// Zeroes everything from `len` on.
    fn clip(&mut self, len: u64) {
        self.pages.split_off(&len.div_ceil(PAGE_BYTES));
        let within = (len % PAGE_BYTES) as usize;
        if within > 0
            && let Some(bytes) = self.pages.get_mut(&(len / PAGE_BYTES))
        {
            Arc::make_mut(bytes)[within..].fill(0);
        }
    }
}

fn page_range(offset: u64, len: u64) -> std::ops::Range<u64> {
    if len == 0 {
        return 0..0;
    }
    offset / PAGE_BYTES..(offset + len).div_ceil(PAGE_BYTES)
}

/// Splits a range of a file at page bounds: (page, offset in the page, range in the buffer).
fn spans(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES) as usize;
        let start = done;
        done += (PAGE - within).min(len - done);
        Some((at / PAGE_BYTES, within, start..done))
    })
}
