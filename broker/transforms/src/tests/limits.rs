//! What a function may use, and what breaking it looks like.

use std::time::Duration;

use super::{HOSTILE, Rig, records};
use crate::{Fault, FrameFault, Limits};

fn fault(rig: &Rig, value: &str, limits: Limits) -> Fault {
    let mut hostile = rig.runner(HOSTILE, &[], limits);
    let step = hostile.step(&records(1, &[(0, value)])).unwrap();
    step.fault
        .unwrap_or_else(|| panic!("{value} goes through: {:?}", step.outputs))
}

#[test]
fn time_output_and_frames_have_bounds() {
    let rig = Rig::new();
    let limits = Limits {
        time: Duration::from_millis(30),
        output_bytes: 1 << 20,
        output_records: 1_000,
        ..Limits::default()
    };
    assert_eq!(fault(&rig, "loop", limits), Fault::Time(limits.time));
    let many = FrameFault::TooManyOutputs(1_000);
    assert_eq!(fault(&rig, "flood", limits), many.into());
    let limits = Limits {
        output_records: 1_000_000,
        ..limits
    };
    let much = FrameFault::TooManyBytes(1 << 20);
    assert_eq!(fault(&rig, "flood", limits), much.into());
    let Fault::Trap(text) = fault(&rig, "trap", limits) else {
        panic!("a trap")
    };
    assert!(text.contains("unreachable"), "{text}");
}

#[test]
fn memory_is_denied_at_the_limit() {
    let rig = Rig::new();
    let limits = Limits {
        memory_bytes: 8 << 20,
        ..Limits::default()
    };
    let mut hostile = rig.runner(HOSTILE, &[], limits);
    // It takes what it gets and goes on without the rest.
    assert_eq!(hostile.all(&records(3, &[(1, "grow")])).0, [0, 1, 2]);
    let too_little = Limits {
        memory_bytes: 64 << 10,
        ..Limits::default()
    };
    let made = rig.runner(HOSTILE, &[], too_little).probe();
    assert_eq!(made, Err(Fault::Memory(64 << 10)));
}

#[test]
fn a_configuration_that_is_refused_says_why() {
    let rig = Rig::new();
    let probe = |value| {
        rig.runner(
            HOSTILE,
            &[("init", value)],
            Limits {
                time: Duration::from_millis(30),
                ..Limits::default()
            },
        )
        .probe()
    };
    assert_eq!(probe("fine"), Ok(()));
    let refused = probe("refuse").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the function refused its configuration with code 7: refused on request"
    );
    assert_eq!(probe("loop"), Err(Fault::Time(Duration::from_millis(30))));
    assert_eq!(probe("trap").unwrap_err().kind(), "trap");
    assert_eq!(probe("garbage").unwrap_err().kind(), "frame");
}

#[test]
fn what_a_function_says_reaches_the_sink_of_lines() {
    let rig = Rig::new();
    let mut hostile = rig.runner(HOSTILE, &[], Limits::default());
    hostile.all(&records(1, &[(0, "log me")]));
    let said = hostile.said.lock();
    assert_eq!(said.len(), 100_000);
    assert_eq!(said[0], (crate::LogLevel::Info, "log me".to_owned()));
}

#[test]
fn every_wrong_frame_is_a_fault() {
    let rig = Rig::new();
    let kinds = include_str!("../../../../functions/examples/hostile/src/frames.rs");
    let kinds: Vec<&str> = kinds
        .lines()
        .filter_map(|line| line.trim().strip_prefix("b\"")?.split_once("\" =>"))
        .map(|(kind, _)| kind)
        // They fail the record.
        .filter(|kind| !matches!(*kind, "sink" | "partition"))
        .collect();
    assert!(kinds.len() >= 10, "{kinds:?}");
    for kind in kinds {
        let fault = fault(&rig, &format!("frame:{kind}"), Limits::default());
        assert_eq!(fault.kind(), "frame", "{kind}: {fault}");
    }
}
