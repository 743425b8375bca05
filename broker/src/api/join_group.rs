//! JoinGroup (key 11): a member enters the group's next generation; the answer waits for the others.
//!
//! Versions 0–9. Version 0 has one timeout for both purposes (KIP-62); from 4 on a newcomer is sent away
//! once with the id to come back with (KIP-394); 5 brings static members (KIP-345); 7 answers with the
//! protocol's type (KIP-559), 8 asks for a reason (KIP-800), 9 lets a static leader skip the assignment
//! (KIP-814). The rules of a group are in `crate::group::classic`.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tidemill_protocol::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse, JoinGroupResponseMember,
};
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::classic::{JoinRefusal, JoinRequest, Joined, Protocol, Terms, from_ms};
use crate::group::short;
use crate::server::context::RequestContext;

/// Parks until the group is complete.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: JoinGroupRequest,
    version: i16,
) -> JoinGroupResponse {
    let group_id = request.group_id.detached();
    if !broker
        .authorizer
        .allows(context, Operation::Read, Resource::Group(&group_id))
    {
        let member_id = (&*request.member_id).into();
        let code = ErrorCode::GroupAuthorizationFailed;
        return refused(JoinRefusal { code, member_id }, version);
    }
    let join = read(broker, context, request, version);
    match broker.groups.join(&group_id, join).await {
        Ok(joined) => answer(joined),
        Err(refusal) => refused(refusal, version),
    }
}

/// Copies what the group keeps, so that a member does not hold on to its request's frame.
fn read(
    broker: &Broker,
    context: &RequestContext,
    request: JoinGroupRequest,
    version: i16,
) -> JoinRequest {
    let group_instance_id: Option<Arc<str>> = request.group_instance_id.as_deref().map(Arc::from);
    let named_after = group_instance_id.as_deref().unwrap_or(&context.client_id);
    let new_member_id = format!("{}-{}", short(named_after), broker.random.next_uuid());
    let rebalance_timeout_ms = if version == 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let mut seen = HashSet::new();
    let protocols = request
        .protocols
        .iter()
        .filter(|protocol| seen.insert(&protocol.name));
    JoinRequest {
        member_id: (&*request.member_id).into(),
        new_member_id: new_member_id.into(),
        client_id: (&*context.client_id).into(),
        client_host: context.client_host.clone(),
        protocol_type: (&*request.protocol_type).into(),
        terms: Terms {
            session_timeout: from_ms(request.session_timeout_ms),
            rebalance_timeout: from_ms(rebalance_timeout_ms),
            protocols: protocols.map(protocol).collect(),
        },
        requires_known_member_id: version >= 4,
        supports_skipping_assignment: version >= 9,
        reason: short(request.reason.as_deref().unwrap_or_default()).into(),
        group_instance_id,
    }
}

fn protocol(protocol: &JoinGroupRequestProtocol) -> Protocol {
    Protocol {
        name: (&*protocol.name).into(),
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    }
}

fn answer(joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: Str::from(&*member.member_id),
            group_instance_id: member.group_instance_id.as_deref().map(Str::from),
            metadata: member.metadata,
            ..Default::default()
        });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.as_deref().map(Str::from),
        protocol_name: joined.protocol_name.as_deref().map(Str::from),
        leader: Str::from(&*joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: Str::from(&*joined.member_id),
        members: members.collect(),
        ..Default::default()
    }
}

fn refused(refusal: JoinRefusal, version: i16) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: refusal.code.code(),
        generation_id: -1,
        // Null only where the version has it.
        protocol_name: (version < 7).then(Str::default),
        member_id: Str::from(&*refusal.member_id),
        ..Default::default()
    }
}
