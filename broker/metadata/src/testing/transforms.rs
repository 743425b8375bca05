//! What tests of functions and transforms share: short ways to write their commands, and arbitrary ones.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidemill_records::{Offset, TopicId};
use uuid::Uuid;

use super::{History, create, id, text, topic_id};
use crate::command::{Command, Deployment};
use crate::image::{
    ArtifactChunks, Carrier, FunctionId, FunctionImage, OnError, Origin, TransformLimits,
    TransformVersion,
};

/// The topics of [`cluster`]; their ids are 1, 2 and so on.
pub(crate) const TOPICS: [&str; 6] = ["a", "b", "c", "d", "e", "dead"];

/// One broker, [`TOPICS`] of two partitions each, and functions 1, 2 and 3.
pub(crate) fn cluster() -> History {
    let mut history = History::with_brokers(1);
    for (name, id) in TOPICS.into_iter().zip(1..) {
        history.ok(create(name, id, &[&[1], &[1]]));
    }
    for number in 1..=3 {
        history.ok(Command::AddFunction(function(number)));
    }
    history
}

pub(crate) fn function_id(number: u8) -> FunctionId {
    FunctionId([number; 32])
}

pub(crate) fn function(number: u8) -> FunctionImage {
    FunctionImage {
        id: function_id(number),
        label: "f".into(),
        size_bytes: 1 << 20,
        carrier: Carrier::CoreModule,
        chunks: ArtifactChunks {
            topic: topic_id(99),
            first: Offset(100),
            count: 2,
        },
        uploaded_at_ms: 5,
    }
}

/// A first deployment of function 1 that is taken in a [`cluster`]. Dead letters go to "dead".
pub(crate) fn deployment(name: &str, source: &str, sinks: &[&str]) -> Deployment {
    let topic = TOPICS.iter().zip(1..).find(|(topic, _)| **topic == source);
    let number = name.bytes().fold(1, |id, byte| id << 8 | u128::from(byte));
    Deployment {
        name: name.into(),
        id: Uuid::from_u128(number),
        source: source.into(),
        version: version(sinks),
        origin: Origin {
            generation: 0,
            topic: topic_id(topic.map_or(98, |(_, id)| id)),
            offsets: vec![Offset(3), Offset(0)],
        },
        expected: None,
    }
}

fn version(sinks: &[&str]) -> TransformVersion {
    TransformVersion {
        number: 0,
        function: function_id(1),
        sinks: sinks.iter().copied().map(Into::into).collect(),
        dead_letters: Some("dead".into()),
        config: vec![],
        on_error: OnError::DeadLetters,
        retries: 3,
        backoff_ms: 100,
        limits: TransformLimits {
            memory_bytes: 64 << 20,
            time_ms: 1_000,
            output_bytes: 8 << 20,
            output_records: 10_000,
            log_lines_per_second: 100,
        },
        deployed_at_ms: 7,
    }
}

fn any_function_id() -> impl Strategy<Value = FunctionId> {
    prop_oneof![
        (0..5u8).prop_map(function_id),
        any::<[u8; 32]>().prop_map(FunctionId)
    ]
}

fn any_function() -> impl Strategy<Value = FunctionImage> {
    let carrier = prop_oneof![Just(Carrier::CoreModule), Just(Carrier::Component)];
    let chunks =
        (id(), any::<i64>(), any::<u32>()).prop_map(|(topic, first, count)| ArtifactChunks {
            topic: TopicId(topic),
            first: Offset(first),
            count,
        });
    (
        any_function_id(),
        text(),
        any::<u64>(),
        carrier,
        chunks,
        any::<i64>(),
    )
        .prop_map(
            |(id, label, size_bytes, carrier, chunks, uploaded_at_ms)| FunctionImage {
                id,
                label,
                size_bytes,
                carrier,
                chunks,
                uploaded_at_ms,
            },
        )
}

fn any_origin() -> impl Strategy<Value = Origin> {
    (any::<u64>(), id(), vec(any::<i64>().prop_map(Offset), 0..4)).prop_map(
        |(generation, topic, offsets)| Origin {
            generation,
            topic: TopicId(topic),
            offsets,
        },
    )
}

fn any_version() -> impl Strategy<Value = TransformVersion> {
    let on_error = prop_oneof![
        Just(OnError::DeadLetters),
        Just(OnError::Skip),
        Just(OnError::Stop)
    ];
    let limits = any::<(u64, u32, u64, u32, u32)>().prop_map(
        |(memory_bytes, time_ms, output_bytes, output_records, log_lines_per_second)| {
            TransformLimits {
                memory_bytes,
                time_ms,
                output_bytes,
                output_records,
                log_lines_per_second,
            }
        },
    );
    let topics = (vec(text(), 0..4), option::of(text()), on_error);
    let config = vec((text(), text()), 0..3);
    let numbers = any::<(u32, u32, u32, i64)>();
    (any_function_id(), topics, config, limits, numbers).prop_map(
        |(function, (sinks, dead_letters, on_error), config, limits, numbers)| {
            let (number, retries, backoff_ms, deployed_at_ms) = numbers;
            TransformVersion {
                number,
                function,
                sinks,
                dead_letters,
                config,
                on_error,
                retries,
                backoff_ms,
                limits,
                deployed_at_ms,
            }
        },
    )
}

/// Any command of functions and transforms, sensible or not.
pub(super) fn command() -> impl Strategy<Value = Command> {
    let name = text;
    let expected = option::of(any::<u32>());
    prop_oneof![
        any_function().prop_map(Command::AddFunction),
        any_function_id().prop_map(|id| Command::DeleteFunction { id }),
        (name(), id(), text(), any_version(), any_origin(), expected).prop_map(
            |(name, id, source, version, origin, expected)| {
                Command::DeployTransform(Deployment {
                    name,
                    id,
                    source,
                    version,
                    origin,
                    expected,
                })
            }
        ),
        (name(), any::<u32>()).prop_map(|(name, number)| Command::SelectVersion { name, number }),
        (name(), any::<bool>())
            .prop_map(|(name, is_paused)| Command::PauseTransform { name, is_paused }),
        (name(), any_origin()).prop_map(|(name, origin)| Command::RewindTransform {
            name,
            generation: origin.generation,
            topic: origin.topic,
            offsets: origin.offsets,
        }),
        name().prop_map(|name| Command::DeleteTransform { name }),
    ]
}
