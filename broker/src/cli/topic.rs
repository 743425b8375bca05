//! `tidemill topic …`

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use tidemill_client::{
    Client, ClientError, ConfigEntry, ConfigResource, ConfigSource, NewTopic, TopicView,
};
use tidemill_protocol::ErrorCode;
use tidemill_records::{NodeId, Offset, PartitionId, TopicPartition};

use super::ClientArgs;
use super::exit::{Failure, command};
use super::output::{OutputArgs, Table, counted, pairs};
use super::position::{Bounds, POSITIONS, Position, bounds, resolve};
use crate::config::nearest;
use crate::topic::CONSUMER_OFFSETS;
use crate::transform::{FUNCTION_LOGS_TOPIC, FUNCTIONS_TOPIC};

#[derive(Debug, Args)]
pub(super) struct TopicArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic.
    Create {
        /// Its name.
        name: String,
        /// Number of partitions [default: the broker's num.partitions].
        #[arg(long, value_name = "N")]
        partitions: Option<i32>,
        /// A config that differs from the broker's default; can be repeated.
        #[arg(long = "config", value_name = "K=V", value_parser = key_value)]
        configs: Vec<(String, String)>,
    },
    /// List topics.
    List {
        /// Also the broker's own topics.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions and configs.
    Describe {
        /// Its name.
        name: String,
        /// All configs, not only those that were set.
        #[arg(long)]
        all: bool,
    },
    /// Change configs, or add partitions.
    Alter {
        /// Its name.
        name: String,
        /// A config to set; can be repeated.
        #[arg(long = "config", value_name = "K=V", value_parser = key_value)]
        set: Vec<(String, String)>,
        /// A config to take back to the broker's default; can be repeated.
        #[arg(long, value_name = "K")]
        unset: Vec<String>,
        /// New number of partitions, larger than now.
        #[arg(long, value_name = "N")]
        partitions: Option<i32>,
    },
    /// Delete topics with their records.
    Delete {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Delete the records before a position.
    #[command(after_help = POSITIONS)]
    Trim {
        /// The topic.
        name: String,
        /// The first record to keep.
        #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
        to: Position,
        /// Only this partition.
        #[arg(long, value_name = "P")]
        partition: Option<i32>,
    },
}

pub(super) async fn run(args: TopicArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let output = args.output;
    match args.command {
        TopicCommand::Create {
            name,
            partitions,
            configs,
        } => {
            let topic = NewTopic {
                partitions,
                configs,
                ..NewTopic::new(name)
            };
            create(&client, &topic, output).await
        }
        TopicCommand::List { internal } => list(&client, internal, output).await,
        TopicCommand::Describe { name, all } => describe(&client, &name, all, output).await,
        TopicCommand::Alter {
            name,
            set,
            unset,
            partitions,
        } => {
            let set = set.into_iter().map(|(key, value)| (key, Some(value)));
            let changes: Vec<_> = set
                .chain(unset.into_iter().map(|key| (key, None)))
                .collect();
            alter(&client, &name, &changes, partitions, output).await
        }
        TopicCommand::Delete { names } => delete(&client, &names, output).await,
        TopicCommand::Trim {
            name,
            to,
            partition,
        } => trim(&client, &name, to, partition, output).await,
    }
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// An error about a topic, with the name that may have been meant.
pub(super) async fn topic_failure(client: &Client, name: &str, error: ClientError) -> Failure {
    if !matches!(error, ClientError::UnknownTopic { .. }) {
        return error.into();
    }
    let cluster = client.cluster().await.ok();
    let meant = cluster.as_ref().and_then(|cluster| {
        nearest(name, cluster.topics.keys().map(|topic| &**topic)).map(str::to_owned)
    });
    match meant {
        Some(meant) => Failure::new(error.to_string()).next(format!("did you mean {meant}?")),
        None => error.into(),
    }
}

/// An error about configs, with the names that may have been meant.
fn config_failure<'a>(error: ClientError, names: impl Iterator<Item = &'a str>) -> Failure {
    let invalid = error.code() == Some(ErrorCode::InvalidConfig);
    let mut failure = Failure::from(error);
    if invalid {
        let known = || {
            crate::topic_config::SETTINGS
                .iter()
                .map(|setting| setting.name)
        };
        for name in names.filter(|name| !known().any(|known| known == *name)) {
            // Our own broker says it by itself; others do not.
            if let Some(meant) = nearest(name, known()).filter(|name| !failure.mentions(name)) {
                failure = failure.next(format!("for {name}, did you mean {meant}?"));
            }
        }
    }
    failure
}

async fn create(client: &Client, topic: &NewTopic, output: OutputArgs) -> Result<(), Failure> {
    if let Err(error) = client.create_topic(topic).await {
        let code = error.code();
        let failure = config_failure(error, topic.configs.iter().map(|(name, _)| name.as_str()));
        return Err(match code {
            Some(ErrorCode::InvalidPartitions) => failure.next("give --partitions 1 or more"),
            Some(ErrorCode::PolicyViolation) if topic.partitions.is_some() => {
                failure.next("give fewer --partitions; topic alter adds some later")
            }
            Some(ErrorCode::InvalidConfig) => {
                failure.next("docs/configuration.md lists the configs of topics")
            }
            _ => failure,
        });
    }
    let created = client.topic(&topic.name).await?;
    output.print(&TopicLine::new(&created), |line| {
        let partitions = counted(line.partition_count as u64, "partition");
        format!("created {} with {partitions}\n", line.name)
    })
}

/// A topic in a list.
#[derive(Debug, Serialize)]
struct TopicLine {
    name: String,
    id: String,
    partition_count: usize,
    replication_factor: usize,
    internal: bool,
}

impl TopicLine {
    fn new(view: &TopicView) -> TopicLine {
        TopicLine {
            name: view.name.to_string(),
            id: view.id.to_string(),
            partition_count: view.partitions.len(),
            replication_factor: view
                .partitions
                .first()
                .map_or(0, |partition| partition.replicas.len()),
            internal: view.internal,
        }
    }
}

async fn list(client: &Client, internal: bool, output: OutputArgs) -> Result<(), Failure> {
    let cluster = client.cluster().await?;
    let shown = cluster
        .topics
        .values()
        .filter(|topic| internal || !topic.internal);
    let lines: Vec<TopicLine> = shown.map(|topic| TopicLine::new(topic)).collect();
    output.print(&lines, |lines| {
        let mut table = Table::new(["NAME", "PARTITION_COUNT", "REPLICATION_FACTOR"]);
        for line in lines {
            let counts = [
                line.partition_count.to_string(),
                line.replication_factor.to_string(),
            ];
            let [partitions, replicas] = counts;
            table.row([line.name.clone(), partitions, replicas]);
        }
        table.render()
    })
}

/// Everything about a topic.
#[derive(Debug, Serialize)]
struct Description {
    #[serde(flatten)]
    line: TopicLine,
    records: i64,
    partitions: Vec<PartitionLine>,
    configs: Vec<ConfigLine>,
}

#[derive(Debug, Serialize)]
struct PartitionLine {
    partition: i32,
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
    isr: Vec<i32>,
    start_offset: i64,
    end_offset: i64,
}

#[derive(Debug, Serialize)]
struct ConfigLine {
    name: String,
    value: Option<String>,
    source: &'static str,
    read_only: bool,
}

async fn describe(
    client: &Client,
    name: &str,
    all: bool,
    output: OutputArgs,
) -> Result<(), Failure> {
    let view = match client.topic(name).await {
        Ok(view) => view,
        Err(error) => return Err(topic_failure(client, name, error).await),
    };
    let partitions: Vec<PartitionId> = view.partitions.iter().map(|view| view.partition).collect();
    let bounds = bounds(client, name, &partitions).await?;
    let configs = client
        .describe_configs(&ConfigResource::Topic(name.to_owned()))
        .await?;
    let description = Description {
        line: TopicLine::new(&view),
        records: bounds
            .values()
            .map(|bounds| bounds.end - bounds.start)
            .sum(),
        partitions: partition_lines(&view, &bounds),
        configs: config_lines(configs, all),
    };
    output.print(&description, describe_text)
}

fn partition_lines(view: &TopicView, bounds: &BTreeMap<PartitionId, Bounds>) -> Vec<PartitionLine> {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let lines = view.partitions.iter().map(|partition| {
        let bounds = bounds.get(&partition.partition);
        PartitionLine {
            partition: partition.partition.0,
            leader: partition.leader.0,
            leader_epoch: partition.leader_epoch.0,
            replicas: ids(&partition.replicas),
            isr: ids(&partition.isr),
            start_offset: bounds.map_or(-1, |bounds| bounds.start.0),
            end_offset: bounds.map_or(-1, |bounds| bounds.end.0),
        }
    });
    lines.collect()
}

fn config_lines(configs: Vec<ConfigEntry>, all: bool) -> Vec<ConfigLine> {
    let shown = configs
        .into_iter()
        .filter(|config| all || config.source == ConfigSource::Topic);
    let lines = shown.map(|config| ConfigLine {
        name: config.name,
        value: config.value,
        source: match config.source {
            ConfigSource::Topic => "topic",
            ConfigSource::DynamicBroker | ConfigSource::DynamicDefaultBroker => "dynamic broker",
            ConfigSource::StaticBroker => "broker",
            ConfigSource::Default => "default",
            ConfigSource::Other(_) => "other",
        },
        read_only: config.read_only,
    });
    lines.collect()
}

fn describe_text(description: &Description) -> String {
    let line = &description.line;
    let mut text = pairs(&[
        ("name", line.name.clone()),
        ("id", line.id.clone()),
        ("partition_count", line.partition_count.to_string()),
        ("replication_factor", line.replication_factor.to_string()),
        ("records", description.records.to_string()),
    ]);
    let mut table = Table::new([
        "PARTITION",
        "LEADER",
        "LEADER_EPOCH",
        "REPLICAS",
        "ISR",
        "START_OFFSET",
        "END_OFFSET",
    ]);
    let join = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    for partition in &description.partitions {
        table.row([
            partition.partition.to_string(),
            partition.leader.to_string(),
            partition.leader_epoch.to_string(),
            join(&partition.replicas),
            join(&partition.isr),
            partition.start_offset.to_string(),
            partition.end_offset.to_string(),
        ]);
    }
    text.push('\n');
    text.push_str(&table.render());
    if !description.configs.is_empty() {
        let mut table = Table::new(["CONFIG", "VALUE", "SOURCE"]);
        for config in &description.configs {
            let value = config.value.clone().unwrap_or_default();
            table.row([config.name.clone(), value, config.source.to_owned()]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

async fn alter(
    client: &Client,
    name: &str,
    changes: &[(String, Option<String>)],
    partitions: Option<i32>,
    output: OutputArgs,
) -> Result<(), Failure> {
    if changes.is_empty() && partitions.is_none() {
        return Err(
            Failure::usage("nothing to change").next("give --config, --unset or --partitions")
        );
    }
    if let Err(error) = client.topic(name).await {
        return Err(topic_failure(client, name, error).await);
    }
    if !changes.is_empty() {
        let resource = ConfigResource::Topic(name.to_owned());
        if let Err(error) = client.alter_configs(&resource, changes).await {
            let list = command(&format!("topic describe {name} --all"));
            let names = changes.iter().map(|(name, _)| name.as_str());
            return Err(config_failure(error, names).next(format!("{list} lists the configs")));
        }
    }
    if let Some(partitions) = partitions {
        client
            .create_partitions(name, partitions)
            .await
            .map_err(|error| match error.code() {
                Some(ErrorCode::InvalidPartitions) => Failure::from(error)
                    .next("give more --partitions than now: they are added, never taken away"),
                _ => error.into(),
            })?;
    }
    client.forget_topic(name);
    let changed = client.topic(name).await?;
    output.print(&TopicLine::new(&changed), |line| {
        format!("changed {}\n", line.name)
    })
}

/// The topic, which is not one of the broker's own.
async fn own_topic(client: &Client, name: &str) -> Result<Arc<TopicView>, Failure> {
    match client.topic(name).await {
        Ok(view) if view.internal => Err(internal(name)),
        Ok(view) => Ok(view),
        Err(error) => Err(topic_failure(client, name, error).await),
    }
}

/// Why a topic of the broker's own stays, and what may be wanted instead.
fn internal(name: &str) -> Failure {
    let (kept, instead, does) = match name {
        CONSUMER_OFFSETS => (
            "the offsets of all groups",
            "group delete GROUP",
            "deletes a group with its offsets",
        ),
        FUNCTIONS_TOPIC => (
            "the artifacts of functions",
            "fn delete --function ID",
            "forgets one that nothing uses",
        ),
        FUNCTION_LOGS_TOPIC => (
            "what functions say, for a week",
            "fn logs NAME",
            "prints what one says",
        ),
        _ => (
            "records of its own",
            "topic list",
            "shows the topics that are yours",
        ),
    };
    Failure::new(format!("{name} is an internal topic"))
        .cause(format!("the broker keeps {kept} in it"))
        .next(format!("{} {does}", command(instead)))
}

/// A topic that was deleted.
#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
}

async fn delete(client: &Client, names: &[String], output: OutputArgs) -> Result<(), Failure> {
    // A wrong name among them deletes none.
    for name in names {
        own_topic(client, name).await?;
    }
    let mut deleted = Vec::new();
    let mut result = Ok(());
    for name in names {
        if let Err(error) = client.delete_topic(name).await {
            result = Err(topic_failure(client, name, error).await);
            break;
        }
        deleted.push(Deleted { name: name.clone() });
    }
    output.print(&deleted, |deleted| {
        deleted
            .iter()
            .map(|line| format!("deleted {}\n", line.name))
            .collect()
    })?;
    result
}

/// Where a partition begins after a trim.
#[derive(Debug, Serialize)]
struct Trimmed {
    partition: i32,
    start_offset: i64,
}

async fn trim(
    client: &Client,
    name: &str,
    to: Position,
    partition: Option<i32>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let view = own_topic(client, name).await?;
    let partitions: Vec<PartitionId> = match partition {
        Some(partition) => vec![PartitionId(partition)],
        None => view.partitions.iter().map(|view| view.partition).collect(),
    };
    if matches!(to, Position::Offset(_)) && partitions.len() > 1 {
        return Err(Failure::usage(format!(
            "{name} has {} partitions, and an offset means something else in each",
            partitions.len()
        ))
        .next("give --partition P, or --to @TIMESTAMP, end, +N or -N"));
    }
    let offsets = match to {
        // One before the start is no mistake: those records are gone already.
        Position::Offset(offset) => partitions.iter().map(|id| (*id, Offset(offset))).collect(),
        _ => resolve(client, name, &partitions, to).await?,
    };
    let mut trimmed = Vec::new();
    for (partition, offset) in offsets {
        let id = TopicPartition::new(name, partition);
        let start = client.delete_records(&id, offset).await?;
        trimmed.push(Trimmed {
            partition: partition.0,
            start_offset: start.0,
        });
    }
    output.print(&trimmed, |trimmed| {
        let mut table = Table::new(["PARTITION", "START_OFFSET"]);
        for line in trimmed {
            table.row([line.partition.to_string(), line.start_offset.to_string()]);
        }
        table.render()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_an_internal_topic_stays_is_said_of_each() {
        for (name, instead) in [
            (CONSUMER_OFFSETS, "group delete GROUP"),
            (FUNCTIONS_TOPIC, "fn delete --function ID"),
            (FUNCTION_LOGS_TOPIC, "fn logs NAME"),
            ("__transaction_state", "topic list"),
        ] {
            let failure = internal(name);
            assert!(
                failure.mentions(name) && failure.proposes(instead),
                "{failure:?}"
            );
        }
    }
}
