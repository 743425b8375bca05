//! What `/v1/functions` and `/v1/transforms` say (docs/http.md), and the questions that several commands ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::api::{Api, ApiError};
use super::super::exit::{Failure, command};
use super::super::http::escaped;
use crate::config::nearest;
use crate::transform::{TransformDetails, TransformStatus};

pub(super) const FUNCTIONS: &str = "/v1/functions";
pub(super) const STOCK: &str = "/v1/functions/stock";
pub(super) const TRANSFORMS: &str = "/v1/transforms";

/// A function that is built in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StockFunction {
    pub(super) id: String,
    pub(super) size_bytes: u64,
    pub(super) summary: String,
}

/// What to deploy. What is left out is the broker's choice.
#[derive(Debug, Default, Serialize)]
pub(super) struct Deployment {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stock: Option<String>,
    pub(super) source: String,
    pub(super) sinks: Vec<String>,
    pub(super) config: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dlq: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backoff_ms: Option<u64>,
    pub(super) limits: BTreeMap<&'static str, u64>,
}

/// The path of a transform.
pub(super) fn transform_path(name: &str) -> String {
    format!("{TRANSFORMS}/{}", escaped(name))
}

/// Everything about a transform.
pub(super) async fn transform(api: Api<'_>, name: &str) -> Result<TransformDetails, Failure> {
    match api.get(&transform_path(name)).await {
        Ok(details) => Ok(details),
        Err(error) => Err(transform_failure(api, name, error).await),
    }
}

/// An error about a transform, with the name that may have been meant.
pub(super) async fn transform_failure(api: Api<'_>, name: &str, error: ApiError) -> Failure {
    if !error.has_code("unknown_transform") {
        return error.into();
    }
    let known: Vec<TransformStatus> = api.get(TRANSFORMS).await.unwrap_or_default();
    let names = known.iter().map(|transform| transform.name.as_str());
    let failure = Failure::new(format!("there is no transform {name}"));
    match nearest(name, names) {
        Some(meant) => failure.next(format!("did you mean {meant}?")),
        None => failure.next(command("fn list")),
    }
}

/// An id for people: enough of it to name the function again.
pub(super) fn short_id(id: &str) -> String {
    const DIGITS: usize = 12;
    id.chars().take(DIGITS).collect()
}
