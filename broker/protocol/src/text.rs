//! Strings that share the bytes of the frame they came in.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// A UTF-8 string over [`Bytes`]: cheap to clone, and when decoded a view into its frame.
///
/// A view keeps the whole frame alive. What outlives the request (a member's id, a topic's name)
/// should be [`Str::detached`] or become a `String` or an `Arc<str>`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Str(Bytes);

impl Str {
    /// A string that needs no memory.
    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor takes UTF-8 or checks for it, and the bytes never change.
        unsafe { str::from_utf8_unchecked(&self.0) }
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes of the text.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A copy with memory of its own, which does not keep a frame alive.
    pub fn detached(&self) -> Str {
        Str(Bytes::copy_from_slice(&self.0))
    }
}

impl TryFrom<Bytes> for Str {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Str, std::str::Utf8Error> {
        str::from_utf8(&bytes)?;
        Ok(Str(bytes))
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(Bytes::from(text))
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Str {
        Str::from(text.as_str())
    }
}

impl From<Str> for String {
    fn from(text: Str) -> String {
        text.as_str().to_owned()
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

/// Maps keyed by `Str` can be asked with a `&str`: hash and order are those of `str`.
impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Str) -> Ordering {
        self.as_str().cmp(other)
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Str) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    #[test]
    fn refuses_what_is_not_utf8() {
        assert!(Str::try_from(Bytes::from_static(b"\xff\xfe")).is_err());
        assert_eq!(
            Str::try_from(Bytes::from_static("Füße".as_bytes())).unwrap(),
            "Füße"
        );
    }

    #[test]
    fn maps_are_asked_with_str() {
        let hashed = HashMap::from([(Str::from("a"), 1), (Str::from("b"), 2)]);
        let sorted = BTreeMap::from([(Str::from("a"), 1), (Str::from("b"), 2)]);
        assert_eq!((hashed.get("b"), hashed.get("c")), (Some(&2), None));
        assert_eq!((sorted.get("b"), sorted.get("c")), (Some(&2), None));
    }

    #[test]
    fn detached_does_not_share() {
        let frame = Bytes::from(vec![b'x'; 100]);
        let view = Str::try_from(frame.slice(10..20)).unwrap();
        let copy = view.detached();
        assert_eq!(copy, view);
        assert!(!frame.as_ptr_range().contains(&copy.as_bytes().as_ptr()));
    }
}
