//! Compares two values by what `{:?}` prints of them, field by field and by name. Two codecs that put
//! the same bytes into fields of another name or meaning would pass a comparison of bytes.

use std::fmt::Debug;

#[derive(Debug, PartialEq)]
enum Tree {
    Struct(Vec<(String, Tree)>),
    List(Vec<Tree>),
    /// A number, a quoted text, a UUID, `None`: whatever has no parts.
    Leaf(String),
}

/// Panics unless every field of `ours` is in `theirs` with the same value, except for the fields
/// `only_ours`. Theirs may have more: fields of versions below the lowest that we serve.
pub(crate) fn assert_same(
    ours: &impl Debug,
    theirs: &impl Debug,
    only_ours: &[&str],
    context: &str,
) {
    let (ours, theirs) = (tree(&format!("{ours:?}")), tree(&format!("{theirs:?}")));
    compare(&ours, &theirs, only_ours, context);
}

fn compare(ours: &Tree, theirs: &Tree, only_ours: &[&str], path: &str) {
    match (ours, theirs) {
        (Tree::Struct(ours), Tree::Struct(theirs)) => {
            for (name, ours) in ours {
                // Compared as bytes; the types differ (a vector here, a map there).
                if name == "unknown_tagged_fields" || only_ours.contains(&name.as_str()) {
                    continue;
                }
                let path = format!("{path}.{name}");
                let theirs = theirs.iter().find(|(theirs, _)| theirs == name);
                let (_, theirs) = theirs.unwrap_or_else(|| panic!("{path} is only ours"));
                compare(ours, theirs, only_ours, &path);
            }
        }
        (Tree::List(ours), Tree::List(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{path}");
            for (ours, theirs) in ours.iter().zip(theirs) {
                compare(ours, theirs, only_ours, path);
            }
        }
        // Our records print their size only; they too are compared as bytes.
        (Tree::Leaf(ours), Tree::Leaf(_)) if ours.ends_with(" bytes") => (),
        (ours, theirs) => assert_eq!(ours, theirs, "{path}"),
    }
}

fn tree(text: &str) -> Tree {
    let mut rest = text;
    let tree = parse(&mut rest);
    assert_eq!(rest, "", "in {text}");
    tree
}

fn parse(rest: &mut &str) -> Tree {
    if rest.starts_with('"') || rest.starts_with("b\"") {
        return quoted(rest);
    }
    let length = rest
        .find([',', '{', '(', '[', ')', ']', '}'])
        .unwrap_or(rest.len());
    let (word, after) = rest.split_at(length);
    *rest = after;
    match rest.chars().next() {
        Some('[') => Tree::List(sequence(rest, ']', parse)),
        Some('(') => {
            let mut inner = sequence(rest, ')', parse);
            // A newtype is what it holds.
            if inner.len() == 1 {
                inner.remove(0)
            } else {
                Tree::List(inner)
            }
        }
        Some('{') => Tree::Struct(sequence(rest, '}', |rest| {
            let (name, after) = rest.split_once(':').expect("a field has a value");
            *rest = after.trim_start();
            (name.to_owned(), parse(rest))
        })),
        _ => Tree::Leaf(word.trim().to_owned()),
    }
}

fn quoted(rest: &mut &str) -> Tree {
    let open = rest.find('"').expect("starts with a quote") + 1;
    let mut escaped = false;
    let end = rest[open..].find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let (text, after) = rest.split_at(open + end.expect("ends with a quote") + 1);
    *rest = after;
    Tree::Leaf(text.to_owned())
}

/// What is between a bracket and its partner, separated by commas.
fn sequence<T>(rest: &mut &str, close: char, mut item: impl FnMut(&mut &str) -> T) -> Vec<T> {
    *rest = rest[1..].trim_start();
    let mut items = Vec::new();
    while !rest.starts_with(close) {
        items.push(item(rest));
        *rest = rest.trim_start().trim_start_matches(',').trim_start();
    }
    *rest = &rest[1..];
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code, reason = "read by Debug")]
    struct Newtype(&'static str);

    mod ours {
        #[derive(Debug)]
        #[allow(dead_code, reason = "read by Debug")]
        pub(crate) struct Message {
            pub(crate) name: &'static str,
            pub(crate) list: Vec<Option<i32>>,
        }
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "read by Debug")]
    struct Message {
        older: i8,
        list: [Option<i32>; 2],
        name: Newtype,
    }

    #[test]
    fn equal_by_name() {
        let ours = ours::Message {
            name: "a\"b\\",
            list: vec![Some(-1), None],
        };
        let theirs = Message {
            older: 1,
            list: [Some(-1), None],
            name: Newtype("a\"b\\"),
        };
        assert_same(&ours, &Some(theirs), &[], "");
    }

    #[test]
    #[should_panic(expected = ".list")]
    fn other_values_are_seen() {
        let ours = ours::Message {
            name: "",
            list: vec![Some(1), None],
        };
        let theirs = Message {
            older: 1,
            list: [Some(2), None],
            name: Newtype(""),
        };
        assert_same(&ours, &theirs, &[], "");
    }

    #[test]
    #[should_panic(expected = ".name is only ours")]
    fn other_names_are_seen() {
        let ours = ours::Message {
            name: "",
            list: vec![],
        };
        let theirs = Other { list: [] };
        assert_same(&ours, &theirs, &["name"], "");
        assert_same(&ours, &theirs, &["list"], "");
    }

    #[derive(Debug)]
    #[allow(dead_code, reason = "read by Debug")]
    struct Other {
        list: [i32; 0],
    }
}
