//! DeleteTopics (key 20).
//!
//! Versions 1–6; by id from 6 (KIP-516), messages from 5. The log's files leave in the background; the name
//! is free at once.

use tidemill_metadata::{Command, MetadataLog};
use tidemill_protocol::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use tidemill_protocol::{ErrorCode, Str};
use tidemill_records::TopicId;

use super::create_topics::{plain, proposal};
use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic;

/// Deletes each topic on its own.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DeleteTopicsRequest,
    version: i16,
) -> DeleteTopicsResponse {
    let by_name = |name: Str| DeleteTopicState {
        name: Some(name),
        ..Default::default()
    };
    let wanted: Vec<DeleteTopicState> = if version >= 6 {
        request.topics
    } else {
        request.topic_names.into_iter().map(by_name).collect()
    };
    let mut responses = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        responses.push(delete(broker, context, wanted).await);
    }
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

async fn delete(
    broker: &Broker,
    context: &RequestContext,
    wanted: DeleteTopicState,
) -> DeletableTopicResult {
    let image = broker.metadata.image();
    let (found, absent) = match &wanted.name {
        Some(name) => (image.topic(name), ErrorCode::UnknownTopicOrPartition),
        None => (
            image.topic_by_id(TopicId(wanted.topic_id)),
            ErrorCode::UnknownTopicId,
        ),
    };
    let answer = |name: Option<Str>, (code, message): (ErrorCode, String)| DeletableTopicResult {
        name,
        topic_id: found.map_or(wanted.topic_id, |topic| topic.id.0),
        error_code: code.code(),
        error_message: (code != ErrorCode::None).then(|| Str::from(message)),
        ..Default::default()
    };
    let Some(topic) = found else {
        return answer(wanted.name.clone(), plain(absent));
    };
    let name = Some(Str::from(&*topic.name));
    if !broker
        .authorizer
        .allows(context, Operation::Delete, Resource::Topic(&topic.name))
    {
        return answer(
            wanted.name.clone(),
            plain(ErrorCode::TopicAuthorizationFailed),
        );
    }
    if !broker.config.delete_topic_enable {
        return answer(name, plain(ErrorCode::TopicDeletionDisabled));
    }
    match topic::propose(broker, Command::DeleteTopic { id: topic.id }).await {
        Ok(_) => answer(name, (ErrorCode::None, String::new())),
        Err(error) => answer(name, proposal(&error)),
    }
}
