//! The control port: HTTP with JSON, for tests that run the double as a process.
//!
//! | request | answer |
//! |---|---|
//! | `POST /faults` with `Faults` | 204; all faults before are gone |
//! | `DELETE /faults` | 204 |
//! | `GET /requests` | `Requests` |
//! | `POST /requests/reset` | 204; counts and log start anew |
//! | `GET /log` | a list of `Entry` |
//! | `GET /objects?prefix=` | a list of `ObjectSummary` |
//! | `POST /down` with `{"down": true}` | 204 |

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fault::Faults;
use crate::journal::Journal;
use crate::plan::Plan;
use crate::store::Store;

/// A list of faults is far shorter.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What may be controlled and seen.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) plan: Arc<Plan>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) store: Arc<Store>,
    pub(crate) is_down: Arc<AtomicBool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Down {
    down: bool,
}

type Answer = Response<Full<Bytes>>;

pub(crate) async fn answer(control: &Control, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("unreadable body: {error}")),
    };
    match (parts.method, parts.uri.path()) {
        (Method::POST, "/faults") => with(&body, |faults: Faults| control.plan.replace(faults)),
        (Method::DELETE, "/faults") => {
            control.plan.replace(Faults::default());
            done()
        }
        (Method::GET, "/requests") => json(&control.journal.requests()),
        (Method::POST, "/requests/reset") => {
            control.journal.reset();
            done()
        }
        (Method::GET, "/log") => json(&control.journal.log()),
        (Method::GET, "/objects") => {
            let query = parts.uri.query().unwrap_or_default();
            let prefix = query
                .split('&')
                .find_map(|pair| pair.strip_prefix("prefix="));
            match percent_decode(prefix.unwrap_or_default()) {
                Some(prefix) => json(&control.store.summaries(&prefix)),
                None => text(
                    StatusCode::BAD_REQUEST,
                    "the prefix is badly encoded".to_owned(),
                ),
            }
        }
        (Method::POST, "/down") => with(&body, |Down { down }| {
            control.is_down.store(down, Ordering::Relaxed)
        }),
        (method, path) => text(
            StatusCode::NOT_FOUND,
            format!("there is no {method} {path} on the control port"),
        ),
    }
}

fn with<T: DeserializeOwned>(body: &[u8], work: impl FnOnce(T)) -> Answer {
    match serde_json::from_slice(body) {
        Ok(value) => {
            work(value);
            done()
        }
        Err(error) => text(StatusCode::BAD_REQUEST, error.to_string()),
    }
}

fn json<T: Serialize>(value: &T) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut answer = Response::new(Full::from(bytes));
            answer.headers_mut().insert(
                CONTENT_TYPE,
                hyper::header::HeaderValue::from_static("application/json"),
            );
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn done() -> Answer {
    text(StatusCode::NO_CONTENT, String::new())
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer
}

/// None for anything but UTF-8 with `%` and two hexadecimal digits.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        assert_eq!(percent_decode("a%2Fb c").as_deref(), Some("a/b c"));
        assert_eq!(percent_decode("%C3%A9").as_deref(), Some("é"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(percent_decode(bad), None, "{bad}");
        }
    }
}
