//! Output frames that nobody promised to keep to the rules.

use proptest::prelude::*;
use tidemill_records::Record;

use super::records;
use crate::frame::{OutputBounds, parse_outputs};

const BOUNDS: OutputBounds = OutputBounds {
    bytes_max: 1 << 16,
    records_max: 100,
    sinks: 2,
};

/// Whatever comes back keeps what callers rely on.
fn check(frame: &[u8], records: &[Record]) {
    let Ok(outputs) = parse_outputs(frame, records, BOUNDS) else {
        return;
    };
    assert!(outputs.outputs.len() <= BOUNDS.records_max as usize);
    for output in &outputs.outputs {
        assert!((output.record as usize) < records.len());
        assert!(output.sink < BOUNDS.sinks);
        let has_failed = outputs
            .failed
            .iter()
            .any(|failed| failed.record == output.record);
        assert!(!has_failed, "a failed record has no outputs");
    }
    let failed: Vec<u32> = outputs.failed.iter().map(|failed| failed.record).collect();
    assert!(
        failed.is_sorted_by(|a, b| a < b),
        "each failure is told once, in order"
    );
}

fn good() -> Vec<u8> {
    include_bytes!("../../../../wasm-sdk/golden/output-all.bin").to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_refused_or_sane(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes, &records(8, &[]));
        let mut framed = b"TMO1\x20\0\0\0".to_vec();
        framed.extend(bytes);
        check(&framed, &records(8, &[]));
    }

    #[test]
    fn changed_frames_are_refused_or_sane(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        words in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u32>()), 0..3),
    ) {
        let mut frame = good();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        for (at, word) in words {
            let at = at.index(frame.len() - 4) / 4 * 4;
            frame[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        check(&frame, &records(8, &[]));
    }
}

#[test]
fn a_frame_cut_anywhere_is_refused() {
    let frame = good();
    assert!(parse_outputs(&frame, &records(8, &[]), BOUNDS).is_ok());
    for length in 0..frame.len() {
        assert!(
            parse_outputs(&frame[..length], &records(8, &[]), BOUNDS).is_err(),
            "{length}"
        );
    }
}
