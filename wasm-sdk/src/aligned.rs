//! A growing run of bytes that begins at a multiple of 8, as frames must.

/// Allocated as words, used as bytes. Bytes past `len` keep what was there before.
pub(crate) struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub(crate) const fn new() -> Self {
        Self {
            words: Vec::new(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes the length `len`; false where there is no memory for it.
    pub(crate) fn try_resize(&mut self, len: usize) -> bool {
        let words = len.div_ceil(8);
        if words > self.words.len() {
            if self
                .words
                .try_reserve_exact(words - self.words.len())
                .is_err()
            {
                return false;
            }
            self.words.resize(words, 0);
        }
        self.len = len;
        true
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let at = self.len;
        self.grow(at + bytes.len());
        self.allocated_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Pads with zeros to a multiple of 8.
    pub(crate) fn align(&mut self) {
        let padding = self.len.next_multiple_of(8) - self.len;
        self.extend(&[0; 8][..padding]);
    }

    fn grow(&mut self, len: usize) {
        if len > self.words.len() * 8 {
            self.words
                .resize(len.div_ceil(8).max(self.words.len() * 2), 0);
        }
        self.len = len;
    }

    #[allow(unsafe_code, reason = "initialised words are initialised bytes")]
    pub(crate) fn bytes(&self) -> &[u8] {
        assert!(self.len <= self.words.len() * 8);
        // SAFETY: the range lies inside `words`, and any bytes are valid as u8.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut self.allocated_mut()[..len]
    }

    #[allow(unsafe_code, reason = "initialised words are initialised bytes")]
    fn allocated_mut(&mut self) -> &mut [u8] {
        let len = self.words.len() * 8;
        // SAFETY: the range is `words`, and any bytes are valid as u64 and as u8.
        unsafe { std::slice::from_raw_parts_mut(self.words.as_mut_ptr().cast(), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_keeps_what_it_has() {
        let mut bytes = Aligned::new();
        let mut expected = Vec::new();
        for n in 0..200u8 {
            let run = vec![n; usize::from(n % 13)];
            bytes.extend(&run);
            expected.extend(run);
            if n % 50 == 0 {
                bytes.align();
                expected.resize(expected.len().next_multiple_of(8), 0);
            }
        }
        assert_eq!(bytes.bytes(), expected);
        assert_eq!(bytes.bytes().as_ptr().addr() % 8, 0);
        bytes.truncate(9);
        assert_eq!(bytes.bytes(), &expected[..9]);
    }

    #[test]
    fn says_that_there_is_no_memory() {
        assert!(!Aligned::new().try_resize(usize::MAX / 2));
    }
}
