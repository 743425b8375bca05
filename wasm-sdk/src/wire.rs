//! Numbers and ranges inside a frame, and the layout of ABI 1 that reader and writer share.

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) const CONFIG_MAGIC: [u8; 4] = *b"TMC1";
pub(crate) const ANSWER_MAGIC: [u8; 4] = *b"TMA1";
pub(crate) const INPUT_MAGIC: [u8; 4] = *b"TMI1";
pub(crate) const OUTPUT_MAGIC: [u8; 4] = *b"TMO1";

pub(crate) const CONFIG_HEADER: usize = 40;
pub(crate) const ANSWER_HEADER: usize = 24;
pub(crate) const INPUT_HEADER: usize = 64;
pub(crate) const OUTPUT_HEADER: usize = 32;

/// Bytes of a record's descriptor.
pub(crate) const RECORD: usize = 40;
/// Bytes of a header of a record and of an entry of the configuration: two ranges.
pub(crate) const PAIR: usize = 16;
/// Bytes of a header change.
pub(crate) const CHANGE: usize = 24;
/// Bytes of a failure's message that a host keeps.
pub(crate) const MESSAGE_MAX: usize = 4096;

pub(crate) const PASS: u8 = 1;
pub(crate) const DROP: u8 = 2;
pub(crate) const EDIT: u8 = 3;
pub(crate) const NEW: u8 = 4;
pub(crate) const FAIL: u8 = 5;

pub(crate) const PARTITION_BITS: u8 = 3;
pub(crate) const PARTITION_SOURCE: u8 = 1;
pub(crate) const PARTITION_EXPLICIT: u8 = 2;
pub(crate) const KEY_GIVEN: u8 = 1 << 2;
pub(crate) const VALUE_GIVEN: u8 = 1 << 3;
pub(crate) const TIMESTAMP_GIVEN: u8 = 1 << 4;
pub(crate) const INHERIT: u8 = 1 << 5;

pub(crate) const HEADER_APPEND: u32 = 1;
pub(crate) const HEADER_REMOVE: u32 = 2;
pub(crate) const HEADER_SET: u32 = 3;
pub(crate) const HEADER_CLEAR: u32 = 4;

/// The `N` bytes at `at`; reads out of them cost no further checks.
pub(crate) fn fixed<const N: usize>(frame: &[u8], at: usize) -> Result<&[u8; N], Malformed> {
    frame
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(Malformed("a table lies outside of the frame"))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> i32 {
    u32_at(bytes, at).cast_signed()
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let low = u64::from(u32_at(bytes, at));
    let high = u64::from(u32_at(bytes, at + 4));
    (high << 32 | low).cast_signed()
}

/// A `u32` that counts or places something in memory.
pub(crate) fn size_at(bytes: &[u8], at: usize) -> usize {
    u32_at(bytes, at) as usize
}

/// The bytes that a pair of `at u32, length i32` at `descriptor[field..]` means; `None` is null.
pub(crate) fn range<'a>(
    frame: &'a [u8],
    descriptor: &[u8],
    field: usize,
) -> Result<Option<&'a [u8]>, Malformed> {
    let at = size_at(descriptor, field);
    match i32_at(descriptor, field + 4) {
        -1 => Ok(None),
        length if length < 0 => Err(Malformed("a length is negative")),
        length => at
            .checked_add(length as usize)
            .and_then(|end| frame.get(at..end))
            .map(Some)
            .ok_or(Malformed("bytes lie outside of the frame")),
    }
}

/// A table of `count` rows of `row` bytes.
pub(crate) fn table(frame: &[u8], at: usize, count: usize, row: usize) -> Result<&[u8], Malformed> {
    count
        .checked_mul(row)
        .and_then(|length| at.checked_add(length))
        .and_then(|end| frame.get(at..end))
        .ok_or(Malformed("a table lies outside of the frame"))
}

/// Checks what all frames begin with (magic, header bytes, frame bytes) and cuts `bytes` to the frame.
pub(crate) fn open<const HEADER: usize>(
    bytes: &[u8],
    magic: [u8; 4],
) -> Result<(&[u8], &[u8; HEADER]), Malformed> {
    let header = fixed::<HEADER>(bytes, 0)?;
    if header[..4] != magic {
        return Err(Malformed("the magic number is another"));
    }
    if size_at(header, 4) < HEADER {
        return Err(Malformed("the header is too short"));
    }
    let frame = bytes
        .get(..size_at(header, 8))
        .ok_or(Malformed("the frame is cut off"))?;
    if frame.len() < size_at(header, 4) {
        return Err(Malformed("the frame is shorter than its header"));
    }
    Ok((frame, header))
}

/// What a length or position is written as.
///
/// # Panics
///
/// Beyond 2 GiB, which no frame may have.
pub(crate) fn narrow(size: usize) -> u32 {
    i32::try_from(size)
        .expect("a frame is shorter than 2 GiB")
        .cast_unsigned()
}
