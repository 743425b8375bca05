//! Deploying, choosing versions, pausing, rewinding and deleting transforms.
//!
//! The invariants that are kept here: the current version is among those that are kept; the function of
//! every version is known; the topics that current versions lead from and to make no cycle. Topics may
//! be deleted meanwhile: a transform waits for them.

mod check;
mod cycle;

use std::sync::Arc;

use tidemill_records::{Offset, TopicId};
use uuid::Uuid;

use crate::command::{Deployment, Outcome, Rejection, TransformFault};
use crate::image::{MetadataImage, Origin, TransformImage, TransformVersion};
use crate::limits::{TRANSFORM_VERSIONS_MAX, TRANSFORMS_MAX};
use crate::names::check_transform_name;

pub(super) fn deploy(
    image: &mut MetadataImage,
    deployment: &Deployment,
) -> Result<Outcome, Rejection> {
    check_transform_name(&deployment.name)?;
    let before = image.transform(&deployment.name).cloned();
    match (&before, deployment.expected) {
        (None, None) => check_new(image, deployment)?,
        (None, Some(_)) => return Err(Rejection::UnknownTransform),
        (Some(before), None) => return Err(Rejection::TransformExists(before.id)),
        (Some(before), Some(expected)) if before.current != expected => {
            return Err(Rejection::TransformVersionChanged(before.current));
        }
        (Some(before), Some(_)) if before.source != deployment.source => {
            return Err(Rejection::TransformSource(Arc::clone(&before.source)));
        }
        (Some(_), Some(_)) => {}
    }
    let version = &deployment.version;
    check::version(&deployment.source, version)?;
    image
        .function(version.function)
        .ok_or(Rejection::UnknownFunction)?;
    cycle::check(image, &deployment.name, &deployment.source, version)?;
    check::topics(image, &deployment.source, version)?;
    let transform = match before {
        None => first(deployment),
        Some(before) => with_version(&before, version),
    };
    let version = transform.current;
    put(image, transform);
    Ok(Outcome::TransformDeployed { version })
}

/// Lets a version that is kept be the current one.
pub(super) fn select(
    image: &mut MetadataImage,
    name: &str,
    number: u32,
) -> Result<Outcome, Rejection> {
    let transform = known(image, name)?;
    let version = transform.version(number);
    let version = version.ok_or(Rejection::UnknownVersion(number))?;
    check::topics(image, &transform.source, version)?;
    cycle::check(image, name, &transform.source, version)?;
    if transform.current != number {
        let transform = TransformImage {
            current: number,
            ..TransformImage::clone(&transform)
        };
        put(image, transform);
    }
    Ok(Outcome::Done)
}

pub(super) fn pause(
    image: &mut MetadataImage,
    name: &str,
    is_paused: bool,
) -> Result<Outcome, Rejection> {
    let transform = known(image, name)?;
    if transform.is_paused != is_paused {
        let transform = TransformImage {
            is_paused,
            ..TransformImage::clone(&transform)
        };
        put(image, transform);
    }
    Ok(Outcome::Done)
}

pub(super) fn rewind(
    image: &mut MetadataImage,
    name: &str,
    generation: u64,
    topic: TopicId,
    offsets: &[Offset],
) -> Result<Outcome, Rejection> {
    let transform = known(image, name)?;
    if transform.origin.generation != generation {
        let now = transform.origin.generation;
        return Err(Rejection::TransformGeneration(now));
    }
    check_origin(image, &transform.source, topic, offsets)?;
    let origin = Origin {
        generation: generation + 1,
        topic,
        offsets: offsets.to_vec(),
    };
    let transform = TransformImage {
        origin: Arc::new(origin),
        ..TransformImage::clone(&transform)
    };
    put(image, transform);
    Ok(Outcome::Done)
}

pub(super) fn delete(image: &mut MetadataImage, name: &str) -> Result<Outcome, Rejection> {
    match image.transforms.remove_mut(name) {
        true => Ok(Outcome::Done),
        false => Err(Rejection::UnknownTransform),
    }
}

/// What only a new transform has to keep.
fn check_new(image: &MetadataImage, deployment: &Deployment) -> Result<(), Rejection> {
    let mut others = image.transforms();
    if deployment.id == Uuid::nil() || others.any(|other| other.id == deployment.id) {
        return Err(Rejection::TransformIdTaken);
    }
    if image.transforms.size() >= TRANSFORMS_MAX {
        return Err(Rejection::TooManyTransforms);
    }
    let origin = &deployment.origin;
    check_origin(image, &deployment.source, origin.topic, &origin.offsets)
}

/// The offsets must be of the topic that is there now: of another one they would say nothing.
fn check_origin(
    image: &MetadataImage,
    source: &Arc<str>,
    topic: TopicId,
    offsets: &[Offset],
) -> Result<(), Rejection> {
    let source = check::topic(image, source)?;
    if source.id != topic {
        return Err(Rejection::TransformSourceChanged(source.id));
    }
    let is_negative = offsets.iter().any(|offset| *offset < Offset::ZERO);
    if is_negative || offsets.len() > source.partitions.len() {
        return Err(TransformFault::Offsets(source.partition_count()).into());
    }
    Ok(())
}

fn first(deployment: &Deployment) -> TransformImage {
    let version = TransformVersion {
        number: 1,
        ..deployment.version.clone()
    };
    let origin = Origin {
        generation: 1,
        ..deployment.origin.clone()
    };
    TransformImage {
        name: Arc::clone(&deployment.name),
        id: deployment.id,
        source: Arc::clone(&deployment.source),
        current: version.number,
        is_paused: false,
        origin: Arc::new(origin),
        created_at_ms: version.deployed_at_ms,
        versions: vec![Arc::new(version)],
    }
}

/// The transform with one more version, which runs from now on. When there are too many, the oldest goes; not the one that ran
/// until now, since that is what a rollback would go back to.
fn with_version(before: &TransformImage, version: &TransformVersion) -> TransformImage {
    let mut versions = before.versions.clone();
    let highest = versions.last().map_or(0, |last| last.number);
    let number = highest
        .checked_add(1)
        .expect("four thousand million deployments take longer than anybody waits");
    if versions.len() >= TRANSFORM_VERSIONS_MAX {
        let oldest = versions
            .iter()
            .position(|version| version.number != before.current);
        versions.remove(oldest.expect("one of many is not the current one"));
    }
    versions.push(Arc::new(TransformVersion {
        number,
        ..version.clone()
    }));
    TransformImage {
        versions,
        current: number,
        ..before.clone()
    }
}

fn known(image: &MetadataImage, name: &str) -> Result<Arc<TransformImage>, Rejection> {
    let transform = image.transform(name).ok_or(Rejection::UnknownTransform)?;
    Ok(Arc::clone(transform))
}

fn put(image: &mut MetadataImage, transform: TransformImage) {
    image
        .transforms
        .insert_mut(Arc::clone(&transform.name), Arc::new(transform));
}

#[cfg(test)]
mod tests;
