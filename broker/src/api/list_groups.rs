//! ListGroups (key 16): the groups that this broker coordinates.
//!
//! Versions 0–5: 4 filters by state and shows it (KIP-518), 5 by type (KIP-848). Names in filters match in any
//! case. All groups are classic ones.

use tidemill_protocol::Str;
use tidemill_protocol::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::group::classic::ClassicGroup;
use crate::server::context::RequestContext;

const CLASSIC: &str = "classic";

/// Whoever may describe the cluster sees all groups, others those that they may describe.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: ListGroupsRequest,
    _version: i16,
) -> ListGroupsResponse {
    let allows = |resource: Resource<'_>| {
        broker
            .authorizer
            .allows(context, Operation::Describe, resource)
    };
    let sees_all = allows(Resource::Cluster);
    let mut groups = Vec::new();
    let outcome = broker.groups.visit(|group_id, group| {
        let is_wanted = matches(&request.states_filter, group.classic.state().as_str())
            && matches(&request.types_filter, CLASSIC);
        if is_wanted && (sees_all || allows(Resource::Group(group_id))) {
            groups.push(listed(group_id, &group.classic));
        }
    });
    match outcome {
        Ok(()) => ListGroupsResponse {
            groups,
            ..Default::default()
        },
        Err(code) => ListGroupsResponse {
            error_code: code.code(),
            ..Default::default()
        },
    }
}

/// An empty filter lets everything through.
fn matches(filter: &[Str], value: &str) -> bool {
    filter.is_empty()
        || filter
            .iter()
            .any(|wanted| wanted.eq_ignore_ascii_case(value))
}

fn listed(group_id: &str, group: &ClassicGroup) -> ListedGroup {
    ListedGroup {
        group_id: Str::from(group_id),
        protocol_type: Str::from(group.protocol_type().map_or("", |kind| kind)),
        group_state: Str::from_static(group.state().as_str()),
        group_type: Str::from_static(CLASSIC),
        ..Default::default()
    }
}
