//! Multipart uploads.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Api;
use super::put::{collect, verified};
use crate::store::Condition;
use crate::store::object::Attributes;
use crate::store::uploads::{UploadName, WantedPart};

pub(super) fn create_multipart_upload(
    api: &Api,
    req: S3Request<CreateMultipartUploadInput>,
) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
    let input = req.input;
    let attributes = Attributes {
        content_type: input.content_type,
        metadata: input.metadata,
    };
    let id = api
        .store
        .create_upload(&input.bucket, &input.key, attributes)?;
    Ok(S3Response::new(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..CreateMultipartUploadOutput::default()
    }))
}

pub(super) async fn upload_part(
    api: &Api,
    req: S3Request<UploadPartInput>,
) -> S3Result<S3Response<UploadPartOutput>> {
    let input = req.input;
    if !(1..=10_000).contains(&input.part_number) {
        return Err(s3_error!(
            InvalidArgument,
            "a part's number is from 1 to 10000"
        ));
    }
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
    let name = UploadName {
        bucket: &input.bucket,
        key: &input.key,
        id: &input.upload_id,
    };
    let etag = api.store.put_part(&name, input.part_number, body)?;
    Ok(S3Response::new(UploadPartOutput {
        e_tag: Some(etag),
        checksum_crc32: checksum.checksum_crc32,
        checksum_crc32c: checksum.checksum_crc32c,
        checksum_crc64nvme: checksum.checksum_crc64nvme,
        checksum_sha1: checksum.checksum_sha1,
        checksum_sha256: checksum.checksum_sha256,
        ..UploadPartOutput::default()
    }))
}

/// Checks a CRC64NVME or CRC32 of the whole object where one is given; checksums of checksums, which S3
/// calls COMPOSITE, are not looked at.
pub(super) fn complete_multipart_upload(
    api: &Api,
    req: S3Request<CompleteMultipartUploadInput>,
) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
    let input = req.input;
    let condition = Condition::new(input.if_match, input.if_none_match)?;
    let parts = input
        .multipart_upload
        .and_then(|upload| upload.parts)
        .unwrap_or_default();
    let wanted: Vec<WantedPart> = parts
        .into_iter()
        .map(|part| WantedPart {
            number: part.part_number.unwrap_or(0),
            etag: part.e_tag,
        })
        .collect();
    let is_whole = input
        .checksum_type
        .as_ref()
        .is_none_or(|kind| kind.as_str() == ChecksumType::FULL_OBJECT);
    let whole = |given: Option<String>| given.filter(|_| is_whole);
    let checksum = Checksum {
        checksum_crc64nvme: whole(input.checksum_crc64nvme),
        checksum_crc32: whole(input.checksum_crc32),
        checksum_crc32c: whole(input.checksum_crc32c),
        ..Checksum::default()
    };
    let name = UploadName {
        bucket: &input.bucket,
        key: &input.key,
        id: &input.upload_id,
    };
    let etag = api
        .store
        .complete_upload(&name, &wanted, checksum, &condition)?;
    Ok(S3Response::new(CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag),
        ..CompleteMultipartUploadOutput::default()
    }))
}

pub(super) fn abort_multipart_upload(
    api: &Api,
    req: S3Request<AbortMultipartUploadInput>,
) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
    let input = req.input;
    let name = UploadName {
        bucket: &input.bucket,
        key: &input.key,
        id: &input.upload_id,
    };
    api.store.abort_upload(&name)?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}
