//! A JSON scanner that copies nothing and allocates nothing, for values that are read in part.
//!
//! ```
//! use tidemill_sdk::json;
//!
//! let flight = br#"{"carrier": "UA", "delays": [2, 61.5]}"#;
//! let delay = json::find(flight, "/delays/1")?.expect("a second delay");
//! assert_eq!(delay.number(), Some(61.5));
//! assert_eq!(delay.raw(), "61.5");
//! assert!(json::find(flight, "/dest")?.is_none());
//! assert_eq!(json::find(b"{\"carrier\": UA}", "/carrier").unwrap_err().offset, 12);
//! # Ok::<(), json::Error>(())
//! ```
//!
//! A text is checked as a whole before anything of it is given out (RFC 8259, UTF-8, at most
//! [`DEPTH_MAX`] containers inside each other, no byte order mark). Of members with the same name the
//! last counts, as with most parsers; [`Selection`] treats all of them alike.

mod pointer;
mod scan;
mod selection;
mod text;
mod value;

pub use pointer::{Pointer, PointerError};
pub use selection::Selection;
pub use text::{quote, write_string};
pub use value::{Child, Children, Value};

use std::fmt;

/// How many containers may lie inside each other.
pub const DEPTH_MAX: u32 = 128;

/// Checks a text and gives its value.
pub fn parse(text: &[u8]) -> Result<Value<'_>, Error> {
    let text = std::str::from_utf8(text).map_err(|error| Error {
        offset: error.valid_up_to(),
        expected: "UTF-8",
    })?;
    let (value, end) = Value::scan(text, 0)?;
    match scan::space(text.as_bytes(), end) {
        end if end == text.len() => Ok(value),
        offset => Err(Error {
            offset,
            expected: "the end",
        }),
    }
}

/// Checks a text and gives the value at a pointer (RFC 6901: `""` is the whole, `"/a/0"` the first
/// element of member `a`). A pointer that is not one finds nothing.
pub fn find<'a>(text: &'a [u8], pointer: &str) -> Result<Option<Value<'a>>, Error> {
    let value = parse(text)?;
    Ok(Pointer::new(pointer)
        .ok()
        .and_then(|pointer| value.at(&pointer)))
}

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number of any size.
    Number,
    /// A string, escaped.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// Where a text stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Bytes before the place.
    pub offset: usize,
    /// What would have to come there.
    pub expected: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} at byte {}", self.expected, self.offset)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
