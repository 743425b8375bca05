//! InitProducerId (key 22): a producer id for an idempotent producer.
//!
//! Versions 0–5. Ids come from blocks that the metadata log hands out, so none is given twice. A producer
//! that brings its own id and epoch gets a fresh id (KIP-360 bumps epochs of transactional producers only;
//! an idempotent one may always start over). Transactional ids are refused until there are transactions.

use tidemill_protocol::ErrorCode;
use tidemill_protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::server::context::RequestContext;

/// Hands out the next id.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: InitProducerIdRequest,
    _version: i16,
) -> InitProducerIdResponse {
    let refuse = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    if let Some(id) = &request.transactional_id {
        if id.is_empty() {
            return refuse(ErrorCode::InvalidRequest);
        }
        // What a transactional client understands as final: nothing here will ever coordinate it.
        return refuse(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if !broker
        .authorizer
        .allows(context, Operation::IdempotentWrite, Resource::Cluster)
    {
        return refuse(ErrorCode::ClusterAuthorizationFailed);
    }
    match broker.producer_ids.next(broker).await {
        Ok(id) => InitProducerIdResponse {
            producer_id: id.0,
            producer_epoch: 0,
            ..Default::default()
        },
        Err(error) => {
            tracing::warn!(%error, "no producer id block");
            refuse(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}
