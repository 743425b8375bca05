//! Bytes that no honest peer sends: cut off, followed by more, altered anywhere, or made up.

use bytes::{Bytes, BytesMut};
use tidemill_protocol::{
    DecodeError, DecodeProblem, Decoder, MEMORY_FREE, MEMORY_PER_BYTE, Message, RequestHeader,
    for_each_api,
};

use crate::allocation::allocated;
use crate::arbitrary::{Arbitrary, Gen, for_each_record, versions_and_seeds};

/// Decodes, and checks that memory stayed in proportion.
fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<M, DecodeError> {
    let length = bytes.len();
    let (result, allocated) = allocated(|| M::decode_exact(bytes, version));
    let bound = MEMORY_PER_BYTE * length + MEMORY_FREE;
    assert!(
        allocated <= bound,
        "{} v{version}: {allocated} for {length} bytes",
        M::NAME
    );
    result
}

fn cut_off<M: Message + Arbitrary>() {
    for (version, seed) in versions_and_seeds::<M>(6) {
        let message = M::arbitrary(&mut Gen::new(seed), version);
        let bytes = message.encode_to_bytes(version).unwrap();
        // Every position of short messages, and of long ones the ends and some between.
        let step = bytes.len() / 1000 + 1;
        let tail = bytes.len().saturating_sub(100)..bytes.len();
        for end in (0..bytes.len()).step_by(step).chain(tail) {
            let result = decode::<M>(bytes.slice(..end), version);
            assert!(
                result.is_err(),
                "{} v{version} seed {seed} cut at {end}",
                M::NAME
            );
        }
    }
}

fn followed_by_more<M: Message + Arbitrary>() {
    for (version, seed) in versions_and_seeds::<M>(2) {
        let message = M::arbitrary(&mut Gen::new(seed), version);
        let mut bytes = message.encode_to_bytes(version).unwrap().to_vec();
        let at = bytes.len();
        bytes.push(0);
        let error = decode::<M>(Bytes::from(bytes), version)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error,
            DecodeError {
                at,
                problem: DecodeProblem::TrailingBytes
            }
        );
    }
}

/// What still decodes after a change must encode to something that decodes to the same.
fn altered<M: Message + Arbitrary>() {
    for (version, seed) in versions_and_seeds::<M>(40) {
        let g = &mut Gen::new(seed);
        let original = M::arbitrary(g, version).encode_to_bytes(version).unwrap();
        if original.is_empty() {
            continue;
        }
        for _ in 0..10 {
            let mut bytes = BytesMut::from(&original[..]);
            for _ in 0..1 + g.below(3) {
                alter(g, &mut bytes);
            }
            if let Ok(message) = decode::<M>(bytes.freeze(), version) {
                let bytes = message.encode_to_bytes(version).unwrap();
                let again = decode::<M>(bytes.clone(), version).unwrap();
                assert_eq!(again.encode_to_bytes(version).unwrap(), bytes);
            }
        }
    }
}

/// Puts in a random byte, or one of the numbers that lengths are wrong with.
fn alter(g: &mut Gen, bytes: &mut BytesMut) {
    const NUMBERS: [&[u8]; 9] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0, 0x10, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0x80, 0x80, 0x80, 0x80, 0x80],
        &[0xff, 0xff],
        &[0x7f, 0xff],
        &[0],
    ];
    let at = g.below(bytes.len());
    if g.bool() {
        bytes[at] = g.next() as u8;
        return;
    }
    let number = NUMBERS[g.below(NUMBERS.len())];
    let count = number.len().min(bytes.len() - at);
    bytes[at..at + count].copy_from_slice(&number[..count]);
}

/// Frames of a single repeated byte: 1 and 2 are empty arrays, strings and tags all the way.
fn made_up<M: Message>() {
    for version in M::MIN_VERSION..=M::MAX_VERSION {
        for byte in [0, 1, 2, 3, 0x40, 0x7f, 0x80, 0xff] {
            for length in [10, 1000, 100_000] {
                let _ = decode::<M>(Bytes::from(vec![byte; length]), version);
            }
        }
        // As large an array as can be, of as small elements as can be, in the first place that has one.
        let length = 1 << 20;
        for at in 0..40 {
            let mut bytes = vec![0; length];
            bytes[at..at + 4].copy_from_slice(&(length as i32 / 8).to_be_bytes());
            let _ = decode::<M>(Bytes::from(bytes), version);
            let mut bytes = vec![1; length];
            bytes[at..at + 3].copy_from_slice(&[0xff, 0xff, 0x0f]);
            let _ = decode::<M>(Bytes::from(bytes), version);
        }
    }
}

macro_rules! apis {
    ($(($module:ident, $request:ident, $response:ident))*) => {
        mod apis {
            $(
                #[test]
                fn $module() {
                    super::all::<tidemill_protocol::$module::$request>();
                    super::all::<tidemill_protocol::$module::$response>();
                }
            )*
        }
    };
}

for_each_api!(apis);

fn all<M: Message + Arbitrary>() {
    cut_off::<M>();
    followed_by_more::<M>();
    altered::<M>();
    made_up::<M>();
}

macro_rules! records {
    ($(($module:ident, $record:ident))*) => {
        #[test]
        fn records() {
            $(all::<tidemill_protocol::$module::$record>();)*
        }
    };
}

for_each_record!(records);

#[test]
fn request_headers() {
    let g = &mut Gen::new(1);
    for _ in 0..100_000 {
        let mut bytes: Vec<u8> = (0..g.below(40)).map(|_| g.next() as u8).collect();
        if let [first, second, ..] = &mut bytes[..] {
            (*first, *second) = (0, g.below(100) as u8);
        }
        let mut decoder = Decoder::new(Bytes::from(bytes));
        if let Ok(header) = RequestHeader::decode(&mut decoder) {
            assert!(tidemill_protocol::api_info(header.request_api_key).is_some());
        }
    }
}
