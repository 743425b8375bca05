//! A broker for tests: one closure decides, request by request, what goes back over a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidemill_protocol::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use tidemill_protocol::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use tidemill_protocol::{ApiKey, Decoder, ErrorCode, Request, RequestHeader, Str, encode_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::client::{Client, ClientConfig};
use crate::connection::ConnectionConfig;
use crate::net;

/// What the script answers.
pub(crate) enum Reply {
    /// These bytes, as they are.
    Bytes(Vec<u8>),
    /// Nothing; the connection stays open.
    Silence,
    /// These bytes, and then the connection closes.
    Hangup(Vec<u8>),
}

/// A request that came.
pub(crate) struct Received {
    pub(crate) header: RequestHeader,
    body: Bytes,
    /// The broker's own port.
    pub(crate) port: u16,
}

impl Received {
    pub(crate) fn key(&self) -> ApiKey {
        self.header.request_api_key
    }

    pub(crate) fn request<R: Request>(&self) -> R {
        R::decode_exact(self.body.clone(), self.header.request_api_version).unwrap()
    }

    /// The well-formed answer.
    pub(crate) fn answer<R: Request>(&self, response: &R::Response) -> Reply {
        let version = self.header.request_api_version;
        let frame = encode_response::<R>(self.header.correlation_id, version, response);
        Reply::Bytes(frame.unwrap().to_bytes().to_vec())
    }

    /// All that we know, in all versions.
    pub(crate) fn versions(&self) -> Reply {
        let api_keys = tidemill_protocol::APIS.iter().map(|api| ApiVersion {
            api_key: api.key.0,
            min_version: api.min_version,
            max_version: api.max_version,
            ..ApiVersion::default()
        });
        self.answer::<ApiVersionsRequest>(&ApiVersionsResponse {
            api_keys: api_keys.collect(),
            ..ApiVersionsResponse::default()
        })
    }

    /// One broker (this one, node 1) and topic `t` with `partitions` partitions.
    pub(crate) fn metadata(&self, partitions: i32) -> Reply {
        let known = self.request::<MetadataRequest>().topics;
        let asked: Vec<Str> = match known {
            Some(topics) => topics.into_iter().filter_map(|topic| topic.name).collect(),
            None => vec![Str::from("t")],
        };
        let topics = asked.into_iter().map(|name| {
            let exists = &*name == "t";
            let code = if exists {
                ErrorCode::None
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            MetadataResponseTopic {
                error_code: code.code(),
                topic_id: if exists {
                    Uuid::from_u128(7)
                } else {
                    Uuid::nil()
                },
                partitions: (0..partitions * i32::from(exists))
                    .map(partition_led_by_1)
                    .collect(),
                name: Some(name),
                ..MetadataResponseTopic::default()
            }
        });
        self.answer::<MetadataRequest>(&MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: 1,
                host: Str::from("127.0.0.1"),
                port: i32::from(self.port),
                ..MetadataResponseBroker::default()
            }],
            controller_id: 1,
            topics: topics.collect(),
            ..MetadataResponse::default()
        })
    }
}

fn partition_led_by_1(partition_index: i32) -> MetadataResponsePartition {
    MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 5,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    }
}

/// A listener that answers as its script says, until it is dropped.
pub(crate) struct FakeBroker {
    pub(crate) address: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeBroker {
    pub(crate) async fn start(
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> FakeBroker {
        let listener = net::listen("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                serving.spawn(serve(stream, port, script.clone()));
            }
        });
        FakeBroker {
            address: format!("127.0.0.1:{port}"),
            connections,
            task,
        }
    }

    /// How many connections were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A client that knows only this broker, with short deadlines.
    pub(crate) fn client(&self) -> Arc<Client> {
        let mut config = ClientConfig::new(vec![self.address.clone()]);
        config.connection = quick();
        config.deadline = Duration::from_secs(3);
        Arc::new(Client::new(config))
    }
}

/// Settings with which a silent peer is noticed soon.
pub(crate) fn quick() -> ConnectionConfig {
    ConnectionConfig {
        connect_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(300),
        response_bytes_max: 1 << 20,
        ..ConnectionConfig::default()
    }
}

async fn serve(mut stream: net::TcpStream, port: u16, script: Arc<impl Fn(&Received) -> Reply>) {
    while let Ok(length) = stream.read_i32().await {
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let mut decoder = Decoder::new(Bytes::from(frame));
        let header = RequestHeader::decode(&mut decoder).unwrap();
        let body = decoder.into_remaining();
        match script(&Received { header, body, port }) {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.unwrap(),
            Reply::Silence => {}
            Reply::Hangup(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                return;
            }
        }
    }
}
