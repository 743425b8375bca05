//! DescribeCluster (key 60): brokers and controller, for admin clients (KIP-700).
//!
//! Versions 0–2; only the broker endpoint is served (KIP-919's controller endpoint is refused).

use tidemill_metadata::MetadataLog;
use tidemill_protocol::ErrorCode;
use tidemill_protocol::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use crate::broker::Broker;
use crate::server::context::RequestContext;
use crate::topic;

const BROKERS: i8 = 1;

/// Describes one image.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeClusterRequest,
    version: i16,
) -> DescribeClusterResponse {
    let endpoint_type = request.endpoint_type;
    if version >= 1 && endpoint_type != BROKERS {
        return DescribeClusterResponse {
            error_code: ErrorCode::UnsupportedEndpointType.code(),
            endpoint_type,
            ..Default::default()
        };
    }
    let image = broker.metadata.image();
    let is_shown = |fenced: bool| !fenced || request.include_fenced_brokers;
    let describe = |node: &tidemill_metadata::BrokerImage| {
        let (host, port) = broker.address_of(node.id, context)?;
        Some(DescribeClusterBroker {
            broker_id: node.id.0,
            host: host.into(),
            port: i32::from(port),
            rack: node.rack.as_deref().map(Into::into),
            is_fenced: node.fenced,
            ..Default::default()
        })
    };
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: topic::uuid_text(image.cluster_id()).into(),
        controller_id: broker.metadata.controller().map_or(-1, |node| node.0),
        brokers: image
            .brokers()
            .filter(|node| is_shown(node.fenced))
            .filter_map(describe)
            .collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            topic::CLUSTER_OPERATIONS
        } else {
            i32::MIN
        },
        ..Default::default()
    }
}
