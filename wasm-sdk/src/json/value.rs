//! A value inside a text that was checked.

use std::borrow::Cow;

use super::pointer::{Pointer, Token};
use super::{Error, Kind, scan, text};

/// A value inside a text; all of the text was checked when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    text: &'a str,
    start: usize,
    end: usize,
    kind: Kind,
}

impl<'a> Value<'a> {
    /// The value that begins behind the white space at `at`, and where it ends.
    pub(super) fn scan(text: &'a str, at: usize) -> Result<(Self, usize), Error> {
        let start = scan::space(text.as_bytes(), at);
        let (kind, end) = scan::value(text.as_bytes(), start)?;
        Ok((
            Self {
                text,
                start,
                end,
                kind,
            },
            end,
        ))
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// It as it stands in the text, without white space around it.
    pub fn raw(&self) -> &'a str {
        &self.text[self.start..self.end]
    }

    /// Bytes of the text before it.
    pub fn offset(&self) -> usize {
        self.start
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// A number, rounded to the nearest `f64`; `None` of another kind.
    pub fn number(&self) -> Option<f64> {
        (self.kind == Kind::Number)
            .then(|| self.raw().parse().ok())
            .flatten()
    }

    /// A number without fraction and exponent that an `i64` holds, exact.
    pub fn integer(&self) -> Option<i64> {
        (self.kind == Kind::Number)
            .then(|| self.raw().parse().ok())
            .flatten()
    }

    /// A string, unescaped; borrowed where nothing is escaped. Halves of surrogate pairs that stand
    /// alone become U+FFFD.
    pub fn string(&self) -> Option<Cow<'a, str>> {
        (self.kind == Kind::String).then(|| text::unescape(self.inside()))
    }

    /// Whether it is a string, and this one.
    pub fn is_string(&self, expected: &str) -> bool {
        self.kind == Kind::String && text::equals(self.inside(), expected)
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        (self.kind == Kind::Boolean).then(|| self.raw() == "true")
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// As people write it: strings unescaped and without quotation marks, all else as it stands.
    pub fn plain(&self) -> Cow<'a, str> {
        self.string().unwrap_or(Cow::Borrowed(self.raw()))
    }

    /// The value at a pointer that starts here.
    pub fn at(&self, pointer: &Pointer) -> Option<Value<'a>> {
        pointer
            .tokens()
            .iter()
            .try_fold(*self, |value, token| value.child(token))
    }

    /// The value of a member of an object.
    pub fn member(&self, name: &str) -> Option<Value<'a>> {
        let named = |child: &Child<'_>| child.name.is_some_and(|other| other.is_string(name));
        self.children()
            .filter(named)
            .last()
            .map(|child| child.value)
    }

    /// The members of an object or the elements of an array, in order; of other kinds none.
    pub fn children(&self) -> Children<'a> {
        let inside = matches!(self.kind, Kind::Object | Kind::Array);
        Children {
            container: *self,
            next: if inside { self.start + 1 } else { self.end },
            index: 0,
        }
    }

    /// Between the two characters that enclose it.
    fn inside(&self) -> &'a str {
        &self.text[self.start + 1..self.end - 1]
    }

    fn child(&self, token: &Token) -> Option<Value<'a>> {
        let found = self.children().filter(|child| token.names(child)).last();
        found.map(|child| child.value)
    }
}

/// A member of an object or an element of an array.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    /// A string; `None` in arrays.
    pub name: Option<Value<'a>>,
    /// Counted from 0.
    pub index: usize,
    /// What the name or index stands for.
    pub value: Value<'a>,
    /// Behind the bracket or comma before it.
    pub(super) start: usize,
    /// At the comma or bracket behind it.
    pub(super) end: usize,
}

/// Iterates over members or elements.
#[derive(Clone, Debug)]
pub struct Children<'a> {
    container: Value<'a>,
    /// Behind a bracket or comma; past the container's last bracket at the end.
    next: usize,
    index: usize,
}

impl<'a> Iterator for Children<'a> {
    type Item = Child<'a>;

    fn next(&mut self) -> Option<Child<'a>> {
        let text = self.container.text;
        let start = self.next;
        let first = scan::space(text.as_bytes(), start);
        if first + 1 >= self.container.end {
            return None;
        }
        let (name, at) = match self.container.kind {
            Kind::Object => {
                let (name, end) = Value::scan(text, first).ok()?;
                (Some(name), scan::space(text.as_bytes(), end) + 1)
            }
            _ => (None, first),
        };
        let (value, end) = Value::scan(text, at).ok()?;
        let end = scan::space(text.as_bytes(), end);
        self.next = end + 1;
        self.index += 1;
        Some(Child {
            name,
            index: self.index - 1,
            value,
            start,
            end,
        })
    }
}
