//! Functions and transforms, over HTTP and Kafka's protocol as their users have them.

mod artifacts;
mod delivery;
mod deployments;
mod operations;
mod poison;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use tidemill::config::BrokerConfig;
use tidemill_records::{Headers, Record, RecordBatch, RecordBatchBuilder, RecordHeader};
use tidemill_tests::records::records;
use tidemill_tests::{TestBroker, Wire, get, request, until};

const DELAYS: &[u8] = include_bytes!("../../../functions/examples/dist/delays.wasm");
const IDENTITY: &[u8] = include_bytes!("../../../functions/examples/dist/identity.wasm");
const HOSTILE: &[u8] = include_bytes!("../../../functions/examples/dist/hostile.wasm");

/// A broker, and what its users say to it.
struct Rig {
    broker: TestBroker,
    wire: Wire,
}

impl Rig {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(adjust: impl FnOnce(&mut BrokerConfig)) -> Self {
        let broker = TestBroker::start_with(adjust).await;
        let wire = broker.wire().await;
        Self { broker, wire }
    }

    async fn restart(&mut self) {
        self.broker.restart().await;
        self.wire = self.broker.wire().await;
    }

    async fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let admin = self.broker.addresses().admin;
        let (status, body) = request(admin, method, path, "", body).await;
        let body = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{body:?}: {error}"));
        (status, body)
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, body.to_string().as_bytes()).await
    }

    async fn must_post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert!(matches!(status, 200 | 201), "{path}: {status} {answer}");
        answer
    }

    async fn upload(&self, artifact: &[u8]) -> String {
        let (status, answer) = self.call("POST", "/v1/functions", artifact).await;
        assert!(matches!(status, 200 | 201), "{status} {answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Deploys with `more` beside name, source, sinks and `from`.
    async fn deploy(&self, artifact: &[u8], name: &str, more: Value) -> Value {
        let id = self.upload(artifact).await;
        let wanted = json!({
            "name": name, "function": id, "source": "in", "sinks": ["out"], "from": "start",
        });
        self.must_post("/v1/transforms", &with(wanted, more)).await
    }

    async fn status(&self, name: &str) -> Value {
        let (status, body) = get(
            self.broker.addresses().admin,
            &format!("/v1/transforms/{name}"),
        )
        .await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// Waits until a transform has committed everything.
    async fn caught_up(&self, name: &str) {
        until("the transform's lag of 0", async || {
            let status = self.status(name).await;
            let tasks = status["tasks"].as_array().expect("tasks").clone();
            let is_done = |task: &Value| task["committed"] == task["end"];
            (!tasks.is_empty() && tasks.iter().all(is_done)).then_some(())
        })
        .await;
    }

    async fn in_state(&self, name: &str, state: &str) -> Value {
        until(state, async || {
            let status = self.status(name).await;
            (status["state"] == state).then_some(status)
        })
        .await
    }

    async fn produce(&mut self, partition: i32, values: &[&str]) -> i64 {
        let batch = tidemill_tests::records::batch(values);
        self.wire.must_produce("in", partition, &batch).await
    }

    /// All records of a partition.
    async fn all(&mut self, topic: &str, partition: i32) -> Vec<Record> {
        let mut found: Vec<Record> = Vec::new();
        loop {
            let next = found.last().map_or(0, |record| record.offset.0 + 1);
            let answer = self.wire.fetch(topic, partition, next).await;
            assert_eq!(answer.error_code, 0, "{answer:?}");
            let bytes: Bytes = answer.records.unwrap_or_default().into_bytes();
            let fresh = records(&bytes)
                .into_iter()
                .filter(|record| record.offset.0 >= next);
            let before = found.len();
            found.extend(fresh);
            if found.len() == before {
                return found;
            }
        }
    }

    async fn values(&mut self, topic: &str) -> Vec<String> {
        self.wire.values(topic, 0).await
    }
}

fn with(mut base: Value, more: Value) -> Value {
    let more = more.as_object().expect("an object").clone();
    base.as_object_mut().expect("an object").extend(more);
    base
}

/// A batch of whole records.
fn batch(found: &[(i64, Option<&str>, Option<&str>, &[(&str, Option<&str>)])]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(tidemill_records::Compression::None);
    for (timestamp, key, value, headers) in found {
        let headers: Headers = headers
            .iter()
            .map(|(key, value)| RecordHeader {
                key: Bytes::copy_from_slice(key.as_bytes()),
                value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            })
            .collect();
        let bytes = |text: &Option<&str>| text.map(|text| text.as_bytes().to_vec());
        builder.push(
            *timestamp,
            bytes(key).as_deref(),
            bytes(value).as_deref(),
            &headers,
        );
    }
    builder.build().expect("a batch")
}

fn headers(record: &Record) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record.headers.iter();
    headers
        .map(|header| (text(&header.key), text(&header.value.unwrap_or_default())))
        .collect()
}

fn text(bytes: &Option<Bytes>) -> Option<String> {
    let bytes = bytes.as_ref()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}
