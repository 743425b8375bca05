//! Holds the lines that came out against those that were expected.

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::super::output::printable;
use super::difference::{Difference, differences, document, shown};

/// Pairs of lines that are compared to find the longest common run; beyond it, line stands against line.
const PAIRS_MAX: usize = 4_000_000;
/// What a person is shown of each kind; the other formats have all.
pub(super) const SHOWN_MAX: usize = 50;

/// Where the lines are not as expected. Numbers count expected lines from 1.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mismatch {
    /// Expected, and something else came.
    Other {
        line: usize,
        expected: Value,
        came: Value,
        differences: Vec<Difference>,
    },
    /// Expected, and nothing came.
    Missing { line: usize, expected: Value },
    /// Came, before the expected line of this number.
    Unexpected { before: usize, came: Value },
}

/// All mismatches, in order.
pub(super) fn compare(expected: &[Value], came: &[Value]) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    let (mut e, mut c) = (0, 0);
    let end = (expected.len(), came.len());
    for (same_e, same_c) in common(expected, came).into_iter().chain([end]) {
        gap(expected, came, (e, same_e), (c, same_c), &mut mismatches);
        (e, c) = (same_e + 1, same_c + 1);
    }
    mismatches
}

/// What lies between two lines that are as expected: as many pairs as there are, then the rest of the longer side.
fn gap(
    expected: &[Value],
    came: &[Value],
    (e, e_end): (usize, usize),
    (c, c_end): (usize, usize),
    mismatches: &mut Vec<Mismatch>,
) {
    let pairs = (e_end - e).min(c_end - c);
    mismatches.extend((0..pairs).map(|at| {
        let (expected, came) = (&expected[e + at], &came[c + at]);
        Mismatch::Other {
            line: e + at + 1,
            differences: differences(expected, &narrowed(expected, came)),
            expected: expected.clone(),
            came: came.clone(),
        }
    }));
    mismatches.extend((e + pairs..e_end).map(|at| Mismatch::Missing {
        line: at + 1,
        expected: expected[at].clone(),
    }));
    let more = came[c + pairs..c_end].iter();
    mismatches.extend(more.map(|came| Mismatch::Unexpected {
        before: e_end + 1,
        came: came.clone(),
    }));
}

/// The longest run of lines that are as expected, as pairs of line numbers.
fn common(expected: &[Value], came: &[Value]) -> Vec<(usize, usize)> {
    let is_met = |e: usize, c: usize| narrowed(&expected[e], &came[c]) == expected[e];
    let shorter = expected.len().min(came.len());
    let prefix = (0..shorter).take_while(|at| is_met(*at, *at)).count();
    let from_end = |at: usize| (expected.len() - 1 - at, came.len() - 1 - at);
    let suffix = (0..shorter - prefix).take_while(|at| {
        let (e, c) = from_end(*at);
        is_met(e, c)
    });
    let suffix = suffix.count();
    let (e_end, c_end) = (expected.len() - suffix, came.len() - suffix);
    let (rows, columns) = (e_end - prefix, c_end - prefix);
    let mut pairs: Vec<(usize, usize)> = (0..prefix).map(|at| (at, at)).collect();
    if rows.saturating_mul(columns) > PAIRS_MAX {
        let middle = (prefix..e_end.min(c_end)).filter(|at| is_met(*at, *at));
        pairs.extend(middle.map(|at| (at, at)));
    } else {
        // longest[r][c]: how many lines are common from row r and column c on.
        let mut longest = vec![vec![0u32; columns + 1]; rows + 1];
        for row in (0..rows).rev() {
            for column in (0..columns).rev() {
                longest[row][column] = match is_met(prefix + row, prefix + column) {
                    true => longest[row + 1][column + 1] + 1,
                    false => longest[row + 1][column].max(longest[row][column + 1]),
                };
            }
        }
        let (mut row, mut column) = (0, 0);
        while row < rows && column < columns {
            if is_met(prefix + row, prefix + column) {
                pairs.push((prefix + row, prefix + column));
                (row, column) = (row + 1, column + 1);
            } else if longest[row + 1][column] >= longest[row][column + 1] {
                row += 1;
            } else {
                column += 1;
            }
        }
    }
    pairs.extend((0..suffix).rev().map(from_end));
    pairs
}

/// Of what came, the fields that the expectation names, in its form: a key or value as the JSON that it is, headers as an
/// object, of a failure what is named of it.
fn narrowed(expected: &Value, came: &Value) -> Value {
    let (Value::Object(expected), Value::Object(came)) = (expected, came) else {
        return came.clone();
    };
    let fields = expected.iter().filter_map(|(name, wanted)| {
        let field = came.get(name)?;
        let parsed = match (wanted, field) {
            (Value::Object(_) | Value::Array(_), Value::String(text)) => document(text),
            (Value::Object(_), Value::Array(headers)) => object(headers),
            (Value::Object(_), Value::Object(_)) => Some(narrowed(wanted, field)),
            _ => None,
        };
        Some((name.clone(), parsed.unwrap_or_else(|| field.clone())))
    });
    Value::Object(fields.collect::<Map<String, Value>>())
}

/// Headers by their names; none where that would lose one, or a value that is not text.
fn object(headers: &[Value]) -> Option<Value> {
    let mut object = Map::new();
    for header in headers {
        let name = header.get("key")?.as_str()?.to_owned();
        if object.insert(name, header.get("value")?.clone()).is_some() {
            return None;
        }
    }
    Some(Value::Object(object))
}

/// What there is to mend, for a person. `file` is the name of the expectation.
pub(super) fn text(mismatches: &[Mismatch], file: &str) -> String {
    let mut text = String::new();
    for mismatch in mismatches.iter().take(SHOWN_MAX) {
        match mismatch {
            Mismatch::Other {
                line,
                expected,
                came,
                differences,
            } => {
                text += &format!("{file}:{line}: something else came out\n");
                // Where an output was expected, why there is none says more than that all its fields are missing.
                match failure(came).filter(|_| expected.get("failed").is_none()) {
                    Some(failure) => text += &format!("    {failure}\n"),
                    None => differences
                        .iter()
                        .for_each(|difference| text += &format!("    {}\n", difference.text())),
                }
            }
            Mismatch::Missing { line, expected } => {
                let expected = shown(Some(expected));
                text += &format!("{file}:{line}: did not come out\n  - {expected}\n");
            }
            Mismatch::Unexpected { before, came } => {
                let came = failure(came).unwrap_or_else(|| shown(Some(came)));
                text += &format!("{file}:{before}: came out before it\n  + {came}\n");
            }
        }
    }
    match mismatches.len().saturating_sub(SHOWN_MAX) {
        0 => text,
        more => text + &format!("and {more} more\n"),
    }
}

/// Why a record has no outputs, if that is what a line says.
pub(super) fn failure(line: &Value) -> Option<String> {
    let failed = line.get("failed")?;
    let kind = failed.get("kind")?.as_str()?;
    let error = failed.get("error")?.as_str()?;
    let code = failed.get("code").and_then(Value::as_u64);
    let code = code.map_or(String::new(), |code| format!(" {code}"));
    let record = line.get("record").and_then(Value::as_u64)?;
    Some(format!(
        "record {record}: {kind}{code}: {}",
        printable(error)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(record: u32, value: &str) -> Value {
        json!({"record": record, "sink": "out", "value": value, "headers": []})
    }

    #[test]
    fn what_is_left_out_is_not_compared() {
        let came = [line(0, "{\"a\": 1}")];
        for expected in [
            json!({"sink": "out"}),
            json!({"value": {"a": 1}}),
            json!({"value": "{\"a\": 1}", "headers": []}),
        ] {
            assert_eq!(compare(&[expected], &came), []);
        }
        for expected in [
            json!({"value": "{\"a\":1}"}),
            json!({"value": {"a": 2}}),
            json!({"failed": {"kind": "trap"}}),
        ] {
            assert_eq!(compare(&[expected], &came).len(), 1);
        }
    }

    #[test]
    fn a_failure_may_be_expected_without_its_text() {
        let failed = json!({"kind": "failed", "code": 9, "error": "no delay"});
        let came = [json!({"record": 1, "failed": failed})];
        for expected in [
            json!({"failed": {"kind": "failed"}}),
            json!({"record": 1, "failed": {"kind": "failed", "code": 9}}),
        ] {
            assert_eq!(compare(&[expected], &came), []);
        }
        for expected in [
            json!({"failed": {"kind": "trap"}}),
            json!({"failed": {"knd": "failed"}}),
        ] {
            assert_eq!(compare(&[expected], &came).len(), 1);
        }
    }

    #[test]
    fn headers_may_be_expected_as_an_object() {
        let header = |key: &str| json!({"key": key, "value": "1"});
        let came = |headers: &[Value]| [json!({"headers": headers})];
        let expected = [json!({"headers": {"a": "1", "b": "1"}})];
        assert_eq!(compare(&expected, &came(&[header("b"), header("a")])), []);
        assert_eq!(compare(&[json!({"headers": {}})], &came(&[])), []);
        for other in [&[header("a")][..], &[header("a"), header("b"), header("a")]] {
            assert_eq!(compare(&expected, &came(other)).len(), 1);
        }
    }

    #[test]
    fn a_line_too_many_is_one_mismatch() {
        let expected = [line(0, "a"), line(1, "b"), line(2, "c")];
        let came = [line(0, "a"), line(0, "x"), line(1, "b"), line(2, "c")];
        assert_eq!(
            compare(&expected, &came),
            [Mismatch::Unexpected {
                before: 2,
                came: line(0, "x")
            }]
        );
        assert_eq!(
            compare(&came, &expected),
            [Mismatch::Missing {
                line: 2,
                expected: line(0, "x")
            }]
        );
    }

    #[test]
    fn a_line_that_changed_is_told_by_its_fields() {
        let expected = [line(0, "a"), line(1, "b"), line(2, "c")];
        let came = [line(0, "a"), line(1, "B"), line(2, "c")];
        let mismatches = compare(&expected, &came);
        assert_eq!(
            text(&mismatches, "e.ndjson"),
            "e.ndjson:2: something else came out\n    value: \"b\" -> \"B\"\n"
        );
        let told = serde_json::to_value(&mismatches).unwrap();
        assert_eq!(told[0]["other"]["expected"], expected[1]);
        assert_eq!(told[0]["other"]["came"], came[1]);
    }

    #[test]
    fn a_record_that_failed_says_why() {
        let failed = json!({"kind": "failed", "code": 9, "error": "no delay"});
        let failed = json!({"record": 1, "failed": failed});
        let mismatches = compare(&[line(1, "b")], std::slice::from_ref(&failed));
        assert_eq!(
            text(&mismatches, "e.ndjson"),
            "e.ndjson:1: something else came out\n    record 1: failed 9: no delay\n"
        );
        let told = serde_json::to_value(&mismatches).unwrap();
        assert_eq!(told[0]["other"]["came"]["failed"]["error"], "no delay");
        let text = text(&compare(&[], &[failed]), "e.ndjson");
        assert!(text.contains("  + record 1: failed 9: no delay"), "{text}");
    }

    #[test]
    fn nothing_against_nothing_is_fine() {
        assert_eq!(compare(&[], &[]), []);
        assert_eq!(
            compare(&[line(0, "a")], &[]),
            [Mismatch::Missing {
                line: 1,
                expected: line(0, "a")
            }]
        );
    }
}
