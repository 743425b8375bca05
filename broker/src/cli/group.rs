//! `tidemill group …`

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;
use tidemill_client::{Client, ClientError, CommittedOffset, GroupDescription, OffsetSpec};
use tidemill_protocol::ErrorCode;
use tidemill_records::{Offset, PartitionId, TopicPartition};

use super::ClientArgs;
use super::exit::{Failure, command};
use super::output::{OutputArgs, Table, note, pairs};
use super::position::{POSITIONS, Position, resolve};
use super::topic::topic_failure;
use crate::config::nearest;
use crate::transform::GROUP_PREFIX;

#[derive(Debug, Args)]
pub(super) struct GroupArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups.
    List,
    /// Show a group's members and offsets.
    Describe {
        /// Its id.
        group: String,
    },
    /// Show how far groups are behind.
    Lag {
        /// Only these groups.
        groups: Vec<String>,
    },
    /// Set a group's offsets; its members must be stopped. A group that does not exist is created.
    #[command(after_help = POSITIONS)]
    Seek {
        /// Its id.
        group: String,
        /// The topic to set offsets in.
        #[arg(long)]
        topic: String,
        /// Only this partition.
        #[arg(long, value_name = "P")]
        partition: Option<i32>,
        /// The next record to read.
        #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
        to: Position,
    },
    /// Delete groups with their offsets; their members must be stopped.
    Delete {
        /// Their ids.
        #[arg(required = true)]
        groups: Vec<String>,
    },
}

pub(super) async fn run(args: GroupArgs) -> Result<(), Failure> {
    let client = args.client.client();
    let output = args.output;
    match args.command {
        GroupCommand::List => list(&client, output).await,
        GroupCommand::Describe { group } => describe(&client, &group, output).await,
        GroupCommand::Lag { groups } => lag(&client, groups, output).await,
        GroupCommand::Seek {
            group,
            topic,
            partition,
            to,
        } => seek(&client, &group, &topic, partition, to, output).await,
        GroupCommand::Delete { groups } => delete(&client, &groups, output).await,
    }
}

#[derive(Debug, Serialize)]
struct GroupLine {
    group: String,
    state: String,
    protocol_type: String,
    #[serde(rename = "type")]
    kind: String,
}

async fn list(client: &Client, output: OutputArgs) -> Result<(), Failure> {
    let groups = client
        .list_groups()
        .await?
        .into_iter()
        .map(|group| GroupLine {
            group: group.group,
            state: group.state,
            protocol_type: group.protocol_type,
            kind: group.kind,
        });
    let groups: Vec<GroupLine> = groups.collect();
    output.print(&groups, |groups| {
        let mut table = Table::new(["GROUP", "STATE", "PROTOCOL_TYPE", "TYPE"]);
        for group in groups {
            table.row([
                group.group.clone(),
                group.state.clone(),
                or_dash(&group.protocol_type),
                group.kind.clone(),
            ]);
        }
        table.render()
    })
}

/// One partition that a group reads.
#[derive(Debug, Clone, Serialize)]
struct LagLine {
    group: String,
    topic: String,
    partition: i32,
    committed: i64,
    end: i64,
    lag: i64,
}

/// Committed and end offsets of everything that a group has committed.
async fn lag_lines(
    client: &Client,
    group: &str,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> Result<Vec<LagLine>, Failure> {
    let mut by_topic: BTreeMap<Arc<str>, Vec<PartitionId>> = BTreeMap::new();
    for id in committed.keys() {
        by_topic
            .entry(id.topic.clone())
            .or_default()
            .push(id.partition);
    }
    let mut lines = Vec::new();
    for (topic, partitions) in by_topic {
        let ends = match client
            .list_offsets(&topic, &partitions, OffsetSpec::End)
            .await
        {
            // Offsets outlive a topic that was deleted; they have no lag.
            Err(ClientError::UnknownTopic { .. } | ClientError::UnknownPartition { .. }) => {
                continue;
            }
            ends => ends?,
        };
        for (partition, end) in ends {
            let id = TopicPartition::new(topic.clone(), partition);
            let Some(committed) = committed.get(&id) else {
                continue;
            };
            lines.push(LagLine {
                group: group.to_owned(),
                topic: topic.to_string(),
                partition: partition.0,
                committed: committed.offset.0,
                end: end.offset.0,
                lag: (end.offset - committed.offset).max(0),
            });
        }
    }
    Ok(lines)
}

async fn lag(client: &Client, groups: Vec<String>, output: OutputArgs) -> Result<(), Failure> {
    let all = groups.is_empty();
    let groups = match all {
        true => client
            .list_groups()
            .await?
            .into_iter()
            .map(|group| group.group)
            .collect(),
        false => groups,
    };
    let mut lines = Vec::new();
    for group in &groups {
        let committed = client.committed_offsets(group).await?;
        if committed.is_empty() && !all {
            require_group(client, group, &groups).await?;
        }
        lines.extend(lag_lines(client, group, &committed).await?);
    }
    output.print(&lines, |lines| {
        let mut table = Table::new(["GROUP", "TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]);
        for line in lines {
            table.row([
                line.group.clone(),
                line.topic.clone(),
                line.partition.to_string(),
                line.committed.to_string(),
                line.end.to_string(),
                line.lag.to_string(),
            ]);
        }
        table.render()
    })
}

/// The group, or a failure with the name that may have been meant, which is none of those that were given.
async fn require_group(
    client: &Client,
    group: &str,
    given: &[String],
) -> Result<GroupDescription, Failure> {
    if let Some(description) = client.describe_group(group).await? {
        return Ok(description);
    }
    let failure = Failure::new(format!("group {group:?} does not exist"));
    let groups = client.list_groups().await?;
    let others = groups.iter().map(|listed| &listed.group);
    let others = others.filter(|listed| !given.contains(listed));
    Err(match nearest(group, others.map(String::as_str)) {
        Some(meant) => failure.next(format!("did you mean {meant}?")),
        None => failure.next(command("group list")),
    })
}

#[derive(Debug, Serialize)]
struct Description {
    group: String,
    state: String,
    protocol: String,
    member_count: usize,
    lag: i64,
    members: Vec<MemberLine>,
    offsets: Vec<LagLine>,
}

#[derive(Debug, Serialize)]
struct MemberLine {
    member_id: String,
    instance_id: Option<String>,
    client_id: String,
    host: String,
    partitions: Vec<String>,
}

async fn describe(client: &Client, group: &str, output: OutputArgs) -> Result<(), Failure> {
    let described = require_group(client, group, &[]).await?;
    let committed = client.committed_offsets(group).await?;
    let offsets = lag_lines(client, group, &committed).await?;
    let members = described.members.into_iter().map(|member| MemberLine {
        member_id: member.member_id,
        instance_id: member.instance_id,
        client_id: member.client_id,
        host: member.client_host,
        partitions: member.assignment.iter().map(ToString::to_string).collect(),
    });
    let description = Description {
        group: described.group,
        state: described.state,
        protocol: described.protocol,
        member_count: members.len(),
        lag: offsets.iter().map(|line| line.lag).sum(),
        members: members.collect(),
        offsets,
    };
    output.print(&description, describe_text)
}

fn describe_text(description: &Description) -> String {
    let mut text = pairs(&[
        ("group", description.group.clone()),
        ("state", description.state.clone()),
        ("protocol", or_dash(&description.protocol)),
        ("member_count", description.member_count.to_string()),
        ("lag", description.lag.to_string()),
    ]);
    if !description.members.is_empty() {
        let mut table = Table::new(["MEMBER", "CLIENT", "HOST", "PARTITIONS"]);
        for member in &description.members {
            table.row([
                member
                    .instance_id
                    .clone()
                    .unwrap_or_else(|| member.member_id.clone()),
                member.client_id.clone(),
                member.host.clone(),
                ranges(&member.partitions),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    if !description.offsets.is_empty() {
        let mut table = Table::new(["TOPIC", "PARTITION", "COMMITTED", "END", "LAG"]);
        for line in &description.offsets {
            table.row([
                line.topic.clone(),
                line.partition.to_string(),
                line.committed.to_string(),
                line.end.to_string(),
                line.lag.to_string(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    text
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// A few partitions by name, many by count.
fn ranges(partitions: &[String]) -> String {
    const NAMED_MAX: usize = 6;
    match partitions.len() {
        0 => "-".to_owned(),
        count if count > NAMED_MAX => format!("{count} partitions"),
        _ => partitions.join(","),
    }
}

/// A group that was deleted.
#[derive(Debug, Serialize)]
struct Deleted {
    group: String,
}

async fn delete(client: &Client, groups: &[String], output: OutputArgs) -> Result<(), Failure> {
    let mut deleted = Vec::new();
    let mut result = Ok(());
    for group in groups {
        result = client.delete_group(group).await;
        if result.is_err() {
            break;
        }
        deleted.push(Deleted {
            group: group.clone(),
        });
    }
    output.print(&deleted, |deleted| {
        deleted
            .iter()
            .map(|line| format!("deleted {}\n", line.group))
            .collect()
    })?;
    result.map_err(|error| match groups.get(deleted.len()) {
        Some(group) => group_failure(group, error),
        None => error.into(),
    })
}

/// A group of a transform is its transform's.
fn group_failure(group: &str, error: ClientError) -> Failure {
    let code = match &error {
        ClientError::Broker { code, .. } => Some(*code),
        _ => None,
    };
    match group.strip_prefix(GROUP_PREFIX) {
        Some(name) if code == Some(ErrorCode::GroupAuthorizationFailed) => Failure::from(error)
            .cause(format!("its offsets are those of the transform {name}"))
            .next(command(&format!("fn rewind {name} --to POSITION")))
            .next(command(&format!("fn delete {name}"))),
        _ => error.into(),
    }
}

/// Where a group goes on.
#[derive(Debug, Serialize)]
struct Sought {
    topic: String,
    partition: i32,
    offset: i64,
}

async fn seek(
    client: &Client,
    group: &str,
    topic: &str,
    partition: Option<i32>,
    to: Position,
    output: OutputArgs,
) -> Result<(), Failure> {
    let view = match client.topic(topic).await {
        Ok(view) => view,
        Err(error) => return Err(topic_failure(client, topic, error).await),
    };
    let wanted: Vec<PartitionId> = match partition {
        Some(partition) => vec![PartitionId(partition)],
        None => view.partitions.iter().map(|view| view.partition).collect(),
    };
    let resolved = resolve(client, topic, &wanted, to).await?;
    let is_new = client.describe_group(group).await?.is_none();
    let offsets: BTreeMap<TopicPartition, Offset> = resolved
        .iter()
        .map(|(partition, offset)| (TopicPartition::new(topic, *partition), *offset))
        .collect();
    let set = client.set_committed_offsets(group, &offsets).await;
    set.map_err(|error| group_failure(group, error))?;
    if is_new {
        note(&format!("group {group} did not exist, it is new"))?;
    }
    let sought = resolved.into_iter().map(|(partition, offset)| Sought {
        topic: topic.to_owned(),
        partition: partition.0,
        offset: offset.0,
    });
    output.print(&sought.collect::<Vec<_>>(), |lines| {
        let mut table = Table::new(["TOPIC", "PARTITION", "OFFSET"]);
        for line in lines {
            table.row([
                line.topic.clone(),
                line.partition.to_string(),
                line.offset.to_string(),
            ]);
        }
        table.render()
    })
}
