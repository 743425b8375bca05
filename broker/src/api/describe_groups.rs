//! DescribeGroups (key 15): state and members of groups.
//!
//! Versions 0–6: 3 can list authorized operations (KIP-430), 4 shows group instance ids (KIP-345). A group
//! that does not exist is Dead; from 6 on it is an error too (KIP-1043). Members' metadata is shown only
//! while the group is stable, since between generations it has no protocol.

use std::collections::HashSet;

use tidemill_protocol::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::classic::{ClassicGroup, GroupState};
use crate::server::context::RequestContext;
use crate::topic::GROUP_OPERATIONS;

/// Describes each group by itself, and once: the answer may be much larger than the question.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeGroupsRequest,
    version: i16,
) -> DescribeGroupsResponse {
    let mut groups = Vec::new();
    let mut seen = HashSet::new();
    for group_id in request.groups {
        if !seen.insert(group_id.clone()) {
            continue;
        }
        let mut described = describe(broker, context, &group_id, version);
        described.group_id = group_id;
        if request.include_authorized_operations && described.error_code == 0 {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        groups.push(described);
    }
    DescribeGroupsResponse {
        groups,
        ..Default::default()
    }
}

fn describe(
    broker: &Broker,
    context: &RequestContext,
    group_id: &str,
    version: i16,
) -> DescribedGroup {
    let error = |code: ErrorCode| DescribedGroup {
        error_code: code.code(),
        ..Default::default()
    };
    if !broker
        .authorizer
        .allows(context, Operation::Describe, Resource::Group(group_id))
    {
        return error(ErrorCode::GroupAuthorizationFailed);
    }
    let read = |group: Option<&crate::group::shard::Group>| match group {
        Some(group) => described(&group.classic),
        None => unknown(group_id, version),
    };
    broker
        .groups
        .with_group(group_id, read)
        .unwrap_or_else(error)
}

fn unknown(group_id: &str, version: i16) -> DescribedGroup {
    let dead = DescribedGroup {
        group_state: Str::from_static(GroupState::Dead.as_str()),
        ..Default::default()
    };
    if version < 6 {
        return dead;
    }
    DescribedGroup {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(format!("Group {group_id} not found.").into()),
        ..dead
    }
}

fn described(group: &ClassicGroup) -> DescribedGroup {
    let protocol = group
        .protocol_name()
        .filter(|_| group.state() == GroupState::Stable);
    let members = group.members().map(|(id, member)| DescribedGroupMember {
        member_id: Str::from(&**id),
        group_instance_id: member.group_instance_id.map(|id| Str::from(&**id)),
        client_id: Str::from(&**member.client_id),
        client_host: Str::from(&**member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
        ..Default::default()
    });
    DescribedGroup {
        group_state: Str::from_static(group.state().as_str()),
        protocol_type: Str::from(group.protocol_type().map_or("", |kind| kind)),
        protocol_data: Str::from(protocol.map_or("", |name| name)),
        members: members.collect(),
        ..Default::default()
    }
}
