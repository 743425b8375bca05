use super::*;

fn decoder(bytes: &[u8]) -> Decoder {
    Decoder::new(Bytes::copy_from_slice(bytes))
}

fn problem<T: std::fmt::Debug>(result: Result<T>) -> DecodeProblem {
    result.unwrap_err().problem
}

#[test]
fn numbers_are_big_endian() {
    let mut d = decoder(&[
        1, 0xff, 0xfe, 0xff, 0xfd, 0xff, 0xfc, 0, 0, 1, 0, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xfe, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0,
    ]);
    assert!(d.bool().unwrap());
    assert_eq!(d.i8().unwrap(), -1);
    d.at -= 1;
    assert_eq!(d.i16().unwrap(), -2);
    assert_eq!(d.i16().unwrap(), -3);
    assert_eq!(d.u16().unwrap(), 0xfffc);
    assert_eq!(d.i32().unwrap(), 256);
    assert_eq!(d.u32().unwrap(), 0x8000_0000);
    assert_eq!(d.i64().unwrap(), -2);
    assert_eq!(d.f64().unwrap(), 1.5);
    assert_eq!(d.remaining(), 0);
    assert_eq!(problem(d.i8()), DecodeProblem::Truncated);
}

#[test]
fn varints_have_at_most_32_bits() {
    for (bytes, value) in [
        (&[0][..], 0),
        (&[0x7f], 127),
        (&[0x80, 1], 128),
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], u32::MAX),
        // Longer than need be, but what it says is clear.
        (&[0x80, 0x80, 0x80, 0x80, 0], 0),
    ] {
        let mut d = decoder(bytes);
        assert_eq!(d.varint(), Ok(value));
        assert_eq!(d.remaining(), 0);
    }
    assert_eq!(
        problem(decoder(&[0x80, 0x80]).varint()),
        DecodeProblem::Truncated
    );
    for bytes in [
        [0xff, 0xff, 0xff, 0xff, 0x10],
        [0x80, 0x80, 0x80, 0x80, 0x80],
    ] {
        assert_eq!(
            problem(decoder(&bytes).varint()),
            DecodeProblem::InvalidVarint
        );
    }
}

#[test]
fn strings_of_both_encodings() {
    assert_eq!(decoder(b"\x00\x02hi").string(false).unwrap(), "hi");
    assert_eq!(decoder(b"\x03hi").string(true).unwrap(), "hi");
    assert_eq!(decoder(b"\xff\xff").nullable_string(false), Ok(None));
    assert_eq!(decoder(b"\x00").nullable_string(true), Ok(None));
    assert_eq!(
        problem(decoder(b"\xff\xff").string(false)),
        DecodeProblem::UnexpectedNull
    );
    assert_eq!(
        problem(decoder(b"\x00").string(true)),
        DecodeProblem::UnexpectedNull
    );
    assert_eq!(
        problem(decoder(b"\xff\xfe").string(false)),
        DecodeProblem::InvalidLength
    );
    assert_eq!(
        problem(decoder(b"\x00\x03hi").string(false)),
        DecodeProblem::Truncated
    );
    assert_eq!(
        problem(decoder(b"\x04hi").string(true)),
        DecodeProblem::Truncated
    );
    assert_eq!(
        problem(decoder(b"\x03\xff\xff").string(true)),
        DecodeProblem::InvalidUtf8
    );
}

#[test]
fn strings_have_at_most_32767_bytes() {
    let compact = |length: usize| {
        let mut encoder = crate::Encoder::new();
        encoder.varint(length as u32 + 1);
        [encoder.into_bytes().to_vec(), vec![b'x'; length]].concat()
    };
    assert_eq!(
        decoder(&compact(32_767)).string(true).unwrap().len(),
        32_767
    );
    assert_eq!(
        problem(decoder(&compact(32_768)).string(true)),
        DecodeProblem::InvalidLength
    );
}

#[test]
fn bytes_of_both_encodings() {
    assert_eq!(decoder(b"\x00\x00\x00\x01x").bytes(false).unwrap(), "x");
    assert_eq!(decoder(b"\x02x").bytes(true).unwrap(), "x");
    assert_eq!(decoder(b"\xff\xff\xff\xff").nullable_bytes(false), Ok(None));
    assert_eq!(decoder(b"\x00").nullable_records(true), Ok(None));
    assert_eq!(
        problem(decoder(b"\x80\0\0\0").bytes(false)),
        DecodeProblem::InvalidLength
    );
    assert_eq!(
        problem(decoder(b"\x7f\xff\xff\xff").bytes(false)),
        DecodeProblem::Truncated
    );
    assert_eq!(
        problem(decoder(b"\x00").bytes(true)),
        DecodeProblem::UnexpectedNull
    );
}

#[test]
fn views_share_the_frame() {
    let frame = Bytes::from_static(b"\x00\x00\x00\x05hello\x03hi");
    let mut d = Decoder::new(frame.clone());
    assert_eq!(d.bytes(false).unwrap().as_ptr(), frame[4..].as_ptr());
    assert_eq!(d.string(true).unwrap().as_ptr(), frame[10..].as_ptr());
}

#[test]
fn arrays_are_bounded_by_what_remains() {
    assert_eq!(
        decoder(b"\0\0\0\x02\0\x01\0\x02").array(false, 2, Decoder::i16),
        Ok(vec![1, 2])
    );
    assert_eq!(
        decoder(b"\x03\0\x01\0\x02").array(true, 2, Decoder::i16),
        Ok(vec![1, 2])
    );
    assert_eq!(decoder(b"\x01").array(true, 2, Decoder::i16), Ok(vec![]));
    let null = decoder(b"\x00").nullable_array(true, 2, Decoder::i16);
    assert_eq!(null, Ok(None));
    for bytes in [&b"\0\0\0\x03\0\x01\0\x02\0"[..], b"\x7f\xff\xff\xff"] {
        let read = decoder(bytes).array(false, 2, Decoder::i16);
        assert_eq!(problem(read), DecodeProblem::ArrayTooLong);
    }
    let read = decoder(b"\xff\xff\xff\xff").array(false, 2, Decoder::i16);
    assert_eq!(problem(read), DecodeProblem::UnexpectedNull);
    let read = decoder(b"\xff\xff\xff\xfe").nullable_array(false, 2, Decoder::i16);
    assert_eq!(problem(read), DecodeProblem::InvalidLength);
}

#[test]
fn memory_stays_in_proportion() {
    type Large = [u64; 32];
    let elements = 4096;
    let mut encoder = crate::Encoder::new();
    encoder.varint(elements + 1);
    let frame = [encoder.into_bytes().to_vec(), vec![0; elements as usize]].concat();
    let read = decoder(&frame).array(true, 1, |d| d.i8().map(|byte| [byte as u64; 32]));
    let read: DecodeProblem = problem::<Vec<Large>>(read);
    assert_eq!(read, DecodeProblem::OverBudget);
    assert_eq!(
        decoder(&frame).array(true, 1, Decoder::i8).unwrap().len(),
        elements as usize
    );
}

#[test]
fn nullable_structs() {
    assert_eq!(decoder(b"\xff").nullable_struct(Decoder::i8), Ok(None));
    assert_eq!(
        decoder(b"\x01\x05").nullable_struct(Decoder::i8),
        Ok(Some(5))
    );
    let read = decoder(b"\xfe\x05").nullable_struct(Decoder::i8);
    assert_eq!(problem(read), DecodeProblem::InvalidLength);
}

type Unknown = Vec<(u32, Bytes)>;

/// Knows the tag 1, an `i16`.
fn tagged(bytes: &[u8]) -> Result<(Option<i16>, Unknown)> {
    let mut one = None;
    let mut d = decoder(bytes);
    let unknown = d.tagged_fields(|d, tag| {
        if tag == 1 {
            one = Some(d.i16()?);
        }
        Ok(tag == 1)
    })?;
    d.finish()?;
    Ok((one, unknown))
}

#[test]
fn tagged_fields_known_and_unknown() {
    let byte = |tag, byte: &'static [u8]| (tag, Bytes::from_static(byte));
    assert_eq!(tagged(b"\x00"), Ok((None, vec![])));
    assert_eq!(tagged(b"\x01\x01\x02\0\x07"), Ok((Some(7), vec![])));
    assert_eq!(
        tagged(b"\x03\x00\x01a\x01\x02\0\x07\x81\x01\x00"),
        Ok((Some(7), vec![byte(0, b"a"), byte(129, b"")]))
    );
}

#[test]
fn tagged_fields_ascend() {
    assert_eq!(
        problem(tagged(b"\x02\x05\x00\x05\x00")),
        DecodeProblem::TagOrder
    );
    assert_eq!(
        problem(tagged(b"\x02\x05\x00\x04\x00")),
        DecodeProblem::TagOrder
    );
}

#[test]
fn tagged_fields_have_the_size_they_say() {
    assert_eq!(
        problem(tagged(b"\x01\x01\x03\0\x07\0")),
        DecodeProblem::TagSize
    );
    assert_eq!(
        problem(tagged(b"\x01\x01\x01\0\x07")),
        DecodeProblem::Truncated
    );
    assert_eq!(
        problem(tagged(b"\x01\x01\x04\0\x07")),
        DecodeProblem::Truncated
    );
    assert_eq!(
        problem(tagged(b"\x02\x01\x02\0\x07")),
        DecodeProblem::Truncated
    );
    assert_eq!(
        problem(tagged(b"\xff\x01\x01\x02\0\x07")),
        DecodeProblem::ArrayTooLong
    );
}

#[test]
fn nothing_may_follow() {
    let mut d = decoder(b"\0\x01\x02");
    d.i16().unwrap();
    let error = d.finish().unwrap_err();
    assert_eq!(
        error,
        DecodeError {
            at: 2,
            problem: DecodeProblem::TrailingBytes
        }
    );
    assert_eq!(
        error.to_string(),
        "unexpected bytes after the end at byte 2"
    );
}
