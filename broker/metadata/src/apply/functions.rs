//! Making functions known, and forgetting them.

use std::sync::Arc;

use crate::command::{FunctionFault, Outcome, Rejection};
use crate::image::{FunctionId, FunctionImage, MetadataImage};
use crate::limits::{FUNCTIONS_MAX, LABEL_BYTES_MAX};

pub(super) fn add(
    image: &mut MetadataImage,
    function: &FunctionImage,
) -> Result<Outcome, Rejection> {
    check(function)?;
    // The id is the content: who has the same id has the same bytes, and where they were stored last they can be read.
    if let Some(known) = image.functions.get(&function.id) {
        let again = FunctionImage {
            chunks: function.chunks,
            ..FunctionImage::clone(known)
        };
        image.functions.insert_mut(function.id, Arc::new(again));
        return Ok(Outcome::Done);
    }
    if image.functions.size() >= FUNCTIONS_MAX {
        return Err(Rejection::TooManyFunctions);
    }
    image
        .functions
        .insert_mut(function.id, Arc::new(function.clone()));
    Ok(Outcome::Done)
}

pub(super) fn delete(image: &mut MetadataImage, id: FunctionId) -> Result<Outcome, Rejection> {
    image.function(id).ok_or(Rejection::UnknownFunction)?;
    let user = image.transforms().find(|transform| {
        let mut versions = transform.versions.iter();
        versions.any(|version| version.function == id)
    });
    if let Some(transform) = user {
        return Err(Rejection::FunctionInUse(Arc::clone(&transform.name)));
    }
    image.functions.remove_mut(&id);
    Ok(Outcome::Done)
}

fn check(function: &FunctionImage) -> Result<(), FunctionFault> {
    if function.label.len() > LABEL_BYTES_MAX {
        return Err(FunctionFault::Label(function.label.len()));
    }
    let (first, count) = (function.chunks.first.0, function.chunks.count);
    let is_possible = first >= 0 && first.checked_add(count.into()).is_some();
    match is_possible && count > 0 {
        true => Ok(()),
        false => Err(FunctionFault::Chunks),
    }
}
