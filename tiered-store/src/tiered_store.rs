//! The tier of one cluster: its objects, pages and claims, behind caches.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use object_store::PutPayload;
use parking_lot::Mutex;
use tidemill_records::{Extent, ObjectId, Offset, PageRef, PartitionId, RemoteObject, TopicId};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::chunks::{Chunks, Section};
use crate::claim::Claim;
use crate::codec::FormatError;
use crate::counts::Counts;
use crate::error::StoreError;
use crate::footer::{ExtentIdentity, Footer};
use crate::keys;
use crate::loading::Loading;
use crate::page::{self, Page};
use crate::read::Readers;
use crate::store::{OpenError, Store, StoreConfig};

/// Memory of a tier's reads.
#[derive(Debug, Clone, Copy)]
pub struct TierMemory {
    /// Batches that were read lately.
    pub cache_bytes: usize,
    /// Batches on their way.
    pub in_flight_bytes: usize,
    /// Footers and pages, each.
    pub index_bytes: usize,
}

impl Default for TierMemory {
    fn default() -> Self {
        Self {
            cache_bytes: 128 << 20,
            in_flight_bytes: 64 << 20,
            index_bytes: 16 << 20,
        }
    }
}

/// Figures at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct TierFigures {
    /// Blocks that were in memory when they were asked for.
    pub cache_hits: u64,
    /// Blocks that were not.
    pub cache_misses: u64,
    /// Blocks that had changed in the cache, and were fetched anew.
    pub cache_damaged: u64,
    /// Bytes in the cache.
    pub cached_bytes: usize,
    /// Bytes that are being read.
    pub in_flight_bytes: usize,
}

/// The tier of one cluster. A handle; all share the same caches.
#[derive(Clone)]
pub struct TieredStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    cluster: Uuid,
    pub(crate) runtime: Handle,
    pub(crate) chunks: Arc<Chunks>,
    pub(crate) readers: Readers,
    footers: Arc<Loading<(ObjectId, u64), Footer>>,
    pages: Arc<Loading<(TopicId, PartitionId, u64), Page>>,
    own_runtime: Mutex<Option<Runtime>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(runtime) = self.own_runtime.lock().take() {
            // The last handle may go on an async thread, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}

/// How much nicer the tier's threads are than all others.
const NICER: i32 = 5;

/// What each thread of the tier does first. Where the processors do not suffice for both, cold data waits for appends and for reads
/// of what is new.
fn step_back() -> impl Fn() + Send + Sync + 'static {
    let nice = rustix::process::getpriority_process(None).unwrap_or(0) + NICER;
    move || {
        // On Linux that is this thread alone.
        if let Err(error) = rustix::process::setpriority_process(None, nice) {
            tracing::debug!(%error, "the tier's threads have the priority of all others");
        }
    }
}

impl TieredStore {
    /// Opens the tier of a cluster. All I/O is done by two threads of its own, so that cold reads and uploads compete with nobody
    /// for the broker's. Nothing is asked of the store yet.
    pub fn open(
        config: &StoreConfig,
        cluster: Uuid,
        memory: TierMemory,
    ) -> Result<Self, OpenError> {
        let store = Store::open(config)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tier")
            .enable_all()
            .on_thread_start(step_back())
            .build()
            .map_err(OpenError::Threads)?;
        let handle = runtime.handle().clone();
        let chunks = Chunks::new(
            store.clone(),
            memory.cache_bytes,
            memory.in_flight_bytes,
            handle.clone(),
        );
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                cluster,
                chunks,
                readers: Readers::default(),
                footers: Loading::new(
                    "tier-footers",
                    memory.index_bytes,
                    Footer::weight,
                    handle.clone(),
                ),
                pages: Loading::new(
                    "tier-pages",
                    memory.index_bytes,
                    Page::weight,
                    handle.clone(),
                ),
                runtime: handle,
                own_runtime: Mutex::new(Some(runtime)),
            }),
        })
    }

    /// The cluster whose tier it is.
    pub fn cluster(&self) -> Uuid {
        self.inner.cluster
    }

    /// Requests so far.
    pub fn counts(&self) -> &Counts {
        self.inner.store.counts()
    }

    /// Figures of the cache.
    pub fn figures(&self) -> TierFigures {
        let chunks = &self.inner.chunks;
        let counts = &chunks.counts;
        TierFigures {
            cache_hits: counts.hits.load(Ordering::Relaxed),
            cache_misses: counts.misses.load(Ordering::Relaxed),
            cache_damaged: counts.damaged.load(Ordering::Relaxed),
            cached_bytes: chunks.cached_bytes(),
            in_flight_bytes: chunks.in_flight_bytes(),
        }
    }

    /// Runs a task on the tier's own threads.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.inner.runtime.spawn(task)
    }

    /// Runs a request on the tier's own threads, to its end even when the caller goes away.
    pub(crate) async fn run<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        request: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E> {
        match self.inner.runtime.spawn(request).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Closed.into()),
            },
        }
    }

    /// Writes an object and proves that it is there: the store is given a checksum of all of it, and its end is read back.
    pub async fn put(&self, object: RemoteObject, parts: Vec<Bytes>) -> Result<(), StoreError> {
        let this = self.clone();
        self.run(async move {
            let key = keys::object(this.inner.cluster, &object);
            let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
            let end = parts.last().cloned().unwrap_or_default();
            this.inner
                .store
                .put(&key, PutPayload::from_iter(parts))
                .await?;
            let range = length - end.len() as u64..length;
            match this.inner.store.get(&key, range).await? {
                found if found == end => Ok(()),
                _ => Err(StoreError::Damaged {
                    key: key.to_string(),
                    fault: FormatError::Identity,
                }),
            }
        })
        .await
    }

    /// Deletes an object. One that is not there is deleted.
    pub async fn delete(&self, object: RemoteObject) -> Result<(), StoreError> {
        let this = self.clone();
        self.run(async move {
            let key = keys::object(this.inner.cluster, &object);
            this.inner.store.delete(&key).await
        })
        .await
    }

    /// The key of an object.
    pub fn key_of(&self, object: &RemoteObject) -> String {
        keys::object(self.inner.cluster, object).to_string()
    }

    /// An extent's footer, proven to be the one that the metadata speaks of.
    pub async fn footer(
        &self,
        topic: TopicId,
        partition: PartitionId,
        extent: &Extent,
    ) -> Result<Arc<Footer>, StoreError> {
        let (this, extent) = (self.clone(), extent.clone());
        let key = (extent.object, extent.position);
        let load = || async move {
            let key = keys::object(this.inner.cluster, &RemoteObject::Data(extent.object));
            let from = extent.position + u64::from(extent.length);
            let range = from..from + u64::from(extent.footer_length);
            let bytes = this.inner.store.get(&key, range).await?;
            let identity = ExtentIdentity {
                topic,
                partition,
                base: extent.base,
                end: extent.end,
            };
            let footer = Footer::decode(&bytes, extent.footer_crc);
            let footer = footer.and_then(|footer| {
                let is_it = footer.identity == identity && footer.length == extent.length;
                is_it.then_some(footer).ok_or(FormatError::Identity)
            });
            footer.map_err(|fault| StoreError::Damaged {
                key: key.to_string(),
                fault,
            })
        };
        self.inner.footers.get(key, load).await
    }

    /// A page of a manifest, proven to be the one that the metadata speaks of.
    pub async fn page(
        &self,
        topic: TopicId,
        partition: PartitionId,
        page: &PageRef,
    ) -> Result<Arc<Page>, StoreError> {
        let (this, page) = (self.clone(), page.clone());
        let key = (topic, partition, page.hash);
        let load = || async move {
            let name = RemoteObject::Page {
                topic,
                partition,
                first: page.base,
                hash: page.hash,
            };
            let key = keys::object(this.inner.cluster, &name);
            let bytes = this.inner.store.get(&key, 0..page.length.into()).await?;
            page::decode(&bytes, topic, partition, page.hash).map_err(|fault| StoreError::Damaged {
                key: key.to_string(),
                fault,
            })
        };
        self.inner.pages.get(key, load).await
    }

    /// A page that only its name is known of. The name has a checksum of all of it.
    pub async fn page_by_name(
        &self,
        topic: TopicId,
        partition: PartitionId,
        first: Offset,
        hash: u64,
    ) -> Result<Page, StoreError> {
        let this = self.clone();
        self.run(async move {
            let name = RemoteObject::Page {
                topic,
                partition,
                first,
                hash,
            };
            let key = keys::object(this.inner.cluster, &name);
            let bytes = this.inner.store.get_all(&key).await?;
            page::decode(&bytes, topic, partition, hash).map_err(|fault| StoreError::Damaged {
                key: key.to_string(),
                fault,
            })
        })
        .await
    }

    pub(crate) async fn section(
        &self,
        topic: TopicId,
        partition: PartitionId,
        extent: &Extent,
    ) -> Result<Section, StoreError> {
        Ok(Section {
            object: extent.object,
            key: keys::object(self.inner.cluster, &RemoteObject::Data(extent.object)),
            position: extent.position,
            footer: self.footer(topic, partition, extent).await?,
        })
    }

    /// The claim of an incarnation, if there is one.
    pub async fn claim_of(&self, incarnation: u64) -> Result<Option<Claim>, StoreError> {
        let this = self.clone();
        self.run(async move {
            let key = keys::claim(incarnation);
            let bytes = match this.inner.store.get_all(&key).await {
                Ok(bytes) => bytes,
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let claim = Claim::decode(&bytes).map_err(|fault| StoreError::Damaged {
                key: key.to_string(),
                fault,
            })?;
            Ok(Some(claim))
        })
        .await
    }

    /// Claims an incarnation. Gives whose it is: the claim that was there, or the one that is there now.
    pub async fn claim(&self, claim: Claim) -> Result<Claim, StoreError> {
        let this = self.clone();
        let written = self
            .run(async move {
                let key = keys::claim(claim.incarnation);
                this.inner.store.create(&key, claim.encode().into()).await
            })
            .await;
        match written {
            Ok(()) => Ok(claim),
            // It may have been written all the same: its id tells.
            Err(error) => match self.claim_of(claim.incarnation).await? {
                Some(found) => Ok(found),
                None => Err(error),
            },
        }
    }
}
