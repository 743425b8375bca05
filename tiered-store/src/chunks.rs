//! Batches in memory, in chunks of [`CHUNK_BYTES`]: one flight per chunk, one GET for several.
//!
//! A flight hands its blocks on as soon as each is verified, and goes on into the cache when nobody waits for it any more. A
//! block is verified against the footer again whenever it is taken from the cache.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use foyer::{Cache, CacheBuilder};
use futures_util::StreamExt;
use object_store::path::Path;
use parking_lot::Mutex;
use tidemill_records::ObjectId;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::codec::FormatError;
use crate::error::StoreError;
use crate::footer::{BLOCK_BYTES, Footer};
use crate::store::{Store, deadline, timed_out};

/// What is cached, and the least that is asked for at once.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;
const BLOCKS_PER_CHUNK: usize = CHUNK_BYTES / BLOCK_BYTES;
/// The most that one GET asks for. Larger ones gain nothing, and several side by side do.
const GET_BYTES_MAX: usize = 8 << 20;
/// How often a range is asked for that came damaged or not whole.
const ATTEMPTS: usize = 4;
/// A damaged block in the cache is fetched anew so often before the reader is told.
const REFETCHES: usize = 2;

/// An extent's batches in the store.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) object: ObjectId,
    pub(crate) key: Path,
    /// Where its batches begin.
    pub(crate) position: u64,
    pub(crate) footer: Arc<Footer>,
}

type ChunkKey = (ObjectId, u64, usize);

impl Section {
    fn chunk_key(&self, chunk: usize) -> ChunkKey {
        (self.object, self.position, chunk)
    }

    pub(crate) fn len(&self) -> usize {
        self.footer.length as usize
    }

    fn chunks(&self) -> usize {
        self.len().div_ceil(CHUNK_BYTES)
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct CacheCounts {
    pub(crate) hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) damaged: AtomicU64,
}

/// The cache and what is on its way into it.
pub(crate) struct Chunks {
    store: Store,
    cache: Cache<ChunkKey, Arc<Vec<Bytes>>>,
    flights: Mutex<HashMap<ChunkKey, Arc<Flight>>>,
    /// In chunks.
    in_flight: Arc<Semaphore>,
    in_flight_max: usize,
    runtime: Handle,
    pub(crate) counts: CacheCounts,
}

/// One GET: blocks one after the other.
struct Flight {
    first_block: usize,
    blocks: Vec<OnceLock<Bytes>>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Blocks that have come.
    ready: usize,
    ended: Option<Result<(), StoreError>>,
}

impl Chunks {
    pub(crate) fn new(
        store: Store,
        cache_bytes: usize,
        in_flight_bytes: usize,
        runtime: Handle,
    ) -> Arc<Self> {
        let cache = CacheBuilder::new(cache_bytes)
            .with_name("tier-chunks")
            .with_shards(1)
            .with_weighter(|_: &ChunkKey, blocks: &Arc<Vec<Bytes>>| {
                blocks.iter().map(Bytes::len).sum()
            })
            .build();
        let in_flight_max = (in_flight_bytes / CHUNK_BYTES).max(GET_BYTES_MAX / CHUNK_BYTES);
        Arc::new(Self {
            store,
            cache,
            flights: Mutex::default(),
            in_flight: Arc::new(Semaphore::new(in_flight_max)),
            in_flight_max,
            runtime,
            counts: CacheCounts::default(),
        })
    }

    pub(crate) fn cached_bytes(&self) -> usize {
        self.cache.usage()
    }

    /// Bytes that GETs under way will bring.
    pub(crate) fn in_flight_bytes(&self) -> usize {
        (self.in_flight_max - self.in_flight.available_permits()) * CHUNK_BYTES
    }

    /// Whether all of `range`, as far as the section goes, is in memory or on its way.
    pub(crate) fn is_covered(&self, section: &Section, range: Range<usize>) -> bool {
        let end = range.end.div_ceil(CHUNK_BYTES).min(section.chunks());
        let flights = self.flights.lock();
        (range.start / CHUNK_BYTES..end).all(|chunk| {
            let key = section.chunk_key(chunk);
            flights.contains_key(&key) || self.cache.contains(&key)
        })
    }

    /// Sees to it that the bytes of `range` are in memory or on their way. Where `ahead`, only as far as there is room.
    pub(crate) fn ensure(self: &Arc<Self>, section: &Section, range: Range<usize>, ahead: bool) {
        let end = range.end.div_ceil(CHUNK_BYTES).min(section.chunks());
        let mut chunk = range.start / CHUNK_BYTES;
        let mut flights = self.flights.lock();
        while chunk < end {
            let is_missing = |flights: &HashMap<_, _>, chunk| {
                let key = section.chunk_key(chunk);
                !flights.contains_key(&key) && !self.cache.contains(&key)
            };
            if !is_missing(&flights, chunk) {
                chunk += 1;
                continue;
            }
            let first = chunk;
            let last = end.min(first + GET_BYTES_MAX / CHUNK_BYTES);
            while chunk < last && is_missing(&flights, chunk) {
                chunk += 1;
            }
            let count = (chunk - first) as u32;
            let permit = Arc::clone(&self.in_flight).try_acquire_many_owned(count);
            if ahead && permit.is_err() {
                return;
            }
            let flight = Arc::new(Flight::new(section, first..chunk));
            for chunk in first..chunk {
                flights.insert(section.chunk_key(chunk), Arc::clone(&flight));
            }
            let (this, section) = (Arc::clone(self), section.clone());
            self.runtime.spawn(async move {
                let _permit = match permit {
                    Ok(permit) => permit,
                    Err(_) => {
                        let semaphore = Arc::clone(&this.in_flight);
                        let permit = semaphore.acquire_many_owned(count).await;
                        permit.expect("the semaphore is never closed")
                    }
                };
                this.fly(&section, first, &flight).await;
            });
        }
    }

    async fn fly(&self, section: &Section, first_chunk: usize, flight: &Flight) {
        let mut ended = Ok(());
        for attempt in 1..=ATTEMPTS {
            // A body that trickles must not hold its share of the memory for ever.
            let bytes = (flight.blocks.len() * BLOCK_BYTES) as u64;
            let transfer = self.transfer(section, first_chunk, flight);
            ended = tokio::time::timeout(deadline(bytes), transfer)
                .await
                .unwrap_or_else(|_| Err(timed_out("get", &section.key, bytes)));
            match &ended {
                Ok(()) => break,
                Err(error)
                    if attempt < ATTEMPTS && !matches!(error, StoreError::NotFound { .. }) =>
                {
                    tracing::debug!(key = %section.key, %error, attempt, "reading from the tier again");
                }
                Err(_) => {}
            }
        }
        let chunks = flight.blocks.len().div_ceil(BLOCKS_PER_CHUNK);
        {
            let mut flights = self.flights.lock();
            for chunk in first_chunk..first_chunk + chunks {
                flights.remove(&section.chunk_key(chunk));
            }
        }
        flight
            .progress
            .send_modify(|progress| progress.ended = Some(ended));
    }

    /// Reads what has not come yet.
    async fn transfer(
        &self,
        section: &Section,
        first_chunk: usize,
        flight: &Flight,
    ) -> Result<(), StoreError> {
        let done = flight.progress.borrow().ready;
        let from = (flight.first_block + done) * BLOCK_BYTES;
        let to = ((flight.first_block + flight.blocks.len()) * BLOCK_BYTES).min(section.len());
        let range = section.position + from as u64..section.position + to as u64;
        let mut stream = self.store.stream(&section.key, range).await?;
        let mut block = flight.first_block + done;
        let mut gathered = BytesMut::new();
        let block_len = |block: usize| BLOCK_BYTES.min(section.len() - block * BLOCK_BYTES);
        while let Some(bytes) = stream.next().await {
            let mut bytes = bytes?;
            while !bytes.is_empty() && block < flight.first_block + flight.blocks.len() {
                let wanted = block_len(block) - gathered.len();
                let taken = bytes.split_to(wanted.min(bytes.len()));
                if gathered.capacity() == 0 {
                    gathered.reserve(block_len(block));
                }
                gathered.extend_from_slice(&taken);
                if gathered.len() < block_len(block) {
                    break;
                }
                let whole = std::mem::take(&mut gathered).freeze();
                section
                    .footer
                    .check_block(block, &whole)
                    .map_err(|fault| damaged(section, fault))?;
                self.arrived(section, first_chunk, flight, block, whole);
                block += 1;
            }
        }
        match block == flight.first_block + flight.blocks.len() {
            true => Ok(()),
            false => Err(damaged(section, FormatError::Truncated)),
        }
    }

    fn arrived(
        &self,
        section: &Section,
        first_chunk: usize,
        flight: &Flight,
        block: usize,
        bytes: Bytes,
    ) {
        let at = block - flight.first_block;
        let _ = flight.blocks[at].set(bytes);
        let is_last = at + 1 == flight.blocks.len();
        if is_last || (at + 1).is_multiple_of(BLOCKS_PER_CHUNK) {
            let in_flight = at / BLOCKS_PER_CHUNK;
            let blocks = flight.blocks[in_flight * BLOCKS_PER_CHUNK..=at].iter();
            let blocks: Vec<Bytes> = blocks
                .map(|block| block.get().expect("they came in order").clone())
                .collect();
            self.cache
                .insert(section.chunk_key(first_chunk + in_flight), Arc::new(blocks));
        }
        flight
            .progress
            .send_modify(|progress| progress.ready = at + 1);
    }

    /// A block, verified. Where it is not in memory: waits for it if `wait`, else gives nothing.
    pub(crate) async fn block(
        self: &Arc<Self>,
        section: &Section,
        block: usize,
        wait: bool,
    ) -> Result<Option<Bytes>, StoreError> {
        let chunk = block / BLOCKS_PER_CHUNK;
        let key = section.chunk_key(chunk);
        let mut is_first_look = true;
        let mut refetches = 0;
        loop {
            if let Some(entry) = self.cache.get(&key) {
                if is_first_look {
                    self.counts.hits.fetch_add(1, Ordering::Relaxed);
                }
                let found = entry.value().get(block % BLOCKS_PER_CHUNK).cloned();
                let found = found.ok_or_else(|| damaged(section, FormatError::Range))?;
                match section.footer.check_block(block, &found) {
                    Ok(()) => return Ok(Some(found)),
                    Err(fault) => {
                        self.counts.damaged.fetch_add(1, Ordering::Relaxed);
                        self.cache.remove(&key);
                        refetches += 1;
                        if refetches > REFETCHES {
                            return Err(damaged(section, fault));
                        }
                    }
                }
            }
            if is_first_look {
                is_first_look = false;
                self.counts.misses.fetch_add(1, Ordering::Relaxed);
            }
            let flight = self.flights.lock().get(&key).cloned();
            match flight {
                Some(flight) => match flight.block(block, wait).await? {
                    Some(bytes) => return Ok(Some(bytes)),
                    None if !wait => return Ok(None),
                    // It has ended, and what it brought is in the cache or was evicted already.
                    None => {}
                },
                None if !wait => return Ok(None),
                None => self.ensure(
                    section,
                    block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES,
                    false,
                ),
            }
        }
    }
}

impl Flight {
    fn new(section: &Section, chunks: Range<usize>) -> Self {
        let first_block = chunks.start * BLOCKS_PER_CHUNK;
        let end = (chunks.end * CHUNK_BYTES).min(section.len());
        let blocks = (end - first_block * BLOCK_BYTES).div_ceil(BLOCK_BYTES);
        Self {
            first_block,
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// A block once it has come; nothing where it is not there and is not to be waited for.
    async fn block(&self, block: usize, wait: bool) -> Result<Option<Bytes>, StoreError> {
        let at = block - self.first_block;
        let mut progress = self.progress.subscribe();
        if wait {
            // The sender lives as long as `self`.
            let _ = progress
                .wait_for(|progress| progress.ready > at || progress.ended.is_some())
                .await;
        }
        if let Some(bytes) = self.blocks[at].get() {
            return Ok(Some(bytes.clone()));
        }
        match &progress.borrow().ended {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(None),
        }
    }
}

fn damaged(section: &Section, fault: FormatError) -> StoreError {
    StoreError::Damaged {
        key: section.key.to_string(),
        fault,
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "a store is outside of the simulated world"
)]
mod tests;
