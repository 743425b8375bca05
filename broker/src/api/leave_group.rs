//! LeaveGroup (key 13): members leave at once instead of with the end of their session.
//!
//! Versions 0–5. Up to 2 one member leaves and its error is the answer's; from 3 on many do, by member id or,
//! for an administrator, by group instance id (KIP-345); 5 adds a reason (KIP-800).

use tidemill_protocol::ErrorCode;
use tidemill_protocol::leave_group::{
    LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse,
};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::classic::LeavingMember;
use crate::group::short;
use crate::server::context::RequestContext;

/// Answers for every member on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: LeaveGroupRequest,
    version: i16,
) -> LeaveGroupResponse {
    let LeaveGroupRequest {
        group_id,
        member_id,
        mut members,
        ..
    } = request;
    if version < 3 {
        members = vec![MemberIdentity {
            member_id,
            ..Default::default()
        }];
    }
    let leaving: Vec<_> = members.iter().map(read).collect();
    let outcomes = if broker
        .authorizer
        .allows(context, Operation::Read, Resource::Group(&group_id))
    {
        broker.groups.leave(&group_id, &leaving)
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    match outcomes {
        Err(code) => LeaveGroupResponse {
            error_code: code.code(),
            ..Default::default()
        },
        Ok(outcomes) if version < 3 => {
            let code = outcomes
                .into_iter()
                .find_map(Result::err)
                .unwrap_or(ErrorCode::None);
            LeaveGroupResponse {
                error_code: code.code(),
                ..Default::default()
            }
        }
        Ok(outcomes) => {
            let answer = |(member, outcome): (MemberIdentity, Result<(), ErrorCode>)| {
                let code = outcome.err().unwrap_or(ErrorCode::None);
                MemberResponse {
                    member_id: member.member_id,
                    group_instance_id: member.group_instance_id,
                    error_code: code.code(),
                    ..Default::default()
                }
            };
            let members = members.into_iter().zip(outcomes).map(answer).collect();
            LeaveGroupResponse {
                members,
                ..Default::default()
            }
        }
    }
}

fn read(member: &MemberIdentity) -> LeavingMember {
    LeavingMember {
        member_id: (&*member.member_id).into(),
        group_instance_id: member.group_instance_id.as_deref().map(Into::into),
        reason: short(member.reason.as_deref().unwrap_or_default()).into(),
    }
}
