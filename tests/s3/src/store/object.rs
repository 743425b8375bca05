//! One stored object and its checksums.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::crypto::{Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::{Checksum, ETag, Metadata, Timestamp};
use s3s::{S3Result, s3_error};

use crate::budget::Charge;

/// An object; it never changes, a PUT replaces it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    pub(crate) etag: ETag,
    /// Whole seconds since 1970, which is what the header `Last-Modified` can say.
    pub(crate) modified_s: u64,
    pub(crate) attributes: Attributes,
    /// The checksums that came with the PUT, all of them verified.
    pub(crate) checksum: Checksum,
    /// Given back when the object is gone.
    pub(crate) _charge: Charge,
}

/// What a client may attach to an object. Other headers of a PUT, such as `Cache-Control`, are dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: Option<Metadata>,
}

impl Object {
    /// An object as of now.
    pub(crate) fn new(
        body: Bytes,
        etag: ETag,
        attributes: Attributes,
        checksum: Checksum,
        charge: Charge,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let modified_s = now.map_or(0, |since| since.as_secs());
        Self {
            body,
            etag,
            modified_s,
            attributes,
            checksum,
            _charge: charge,
        }
    }

    pub(crate) fn modified(&self) -> Timestamp {
        Timestamp::from(UNIX_EPOCH + Duration::from_secs(self.modified_s))
    }
}

/// MD5, of which S3 makes etags.
pub(crate) fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::checksum(bytes)
}

/// The etag of an object that came in one PUT or part.
pub(crate) fn etag(bytes: &[u8]) -> ETag {
    ETag::Strong(hex(&md5(bytes)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds the checksums that followed the body as trailers.
pub(crate) fn add_trailers(checksum: &mut Checksum, trailers: &HeaderMap) {
    let text = |name| {
        trailers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let fill = |field: &mut Option<String>, name| *field = field.take().or_else(|| text(name));
    fill(&mut checksum.checksum_crc32, "x-amz-checksum-crc32");
    fill(&mut checksum.checksum_crc32c, "x-amz-checksum-crc32c");
    fill(&mut checksum.checksum_crc64nvme, "x-amz-checksum-crc64nvme");
    fill(&mut checksum.checksum_sha1, "x-amz-checksum-sha1");
    fill(&mut checksum.checksum_sha256, "x-amz-checksum-sha256");
}

/// Refuses a body that differs from any of the checksums that came with it.
pub(crate) fn verify(body: &[u8], given: &Checksum) -> S3Result<()> {
    let mut hasher = ChecksumHasher {
        crc32: given.checksum_crc32.as_ref().map(|_| Crc32::new()),
        crc32c: given.checksum_crc32c.as_ref().map(|_| Crc32c::new()),
        sha1: given.checksum_sha1.as_ref().map(|_| Sha1::new()),
        sha256: given.checksum_sha256.as_ref().map(|_| Sha256::new()),
        crc64nvme: given.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
    };
    hasher.update(body);
    let computed = Checksum {
        checksum_type: given.checksum_type.clone(),
        ..hasher.finalize()
    };
    if computed == *given {
        return Ok(());
    }
    Err(s3_error!(
        BadDigest,
        "the body has {computed:?}, but {given:?} came with it"
    ))
}
