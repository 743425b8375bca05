//! SyncGroup (key 14): the leader hands in everybody's assignment, every member takes its own; the answer
//! waits until the assignment is durable.
//!
//! Versions 0–5: 3 adds the group instance id (KIP-345), 5 the protocol's type and name, which must both be
//! there then (KIP-559).

use bytes::Bytes;
use tidemill_protocol::sync_group::{SyncGroupRequest, SyncGroupResponse};
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::classic::SyncRequest;
use crate::server::context::RequestContext;

/// Parks until the leader has assigned.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: SyncGroupRequest,
    version: i16,
) -> SyncGroupResponse {
    let group_id = request.group_id.detached();
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let reply = if !broker
        .authorizer
        .allows(context, Operation::Read, Resource::Group(&group_id))
    {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if version >= 5 && !names_protocol {
        Err(ErrorCode::InconsistentGroupProtocol)
    } else {
        let sync = read(request);
        broker.groups.sync(&group_id, sync).await
    };
    match reply {
        Ok(synced) => SyncGroupResponse {
            protocol_type: synced.protocol_type.as_deref().map(Str::from),
            protocol_name: synced.protocol_name.as_deref().map(Str::from),
            assignment: synced.assignment,
            ..Default::default()
        },
        Err(code) => SyncGroupResponse {
            error_code: code.code(),
            ..Default::default()
        },
    }
}

/// Copies what the group keeps.
fn read(request: SyncGroupRequest) -> SyncRequest {
    let assignments = request.assignments.iter().map(|assigned| {
        (
            (&*assigned.member_id).into(),
            Bytes::copy_from_slice(&assigned.assignment),
        )
    });
    SyncRequest {
        member_id: (&*request.member_id).into(),
        group_instance_id: request.group_instance_id.as_deref().map(Into::into),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_deref().map(Into::into),
        protocol_name: request.protocol_name.as_deref().map(Into::into),
        assignments: assignments.collect(),
    }
}
