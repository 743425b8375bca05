//! FindCoordinator (key 10): which broker a group's members talk to.
//!
//! Versions 0–6; many keys at once from 4 on (KIP-699). The coordinator of a group is the leader of its
//! partition of `__consumer_offsets`, which is created when the first one is asked for. Transactions have no
//! coordinator yet: TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which clients understand as final, where
//! COORDINATOR_NOT_AVAILABLE would let them ask for ever. Other key types are refused.

use tidemill_metadata::MetadataLog;
use tidemill_protocol::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group;
use crate::server::context::RequestContext;
use crate::topic::{self, CONSUMER_OFFSETS};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const NO_TRANSACTIONS: &str = "tidemill has no transactions yet";

/// Answers every key on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    if version >= 4 {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(find(broker, context, key, request.key_type).await);
        }
        return FindCoordinatorResponse {
            coordinators,
            ..Default::default()
        };
    }
    let found = find(broker, context, request.key, request.key_type).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..Default::default()
    }
}

async fn find(broker: &Broker, context: &RequestContext, key: Str, key_type: i8) -> Coordinator {
    let outcome = match key_type {
        GROUP => of_group(broker, context, &key).await,
        TRANSACTION => of_transaction(broker, context, &key),
        _ => Err(ErrorCode::InvalidRequest),
    };
    match outcome {
        Ok((node_id, host, port)) => Coordinator {
            key,
            node_id,
            host: host.into(),
            port: i32::from(port),
            ..Default::default()
        },
        Err(code) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: Some(match key_type {
                TRANSACTION => Str::from_static(NO_TRANSACTIONS),
                _ => Str::from_static(code.message()),
            }),
            ..Default::default()
        },
    }
}

async fn of_group(
    broker: &Broker,
    context: &RequestContext,
    group_id: &str,
) -> Result<(i32, String, u16), ErrorCode> {
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Group(group_id))
    {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let unavailable = ErrorCode::CoordinatorNotAvailable;
    let is_new = broker.metadata.image().topic(CONSUMER_OFFSETS).is_none();
    if is_new && let Err(code) = topic::auto_create(broker, CONSUMER_OFFSETS).await {
        tracing::warn!(%code, "cannot create {CONSUMER_OFFSETS}");
        return Err(unavailable);
    }
    let image = broker.metadata.image();
    let offsets = image.topic(CONSUMER_OFFSETS).ok_or(unavailable)?;
    let partition = group::partition_of(group_id, offsets.partition_count());
    let leader = offsets.partition(partition).ok_or(unavailable)?.leader;
    if is_new && leader == broker.node() {
        // So that the first request of the first group is not sent away.
        broker.groups.wait_until_served(partition).await;
    }
    let (host, port) = broker.address_of(leader, context).ok_or(unavailable)?;
    Ok((leader.0, host, port))
}

fn of_transaction(
    broker: &Broker,
    context: &RequestContext,
    transactional_id: &str,
) -> Result<(i32, String, u16), ErrorCode> {
    let resource = Resource::TransactionalId(transactional_id);
    if broker
        .authorizer
        .allows(context, Operation::Describe, resource)
    {
        let client_id = context.client_id.as_str();
        tracing::info!(%client_id, "a transactional producer was refused: {NO_TRANSACTIONS}");
    }
    Err(ErrorCode::TransactionalIdAuthorizationFailed)
}
