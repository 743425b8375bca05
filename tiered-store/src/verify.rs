//! Whether a store can carry a tier: every request that a broker makes, tried out one by one, with the permission that it needs.

use bytes::Bytes;
use tidemill_records::ObjectId;

use crate::error::StoreError;
use crate::keys;
use crate::probe::ProbeError;
use crate::s3::BucketError;
use crate::tiered_store::TieredStore;

/// Parts of multipart uploads that never ended are dropped by the store after so many days.
const STALE_UPLOAD_DAYS: u32 = 7;

/// One thing that was tried.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// The permission in S3's words; empty where it is none of its own.
    pub permission: &'static str,
    /// A broker can do without it.
    pub is_optional: bool,
    /// How it ended; None where something before it failed.
    pub result: Option<Result<(), VerifyError>>,
}

/// Why something does not work.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A request about an object.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A request about the bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Conditional writes.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// What was read is not what was written.
    #[error("what was read is not what was written")]
    WrongBytes,
    /// What was written is not listed.
    #[error("what was written is not listed")]
    NotListed,
}

impl VerifyError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) | Self::Probe(ProbeError::Store(error)) => error.hint(),
            Self::Bucket(error) => error.hint(),
            Self::Probe(ProbeError::NotAtomic) | Self::WrongBytes | Self::NotListed => None,
        }
    }
}

impl TieredStore {
    /// Tries everything, and leaves nothing behind. `create_bucket` makes the bucket first, and has the store drop what uploads
    /// that never ended have left.
    pub async fn verify(&self, random: u64, create_bucket: bool) -> Vec<Check> {
        let mut checks = Checks(Vec::new());
        if create_bucket && let Some(bucket) = self.inner.store.s3.clone() {
            let created = self.run(async move { Ok(bucket.create().await?) });
            checks
                .add("create the bucket", "s3:CreateBucket", false, created)
                .await;
        }
        let key = keys::probe(ObjectId(u128::from(random) << 16));
        let content = Bytes::from_static(b"tidemill tier verify");
        let (store, at, body) = (self.inner.store.clone(), key.clone(), content.clone());
        let put = self.run(async move { Ok(store.put(&at, body.into()).await?) });
        checks
            .add("write an object", "s3:PutObject", false, put)
            .await;
        let (store, at) = (self.inner.store.clone(), key.clone());
        let get = self.run(async move {
            let found = store.get(&at, 2..content.len() as u64).await?;
            match found == content[2..] {
                true => Ok(()),
                false => Err(VerifyError::WrongBytes),
            }
        });
        checks
            .add("read a range of it", "s3:GetObject", false, get)
            .await;
        let (store, at) = (self.inner.store.clone(), key.clone());
        let list = self.run(async move {
            let listed = store.list(&keys::probes()).await?;
            match listed.iter().any(|(key, _)| *key == at) {
                true => Ok(()),
                false => Err(VerifyError::NotListed),
            }
        });
        checks
            .add("list objects", "s3:ListBucket", false, list)
            .await;
        let race = async { Ok(self.probe_conditional_put(random).await?) };
        checks
            .add(
                "create an object that must not exist",
                "s3:PutObject",
                false,
                race,
            )
            .await;
        let store = self.inner.store.clone();
        let delete = self.run(async move { Ok(store.delete(&key).await?) });
        checks
            .add("delete an object", "s3:DeleteObject", false, delete)
            .await;
        if create_bucket && let Some(bucket) = self.inner.store.s3.clone() {
            let set =
                self.run(async move { Ok(bucket.abort_stale_uploads(STALE_UPLOAD_DAYS).await?) });
            let permission = "s3:PutLifecycleConfiguration";
            checks
                .add("drop stale multipart uploads", permission, true, set)
                .await;
        }
        checks.0
    }
}

struct Checks(Vec<Check>);

impl Checks {
    /// Tries something, unless what it builds on has failed.
    async fn add(
        &mut self,
        what: &'static str,
        permission: &'static str,
        is_optional: bool,
        attempt: impl Future<Output = Result<(), VerifyError>>,
    ) {
        let failed = |check: &Check| !matches!(check.result, Some(Ok(())));
        let result = match self.0.iter().any(failed) {
            true => None,
            false => Some(attempt.await),
        };
        self.0.push(Check {
            what,
            permission,
            is_optional,
            result,
        });
    }
}
