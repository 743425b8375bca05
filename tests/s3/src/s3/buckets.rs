//! Operations on buckets.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Api;

pub(super) fn create_bucket(
    api: &Api,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let bucket = req.input.bucket;
    api.store.create_bucket(&bucket)?;
    Ok(S3Response::new(CreateBucketOutput {
        location: Some(format!("/{bucket}")),
    }))
}

pub(super) fn head_bucket(
    api: &Api,
    req: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    api.store.check_bucket(&req.input.bucket)?;
    let bucket_region = Some("us-east-1".to_owned());
    Ok(S3Response::new(HeadBucketOutput {
        bucket_region,
        ..HeadBucketOutput::default()
    }))
}

/// Answers no location, which is S3's name for us-east-1.
pub(super) fn get_bucket_location(
    api: &Api,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    api.store.check_bucket(&req.input.bucket)?;
    Ok(S3Response::new(GetBucketLocationOutput::default()))
}

/// Keeps the rules for whoever asks; the double never acts on them.
pub(super) fn put_bucket_lifecycle_configuration(
    api: &Api,
    req: S3Request<PutBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
    let input = req.input;
    let missing = || s3_error!(MalformedXML, "a lifecycle configuration is missing");
    let lifecycle = input.lifecycle_configuration.ok_or_else(missing)?;
    api.store.set_lifecycle(&input.bucket, lifecycle)?;
    Ok(S3Response::new(
        PutBucketLifecycleConfigurationOutput::default(),
    ))
}

pub(super) fn get_bucket_lifecycle_configuration(
    api: &Api,
    req: S3Request<GetBucketLifecycleConfigurationInput>,
) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
    let rules = Some(api.store.lifecycle(&req.input.bucket)?.rules);
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules,
        ..GetBucketLifecycleConfigurationOutput::default()
    }))
}
