//! Finding offsets by time, on this disk and in the tier.

use tidemill_log::{ReadError, TimestampedOffset};
use tidemill_records::Offset;

use crate::broker::Broker;
use crate::partition::Partition;
use crate::tiering::{RemoteError, Tier};

/// Why a search by time found nothing out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimeError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The tier, where records are that this disk no longer has.
fn tier_below_local<'a>(broker: &'a Broker, partition: &Partition) -> Option<&'a Tier> {
    let log = &partition.log;
    let is_trimmed = log.local_log_start_offset() > log.log_start_offset();
    broker.tier.as_deref().filter(|_| is_trimmed)
}

/// The first record below `end` that is as late as `timestamp`, in ms since 1970.
pub(crate) async fn by_timestamp(
    broker: &Broker,
    partition: &Partition,
    timestamp: i64,
    end: Offset,
) -> Result<Option<TimestampedOffset>, TimeError> {
    loop {
        let local_start = partition.log.local_log_start_offset();
        if let Some(tier) = tier_below_local(broker, partition) {
            let found = tier
                .offset_for_timestamp(broker, partition, timestamp, local_start.min(end))
                .await;
            if let Some(found) = found? {
                return Ok(Some(found));
            }
        }
        let found = partition.log.offset_for_timestamp(timestamp, end);
        // What was trimmed meanwhile was looked for in neither place.
        if partition.log.local_log_start_offset() == local_start {
            return Ok(found?);
        }
    }
}

/// The first record below `end` with the largest timestamp.
pub(crate) async fn max_timestamp(
    broker: &Broker,
    partition: &Partition,
    end: Offset,
) -> Result<Option<TimestampedOffset>, TimeError> {
    let here = partition.log.max_timestamp(end)?;
    let Some(tier) = tier_below_local(broker, partition) else {
        return Ok(here);
    };
    let there = tier.max_timestamp(broker, partition, end).await?;
    // Of equal ones the first counts, and what is in the tier came first.
    let is_later =
        |here: &TimestampedOffset| there.is_none_or(|there| here.timestamp > there.timestamp);
    Ok(here.filter(is_later).or(there))
}
