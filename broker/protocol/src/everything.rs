//! A schema of all that the grammar has, checked byte by byte: the real schemas do not use all of it,
//! and the next one may.

use crate::{DecodeProblem, EncodeError, Message, Str};
use generated::{Everything, NullPart, Shared};

#[allow(
    unreachable_pub,
    missing_docs,
    reason = "generated as a public module, used as a private one"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/everything.rs"));
}

/// The fields before the strings, at their defaults.
const NUMBERS: &[u8] = b"\x01\xff\0\0\xff\xff\0\0\0\0\0\0\0\0\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn defaults_in_version_0() {
    let everything = Everything {
        later_null_text: Some(Str::default()),
        ..Default::default()
    };
    let rest: [&[u8]; 15] = [
        b"\0\x04text", // text
        b"\0\x04text", // null_text
        b"\0\0",       // later_null_text
        b"\0\0\0\0",   // some_bytes
        b"\xff\xff\xff\xff",
        b"\0\0\0\0", // some_records
        b"\0\0\0\0", // null_records, not null by default
        b"\0\0\0\0", // texts
        b"\0\0\0\0", // null_texts, not null by default
        b"\xff\xff\xff\xff",
        b"\0",       // part
        b"\xff",     // null_part
        b"\x01\x05", // full_part
        b"",         // only_1
        b"\x07",     // first_2
    ];
    let expected = [NUMBERS, &rest.concat()].concat();
    assert_eq!(everything.encode_to_bytes(0).unwrap(), expected);
    assert_eq!(
        Everything::decode_exact(expected.into(), 0).unwrap(),
        everything
    );
}

#[test]
fn all_set_in_version_3() {
    let shared = |value| Shared {
        value,
        later: Str::from("x"),
        ..Default::default()
    };
    let everything = Everything {
        null_text: None,
        later_null_text: None,
        null_records: None,
        texts: vec![Str::from("a"), Str::from("bc")],
        null_texts: None,
        uuids: Some(vec![uuid::Uuid::max()]),
        null_part: Some(NullPart {
            value: 1,
            more: vec![shared(2)],
            ..Default::default()
        }),
        full_part: None,
        tagged_part: shared(3),
        tagged_text: None,
        tagged_bool: false,
        tagged_numbers: vec![4],
        unknown_tagged_fields: vec![(3, "u".into()), (9, "v".into())],
        ..Default::default()
    };
    let rest: [&[u8]; 24] = [
        b"\x05text",
        b"\0",   // null_text
        b"\0",   // later_null_text
        b"\x01", // some_bytes
        b"\0",   // null_bytes
        b"\x01", // some_records
        b"\0",   // null_records
        b"\x03\x02a\x03bc",
        b"\0", // null_texts
        b"\x02",
        &[0xff; 16],
        b"\0\0",         // part and its tags
        b"\x01\x01\x02", // null_part up to `more`
        b"\0\x02\x02x\0",
        b"\0",                    // its tags
        b"\xff",                  // full_part
        b"\x06",                  // six tagged fields
        b"\x00\x05\0\x03\x02x\0", // tagged_part
        b"\x01\x01\0",            // tagged_text, null
        b"\x02\x01\0",            // tagged_bool
        b"\x03\x01u",
        b"\x04\x05\x02",
        b"\0\0\0\x04",
        b"\x09\x01v",
    ];
    let expected = [NUMBERS, &rest.concat()].concat();
    assert_eq!(everything.encode_to_bytes(3).unwrap(), expected);
    assert_eq!(
        Everything::decode_exact(expected.into(), 3).unwrap(),
        everything
    );
}

#[test]
fn what_a_version_lacks() {
    let refused = |everything: Everything, version| match everything.encode_to_bytes(version) {
        Err(EncodeError::NotInVersion { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let everything = || Everything {
        later_null_text: Some(Str::default()),
        ..Default::default()
    };
    assert_eq!(
        refused(
            Everything {
                only_1: 1,
                ..everything()
            },
            0
        ),
        "only_1"
    );
    assert_eq!(
        refused(
            Everything {
                only_1: 1,
                ..everything()
            },
            2
        ),
        "only_1"
    );
    assert!(
        Everything {
            only_1: 1,
            ..everything()
        }
        .encode_to_bytes(1)
        .is_ok()
    );
    assert_eq!(
        refused(
            Everything {
                tagged_bool: false,
                ..everything()
            },
            2
        ),
        "tagged_bool"
    );
    assert_eq!(
        refused(
            Everything {
                tagged_numbers: vec![1],
                ..everything()
            },
            1
        ),
        "tagged_numbers"
    );
    let tagged_part = Shared {
        later: Str::from("x"),
        ..Default::default()
    };
    assert_eq!(
        refused(
            Everything {
                tagged_part,
                ..everything()
            },
            2
        ),
        "later"
    );
    let ignored = Everything {
        first_2: 1,
        ..everything()
    }
    .encode_to_bytes(3)
    .unwrap();
    assert_eq!(Everything::decode_exact(ignored, 3).unwrap().first_2, 7);
    let ignored = Everything {
        tagged_text: None,
        ..everything()
    }
    .encode_to_bytes(1)
    .unwrap();
    let decoded = Everything::decode_exact(ignored, 1).unwrap();
    assert_eq!(decoded.tagged_text, Some(Str::default()));
}

#[test]
fn keywords_as_names() {
    let later_null_text = Some(Str::default());
    let everything = Everything {
        later_null_text,
        r#match: 3,
        ..Default::default()
    };
    let bytes = everything.encode_to_bytes(1).unwrap();
    assert_eq!(bytes.last(), Some(&3));
    assert_eq!(Everything::decode_exact(bytes, 1).unwrap(), everything);
    let everything = Everything {
        r#type: 4,
        ..Default::default()
    };
    let bytes = everything.encode_to_bytes(3).unwrap();
    assert_eq!(bytes[bytes.len() - 4..], [1, 5, 1, 4]);
    assert_eq!(Everything::decode_exact(bytes, 3).unwrap(), everything);
}

#[test]
fn null_only_from_version_1_on() {
    let everything = Everything {
        later_null_text: None,
        ..Default::default()
    };
    let error = everything.encode_to_bytes(0).unwrap_err();
    let (part, field) = ("Everything", "later_null_text");
    assert_eq!(
        error,
        EncodeError::UnexpectedNull {
            part,
            field,
            version: 0
        }
    );
    let bytes = everything.encode_to_bytes(1).unwrap();
    assert_eq!(
        Everything::decode_exact(bytes.clone(), 1).unwrap(),
        everything
    );
    let error = Everything::decode_exact(bytes, 0).unwrap_err();
    assert_eq!(error.problem, DecodeProblem::UnexpectedNull);
    assert_eq!(error.at, NUMBERS.len() + 6 + 6 + 2);
}
