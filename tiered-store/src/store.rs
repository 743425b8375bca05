//! One store behind one prefix, with deadlines and counts. Everything else of this crate speaks to it only.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::counts::{Counts, NO_ANSWER, Operation};
use crate::error::StoreError;
use crate::s3;
use crate::url::TierUrl;

/// What a small request may take, retries included.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a transfer may take in addition, per byte: a store that is slower is not worth having.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// Writes of one object that a process can be killed in the middle of: the first, and those that follow one that took too long.
const STAGED_MAX: u32 = 4;

/// Which store, and how to reach it.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `--tier-url`.
    pub url: TierUrl,
    /// `--tier-endpoint`: where S3 is, if not at AWS.
    pub endpoint: Option<String>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory of a `file://` tier.
    #[error("cannot use the directory {}: {source}; it must be writable for who runs the broker", .path.display())]
    Directory {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: object_store::Error,
    },
    /// The options do not make an S3 client.
    #[error(
        "cannot set up S3: {0}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role"
    )]
    S3(#[source] object_store::Error),
    /// The system refuses threads.
    #[error("cannot start the tier's threads: {0}")]
    Threads(#[source] std::io::Error),
    /// The profile that AWS_PROFILE names.
    #[error(transparent)]
    Profile(#[from] crate::profile::ProfileError),
}

/// A store, below its prefix.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    inner: Arc<dyn ObjectStore>,
    counts: Arc<Counts>,
    /// A store without HTTP requests that could be counted by themselves.
    counts_here: bool,
    directory: Option<Arc<LocalFileSystem>>,
    /// What S3 needs besides objects.
    pub(crate) s3: Option<Arc<s3::Bucket>>,
}

impl Store {
    pub(crate) fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let counts = Arc::new(Counts::default());
        let (mut directory, mut s3) = (None, None);
        let inner: Arc<dyn ObjectStore> = match &config.url {
            TierUrl::File(path) => {
                Arc::clone(directory.insert(Arc::new(open_directory(path)?))) as _
            }
            TierUrl::Memory => Arc::new(object_store::memory::InMemory::new()),
            TierUrl::S3 { bucket, prefix } => {
                let bucket = s3::Bucket::open(bucket, config.endpoint.as_deref(), &counts)?;
                let store = PrefixStore::new(bucket.objects.clone(), prefix.as_str());
                s3 = Some(Arc::new(bucket));
                Arc::new(store)
            }
        };
        Ok(Self {
            inner,
            counts,
            counts_here: s3.is_none(),
            directory,
            s3,
        })
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Writes an object; what is there under that key is replaced, so a retry of the same bytes changes nothing.
    pub(crate) async fn put(&self, key: &Path, payload: PutPayload) -> Result<(), StoreError> {
        self.put_as(key, payload, PutMode::Overwrite).await
    }

    /// Writes an object that must not exist. After a time-out it may be written or not.
    pub(crate) async fn create(&self, key: &Path, payload: PutPayload) -> Result<(), StoreError> {
        self.put_as(key, payload, PutMode::Create).await
    }

    async fn put_as(
        &self,
        key: &Path,
        payload: PutPayload,
        mode: PutMode,
    ) -> Result<(), StoreError> {
        let bytes = payload.content_length() as u64;
        let put = self.inner.put_opts(key, payload, mode.into());
        self.ask("put", Operation::Put, key, bytes, put).await?;
        self.counts.bytes_put.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Reads a range of an object, all of it or an error.
    pub(crate) async fn get(&self, key: &Path, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end - range.start;
        let mut stream = self.stream(key, range).await?;
        let mut all = BytesMut::with_capacity(wanted as usize);
        let gather = async {
            while let Some(bytes) = stream.next().await {
                all.extend_from_slice(&bytes?);
            }
            Ok::<_, StoreError>(())
        };
        match tokio::time::timeout(deadline(wanted), gather).await {
            Ok(gathered) => gathered?,
            Err(_) => return Err(timed_out("get", key, wanted)),
        }
        match all.len() as u64 == wanted {
            true => Ok(all.freeze()),
            false => Err(StoreError::Damaged {
                key: key.to_string(),
                fault: crate::codec::FormatError::Truncated,
            }),
        }
    }

    /// Reads a range of an object as it comes. A stream that ends early has no error: who reads it counts.
    pub(crate) async fn stream(
        &self,
        key: &Path,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StoreError>>, StoreError> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let get = self.inner.get_opts(key, options);
        let got = self.ask("get", Operation::Get, key, 0, get).await?;
        let (key, counts) = (key.clone(), Arc::clone(&self.counts));
        let stream = got.into_stream().map(move |bytes| {
            let bytes = bytes.map_err(|error| StoreError::of("get", &key, error))?;
            counts
                .bytes_got
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok(bytes)
        });
        Ok(stream.boxed())
    }

    /// Reads a whole small object.
    pub(crate) async fn get_all(&self, key: &Path) -> Result<Bytes, StoreError> {
        let read = async { self.inner.get(key).await?.bytes().await };
        let bytes = self.ask("get", Operation::Get, key, 0, read).await?;
        self.counts
            .bytes_got
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Deletes an object; one that is not there is deleted already.
    pub(crate) async fn delete(&self, key: &Path) -> Result<(), StoreError> {
        if let Some(directory) = self.directory.clone() {
            let removed = remove_staged(directory, key.clone());
            match tokio::time::timeout(DEADLINE, removed).await {
                Ok(removed) => removed?,
                Err(_) => return Err(timed_out("delete", key, 0)),
            }
        }
        let delete = self.inner.delete(key);
        match self.ask("delete", Operation::Delete, key, 0, delete).await {
            Err(StoreError::NotFound { .. }) => Ok(()),
            result => result,
        }
    }

    /// Keys and sizes below a prefix.
    pub(crate) async fn list(&self, below: &Path) -> Result<Vec<(Path, u64)>, StoreError> {
        let listed = self.inner.list(Some(below));
        let listed = listed
            .map_ok(|meta| (meta.location, meta.size))
            .try_collect();
        self.ask("list", Operation::List, below, 0, listed).await
    }

    async fn ask<T>(
        &self,
        name: &'static str,
        operation: Operation,
        key: &Path,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let result = match tokio::time::timeout(deadline(bytes), request).await {
            Ok(result) => result.map_err(|error| StoreError::of(name, key, error)),
            Err(_) => Err(timed_out(name, key, bytes)),
        };
        if self.counts_here {
            let code = match &result {
                Ok(_) => 200,
                Err(StoreError::NotFound { .. }) => 404,
                Err(StoreError::Exists { .. }) => 412,
                Err(_) => NO_ANSWER,
            };
            self.counts.add(operation, code);
        }
        result
    }
}

/// How long a transfer of so many bytes may take.
pub(crate) fn deadline(bytes: u64) -> Duration {
    DEADLINE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

pub(crate) fn timed_out(operation: &'static str, key: &Path, bytes: u64) -> StoreError {
    StoreError::TimedOut {
        operation,
        key: key.to_string(),
        seconds: deadline(bytes).as_secs(),
    }
}

/// Removes what a process that was killed has left of writing an object into a directory: it is written as `KEY#1`, or the next
/// number that is free, and renamed when it is whole.
#[allow(
    clippy::disallowed_methods,
    reason = "a store is outside of the simulated world"
)]
async fn remove_staged(directory: Arc<LocalFileSystem>, key: Path) -> Result<(), StoreError> {
    let whole = directory.path_to_filesystem(&key);
    let whole = whole.map_err(|error| StoreError::of("delete", &key, error))?;
    let remove = move || {
        for number in 1..=STAGED_MAX {
            let mut staged = whole.clone().into_os_string();
            staged.push(format!("#{number}"));
            match std::fs::remove_file(&staged) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    let removed = tokio::task::spawn_blocking(remove).await;
    removed.expect("it does not panic").map_err(|error| {
        let error = object_store::Error::Generic {
            store: "file",
            source: Box::new(error),
        };
        StoreError::of("delete", &key, error)
    })
}

fn open_directory(path: &std::path::Path) -> Result<LocalFileSystem, OpenError> {
    let refused = |source| OpenError::Directory {
        path: path.to_owned(),
        source,
    };
    let failed = |source| {
        refused(object_store::Error::Generic {
            store: "file",
            source: Box::new(source),
        })
    };
    #[allow(
        clippy::disallowed_methods,
        reason = "a store is outside of the simulated world"
    )]
    std::fs::create_dir_all(path).map_err(failed)?;
    let store = LocalFileSystem::new_with_prefix(path).map_err(refused)?;
    Ok(store.with_fsync(true))
}
