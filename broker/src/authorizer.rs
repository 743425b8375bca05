//! Who may do what. Every handler asks here before it touches anything; for now the answer is yes but for one thing, so that
//! switching rules on later changes this file and nothing else.
//!
//! The groups of transforms are theirs: a client that committed, joined or deleted there would let records be passed over. The
//! broker's own topics can only be read: without its artifacts no transform starts.

use crate::server::context::RequestContext;
use crate::topic::is_broker_topic;
use crate::transform::is_transform_group;

/// What a principal wants to do (Kafka's `AclOperation`, as far as the served APIs need it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read records or offsets.
    Read,
    /// Append records.
    Write,
    /// Create a topic.
    Create,
    /// Delete a topic, a group or records.
    Delete,
    /// Change partitions.
    Alter,
    /// See that it exists, its offsets and members.
    Describe,
    /// See its settings.
    DescribeConfigs,
    /// Change its settings.
    AlterConfigs,
    /// Take a producer id.
    IdempotentWrite,
}

/// What is to be acted upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// A topic by name.
    Topic(&'a str),
    /// A consumer group by id.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
    /// The cluster as a whole.
    Cluster,
}

/// Decides every request; the only place that does.
#[derive(Debug, Default)]
pub(crate) struct Authorizer;

impl Authorizer {
    /// May the principal of this request do that?
    pub(crate) fn allows(
        &self,
        context: &RequestContext,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        tracing::trace!(principal = %context.principal, ?operation, ?resource, "allow");
        match resource {
            Resource::Group(group) if is_transform_group(group) => operation == Operation::Describe,
            Resource::Topic(topic) if is_broker_topic(topic) => matches!(
                operation,
                Operation::Read | Operation::Describe | Operation::DescribeConfigs
            ),
            _ => true,
        }
    }
}
