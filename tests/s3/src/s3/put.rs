//! PutObject and deletes, with the faults that are about whether and when a PUT takes effect.
//!
//! `Content-MD5` is not looked at; the `x-amz-checksum-*` headers and trailers are.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::Api;
use crate::fault::Fault;
use crate::store::Condition;
use crate::store::object::{Attributes, Object as Stored, add_trailers, etag, verify};

/// The whole body of a request, which the exchange holds in memory already; what is checked here is its
/// hash or the signatures of its chunks.
pub(super) async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else {
        return Ok(Bytes::new());
    };
    let refuse = |error| s3_error!(BadDigest, "the body is not what was signed: {error}");
    let Some(first) = body.try_next().await.map_err(refuse)? else {
        return Ok(Bytes::new());
    };
    let Some(second) = body.try_next().await.map_err(refuse)? else {
        return Ok(first);
    };
    let mut whole = BytesMut::from(first.as_ref());
    whole.extend_from_slice(&second);
    while let Some(chunk) = body.try_next().await.map_err(refuse)? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// Verifies the body by the checksums in headers and trailers, and gives them.
pub(super) fn verified(
    body: &[u8],
    mut checksum: Checksum,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Checksum> {
    if let Some(trailers) = trailers.and_then(TrailingHeaders::take) {
        add_trailers(&mut checksum, &trailers);
    }
    verify(body, &checksum)?;
    Ok(checksum)
}

pub(super) async fn put_object(
    api: &Api,
    req: S3Request<PutObjectInput>,
) -> S3Result<S3Response<PutObjectOutput>> {
    let fault = super::fault(&req.extensions);
    let input = req.input;
    let condition = Condition::new(input.if_match, input.if_none_match)?;
    let body = collect(input.body).await?;
    let given = Checksum {
        checksum_crc32: input.checksum_crc32,
        checksum_crc32c: input.checksum_crc32c,
        checksum_crc64nvme: input.checksum_crc64nvme,
        checksum_sha1: input.checksum_sha1,
        checksum_sha256: input.checksum_sha256,
        checksum_type: None,
    };
    let checksum = verified(&body, given, req.trailing_headers.as_ref())?;
    let output = PutObjectOutput {
        e_tag: Some(etag(&body)),
        checksum_crc32: checksum.checksum_crc32.clone(),
        checksum_crc32c: checksum.checksum_crc32c.clone(),
        checksum_crc64nvme: checksum.checksum_crc64nvme.clone(),
        checksum_sha1: checksum.checksum_sha1.clone(),
        checksum_sha256: checksum.checksum_sha256.clone(),
        ..PutObjectOutput::default()
    };
    let charge = api.store.budget().charge(body.len() as u64)?;
    let attributes = Attributes {
        content_type: input.content_type,
        metadata: input.metadata,
    };
    let object = Stored::new(body.clone(), etag(&body), attributes, checksum, charge);
    let write = Write {
        bucket: input.bucket,
        key: input.key,
        object,
        condition,
    };
    write.apply(api, fault).await?;
    Ok(S3Response::new(output))
}

/// A PUT that may still take effect in several ways.
struct Write {
    bucket: String,
    key: String,
    object: Stored,
    condition: Condition,
}

impl Write {
    async fn apply(self, api: &Api, fault: Option<&Fault>) -> S3Result<()> {
        let Self {
            bucket,
            key,
            object,
            condition,
        } = self;
        let store = Arc::clone(&api.store);
        match fault {
            Some(Fault::LostPut) => store.check(&bucket, &key, &condition),
            Some(Fault::LatePut { delay_ms, .. }) => {
                store.check_bucket(&bucket)?;
                let delay = Duration::from_millis(*delay_ms);
                api.tasks.spawn(async move {
                    tokio::time::sleep(delay).await;
                    // Nobody is left who could be told of a condition that does not hold.
                    drop(store.put(&bucket, &key, object, &condition));
                });
                Ok(())
            }
            Some(Fault::NonAtomicConditionalPut { pause_ms }) => {
                store.check(&bucket, &key, &condition)?;
                tokio::time::sleep(Duration::from_millis(*pause_ms)).await;
                store.put(&bucket, &key, object, &Condition::default())
            }
            _ => store.put(&bucket, &key, object, &condition),
        }
    }
}

/// Succeeds for an object that is not there, unless a condition says otherwise.
pub(super) fn delete_object(
    api: &Api,
    req: S3Request<DeleteObjectInput>,
) -> S3Result<S3Response<DeleteObjectOutput>> {
    let input = req.input;
    let condition = Condition::new(input.if_match, None)?;
    api.store.delete(&input.bucket, &input.key, &condition)?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

/// Deletes up to 1,000 objects, each of them for itself.
pub(super) fn delete_objects(
    api: &Api,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<S3Response<DeleteObjectsOutput>> {
    let DeleteObjectsInput { bucket, delete, .. } = req.input;
    if delete.objects.len() > 1_000 {
        return Err(s3_error!(
            MalformedXML,
            "at most 1000 objects are deleted at once"
        ));
    }
    api.store.check_bucket(&bucket)?;
    let mut deleted = Vec::new();
    let mut errors = Vec::new();
    for object in delete.objects {
        let condition = Condition::new(object.e_tag.map(ETagCondition::ETag), None)?;
        let key = Some(object.key.clone());
        match api.store.delete(&bucket, &object.key, &condition) {
            Ok(()) => deleted.push(DeletedObject {
                key,
                ..DeletedObject::default()
            }),
            Err(error) => errors.push(Error {
                key,
                code: Some(error.code().as_str().to_owned()),
                message: error.message().map(str::to_owned),
                ..Error::default()
            }),
        }
    }
    let is_quiet = delete.quiet.unwrap_or(false);
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: (!is_quiet).then_some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}
