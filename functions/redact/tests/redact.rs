//! The function as it is deployed.

use redact::Redact;
use tidemill_sdk::testing::{Harness, Input, Outcome};

fn run(config: &[(&str, &str)], value: &str) -> Outcome {
    Harness::<Redact>::new(config, &["sink"])
        .unwrap()
        .process(&[Input::new().value(value)])
}

fn redact(config: &[(&str, &str)], value: &str) -> String {
    let outcome = run(config, value);
    String::from_utf8(outcome.written[0].value.clone().unwrap()).unwrap()
}

const PAYMENT: &str = r#"{"card": 4111, "payer": {"name": "Ada"}, "card": "4222"}"#;

#[test]
fn masks_every_occurrence() {
    assert_eq!(
        redact(&[("fields", "/card,/payer/name,/nothing")], PAYMENT),
        r#"{"card": "***", "payer": {"name": "***"}, "card": "***"}"#
    );
    assert_eq!(
        redact(&[("fields", "/payer"), ("with", "a \"b\"")], PAYMENT),
        r#"{"card": 4111, "payer": "a \"b\"", "card": "4222"}"#
    );
}

#[test]
fn removes_every_occurrence() {
    let config = [("fields", "/card"), ("mode", "remove")];
    assert_eq!(redact(&config, PAYMENT), r#"{ "payer": {"name": "Ada"}}"#);
    assert_eq!(redact(&config, r#"{"c\u0061rd":1}"#), "{}");
}

#[test]
fn lets_nothing_through_that_it_cannot_read() {
    assert_eq!(
        run(&[("fields", "/card")], "{\"card\": 4111").refused.len(),
        1
    );
    let dropped = run(
        &[("fields", "/card"), ("invalid", "drop")],
        "{\"card\": 4111",
    );
    assert_eq!(dropped, Outcome::default());
}

#[test]
fn passes_tombstones() {
    let mut harness = Harness::<Redact>::new(&[("fields", "/card")], &["sink"]).unwrap();
    assert_eq!(
        harness.process(&[Input::new().key("k")]).written[0].value,
        None
    );
}

#[test]
fn refuses_wrong_configurations() {
    let message = |config: &[(&str, &str)]| {
        Harness::<Redact>::new(config, &["sink"])
            .err()
            .unwrap()
            .message()
            .to_owned()
    };
    assert_eq!(message(&[]), "the key `fields` is missing");
    assert_eq!(
        message(&[("mode", "hide")]),
        "`mode=hide` is not one of mask, remove"
    );
    assert_eq!(
        message(&[("mode", "remove"), ("with", "x")]),
        "`mode=remove` takes no `with`"
    );
    assert_eq!(message(&[("invalid", "pass")]).lines().count(), 1);
}
