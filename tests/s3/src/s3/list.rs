//! ListObjectsV2.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::Api;
use crate::store::list::{Item, Query};

/// S3 gives no more a page, whatever is asked for.
const ITEMS_MAX: usize = 1_000;

pub(super) fn list_objects_v2(
    api: &Api,
    req: S3Request<ListObjectsV2Input>,
) -> S3Result<S3Response<ListObjectsV2Output>> {
    let input = req.input;
    let refuse = |_| s3_error!(InvalidArgument, "max-keys is negative");
    let asked = input
        .max_keys
        .map(usize::try_from)
        .transpose()
        .map_err(refuse)?;
    let query = Query {
        prefix: input.prefix.clone().unwrap_or_default(),
        delimiter: input
            .delimiter
            .clone()
            .filter(|delimiter| !delimiter.is_empty()),
        start_after: input.start_after.clone().unwrap_or_default(),
        token: input.continuation_token.clone().unwrap_or_default(),
        items_max: asked.unwrap_or(ITEMS_MAX).min(ITEMS_MAX),
    };
    let page = api.store.list(&input.bucket, &query)?;
    let last = page.items.last().map(|item| item.name().to_owned());
    let mut contents = Vec::new();
    let mut common_prefixes = Vec::new();
    for item in page.items {
        match item {
            Item::Object(key, stored) => contents.push(Object {
                key: Some(key),
                size: Some(stored.body.len() as i64),
                e_tag: Some(stored.etag.clone()),
                last_modified: Some(stored.modified()),
                ..Object::default()
            }),
            Item::CommonPrefix(prefix) => {
                common_prefixes.push(CommonPrefix {
                    prefix: Some(prefix),
                });
            }
        }
    }
    Ok(S3Response::new(ListObjectsV2Output {
        key_count: Some((contents.len() + common_prefixes.len()) as i32),
        max_keys: Some(query.items_max as i32),
        is_truncated: Some(page.is_truncated),
        next_continuation_token: last.filter(|_| page.is_truncated),
        contents: Some(contents),
        common_prefixes: Some(common_prefixes),
        name: Some(input.bucket),
        prefix: input.prefix,
        delimiter: input.delimiter,
        start_after: input.start_after,
        continuation_token: input.continuation_token,
        ..ListObjectsV2Output::default()
    }))
}
