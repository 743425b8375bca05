//! Changing some parts of a value and leaving all other bytes as they are.

use std::str::FromStr;

use super::pointer::{Pointer, Token};
use super::{Child, Kind, PointerError, Value};

/// Some parts of a value, named by pointers. Where one pointer lies inside another, the outer one
/// counts.
///
/// ```
/// use tidemill_sdk::json::{self, Selection};
///
/// let payment = json::parse(br#"{"id": 7, "card": {"no": "4111", "name": "Ada"}}"#)?;
/// let selection = Selection::new(["/card/no"]).expect("a pointer");
/// let mut out = Vec::new();
/// selection.replace(&payment, r#""***""#, &mut out);
/// assert_eq!(out, br#"{"id": 7, "card": {"no": "***", "name": "Ada"}}"#);
/// # Ok::<(), json::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Selection {
    root: Node,
}

#[derive(Clone, Debug, Default)]
struct Node {
    selected: bool,
    children: Vec<(Token, Node)>,
}

/// What happens to the selected parts.
#[derive(Clone, Copy)]
enum Change<'a> {
    Keep,
    Remove,
    Replace(&'a str),
}

impl Selection {
    /// Reads pointers; the empty one, the whole value, is refused.
    pub fn new<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Result<Self, PointerError> {
        let mut root = Node::default();
        for pointer in pointers {
            let pointer = Pointer::new(pointer)?;
            if pointer.tokens().is_empty() {
                return Err(PointerError::Whole);
            }
            root.descend(pointer.tokens()).selected = true;
        }
        Ok(Self { root })
    }

    /// Appends `value` with the selected parts only. Containers on the way to one stay, and elements of
    /// arrays move up; of a scalar `null` is left.
    pub fn keep(&self, value: &Value<'_>, out: &mut Vec<u8>) {
        change(value, &self.root, Change::Keep, out);
    }

    /// Appends `value` without the selected parts; elements of arrays move up.
    pub fn remove(&self, value: &Value<'_>, out: &mut Vec<u8>) {
        change(value, &self.root, Change::Remove, out);
    }

    /// Appends `value` with `json` in place of each selected part.
    pub fn replace(&self, value: &Value<'_>, json: &str, out: &mut Vec<u8>) {
        change(value, &self.root, Change::Replace(json), out);
    }
}

impl FromStr for Selection {
    type Err = PointerError;

    /// Reads pointers that are separated by commas.
    fn from_str(pointers: &str) -> Result<Self, PointerError> {
        Self::new(pointers.split(',').map(str::trim))
    }
}

impl Node {
    fn descend(&mut self, tokens: &[Token]) -> &mut Node {
        let Some((first, rest)) = tokens.split_first() else {
            return self;
        };
        let known = self.children.iter().position(|(token, _)| token == first);
        let index = known.unwrap_or_else(|| {
            self.children.push((first.clone(), Node::default()));
            self.children.len() - 1
        });
        self.children[index].1.descend(rest)
    }

    fn child(&self, child: &Child<'_>) -> Option<&Node> {
        self.children
            .iter()
            .find(|(token, _)| token.names(child))
            .map(|(_, node)| node)
    }
}

/// No deeper than the pointers, and never deeper than the text.
fn change(value: &Value<'_>, node: &Node, how: Change<'_>, out: &mut Vec<u8>) {
    let (open, close) = match value.kind() {
        Kind::Object => (b'{', b'}'),
        Kind::Array => (b'[', b']'),
        // A scalar has no parts.
        _ if matches!(how, Change::Keep) => return out.extend(b"null"),
        _ => return out.extend(value.raw().as_bytes()),
    };
    out.push(open);
    let empty = out.len();
    for child in value.children() {
        let before = out.len();
        if before > empty {
            out.push(b',');
        }
        if !change_child(&child, node, how, out) {
            out.truncate(before);
        }
    }
    out.push(close);
}

/// Appends a child with the white space around it; false where it is to go.
fn change_child(child: &Child<'_>, node: &Node, how: Change<'_>, out: &mut Vec<u8>) -> bool {
    let text = child.value.text().as_bytes();
    let before = &text[child.start..child.value.offset()];
    let behind = &text[child.value.end()..child.end];
    let container = matches!(child.value.kind(), Kind::Object | Kind::Array);
    match (node.child(child), how) {
        (Some(node), Change::Remove) if node.selected => false,
        (Some(node), Change::Replace(json)) if node.selected => {
            out.extend(before);
            out.extend(json.as_bytes());
            out.extend(behind);
            true
        }
        (Some(node), _) if !node.selected && container => {
            out.extend(before);
            change(&child.value, node, how, out);
            out.extend(behind);
            true
        }
        (None, Change::Keep) => false,
        (Some(node), Change::Keep) if !node.selected => false,
        _ => {
            out.extend(&text[child.start..child.end]);
            true
        }
    }
}
