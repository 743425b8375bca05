//! What the commands of functions and transforms do and refuse.

mod cycles;
mod histories;

use tidemill_records::PartitionId;

use super::*;
use crate::codec::{DecodeError, Reader};
use crate::command::{Command, FunctionFault};
use crate::image::FunctionImage;
use crate::image::{ArtifactChunks, Carrier, OnError, codec};
use crate::limits::*;
use crate::names::TransformNameFault;
use crate::testing::transforms::{cluster, deployment, function, function_id};
use crate::testing::{History, create, topic_id};

/// Tries a command that must be refused, and proves that it changes nothing.
#[track_caller]
fn refused(history: &mut History, command: Command, rejection: impl Into<Rejection>) {
    let before = MetadataImage {
        index: history.image.index + 1,
        ..history.image.clone()
    };
    let shown = format!("{command:?}");
    assert_eq!(history.run(command), Err(rejection.into()), "{shown:.300}");
    assert!(
        history.image == before,
        "it changed something: {shown:.300}"
    );
}

fn deploy(name: &str, source: &str, sinks: &[&str]) -> Command {
    Command::DeployTransform(deployment(name, source, sinks))
}

/// A further version of a transform.
fn redeploy(history: &History, name: &str, sinks: &[&str]) -> Command {
    let before = &history.image.transforms[name];
    Command::DeployTransform(Deployment {
        expected: Some(before.current),
        ..deployment(name, &before.source, sinks)
    })
}

fn select(name: &str, number: u32) -> Command {
    let name = name.into();
    Command::SelectVersion { name, number }
}

fn pause(name: &str, is_paused: bool) -> Command {
    let name = name.into();
    Command::PauseTransform { name, is_paused }
}

fn rewind(generation: u64, topic: u128, offsets: &[i64]) -> Command {
    Command::RewindTransform {
        name: "x".into(),
        generation,
        topic: topic_id(topic),
        offsets: offsets.iter().copied().map(Offset).collect(),
    }
}

fn delete_function(number: u8) -> Command {
    let id = function_id(number);
    Command::DeleteFunction { id }
}

fn delete(name: &str) -> Command {
    Command::DeleteTransform { name: name.into() }
}

fn numbers(history: &History, name: &str) -> Vec<u32> {
    let transform = &history.image.transforms[name];
    transform.versions.iter().map(|v| v.number).collect()
}

/// Transform "x" from "a" to "b".
fn deployed() -> History {
    let mut history = cluster();
    let outcome = history.ok(deploy("x", "a", &["b"]));
    assert_eq!(outcome, Outcome::TransformDeployed { version: 1 });
    history
}

#[test]
fn a_function_that_is_known_stays_as_it_is_but_for_its_place() {
    let mut history = cluster();
    let elsewhere = FunctionImage {
        label: "again".into(),
        carrier: Carrier::Component,
        chunks: ArtifactChunks {
            first: Offset(700),
            ..function(1).chunks
        },
        ..function(1)
    };
    for again in [function(1), elsewhere] {
        let chunks = again.chunks;
        assert_eq!(history.ok(Command::AddFunction(again)), Outcome::Done);
        let known = history.image.function(function_id(1)).expect("known");
        assert_eq!(
            **known,
            FunctionImage {
                chunks,
                ..function(1)
            }
        );
    }
    assert_eq!(history.image.functions().len(), 3);
}

#[test]
fn a_function_goes_only_when_no_version_runs_it() {
    let mut history = deployed();
    let Command::DeployTransform(mut next) = redeploy(&history, "x", &["c"]) else {
        unreachable!()
    };
    next.version.function = function_id(2);
    history.ok(Command::DeployTransform(next));
    let in_use = || Rejection::FunctionInUse("x".into());
    refused(&mut history, delete_function(1), in_use());
    refused(&mut history, delete_function(2), in_use());
    history.ok(delete_function(3));
    refused(&mut history, delete_function(3), Rejection::UnknownFunction);
    history.ok(delete("x"));
    history.ok(delete_function(1));
    assert!(history.image.function(function_id(1)).is_none());
    refused(
        &mut history,
        deploy("x", "a", &["b"]),
        Rejection::UnknownFunction,
    );
}

#[test]
fn functions_that_cannot_be_are_refused() {
    let mut history = cluster();
    let mut case = |change: fn(&mut FunctionImage), fault| {
        let mut function = function(9);
        change(&mut function);
        refused(&mut history, Command::AddFunction(function), fault);
    };
    case(
        |f| f.label = "x".repeat(256).into(),
        FunctionFault::Label(256),
    );
    case(|f| f.chunks.count = 0, FunctionFault::Chunks);
    case(|f| f.chunks.first = Offset(-1), FunctionFault::Chunks);
    case(|f| f.chunks.first = Offset(i64::MAX), FunctionFault::Chunks);
}

#[test]
fn a_deployment_is_what_was_asked_for() {
    let history = deployed();
    let transform = history.image.transform("x").expect("deployed");
    let asked = deployment("x", "a", &["b"]);
    assert_eq!(transform.id, asked.id);
    assert_eq!(&*transform.source, "a");
    assert_eq!((transform.current, transform.is_paused), (1, false));
    assert_eq!(transform.created_at_ms, 7);
    let first = TransformVersion {
        number: 1,
        ..asked.version
    };
    assert_eq!(**transform.current_version(), first);
    let origin = Origin {
        generation: 1,
        ..asked.origin
    };
    assert_eq!(*transform.origin, origin);
    assert_eq!(transform.version(2), None);
}

#[test]
fn versions_are_counted_up_and_the_oldest_go() {
    let mut history = deployed();
    for number in 2..=100 {
        let outcome = history.ok(redeploy(&history, "x", &["c"]));
        assert_eq!(outcome, Outcome::TransformDeployed { version: number });
    }
    assert_eq!(numbers(&history, "x"), Vec::from_iter(1..=100));
    history.ok(select("x", 1));
    assert_eq!(history.image.transforms["x"].current, 1);
    let origin = history.image.transforms["x"].origin.clone();
    history.ok(redeploy(&history, "x", &["d"]));
    let kept: Vec<_> = std::iter::once(1).chain(3..=101).collect();
    assert_eq!(numbers(&history, "x"), kept, "what ran until now stays");
    history.ok(redeploy(&history, "x", &["d"]));
    assert_eq!(numbers(&history, "x"), Vec::from_iter(3..=102));
    let transform = &history.image.transforms["x"];
    assert_eq!(transform.current, 102);
    assert_eq!(transform.origin, origin, "a deployment rewinds nothing");
    refused(&mut history, select("x", 1), Rejection::UnknownVersion(1));
}

#[test]
fn a_deployment_is_of_the_version_that_was_seen() {
    let mut history = deployed();
    let expecting = |expected| {
        Command::DeployTransform(Deployment {
            expected,
            ..deployment("x", "a", &["b"])
        })
    };
    let id = deployment("x", "a", &[]).id;
    refused(
        &mut history,
        expecting(None),
        Rejection::TransformExists(id),
    );
    let changed = Rejection::TransformVersionChanged(1);
    refused(&mut history, expecting(Some(2)), changed);
    history.ok(expecting(Some(1)));
    let changed = Rejection::TransformVersionChanged(2);
    refused(&mut history, expecting(Some(1)), changed);
    history.ok(delete("x"));
    refused(
        &mut history,
        expecting(Some(2)),
        Rejection::UnknownTransform,
    );
    history.ok(expecting(None));
    assert_eq!(numbers(&history, "x"), [1]);
}

#[test]
fn the_source_of_a_transform_stays() {
    let mut history = deployed();
    let moved = Command::DeployTransform(Deployment {
        expected: Some(1),
        ..deployment("x", "c", &["b"])
    });
    refused(&mut history, moved, Rejection::TransformSource("a".into()));
}

#[test]
fn a_new_transform_has_a_fresh_id() {
    let mut history = deployed();
    for id in [Uuid::nil(), history.image.transforms["x"].id] {
        let command = Command::DeployTransform(Deployment {
            id,
            ..deployment("y", "a", &["c"])
        });
        refused(&mut history, command, Rejection::TransformIdTaken);
    }
}

#[test]
fn versions_that_cannot_be_are_refused() {
    let mut history = cluster();
    history.ok(create("_tidemill.logs", 20, &[&[1]]));
    history.ok(create("__consumer_offsets", 21, &[&[1]]));
    let mut case = |change: &dyn Fn(&mut Deployment), rejection: Rejection| {
        let mut deployment = deployment("x", "a", &["b"]);
        change(&mut deployment);
        refused(
            &mut history,
            Command::DeployTransform(deployment),
            rejection,
        );
    };
    case(&|d| d.name = "".into(), TransformNameFault::Empty.into());
    let long = TransformNameFault::TooLong(101);
    case(&|d| d.name = "x".repeat(101).into(), long.into());
    case(
        &|d| d.version.function = function_id(9),
        Rejection::UnknownFunction,
    );
    let unknown = || Rejection::UnknownTransformTopic("none".into());
    case(&|d| d.source = "none".into(), unknown());
    case(&|d| d.version.sinks.push("none".into()), unknown());
    case(&|d| d.version.dead_letters = Some("none".into()), unknown());
    case(
        &|d| d.version.sinks.clear(),
        TransformFault::Sinks(0).into(),
    );
    let many: Vec<Arc<str>> = (0..65).map(|at| format!("s{at}").into()).collect();
    case(
        &|d| d.version.sinks = many.clone(),
        TransformFault::Sinks(65).into(),
    );
    let twice = TransformFault::DuplicateSink("b".into());
    case(&|d| d.version.sinks.push("b".into()), twice.into());
    let source = || Rejection::from(TransformFault::WritesSource("a".into()));
    case(&|d| d.version.sinks.push("a".into()), source());
    case(&|d| d.version.dead_letters = Some("a".into()), source());
    for internal in ["_tidemill.logs", "__consumer_offsets"] {
        let fault = || Rejection::from(TransformFault::WritesInternal(internal.into()));
        case(&|d| d.version.sinks.push(internal.into()), fault());
        case(&|d| d.version.dead_letters = Some(internal.into()), fault());
    }
    let fault = || Rejection::from(TransformFault::DeadLetters);
    case(&|d| d.version.dead_letters = None, fault());
    case(&|d| d.version.on_error = OnError::Skip, fault());
    let pairs = |key: &str, value: &str, count| -> Vec<(Arc<str>, Arc<str>)> {
        let pair = |at| (format!("{key}{at}").into(), value.into());
        (0..count).map(pair).collect()
    };
    let fault = || Rejection::from(TransformFault::Config);
    case(&|d| d.version.config = pairs("k", "", 101), fault());
    case(
        &|d| d.version.config = pairs(&"k".repeat(255), "", 1),
        fault(),
    );
    case(
        &|d| d.version.config = pairs("k", &"v".repeat((32 << 10) + 1), 1),
        fault(),
    );
    case(
        &|d| d.version.config = [pairs("k", "", 1), pairs("k", "", 1)].concat(),
        fault(),
    );
    case(
        &|d| d.version.config = vec![("".into(), "".into())],
        fault(),
    );
    let fault = || Rejection::from(TransformFault::Offsets(2));
    case(&|d| d.origin.offsets[0] = Offset(-1), fault());
    case(&|d| d.origin.offsets.push(Offset(0)), fault());
    let changed = Rejection::TransformSourceChanged(topic_id(1));
    case(&|d| d.origin.topic = topic_id(2), changed);
}

#[test]
fn limits_are_kept_on_both_sides() {
    type Set = fn(&mut TransformVersion, u64);
    let limits: [(Set, std::ops::RangeInclusive<u64>); 7] = [
        (|v, n| v.retries = n as u32, TRANSFORM_RETRIES),
        (|v, n| v.backoff_ms = n as u32, TRANSFORM_BACKOFF_MS),
        (|v, n| v.limits.memory_bytes = n, TRANSFORM_MEMORY_BYTES),
        (|v, n| v.limits.time_ms = n as u32, TRANSFORM_TIME_MS),
        (|v, n| v.limits.output_bytes = n, TRANSFORM_OUTPUT_BYTES),
        (
            |v, n| v.limits.output_records = n as u32,
            TRANSFORM_OUTPUT_RECORDS,
        ),
        (
            |v, n| v.limits.log_lines_per_second = n as u32,
            TRANSFORM_LOG_LINES_PER_SECOND,
        ),
    ];
    for (set, bounds) in limits {
        let attempt = |value: u64| {
            let mut deployment = deployment("x", "a", &["b"]);
            set(&mut deployment.version, value);
            cluster().run(Command::DeployTransform(deployment))
        };
        let (min, max) = bounds.into_inner();
        assert!(
            attempt(min).is_ok() && attempt(max).is_ok(),
            "{min} to {max}"
        );
        for wrong in min.checked_sub(1).into_iter().chain([max + 1]) {
            match attempt(wrong) {
                Err(Rejection::InvalidTransform(TransformFault::Limit { value, .. })) => {
                    assert_eq!(value, wrong)
                }
                other => panic!("{wrong} of {min} to {max}: {other:?}"),
            }
        }
    }
}

#[test]
fn pausing_and_selecting_again_change_nothing() {
    let mut history = deployed();
    history.ok(pause("x", true));
    assert!(history.image.transforms["x"].is_paused);
    let before = history.image.clone();
    history.ok(pause("x", true));
    history.ok(select("x", 1));
    assert_eq!(history.image.changes_since(&before), Default::default());
    history.ok(redeploy(&history, "x", &["c"]));
    assert!(
        history.image.transforms["x"].is_paused,
        "a version starts nothing"
    );
    history.ok(pause("x", false));
    assert!(!history.image.transforms["x"].is_paused);
}

#[test]
fn what_is_not_there_is_not_changed() {
    let mut history = cluster();
    for command in [
        select("x", 1),
        pause("x", true),
        rewind(1, 1, &[]),
        delete("x"),
    ] {
        refused(&mut history, command, Rejection::UnknownTransform);
    }
    history.ok(deploy("x", "a", &["b"]));
    for number in [0, 2, u32::MAX] {
        refused(
            &mut history,
            select("x", number),
            Rejection::UnknownVersion(number),
        );
    }
}

#[test]
fn a_rewind_is_of_the_generation_and_the_source_that_were_seen() {
    let mut history = deployed();
    history.ok(rewind(1, 1, &[9]));
    let origin = &history.image.transforms["x"].origin;
    assert_eq!((origin.generation, &*origin.offsets), (2, &[Offset(9)][..]));
    refused(
        &mut history,
        rewind(1, 1, &[9]),
        Rejection::TransformGeneration(2),
    );
    let fault = || TransformFault::Offsets(2);
    refused(&mut history, rewind(2, 1, &[0, -1]), fault());
    refused(&mut history, rewind(2, 1, &[0, 0, 0]), fault());
    let changed = Rejection::TransformSourceChanged(topic_id(1));
    refused(&mut history, rewind(2, 2, &[]), changed);
    history.ok(Command::DeleteTopic { id: topic_id(1) });
    let unknown = Rejection::UnknownTransformTopic("a".into());
    refused(&mut history, rewind(2, 1, &[]), unknown);
    history.ok(create("a", 30, &[&[1]]));
    let changed = Rejection::TransformSourceChanged(topic_id(30));
    refused(&mut history, rewind(2, 1, &[]), changed);
    history.ok(rewind(2, 30, &[]));
    assert_eq!(history.image.transforms["x"].origin.generation, 3);
}

#[test]
fn topics_may_go_and_a_version_without_them_is_not_chosen() {
    let mut history = deployed();
    history.ok(redeploy(&history, "x", &["c"]));
    history.ok(Command::DeleteTopic { id: topic_id(2) });
    let unknown = || Rejection::UnknownTransformTopic("b".into());
    refused(&mut history, select("x", 1), unknown());
    history.ok(create("b", 30, &[&[1]]));
    history.ok(select("x", 1));
    let name = tidemill_records::TopicPartition::new("b", PartitionId(0));
    assert!(history.image.partition(&name).is_some());
}

#[test]
fn there_are_bounds_for_the_cluster() {
    let mut history = deployed();
    let (function, transform) = (function(1), history.image.transforms["x"].clone());
    for at in history.image.functions.size()..FUNCTIONS_MAX {
        let mut id = function_id(200);
        id.0[..8].copy_from_slice(&at.to_be_bytes());
        let function = Arc::new(FunctionImage {
            id,
            ..function.clone()
        });
        history.image.functions.insert_mut(id, function);
    }
    for at in 1..TRANSFORMS_MAX {
        let name: Arc<str> = format!("t{at}").into();
        history.image.transforms.insert_mut(name, transform.clone());
    }
    let one_more = Command::AddFunction(crate::testing::transforms::function(9));
    refused(&mut history, one_more, Rejection::TooManyFunctions);
    history.ok(Command::AddFunction(function));
    let one_more = deploy("y", "a", &["b"]);
    refused(&mut history, one_more, Rejection::TooManyTransforms);
    history.ok(redeploy(&history, "x", &["c"]));
}

#[test]
fn changes_name_functions_and_transforms() {
    let mut history = deployed();
    history.ok(deploy("y", "a", &["c"]));
    history.ok(deploy("z", "a", &["c"]));
    let older = history.image.clone();
    history.ok(delete_function(3));
    history.ok(Command::AddFunction(function(4)));
    history.ok(delete("x"));
    history.ok(pause("z", true));
    history.ok(deploy("w", "a", &["b"]));
    let changes = history.image.changes_since(&older);
    assert_eq!(changes.functions, [function_id(3), function_id(4)]);
    let names: Vec<&str> = changes.transforms.iter().map(|name| &**name).collect();
    assert_eq!(names, ["w", "x", "z"]);
}

#[test]
fn an_image_comes_back_and_a_cut_one_is_refused() {
    let mut history = deployed();
    history.ok(redeploy(&history, "x", &["c", "d"]));
    history.ok(select("x", 1));
    history.ok(pause("x", true));
    history.ok(rewind(1, 1, &[5, 6]));
    let bytes = codec::encode(&history.image);
    let mut reader = Reader::new(&bytes);
    let read = codec::decode(&mut reader).expect("it was written here");
    reader.end().expect("all of it was read");
    assert!(read == history.image);
    for cut in 0..bytes.len() {
        let mut reader = Reader::new(&bytes[..cut]);
        assert!(codec::decode(&mut reader).is_err(), "{cut} bytes");
    }
}

#[test]
fn an_image_of_version_2_is_still_read() {
    let mut history = History::with_brokers(1);
    history.ok(create("t", 1, &[&[1]]));
    let mut bytes = codec::encode(&history.image);
    // Without functions the end is two zeros: functions, transforms.
    assert_eq!(bytes.split_off(bytes.len() - 2), [0; 2]);
    assert_eq!(std::mem::replace(&mut bytes[0], 2), 3);
    let mut reader = Reader::new(&bytes);
    assert_eq!(codec::decode(&mut reader), Ok(history.image));
    assert_eq!(reader.end(), Ok(()));
}

#[test]
fn an_image_without_the_current_version_is_refused() {
    let mut history = deployed();
    history.ok(redeploy(&history, "x", &["c"]));
    let good = TransformImage::clone(&history.image.transforms["x"]);
    let mut backwards = good.clone();
    backwards.versions.reverse();
    let mut empty = good.clone();
    empty.versions.clear();
    for wrong in [TransformImage { current: 3, ..good }, backwards, empty] {
        put(&mut history.image, wrong);
        let bytes = codec::encode(&history.image);
        let refusal = DecodeError::Invalid("the versions of a transform");
        assert_eq!(codec::decode(&mut Reader::new(&bytes)), Err(refusal));
    }
}
