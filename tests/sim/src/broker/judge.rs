//! The judge: reads everything at the beginning of each life, and holds it against what was told.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidemill_client::{Client, ClientError, ConfigResource, ConfigSource, FetchLimits, OffsetSpec};
use tidemill_records::{Offset, PartitionId, TopicPartition};

use super::groups::{JOINED, OUTSIDE};
use super::history::{Lane, Presence};
use super::lanes::{self, KEPT, PARTITIONS, TRIMMED};
use super::stage::{Now, Shared, client};
use super::topics::{GROWING, PASSING, RAISED};
use crate::register::Mark;

/// Judges each life as it begins, and lets everybody work.
pub(super) async fn run(shared: Rc<Shared>) -> turmoil::Result {
    loop {
        shared.until(Now::Checking).await;
        let judge = Judge {
            client: client(Duration::from_secs(30)),
            shared: shared.clone(),
        };
        match judge.judge().await {
            Ok(()) => {
                shared.history_mut().judgements += 1;
                if shared.now() == Now::Checking {
                    shared.set(Now::Working);
                }
            }
            // The power went meanwhile, or is about to be seen to have gone.
            Err(error) if error.is::<ClientError>() => {
                tokio::time::sleep(Duration::from_millis(5)).await
            }
            Err(error) => return Err(format!("{error:#}").into()),
        }
    }
}

struct Judge {
    client: Client,
    shared: Rc<Shared>,
}

/// A record as a reader finds it.
struct Found {
    offset: i64,
    lane: usize,
    number: u64,
}

impl Judge {
    async fn judge(&self) -> Result<()> {
        self.judge_topics().await?;
        let stays = |topic: &str| {
            self.shared
                .history()
                .topics
                .get(topic)
                .is_some_and(|topic| topic.state == Presence::Present)
        };
        for topic in [KEPT, TRIMMED] {
            for partition in 0..PARTITIONS {
                if stays(topic) {
                    self.judge_log(TopicPartition::new(topic, PartitionId(partition)))
                        .await?;
                }
            }
        }
        if stays(KEPT) {
            self.judge_groups().await?;
        }
        if stays(GROWING) {
            self.judge_configs().await?;
        }
        Ok(())
    }

    /// Topics are there or gone as was told, with the records of their last incarnation only.
    async fn judge_topics(&self) -> Result<()> {
        let known = |shared: &Shared| -> Vec<(String, Presence, u64, u64)> {
            let history = shared.history();
            let topics = history.topics.iter();
            topics
                .map(|(name, topic)| (name.clone(), topic.state, topic.incarnation, topic.acked))
                .collect()
        };
        let before = known(&self.shared);
        let cluster = self.client.cluster().await?;
        // Requests that are still under way may change what was unknown, and nothing else.
        for (name, state, _, _) in &before {
            let there = cluster.topics.contains_key(name.as_str());
            let wanted = match state {
                Presence::Unknown => there,
                Presence::Present => true,
                Presence::Absent => false,
            };
            ensure!(
                there == wanted,
                "topic {name} is {state:?}, and there: {there}"
            );
        }
        for (name, state, incarnation, acked) in before {
            if state != Presence::Present || !PASSING.contains(&name.as_str()) {
                continue;
            }
            let found = self
                .read(&TopicPartition::new(name.as_str(), PartitionId(0)))
                .await?;
            // Its owner may have gone on meanwhile.
            if self.shared.history().topics[&name].state != Presence::Present {
                continue;
            }
            let of_it = found
                .records
                .iter()
                .filter(|(_, value)| *value == incarnation.to_string().into_bytes())
                .count();
            ensure!(
                of_it == found.records.len(),
                "{name} has records of another incarnation than {incarnation}"
            );
            ensure!(
                of_it as u64 >= acked,
                "{name} has {of_it} records, {acked} were acknowledged"
            );
        }
        Ok(())
    }

    async fn judge_log(&self, partition: TopicPartition) -> Result<()> {
        let acked: Vec<(usize, BTreeMap<i64, (u64, u64)>)> = {
            let history = self.shared.history();
            let here = |lane: &(usize, &Lane)| lane.1.partition == partition;
            history
                .lanes
                .iter()
                .enumerate()
                .filter(here)
                .map(|(at, lane)| (at, lane.acked.clone()))
                .collect()
        };
        let (deleted_below, end_seen) = {
            let mut history = self.shared.history_mut();
            let log = history.log(&partition);
            (log.deleted_below, log.end_seen)
        };
        let log = self.read(&partition).await?;
        ensure!(
            log.start >= deleted_below,
            "{partition} begins at {}, below {deleted_below} all was deleted",
            log.start
        );
        ensure!(
            log.end >= end_seen,
            "{partition} ends at {}, a reader was shown {end_seen}",
            log.end
        );
        let records = log.parse().with_context(|| partition.to_string())?;
        self.shared.history_mut().log(&partition).end_seen = log.end;
        self.shared.history_mut().records_judged += records.len() as u64;
        for (at, acked) in acked {
            self.judge_lane(at, &acked, &log, &records)
                .with_context(|| format!("{partition}, lane {at}"))?;
        }
        Ok(())
    }

    fn judge_lane(
        &self,
        at: usize,
        acked: &BTreeMap<i64, (u64, u64)>,
        log: &Log,
        records: &[Found],
    ) -> Result<()> {
        let by_offset = |offset: i64| {
            usize::try_from(offset - log.start)
                .ok()
                .and_then(|at| records.get(at))
        };
        for (base, (first, count)) in acked {
            for step in (0..*count).filter(|step| base + *step as i64 >= log.start) {
                let offset = base + step as i64;
                let found = by_offset(offset).map(|record| (record.lane, record.number));
                ensure!(
                    found == Some((at, first + step)),
                    "value {} was acknowledged at {offset}; there is {found:?}, the log has {}..{}",
                    first + step,
                    log.start,
                    log.end
                );
            }
        }
        let history = self.shared.history();
        let lane = &history.lanes[at];
        let mut before: Option<u64> = None;
        for record in records.iter().filter(|record| record.lane == at) {
            ensure!(
                record.number < lane.attempted,
                "value {} was never sent",
                record.number
            );
            if lane.is_idempotent {
                let follows = before.map_or(log.start > 0 || record.number == 0, |before| {
                    record.number == before + 1
                });
                ensure!(
                    follows,
                    "value {} at {} follows {before:?}",
                    record.number,
                    record.offset
                );
            }
            before = Some(record.number);
        }
        Ok(())
    }

    async fn judge_groups(&self) -> Result<()> {
        for group in OUTSIDE.into_iter().chain([JOINED]) {
            let of_group = |name: &str| name == group;
            let marks: Vec<(TopicPartition, Mark)> = {
                let history = self.shared.history();
                let commits = history
                    .commits
                    .iter()
                    .filter(|((name, _), _)| of_group(name));
                commits
                    .map(|((_, partition), register)| (partition.clone(), register.mark()))
                    .collect()
            };
            let committed = self.client.committed_offsets(group).await?;
            for (partition, mark) in marks {
                let found = committed
                    .get(&partition)
                    .map(|committed| committed.offset.0);
                let history = self.shared.history();
                let register = &history.commits[&(group.to_owned(), partition.clone())];
                register
                    .check(mark, found)
                    .with_context(|| format!("{group} of {partition}"))?;
            }
        }
        Ok(())
    }

    async fn judge_configs(&self) -> Result<()> {
        let mark = self.shared.history().config.mark();
        let configs = self
            .client
            .describe_configs(&ConfigResource::Topic(KEPT.to_owned()))
            .await?;
        let raised = configs
            .iter()
            .find(|config| config.name == RAISED && config.source == ConfigSource::Topic);
        let raised = raised.and_then(|config| config.value.as_ref()?.parse().ok());
        self.shared
            .history()
            .config
            .check(mark, raised)
            .context("config")?;
        let mark = self.shared.history().partition_count.mark();
        self.client.forget_topic(GROWING);
        let count = self.client.topic(GROWING).await?.partitions.len() as i64;
        self.shared
            .history()
            .partition_count
            .check(mark, Some(count))
            .context("number of partitions")?;
        Ok(())
    }

    /// Reads a partition from its start to the end that it has at first.
    async fn read(&self, partition: &TopicPartition) -> Result<Log> {
        let listed = self
            .client
            .list_offsets(&partition.topic, &[partition.partition], OffsetSpec::Start)
            .await?;
        let start = listed
            .get(&partition.partition)
            .context("no offset listed")?
            .offset
            .0;
        let mut log = Log {
            start,
            end: start,
            records: Vec::new(),
        };
        let limits = FetchLimits {
            wait_max: Duration::from_millis(1),
            ..FetchLimits::default()
        };
        let mut end = None;
        loop {
            let positions = BTreeMap::from([(partition.clone(), Offset(log.end))]);
            let fetched = match self.client.fetch(&positions, limits).await {
                // Retention went past the start in between.
                Err(error)
                    if error.code() == Some(tidemill_protocol::ErrorCode::OffsetOutOfRange)
                        && log.records.is_empty() =>
                {
                    return Box::pin(self.read(partition)).await;
                }
                fetched => fetched?,
            };
            let fetched = fetched.into_iter().next().context("nothing fetched")?;
            let end = *end.get_or_insert(fetched.high_watermark.0);
            for record in fetched.records() {
                let record = record.context("a record that cannot be read")?;
                ensure!(
                    record.offset.0 == log.end,
                    "offset {} follows {} in {partition}",
                    record.offset,
                    log.end - 1
                );
                log.end += 1;
                log.records
                    .push((record.offset.0, record.value.context("no value")?.to_vec()));
            }
            if log.end >= end {
                return Ok(log);
            }
        }
    }
}

/// What a reader finds of a partition.
struct Log {
    start: i64,
    end: i64,
    records: Vec<(i64, Vec<u8>)>,
}

impl Log {
    fn parse(&self) -> Result<Vec<Found>> {
        let found = self.records.iter().map(|(offset, value)| {
            let parsed = lanes::parse(value)
                .with_context(|| format!("nobody wrote the value at {offset}"))?;
            Ok(Found {
                offset: *offset,
                lane: parsed.0,
                number: parsed.1,
            })
        });
        found.collect()
    }
}
