//! The HTTP listener: metrics, health, and what `/v1/` tells and takes as JSON.

mod body;
mod functions;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tidemill_client::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::broker::Broker;
use crate::tiering::Tier;
use crate::transform::ControlError;

/// Connections at once; the next ones wait to be accepted. Scrapers and probes need a few.
const CONNECTIONS_MAX: usize = 64;
/// A request's head must be there this long after the connection was made, or after the answer before.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// After so long a connection is told to end with the next answer, and soon after that it is ended.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left, say) the next one waits this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Whether the broker can be sent work.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

impl Health {
    pub(crate) fn set_ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    pub(crate) fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.readiness().is_ok()
    }

    fn readiness(&self) -> Result<(), &'static str> {
        match self.0.load(Ordering::Acquire) {
            READY => Ok(()),
            DRAINING => Err("draining"),
            STARTING => Err("starting"),
            _ => Err("unknown"),
        }
    }
}

/// Serves until shutdown.
pub(crate) async fn run(
    broker: Arc<Broker>,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let accept = async || {
        let slot = connections.clone().acquire_owned().await;
        let slot = slot.expect("nobody closes it");
        (listener.accept().await, slot)
    };
    loop {
        let (accepted, slot) = tokio::select! {
            accepted = accept() => accepted,
            _ = stopped.wait_for(|is_stopped| *is_stopped) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(serve(broker.clone(), stream, slot));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an http connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(broker: Arc<Broker>, stream: TcpStream, _slot: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<Incoming>| {
        let broker = broker.clone();
        async move { Ok::<_, Infallible>(answer(&broker, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut ended = timeout(CONNECTION_AGE_MAX, connection.as_mut()).await;
    if ended.is_err() {
        connection.as_mut().graceful_shutdown();
        ended = timeout(LAST_ANSWER_WITHIN, connection).await;
    }
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "http connection ended");
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(broker: &Arc<Broker>, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if method != Method::GET && request.headers().contains_key(ORIGIN) {
        // A page in somebody's browser, which reaches this address where its server does not.
        let message = "a web page may not change a broker";
        let error = ControlError::new(403, "cross_origin", message);
        return refused(
            &error.hint("send it without the header Origin, from a program or a shell"),
        );
    }
    if let Some(answer) = functions::answer(broker, request).await {
        return answer;
    }
    let is_read = method == Method::GET || method == Method::HEAD;
    match path.as_str() {
        "/metrics" | "/livez" | "/readyz" | "/v1/tier" | "/v1/tier/objects" if !is_read => {
            no_method(&method, &path, READ)
        }
        "/metrics" => text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            broker.metrics.render(broker),
        ),
        "/livez" => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => match broker.health.readiness() {
            Ok(()) => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            Err(why) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                format!("{why}\n"),
            ),
        },
        "/v1/tier" => match &broker.tier {
            Some(tier) => json(StatusCode::OK, &tier.status(broker)),
            None => json(StatusCode::NOT_FOUND, &NO_TIER),
        },
        "/v1/tier/objects" => match &broker.tier {
            Some(tier) => tier_objects(broker, tier).await,
            None => json(StatusCode::NOT_FOUND, &NO_TIER),
        },
        _ => refused(&no_path(&path)),
    }
}

/// Methods of what can only be read.
const READ: &str = "GET, HEAD";

/// The path takes the methods of `allowed` only (RFC 9110, 15.5.6).
fn no_method(method: &Method, path: &str, allowed: &'static str) -> Answer {
    let message = format!("no {method} of {path}: it takes {allowed}");
    let error = ControlError::new(405, "method_not_allowed", message);
    let mut answer = refused(&error.hint("docs/http.md has all requests"));
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn no_path(path: &str) -> ControlError {
    ControlError::new(404, "unknown_path", format!("there is no path {path}"))
        .hint("docs/http.md has all requests")
}

/// An error of `/v1/`.
#[derive(Debug, Serialize)]
struct ApiError<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
}

const NO_TIER: ApiError<'static> = ApiError {
    code: "no_tier",
    message: "this broker has no tier",
    hint: Some("start it with --tier-url s3://BUCKET/PREFIX or file:///PATH"),
};

async fn tier_objects(broker: &Broker, tier: &Tier) -> Answer {
    match tier.objects(broker).await {
        Ok(objects) => json(StatusCode::OK, &objects),
        Err(failed) => {
            let message = failed.to_string();
            let told = ApiError {
                code: "store_failed",
                message: &message,
                hint: failed.hint(),
            };
            json(StatusCode::BAD_GATEWAY, &told)
        }
    }
}

fn refused(error: &ControlError) -> Answer {
    let told = ApiError {
        code: error.code,
        message: &error.message,
        hint: error.hint.as_deref(),
    };
    let status = StatusCode::from_u16(error.status);
    json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &told)
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value).expect("plain data has a JSON form");
    text(status, "application/json", body + "\n")
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
