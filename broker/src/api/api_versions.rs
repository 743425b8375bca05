//! ApiVersions (key 18): which APIs at which versions this broker serves.
//!
//! Versions 0–4. A version that we do not know is answered in version 0 with UNSUPPORTED_VERSION and the
//! list, so that the client can come down; the response header is always version 0 (KIP-511). Version 3 on
//! carries features (KIP-584).

use tidemill_metadata::{LevelRange, METADATA_VERSION, MetadataLog};
use tidemill_protocol::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use tidemill_protocol::{ApiKey, ErrorCode};

use super::SERVED;
use crate::broker::Broker;
use crate::server::context::RequestContext;

/// Lists the table of served APIs.
pub(crate) async fn handle(
    broker: &Broker,
    _context: &RequestContext,
    request: ApiVersionsRequest,
    version: i16,
) -> ApiVersionsResponse {
    if version >= 3 && !is_software_name(&request) {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..Default::default()
        };
    }
    let image = broker.metadata.image();
    let level = image.level().0 as i16;
    ApiVersionsResponse {
        api_keys: api_keys(),
        supported_features: vec![SupportedFeatureKey {
            name: METADATA_VERSION.into(),
            min_version: LevelRange::OURS.min.0 as i16,
            max_version: LevelRange::OURS.max.0 as i16,
            ..Default::default()
        }],
        finalized_features_epoch: image.index() as i64,
        finalized_features: vec![FinalizedFeatureKey {
            name: METADATA_VERSION.into(),
            max_version_level: level,
            min_version_level: level,
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The answer to a version that we do not know.
pub(super) fn unsupported() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: api_keys(),
        ..Default::default()
    }
}

fn api_keys() -> Vec<ApiVersion> {
    let row = |served: &super::Served| ApiVersion {
        api_key: served.key.0,
        // Older librdkafka stops compressing, silently, when Produce 0 is not there.
        min_version: if served.key == ApiKey::PRODUCE {
            0
        } else {
            served.min
        },
        max_version: served.max,
        ..Default::default()
    };
    SERVED.iter().map(row).collect()
}

/// Kafka's rule: letters, digits, `.` and `-`, beginning and ending with a letter or digit (KIP-511).
fn is_software_name(request: &ApiVersionsRequest) -> bool {
    let is_valid = |text: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    };
    is_valid(&request.client_software_name) && is_valid(&request.client_software_version)
}
