//! A raw HTTP client, a signing one, and the double that they talk to.

use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use object_store::RetryConfig;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use serde_json::Value;
use tidemill_test_s3::{S3Double, Settings};
use tokio::net::TcpStream;

pub(crate) const BUCKET: &str = "tidemill";

/// No single step of a test takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// With one bucket, for raw requests.
pub(crate) fn settings() -> Settings {
    Settings {
        buckets: vec![BUCKET.to_owned()],
        accept_unsigned: true,
        ..Settings::default()
    }
}

pub(crate) async fn start() -> S3Double {
    S3Double::start(settings()).await.unwrap()
}

pub(crate) async fn start_with(faults: Value) -> S3Double {
    let double = start().await;
    double.set_faults(serde_json::from_value(faults).unwrap());
    double
}

/// One rule that always strikes.
pub(crate) async fn start_with_fault(op: &str, fault: Value) -> S3Double {
    start_with(serde_json::json!({"rules": [{"op": op, "fault": fault}]})).await
}

/// What came of a raw request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether the body was as long as announced.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A request on a connection of its own. None if it was closed without an answer.
pub(crate) async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Option<Answer> {
    let exchange = exchange(address, method, path, headers, body.into());
    tokio::time::timeout(LIMIT, exchange)
        .await
        .expect("an end in time")
}

async fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Option<Answer> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "double");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender
        .send_request(request.body(Full::new(body)).unwrap())
        .await
        .ok()?;
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let is_whole = loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    Some(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes.into(),
        is_whole,
    })
}

/// Stores an object, which must succeed.
pub(crate) async fn put(double: &S3Double, key: &str, body: impl Into<Bytes>) {
    let path = format!("/{BUCKET}/{key}");
    let answer = ask(double.s3_address(), "PUT", &path, &[], body)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

pub(crate) async fn get(double: &S3Double, key: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    ask(
        double.s3_address(),
        "GET",
        &format!("/{BUCKET}/{key}"),
        headers,
        "",
    )
    .await
}

/// A request to the control port, with the status and the JSON that came back.
pub(crate) async fn control(
    double: &S3Double,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, Value) {
    let address = double.control_address();
    let answer = ask(address, method, path, &[], body.to_owned())
        .await
        .unwrap();
    (
        answer.status,
        serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
    )
}

/// Waits for what has no event to wait for.
pub(crate) async fn eventually(mut is_so: impl FnMut() -> bool) {
    let wait = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !is_so() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("in time");
}

/// tidemill's client, which signs, sends CRC64NVME and does not repeat itself.
pub(crate) fn store(double: &S3Double) -> Arc<AmazonS3> {
    store_with_secret(double, "testtest")
}

pub(crate) fn store_with_secret(double: &S3Double, secret: &str) -> Arc<AmazonS3> {
    static PROVIDER: Once = Once::new();
    // reqwest asks for a provider of TLS even where there is no TLS.
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap()
    });
    let store = AmazonS3Builder::new()
        .with_endpoint(format!("http://{}", double.s3_address()))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id("test")
        .with_secret_access_key(secret)
        .with_checksum_algorithm(Checksum::CRC64NVME)
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        });
    Arc::new(store.build().unwrap())
}
