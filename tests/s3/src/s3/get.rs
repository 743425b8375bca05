//! GetObject and HeadObject: ranges and conditions of reads.

use std::ops;

use s3s::dto::*;
use s3s::{Body, S3Request, S3Response, S3Result, s3_error};

use super::Api;
use crate::fault::Fault;
use crate::store::object::Object as Stored;

/// RFC 9110, section 13.2.2, gives the order in which the four are looked at.
struct Conditions {
    if_match: Option<ETagCondition>,
    if_unmodified_since: Option<Timestamp>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
}

impl Conditions {
    fn check(&self, object: &Stored) -> S3Result<()> {
        let is_stale = match (&self.if_match, &self.if_unmodified_since) {
            (Some(ETagCondition::ETag(etag)), _) => !etag.strong_cmp(&object.etag),
            (Some(ETagCondition::Any), _) | (None, None) => false,
            (None, Some(time)) => object.modified() > *time,
        };
        if is_stale {
            return Err(s3_error!(PreconditionFailed));
        }
        let is_known = match (&self.if_none_match, &self.if_modified_since) {
            (Some(ETagCondition::ETag(etag)), _) => etag.weak_cmp(&object.etag),
            (Some(ETagCondition::Any), _) => true,
            (None, Some(time)) => object.modified() <= *time,
            (None, None) => false,
        };
        if is_known {
            Err(s3_error!(NotModified))
        } else {
            Ok(())
        }
    }
}

/// The bytes that a request is answered with.
fn select(object: &Stored, range: Option<Range>) -> S3Result<ops::Range<u64>> {
    let size = object.body.len() as u64;
    let Some(range) = range else {
        return Ok(0..size);
    };
    let selected = range.check(size)?;
    if selected.is_empty() {
        return Err(s3_error!(InvalidRange, "the object is empty"));
    }
    Ok(selected)
}

fn content_range(selected: &ops::Range<u64>, object: &Stored) -> String {
    format!(
        "bytes {}-{}/{}",
        selected.start,
        selected.end - 1,
        object.body.len()
    )
}

/// What S3 tells of checksums: those of a whole object, to those who ask.
fn checksum(object: &Stored, mode: Option<ChecksumMode>, is_whole: bool) -> Checksum {
    let is_wanted = mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
    if is_wanted && is_whole {
        object.checksum.clone()
    } else {
        Checksum::default()
    }
}

pub(super) fn get_object(
    api: &Api,
    req: S3Request<GetObjectInput>,
) -> S3Result<S3Response<GetObjectOutput>> {
    let fault = super::fault(&req.extensions);
    let input = req.input;
    let object = api.store.get(&input.bucket, &input.key)?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_unmodified_since: input.if_unmodified_since,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
    };
    conditions.check(&object)?;
    let mut selected = select(&object, input.range)?;
    let mut is_partial = input.range.is_some();
    if let Some(Fault::ShortBody { missing_bytes }) = fault
        && selected.end > selected.start + 1
    {
        selected.end = selected
            .end
            .saturating_sub(missing_bytes.get())
            .max(selected.start + 1);
        is_partial = true;
    }
    let body = object
        .body
        .slice(selected.start as usize..selected.end as usize);
    let checksum = checksum(&object, input.checksum_mode, !is_partial);
    Ok(S3Response::new(GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some(body.len() as i64),
        body: Some(StreamingBlob::from(Body::from(body))),
        content_range: is_partial.then(|| content_range(&selected, &object)),
        content_type: object.attributes.content_type.clone(),
        metadata: object.attributes.metadata.clone(),
        e_tag: Some(object.etag.clone()),
        last_modified: Some(object.modified()),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..GetObjectOutput::default()
    }))
}

pub(super) fn head_object(
    api: &Api,
    req: S3Request<HeadObjectInput>,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let input = req.input;
    let object = api.store.get(&input.bucket, &input.key)?;
    let conditions = Conditions {
        if_match: input.if_match,
        if_unmodified_since: input.if_unmodified_since,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
    };
    conditions.check(&object)?;
    let selected = select(&object, input.range)?;
    let checksum = checksum(&object, input.checksum_mode, input.range.is_none());
    let output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: Some((selected.end - selected.start) as i64),
        content_range: input.range.map(|_| content_range(&selected, &object)),
        content_type: object.attributes.content_type.clone(),
        metadata: object.attributes.metadata.clone(),
        e_tag: Some(object.etag.clone()),
        last_modified: Some(object.modified()),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..HeadObjectOutput::default()
    };
    Ok(S3Response::new(output))
}
