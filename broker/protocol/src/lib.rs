//! The Kafka wire protocol: requests, responses and record layouts in all their versions.
//!
//! The messages are generated from `schema/`, one file for each API, into one module for each API:
//! [`fetch::FetchRequest`], [`fetch::FetchResponse`] and so on. A further API is one more schema file.
//! Names are those of Kafka's own message definitions.
//!
//! Decoding ([`Decoder`]) copies nothing and allocates in proportion to the bytes that came. Encoding
//! ([`Encoder`]) gives a chain of chunks in which large payloads are shared, not copied.

#![warn(missing_docs)]

mod api_key;
mod decoder;
mod encoder;
mod error_code;
#[cfg(test)]
mod everything;
mod header;
mod message;
mod records;
mod text;

pub use api_key::ApiKey;
pub use decoder::{DecodeError, DecodeProblem, Decoder, MEMORY_FREE, MEMORY_PER_BYTE};
pub use encoder::{EncodeError, Encoder, Frame};
pub use error_code::ErrorCode;
pub use header::{RequestHeader, ResponseHeader, request_header_version, response_header_version};
pub use message::{
    ApiInfo, Message, Request, decode_response, decode_versioned, encode_prefixed, encode_request,
    encode_response, encode_versioned, split_prefix,
};
pub use records::Records;
pub use text::Str;

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
