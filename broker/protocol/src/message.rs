//! What all messages have in common.

use bytes::Bytes;

use crate::api_key::ApiKey;
use crate::decoder::{DecodeError, DecodeProblem, Decoder};
use crate::encoder::{EncodeError, Encoder, Frame};
use crate::header::{RequestHeader, ResponseHeader};
use crate::text::Str;

/// A request, a response or a record layout.
///
/// One Rust type stands for all versions. A field that a version lacks decodes to Kafka's default for
/// it; set to anything else it is dropped when encoding if it is ignorable, else refused.
pub trait Message: Sized {
    /// The name in Kafka's own definitions.
    const NAME: &'static str;
    /// The lowest version that can be read and written.
    const MIN_VERSION: i16;
    /// The highest version that can be read and written.
    const MAX_VERSION: i16;
    /// The first version with compact lengths and tagged fields (KIP-482).
    const FLEXIBLE_FROM: Option<i16>;

    /// Reads the message and leaves the decoder behind it.
    fn decode(decoder: &mut Decoder, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message.
    fn encode(&self, encoder: &mut Encoder, version: i16) -> Result<(), EncodeError>;

    /// Whether a version has compact lengths and tagged fields.
    fn is_flexible(version: i16) -> bool {
        Self::FLEXIBLE_FROM.is_some_and(|from| version >= from)
    }

    /// Reads a message that takes all of `bytes`.
    fn decode_exact(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut decoder = Decoder::new(bytes);
        let message = Self::decode(&mut decoder, version)?;
        decoder.finish()?;
        Ok(message)
    }

    /// Writes the message alone, without a header or a length.
    fn encode_to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut encoder = Encoder::new();
        self.encode(&mut encoder, version)?;
        Ok(encoder.into_bytes())
    }
}

/// A request, which knows its API.
pub trait Request: Message {
    /// The API's key.
    const KEY: ApiKey;
    /// What it is answered with.
    type Response: Message;
}

/// A row of [`APIS`](crate::APIS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiInfo {
    /// The API's key.
    pub key: ApiKey,
    /// The API's name.
    pub name: &'static str,
    /// The lowest version with a schema.
    pub min_version: i16,
    /// The highest version with a schema.
    pub max_version: i16,
    /// The first flexible version.
    pub flexible_from: Option<i16>,
}

/// A whole request frame: length, header, body.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<Str>,
    version: i16,
    request: &R,
) -> Result<Frame, EncodeError> {
    let mut encoder = Encoder::new();
    RequestHeader::new(R::KEY, version, correlation_id, client_id).encode(&mut encoder)?;
    request.encode(&mut encoder, version)?;
    encoder.finish()
}

/// A whole response frame: length, header, body.
pub fn encode_response<R: Request>(
    correlation_id: i32,
    version: i16,
    response: &R::Response,
) -> Result<Frame, EncodeError> {
    let mut encoder = Encoder::new();
    ResponseHeader::new(correlation_id).encode(&mut encoder, R::KEY, version)?;
    response.encode(&mut encoder, version)?;
    encoder.finish()
}

/// Reads a response frame without its length: header, body, and nothing after it.
pub fn decode_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(ResponseHeader, R::Response), DecodeError> {
    let mut decoder = Decoder::new(frame);
    let header = ResponseHeader::decode(&mut decoder, R::KEY, version)?;
    let response = R::Response::decode(&mut decoder, version)?;
    decoder.finish()?;
    Ok((header, response))
}

/// Writes a record layout behind the 16-bit version that tells how to read it.
pub fn encode_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    encode_prefixed(version, message, version)
}

/// Writes a record layout behind a 16-bit number that is not its version. Keys of `__consumer_offsets`
/// are such: there the number tells which kind of record it is.
pub fn encode_prefixed<M: Message>(
    prefix: i16,
    message: &M,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut encoder = Encoder::new();
    encoder.i16(prefix);
    message.encode(&mut encoder, version)?;
    Ok(encoder.into_bytes())
}

/// Splits off the 16-bit number in front; [`Message::decode_exact`] reads the rest.
pub fn split_prefix(bytes: Bytes) -> Result<(i16, Bytes), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let prefix = decoder.i16()?;
    Ok((prefix, decoder.into_remaining()))
}

/// Reads a record layout behind its 16-bit version.
pub fn decode_versioned<M: Message>(bytes: Bytes) -> Result<(i16, M), DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let version = decoder.i16()?;
    let message = M::decode(&mut decoder, version)?;
    decoder.finish()?;
    Ok((version, message))
}

pub(crate) fn check_decodable<M: Message>(version: i16) -> Result<(), DecodeError> {
    if (M::MIN_VERSION..=M::MAX_VERSION).contains(&version) {
        return Ok(());
    }
    let problem = DecodeProblem::UnsupportedVersion {
        message: M::NAME,
        version,
    };
    Err(DecodeError { at: 0, problem })
}

pub(crate) fn check_encodable<M: Message>(version: i16) -> Result<(), EncodeError> {
    if (M::MIN_VERSION..=M::MAX_VERSION).contains(&version) {
        return Ok(());
    }
    Err(EncodeError::UnsupportedVersion {
        message: M::NAME,
        version,
    })
}
