//! Records never go round.

use super::*;

#[track_caller]
fn goes_round(history: &mut History, command: Command, topics: &[&str]) {
    let topics = topics.iter().copied().map(Into::into).collect();
    refused(history, command, Rejection::TransformCycle(topics));
}

fn with_dead_letters(name: &str, source: &str, sinks: &[&str], dead_letters: &str) -> Command {
    let mut deployment = deployment(name, source, sinks);
    deployment.version.dead_letters = Some(dead_letters.into());
    Command::DeployTransform(deployment)
}

#[test]
fn back_and_forth_is_a_cycle() {
    let mut history = deployed();
    goes_round(&mut history, deploy("y", "b", &["a"]), &["b", "a", "b"]);
    goes_round(
        &mut history,
        deploy("y", "b", &["c", "a"]),
        &["b", "a", "b"],
    );
    history.ok(pause("x", true));
    goes_round(&mut history, deploy("y", "b", &["a"]), &["b", "a", "b"]);
    history.ok(deploy("y", "b", &["c"]));
}

#[test]
fn a_long_way_round_is_named_in_order() {
    let mut history = deployed();
    history.ok(deploy("y", "b", &["c"]));
    history.ok(deploy("z", "c", &["d", "e"]));
    let way = ["e", "a", "b", "c", "e"];
    goes_round(&mut history, deploy("w", "e", &["a"]), &way);
    history.ok(deploy("v", "b", &["e"]));
    let way = ["e", "a", "b", "e"];
    goes_round(&mut history, deploy("w", "e", &["a"]), &way);
    history.ok(deploy("w", "a", &["c", "d", "e"]));
}

#[test]
fn dead_letters_go_round_too() {
    let mut history = deployed();
    goes_round(
        &mut history,
        with_dead_letters("y", "dead", &["a"], "c"),
        &["dead", "a", "dead"],
    );
    let command = with_dead_letters("y", "b", &["c"], "a");
    goes_round(&mut history, command, &["b", "a", "b"]);
    history.ok(with_dead_letters("y", "dead", &["b"], "c"));
}

#[test]
fn a_new_version_counts_in_place_of_the_one_before() {
    let mut history = deployed();
    history.ok(redeploy(&history, "x", &["c"]));
    history.ok(deploy("y", "b", &["a"]));
    let again = redeploy(&history, "x", &["b"]);
    goes_round(&mut history, again, &["a", "b", "a"]);
    goes_round(&mut history, select("x", 1), &["a", "b", "a"]);
    history.ok(delete("y"));
    history.ok(select("x", 1));
    goes_round(&mut history, deploy("y", "b", &["a"]), &["b", "a", "b"]);
}

#[test]
fn a_topic_that_is_gone_may_come_back() {
    let mut history = deployed();
    history.ok(deploy("y", "b", &["c"]));
    history.ok(Command::DeleteTopic { id: topic_id(2) });
    goes_round(
        &mut history,
        deploy("z", "c", &["a"]),
        &["c", "a", "b", "c"],
    );
}
