//! A function that is put on topics.

use std::sync::Arc;

use uuid::Uuid;

use crate::image::{Origin, TransformVersion};

/// Deploys a function: as a new transform, or as a new version of one that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The transform's name.
    pub name: Arc<str>,
    /// A fresh id, for a new transform.
    pub id: Uuid,
    /// The topic that it reads; that of a transform cannot change.
    pub source: Arc<str>,
    /// What is deployed. Its number is not looked at: the next one is assigned.
    pub version: TransformVersion,
    /// Where a new transform begins. Its generation is not looked at: the first one is assigned.
    pub origin: Origin,
    /// The version that the proposer saw running; `None` where there must be no such transform.
    /// Anything else rejects, so that a retry deploys once.
    pub expected: Option<u32>,
}
