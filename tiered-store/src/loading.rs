//! A cache in front of something slow: one load per key at a time, which is finished even when nobody waits for it any more.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use foyer::{Cache, CacheBuilder};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::error::StoreError;

type Load<V> = Shared<BoxFuture<'static, Result<Arc<V>, StoreError>>>;

/// Values that are loaded from the store, the newest of them kept.
pub(crate) struct Loading<K: Hash + Eq + Clone + Send + Sync + 'static, V: Send + Sync + 'static> {
    cache: Cache<K, Arc<V>>,
    loads: Mutex<HashMap<K, Load<V>>>,
    runtime: Handle,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static, V: Send + Sync + 'static> Loading<K, V> {
    /// Keeps values of `bytes_max` in all.
    pub(crate) fn new(
        name: &'static str,
        bytes_max: usize,
        weight: impl Fn(&V) -> usize + Send + Sync + 'static,
        runtime: Handle,
    ) -> Arc<Self> {
        let cache = CacheBuilder::new(bytes_max)
            .with_name(name)
            .with_shards(1)
            .with_weighter(move |_: &K, value: &Arc<V>| weight(value))
            .build();
        Arc::new(Self {
            cache,
            loads: Mutex::default(),
            runtime,
        })
    }

    /// The value of a key, loaded by `load` unless it is there or on its way.
    pub(crate) async fn get<F>(
        self: &Arc<Self>,
        key: K,
        load: impl FnOnce() -> F,
    ) -> Result<Arc<V>, StoreError>
    where
        F: Future<Output = Result<V, StoreError>> + Send + 'static,
    {
        if let Some(entry) = self.cache.get(&key) {
            return Ok(Arc::clone(entry.value()));
        }
        let load = {
            let mut loads = self.loads.lock();
            match loads.get(&key) {
                Some(load) => load.clone(),
                None => {
                    let load = self.start(key.clone(), load());
                    loads.insert(key, load.clone());
                    load
                }
            }
        };
        load.await
    }

    fn start<F>(self: &Arc<Self>, key: K, load: F) -> Load<V>
    where
        F: Future<Output = Result<V, StoreError>> + Send + 'static,
    {
        let this = Arc::clone(self);
        let task = self.runtime.spawn(async move {
            let result = load.await.map(Arc::new);
            if let Ok(value) = &result {
                this.cache.insert(key.clone(), Arc::clone(value));
            }
            this.loads.lock().remove(&key);
            result
        });
        let ended = |result: Result<_, tokio::task::JoinError>| match result {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and with it whoever waits.
                Err(_) => Err(StoreError::Closed),
            },
        };
        task.map(ended).boxed().shared()
    }
}
