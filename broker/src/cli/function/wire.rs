//! What `/v1/functions` and `/v1/transforms` say (docs/http.md), and the questions that several commands ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::api::{Api, ApiError};
use super::super::exit::{Failure, command};
use super::super::http::escaped;
use crate::config::nearest;

pub(super) const FUNCTIONS: &str = "/v1/functions";
pub(super) const STOCK: &str = "/v1/functions/stock";
pub(super) const TRANSFORMS: &str = "/v1/transforms";

/// A stored artifact.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Function {
    pub(super) id: String,
    pub(super) sha256: String,
    pub(super) label: String,
    pub(super) size_bytes: u64,
    pub(super) carrier: String,
    pub(super) uploaded_at_ms: i64,
    pub(super) used_by: Vec<String>,
}

/// A function that is built in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StockFunction {
    pub(super) id: String,
    pub(super) size_bytes: u64,
    pub(super) summary: String,
}

/// What to deploy. What is left out is the broker's choice, or that of the version before.
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
    pub(super) retries: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backoff_ms: Option<u64>,
    pub(super) limits: BTreeMap<&'static str, u64>,
}

/// What a deployment came to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Deployed {
    pub(super) name: String,
    pub(super) version: u32,
    pub(super) created_topics: Vec<String>,
}

/// A transform, as the list of all has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Transform {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) version: u32,
    pub(super) function: String,
    pub(super) source: String,
    pub(super) sinks: Vec<String>,
    pub(super) dlq: Option<String>,
    pub(super) lag: i64,
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) dead_letters: u64,
    pub(super) skipped: u64,
    pub(super) cpu_seconds: f64,
    pub(super) last_error: Option<String>,
}

/// Everything about a transform.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TransformDetails {
    #[serde(flatten)]
    pub(super) transform: Transform,
    pub(super) created_at_ms: i64,
    pub(super) on_error: String,
    pub(super) retries: u32,
    pub(super) backoff_ms: u64,
    pub(super) config: BTreeMap<String, String>,
    pub(super) limits: BTreeMap<String, u64>,
    pub(super) versions: Vec<Version>,
    pub(super) tasks: Vec<Task>,
}

/// One version of a transform.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) version: u32,
    pub(super) function: String,
    pub(super) sinks: Vec<String>,
    pub(super) config: BTreeMap<String, String>,
    pub(super) on_error: String,
    pub(super) deployed_at_ms: i64,
    pub(super) is_current: bool,
}

/// A transform on one partition of its source.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) partition: i32,
    pub(super) state: String,
    pub(super) version: u32,
    pub(super) committed: i64,
    pub(super) end: i64,
    pub(super) lag: i64,
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) dead_letters: u64,
    pub(super) skipped: u64,
    pub(super) cpu_seconds: f64,
    pub(super) last_error: Option<String>,
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
    if !error.is_not_found() {
        return error.into();
    }
    let known: Vec<Transform> = api.get(TRANSFORMS).await.unwrap_or_default();
    let names = known.iter().map(|transform| transform.name.as_str());
    match nearest(name, names) {
        Some(meant) if !error.hints(meant) => {
            Failure::from(error).next(format!("did you mean {meant}?"))
        }
        Some(_) => error.into(),
        None => Failure::from(error).next(command("fn list")),
    }
}

/// An id for people: enough of it to name the function again.
pub(super) fn short_id(id: &str) -> String {
    const DIGITS: usize = 12;
    id.chars().take(DIGITS).collect()
}
