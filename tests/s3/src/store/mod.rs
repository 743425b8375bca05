//! Buckets and their objects: the state of the double.
//!
//! Checking a condition and storing is one step under one lock. That is the property that S3 promises
//! for conditional PUTs and that a fence in a bucket rests on, so it must hold here without a fault.

pub(crate) mod files;
pub(crate) mod list;
pub(crate) mod object;
pub(crate) mod uploads;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use s3s::dto::{BucketLifecycleConfiguration, ETagCondition};
use s3s::{S3Error, S3Result, s3_error};
use serde::Serialize;

use self::files::{Files, LoadError, Staged};
use self::list::{Page, Query};
use self::object::Object;
use self::uploads::Uploads;
use crate::budget::Budget;

/// All buckets.
#[derive(Debug)]
pub(crate) struct Store {
    budget: Arc<Budget>,
    files: Option<Files>,
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: BTreeMap<String, Arc<Object>>,
    uploads: Uploads,
    lifecycle: Option<BucketLifecycleConfiguration>,
}

/// One object in the answer of the control port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectSummary {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
}

/// What must hold for a PUT or DELETE to take effect.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    is_absent: bool,
    matches: Option<ETagCondition>,
}

impl Condition {
    /// From `If-Match` and `If-None-Match`, of which S3 takes only `*` for the latter.
    pub(crate) fn new(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> S3Result<Self> {
        if if_none_match
            .as_ref()
            .is_some_and(|condition| !condition.is_any())
        {
            return Err(s3_error!(
                NotImplemented,
                "If-None-Match of a write must be *"
            ));
        }
        Ok(Self {
            is_absent: if_none_match.is_some(),
            matches: if_match,
        })
    }

    fn check(&self, current: Option<&Object>) -> S3Result<()> {
        if self.is_absent && current.is_some() {
            return Err(s3_error!(PreconditionFailed, "the object exists"));
        }
        match (&self.matches, current) {
            (None, _) | (Some(ETagCondition::Any), Some(_)) => Ok(()),
            (Some(_), None) => Err(s3_error!(NoSuchKey)),
            (Some(ETagCondition::ETag(etag)), Some(object)) if etag.strong_cmp(&object.etag) => {
                Ok(())
            }
            (Some(_), Some(_)) => Err(s3_error!(PreconditionFailed, "the object has another etag")),
        }
    }
}

impl Store {
    /// Opens with what `files` holds.
    pub(crate) fn open(budget: Arc<Budget>, files: Option<Files>) -> Result<Self, LoadError> {
        let mut buckets: BTreeMap<String, Bucket> = BTreeMap::new();
        if let Some(files) = &files {
            for bucket in files.buckets()? {
                let objects = files.objects(&bucket, &budget)?;
                let objects = objects
                    .into_iter()
                    .map(|(key, object)| (key, Arc::new(object)));
                let loaded = Bucket {
                    objects: objects.collect(),
                    ..Bucket::default()
                };
                buckets.insert(bucket, loaded);
            }
        }
        Ok(Self {
            budget,
            files,
            buckets: Mutex::new(buckets),
        })
    }

    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(crate) fn create_bucket(&self, bucket: &str) -> S3Result<()> {
        match self.buckets.lock().entry(bucket.to_owned()) {
            Entry::Occupied(_) => Err(s3_error!(BucketAlreadyOwnedByYou)),
            Entry::Vacant(vacant) => {
                if let Some(files) = &self.files {
                    files
                        .create_bucket(bucket)
                        .map_err(S3Error::internal_error)?;
                }
                vacant.insert(Bucket::default());
                Ok(())
            }
        }
    }

    pub(crate) fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        self.with(bucket, |_| Ok(()))
    }

    pub(crate) fn set_lifecycle(
        &self,
        bucket: &str,
        lifecycle: BucketLifecycleConfiguration,
    ) -> S3Result<()> {
        self.with(bucket, |bucket| {
            bucket.lifecycle = Some(lifecycle);
            Ok(())
        })
    }

    pub(crate) fn lifecycle(&self, bucket: &str) -> S3Result<BucketLifecycleConfiguration> {
        self.with(bucket, |bucket| {
            bucket
                .lifecycle
                .clone()
                .ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration))
        })
    }

    pub(crate) fn get(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.with(bucket, |bucket| {
            bucket
                .objects
                .get(key)
                .cloned()
                .ok_or_else(|| s3_error!(NoSuchKey))
        })
    }

    /// Checks a condition without holding anybody off.
    pub(crate) fn check(&self, bucket: &str, key: &str, condition: &Condition) -> S3Result<()> {
        self.with(bucket, |bucket| {
            condition.check(bucket.objects.get(key).map(Arc::as_ref))
        })
    }

    /// Stores the object if the condition holds, in one step.
    pub(crate) fn put(
        &self,
        bucket: &str,
        key: &str,
        object: Object,
        condition: &Condition,
    ) -> S3Result<()> {
        let staged = self.stage(bucket, key, &object)?;
        self.with(bucket, |bucket| bucket.put(key, object, condition, staged))
    }

    /// Deletes the object if there is one and the condition holds.
    pub(crate) fn delete(&self, bucket: &str, key: &str, condition: &Condition) -> S3Result<()> {
        self.with(bucket, |found| {
            condition.check(found.objects.get(key).map(Arc::as_ref))?;
            if let Some(files) = &self.files {
                files.delete(bucket, key).map_err(S3Error::internal_error)?;
            }
            found.objects.remove(key);
            Ok(())
        })
    }

    pub(crate) fn list(&self, bucket: &str, query: &Query) -> S3Result<Page> {
        self.with(bucket, |bucket| Ok(list::page(&bucket.objects, query)))
    }

    /// All objects of all buckets whose key starts with `prefix`, in order.
    pub(crate) fn summaries(&self, prefix: &str) -> Vec<ObjectSummary> {
        let buckets = self.buckets.lock();
        let objects = buckets.iter().flat_map(|(name, bucket)| {
            bucket
                .objects
                .iter()
                .map(move |(key, object)| (name, key, object))
        });
        objects
            .filter(|(_, key, _)| key.starts_with(prefix))
            .map(|(bucket, key, object)| ObjectSummary {
                bucket: bucket.clone(),
                key: key.clone(),
                size: object.body.len() as u64,
                etag: object.etag.value().to_owned(),
            })
            .collect()
    }

    /// Writes the file of an object before anybody is held off by a lock.
    fn stage(&self, bucket: &str, key: &str, object: &Object) -> S3Result<Option<Staged>> {
        let Some(files) = &self.files else {
            return Ok(None);
        };
        self.check_bucket(bucket)?;
        files
            .stage(bucket, key, object)
            .map(Some)
            .map_err(S3Error::internal_error)
    }

    fn with<T>(&self, bucket: &str, work: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut buckets = self.buckets.lock();
        work(
            buckets
                .get_mut(bucket)
                .ok_or_else(|| s3_error!(NoSuchBucket))?,
        )
    }
}

impl Bucket {
    fn put(
        &mut self,
        key: &str,
        object: Object,
        condition: &Condition,
        staged: Option<Staged>,
    ) -> S3Result<()> {
        condition.check(self.objects.get(key).map(Arc::as_ref))?;
        if let Some(staged) = staged {
            staged.publish().map_err(S3Error::internal_error)?;
        }
        self.objects.insert(key.to_owned(), Arc::new(object));
        Ok(())
    }
}
