//! Protocol-buffer varints with zigzag, as Kafka's records use them.

/// Why a varint could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    /// The bytes end inside the number.
    Truncated,
    /// More bits than the type holds.
    Overflow,
}

/// A cursor over borrowed bytes. Reads leave it where they failed.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What is still unread.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Steps over `len` bytes and returns them.
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// A signed number of at most 64 bits (10 bytes).
    #[inline]
    pub(crate) fn varlong(&mut self) -> Result<i64, VarintError> {
        // Lengths and deltas nearly always fit one or two bytes.
        match self.bytes.get(self.at..) {
            Some([first, ..]) if *first < 0x80 => {
                self.at += 1;
                Ok(unzigzag(u64::from(*first)))
            }
            Some([first, second, ..]) if *second < 0x80 => {
                self.at += 2;
                Ok(unzigzag(u64::from(*first & 0x7f) | u64::from(*second) << 7))
            }
            _ => self.varlong_slow(),
        }
    }

    #[cold]
    fn varlong_slow(&mut self) -> Result<i64, VarintError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte().ok_or(VarintError::Truncated)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(VarintError::Overflow);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(unzigzag(value));
            }
        }
        Err(VarintError::Overflow)
    }

    /// A signed number of at most 32 bits. Kafka's reader takes five bytes at most; so does this one.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i32, VarintError> {
        let start = self.at;
        let value = self.varlong()?;
        if self.at - start > 5 {
            return Err(VarintError::Overflow);
        }
        i32::try_from(value).map_err(|_| VarintError::Overflow)
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Appends `value` in as few bytes as it needs.
pub(crate) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put_varlong`] writes.
pub(crate) fn varlong_len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    #[test]
    fn golden_bytes() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (8192, &[0x80, 0x80, 0x01]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            assert_eq!(encoded(value), bytes, "{value}");
            assert_eq!(Cursor::new(bytes).varlong(), Ok(value));
        }
    }

    #[test]
    fn numbers_too_long_or_cut_short_are_refused() {
        assert_eq!(Cursor::new(&[]).varlong(), Err(VarintError::Truncated));
        assert_eq!(Cursor::new(&[0x80]).varlong(), Err(VarintError::Truncated));
        assert_eq!(
            Cursor::new(&[0x80; 9]).varlong(),
            Err(VarintError::Truncated)
        );
        assert_eq!(
            Cursor::new(&[0x80; 11]).varlong(),
            Err(VarintError::Overflow)
        );
        let mut too_wide = [0xff; 10];
        too_wide[9] = 0x02;
        assert_eq!(Cursor::new(&too_wide).varlong(), Err(VarintError::Overflow));
        assert_eq!(
            Cursor::new(&encoded(i64::from(i32::MAX) + 1)).varint(),
            Err(VarintError::Overflow)
        );
        assert_eq!(
            Cursor::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]).varint(),
            Err(VarintError::Overflow)
        );
    }

    proptest! {
        #[test]
        fn round_trip(value: i64, shift in 0..64u32) {
            let value = value >> shift;
            let bytes = encoded(value);
            prop_assert_eq!(bytes.len(), varlong_len(value));
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Ok(value));
            prop_assert_eq!(cursor.remaining(), 0);
            if let Ok(small) = i32::try_from(value) {
                prop_assert_eq!(Cursor::new(&bytes).varint(), Ok(small));
            }
        }
    }
}
