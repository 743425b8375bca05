//! DeleteGroups (key 42): deletes empty groups with all their offsets; answered when that is durable.
//!
//! Versions 0–3; 3 adds a message.

use std::collections::BTreeSet;

use futures_util::future;
use tidemill_protocol::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};
use tidemill_metadata::MetadataLog;
use tidemill_protocol::{ErrorCode, Str};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::transform::GROUP_PREFIX;

/// Groups are deleted side by side, so that they share the log's appends.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteGroupsRequest,
    _version: i16,
) -> DeleteGroupsResponse {
    // A group that is named twice is deleted once.
    let groups: BTreeSet<Str> = request.groups_names.into_iter().collect();
    let groups = groups.into_iter();
    let results = future::join_all(groups.map(|group_id| delete(broker, context, group_id))).await;
    DeleteGroupsResponse {
        results,
        ..Default::default()
    }
}

async fn delete(broker: &Broker, context: &RequestContext, group_id: Str) -> DeletableGroupResult {
    let resource = Resource::Group(&group_id);
    let is_allowed = broker
        .authorizer
        .allows(context, Operation::Delete, resource);
    let outcome = if is_allowed || is_left_behind(broker, &group_id) {
        broker.groups.delete_group(&group_id).await
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    let (code, message) = match outcome {
        Ok(()) => (ErrorCode::None, None),
        Err(code) => (code, Some(Str::from_static(code.message()))),
    };
    DeletableGroupResult {
        group_id,
        error_code: code.code(),
        error_message: message,
        ..Default::default()
    }
}

/// Whether it is the group of a transform that is gone, as after a crash in the middle of its deletion: nobody else would delete it.
fn is_left_behind(broker: &Broker, group_id: &str) -> bool {
    group_id
        .strip_prefix(GROUP_PREFIX)
        .is_some_and(|name| broker.metadata.image().transform(name).is_none())
}
