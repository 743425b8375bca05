//! JSON pointers (RFC 6901).

use std::fmt;
use std::str::FromStr;

use super::Child;

/// A place inside a JSON value: `/a/b/0`; `~1` is a slash and `~0` a tilde in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    tokens: Vec<Token>,
}

/// One step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    name: String,
    /// What it means in an array.
    index: Option<usize>,
}

impl Pointer {
    /// Reads a pointer.
    pub fn new(pointer: &str) -> Result<Self, PointerError> {
        let mut names = pointer.split('/');
        if names.next() != Some("") {
            return Err(PointerError::Slash);
        }
        Ok(Self {
            tokens: names.map(Token::new).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(pointer: &str) -> Result<Self, PointerError> {
        Self::new(pointer)
    }
}

impl Token {
    fn new(escaped: &str) -> Result<Self, PointerError> {
        if escaped
            .split('~')
            .skip(1)
            .any(|rest| !rest.starts_with(['0', '1']))
        {
            return Err(PointerError::Tilde);
        }
        let is_index = escaped.bytes().all(|byte| byte.is_ascii_digit())
            && (escaped == "0" || !escaped.starts_with('0'));
        Ok(Self {
            name: escaped.replace("~1", "/").replace("~0", "~"),
            index: is_index.then(|| escaped.parse().ok()).flatten(),
        })
    }

    pub(super) fn names(&self, child: &Child<'_>) -> bool {
        match &child.name {
            Some(name) => name.is_string(&self.name),
            None => self.index == Some(child.index),
        }
    }
}

/// Why a text is not a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerError {
    /// It is not empty and does not begin with a slash.
    Slash,
    /// A tilde is not followed by 0 or 1.
    Tilde,
    /// It means the whole value, where a part is asked for.
    Whole,
}

impl fmt::Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slash => "a JSON pointer begins with `/`",
            Self::Tilde => "in a JSON pointer `~` is written `~0`, and `/` in a name `~1`",
            Self::Whole => "the pointer must name a part of the value",
        })
    }
}

impl std::error::Error for PointerError {}
