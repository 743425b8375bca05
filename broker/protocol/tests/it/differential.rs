//! Every API at every version that `kafka-protocol` knows: it decodes what we encode to the same
//! fields, and encodes that to the same bytes; so we decode what it encodes, too.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use kafka_protocol::protocol::{Decodable, Encodable};
use tidemill_protocol::{Message, Request, RequestHeader, ResponseHeader, for_each_api};

use crate::arbitrary::{Arbitrary, Gen, versions_and_seeds};
use crate::debug_tree::assert_same;

/// Fields of versions that came after Kafka 4.1, which is what `kafka-protocol` 0.18 knows.
const NEWER_FIELDS: [(&str, &str); 3] = [
    ("DeleteGroupsResponse", "error_message"),
    ("DescribeLogDirsResponse", "is_cordoned"),
    ("WriteTxnMarkersRequest", "transaction_version"),
];

/// Versions that `kafka-protocol` 0.18 lists for the API but whose messages it refuses to read.
const UNREADABLE: [(&str, i16); 4] = [
    ("OffsetCommitRequest", 10),
    ("OffsetCommitResponse", 10),
    ("OffsetFetchRequest", 10),
    ("OffsetFetchResponse", 10),
];

fn agree<R>()
where
    R: Request<Response: Arbitrary + Debug> + Arbitrary + Debug,
{
    let key = ApiKey::try_from(R::KEY.0).expect("kafka-protocol knows all of Kafka 4.1's keys");
    agree_on::<R>(key, |mut bytes, version, message, context| {
        let theirs = RequestKind::decode(key, &mut bytes, version).expect(context);
        assert!(
            bytes.is_empty(),
            "{context}: they leave {} bytes",
            bytes.len()
        );
        assert_same(message, &theirs, &newer_fields(R::NAME), context);
        let mut again = BytesMut::new();
        theirs.encode(&mut again, version).expect(context);
        again
    });
    agree_on::<R::Response>(key, |mut bytes, version, message, context| {
        let theirs = ResponseKind::decode(key, &mut bytes, version).expect(context);
        assert!(
            bytes.is_empty(),
            "{context}: they leave {} bytes",
            bytes.len()
        );
        assert_same(message, &theirs, &newer_fields(R::Response::NAME), context);
        let mut again = BytesMut::new();
        theirs.encode(&mut again, version).expect(context);
        again
    });
}

fn newer_fields(message: &str) -> Vec<&'static str> {
    let fields = NEWER_FIELDS.iter().filter(|(newer, _)| *newer == message);
    fields.map(|(_, field)| *field).collect()
}

fn agree_on<M: Message + Arbitrary>(
    key: ApiKey,
    theirs: impl Fn(Bytes, i16, &M, &str) -> BytesMut,
) {
    let known = key.valid_versions();
    let mut compared = 0;
    for (version, seed) in versions_and_seeds::<M>(60) {
        let in_range = (known.min..=known.max).contains(&version);
        if !in_range || UNREADABLE.contains(&(M::NAME, version)) {
            continue;
        }
        let context = format!("{} v{version} seed {seed}", M::NAME);
        let message = M::arbitrary(&mut Gen::new(seed), version);
        let ours = message.encode_to_bytes(version).expect(&context);
        let again = theirs(ours.clone(), version, &message, &context);
        assert!(ours == again, "{context}: they encode other bytes");
        compared += 1;
    }
    assert!(compared > 0, "{}: no version in common", M::NAME);
}

macro_rules! apis {
    ($(($module:ident, $request:ident, $response:ident))*) => {
        $(
            #[test]
            fn $module() {
                agree::<tidemill_protocol::$module::$request>();
            }
        )*
    };
}

for_each_api!(apis);

#[test]
fn request_headers() {
    use kafka_protocol::messages::RequestHeader as Theirs;

    for api in tidemill_protocol::APIS {
        let key =
            ApiKey::try_from(api.key.0).expect("kafka-protocol knows all of Kafka 4.1's keys");
        for version in api.min_version..=api.max_version.min(key.valid_versions().max) {
            let g = &mut Gen::new(version as u64);
            let client_id = g.nullable(Gen::string);
            let mut header = RequestHeader::new(api.key, version, g.i32(), client_id);
            let header_version = tidemill_protocol::request_header_version(api.key, version);
            assert_eq!(header_version, Some(key.request_header_version(version)));
            if header_version == Some(2) {
                header.unknown_tagged_fields = g.unknown_tagged_fields(0);
            }
            let mut encoder = tidemill_protocol::Encoder::new();
            header.encode(&mut encoder).unwrap();
            let ours = encoder.into_bytes();
            let theirs = Theirs::decode(&mut ours.clone(), key.request_header_version(version));
            let mut again = BytesMut::new();
            theirs
                .unwrap()
                .encode(&mut again, key.request_header_version(version))
                .unwrap();
            assert_eq!(ours, again);
            let mut decoder = tidemill_protocol::Decoder::new(ours);
            assert_eq!(RequestHeader::decode(&mut decoder), Ok(header));
            assert_eq!(decoder.finish(), Ok(()));
        }
    }
}

#[test]
fn response_headers() {
    use kafka_protocol::messages::ResponseHeader as Theirs;

    for api in tidemill_protocol::APIS {
        let key =
            ApiKey::try_from(api.key.0).expect("kafka-protocol knows all of Kafka 4.1's keys");
        for version in api.min_version..=api.max_version.min(key.valid_versions().max) {
            let g = &mut Gen::new(version as u64);
            let mut header = ResponseHeader::new(g.i32());
            let header_version = tidemill_protocol::response_header_version(api.key, version);
            assert_eq!(header_version, Some(key.response_header_version(version)));
            if header_version == Some(1) {
                header.unknown_tagged_fields = g.unknown_tagged_fields(0);
            }
            let mut encoder = tidemill_protocol::Encoder::new();
            header.encode(&mut encoder, api.key, version).unwrap();
            let ours = encoder.into_bytes();
            let theirs = Theirs::decode(&mut ours.clone(), key.response_header_version(version));
            let mut again = BytesMut::new();
            theirs
                .unwrap()
                .encode(&mut again, key.response_header_version(version))
                .unwrap();
            assert_eq!(ours, again);
            let mut decoder = tidemill_protocol::Decoder::new(ours);
            assert_eq!(
                ResponseHeader::decode(&mut decoder, api.key, version),
                Ok(header)
            );
            assert_eq!(decoder.finish(), Ok(()));
        }
    }
}
