//! Hostile bytes reserve no more memory than a small multiple of themselves and of the limit. One test in a
//! binary of its own, because the counting allocator counts the whole process. What zstd's C code allocates
//! for its context it does not see; output buffers it does.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidemill_records::{
    BatchRules, Compression, CompressionError, DecodeLimit, Headers, RecordBatch,
    RecordBatchBuilder,
};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the system allocator's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        let live = LIVE.fetch_add(size, Ordering::Relaxed) + size;
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many bytes more than before were live at the worst moment of `run`.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = run();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

const SLACK: usize = 256 * 1024;
const PACKED: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[test]
fn memory_follows_the_bytes_that_came_and_the_limit() {
    bombs_cost_twice_the_limit_at_most();
    a_small_limit_holds_however_much_comes_in();
    small_lies_cost_little();
    many_tiny_headers_are_not_spread_out();
}

fn bombs_cost_twice_the_limit_at_most() {
    let zeros = Bytes::from(vec![0; 64 << 20]);
    for codec in PACKED {
        let bomb = codec.compress(&zeros, None);
        let bytes_max = 4 << 20;
        let (opened, bytes) = peak(|| codec.decompress(&bomb, bytes_max));
        assert!(opened.is_err());
        assert!(
            bytes <= 2 * bytes_max + SLACK,
            "{codec}: {bytes} bytes at the worst moment"
        );
    }
}

fn a_small_limit_holds_however_much_comes_in() {
    let mut state = 1u64;
    let random = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    let noise: Bytes = (0..1 << 20).map(random).collect();
    for codec in PACKED {
        let packed = codec.compress(&noise, None);
        let (opened, bytes) = peak(|| codec.decompress(&packed, 1000));
        assert_eq!(opened, Err(CompressionError::TooLarge { bytes_max: 1000 }));
        assert!(bytes <= SLACK, "{codec}: {bytes} bytes for a limit of 1000");
    }
}

fn small_lies_cost_little() {
    let snappy_of_4_gib = &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'x'][..];
    // An LZ4 frame of 4 MiB blocks whose first is one byte, and not a block.
    let lz4_of_4_mib = &[4, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 1, 0, 0, 0, 0xff][..];
    // A Zstandard frame with a window of 2 GiB and an empty block.
    let zstd_window_of_2_gib = &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 1, 0, 0][..];
    // A Zstandard frame with a declared size of 2 GiB and no block.
    let zstd_content_of_2_gib = &[0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x80][..];
    for (codec, lie) in [
        (Compression::Snappy, snappy_of_4_gib),
        (Compression::Lz4, lz4_of_4_mib),
        (Compression::Zstd, zstd_window_of_2_gib),
        (Compression::Zstd, zstd_content_of_2_gib),
    ] {
        let lie = Bytes::from_static(lie);
        let (_, peak) = peak(|| codec.decompress(&lie, usize::MAX));
        assert!(
            peak <= SLACK,
            "{codec}: {peak} bytes for {} bytes",
            lie.len()
        );
    }
}

fn many_tiny_headers_are_not_spread_out() {
    let headers: Headers = (0..200_000)
        .map(|_| tidemill_records::RecordHeader {
            key: Bytes::new(),
            value: None,
        })
        .collect();
    let mut builder = RecordBatchBuilder::new(Compression::None);
    builder.push(0, None, None, &headers);
    let bytes = builder.build().expect("a batch").to_bytes();
    let (records, peak) = peak(|| {
        let (batch, _) = RecordBatch::parse(&bytes, BatchRules::Produced).expect("our own");
        let records = batch.records(DecodeLimit(0)).expect("opens");
        records
            .map(|record| record.expect("decodes").headers.len())
            .sum::<usize>()
    });
    assert_eq!(records, 200_000);
    assert!(peak <= SLACK, "{peak} bytes");
}
