//! Hostile frames: no request, response or record layout panics when decoded, and what decodes can be
//! encoded and decoded again to the same.
//!
//! The first byte is an API key, the second a version, plus 128 for the response; the rest is the body.
//! The keys 200 and up are record layouts, which clients send and the log may have rotted. All other keys
//! take the whole input as a request's header. The seeds are written by the protocol's test `seeds`.
#![no_main]

use std::fmt::Debug;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_protocol::{
    DecodeProblem, Decoder, Encoder, Message, Request, RequestHeader, consumer_offsets,
    consumer_protocol_assignment, consumer_protocol_subscription, for_each_api,
};

macro_rules! dispatch {
    ($(($module:ident, $request:ident, $response:ident))*) => {
        fn api(key: u8, version: u8, body: Bytes) -> bool {
            $(
                if tidemill_protocol::$module::$request::KEY.0 == i16::from(key) {
                    let version = i16::from(version);
                    match version < 128 {
                        true => check::<tidemill_protocol::$module::$request>(version, body),
                        false => check::<tidemill_protocol::$module::$response>(version - 128, body),
                    }
                    return true;
                }
            )*
            false
        }
    };
}

for_each_api!(dispatch);

fuzz_target!(|input: &[u8]| {
    let [key, version, body @ ..] = input else {
        return;
    };
    let body = Bytes::copy_from_slice(body);
    let layout = i16::from(*version);
    match key {
        200 => check::<consumer_offsets::OffsetCommitKey>(layout, body),
        201 => check::<consumer_offsets::OffsetCommitValue>(layout, body),
        202 => check::<consumer_offsets::GroupMetadataKey>(layout, body),
        203 => check::<consumer_offsets::GroupMetadataValue>(layout, body),
        204 => check::<consumer_protocol_subscription::ConsumerProtocolSubscription>(layout, body),
        205 => check::<consumer_protocol_assignment::ConsumerProtocolAssignment>(layout, body),
        _ if api(*key, *version, body) => (),
        _ => check_header(Bytes::copy_from_slice(input)),
    }
});

fn check<M: Message + Debug>(version: i16, body: Bytes) {
    let size = body.len();
    let Ok(message) = M::decode_exact(body, version) else {
        return;
    };
    let bytes = message
        .encode_to_bytes(version)
        .expect("what was decoded can be encoded");
    match M::decode_exact(bytes.clone(), version) {
        // Compared as bytes, since NaN is no NaN's equal.
        Ok(again) => assert_eq!(again.encode_to_bytes(version).as_ref(), Ok(&bytes)),
        // Shorter bytes for the same message (defaults are left out of tags) have a smaller budget.
        Err(error) => assert!(error.problem == DecodeProblem::OverBudget && bytes.len() < size),
    }
}

fn check_header(frame: Bytes) {
    let mut decoder = Decoder::new(frame);
    let Ok(header) = RequestHeader::decode(&mut decoder) else {
        return;
    };
    let mut encoder = Encoder::new();
    header
        .encode(&mut encoder)
        .expect("what was decoded can be encoded");
    let again = RequestHeader::decode(&mut Decoder::new(encoder.into_bytes()));
    assert_eq!(again.as_ref(), Ok(&header));
}
