//! What a record emits becomes exactly one disposition and any number of further records.

use tidemill_sdk::testing::frame::{self, Action, Partition};
use tidemill_sdk::testing::{Harness, Input, Written};
use tidemill_sdk::{Config, Failure, Output, Record, Sink, Transform};

/// The record's value is a script, a letter for each emission.
struct Script {
    second: Sink,
}

impl Transform for Script {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&["mode", "to."])?;
        config.choose("mode", &[("a", 0), ("b", 1)])?;
        Ok(Self {
            second: config.sink("second")?,
        })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        for step in record.value().unwrap_or_default() {
            match step {
                b'p' => out.pass(),
                b's' => out.pass_to(self.second),
                b'd' => out.drop(),
                b'e' => out.edit().key("edited").set_header("h", "2").send(),
                b't' => out.edit().tombstone().null_key().timestamp(7).send(),
                b'n' => out
                    .new_record()
                    .value("new")
                    .header("x", "y")
                    .partition(3)
                    .send(),
                b'i' => drop(out.edit().value("is never sent")),
                b'f' => return Err(Failure::new(9, "refused")),
                _ => return Err("an unknown step".into()),
            }
        }
        Ok(())
    }
}

fn harness() -> Harness<Script> {
    Harness::new(&[("mode", "b"), ("to.x", "1")], &["first", "second"]).unwrap()
}

fn written(script: &str) -> Vec<Written> {
    let record = Input::new()
        .key("k")
        .value(script)
        .header("h", "1")
        .timestamp(5);
    let outcome = harness().process(&[record]);
    assert!(outcome.refused.is_empty());
    outcome.written
}

#[test]
fn nothing_emitted_is_a_drop() {
    for script in ["", "pd", "ned", "i"] {
        assert!(written(script).is_empty(), "{script}");
    }
}

#[test]
fn the_record_can_be_emitted_again() {
    let sinks = |script| {
        written(script)
            .into_iter()
            .map(|w| w.sink)
            .collect::<Vec<_>>()
    };
    assert_eq!(sinks("p"), ["first"]);
    assert_eq!(sinks("ps"), ["first", "second"]);
    assert_eq!(sinks("spe"), ["second", "first", "first"]);
    assert!(
        written("pp")
            .iter()
            .all(|w| w.value.as_deref() == Some(b"pp") && w.timestamp == 5)
    );
}

#[test]
fn edits_change_what_they_name() {
    let [edited, tombstone, new] = &written("etn")[..] else {
        panic!("three")
    };
    assert_eq!(edited.key.as_deref(), Some(&b"edited"[..]));
    assert_eq!(edited.value.as_deref(), Some(&b"etn"[..]));
    assert_eq!(edited.headers, [(b"h".to_vec(), Some(b"2".to_vec()))]);
    assert_eq!(
        (&tombstone.key, &tombstone.value, tombstone.timestamp),
        (&None, &None, 7)
    );
    assert_eq!(tombstone.headers, [(b"h".to_vec(), Some(b"1".to_vec()))]);
    assert_eq!((&new.key, new.timestamp), (&None, 5));
    assert_eq!(new.partition, Partition::Explicit(3));
    assert_eq!(new.headers, [(b"x".to_vec(), Some(b"y".to_vec()))]);
}

#[test]
fn a_new_record_may_come_first() {
    let [new, passed] = &written("np")[..] else {
        panic!("two")
    };
    assert_eq!(new.value.as_deref(), Some(&b"new"[..]));
    assert_eq!(passed.value.as_deref(), Some(&b"np"[..]));
}

#[test]
fn a_failure_takes_all_back_and_concerns_its_record_alone() {
    let records = ["p", "penf", "x", "s"].map(|script| Input::new().value(script));
    let outcome = harness().process(&records);
    let inputs: Vec<usize> = outcome.written.iter().map(|w| w.input).collect();
    assert_eq!(inputs, [0, 3]);
    let refused: Vec<_> = outcome
        .refused
        .iter()
        .map(|r| (r.input, r.code, &r.message[..]))
        .collect();
    assert_eq!(refused, [(1, 9, "refused"), (2, 1, "an unknown step")]);
}

#[test]
fn configurations_are_refused_with_the_key() {
    let refused = |config: &[(&str, &str)], sinks: &[&str]| {
        Harness::<Script>::new(config, sinks)
            .err()
            .expect("a refusal")
            .message()
            .to_owned()
    };
    assert_eq!(
        refused(&[("mod", "a")], &["second"]),
        "the key `mod` is unknown; there are mode, to."
    );
    assert_eq!(
        refused(&[("mode", "c")], &["second"]),
        "`mode=c` is not one of a, b"
    );
    assert!(refused(&[], &["first"]).contains("`second` is not a sink"));
}

#[test]
fn malformed_frames_are_answered() {
    use std::sync::atomic::AtomicU32;
    let mut instance = tidemill_sdk::guest::Instance::<Script>::new();
    let input = frame::input(&Default::default(), &[Input::new().key("k").value("p")]);
    let early = frame::read_output(instance.process(&input, &AtomicU32::new(0)));
    assert_eq!(
        early.unwrap_err().message(),
        "a frame came before the configuration"
    );
    frame::read_answer(instance.init(&frame::config(&[], &["first", "second"]))).unwrap();
    for at in 0..input.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = input.clone();
            damaged[at] = byte;
            // Whatever is answered, it is a frame.
            match frame::read_output(instance.process(&damaged, &AtomicU32::new(0))) {
                Ok(operations) => assert!(operations.len() <= 1),
                Err(failure) => assert_ne!(failure.code(), 0),
            }
        }
        assert!(frame::read_output(instance.process(&input[..at], &AtomicU32::new(0))).is_err());
    }
    let whole = frame::read_output(instance.process(&input, &AtomicU32::new(0))).unwrap();
    assert!(matches!(whole[0].action, Action::Pass { sink: 0, .. }));
}
