//! How often the store was asked for what, and what it answered: what people pay for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use parking_lot::Mutex;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Writes an object, or configures a bucket.
    Put,
    /// Reads an object or a range of it.
    Get,
    /// Asks whether an object is there.
    Head,
    /// Lists keys.
    List,
    /// Deletes objects.
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::List, Self::Delete];

    /// Its name as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    /// What one request costs in dollars in S3's standard class in us-east-1 (prices of 2025). Deleting is free.
    pub fn dollars(self) -> f64 {
        match self {
            Self::Put | Self::List => 0.005 / 1_000.0,
            Self::Get | Self::Head => 0.0004 / 1_000.0,
            Self::Delete => 0.0,
        }
    }
}

/// Requests by operation and code, with the bytes that went either way.
#[derive(Debug, Default)]
pub struct Counts {
    requests: Mutex<BTreeMap<(Operation, u16), u64>>,
    /// Bytes written into objects.
    pub(crate) bytes_put: AtomicU64,
    /// Bytes read out of objects.
    pub(crate) bytes_got: AtomicU64,
}

/// The code of a request that got no answer.
pub const NO_ANSWER: u16 = 0;

impl Counts {
    pub(crate) fn add(&self, operation: Operation, code: u16) {
        *self.requests.lock().entry((operation, code)).or_default() += 1;
    }

    /// Requests so far, by operation and HTTP status; [`NO_ANSWER`] where there was none.
    pub fn requests(&self) -> Vec<(Operation, u16, u64)> {
        let requests = self.requests.lock();
        requests
            .iter()
            .map(|((operation, code), count)| (*operation, *code, *count))
            .collect()
    }

    /// Bytes written into objects, and read out of them.
    pub fn bytes(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.bytes_put), read(&self.bytes_got))
    }

    /// What all requests so far cost.
    pub fn dollars(&self) -> f64 {
        let requests = self.requests();
        let costs = requests
            .iter()
            .map(|(operation, _, count)| operation.dollars() * *count as f64);
        costs.sum()
    }
}

/// Makes HTTP clients whose every request is counted, retries too.
#[derive(Debug)]
pub(crate) struct CountingConnector(pub(crate) Arc<Counts>);

impl HttpConnector for CountingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        let counts = Arc::clone(&self.0);
        Ok(HttpClient::new(CountingService { inner, counts }))
    }
}

#[derive(Debug)]
struct CountingService {
    inner: HttpClient,
    counts: Arc<Counts>,
}

#[async_trait::async_trait]
impl HttpService for CountingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let operation = operation_of(&request);
        let result = self.inner.execute(request).await;
        let code = result
            .as_ref()
            .map_or(NO_ANSWER, |response| response.status().as_u16());
        self.counts.add(operation, code);
        result
    }
}

fn operation_of(request: &HttpRequest) -> Operation {
    let query = request.uri().query().unwrap_or_default();
    match request.method().as_str() {
        "GET" if query.contains("list-type=") => Operation::List,
        "GET" => Operation::Get,
        "HEAD" => Operation::Head,
        "DELETE" => Operation::Delete,
        "POST" if query.starts_with("delete") => Operation::Delete,
        _ => Operation::Put,
    }
}
