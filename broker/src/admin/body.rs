//! Bodies of requests: bounded in size and time, and the one file of a multipart form.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use tidemill_transforms::ARTIFACT_BYTES_MAX;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::transform::ControlError;

/// A body must be there after so long.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// The form's own lines around an artifact.
const FORM_BYTES_MAX: usize = 64 << 10;
/// Bodies of JSON.
const JSON_BYTES_MAX: usize = 4 << 20;

/// Artifacts that are taken at once, from the first byte until they are stored.
static ARTIFACTS: Semaphore = Semaphore::const_new(4);

/// Waits for room for one more artifact.
pub(super) async fn room() -> Result<SemaphorePermit<'static>, ControlError> {
    match timeout(BODY_WITHIN, ARTIFACTS.acquire()).await {
        Ok(Ok(room)) => Ok(room),
        _ => Err(
            ControlError::new(503, "busy", "other artifacts are being uploaded")
                .hint("try again in a minute"),
        ),
    }
}

/// The artifact of a request.
pub(super) async fn artifact(headers: &HeaderMap, body: Incoming) -> Result<Bytes, ControlError> {
    let body = read(body, ARTIFACT_BYTES_MAX + FORM_BYTES_MAX).await?;
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    match kind.and_then(boundary) {
        None => Ok(body),
        Some(boundary) => file(&body, &boundary).ok_or_else(|| {
            ControlError::new(400, "bad_form", "the form has no file").hint(
                "send the artifact as the raw body, or as the one file of multipart/form-data",
            )
        }),
    }
}

/// A request's JSON; an empty body is an empty object.
pub(super) async fn json<T: serde::de::DeserializeOwned>(
    body: Incoming,
) -> Result<T, ControlError> {
    let body = read(body, JSON_BYTES_MAX).await?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    serde_json::from_slice(text).map_err(|error| {
        ControlError::new(
            400,
            "bad_json",
            format!("the body is not what is expected: {error}"),
        )
        .hint("docs/http.md has all fields")
    })
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, ControlError> {
    let read = timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await;
    let read = read.map_err(|_| {
        ControlError::new(
            408,
            "too_slow",
            format!("the body was not there after {BODY_WITHIN:?}"),
        )
    })?;
    let read = read.map_err(
        |error| match error.is::<http_body_util::LengthLimitError>() {
            true => ControlError::new(413, "too_large", format!("more than {bytes_max} bytes")),
            false => ControlError::new(400, "bad_body", error.to_string()),
        },
    )?;
    Ok(read.to_bytes())
}

/// The boundary of a multipart form.
fn boundary(kind: &str) -> Option<String> {
    let parameters = kind.strip_prefix("multipart/form-data")?;
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    Some(value.trim_matches('"').to_owned())
}

/// The content of the first part that is a file (RFC 7578).
fn file(body: &Bytes, boundary: &str) -> Option<Bytes> {
    let delimiter = format!("--{boundary}");
    let mut at = find(body, delimiter.as_bytes(), 0)?;
    loop {
        let head = at + delimiter.len();
        let content = find(body, b"\r\n\r\n", head)? + 4;
        let end = find(body, format!("\r\n{delimiter}").as_bytes(), content)?;
        let headers = String::from_utf8_lossy(&body[head..content]).to_ascii_lowercase();
        if headers.contains("filename=") {
            return Some(body.slice(content..end));
        }
        at = end + 2;
    }
}

fn find(body: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = body.get(from..)?;
    let mut starts = rest.windows(wanted.len());
    starts
        .position(|window| window == wanted)
        .map(|at| at + from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_form_is_found() {
        let kind = "multipart/form-data; charset=x; boundary=\"--ab\"";
        let boundary = boundary(kind).unwrap();
        let form = "----ab\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\nx\r\n\
                    ----ab\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f.wasm\"\r\n\
                    Content-Type: application/wasm\r\n\r\n\0asm\r\nrest\r\n----ab--\r\n";
        let found = file(&Bytes::from(form), &boundary);
        assert_eq!(found.as_deref(), Some(&b"\0asm\r\nrest"[..]));
    }

    #[test]
    fn a_form_that_is_none_has_no_file() {
        for form in [
            "",
            "--b",
            "--b\r\n\r\n",
            "--b\r\nfilename=\r\n\r\nx",
            "--b--",
        ] {
            assert_eq!(file(&Bytes::from(form), "b"), None, "{form:?}");
        }
        assert_eq!(super::boundary("application/wasm"), None);
    }
}
