//! Chunks of an object in a directory, which tests can damage behind the cache's back.

use tidemill_records::{MaxTimestamp, Offset, PartitionId, TopicId};
use uuid::Uuid;

use super::*;
use crate::footer::ExtentIdentity;
use crate::store::StoreConfig;
use crate::url::TierUrl;

/// Two chunks and a bit, so that the last block is short.
const LENGTH: usize = 2 * CHUNK_BYTES + 3 * BLOCK_BYTES + 17;
const POSITION: usize = 24;

struct World {
    directory: tempfile::TempDir,
    chunks: Arc<Chunks>,
    section: Section,
    bytes: Vec<u8>,
}

impl World {
    fn new(cache_bytes: usize) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let bytes: Vec<u8> = (0..LENGTH).map(|at| (at * 31 / 7) as u8).collect();
        let object = [&[0; POSITION], &bytes[..]].concat();
        std::fs::write(directory.path().join("object"), object).expect("a file");
        let config = StoreConfig {
            url: TierUrl::File(directory.path().to_owned()),
            endpoint: None,
        };
        let store = Store::open(&config).expect("a directory is a store");
        let (base, end) = (Offset(0), Offset(10));
        let footer = Footer {
            identity: ExtentIdentity {
                topic: TopicId(Uuid::from_u128(1)),
                partition: PartitionId(0),
                base,
                end,
            },
            length: LENGTH as u32,
            newest: MaxTimestamp {
                timestamp: 0,
                offset: base,
            },
            epochs: Vec::new(),
            index: Vec::new(),
            aborted: Vec::new(),
            block_crcs: bytes
                .chunks(BLOCK_BYTES)
                .map(crate::codec::crc32c)
                .collect(),
            producers: Bytes::new(),
        };
        Self {
            chunks: Chunks::new(store, cache_bytes, 64 << 20, Handle::current()),
            section: Section {
                object: ObjectId(7),
                key: "object".into(),
                position: POSITION as u64,
                footer: Arc::new(footer),
            },
            directory,
            bytes,
        }
    }

    fn blocks(&self) -> usize {
        LENGTH.div_ceil(BLOCK_BYTES)
    }

    fn expected(&self, block: usize) -> &[u8] {
        let end = LENGTH.min((block + 1) * BLOCK_BYTES);
        &self.bytes[block * BLOCK_BYTES..end]
    }

    async fn block(&self, block: usize) -> Result<Bytes, StoreError> {
        let block = self.chunks.block(&self.section, block, true).await?;
        Ok(block.expect("it was waited for"))
    }

    fn gets(&self) -> u64 {
        let requests = self.chunks.store.counts().requests();
        requests.iter().map(|(_, _, count)| count).sum()
    }

    /// Waits until nothing is on its way.
    async fn settled(&self) {
        while !self.chunks.flights.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn rewrite(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.directory.path().join("object");
        let mut bytes = std::fs::read(&path).expect("the object");
        change(&mut bytes);
        std::fs::write(path, bytes).expect("the object");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_one_object_cost_one_request() {
    let world = Arc::new(World::new(64 << 20));
    world.chunks.ensure(&world.section, 0..LENGTH, false);
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                for block in 0..world.blocks() {
                    let found = world.block(block).await.expect("it is there");
                    assert_eq!(found, world.expected(block), "block {block}");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.expect("a reader");
    }
    assert_eq!(world.gets(), 1);
    assert_eq!(world.chunks.cached_bytes(), LENGTH);
}

/// On one thread, so that nothing comes before the reader gives up.
#[tokio::test]
async fn what_nobody_waits_for_any_more_still_gets_into_the_cache() {
    let world = World::new(64 << 20);
    {
        let read = world.block(0);
        tokio::pin!(read);
        // Begun, and given up before anything came.
        assert!(futures_util::poll!(&mut read).is_pending());
    }
    world.settled().await;
    assert!(world.chunks.is_covered(&world.section, 0..CHUNK_BYTES));
    world.block(0).await.expect("it is in memory");
    assert_eq!(world.gets(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_entry_is_verified_on_every_hit() {
    let world = World::new(64 << 20);
    world.block(3).await.expect("it is there");
    world.settled().await;
    // Another memory's bit flips: the entry says what the store never did.
    let key = world.section.chunk_key(0);
    let entry = world.chunks.cache.get(&key).expect("it is cached");
    let mut blocks = entry.value().to_vec();
    let mut damaged = blocks[3].to_vec();
    damaged[5] ^= 4;
    blocks[3] = damaged.into();
    drop(entry);
    world.chunks.cache.insert(key, Arc::new(blocks));
    let found = world.block(3).await.expect("the store still has it");
    assert_eq!(found, world.expected(3));
    assert_eq!(world.chunks.counts.damaged.load(Ordering::Relaxed), 1);
    assert_eq!(world.gets(), 2, "it was asked for again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_told_and_never_cached() {
    let world = World::new(64 << 20);
    world.rewrite(|bytes| bytes[POSITION + BLOCK_BYTES + 9] ^= 1);
    world.block(0).await.expect("the block before it is whole");
    world.settled().await;
    assert_eq!(world.gets() as usize, ATTEMPTS);
    let error = world.block(1).await.expect_err("it is damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    world.settled().await;
    assert!(!world.chunks.is_covered(&world.section, 0..CHUNK_BYTES));
    assert_eq!(
        world.gets() as usize,
        2 * ATTEMPTS,
        "a new reader tries anew"
    );
    // Once it is whole again it is read again.
    world.rewrite(|bytes| bytes[POSITION + BLOCK_BYTES + 9] ^= 1);
    assert_eq!(world.block(1).await.expect("whole"), world.expected(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_cut_or_is_gone_is_told() {
    let world = World::new(64 << 20);
    world.rewrite(|bytes| bytes.truncate(POSITION + CHUNK_BYTES + 100));
    world.block(0).await.expect("this much is there");
    let last = world.blocks() - 1;
    world.block(last).await.expect_err("this is not");
    std::fs::remove_file(world.directory.path().join("object")).expect("the object");
    world.settled().await;
    let error = world.block(last).await.expect_err("nothing is");
    assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_without_room_serves_all_the_same() {
    let world = World::new(0);
    for block in (0..world.blocks()).rev() {
        let found = world.block(block).await.expect("it is there");
        assert_eq!(found, world.expected(block), "block {block}");
    }
}
