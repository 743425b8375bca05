//! Kafka's APIs: one file per key, one table of what is served, one way in.
//!
//! A frame becomes a typed request, a handler answers it, the answer becomes a frame. What cannot be decoded
//! or is not served costs its sender the connection, as in Kafka, since nothing after it can be trusted.

pub(crate) mod error;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_protocol::api_versions::ApiVersionsRequest;
use tidemill_protocol::produce::ProduceRequest;
use tidemill_protocol::{
    ApiKey, DecodeError, Decoder, EncodeError, Frame, Message, Request, RequestHeader, Str,
    encode_response,
};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::server::context::{ConnectionContext, RequestContext};
use crate::server::memory::Charge;

/// How a request ends.
#[derive(Debug)]
pub(crate) enum Reply {
    /// With an answer.
    Frame(Frame),
    /// Without one: `acks=0`.
    Nothing,
    /// With the end of the connection.
    Close(Refusal),
}

/// A request on its way. The first poll does all that must happen in the order of arrival.
pub(crate) type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// Why a request costs its sender the connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("request of {0} bytes has no header")]
    NoHeader(usize),
    #[error("api key {0} is not served")]
    UnknownApi(i16),
    #[error("{api} version {version} is not served")]
    UnsupportedVersion { api: &'static str, version: i16 },
    #[error("malformed {api} request version {version}: {source}")]
    Malformed {
        api: &'static str,
        version: i16,
        source: DecodeError,
    },
    #[error("cannot encode the answer to {api} version {version}: {source}")]
    Unencodable {
        api: &'static str,
        version: i16,
        source: EncodeError,
    },
    #[error("a produce request with acks=0 failed")]
    UnacknowledgedProduceFailed,
}

impl Refusal {
    /// A short name for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoHeader(_) | Self::Malformed { .. } => "malformed",
            Self::UnknownApi(_) => "unknown_api",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::Unencodable { .. } => "unencodable",
            Self::UnacknowledgedProduceFailed => "unacknowledged_produce_failed",
        }
    }
}

/// One row of what is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) key: ApiKey,
    pub(crate) min: i16,
    pub(crate) max: i16,
}

/// A request whose header has been read.
struct Call {
    broker: Arc<Broker>,
    context: RequestContext,
    key: ApiKey,
    /// Of the API in [`SERVED`].
    row: usize,
    began: Instant,
    version: i16,
    correlation_id: i32,
    /// Memory of the frame, given back with the answer.
    charge: Charge,
}

macro_rules! serve {
    ($($module:ident :: $request:ident),* $(,)?) => {
        $(mod $module;)*

        /// Every API that is served.
        pub(crate) const SERVED: &[Served] = &[$({
            type R = tidemill_protocol::$module::$request;
            Served {
                key: <R as Request>::KEY,
                min: <R as Message>::MIN_VERSION,
                max: <R as Message>::MAX_VERSION,
            }
        }),*];

        fn start(call: Call, body: Bytes) -> Result<ReplyFuture, Refusal> {
            $(if call.key == <tidemill_protocol::$module::$request as Request>::KEY {
                let request: tidemill_protocol::$module::$request = call.decode(body)?;
                return Ok(Box::pin(async move {
                    let response =
                        $module::handle(&call.broker, &call.context, request, call.version).await;
                    call.answer::<tidemill_protocol::$module::$request>(&response)
                }));
            })*
            Err(Refusal::UnknownApi(call.key.0))
        }
    };
}

serve! {
    produce::ProduceRequest,
    fetch::FetchRequest,
    list_offsets::ListOffsetsRequest,
    metadata::MetadataRequest,
    api_versions::ApiVersionsRequest,
    init_producer_id::InitProducerIdRequest,
    offset_commit::OffsetCommitRequest,
    offset_fetch::OffsetFetchRequest,
    find_coordinator::FindCoordinatorRequest,
    join_group::JoinGroupRequest,
    heartbeat::HeartbeatRequest,
    leave_group::LeaveGroupRequest,
    sync_group::SyncGroupRequest,
    describe_groups::DescribeGroupsRequest,
    list_groups::ListGroupsRequest,
    create_topics::CreateTopicsRequest,
    delete_topics::DeleteTopicsRequest,
    delete_records::DeleteRecordsRequest,
    offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    describe_configs::DescribeConfigsRequest,
    alter_configs::AlterConfigsRequest,
    describe_log_dirs::DescribeLogDirsRequest,
    create_partitions::CreatePartitionsRequest,
    delete_groups::DeleteGroupsRequest,
    incremental_alter_configs::IncrementalAlterConfigsRequest,
    offset_delete::OffsetDeleteRequest,
    describe_cluster::DescribeClusterRequest,
    describe_topic_partitions::DescribeTopicPartitionsRequest,
}

/// Does this frame hold a produce request?
pub(crate) fn is_produce(frame: &[u8]) -> bool {
    frame.starts_with(&ApiKey::PRODUCE.0.to_be_bytes())
}

/// Does this frame hold a fetch?
pub(crate) fn is_fetch(frame: &[u8]) -> bool {
    frame.starts_with(&ApiKey::FETCH.0.to_be_bytes())
}

/// Starts a request: decodes it and returns its answer to be.
pub(crate) fn dispatch(
    broker: &Arc<Broker>,
    connection: &Arc<ConnectionContext>,
    frame: Bytes,
    charge: Charge,
    logs_have_room: bool,
) -> Result<ReplyFuture, Refusal> {
    let (code, version, correlation_id) = peek(&frame)?;
    let row = SERVED.iter().position(|served| served.key.0 == code);
    let row = row.ok_or(Refusal::UnknownApi(code))?;
    let served = &SERVED[row];
    let key = served.key;
    let mut call = Call {
        broker: broker.clone(),
        context: RequestContext::new(connection.clone(), Str::default(), logs_have_room),
        key,
        row,
        began: Instant::now(),
        version,
        correlation_id,
        charge,
    };
    if version < served.min || version > served.max {
        if key != ApiKey::API_VERSIONS {
            return Err(Refusal::UnsupportedVersion {
                api: key.name(),
                version,
            });
        }
        // The client may speak only what we have not heard of: what we serve is told in version 0.
        call.version = 0;
        let reply = call.answer::<ApiVersionsRequest>(&api_versions::unsupported());
        return Ok(Box::pin(std::future::ready(reply)));
    }
    let mut decoder = Decoder::new(frame);
    let header = RequestHeader::decode(&mut decoder).map_err(|source| Refusal::Malformed {
        api: key.name(),
        version,
        source,
    })?;
    call.context.client_id = header.client_id.unwrap_or_default();
    call.context.pinned_bytes = call.charge.pinned_bytes();
    let body = decoder.into_remaining();
    if key == ApiKey::PRODUCE {
        start_produce(call, body)
    } else {
        start(call, body)
    }
}

/// Produce alone may end without an answer.
fn start_produce(call: Call, body: Bytes) -> Result<ReplyFuture, Refusal> {
    let request: ProduceRequest = call.decode(body)?;
    let is_silent = request.acks == 0;
    Ok(Box::pin(async move {
        let response = produce::handle(&call.broker, &call.context, request, call.version).await;
        if !is_silent {
            return call.answer::<ProduceRequest>(&response);
        }
        let mut partitions = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partition_responses);
        match partitions.any(|partition| partition.error_code != 0) {
            true => Reply::Close(Refusal::UnacknowledgedProduceFailed),
            false => Reply::Nothing,
        }
    }))
}

impl Call {
    fn decode<R: Request>(&self, body: Bytes) -> Result<R, Refusal> {
        // What follows the request is ignored, as by Kafka: librdkafka 2.16 sends bytes after Metadata 13.
        R::decode(&mut Decoder::new(body), self.version).map_err(|source| Refusal::Malformed {
            api: self.key.name(),
            version: self.version,
            source,
        })
    }

    fn answer<R: Request>(&self, response: &R::Response) -> Reply {
        self.broker.metrics.answered(self.row, self.began.elapsed());
        match encode_response::<R>(self.correlation_id, self.version, response) {
            Ok(frame) => Reply::Frame(frame),
            Err(source) => Reply::Close(Refusal::Unencodable {
                api: self.key.name(),
                version: self.version,
                source,
            }),
        }
    }
}

/// Key, version and correlation id stand at the same place in every header version.
fn peek(frame: &[u8]) -> Result<(i16, i16, i32), Refusal> {
    match frame {
        [k0, k1, v0, v1, c0, c1, c2, c3, ..] => Ok((
            i16::from_be_bytes([*k0, *k1]),
            i16::from_be_bytes([*v0, *v1]),
            i32::from_be_bytes([*c0, *c1, *c2, *c3]),
        )),
        _ => Err(Refusal::NoHeader(frame.len())),
    }
}
