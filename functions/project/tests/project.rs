//! The function as it is deployed.

use project::{MISSING, Project};
use tidemill_sdk::Failure;
use tidemill_sdk::testing::{Harness, Input};

const ORDER: &str = r#"{"id": 7, "customer": {"name": "Ada", "card": "4111"}, "total": 9.50}"#;

fn project(config: &[(&str, &str)], value: &str) -> (Option<String>, Option<String>) {
    let mut harness = Harness::<Project>::new(config, &["sink"]).unwrap();
    let outcome = harness.process(&[Input::new().key("k").value(value)]);
    let [written] = &outcome.written[..] else {
        panic!("{outcome:?}")
    };
    let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(|b| String::from_utf8(b).unwrap());
    (text(&written.key), text(&written.value))
}

#[test]
fn keeps_parts() {
    let (key, value) = project(&[("keep", "/id, /customer/name"), ("key", "/total")], ORDER);
    assert_eq!(
        value.as_deref(),
        Some(r#"{"id": 7, "customer": {"name": "Ada"}}"#)
    );
    assert_eq!(key.as_deref(), Some("9.50"));
}

#[test]
fn removes_parts() {
    let (key, value) = project(&[("remove", "/customer,/nothing")], ORDER);
    assert_eq!(value.as_deref(), Some(r#"{"id": 7, "total": 9.50}"#));
    assert_eq!(key.as_deref(), Some("k"));
}

#[test]
fn refuses_records() {
    let config = [("keep", "/id"), ("key", "/id")];
    let mut harness = Harness::<Project>::new(&config, &["sink"]).unwrap();
    let records = ["{", "{}"].map(|value| Input::new().value(value));
    let outcome = harness.process(&[records[0].clone(), records[1].clone(), Input::new()]);
    let codes: Vec<u32> = outcome.refused.iter().map(|refused| refused.code).collect();
    assert_eq!(codes, [Failure::NOT_JSON, MISSING]);
    let [tombstone] = &outcome.written[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(tombstone.value, None);
}

#[test]
fn refuses_wrong_configurations() {
    let message = |config: &[(&str, &str)]| {
        Harness::<Project>::new(config, &["sink"])
            .err()
            .unwrap()
            .message()
            .to_owned()
    };
    assert_eq!(message(&[]), "one of `keep` and `remove` must be given");
    assert_eq!(message(&[("keep", "/a"), ("remove", "/b")]), message(&[]));
    assert_eq!(
        message(&[("keep", "")]),
        "`keep=`: the pointer must name a part of the value"
    );
    assert_eq!(
        message(&[("keep", "/a,b")]),
        "`keep=/a,b`: a JSON pointer begins with `/`"
    );
}
