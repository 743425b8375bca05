//! Heartbeat (key 12): a member is alive; the answer tells it of a rebalance.
//!
//! Versions 0–4: 3 adds the group instance id (KIP-345).

use tidemill_protocol::ErrorCode;
use tidemill_protocol::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;

/// Waits for nothing.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: HeartbeatRequest,
    _version: i16,
) -> HeartbeatResponse {
    let HeartbeatRequest {
        group_id,
        member_id,
        group_instance_id,
        generation_id,
        ..
    } = request;
    let outcome = if broker
        .authorizer
        .allows(context, Operation::Read, Resource::Group(&group_id))
    {
        let instance = group_instance_id.as_deref();
        broker
            .groups
            .heartbeat(&group_id, &member_id, instance, generation_id)
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    let code = outcome.err().unwrap_or(ErrorCode::None);
    HeartbeatResponse {
        error_code: code.code(),
        ..Default::default()
    }
}
