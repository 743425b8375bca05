//! Fetch (key 1): records from an offset, for consumers and followers.
//!
//! Versions 4–18: sessions from 7 (KIP-227), leader epochs from 9 (KIP-320), topic ids from 13 (KIP-516).
//! Too few bytes: the request waits once on its partitions, without polling, until there are `min_bytes`
//! or `max_wait_ms` is over. The first batch of the first partition that has one is returned whatever its
//! size (KIP-74), so that a consumer with a small buffer still gets on. What is no longer on this disk comes from the tier
//! (KIP-405), all partitions at the same time; a partition whose records are not here in time answers with none, and the next
//! fetch finds them in the cache.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tidemill_log::{AbortedTransaction as Aborted, LogRead, ReadError};
use tidemill_protocol::fetch::{
    AbortedTransaction, FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
};
use tidemill_protocol::{ErrorCode, Records};
use tidemill_records::{LeaderEpoch, Offset};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::authorizer::{Operation, Resource};
use crate::broker::Broker;
use crate::fetch_session::{FetchContext, FetchWanted, Told};
use crate::partition::{Isolation, Partition, PartitionError, PartitionRead};
use crate::server::context::RequestContext;
use crate::tiering::{RemoteWanted, Tier};

/// The tier is waited for so long: Kafka's `remote.fetch.max.wait.ms`.
const REMOTE_WAIT: Duration = Duration::from_millis(500);

/// A wanted partition, found or not.
struct Target<'a> {
    wanted: &'a FetchWanted,
    partition: Result<Arc<Partition>, ErrorCode>,
}

type Outcome = Result<PartitionRead, Unread>;

/// Why there is nothing yet.
#[derive(Debug, Clone, Copy)]
enum Unread {
    Refused(ErrorCode),
    /// It is in the tier.
    Remote,
}

/// Reads, waits if there is too little, and reads again.
pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: FetchRequest,
    version: i16,
) -> FetchResponse {
    let by_id = version >= 13;
    let now = broker.clock.monotonic();
    let begun = broker
        .fetch_sessions
        .begin(&request, by_id, now, || broker.random.next_i32());
    let session = match begun {
        Ok(session) => session,
        Err(code) => {
            return FetchResponse {
                error_code: code.code(),
                ..Default::default()
            };
        }
    };
    let targets: Vec<Target> = session
        .wanted()
        .iter()
        .map(|wanted| Target {
            wanted,
            partition: find(broker, context, wanted, by_id),
        })
        .collect();
    let outcomes = read_enough(broker, &request, &targets).await;
    let outcomes = read_remote(broker, &request, &targets, outcomes).await;
    respond(&session, &targets, outcomes, by_id)
}

fn find(
    broker: &Broker,
    context: &RequestContext,
    wanted: &FetchWanted,
    by_id: bool,
) -> Result<Arc<Partition>, ErrorCode> {
    let key = &wanted.key;
    let name = if by_id {
        broker
            .partitions
            .topic_name(key.topic_id)
            .ok_or(ErrorCode::UnknownTopicId)?
    } else {
        key.topic.clone()
    };
    if !broker
        .authorizer
        .allows(context, Operation::Read, Resource::Topic(&name))
    {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    broker
        .partitions
        .get(&name, key.partition)
        .ok_or(ErrorCode::UnknownTopicOrPartition)
}

async fn read_enough(
    broker: &Broker,
    request: &FetchRequest,
    targets: &[Target<'_>],
) -> Vec<Outcome> {
    let bytes_min = usize::try_from(request.min_bytes).unwrap_or(0);
    let outcomes = read_all(broker, request, targets);
    if request.max_wait_ms <= 0 || is_enough(&outcomes, bytes_min) {
        return outcomes;
    }
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms as u64);
    let news = Arc::new(Notify::new());
    loop {
        // Registered before the second look, so that nothing can arrive unseen in between.
        let waiting: Vec<_> = targets
            .iter()
            .filter_map(|target| target.partition.as_ref().ok())
            .map(|partition| partition.wait(&news))
            .collect();
        let outcomes = read_all(broker, request, targets);
        if is_enough(&outcomes, bytes_min) {
            return outcomes;
        }
        let is_late = tokio::time::timeout_at(deadline, news.notified())
            .await
            .is_err();
        drop(waiting);
        if is_late {
            return read_all(broker, request, targets);
        }
    }
}

fn is_enough(outcomes: &[Outcome], bytes_min: usize) -> bool {
    outcomes.is_empty()
        || outcomes.iter().any(Result::is_err)
        || outcomes
            .iter()
            .flatten()
            .map(|read| read.records.bytes)
            .sum::<usize>()
            >= bytes_min
}

fn read_all(broker: &Broker, request: &FetchRequest, targets: &[Target<'_>]) -> Vec<Outcome> {
    let isolation = Isolation::of_consumer(request.isolation_level);
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let mut budget = asked.min(broker.config.fetch_bytes_max);
    let mut is_first = true;
    let mut outcomes = Vec::with_capacity(targets.len());
    for target in targets {
        let outcome = read_one(target, isolation, budget, is_first);
        if let Ok(read) = &outcome {
            budget = budget.saturating_sub(read.records.bytes);
            is_first &= read.records.bytes == 0;
        }
        outcomes.push(outcome);
    }
    outcomes
}

fn read_one(target: &Target<'_>, isolation: Isolation, budget: usize, is_first: bool) -> Outcome {
    let partition = target.partition.as_ref();
    let partition = partition.map_err(|code| Unread::Refused(*code))?;
    let wanted = target.wanted;
    let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(0).min(budget);
    let epoch = LeaderEpoch(wanted.current_leader_epoch);
    partition
        .read(
            Offset(wanted.fetch_offset),
            epoch,
            isolation,
            bytes_max,
            is_first,
        )
        .map_err(|error| match error {
            PartitionError::Read(ReadError::NotLocal { .. }) => Unread::Remote,
            error => Unread::Refused(ErrorCode::from(&error)),
        })
}

/// Reads from the tier what is no longer here, within what is left of the bytes asked for.
async fn read_remote(
    broker: &Broker,
    request: &FetchRequest,
    targets: &[Target<'_>],
    outcomes: Vec<Outcome>,
) -> Vec<Result<PartitionRead, ErrorCode>> {
    let is_remote = |outcome: &Outcome| matches!(outcome, Err(Unread::Remote));
    if !outcomes.iter().any(is_remote) {
        // The common case: everything is here, and nothing has to be awaited.
        let here = |unread| match unread {
            Unread::Refused(code) => code,
            Unread::Remote => ErrorCode::KafkaStorageError,
        };
        return outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(here))
            .collect();
    }
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    let given: usize = outcomes
        .iter()
        .flatten()
        .map(|read| read.records.bytes)
        .sum();
    let budget = asked
        .min(broker.config.fetch_bytes_max)
        .saturating_sub(given);
    let share = budget
        / outcomes
            .iter()
            .filter(|outcome| is_remote(outcome))
            .count()
            .max(1);
    let is_nothing = |outcome: &Outcome| {
        let read = outcome.as_ref();
        read.map_or(true, |read| read.records.bytes == 0)
    };
    let first = outcomes.iter().position(is_remote);
    let first = first.filter(|at| outcomes[..*at].iter().all(is_nothing));
    let isolation = Isolation::of_consumer(request.isolation_level);
    let reads =
        targets
            .iter()
            .zip(outcomes)
            .enumerate()
            .map(|(at, (target, outcome))| async move {
                match (outcome, &target.partition, &broker.tier) {
                    (Ok(read), ..) => Ok(read),
                    (Err(Unread::Refused(code)), ..) => Err(code),
                    (Err(Unread::Remote), Ok(partition), Some(tier)) => {
                        let asked = usize::try_from(target.wanted.bytes_max).unwrap_or(0);
                        let wanted = RemoteWanted {
                            from: Offset(target.wanted.fetch_offset),
                            up_to: partition.end_for(isolation),
                            bytes_max: asked.min(share),
                            at_least_one: Some(at) == first,
                        };
                        read_tier(broker, tier, partition, wanted, isolation).await
                    }
                    (Err(Unread::Remote), ..) => Err(ErrorCode::KafkaStorageError),
                }
            });
    join_all(reads).await
}

async fn read_tier(
    broker: &Broker,
    tier: &Arc<Tier>,
    partition: &Arc<Partition>,
    wanted: RemoteWanted,
    isolation: Isolation,
) -> Result<PartitionRead, ErrorCode> {
    let read = tier.read(broker, partition, wanted);
    match tokio::time::timeout(REMOTE_WAIT, read).await {
        Ok(Ok((records, aborted))) => {
            let aborted = aborted.into_iter().map(|entry| Aborted {
                producer_id: entry.producer_id,
                first_offset: entry.first,
                last_offset: entry.last,
            });
            Ok(partition.read_of_tier(records, aborted.collect(), isolation))
        }
        Ok(Err(error)) => {
            tier.note_read_error(partition, &error);
            Err(super::error::remote(&error))
        }
        Err(_) => {
            let nothing = LogRead {
                chunks: Vec::new(),
                bytes: 0,
                next: wanted.from,
            };
            Ok(partition.read_of_tier(nothing, Vec::new(), isolation))
        }
    }
}

fn respond(
    session: &FetchContext,
    targets: &[Target<'_>],
    outcomes: Vec<Result<PartitionRead, ErrorCode>>,
    by_id: bool,
) -> FetchResponse {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (target, outcome) in targets.iter().zip(outcomes) {
        let key = &target.wanted.key;
        let data = describe(target, outcome);
        let told = Told {
            error_code: data.error_code,
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start_offset: data.log_start_offset,
        };
        let has_records = data
            .records
            .as_ref()
            .is_some_and(|records| !records.is_empty());
        if !session.include(key, told, has_records) {
            continue;
        }
        let is_same = |topic: &FetchableTopicResponse| {
            if by_id {
                topic.topic_id == key.topic_id
            } else {
                topic.topic == key.topic
            }
        };
        match responses.last_mut().filter(|topic| is_same(topic)) {
            Some(topic) => topic.partitions.push(data),
            None => responses.push(FetchableTopicResponse {
                topic: key.topic.clone(),
                topic_id: key.topic_id,
                partitions: vec![data],
                ..Default::default()
            }),
        }
    }
    FetchResponse {
        session_id: session.session_id(),
        responses,
        ..Default::default()
    }
}

fn describe(target: &Target<'_>, outcome: Result<PartitionRead, ErrorCode>) -> PartitionData {
    let partition_index = target.wanted.key.partition;
    let read = match outcome {
        Ok(read) => read,
        Err(code) => return describe_error(target, code),
    };
    if let Ok(partition) = &target.partition {
        partition.traffic.count_out(read.records.bytes);
    }
    PartitionData {
        partition_index,
        high_watermark: read.high_watermark.0,
        last_stable_offset: read.last_stable_offset.0,
        log_start_offset: read.log_start_offset.0,
        aborted_transactions: read.aborted.map(|aborted| {
            let wire = |transaction: tidemill_log::AbortedTransaction| AbortedTransaction {
                producer_id: transaction.producer_id.0,
                first_offset: transaction.first_offset.0,
                ..Default::default()
            };
            aborted.into_iter().map(wire).collect()
        }),
        preferred_read_replica: -1,
        records: Some(Records::from_chunks(read.records.chunks)),
        ..Default::default()
    }
}

fn describe_error(target: &Target<'_>, code: ErrorCode) -> PartitionData {
    let mut data = PartitionData {
        partition_index: target.wanted.key.partition,
        error_code: code.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        preferred_read_replica: -1,
        records: Some(Records::default()),
        ..Default::default()
    };
    let Ok(partition) = &target.partition else {
        return data;
    };
    match code {
        ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch => {
            let (leader, epoch) = partition.leader();
            data.current_leader.leader_id = leader.0;
            data.current_leader.leader_epoch = epoch.0;
        }
        ErrorCode::OffsetOutOfRange => {
            data.log_start_offset = partition.log.log_start_offset().0;
        }
        _ => {}
    }
    data
}
