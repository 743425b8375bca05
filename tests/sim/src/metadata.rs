//! The metadata alone: Raft's log of a group of one, and its snapshots, through a chain of lives.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::join_all;
use tidemill_metadata::{
    BrokerEpoch, Command, ConfigResource, LevelRange, Listener, Metadata, MetadataConfig,
    MetadataImage, MetadataLog, NoPeers, OpenError, Outcome, ProposeError,
};
use tidemill_records::{NodeId, TopicId};
use tidemill_storage::fs::{Fs, SimFs};
use uuid::Uuid;

use crate::chain::{Plan, Report};
use crate::choices::Choices;
use crate::determinism::run_local;
use crate::disk::{Disk, End, Lie, Phase, Stage};
use crate::register::Register;

const DIR: &str = "/data";
const NODE: NodeId = NodeId(1);

/// What the metadata does with its disk.
const STAGES: [Stage; 7] = [
    Stage::RaftLog,
    Stage::RaftSync,
    Stage::RaftFile,
    Stage::Snapshot,
    Stage::Snapshot,
    Stage::RaftStart,
    Stage::Recovery,
];

/// Keys that one command sets together, each to a large value: a few of these make a snapshot due.
const KEYS: usize = 60;
const VALUE_BYTES: usize = 30 << 10;

/// Runs so many lives.
pub fn run(seed: u64, lives: u64, lie: Lie) -> Result<Report> {
    let mut chain = Chain {
        choices: Choices::new(seed),
        lie,
        known: Known::default(),
        report: Report::default(),
    };
    let mut fs = SimFs::new(seed);
    for life in 0..lives {
        let plan = match chain.choices.percent(8) {
            true => Plan::choose(&mut chain.choices, &[Stage::Shutdown]),
            false => Plan::choose(&mut chain.choices, &STAGES),
        };
        fs = chain
            .live(fs, plan)
            .with_context(|| format!("life {life}, {plan:?}"))?;
    }
    chain.recover_twice(&fs).context("last life")?;
    chain.report.count("topics-acked", chain.known.acks);
    chain
        .report
        .count("large-configs-acked", chain.known.config.acks);
    Ok(chain.report)
}

struct Chain {
    choices: Choices,
    /// Of the disk in each life, not while recoveries are compared.
    lie: Lie,
    known: Known,
    report: Report,
}

/// What was tried, and what was answered.
#[derive(Default)]
struct Known {
    /// Whether a start has ever come to its end.
    has_started: bool,
    topics: BTreeMap<TopicId, Presence>,
    config: Register,
    written: i64,
    /// Producer ids below this were handed out.
    producer_ids: i64,
    next_id: u128,
    acks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Gone,
    Unknown,
}

/// A command on its way.
enum Attempt {
    Create(TopicId),
    Delete(TopicId),
    Configure(i64),
    ProducerIds,
}

async fn open(fs: Arc<dyn Fs>, seed: u64) -> Result<Metadata, OpenError> {
    let mut ids = Choices::new(seed);
    let new_id = move || Uuid::from_u64_pair(ids.bits(), ids.bits());
    fs.create_dir_all(DIR.as_ref())
        .map_err(|source| OpenError::Io {
            path: DIR.into(),
            source,
        })?;
    Metadata::open(
        fs,
        MetadataConfig::new(DIR, NODE),
        Arc::new(NoPeers),
        new_id,
    )
    .await
}

impl Chain {
    /// One life, from the start to its end. Gives the disk that the next one finds.
    fn live(&mut self, fs: SimFs, plan: Plan) -> Result<SimFs> {
        self.recover_twice(&fs)?;
        let disk = Disk::new(fs, plan.target, self.lie);
        run_local(self.live_on(&disk, plan.end))?;
        match plan.end {
            _ if disk.fs().is_crashed() => {}
            End::PowerLoss => disk.fs().crash(),
            End::Kill | End::Shutdown => disk.fs().kill(),
        }
        self.report.life_ended(&disk, plan.end);
        Ok(disk.fs().reboot())
    }

    async fn live_on(&mut self, disk: &Disk, end: End) -> Result<()> {
        let metadata = match open(Arc::new(disk.clone()), self.choices.bits()).await {
            Ok(metadata) => metadata,
            Err(_) if disk.fs().is_crashed() => return Ok(()),
            Err(error) => return Err(error).context("it does not open"),
        };
        self.known.has_started = true;
        self.known.check(&metadata.image())?;
        disk.set_phase(Phase::Serving);
        if let Some(epoch) = self.register(&metadata, disk).await? {
            for _ in 0..self.choices.between(3, 40) {
                self.propose(&metadata, epoch, disk).await?;
                if disk.fs().is_crashed() {
                    return Ok(());
                }
            }
        }
        if end == End::Shutdown {
            disk.set_phase(Phase::Ending);
            metadata.close().await;
        }
        Ok(())
    }

    async fn register(&mut self, metadata: &Metadata, disk: &Disk) -> Result<Option<BrokerEpoch>> {
        let command = Command::RegisterBroker {
            node: NODE,
            incarnation: Uuid::from_u64_pair(self.choices.bits(), 1),
            directory: metadata.identity().directory,
            rack: None,
            listeners: vec![Listener {
                name: "KAFKA".into(),
                host: "broker".into(),
                port: 9092,
            }],
            levels: LevelRange::OURS,
            fenced: false,
        };
        match metadata.propose(command).await {
            Ok(Outcome::BrokerRegistered(epoch)) => Ok(Some(epoch)),
            Ok(other) => bail!("a registration brings {other:?}"),
            Err(_) if disk.fs().is_crashed() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Proposes up to four commands at the same time.
    async fn propose(
        &mut self,
        metadata: &Metadata,
        epoch: BrokerEpoch,
        disk: &Disk,
    ) -> Result<()> {
        let attempts: Vec<Attempt> = (0..self.choices.between(1, 4))
            .filter_map(|_| self.attempt())
            .collect();
        let commands: Vec<Command> = attempts
            .iter()
            .map(|attempt| attempt.command(epoch))
            .collect();
        let outcomes = join_all(
            commands
                .into_iter()
                .map(|command| metadata.propose(command)),
        )
        .await;
        for (attempt, outcome) in attempts.into_iter().zip(outcomes) {
            match outcome {
                Ok(outcome) => self.known.answered(attempt, &outcome)?,
                Err(ProposeError::Rejected(rejection)) => bail!("rejected: {rejection}"),
                Err(_) if disk.fs().is_crashed() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn attempt(&mut self) -> Option<Attempt> {
        let known = &mut self.known;
        Some(match self.choices.below(10) {
            0..5 => {
                known.next_id += 1;
                let id = TopicId(Uuid::from_u128(known.next_id));
                known.topics.insert(id, Presence::Unknown);
                Attempt::Create(id)
            }
            5..7 => {
                let there: Vec<TopicId> = known
                    .topics
                    .iter()
                    .filter(|(_, topic)| **topic == Presence::There)
                    .map(|(id, _)| *id)
                    .collect();
                let id = self.choices.pick(if there.is_empty() {
                    return None;
                } else {
                    &there
                });
                known.topics.insert(id, Presence::Unknown);
                Attempt::Delete(id)
            }
            7..9 => {
                known.written += 1;
                known.config.try_out(known.written);
                Attempt::Configure(known.written)
            }
            _ => Attempt::ProducerIds,
        })
    }

    /// Two copies of a disk recover to the same metadata and the same bytes; again after a kill and after
    /// a power loss.
    fn recover_twice(&mut self, fs: &SimFs) -> Result<()> {
        if !self.known.has_started {
            // A first start that was cut off is begun anew, with other ids.
            return Ok(());
        }
        let recovered = |fs: SimFs, power_goes: bool| -> Result<(SimFs, String)> {
            run_local(async {
                let metadata = open(Arc::new(fs.clone()), 0)
                    .await
                    .context("it does not recover")?;
                let image = describe(&metadata.image());
                if power_goes {
                    fs.crash()
                } else {
                    fs.kill()
                };
                Ok((fs, image))
            })
        };
        let (first, image) = recovered(fs.clone_disk(), false)?;
        let (second, other) = recovered(fs.clone_disk(), false)?;
        ensure!(
            image == other,
            "two recoveries of one disk differ:\n{image}\n{other}"
        );
        let differing = first.differing_files(&second);
        ensure!(
            differing.is_empty(),
            "two recoveries of one disk differ in {differing:?}"
        );
        let (unplugged, _) = recovered(fs.clone_disk(), true)?;
        for fs in [first.reboot(), unplugged.reboot()] {
            let (_, other) = recovered(fs, false)?;
            ensure!(image == other, "a second start differs:\n{image}\n{other}");
        }
        self.report.count("recoveries", 5);
        Ok(())
    }
}

impl Attempt {
    fn command(&self, epoch: BrokerEpoch) -> Command {
        match self {
            Attempt::Create(id) => Command::CreateTopic {
                name: format!("topic-{}", id.0.simple()).into(),
                id: *id,
                partitions: vec![vec![NODE]; 2],
                configs: Vec::new(),
            },
            Attempt::Delete(id) => Command::DeleteTopic { id: *id },
            Attempt::Configure(number) => {
                let value: Arc<str> = format!("{number:0VALUE_BYTES$}").into();
                let change = |key| (format!("key-{key}").into(), Some(value.clone()));
                Command::SetConfigs {
                    resource: ConfigResource::DefaultBroker,
                    changes: (0..KEYS).map(change).collect(),
                }
            }
            Attempt::ProducerIds => Command::AllocateProducerIds { node: NODE, epoch },
        }
    }
}

impl Known {
    fn answered(&mut self, attempt: Attempt, outcome: &Outcome) -> Result<()> {
        match attempt {
            Attempt::Create(id) => drop(self.topics.insert(id, Presence::There)),
            Attempt::Delete(id) => drop(self.topics.insert(id, Presence::Gone)),
            Attempt::Configure(number) => self.config.ack(number),
            Attempt::ProducerIds => {
                let Outcome::ProducerIds { first, count } = outcome else {
                    bail!("producer ids bring {outcome:?}")
                };
                ensure!(
                    first.0 >= self.producer_ids,
                    "producer ids from {first} on again, up to {} they are taken",
                    self.producer_ids
                );
                self.producer_ids = first.0 + i64::from(*count);
            }
        }
        self.acks += 1;
        Ok(())
    }

    /// Holds an image against what was answered. What was unknown is known from then on.
    fn check(&mut self, image: &MetadataImage) -> Result<()> {
        for (id, topic) in &mut self.topics {
            let there = image.topic_by_id(*id).is_some();
            let found = if there {
                Presence::There
            } else {
                Presence::Gone
            };
            ensure!(
                *topic == Presence::Unknown || *topic == found,
                "topic {id} is {found:?}, it was {topic:?}"
            );
            *topic = found;
        }
        self.topics.retain(|_, topic| *topic != Presence::Gone);
        ensure!(
            image.topics().len() == self.topics.len(),
            "{} topics, {} are known",
            image.topics().len(),
            self.topics.len()
        );
        let configs = image.default_broker_configs();
        let values: Vec<Option<i64>> = (0..KEYS)
            .map(|key| configs.get(&format!("key-{key}"))?.parse().ok())
            .collect();
        ensure!(
            values.iter().all(|value| *value == values[0]),
            "half of a command took effect"
        );
        // Nobody writes meanwhile.
        self.config
            .check(self.config.mark(), values[0])
            .context("config")?;
        let ids = image.next_producer_id();
        ensure!(
            ids >= self.producer_ids,
            "producer ids go on at {ids}, up to {} they are taken",
            self.producer_ids
        );
        Ok(())
    }
}

/// Everything but the position in the log, which every start moves on.
fn describe(image: &MetadataImage) -> String {
    let mut text = format!("{} {}", image.cluster_id(), image.next_producer_id());
    for topic in image.topics() {
        text += &format!(
            "\n{} {} {:?}",
            topic.name,
            topic.id,
            topic.partitions().collect::<Vec<_>>()
        );
    }
    for (key, value) in image.default_broker_configs().iter() {
        text += &format!("\n{key} {}", value.trim_start_matches('0'));
    }
    text
}
