use std::io::Write;

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;

const PACKED: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Bytes that compress to some degree and span several blocks of every codec.
fn text(len: usize) -> Bytes {
    let mut state = 1u64;
    let word = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{} ", state >> 54)
    };
    let mut text: String = (0..len.div_ceil(2)).map(word).collect();
    text.truncate(len);
    assert_eq!(text.len(), len);
    text.into()
}

fn lz4_frame(plain: &[u8], info: FrameInfo) -> Bytes {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory").into()
}

#[test]
fn codes_and_names_are_kafkas() {
    for (code, name) in ["none", "gzip", "snappy", "lz4", "zstd"]
        .into_iter()
        .enumerate()
    {
        let codec = Compression::from_code(code as u8).expect("a codec");
        assert_eq!((codec.code() as usize, codec.name()), (code, name));
        assert_eq!(Compression::from_name(name), Some(codec));
    }
    assert_eq!(Compression::from_code(5), None);
    assert_eq!(Compression::from_name("zip"), None);
}

#[test]
fn the_limit_is_exact() {
    for len in [1, 1000, 64 << 10, 300_000] {
        let plain = text(len);
        for codec in PACKED {
            let packed = codec.compress(&plain, None);
            assert_eq!(
                codec.decompress(&packed, len).as_ref(),
                Ok(&plain),
                "{codec} {len}"
            );
            for bytes_max in [len - 1, len / 2, 0] {
                assert_eq!(
                    codec.decompress(&packed, bytes_max),
                    Err(CompressionError::TooLarge { bytes_max }),
                    "{codec} {len} {bytes_max}",
                );
            }
        }
    }
}

#[test]
fn nothing_compresses_to_nothing() {
    for codec in Compression::ALL {
        let packed = codec.compress(&Bytes::new(), None);
        assert_eq!(codec.decompress(&packed, 0), Ok(Bytes::new()), "{codec}");
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = Bytes::from(vec![0; 64 << 20]);
    for codec in PACKED {
        let bomb = codec.compress(&zeros, None);
        let bytes_max = 1 << 20;
        assert_eq!(
            codec.decompress(&bomb, bytes_max),
            Err(CompressionError::TooLarge { bytes_max }),
            "{codec} from {} bytes",
            bomb.len(),
        );
    }
}

#[test]
fn a_declared_size_is_not_believed() {
    // One block of Snappy that claims to hold 4 GiB - 1.
    let huge = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, b'x']);
    assert_eq!(
        Compression::Snappy.decompress(&huge, usize::MAX),
        Err(CompressionError::Malformed(Compression::Snappy)),
    );
    // A Zstandard frame, single segment, with a content size of 2^62 and an empty last block.
    let mut huge = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    huge.extend_from_slice(&(1u64 << 62).to_le_bytes());
    huge.extend_from_slice(&[1, 0, 0]);
    assert_eq!(
        Compression::Zstd.decompress(&huge.into(), usize::MAX),
        Err(CompressionError::Malformed(Compression::Zstd)),
    );
}

#[test]
fn whole_streams_in_a_row_are_read() {
    let (first, second) = (text(100_000), text(70));
    let both = [&first[..], &second].concat();
    for codec in PACKED {
        let packed = [codec.compress(&first, None), codec.compress(&second, None)].concat();
        assert_eq!(
            codec.decompress(&packed.into(), both.len()).as_deref(),
            Ok(&both[..]),
            "{codec}"
        );
    }
}

#[test]
fn bare_snappy_is_read() {
    let plain = text(200_000);
    let packed = snap::raw::Encoder::new()
        .compress_vec(&plain)
        .expect("compresses");
    let packed = Bytes::from(packed);
    assert_eq!(
        Compression::Snappy
            .decompress(&packed, plain.len())
            .as_ref(),
        Ok(&plain)
    );
    assert_eq!(
        Compression::Snappy.decompress(&packed, plain.len() - 1),
        Err(CompressionError::TooLarge {
            bytes_max: plain.len() - 1
        }),
    );
}

#[test]
fn lz4_frames_of_every_make_are_read() {
    let plain = text(9 << 20);
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [
            BlockSize::Max64KB,
            BlockSize::Max256KB,
            BlockSize::Max1MB,
            BlockSize::Max4MB,
        ] {
            for checksums in [false, true] {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(checksums.then_some(plain.len() as u64));
                let packed = lz4_frame(&plain, info);
                assert!(Compression::Lz4.decompress(&packed, plain.len()) == Ok(plain.clone()));
            }
        }
    }
}

#[test]
fn lz4_checksums_are_checked() {
    let malformed = Err(CompressionError::Malformed(Compression::Lz4));
    let plain = text(1000);
    let of_content = lz4_frame(&plain, FrameInfo::new().content_checksum(true));
    let of_blocks = lz4_frame(&plain, FrameInfo::new().block_checksums(true));
    // The last byte is the content checksum's; the last block's checksum stands before the end mark.
    for (packed, at) in [
        (&of_content, of_content.len() - 1),
        (&of_blocks, of_blocks.len() - 5),
    ] {
        assert_eq!(
            Compression::Lz4.decompress(packed, plain.len()).as_ref(),
            Ok(&plain)
        );
        let mut flipped = packed.to_vec();
        flipped[at] ^= 1;
        assert_eq!(
            Compression::Lz4.decompress(&flipped.into(), plain.len()),
            malformed
        );
    }
    let mut wrong_header = of_content.to_vec();
    wrong_header[6] ^= 1;
    assert_eq!(
        Compression::Lz4.decompress(&wrong_header.into(), plain.len()),
        malformed
    );
}

#[test]
fn lz4_blocks_stay_within_the_declared_size() {
    let malformed = Err(CompressionError::Malformed(Compression::Lz4));
    let open = |block: &[u8], stored: u32| {
        // Independent blocks of 64 KiB at most, no checksums.
        let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
        frame.extend_from_slice(&(block.len() as u32 | stored).to_le_bytes());
        frame.extend_from_slice(block);
        frame.extend_from_slice(&[0; 4]);
        Compression::Lz4
            .decompress(&frame.into(), 1 << 20)
            .map(|plain| plain.len())
    };
    let packed = |len| lz4_flex::block::compress(&vec![7; len]);
    assert_eq!(open(&[7; 64 << 10], 1 << 31), Ok(64 << 10));
    assert_eq!(open(&[7; (64 << 10) + 1], 1 << 31), malformed);
    assert_eq!(open(&packed(64 << 10), 0), Ok(64 << 10));
    assert_eq!(open(&packed((64 << 10) + 1), 0), malformed);
}

#[test]
fn cut_streams_are_malformed() {
    let plain = text(100_000);
    for codec in PACKED {
        let packed = codec.compress(&plain, None);
        // Snappy's framing has no end mark: cut between blocks it is a shorter stream.
        let cuts = [packed.len() - 1, packed.len() / 2, 21, 5, 3];
        for cut in cuts {
            assert_eq!(
                codec.decompress(&packed.slice(..cut), plain.len()),
                Err(CompressionError::Malformed(codec)),
                "{codec} cut at {cut}",
            );
        }
    }
}

#[test]
fn levels_are_clamped_and_matter() {
    let row = |at: i32| format!("row {at}: {} of {} flights; ", at * at % 97, at / 3);
    let plain: Bytes = (0..10_000).map(row).collect::<String>().into();
    for codec in [Compression::Gzip, Compression::Zstd] {
        let [fast, slow, beyond] =
            [1, 9, i32::MAX].map(|level| codec.compress(&plain, Some(level)));
        assert!(
            slow.len() < fast.len(),
            "{codec}: {} and {}",
            slow.len(),
            fast.len()
        );
        for packed in [fast, slow, beyond] {
            assert!(codec.decompress(&packed, plain.len()) == Ok(plain.clone()));
        }
        assert!(!codec.compress(&plain, Some(i32::MIN)).is_empty());
    }
}

/// Runs of repeated and of random bytes.
fn mixed() -> impl Strategy<Value = Bytes> {
    let run = prop_oneof![
        (any::<u8>(), 0..40_000usize).prop_map(|(byte, len)| vec![byte; len]),
        prop::collection::vec(any::<u8>(), 0..3_000),
    ];
    prop::collection::vec(run, 0..5).prop_map(|runs| runs.concat().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn round_trip(plain in mixed(), level in prop::option::of(-3..=10)) {
        for codec in Compression::ALL {
            let packed = codec.compress(&plain, level);
            prop_assert_eq!(codec.decompress(&packed, plain.len()), Ok(plain.clone()));
        }
    }

    #[test]
    fn flipped_bytes_never_panic_nor_pass_the_limit(
        plain in mixed(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        linked: bool,
    ) {
        let bytes_max = plain.len() + 1000;
        let mode = if linked { BlockMode::Linked } else { BlockMode::Independent };
        for codec in PACKED {
            let mut packed = match codec {
                Compression::Lz4 => lz4_frame(&plain, FrameInfo::new().block_mode(mode)).to_vec(),
                _ => codec.compress(&plain, None).to_vec(),
            };
            for (at, bits) in &flips {
                *at.get_mut(&mut packed) ^= bits;
            }
            if let Ok(opened) = codec.decompress(&packed.into(), bytes_max) {
                prop_assert!(opened.len() <= bytes_max);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(packed in prop::collection::vec(any::<u8>(), 0..300)) {
        let packed = Bytes::from(packed);
        for codec in PACKED {
            let _ = codec.decompress(&packed, 100_000);
        }
    }
}
