//! Bodies of requests: bounded in size and time, and the one file of a multipart form.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use memchr::memmem;
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
/// A form's boundary has 1 to 70 characters (RFC 2046, 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

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
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let boundary = kind.map_or(Ok(None), boundary)?;
    let body = read(body, ARTIFACT_BYTES_MAX + FORM_BYTES_MAX).await?;
    match boundary {
        None => Ok(body),
        Some(boundary) => {
            file(&body, boundary).ok_or_else(|| bad_form("the form has no file".to_owned()))
        }
    }
}

fn bad_form(message: String) -> ControlError {
    ControlError::new(400, "bad_form", message)
        .hint("send the artifact as the raw body, or as the one file of multipart/form-data")
}

/// A request's JSON; an empty body is an empty object.
pub(super) async fn json<T: serde::de::DeserializeOwned>(
    body: Incoming,
) -> Result<T, ControlError> {
    let body = read(body, JSON_BYTES_MAX).await?;
    parsed(if body.is_empty() { b"{}" } else { &body })
}

fn parsed<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, ControlError> {
    let bad = |what: &str| {
        let message = format!("the body is not what is expected: {what}");
        ControlError::new(400, "bad_json", message).hint("docs/http.md has all fields")
    };
    // Serde would take a list for the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(bad("it is not a JSON object, {…}"));
    }
    serde_json::from_slice(text).map_err(|error| bad(&error.to_string()))
}

async fn read(body: Incoming, bytes_max: usize) -> Result<Bytes, ControlError> {
    let read = timeout(BODY_WITHIN, Limited::new(body, bytes_max).collect()).await;
    let read = read.map_err(|_| {
        ControlError::new(
            408,
            "too_slow",
            format!("the body was not there after {BODY_WITHIN:?}"),
        )
        .hint("try again nearer to the broker, or with a smaller body")
    })?;
    let read = read.map_err(
        |error| match error.is::<http_body_util::LengthLimitError>() {
            true => {
                let message = format!("the body has more than {bytes_max} bytes");
                ControlError::new(413, "too_large", message)
                    .hint("send less: an artifact without debug information (`wasm-tools strip`), or fewer values in `config`")
            }
            false => ControlError::new(400, "bad_body", error.to_string())
                .hint("send the whole body, as long as Content-Length says or in chunks"),
        },
    )?;
    Ok(read.to_bytes())
}

/// The boundary of a multipart form; none of another kind of body.
fn boundary(kind: &str) -> Result<Option<&str>, ControlError> {
    let Some(parameters) = kind.strip_prefix("multipart/form-data") else {
        return Ok(None);
    };
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    });
    let value = value.ok_or_else(|| bad_form("the form's type has no boundary".to_owned()))?;
    let value = value.trim_matches('"');
    match value.len() {
        1..=BOUNDARY_BYTES_MAX => Ok(Some(value)),
        length => Err(bad_form(format!(
            "the form's boundary has {length} characters; 1 to {BOUNDARY_BYTES_MAX} are allowed"
        ))),
    }
}

/// The content of the first part that is a file (RFC 7578).
fn file(body: &Bytes, boundary: &str) -> Option<Bytes> {
    let delimiter = format!("--{boundary}");
    let part_end = format!("\r\n{delimiter}");
    let part_end = memmem::Finder::new(&part_end);
    let head_end = memmem::Finder::new(b"\r\n\r\n");
    let find = |wanted: &memmem::Finder<'_>, from: usize| Some(from + wanted.find(&body[from..])?);
    let mut at = memmem::find(body, delimiter.as_bytes())?;
    loop {
        let head = at + delimiter.len();
        let content = find(&head_end, head)? + 4;
        let end = find(&part_end, content)?;
        let headers = String::from_utf8_lossy(&body[head..content]).to_ascii_lowercase();
        if headers.contains("filename=") {
            return Some(body.slice(content..end));
        }
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_form_is_found() {
        let kind = "multipart/form-data; charset=x; boundary=\"--ab\"";
        let boundary = boundary(kind).unwrap().unwrap();
        let form = "----ab\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\nx\r\n\
                    ----ab\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f.wasm\"\r\n\
                    Content-Type: application/wasm\r\n\r\n\0asm\r\nrest\r\n----ab--\r\n";
        let found = file(&Bytes::from(form), boundary);
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
        assert_eq!(super::boundary("application/wasm").unwrap(), None);
    }

    #[test]
    fn a_boundary_has_1_to_70_characters() {
        let longest = format!("multipart/form-data; boundary={}", "-".repeat(70));
        assert_eq!(boundary(&longest).unwrap().unwrap().len(), 70);
        for (kind, said) in [
            (format!("{longest}-"), "has 71 characters"),
            (
                "multipart/form-data; boundary=\"\"".to_owned(),
                "has 0 characters",
            ),
            ("multipart/form-data".to_owned(), "has no boundary"),
        ] {
            let refused = boundary(&kind).unwrap_err();
            assert_eq!((refused.status, refused.code), (400, "bad_form"));
            assert!(refused.message.contains(said), "{}", refused.message);
            assert!(refused.hint.is_some());
        }
    }

    #[test]
    fn a_body_of_dashes_is_searched_once() {
        let boundary = "-".repeat(BOUNDARY_BYTES_MAX);
        assert_eq!(file(&Bytes::from(vec![b'-'; 40 << 20]), &boundary), None);
    }

    #[test]
    fn json_that_is_no_object_is_refused() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        struct Wanted {
            to: Option<String>,
        }
        let to = |to| Wanted { to };
        assert_eq!(parsed::<Wanted>(b" {}").unwrap(), to(None));
        assert_eq!(
            parsed::<Wanted>(b"\r\n{\"to\":\"end\"}").unwrap(),
            to(Some("end".to_owned()))
        );
        for text in ["[\"end\"]", " [null]", "null", "\"end\"", "1", " "] {
            let refused = parsed::<Wanted>(text.as_bytes()).unwrap_err();
            assert_eq!((refused.status, refused.code), (400, "bad_json"));
            assert!(refused.message.contains("not a JSON object"), "{text:?}");
        }
    }
}
