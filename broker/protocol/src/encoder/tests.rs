use super::*;

fn bytes(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    write(&mut encoder);
    encoder.into_bytes().to_vec()
}

#[test]
fn varints() {
    for (value, expected) in [
        (0, &[0][..]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        assert_eq!(bytes(|e| e.varint(value)), expected);
    }
}

#[test]
fn lengths_of_both_encodings() {
    let hi = Str::from("hi");
    assert_eq!(bytes(|e| e.string(false, &hi).unwrap()), b"\x00\x02hi");
    assert_eq!(bytes(|e| e.string(true, &hi).unwrap()), b"\x03hi");
    assert_eq!(
        bytes(|e| e.nullable_string(false, None).unwrap()),
        b"\xff\xff"
    );
    assert_eq!(bytes(|e| e.nullable_string(true, None).unwrap()), b"\x00");
    assert_eq!(
        bytes(|e| e.nullable_bytes(false, None).unwrap()),
        b"\xff\xff\xff\xff"
    );
    let hi = Bytes::from_static(b"hi");
    assert_eq!(
        bytes(|e| e.bytes(false, &hi).unwrap()),
        b"\x00\x00\x00\x02hi"
    );
    assert_eq!(bytes(|e| e.bytes(true, &hi).unwrap()), b"\x03hi");
}

#[test]
fn strings_have_at_most_32767_bytes() {
    for flexible in [false, true] {
        let mut encoder = Encoder::new();
        let longest = Str::from("x".repeat(32_767));
        let longer = Str::from("x".repeat(32_768));
        assert_eq!(encoder.string(flexible, &longest), Ok(()));
        assert_eq!(
            encoder.string(flexible, &longer),
            Err(EncodeError::TooLong(32_768))
        );
    }
}

#[test]
fn large_bytes_are_chained_and_the_length_covers_them() {
    let large = Bytes::from(vec![7; CHAIN_BYTES_MIN]);
    let small = Bytes::from(vec![8; CHAIN_BYTES_MIN - 1]);
    let mut encoder = Encoder::new();
    encoder.i8(1);
    let records = Records::from_chunks(vec![small.clone(), large.clone(), large.clone()]);
    encoder.nullable_records(false, Some(&records)).unwrap();
    encoder.i8(2);
    let flat = [
        &1_i8.to_be_bytes()[..],
        &3071_i32.to_be_bytes(),
        &small,
        &large,
        &large,
        &[2],
    ];
    let frame = encoder.finish().unwrap();
    assert_eq!(frame.len, 4 + 1 + 4 + 3071 + 1);
    assert_eq!(
        frame.to_bytes(),
        [&3077_i32.to_be_bytes()[..], &flat.concat()].concat()
    );
    assert_eq!(frame.chunks.len(), 4);
    assert_eq!(frame.chunks[1].as_ptr(), large.as_ptr());
    assert_eq!(frame.chunks[2].as_ptr(), large.as_ptr());
}

#[test]
fn a_frame_may_end_with_a_chained_chunk() {
    let large = Bytes::from(vec![7; CHAIN_BYTES_MIN]);
    let mut encoder = Encoder::new();
    encoder.bytes(true, &large).unwrap();
    let frame = encoder.finish().unwrap();
    assert_eq!(frame.chunks.len(), 2);
    assert_eq!(frame.to_bytes()[..6], [0, 0, 4, 2, 0x81, 0x08]);
}

#[test]
fn tagged_fields_merge_unknown_ones_and_get_their_sizes() {
    let large = Bytes::from(vec![7; 2000]);
    let unknown = [
        (0, Bytes::from_static(b"a")),
        (2, large.clone()),
        (300, Bytes::from_static(b"z")),
    ];
    let mut encoder = Encoder::new();
    let mut tags = encoder.tagged_fields(2, &unknown).unwrap();
    tags.field(1, |e| e.bytes(true, &large)).unwrap();
    tags.field(3, |e| {
        e.i16(5);
        Ok(())
    })
    .unwrap();
    tags.finish().unwrap();
    // A tag, a size, and for the known one the length that its bytes have themselves.
    let expected = [
        &[5, 0, 1, b'a', 1, 0xd2, 0x0f, 0xd1, 0x0f][..],
        &large,
        &[2, 0xd0, 0x0f],
        &large,
        &[3, 2, 0, 5, 0xac, 0x02, 1, b'z'],
    ];
    assert_eq!(encoder.into_bytes(), expected.concat());
}

#[test]
fn unknown_tagged_fields_ascend_and_are_unknown() {
    let write = |unknown: &[(u32, Bytes)]| {
        let mut encoder = Encoder::new();
        let mut tags = encoder.tagged_fields(1, unknown)?;
        tags.field(1, |_| Ok(()))?;
        tags.finish()
    };
    let tag = |tag| (tag, Bytes::new());
    assert_eq!(write(&[tag(0), tag(2)]), Ok(()));
    assert_eq!(write(&[tag(1)]), Err(EncodeError::TagOrder(1)));
    assert_eq!(write(&[tag(2), tag(2)]), Err(EncodeError::TagOrder(2)));
    assert_eq!(write(&[tag(3), tag(2)]), Err(EncodeError::TagOrder(2)));
}
