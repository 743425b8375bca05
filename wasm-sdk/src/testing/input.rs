//! A record to run a function on.

/// A record to run a function on. It begins with a null key, a null value, no headers and timestamp 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) timestamp: i64,
    pub(super) offset_delta: Option<u32>,
    pub(super) append_time: bool,
}

impl Input {
    /// A record of nulls.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives it a key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Gives it a value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// Appends a header.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// Appends a header with a null value.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_ref().to_vec(), None));
        self
    }

    /// Gives it a timestamp in milliseconds since 1970; -1 is none.
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = milliseconds;
        self
    }

    /// Makes its timestamp the broker's.
    pub fn append_time(mut self) -> Self {
        self.append_time = true;
        self
    }

    /// Places it so many offsets behind the frame's first; without it, as many as records are before
    /// it.
    pub fn offset_delta(mut self, offsets: u32) -> Self {
        self.offset_delta = Some(offsets);
        self
    }
}
