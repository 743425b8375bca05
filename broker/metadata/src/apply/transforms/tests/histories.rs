//! Any history of deployments, rollbacks, rewinds and deleted topics keeps the invariants.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::testing;
use crate::testing::transforms::TOPICS;

type Edges = BTreeSet<(Arc<str>, Arc<str>)>;

/// A step of a history. What it names may be missing, and what it says may be wrong.
#[derive(Debug, Clone)]
enum Step {
    /// Deploys; `is_seen` tells whether it expects what there is.
    Deploy {
        name: &'static str,
        source: usize,
        sinks: Vec<usize>,
        dead_letters: Option<usize>,
        function: u8,
        is_seen: bool,
    },
    /// Chooses the version that is so far below the highest.
    Select { name: &'static str, below: u32 },
    /// Rewinds to what was seen, or not.
    Rewind { name: &'static str, is_seen: bool },
    /// A topic is deleted, or created where it is not there.
    Toggle { topic: usize },
    /// Whatever.
    Other(Command),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || prop::sample::select(vec!["u", "v", "w", "x", "y", "z"]);
    let topic = || 0..TOPICS.len();
    let sinks = prop::collection::vec(topic(), 1..3);
    let dead_letters = prop::option::of(topic());
    let is_seen = || prop::bool::weighted(0.9);
    let number = || 1..5u8;
    prop_oneof![
        12 => (name(), topic(), sinks, dead_letters, number(), is_seen()).prop_map(
            |(name, source, sinks, dead_letters, function, is_seen)| Step::Deploy {
                name, source, sinks, dead_letters, function, is_seen
            }
        ),
        5 => (name(), 0..4u32).prop_map(|(name, below)| Step::Select { name, below }),
        2 => (name(), is_seen()).prop_map(|(name, is_seen)| Step::Rewind { name, is_seen }),
        2 => topic().prop_map(|topic| Step::Toggle { topic }),
        1 => (name(), any::<bool>()).prop_map(|(name, is_paused)| Step::Other(pause(name, is_paused))),
        1 => name().prop_map(|name| Step::Other(delete(name))),
        1 => number().prop_map(|number| Step::Other(delete_function(number))),
        2 => number().prop_map(|number| Step::Other(Command::AddFunction(function(number)))),
        1 => testing::command().prop_map(Step::Other),
    ]
}

fn command(image: &MetadataImage, next_topic: u128, step: Step) -> Command {
    match step {
        Step::Deploy {
            name,
            source,
            sinks,
            dead_letters,
            function,
            is_seen,
        } => {
            let before = image.transform(name);
            let source = before.map_or(TOPICS[source], |before| &before.source);
            let sinks: Vec<_> = sinks.into_iter().map(|at| TOPICS[at]).collect();
            let mut deployment = deployment(name, source, &sinks);
            deployment.version.function = function_id(function);
            deployment.version.dead_letters = dead_letters.map(|at| TOPICS[at].into());
            if dead_letters.is_none() {
                deployment.version.on_error = OnError::Stop;
            }
            if let Some(topic) = image.topic(source) {
                deployment.origin.topic = topic.id;
            }
            let current = before.map(|before| before.current);
            deployment.expected = if is_seen { current } else { Some(77) };
            Command::DeployTransform(deployment)
        }
        Step::Select { name, below } => {
            let highest = image.transform(name).map_or(0, |transform| {
                transform.versions.last().map_or(0, |v| v.number)
            });
            select(name, highest.saturating_sub(below))
        }
        Step::Rewind { name, is_seen } => {
            let transform = image.transform(name);
            let source = transform.and_then(|transform| image.topic(&transform.source));
            Command::RewindTransform {
                name: name.into(),
                generation: match transform {
                    Some(transform) if is_seen => transform.origin.generation,
                    _ => 0,
                },
                topic: source.map_or(topic_id(77), |source| source.id),
                offsets: vec![Offset(4)],
            }
        }
        Step::Toggle { topic } => match image.topic(TOPICS[topic]) {
            Some(topic) => Command::DeleteTopic { id: topic.id },
            None => create(TOPICS[topic], next_topic, &[&[1], &[1]]),
        },
        Step::Other(command) => command,
    }
}

/// Where records go by the current versions of all transforms but `without`.
fn edges(image: &MetadataImage, without: &str) -> Edges {
    image
        .transforms()
        .filter(|transform| &*transform.name != without)
        .flat_map(|transform| edges_of(&transform.source, transform.current_version()))
        .collect()
}

fn edges_of(source: &Arc<str>, version: &TransformVersion) -> Edges {
    version
        .outputs()
        .map(|output| (source.clone(), output.clone()))
        .collect()
}

/// By taking away, again and again, what nothing leads to.
fn has_cycle(mut edges: Edges) -> bool {
    loop {
        let reached: BTreeSet<_> = edges.iter().map(|(_, to)| to.clone()).collect();
        let before = edges.len();
        edges.retain(|(from, _)| reached.contains(from));
        if edges.len() == before {
            return before > 0;
        }
    }
}

/// What the command would have made current.
fn wanted(before: &MetadataImage, command: &Command) -> (Arc<str>, Edges) {
    match command {
        Command::DeployTransform(deployment) => (
            deployment.name.clone(),
            edges_of(&deployment.source, &deployment.version),
        ),
        Command::SelectVersion { name, number } => {
            let transform = before.transform(name).expect("it was found");
            let version = transform.version(*number).expect("it was found");
            (name.clone(), edges_of(&transform.source, version))
        }
        other => panic!("{other:?} makes no cycle"),
    }
}

/// A cycle that is named is one.
fn check_cycle(
    before: &MetadataImage,
    command: &Command,
    topics: &[Arc<str>],
) -> Result<(), TestCaseError> {
    let (name, new) = wanted(before, command);
    let all: Edges = edges(before, &name).union(&new).cloned().collect();
    prop_assert!(has_cycle(all.clone()));
    prop_assert!(topics.len() > 2 && topics.first() == topics.last());
    for pair in topics.windows(2) {
        prop_assert!(
            all.contains(&(pair[0].clone(), pair[1].clone())),
            "{pair:?}"
        );
    }
    let different: BTreeSet<_> = topics.iter().collect();
    prop_assert_eq!(different.len(), topics.len() - 1, "each topic once");
    Ok(())
}

fn check(image: &MetadataImage) -> Result<(), TestCaseError> {
    prop_assert!(!has_cycle(edges(image, "")), "records go round");
    prop_assert!(image.transforms().len() <= TRANSFORMS_MAX);
    prop_assert!(image.functions().len() <= FUNCTIONS_MAX);
    let ids: BTreeSet<_> = image.transforms().map(|transform| transform.id).collect();
    prop_assert_eq!(ids.len(), image.transforms().len());
    for transform in image.transforms() {
        prop_assert_eq!(transform.current_version().number, transform.current);
        prop_assert!(transform.versions.len() <= TRANSFORM_VERSIONS_MAX);
        prop_assert!(transform.versions.is_sorted_by(|a, b| a.number < b.number));
        for version in &transform.versions {
            prop_assert!(image.function(version.function).is_some());
            prop_assert!(version.outputs().all(|output| *output != transform.source));
        }
    }
    let bytes = codec::encode(image);
    let mut reader = Reader::new(&bytes);
    prop_assert!(codec::decode(&mut reader)? == *image);
    prop_assert_eq!(reader.end(), Ok(()));
    Ok(())
}

/// Numbers only grow while a transform lives.
fn check_growth(before: &MetadataImage, after: &MetadataImage) -> Result<(), TestCaseError> {
    let old: BTreeMap<_, _> = before.transforms().map(|t| (t.id, t)).collect();
    for new in after.transforms() {
        let Some(old) = old.get(&new.id).filter(|old| old.name == new.name) else {
            continue;
        };
        prop_assert_eq!(&old.source, &new.source);
        prop_assert!(old.origin.generation <= new.origin.generation);
        let is_same = old.origin.generation == new.origin.generation;
        prop_assert_eq!(is_same, old.origin == new.origin);
        for version in &old.versions {
            let kept = new.version(version.number);
            prop_assert!(
                kept.is_none_or(|kept| kept == version),
                "a version stays as it is"
            );
        }
        prop_assert!(
            new.version(old.current).is_some(),
            "what ran until now is kept"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_keeps_the_invariants(steps in prop::collection::vec(step(), 1..200)) {
        let mut history = cluster();
        for (step, next_topic) in steps.into_iter().zip(1_000..) {
            let before = history.image.clone();
            let command = command(&before, next_topic, step);
            // As two replicas, one of which read the command from its log.
            let Ok(read) = Command::decode(&command.encode()) else {
                continue;
            };
            let (twin, there) = crate::apply(&before, before.index + 1, &read);
            let here = history.run(command.clone());
            prop_assert_eq!(&here, &there);
            prop_assert!(twin == history.image);
            if let Err(Rejection::TransformCycle(topics)) = &here {
                check_cycle(&before, &command, topics)?;
            }
            check(&history.image)?;
            check_growth(&before, &history.image)?;
        }
    }
}
