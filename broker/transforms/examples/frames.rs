//! Random and changed output frames against the host's reader: `frames COUNT [SEED]`.
//!
//! Half are a good frame with a few bytes or words changed, a quarter operations made at random, a quarter random bytes behind a
//! right magic. None may panic; what is taken must keep what callers rely on. Prints a line and ends with 0 when all did.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tidemill_records::{Headers, Offset, Record};
use tidemill_transforms::{OutputBounds, parse_outputs};

const GOOD: &[u8] = include_bytes!("../../../wasm-sdk/golden/output-all.bin");
const BOUNDS: OutputBounds = OutputBounds {
    bytes_max: 1 << 16,
    records_max: 100,
    sinks: 2,
};

#[allow(clippy::print_stdout, reason = "what it is run for")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (count, seed) = (number(1_000_000), number(1));
    let mut random = StdRng::seed_from_u64(seed);
    let records: Vec<Record> = (0..8).map(record).collect();
    let mut taken = 0u64;
    for at in 0..count {
        let frame = match at % 4 {
            0 | 1 => changed(&mut random),
            2 => operations(&mut random),
            _ => garbage(&mut random),
        };
        let Ok(found) = parse_outputs(&frame, &records, BOUNDS) else {
            continue;
        };
        taken += 1;
        assert!(found.outputs.len() <= BOUNDS.records_max as usize);
        for output in &found.outputs {
            assert!((output.record as usize) < records.len() && output.sink < BOUNDS.sinks);
        }
        assert!(found.failed.is_sorted_by(|a, b| a.record < b.record));
    }
    let refused = count - taken;
    println!("{count} frames, {refused} refused, {taken} taken and sane, seed {seed}");
}

fn record(at: i64) -> Record {
    Record {
        offset: Offset(at),
        timestamp: at,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"value")),
        headers: Headers::default(),
    }
}

fn put(frame: &mut [u8], at: usize, word: u32) {
    frame[at..at + 4].copy_from_slice(&word.to_le_bytes());
}

fn changed(random: &mut StdRng) -> Vec<u8> {
    let mut frame = GOOD.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..frame.len() - 4);
        match random.random_range(0..3) {
            0 => frame[at] = random.random(),
            1 => put(&mut frame, at / 4 * 4, random.random()),
            _ => put(&mut frame, at / 4 * 4, random.random_range(0..700)),
        }
    }
    frame
}

fn operations(random: &mut StdRng) -> Vec<u8> {
    /// By kind: bytes, and the flags that it may have but for an explicit partition.
    const KINDS: [(usize, u8); 6] = [(8, 0xff), (8, 1), (8, 0), (48, 0x1d), (48, 0x3d), (24, 0)];
    let count = random.random_range(0..20u32);
    let mut operations = Vec::new();
    for index in 0..count {
        let kind = random.random_range(1..=5u8);
        let (size, flags) = KINDS[usize::from(kind)];
        let mut operation = vec![0; size];
        random.fill_bytes(&mut operation);
        operation[0] = kind;
        operation[1] &= flags;
        operation[2..4].copy_from_slice(&random.random_range(0..3u16).to_le_bytes());
        put(&mut operation, 4, index % 9);
        for word in (8..size).step_by(4) {
            if random.random_bool(0.8) {
                put(&mut operation, word, random.random_range(0..600));
            }
        }
        operations.extend(operation);
    }
    let bytes = 32 + operations.len() as u32;
    let mut frame = b"TMO1".to_vec();
    for field in [32, bytes, count, 32, operations.len() as u32, 0, 0] {
        frame.extend(field.to_le_bytes());
    }
    frame.extend(operations);
    frame
}

fn garbage(random: &mut StdRng) -> Vec<u8> {
    let mut frame = b"TMO1\x20\0\0\0".to_vec();
    let mut rest = vec![0; random.random_range(0..400)];
    random.fill_bytes(&mut rest);
    frame.extend(rest);
    frame
}
