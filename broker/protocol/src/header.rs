//! What goes before the body of requests and responses.
//!
//! Request headers have version 2 where the request is flexible and 1 elsewhere; response headers 1
//! and 0. Two exceptions: the client id never is compact, and the answer to ApiVersions always has
//! header version 0, since the client does not know yet what the broker speaks (KIP-511).

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::decoder::{DecodeError, DecodeProblem, Decoder};
use crate::encoder::{EncodeError, Encoder};
use crate::text::Str;
use crate::{api_info, message::ApiInfo};

/// The header's version in requests of a key; `None` for a key without a schema.
///
/// The request's version need not be a supported one: later versions than the latest are flexible if
/// that is, so that the header of an ApiVersions request from the future can be read.
pub fn request_header_version(key: ApiKey, version: i16) -> Option<i16> {
    api_info(key).map(|api| if is_flexible(api, version) { 2 } else { 1 })
}

/// The header's version in responses of a key; `None` for a key without a schema.
pub fn response_header_version(key: ApiKey, version: i16) -> Option<i16> {
    let flexible = |api| key != ApiKey::API_VERSIONS && is_flexible(api, version);
    api_info(key).map(|api| i16::from(flexible(api)))
}

fn is_flexible(api: &ApiInfo, version: i16) -> bool {
    api.flexible_from.is_some_and(|from| version >= from)
}

/// Header of a request, versions 1 and 2.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestHeader {
    /// What is asked for.
    pub request_api_key: ApiKey,
    /// The version of the body, not checked to be a supported one.
    pub request_api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
    /// Tagged fields, none of which are known.
    pub unknown_tagged_fields: Vec<(u32, Bytes)>,
}

impl RequestHeader {
    /// A header without tagged fields.
    pub fn new(
        request_api_key: ApiKey,
        request_api_version: i16,
        correlation_id: i32,
        client_id: Option<Str>,
    ) -> RequestHeader {
        RequestHeader {
            request_api_key,
            request_api_version,
            correlation_id,
            client_id,
            unknown_tagged_fields: Vec::new(),
        }
    }

    /// Reads the header at the start of a frame. An unsupported version of a known key is no error
    /// here, so that it can be answered.
    pub fn decode(decoder: &mut Decoder) -> Result<RequestHeader, DecodeError> {
        let request_api_key = ApiKey(decoder.i16()?);
        let request_api_version = decoder.i16()?;
        let Some(version) = request_header_version(request_api_key, request_api_version) else {
            return Err(decoder.error(DecodeProblem::UnknownApiKey(request_api_key.0)));
        };
        Ok(RequestHeader {
            request_api_key,
            request_api_version,
            correlation_id: decoder.i32()?,
            client_id: decoder.nullable_string(false)?,
            unknown_tagged_fields: decoder.unknown_tagged_fields(version >= 2)?,
        })
    }

    /// Writes the header; a key without a schema gets version 1.
    pub fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        encoder.i16(self.request_api_key.0);
        encoder.i16(self.request_api_version);
        encoder.i32(self.correlation_id);
        encoder.nullable_string(false, self.client_id.as_ref())?;
        let version = request_header_version(self.request_api_key, self.request_api_version);
        if version == Some(2) {
            encoder
                .tagged_fields(0, &self.unknown_tagged_fields)?
                .finish()?;
        }
        Ok(())
    }
}

/// Header of a response, versions 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponseHeader {
    /// That of the request.
    pub correlation_id: i32,
    /// Tagged fields, none of which are known.
    pub unknown_tagged_fields: Vec<(u32, Bytes)>,
}

impl ResponseHeader {
    /// A header without tagged fields.
    pub fn new(correlation_id: i32) -> ResponseHeader {
        ResponseHeader {
            correlation_id,
            unknown_tagged_fields: Vec::new(),
        }
    }

    /// Reads the header of the answer to a request of this key and version.
    pub fn decode(
        decoder: &mut Decoder,
        key: ApiKey,
        version: i16,
    ) -> Result<ResponseHeader, DecodeError> {
        let Some(version) = response_header_version(key, version) else {
            return Err(decoder.error(DecodeProblem::UnknownApiKey(key.0)));
        };
        Ok(ResponseHeader {
            correlation_id: decoder.i32()?,
            unknown_tagged_fields: decoder.unknown_tagged_fields(version >= 1)?,
        })
    }

    /// Writes the header of the answer to a request of this key and version.
    pub fn encode(
        &self,
        encoder: &mut Encoder,
        key: ApiKey,
        version: i16,
    ) -> Result<(), EncodeError> {
        encoder.i32(self.correlation_id);
        if response_header_version(key, version) == Some(1) {
            encoder
                .tagged_fields(0, &self.unknown_tagged_fields)?
                .finish()?;
        }
        Ok(())
    }
}
