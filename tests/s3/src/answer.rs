//! Bodies of answers, whole and spoiled.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::plan::mix;

/// What is sent after the head of an answer.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Cut>;

/// Makes hyper end the connection in the middle of a body.
#[derive(Debug)]
pub(crate) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the double cuts this body short")
    }
}

impl std::error::Error for Cut {}

/// hyper discards what it has not written when a body fails, so the part that shall arrive gets this
/// long to leave.
const FLUSH: Duration = Duration::from_millis(20);

/// A paced body is sent in so many pieces a second.
const PIECES_PER_S: u64 = 20;

pub(crate) fn whole(bytes: Bytes) -> AnswerBody {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The bytes, after which the connection ends although more was announced.
pub(crate) fn cut_after(bytes: Bytes) -> AnswerBody {
    let part = stream::iter([Ok(Frame::data(bytes))]);
    let end = stream::once(async {
        tokio::time::sleep(FLUSH).await;
        Err(Cut)
    });
    StreamBody::new(part.chain(end)).boxed_unsync()
}

/// The bytes at a steady rate.
pub(crate) fn paced(bytes: Bytes, bytes_per_s: NonZeroU64) -> AnswerBody {
    let piece_bytes = (bytes_per_s.get() / PIECES_PER_S).max(1);
    let pieces = stream::unfold(bytes, move |mut left| async move {
        if left.is_empty() {
            return None;
        }
        let piece = left.split_to(left.len().min(piece_bytes as usize));
        let pause = piece.len() as f64 / bytes_per_s.get() as f64;
        tokio::time::sleep(Duration::from_secs_f64(pause)).await;
        Some((Ok(Frame::data(piece)), left))
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// The bytes with one bit turned over, which is always the same one for a seed and a length.
pub(crate) fn with_wrong_bit(bytes: &Bytes, seed: u64) -> Bytes {
    let mut wrong = bytes.to_vec();
    if let Some(at) = mix(seed, 0).checked_rem(wrong.len() as u64 * 8) {
        wrong[(at / 8) as usize] ^= 1 << (at % 8);
    }
    Bytes::from(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bit_is_wrong() {
        let bytes = Bytes::from_static(&[0; 100]);
        for seed in 0..50 {
            let wrong = with_wrong_bit(&bytes, seed);
            assert_eq!(wrong.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            assert_eq!(wrong, with_wrong_bit(&bytes, seed));
        }
        assert_eq!(with_wrong_bit(&Bytes::new(), 1), Bytes::new());
    }
}
