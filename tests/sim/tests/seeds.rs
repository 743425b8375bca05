//! A few seeds of each simulation: the same seed gives the same trace, and nothing acknowledged is lost.
//! `tests/show/crash` runs many more.

use std::process::Command;

/// Runs a simulation twice in processes of their own, and compares.
fn check(binary: &str, part: &[&str], seeds: std::ops::Range<u64>, lives: u64) {
    for seed in seeds {
        let run = || {
            let seed_and_lives = [seed.to_string(), lives.to_string()];
            let ended = Command::new(binary)
                .args(part)
                .args(&seed_and_lives)
                .output()
                .expect("it runs");
            let printed = String::from_utf8_lossy(&ended.stdout).into_owned();
            let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(
                ended.status.success(),
                "{binary} {part:?} {seed} {lives}: {printed}\n{errors}"
            );
            printed
        };
        let first = run();
        assert!(
            first.lines().any(|line| line.starts_with("trace ")),
            "{first}"
        );
        assert_eq!(first, run(), "seed {seed} of {part:?} gives two traces");
    }
}

#[test]
fn a_broker_keeps_what_it_acknowledged_and_repeats_itself() {
    check(env!("CARGO_BIN_EXE_sim"), &[], 1..4, 6);
}

#[test]
fn a_log_directory_keeps_what_it_acknowledged_and_repeats_itself() {
    check(env!("CARGO_BIN_EXE_crash"), &["log"], 1..5, 8);
}

#[test]
fn the_metadata_keeps_what_it_acknowledged_and_repeats_itself() {
    check(env!("CARGO_BIN_EXE_crash"), &["meta"], 1..4, 8);
}

#[test]
fn other_seeds_give_other_traces() {
    let trace = |seed: &str| {
        let ended = Command::new(env!("CARGO_BIN_EXE_crash"))
            .args(["meta", seed, "2"])
            .output()
            .expect("it runs");
        String::from_utf8_lossy(&ended.stdout)
            .lines()
            .find(|line| line.starts_with("trace "))
            .map(str::to_owned)
    };
    assert_ne!(trace("1"), trace("2"));
}
