//! The optional sections of a frame. ABI 1 defines none, so the only question is whether one must be
//! understood.

use crate::wire::{Malformed, table, u32_at};

const MUST_UNDERSTAND: u32 = 1 << 31;

/// Passes over the list of sections at `at` (0: none).
pub(crate) fn check(frame: &[u8], mut at: usize) -> Result<(), Malformed> {
    if at == 0 {
        return Ok(());
    }
    loop {
        let head = table(frame, at, 1, 8)?;
        let kind = u32_at(head, 0);
        if kind == 0 {
            return Ok(());
        }
        if kind & MUST_UNDERSTAND != 0 {
            return Err(Malformed("a section that must be understood is unknown"));
        }
        let length = u32_at(head, 4) as usize;
        let payload = table(frame, at + 8, 1, length)?;
        at += 8 + payload.len().next_multiple_of(8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(words: &[u32]) -> Result<(), Malformed> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        check(&bytes, 8)
    }

    #[test]
    fn passes_over_what_may_be_unknown() {
        assert_eq!(sections(&[9, 9, 7, 4, 0xffff, 0, 8, 0, 0, 0]), Ok(()));
    }

    #[test]
    fn faults_on_what_must_be_known() {
        assert!(sections(&[9, 9, 7, 0, 1 << 31 | 3, 0, 0, 0]).is_err());
    }

    #[test]
    fn faults_on_a_list_without_end() {
        assert!(sections(&[9, 9, 7, 0]).is_err());
        assert!(sections(&[9, 9, 7, u32::MAX, 0, 0]).is_err());
    }
}
