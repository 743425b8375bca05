//! Objects as files, so that they survive a restart of the double.
//!
//! `<dir>/<bucket>/<md5 of the key>` holds a line of JSON and then the body. A file is written under
//! another name and renamed, so a killed double leaves whole objects only. Nothing is synced: this is
//! not a store to lose power with, and its calls block the thread that makes them. Uploads and lifecycle
//! rules are in memory alone.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use s3s::S3Error;
use s3s::dto::{Checksum, ETag, Metadata};
use serde::{Deserialize, Serialize};

use super::object::{Attributes, Object, hex, md5};
use crate::budget::Budget;

/// Files that are not yet objects are here; a bucket cannot have this name.
const STAGING: &str = "_staging";

/// The directory.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    staged: AtomicU64,
}

/// A written file that is not yet an object; dropping it deletes it.
#[derive(Debug)]
pub(crate) struct Staged {
    from: PathBuf,
    to: PathBuf,
}

/// Why a directory cannot be opened.
#[derive(Debug)]
pub enum LoadError {
    /// The file system refused.
    Io(PathBuf, io::Error),
    /// A file is not an object.
    NotAnObject(PathBuf, Option<serde_json::Error>),
    /// The objects do not fit into `Settings::memory_bytes_max`.
    TooLarge(S3Error),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "cannot use {}: {error}", path.display()),
            Self::NotAnObject(path, None) => {
                write!(
                    f,
                    "{} has no line with an object's head: delete it",
                    path.display()
                )
            }
            Self::NotAnObject(path, Some(error)) => {
                write!(
                    f,
                    "{} has no object's head ({error}): delete it",
                    path.display()
                )
            }
            Self::TooLarge(error) => write!(f, "{}", error.message().unwrap_or("too large")),
        }
    }
}

impl std::error::Error for LoadError {}

/// The line before the body.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    key: String,
    etag: String,
    modified_s: u64,
    content_type: Option<String>,
    metadata: Option<Metadata>,
    crc32: Option<String>,
    crc32c: Option<String>,
    crc64nvme: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
}

impl Files {
    /// Uses `dir`, which is created where it is missing.
    pub(crate) fn open(dir: &Path) -> Result<Self, LoadError> {
        let staging = dir.join(STAGING);
        let prepare = || {
            fs::create_dir_all(&staging)?;
            fs::remove_dir_all(&staging)?;
            fs::create_dir(&staging)
        };
        prepare().map_err(|error| LoadError::Io(staging.clone(), error))?;
        Ok(Self {
            dir: dir.to_owned(),
            staged: AtomicU64::new(0),
        })
    }

    pub(super) fn create_bucket(&self, bucket: &str) -> io::Result<()> {
        fs::create_dir(self.dir.join(bucket))
    }

    /// The names of all buckets.
    pub(super) fn buckets(&self) -> Result<Vec<String>, LoadError> {
        let names = names(&self.dir)?;
        Ok(names.into_iter().filter(|name| name != STAGING).collect())
    }

    /// All objects of a bucket.
    pub(super) fn objects(
        &self,
        bucket: &str,
        budget: &Arc<Budget>,
    ) -> Result<Vec<(String, Object)>, LoadError> {
        let dir = self.dir.join(bucket);
        names(&dir)?
            .into_iter()
            .map(|name| load(dir.join(name), budget))
            .collect()
    }

    /// Writes the file of an object that may still be refused.
    pub(super) fn stage(&self, bucket: &str, key: &str, object: &Object) -> io::Result<Staged> {
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let from = self.dir.join(STAGING).join(number.to_string());
        let staged = Staged {
            from,
            to: self.path(bucket, key),
        };
        let mut file = fs::File::create(&staged.from)?;
        serde_json::to_writer(&mut file, &head(key, object))?;
        file.write_all(b"\n")?;
        file.write_all(&object.body)?;
        Ok(staged)
    }

    pub(super) fn delete(&self, bucket: &str, key: &str) -> io::Result<()> {
        match fs::remove_file(self.path(bucket, key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.dir.join(bucket).join(hex(&md5(key.as_bytes())))
    }
}

impl Staged {
    /// Makes the file the object.
    pub(super) fn publish(self) -> io::Result<()> {
        fs::rename(&self.from, &self.to)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After `publish` there is nothing under this name; a file that stays is deleted at the start.
        drop(fs::remove_file(&self.from));
    }
}

fn names(dir: &Path) -> Result<Vec<String>, LoadError> {
    let names = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(dir)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    names().map_err(|error| LoadError::Io(dir.to_owned(), error))
}

fn load(path: PathBuf, budget: &Arc<Budget>) -> Result<(String, Object), LoadError> {
    let bytes = match fs::read(&path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) => return Err(LoadError::Io(path, error)),
    };
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return Err(LoadError::NotAnObject(path, None));
    };
    let head: Head = match serde_json::from_slice(&bytes[..end]) {
        Ok(head) => head,
        Err(error) => return Err(LoadError::NotAnObject(path, Some(error))),
    };
    let body = bytes.slice(end + 1..);
    let charge = budget
        .charge(body.len() as u64)
        .map_err(LoadError::TooLarge)?;
    let checksum = Checksum {
        checksum_crc32: head.crc32,
        checksum_crc32c: head.crc32c,
        checksum_crc64nvme: head.crc64nvme,
        checksum_sha1: head.sha1,
        checksum_sha256: head.sha256,
        ..Checksum::default()
    };
    let object = Object {
        body,
        etag: ETag::Strong(head.etag),
        modified_s: head.modified_s,
        attributes: Attributes {
            content_type: head.content_type,
            metadata: head.metadata,
        },
        checksum,
        _charge: charge,
    };
    Ok((head.key, object))
}

fn head(key: &str, object: &Object) -> Head {
    let checksum = object.checksum.clone();
    Head {
        key: key.to_owned(),
        etag: object.etag.value().to_owned(),
        modified_s: object.modified_s,
        content_type: object.attributes.content_type.clone(),
        metadata: object.attributes.metadata.clone(),
        crc32: checksum.checksum_crc32,
        crc32c: checksum.checksum_crc32c,
        crc64nvme: checksum.checksum_crc64nvme,
        sha1: checksum.checksum_sha1,
        sha256: checksum.checksum_sha256,
    }
}
