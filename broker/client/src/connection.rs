//! One connection to one broker: version negotiation, pipelining, deadlines.
//!
//! One task owns the socket and both moves requests out and takes answers in; callers hand it encoded
//! frames over a bounded queue. A call that is dropped half-way therefore never leaves a torn frame on the
//! wire. Kafka answers in the order of the requests, so an answer always belongs to the oldest pending
//! request; anything else closes the connection, and closing fails everything that is pending.

mod frame;
mod task;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tidemill_protocol::{
    ApiKey, ErrorCode, Message, Request, Str, decode_response, encode_request,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::error::ConnectionError;
use crate::net;
use task::Task;

/// Settings of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Name that the broker logs and that quotas go by.
    pub client_id: String,
    /// Limit for the TCP handshake, and again for the version negotiation.
    pub connect_timeout: Duration,
    /// Limit for one request, from the call to its answer.
    pub request_timeout: Duration,
    /// Requests that may be under way at once; a further one waits.
    pub in_flight_max: usize,
    /// Longest answer that is taken.
    pub response_bytes_max: usize,
}

impl Default for ConnectionConfig {
    fn default() -> ConnectionConfig {
        ConnectionConfig {
            client_id: "tidemill".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            in_flight_max: 16,
            response_bytes_max: 128 << 20,
        }
    }
}

/// What a single call may ask for beyond the connection's settings.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallOptions {
    /// Highest version to use, where a caller relies on fields that later versions dropped.
    pub version_max: Option<i16>,
    /// Time that the broker may hold the request by its own rules (long poll, rebalance), added to the
    /// request timeout.
    pub held_by_broker: Duration,
}

/// A connection; cheap to share by `Arc`, and closed when the last handle is dropped.
#[derive(Debug)]
pub struct Connection {
    address: Arc<str>,
    config: ConnectionConfig,
    client_id: Str,
    /// (key, lowest, highest) as the broker announced them, sorted by key.
    versions: Vec<(i16, i16, i16)>,
    next_correlation_id: AtomicI32,
    in_flight: Arc<Semaphore>,
    outgoing: mpsc::Sender<Outgoing>,
    state: Arc<State>,
}

/// What the handle and the task share.
#[derive(Debug, Default)]
struct State {
    /// Set once, before anything that is pending is failed.
    closed: OnceLock<ConnectionError>,
    close_now: Notify,
}

impl State {
    fn close(&self, error: ConnectionError) {
        // Only the first reason counts: the others are its consequences.
        let _ = self.closed.set(error);
        self.close_now.notify_one();
    }
}

/// A frame on its way out, with the place where its answer goes.
#[derive(Debug)]
struct Outgoing {
    chunks: Vec<Bytes>,
    /// `None` for a request without an answer (produce with acks=0).
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, ConnectionError>>,
    _in_flight: OwnedSemaphorePermit,
}

impl Connection {
    /// Connects to `address` (`host:port`) and learns which versions the broker speaks.
    ///
    /// # Errors
    /// `Connect` when there is no TCP connection, `Timeout` when the broker is silent, and the protocol
    /// errors when the peer is not a Kafka broker.
    pub async fn open(
        address: &str,
        config: ConnectionConfig,
    ) -> Result<Connection, ConnectionError> {
        let address: Arc<str> = Arc::from(address);
        let stream = net::connect(&address, config.connect_timeout)
            .await
            .map_err(|source| ConnectionError::Connect {
                address: address.clone(),
                source: Arc::new(source),
            })?;
        let state = Arc::new(State::default());
        let (outgoing, queue) = mpsc::channel(config.in_flight_max);
        let task = Task {
            address: address.clone(),
            response_bytes_max: config.response_bytes_max,
            state: state.clone(),
        };
        tokio::spawn(task.run(stream, queue));
        let mut connection = Connection {
            address,
            versions: Vec::new(),
            next_correlation_id: AtomicI32::new(0),
            in_flight: Arc::new(Semaphore::new(config.in_flight_max)),
            outgoing,
            state,
            client_id: Str::from(&config.client_id),
            config,
        };
        connection.negotiate().await?;
        Ok(connection)
    }

    /// The peer, as it was dialled.
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether the connection has ended; a closed one never opens again.
    pub fn is_closed(&self) -> bool {
        self.state.closed.get().is_some()
    }

    /// Closes the connection; pending requests fail with `Closed`.
    pub fn close(&self) {
        self.state.close(ConnectionError::Closed {
            address: self.address.clone(),
        });
    }

    /// The highest version of `R` that both sides speak, at most `version_max`.
    ///
    /// # Errors
    /// `Unsupported` when there is none.
    pub fn version_of<R: Request>(&self, version_max: Option<i16>) -> Result<i16, ConnectionError> {
        let offered = self
            .versions
            .binary_search_by_key(&R::KEY.0, |entry| entry.0)
            .ok()
            .map(|at| (self.versions[at].1, self.versions[at].2));
        let ours = R::MAX_VERSION.min(version_max.unwrap_or(R::MAX_VERSION));
        match offered {
            Some((lowest, highest)) if lowest.max(R::MIN_VERSION) <= highest.min(ours) => {
                Ok(highest.min(ours))
            }
            _ => Err(ConnectionError::Unsupported {
                address: self.address.clone(),
                api: R::KEY.name(),
                offered,
            }),
        }
    }

    /// Sends `request` in the highest common version and waits for its answer.
    ///
    /// # Errors
    /// Any [`ConnectionError`]; error codes inside the answer are the caller's to read.
    pub async fn send<R: Request>(&self, request: &R) -> Result<R::Response, ConnectionError> {
        self.send_with(request, CallOptions::default()).await
    }

    /// [`Connection::send`] with a capped version or a longer deadline.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send_with<R: Request>(
        &self,
        request: &R,
        options: CallOptions,
    ) -> Result<R::Response, ConnectionError> {
        let version = self.version_of::<R>(options.version_max)?;
        let limit = self.config.request_timeout + options.held_by_broker;
        let frame = self.exchange(request, version, limit).await?;
        self.decode::<R>(frame, version)
    }

    /// Sends a request that has no answer (produce with acks=0); returns once it is queued.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send_without_answer<R: Request>(
        &self,
        request: &R,
        options: CallOptions,
    ) -> Result<(), ConnectionError> {
        let version = self.version_of::<R>(options.version_max)?;
        let chunks = self.encode(request, version, self.next_correlation_id())?;
        let queued = self.outgoing.send(Outgoing {
            chunks,
            pending: None,
        });
        match tokio::time::timeout(self.config.request_timeout, queued).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.closed_error()),
            Err(_) => Err(self.timeout::<R>(self.config.request_timeout)),
        }
    }

    /// Asks for the broker's versions. A broker that does not know our version of the question answers in
    /// version 0 with error 35 and tells which versions of it there are.
    async fn negotiate(&mut self) -> Result<(), ConnectionError> {
        let mut version = ApiVersionsRequest::MAX_VERSION;
        let mut response = self.ask_versions(version).await?;
        if response.error_code == ErrorCode::UnsupportedVersion.code() {
            version = response
                .api_keys
                .iter()
                .find(|range| range.api_key == ApiKey::API_VERSIONS.0)
                .map_or(0, |range| range.max_version.clamp(0, version));
            response = self.ask_versions(version).await?;
        }
        if response.error_code != 0 {
            return Err(ConnectionError::Unsupported {
                address: self.address.clone(),
                api: ApiKey::API_VERSIONS.name(),
                offered: None,
            });
        }
        self.versions = response
            .api_keys
            .iter()
            .map(|range| (range.api_key, range.min_version, range.max_version))
            .collect();
        self.versions.sort_unstable();
        Ok(())
    }

    async fn ask_versions(&self, version: i16) -> Result<ApiVersionsResponse, ConnectionError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from("tidemill"),
            client_software_version: Str::from(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let frame = self
            .exchange(&request, version, self.config.connect_timeout)
            .await?;
        // The header has no more than the correlation id in any version, and the body begins with the code.
        let code = frame
            .get(size_of::<i32>()..)
            .and_then(|body| body.first_chunk::<2>());
        let refused = code == Some(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
        self.decode::<ApiVersionsRequest>(frame, if refused { 0 } else { version })
    }

    /// One request and the frame of its answer.
    async fn exchange<R: Request>(
        &self,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<Bytes, ConnectionError> {
        let deadline = Instant::now() + limit;
        let correlation_id = self.next_correlation_id();
        let chunks = self.encode(request, version, correlation_id)?;
        let (answer, answered) = oneshot::channel();
        let enqueue = async {
            let permit = self.in_flight.clone().acquire_owned().await;
            let in_flight = permit.expect("the semaphore is never closed");
            let pending = Some(Pending {
                correlation_id,
                answer,
                _in_flight: in_flight,
            });
            self.outgoing
                .send(Outgoing { chunks, pending })
                .await
                .map_err(|_| self.closed_error())
        };
        // Waiting for a place says nothing about the peer, so it does not close the connection.
        tokio::time::timeout_at(deadline, enqueue)
            .await
            .map_err(|_| self.timeout::<R>(limit))??;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.closed_error()),
            Err(_) => {
                // Everything behind this request would wait as well: the caller dials again.
                let error = self.timeout::<R>(limit);
                self.state.close(error.clone());
                Err(error)
            }
        }
    }

    fn next_correlation_id(&self) -> i32 {
        self.next_correlation_id.fetch_add(1, Ordering::Relaxed) & i32::MAX
    }

    fn encode<R: Request>(
        &self,
        request: &R,
        version: i16,
        correlation_id: i32,
    ) -> Result<Vec<Bytes>, ConnectionError> {
        let client_id = Some(self.client_id.clone());
        let frame = encode_request(correlation_id, client_id, version, request);
        let frame = frame.map_err(|source| ConnectionError::Encode {
            api: R::KEY.name(),
            version,
            source,
        })?;
        Ok(frame.chunks)
    }

    fn decode<R: Request>(
        &self,
        frame: Bytes,
        version: i16,
    ) -> Result<R::Response, ConnectionError> {
        match decode_response::<R>(frame, version) {
            Ok((_, response)) => Ok(response),
            Err(source) => Err(ConnectionError::Decode {
                address: self.address.clone(),
                api: R::KEY.name(),
                version,
                source,
            }),
        }
    }

    fn closed_error(&self) -> ConnectionError {
        self.state
            .closed
            .get()
            .cloned()
            .unwrap_or_else(|| ConnectionError::Closed {
                address: self.address.clone(),
            })
    }

    fn timeout<R: Request>(&self, limit: Duration) -> ConnectionError {
        ConnectionError::Timeout {
            address: self.address.clone(),
            api: R::KEY.name(),
            limit,
        }
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests;
