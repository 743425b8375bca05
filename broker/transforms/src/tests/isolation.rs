//! The record that a function does not get through is found, and nothing else is lost or comes twice.

use proptest::prelude::*;

use super::{HOSTILE, Rig, record, records};
use crate::Limits;

fn quick() -> Limits {
    Limits {
        time: std::time::Duration::from_millis(60),
        ..Limits::default()
    }
}

fn check(rig: &Rig, count: i64, bad: &[(i64, &str)]) {
    let mut hostile = rig.runner(HOSTILE, &[], quick());
    let (written, failed) = hostile.all(&records(count, bad));
    let kind = |value: &str| match value {
        "trap" => "trap",
        "loop" => "time",
        "fail" => "failed",
        "answer" => "refused",
        "flood" => "output",
        _ => "frame",
    };
    let mut expected: Vec<_> = bad.iter().map(|(at, value)| (*at, kind(value))).collect();
    expected.sort_unstable();
    assert_eq!(failed, expected);
    let is_good = |offset: &i64| !bad.iter().any(|(at, _)| at == offset);
    assert_eq!(written, (0..count).filter(is_good).collect::<Vec<_>>());
}

#[test]
fn one_bad_record_in_a_frame_fails_alone() {
    let rig = Rig::new();
    for value in ["trap", "loop", "fail", "answer", "flood", "frame:magic"] {
        for at in [0, 1, 499, 998, 999] {
            check(&rig, 1_000, &[(at, value)]);
        }
    }
}

#[test]
fn a_record_that_loops_costs_the_time_of_two_calls() {
    let rig = Rig::new();
    let mut hostile = rig.runner(HOSTILE, &[], quick());
    let records = records(1_000, &[(700, "loop")]);
    let (mut at, mut in_vain) = (0, 0);
    let fault = loop {
        let step = hostile.step(&records[at..]).unwrap();
        at += step.taken;
        in_vain += u32::from(step.taken == 0);
        if let Some(fault) = step.fault {
            break fault;
        }
    };
    assert_eq!((at, in_vain, fault.kind()), (701, 1, "time"));
}

#[test]
fn a_function_that_is_slow_gets_smaller_frames_and_loses_nothing() {
    let rig = Rig::new();
    let slow = Limits {
        time: std::time::Duration::from_millis(5),
        ..Limits::default()
    };
    let mut hostile = rig.runner(HOSTILE, &[], slow);
    let values: Vec<(i64, &str)> = (0..200).map(|at| (at, "slow")).collect();
    let records = records(200, &values);
    let (mut at, mut in_vain) = (0, 0);
    while at < records.len() {
        let step = hostile.step(&records[at..]).unwrap();
        assert_eq!(step.fault, None);
        at += step.taken;
        in_vain += u32::from(step.taken == 0);
    }
    assert!(
        (1..20).contains(&in_vain),
        "{in_vain} calls ran out of time"
    );
}

#[test]
fn records_that_are_all_bad_cost_a_search_once() {
    let rig = Rig::new();
    let mut hostile = rig.runner(HOSTILE, &[], Limits::default());
    let values: Vec<(i64, &str)> = (0..300).map(|at| (at, "trap")).collect();
    let records = records(1_000, &values);
    let (mut at, mut bad, mut calls) = (0, 0, 0);
    while at < records.len() {
        let step = hostile.step(&records[at..]).unwrap();
        at += step.taken;
        bad += u32::from(step.fault.is_some());
        calls += 1;
    }
    assert_eq!(bad, 300);
    // A call each, ten to find the first, and those behind the last are taken in frames that double.
    assert!(calls < 330, "{calls} calls");
}

#[test]
fn neighbours_and_frames_full_of_bad_records_are_taken_apart() {
    let rig = Rig::new();
    check(
        &rig,
        10,
        &[(3, "trap"), (4, "answer"), (5, "trap"), (9, "fail")],
    );
    let all: Vec<_> = (0..40)
        .map(|at| (at, if at % 2 == 0 { "trap" } else { "answer" }))
        .collect();
    check(&rig, 40, &all);
    check(&rig, 1, &[(0, "trap")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_bad_is_found_and_nothing_else(
        count in 1i64..120,
        picks in proptest::collection::btree_map(0i64..120, 0usize..4, 0..8),
    ) {
        let rig = Rig::new();
        let values = ["trap", "answer", "fail", "flood"];
        let bad: Vec<_> = picks
            .into_iter()
            .filter(|(at, _)| *at < count)
            .map(|(at, value)| (at, values[value]))
            .collect();
        check(&rig, count, &bad);
    }
}

#[test]
fn an_instance_is_not_used_again_after_a_trap() {
    let rig = Rig::new();
    let mut hostile = rig.runner(HOSTILE, &[], Limits::default());
    hostile.step(&records(1, &[])).unwrap();
    assert_eq!(rig.host.instances().count(), 1, "kept for the next frame");
    let step = hostile.step(&records(1, &[(0, "trap")])).unwrap();
    assert_eq!(step.fault.unwrap().kind(), "trap");
    assert_eq!(rig.host.instances().count(), 0, "gone with the trap");
}

#[test]
fn the_longest_unused_instance_goes_first() {
    let rig = Rig::with(2, 1);
    let mut runners: Vec<_> = (0..3)
        .map(|_| rig.runner(HOSTILE, &[], Limits::default()))
        .collect();
    let one = [record(0, None, Some("good"))];
    for runner in &mut runners {
        runner.step(&one).unwrap();
    }
    assert_eq!(rig.host.instances().count(), 2);
    for runner in &mut runners {
        assert_eq!(runner.all(&one).0, [0], "made again where it is gone");
    }
    runners[2].runner.as_ref().unwrap().rest();
    assert_eq!(rig.host.instances().count(), 1);
}
