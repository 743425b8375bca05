//! The function as it is deployed.

use filter::{Filter, MISSING};
use tidemill_sdk::testing::{Harness, Input, Outcome};

fn run(config: &[(&str, &str)], values: &[&str]) -> Outcome {
    let records: Vec<Input> = values
        .iter()
        .map(|value| Input::new().key("k").value(value))
        .collect();
    Harness::<Filter>::new(config, &["sink"])
        .unwrap()
        .process(&records)
}

/// The values among `values` that meet a condition on `/v`.
fn passing<'a>(op: &str, value: &str, values: &[&'a str]) -> Vec<&'a str> {
    let outcome = run(&[("where", "/v"), ("op", op), ("value", value)], values);
    assert!(outcome.refused.is_empty());
    outcome
        .written
        .iter()
        .map(|written| values[written.input])
        .collect()
}

const NUMBERS: [&str; 4] = [
    r#"{"v":59}"#,
    r#"{"v":60.0}"#,
    r#"{"v":6.1e1}"#,
    r#"{"v":null}"#,
];

#[test]
fn compares_numbers() {
    assert_eq!(passing("gt", "60", &NUMBERS), NUMBERS[2..3]);
    assert_eq!(passing("ge", "60", &NUMBERS), NUMBERS[1..3]);
    assert_eq!(passing("lt", "60", &NUMBERS), NUMBERS[..1]);
    assert_eq!(passing("le", "60", &NUMBERS), NUMBERS[..2]);
    assert_eq!(passing("eq", "60", &NUMBERS), NUMBERS[1..2]);
    assert_eq!(
        passing("ne", "60", &NUMBERS),
        [NUMBERS[0], NUMBERS[2], NUMBERS[3]]
    );
    assert_eq!(passing("eq", "null", &NUMBERS), NUMBERS[3..]);
}

#[test]
fn keeps_large_integers_apart() {
    let ids = [r#"{"v":9007199254740993}"#, r#"{"v":9007199254740992}"#];
    assert_eq!(passing("eq", "9007199254740993", &ids), ids[..1]);
}

#[test]
fn compares_text() {
    let names = [r#"{"v":"U\u0041"}"#, r#"{"v":"AA"}"#, r#"{"v":true}"#];
    assert_eq!(passing("eq", "UA", &names), names[..1]);
    assert_eq!(passing("lt", "B", &names), names[1..2]);
    assert_eq!(passing("prefix", "U", &names), names[..1]);
    assert_eq!(passing("contains", "A", &names), names[..2]);
    assert_eq!(passing("eq", "true", &names), names[2..]);
}

#[test]
fn asks_for_presence() {
    let values = [r#"{"v":null}"#, r#"{"w":1}"#];
    let presence = |op| {
        let outcome = run(&[("where", "/v"), ("op", op)], &values);
        outcome
            .written
            .iter()
            .map(|written| written.input)
            .collect::<Vec<_>>()
    };
    assert_eq!(presence("exists"), [0]);
    assert_eq!(presence("missing"), [1]);
}

#[test]
fn gives_keys() {
    let config = [
        ("where", "/v"),
        ("op", "gt"),
        ("value", "60"),
        ("key", "/dest"),
    ];
    let outcome = run(&config, &[r#"{"v":61,"dest":"IAH"}"#, r#"{"v":61}"#]);
    let [written] = &outcome.written[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(written.key.as_deref(), Some(&b"IAH"[..]));
}

#[test]
fn follows_its_policies() {
    let outcome = |missing, invalid| {
        let config = [
            ("where", "/v"),
            ("op", "eq"),
            ("value", "1"),
            ("missing", missing),
            ("invalid", invalid),
        ];
        let outcome = run(&config, &["{}", "{"]);
        let codes = outcome
            .refused
            .iter()
            .map(|refused| refused.code)
            .collect::<Vec<_>>();
        (outcome.written.len(), codes)
    };
    assert_eq!(outcome("drop", "drop"), (0, vec![]));
    assert_eq!(outcome("pass", "pass"), (2, vec![]));
    assert_eq!(
        outcome("fail", "fail"),
        (0, vec![MISSING, tidemill_sdk::Failure::NOT_JSON])
    );
}

#[test]
fn refuses_wrong_configurations() {
    let message = |config: &[(&str, &str)]| {
        Harness::<Filter>::new(config, &["sink"])
            .err()
            .unwrap()
            .message()
            .to_owned()
    };
    assert_eq!(message(&[]), "the key `where` is missing");
    assert_eq!(
        message(&[("where", "v")]),
        "`where=v`: a JSON pointer begins with `/`"
    );
    assert_eq!(message(&[("where", "/v")]), "the key `op` is missing");
    assert!(message(&[("where", "/v"), ("op", "=")]).starts_with("`op==` is not one of gt, ge"));
    assert_eq!(
        message(&[("where", "/v"), ("op", "gt")]),
        "the key `value` is missing"
    );
    assert!(message(&[("when", "/v")]).starts_with("the key `when` is unknown; there are where"));
    let superfluous = [("where", "/v"), ("op", "exists"), ("value", "1")];
    assert_eq!(
        message(&superfluous),
        "`op=exists` and `op=missing` take no `value`"
    );
}
