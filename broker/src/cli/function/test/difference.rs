//! Where two JSON values differ, field by field. Text that is JSON itself is looked into, as values of records are.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::super::super::output::printable;

/// One place.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    /// Names and indices from the outside in, with `/` between them.
    pub(super) at: String,
    /// None where the place is not there.
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
}

/// All places at which `new` is not `old`.
pub(super) fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    found
}

fn compare(at: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    let below = |name: &dyn std::fmt::Display| match at {
        "" => name.to_string(),
        _ => format!("{at}/{name}"),
    };
    match (old, new) {
        _ if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                compare(&below(name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&below(&index), old.get(index), new.get(index), found);
            }
        }
        (Some(Value::String(old_text)), Some(Value::String(new_text))) => {
            let before = found.len();
            if let (Some(old), Some(new)) = (document(old_text), document(new_text)) {
                compare(at, Some(&old), Some(&new), found);
            }
            // Text of which only the writing differs is different all the same.
            if found.len() == before {
                found.push(difference(at, old, new));
            }
        }
        _ => found.push(difference(at, old, new)),
    }
}

fn difference(at: &str, old: Option<&Value>, new: Option<&Value>) -> Difference {
    Difference {
        at: at.to_owned(),
        old: old.cloned(),
        new: new.cloned(),
    }
}

/// The object or list that a text is.
pub(super) fn document(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    (value.is_object() || value.is_array()).then_some(value)
}

impl Difference {
    /// `value/delay: 5 -> 6`.
    pub(super) fn text(&self) -> String {
        let (old, new) = (shown(self.old.as_ref()), shown(self.new.as_ref()));
        format!("{}: {old} -> {new}", printable(&self.at))
    }
}

/// A value in one line that is not too long.
pub(super) fn shown(value: Option<&Value>) -> String {
    const CHARS_MAX: usize = 200;
    let Some(value) = value else {
        return "(none)".to_owned();
    };
    let text = printable(&value.to_string());
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(old: &Value, new: &Value) -> Vec<String> {
        differences(old, new).iter().map(Difference::text).collect()
    }

    #[test]
    fn what_differs_is_named_by_its_place() {
        let old = json!({"key": "a", "value": "{\"delay\": 5, \"stops\": [1, 2]}", "headers": []});
        let new = json!({"key": null, "value": "{\"delay\":6,\"stops\":[1]}", "headers": []});
        assert_eq!(
            texts(&old, &new),
            [
                "key: \"a\" -> null",
                "value/delay: 5 -> 6",
                "value/stops/1: 2 -> (none)",
            ]
        );
        assert!(texts(&old, &old).is_empty());
    }

    #[test]
    fn the_same_json_in_other_words_is_not_the_same_text() {
        let texts = texts(
            &json!({"value": "{\"a\": 1}"}),
            &json!({"value": "{\"a\":1}"}),
        );
        assert_eq!(texts, [r#"value: "{\"a\": 1}" -> "{\"a\":1}""#]);
    }

    #[test]
    fn long_values_are_cut() {
        let long = json!("x".repeat(1_000));
        assert!(shown(Some(&long)).chars().count() < 300);
    }
}
