//! Little-endian fields of what lies in the bucket.

/// Why bytes from the bucket are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end too early.
    #[error("it ends too early")]
    Truncated,
    /// They go on after the end.
    #[error("{0} bytes follow its end")]
    Trailing(usize),
    /// They are something else.
    #[error("it does not begin as such an object does")]
    Magic,
    /// A later release wrote them.
    #[error("it has format version {0}, which a later release wrote")]
    Version(u16),
    /// The checksum disagrees.
    #[error("its checksum is {computed:x}, expected {expected:x}")]
    Checksum {
        /// What was to be.
        expected: u64,
        /// What the bytes have.
        computed: u64,
    },
    /// It is not the object that was asked for.
    #[error("it belongs to another partition or other offsets")]
    Identity,
    /// A number is out of its range.
    #[error("a number in it is out of its range")]
    Range,
}

impl From<tidemill_records::ManifestError> for FormatError {
    fn from(error: tidemill_records::ManifestError) -> Self {
        match error {
            tidemill_records::ManifestError::Truncated => Self::Truncated,
            tidemill_records::ManifestError::Range => Self::Range,
        }
    }
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

pub(crate) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// Appends fields.
pub(crate) trait Put {
    fn raw(&mut self, bytes: &[u8]);

    fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    /// How many of something follow.
    fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("lists are far smaller than 4 Gi entries"));
    }
}

impl Put for Vec<u8> {
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Takes fields off the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let split = self.0.split_at_checked(count);
        let (taken, rest) = split.ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as many bytes were taken"))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }

    /// A count of entries of at least `entry_bytes` each: more than there is room for is a lie.
    pub(crate) fn count(&mut self, entry_bytes: usize) -> Result<usize, FormatError> {
        let count = self.u32()? as usize;
        match count <= self.0.len() / entry_bytes {
            true => Ok(count),
            false => Err(FormatError::Truncated),
        }
    }

    pub(crate) fn end(&self) -> Result<(), FormatError> {
        match self.0.len() {
            0 => Ok(()),
            left => Err(FormatError::Trailing(left)),
        }
    }
}
