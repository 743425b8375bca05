//! Dead letters: records that a function does not get through, with everything that is needed to understand and replay them.

use tidemill_metadata::{TransformImage, TransformVersion};
use tidemill_records::{Headers, Offset, PartitionId, Record, RecordHeader};

/// What a dead letter tells of its record.
pub(super) struct Context<'a> {
    pub(super) transform: &'a TransformImage,
    pub(super) version: &'a TransformVersion,
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    pub(super) timestamp: i64,
    /// One of [`super::figures::FAULTS`].
    pub(super) kind: &'a str,
    pub(super) code: Option<u32>,
    pub(super) error: &'a str,
    pub(super) failed_at_ms: i64,
}

/// Every header of a dead letter begins so; replaying takes them off again.
const PREFIX: &str = "tidemill.dlq.";

/// The record's own headers, and the context behind them.
pub(super) fn headers(record: Option<&Record>, context: &Context<'_>) -> Headers {
    let own = record
        .map(|record| record.headers.clone())
        .unwrap_or_default();
    let own = own.iter().collect::<Vec<_>>();
    let code = context.code.map(|code| code.to_string());
    let told = [
        ("topic", Some(context.transform.source.to_string())),
        ("partition", Some(context.partition.to_string())),
        ("offset", Some(context.offset.to_string())),
        ("timestamp", Some(context.timestamp.to_string())),
        ("transform", Some(context.transform.name.to_string())),
        ("version", Some(context.version.number.to_string())),
        ("function", Some(context.version.function.to_string())),
        ("kind", Some(context.kind.to_owned())),
        ("code", code),
        ("error", Some(context.error.to_owned())),
        ("failed_at", Some(context.failed_at_ms.to_string())),
    ];
    let told = told.into_iter().filter_map(|(name, text)| {
        Some(RecordHeader {
            key: format!("{PREFIX}{name}").into(),
            value: Some(text?.into()),
        })
    });
    own.into_iter().chain(told).collect()
}
