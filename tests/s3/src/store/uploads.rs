//! Multipart uploads: parts wait here until they become an object.
//!
//! Simpler than S3 in two ways: parts may be of any size, and an upload that was completed is unknown
//! afterwards, where S3 repeats its answer for a while.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use s3s::dto::{Checksum, ETag};
use s3s::{S3Result, s3_error};

use super::object::{Attributes, Object, hex, md5, verify};
use super::{Condition, Store};
use crate::budget::Charge;

/// So many uploads may be open in a bucket.
const UPLOADS_MAX: usize = 1_000;

/// The open uploads of one bucket.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: BTreeMap<String, Upload>,
    created: u64,
}

#[derive(Debug)]
struct Upload {
    key: String,
    attributes: Attributes,
    parts: BTreeMap<i32, Part>,
}

#[derive(Debug)]
struct Part {
    body: Bytes,
    md5: [u8; 16],
    /// Given back when the part is replaced or its upload ends.
    _charge: Charge,
}

/// Which upload is meant.
#[derive(Debug)]
pub(crate) struct UploadName<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    pub(crate) id: &'a str,
}

/// A part that a client wants in its object.
#[derive(Debug)]
pub(crate) struct WantedPart {
    pub(crate) number: i32,
    pub(crate) etag: Option<ETag>,
}

impl Uploads {
    fn get(&mut self, name: &UploadName<'_>) -> S3Result<&mut Upload> {
        let upload = self
            .open
            .get_mut(name.id)
            .filter(|upload| upload.key == name.key);
        upload.ok_or_else(|| s3_error!(NoSuchUpload))
    }
}

impl Upload {
    /// The parts in order, if the client names them in order and by their etags.
    fn select(&self, wanted: &[WantedPart]) -> S3Result<Vec<(Bytes, [u8; 16])>> {
        if wanted.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "an upload is completed with at least one part"
            ));
        }
        if !wanted.is_sorted_by(|left, right| left.number < right.number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let select = |wanted: &WantedPart| {
            let part = self.parts.get(&wanted.number)?;
            let is_same = wanted
                .etag
                .as_ref()
                .is_some_and(|etag| etag.value() == hex(&part.md5));
            is_same.then(|| (part.body.clone(), part.md5))
        };
        let parts: Option<Vec<_>> = wanted.iter().map(select).collect();
        parts.ok_or_else(|| s3_error!(InvalidPart))
    }
}

impl Store {
    /// Opens an upload and gives its id.
    pub(crate) fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
    ) -> S3Result<String> {
        self.with(bucket, |bucket| {
            let uploads = &mut bucket.uploads;
            if uploads.open.len() == UPLOADS_MAX {
                let message = "the double keeps at most 1000 open uploads a bucket: abort some";
                return Err(s3_error!(InvalidRequest, "{message}"));
            }
            uploads.created += 1;
            let id = format!("upload-{}", uploads.created);
            let upload = Upload {
                key: key.to_owned(),
                attributes,
                parts: BTreeMap::new(),
            };
            uploads.open.insert(id.clone(), upload);
            Ok(id)
        })
    }

    /// Keeps one part, in place of an earlier one with its number.
    pub(crate) fn put_part(
        &self,
        name: &UploadName<'_>,
        number: i32,
        body: Bytes,
    ) -> S3Result<ETag> {
        let md5 = md5(&body);
        let charge = self.budget.charge(body.len() as u64)?;
        self.with(name.bucket, |bucket| {
            let upload = bucket.uploads.get(name)?;
            upload.parts.insert(
                number,
                Part {
                    body,
                    md5,
                    _charge: charge,
                },
            );
            Ok(ETag::Strong(hex(&md5)))
        })
    }

    /// Makes the object of the parts, if the condition holds, in one step.
    pub(crate) fn complete_upload(
        &self,
        name: &UploadName<'_>,
        wanted: &[WantedPart],
        checksum: Checksum,
        condition: &Condition,
    ) -> S3Result<ETag> {
        let (parts, attributes) = self.with(name.bucket, |bucket| {
            let upload = bucket.uploads.get(name)?;
            Ok((upload.select(wanted)?, upload.attributes.clone()))
        })?;
        let size: usize = parts.iter().map(|(body, _)| body.len()).sum();
        let charge = self.budget.charge(size as u64)?;
        let mut body = BytesMut::with_capacity(size);
        let mut digests = Vec::with_capacity(parts.len() * 16);
        for (part, md5) in &parts {
            body.extend_from_slice(part);
            digests.extend_from_slice(md5);
        }
        verify(&body, &checksum)?;
        let etag = ETag::Strong(format!("{}-{}", hex(&md5(&digests)), parts.len()));
        let object = Object::new(body.freeze(), etag.clone(), attributes, checksum, charge);
        let staged = self.stage(name.bucket, name.key, &object)?;
        self.with(name.bucket, |bucket| {
            // Another request may have ended the upload since its parts were read.
            bucket.uploads.get(name)?;
            bucket.put(name.key, object, condition, staged)?;
            bucket.uploads.open.remove(name.id);
            Ok(())
        })?;
        Ok(etag)
    }

    /// Forgets an upload and its parts.
    pub(crate) fn abort_upload(&self, name: &UploadName<'_>) -> S3Result<()> {
        self.with(name.bucket, |bucket| {
            bucket.uploads.get(name)?;
            bucket.uploads.open.remove(name.id);
            Ok(())
        })
    }
}
