//! `/v1/functions` and `/v1/transforms`; docs/http.md says what each takes and gives.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tidemill_metadata::MetadataLog;

use super::{Answer, READ, body, json, no_method, no_path, refused};
use crate::broker::Broker;
use crate::transform::{
    ControlError, FunctionStatus, Rewound, TransformDetails, TransformStatus, Transforms, stock,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the version")]
struct Rollback {
    version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the position")]
struct Rewind {
    to: String,
}

/// Answers what lies below `/v1/functions` and `/v1/transforms`; none for any other path.
pub(super) async fn answer(broker: &Arc<Broker>, request: Request<Incoming>) -> Option<Answer> {
    let path = request.uri().path().to_owned();
    let below = path.strip_prefix("/v1/")?;
    if below.split('/').any(str::is_empty) {
        return None;
    }
    let mut segments = below.split('/');
    let (kind, name, action) = (segments.next()?, segments.next(), segments.next());
    let name = name.map(unescaped);
    let name = name.as_deref();
    let answered = match (kind, name, action, segments.next()) {
        ("functions", name, None, None) => functions(broker, request, name).await,
        ("transforms", name, action, None) => transforms(broker, request, name, action).await,
        _ => return None,
    };
    Some(answered.unwrap_or_else(|error| refused(&error)))
}

type Answered = Result<Answer, ControlError>;

async fn functions(
    broker: &Arc<Broker>,
    request: Request<Incoming>,
    name: Option<&str>,
) -> Answered {
    Ok(match (request.method(), name) {
        (&Method::GET | &Method::HEAD, None) => json(StatusCode::OK, &FunctionStatus::all(broker)),
        (&Method::GET | &Method::HEAD, Some("stock")) => json(StatusCode::OK, &stocks()),
        (&Method::GET | &Method::HEAD, Some(id)) => {
            let found = FunctionStatus::find(broker, Transforms::find(broker, id)?);
            let found = found.ok_or_else(|| ControlError::no_function(id))?;
            json(StatusCode::OK, &found)
        }
        (&Method::POST, None) => {
            let label = label(request.uri().query());
            let (head, body) = request.into_parts();
            let _room = body::room().await?;
            let artifact = body::artifact(&head.headers, body).await?;
            let (function, is_new) = broker.transforms.upload(broker, &label, artifact).await?;
            let status = FunctionStatus::of(&function, &broker.metadata.image());
            json(created(is_new), &status)
        }
        (&Method::DELETE, Some(id)) => {
            broker.transforms.delete_function(broker, id).await?;
            json(StatusCode::OK, &json!({}))
        }
        (method, name) => {
            let allowed = match name {
                None => "GET, HEAD, POST",
                Some("stock") => READ,
                Some(_) => "GET, HEAD, DELETE",
            };
            no_method(method, request.uri().path(), allowed)
        }
    })
}

async fn transforms(
    broker: &Arc<Broker>,
    request: Request<Incoming>,
    name: Option<&str>,
    action: Option<&str>,
) -> Answered {
    let this = &broker.transforms;
    Ok(match (request.method(), name, action) {
        (&Method::GET | &Method::HEAD, None, None) => {
            json(StatusCode::OK, &TransformStatus::all(broker))
        }
        (&Method::POST, None, None) => {
            let wanted = body::json(request.into_body()).await?;
            let (deployed, is_new) = Transforms::deploy(broker, wanted).await?;
            json(created(is_new), &deployed)
        }
        (&Method::GET | &Method::HEAD, Some(name), None) => {
            let found = TransformDetails::find(broker, name);
            let found = found.ok_or_else(|| ControlError::no_transform(name))?;
            json(StatusCode::OK, &found)
        }
        (&Method::DELETE, Some(name), None) => {
            Transforms::delete(broker, name).await?;
            json(StatusCode::OK, &json!({}))
        }
        (&Method::POST, Some(name), Some(action @ ("pause" | "resume"))) => {
            this.pause(broker, name, action == "pause").await?;
            json(StatusCode::OK, &json!({}))
        }
        (&Method::POST, Some(name), Some("rollback")) => {
            let wanted: Rollback = body::json(request.into_body()).await?;
            let version = this.rollback(broker, name, wanted.version).await?;
            json(StatusCode::OK, &json!({ "version": version }))
        }
        (&Method::POST, Some(name), Some("rewind")) => {
            let wanted: Rewind = body::json(request.into_body()).await?;
            let offsets = this.rewind(broker, name, wanted.to.parse()?).await?;
            json(StatusCode::OK, &Rewound::of(&offsets))
        }
        (method, name, None | Some("pause" | "resume" | "rollback" | "rewind")) => {
            let allowed = match (name, action) {
                (None, _) => "GET, HEAD, POST",
                (_, None) => "GET, HEAD, DELETE",
                (_, Some(_)) => "POST",
            };
            no_method(method, request.uri().path(), allowed)
        }
        _ => return Err(no_path(request.uri().path())),
    })
}

fn created(is_new: bool) -> StatusCode {
    match is_new {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    }
}

fn stocks() -> Vec<serde_json::Value> {
    let stock = stock().iter().map(
        |stock| json!({ "id": stock.id, "size_bytes": stock.wasm.len(), "summary": stock.summary }),
    );
    stock.collect()
}

/// `label` of the query.
fn label(query: Option<&str>) -> String {
    const BYTES_MAX: usize = 255;
    let mut parameters = query.unwrap_or_default().split('&');
    let label = parameters.find_map(|parameter| parameter.strip_prefix("label="));
    let label = unescaped(label.unwrap_or_default());
    label[..label.floor_char_boundary(BYTES_MAX)].to_owned()
}

/// Text whose bytes may be written as `%` and two digits (RFC 3986).
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind
            .get(..2)
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn a_byte_is_two_hexadecimal_digits() {
        for (text, meant) in [
            ("a%20b", "a b"),
            ("%c3%A9", "é"),
            ("%2525", "%25"),
            ("%+1", "%+1"),
            ("%-1", "%-1"),
            ("%1", "%1"),
            ("%g0%", "%g0%"),
            ("%é", "%é"),
        ] {
            assert_eq!(unescaped(text), meant);
        }
    }
}
