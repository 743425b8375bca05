//! Whether a version of a transform may be deployed, as far as it and the topics tell.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::command::{Rejection, TransformFault};
use crate::image::{MetadataImage, OnError, TopicImage, TransformVersion};
use crate::limits::{
    CONFIG_KEY_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, SINKS_MAX, TRANSFORM_BACKOFF_MS,
    TRANSFORM_CONFIGS_MAX, TRANSFORM_LOG_LINES_PER_SECOND, TRANSFORM_MEMORY_BYTES,
    TRANSFORM_OUTPUT_BYTES, TRANSFORM_OUTPUT_RECORDS, TRANSFORM_RETRIES, TRANSFORM_TIME_MS,
};
use crate::names::is_internal_topic;

/// What the version itself must keep.
pub(super) fn version(source: &Arc<str>, version: &TransformVersion) -> Result<(), TransformFault> {
    outputs(source, version)?;
    config(&version.config)?;
    limits(version)
}

/// The topics that it reads and writes must be there.
pub(super) fn topics(
    image: &MetadataImage,
    source: &Arc<str>,
    version: &TransformVersion,
) -> Result<(), Rejection> {
    let mut names = std::iter::once(source).chain(version.outputs());
    names.try_for_each(|name| topic(image, name).map(drop))
}

pub(super) fn topic<'a>(
    image: &'a MetadataImage,
    name: &Arc<str>,
) -> Result<&'a TopicImage, Rejection> {
    match image.topic(name) {
        Some(topic) => Ok(topic),
        None => Err(Rejection::UnknownTransformTopic(Arc::clone(name))),
    }
}

fn outputs(source: &Arc<str>, version: &TransformVersion) -> Result<(), TransformFault> {
    let sinks = &version.sinks;
    if !(1..=SINKS_MAX).contains(&sinks.len()) {
        return Err(TransformFault::Sinks(sinks.len()));
    }
    if version.dead_letters.is_some() != (version.on_error == OnError::DeadLetters) {
        return Err(TransformFault::DeadLetters);
    }
    let mut seen = BTreeSet::new();
    if let Some(sink) = sinks.iter().find(|sink| !seen.insert(*sink)) {
        return Err(TransformFault::DuplicateSink(Arc::clone(sink)));
    }
    for output in version.outputs() {
        if output == source {
            return Err(TransformFault::WritesSource(Arc::clone(output)));
        }
        if is_internal_topic(output) {
            return Err(TransformFault::WritesInternal(Arc::clone(output)));
        }
    }
    Ok(())
}

fn config(config: &[(Arc<str>, Arc<str>)]) -> Result<(), TransformFault> {
    let keys: BTreeSet<_> = config.iter().map(|(key, _)| key).collect();
    let fits = |(key, value): &(Arc<str>, Arc<str>)| {
        (1..=CONFIG_KEY_BYTES_MAX).contains(&key.len()) && value.len() <= CONFIG_VALUE_BYTES_MAX
    };
    let is_set = keys.len() == config.len() && keys.len() <= TRANSFORM_CONFIGS_MAX;
    match is_set && config.iter().all(fits) {
        true => Ok(()),
        false => Err(TransformFault::Config),
    }
}

fn limits(version: &TransformVersion) -> Result<(), TransformFault> {
    let limits = &version.limits;
    let lines = limits.log_lines_per_second.into();
    within("retries", version.retries.into(), TRANSFORM_RETRIES)?;
    within(
        "backoff in ms",
        version.backoff_ms.into(),
        TRANSFORM_BACKOFF_MS,
    )?;
    within(
        "memory in bytes",
        limits.memory_bytes,
        TRANSFORM_MEMORY_BYTES,
    )?;
    within(
        "time for a batch in ms",
        limits.time_ms.into(),
        TRANSFORM_TIME_MS,
    )?;
    within(
        "output of a batch in bytes",
        limits.output_bytes,
        TRANSFORM_OUTPUT_BYTES,
    )?;
    let records = limits.output_records.into();
    within(
        "output of a batch in records",
        records,
        TRANSFORM_OUTPUT_RECORDS,
    )?;
    within(
        "log lines in a second",
        lines,
        TRANSFORM_LOG_LINES_PER_SECOND,
    )
}

fn within(
    what: &'static str,
    value: u64,
    bounds: RangeInclusive<u64>,
) -> Result<(), TransformFault> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (min, max) = bounds.into_inner();
    Err(TransformFault::Limit {
        what,
        value,
        min,
        max,
    })
}
