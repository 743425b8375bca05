//! The function as it is deployed.

use route::{NO_ROUTE, Route};
use tidemill_sdk::testing::{Harness, Input, Outcome};

fn run(default: &[(&str, &str)], values: &[&str]) -> Outcome {
    let routes = [("by", "/carrier"), ("to.UA", "united"), ("to.7", "seven")];
    let mut harness =
        Harness::<Route>::new(&[&routes, default].concat(), &["others", "seven", "united"])
            .unwrap();
    let records: Vec<Input> = values
        .iter()
        .map(|value| Input::new().value(value))
        .collect();
    harness.process(&records)
}

const VALUES: [&str; 4] = [
    r#"{"carrier":"UA"}"#,
    r#"{"carrier":7}"#,
    r#"{"carrier":"AA"}"#,
    r#"{"dest":"IAH"}"#,
];

#[test]
fn sends_records_where_they_belong() {
    let outcome = run(&[("default", "others")], &VALUES);
    let sinks: Vec<&str> = outcome
        .written
        .iter()
        .map(|written| written.sink.as_str())
        .collect();
    assert_eq!(sinks, ["united", "seven", "others", "others"]);
}

#[test]
fn treats_others_as_it_is_told() {
    assert_eq!(run(&[("default", "drop")], &VALUES).written.len(), 2);
    let outcome = run(&[], &VALUES);
    let refused: Vec<_> = outcome
        .refused
        .iter()
        .map(|refused| (refused.code, &refused.message[..]))
        .collect();
    assert_eq!(
        refused,
        [
            (NO_ROUTE, "no route for AA"),
            (NO_ROUTE, "no route for a value without it")
        ]
    );
}

#[test]
fn treats_what_is_not_json_as_it_is_told() {
    assert_eq!(run(&[("default", "others")], &["{"]).refused.len(), 1);
    assert_eq!(
        run(&[("default", "others"), ("invalid", "drop")], &["{"]),
        Outcome::default()
    );
    let others = run(&[("default", "others"), ("invalid", "default")], &["{"]);
    assert_eq!(others.written[0].sink, "others");
}

#[test]
fn refuses_wrong_configurations() {
    let message = |config: &[(&str, &str)]| {
        Harness::<Route>::new(config, &["a", "b"])
            .err()
            .unwrap()
            .message()
            .to_owned()
    };
    assert_eq!(message(&[]), "the key `by` is missing");
    assert!(message(&[("by", "/x")]).starts_with("there is no route"));
    assert_eq!(
        message(&[("by", "/x"), ("to.UA", "c")]),
        "the topic `c` is not a sink of this deployment; there are a, b"
    );
    assert!(message(&[("by", "/x"), ("too", "c")]).starts_with("the key `too` is unknown"));
}
