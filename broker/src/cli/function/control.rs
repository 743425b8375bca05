//! What changes a transform that runs: pause, resume, rollback, rewind, delete.

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::super::api::{self, Api};
use super::super::exit::{Failure, command};
use super::super::http::escaped;
use super::super::output::{OutputArgs, Table, note};
use super::super::position::Position;
use super::wire::{FUNCTIONS, transform, transform_failure, transform_path};
use crate::transform::{FunctionStatus, PartitionOffset, Rewound};

/// A change.
pub(super) enum Control {
    Pause,
    Resume,
    /// To this version, or to the one before.
    Rollback {
        version: Option<u32>,
    },
    /// To what [`rewind_target`] gave.
    Rewind {
        to: String,
    },
}

/// What a transform is afterwards.
#[derive(Debug, Serialize)]
struct Changed {
    name: String,
    state: String,
    version: u32,
    /// Where it goes on after a rewind: the broker cuts what was asked for at the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    offsets: Option<Vec<PartitionOffset>>,
}

pub(super) async fn run(
    name: &str,
    control: Control,
    api: Api<'_>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let (verb, body) = match &control {
        Control::Pause => ("pause", json!({})),
        Control::Resume => ("resume", json!({})),
        Control::Rollback { version: None } => ("rollback", json!({})),
        Control::Rollback {
            version: Some(version),
        } => ("rollback", json!({ "version": version })),
        Control::Rewind { to } => ("rewind", json!({ "to": to })),
    };
    let path = format!("{}/{verb}", transform_path(name));
    let answer = match api.post(&path, &body).await {
        Ok(answer) => answer,
        Err(error) => {
            let failure = transform_failure(api, name, error).await;
            return Err(failure.trying(format!("cannot {verb} {name}")));
        }
    };
    let offsets = match control {
        Control::Rewind { .. } => Some(api::read::<Rewound>(&answer)?.offsets),
        _ => None,
    };
    if let (Control::Rewind { to }, Some(offsets)) = (&control, &offsets)
        && let Ok(wanted) = to.parse::<i64>()
        && offsets.iter().any(|line| line.offset != wanted)
    {
        note(&format!(
            "offset {wanted} is not in the log everywhere; cut to what is there"
        ))?;
    }
    let details = transform(api, name).await?.status;
    let changed = Changed {
        name: details.name,
        state: details.state,
        version: details.version,
        offsets,
    };
    output.print(&changed, |changed| {
        let Changed { name, version, .. } = changed;
        match &control {
            Control::Pause => format!("paused {name}\n"),
            Control::Resume => format!("resumed {name}\n"),
            Control::Rollback { .. } => format!("rolled {name} back to version {version}\n"),
            Control::Rewind { .. } => rewound_text(changed),
        }
    })
}

fn rewound_text(changed: &Changed) -> String {
    match changed.offsets.as_deref().unwrap_or_default() {
        [only] => format!("{} goes on at offset {}\n", changed.name, only.offset),
        several => {
            let mut table = Table::new(["PARTITION", "GOES_ON_AT"]);
            for line in several {
                table.row([line.partition.to_string(), line.offset.to_string()]);
            }
            table.render()
        }
    }
}

/// Where a transform can go on, as the HTTP interface says it.
pub(super) fn rewind_target(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(Position::Start) => Ok("start".to_owned()),
        Ok(Position::End) => Ok("end".to_owned()),
        Ok(Position::Timestamp(ms)) => Ok(format!("@{ms}")),
        Ok(Position::Offset(offset)) => Ok(offset.to_string()),
        Err(error) if text.starts_with('@') => Err(error),
        _ => Err("write start, end, @TIMESTAMP or an offset".to_owned()),
    }
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct DeleteArgs {
    /// The transform.
    name: Option<String>,
    /// Forget this artifact instead; 8 digits of its id are enough.
    #[arg(long, value_name = "ID")]
    function: Option<String>,
}

/// What was deleted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Deleted {
    Transform(String),
    Function(String),
}

pub(super) async fn delete(
    args: &DeleteArgs,
    api: Api<'_>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let deleted = match (&args.name, &args.function) {
        (Some(name), _) => {
            if let Err(error) = api.delete(&transform_path(name)).await {
                let failure = transform_failure(api, name, error).await;
                return Err(failure.trying(format!("cannot delete {name}")));
            }
            Deleted::Transform(name.clone())
        }
        (None, Some(digits)) => {
            let cannot =
                |failure: Failure| failure.trying(format!("cannot delete function {digits}"));
            let id = function_id(api, digits).await.map_err(cannot)?;
            let deleted = api.delete(&format!("{FUNCTIONS}/{}", escaped(&id))).await;
            deleted.map_err(|error| cannot(error.into()))?;
            Deleted::Function(id)
        }
        (None, None) => unreachable!("clap asks for one of them"),
    };
    output.print(&deleted, |deleted| match deleted {
        Deleted::Transform(name) => format!("deleted {name}; its topics stay\n"),
        Deleted::Function(id) => format!("deleted function {id}\n"),
    })
}

/// The one function whose id begins with these digits.
async fn function_id(api: Api<'_>, digits: &str) -> Result<String, Failure> {
    const DIGITS_MIN: usize = 8;
    if digits.len() < DIGITS_MIN {
        return Err(Failure::usage(format!(
            "{digits:?} has fewer than {DIGITS_MIN} digits of an id"
        ))
        .next(command("fn list --functions")));
    }
    let functions: Vec<FunctionStatus> = api.get(FUNCTIONS).await?;
    let ids = functions.into_iter().map(|function| function.id);
    let mut meant = ids.filter(|id| id.starts_with(digits));
    match (meant.next(), meant.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            Err(
                Failure::new(format!("more than one function's id begins with {digits}")).next(
                    format!("give more digits of it: {}", command("fn list --functions")),
                ),
            )
        }
        (None, _) => Err(
            Failure::new(format!("no function's id begins with {digits}"))
                .next(command("fn list --functions")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewind_says_where_it_went() {
        let offset = |partition, offset| PartitionOffset { partition, offset };
        let text = |offsets: Vec<PartitionOffset>| {
            rewound_text(&Changed {
                name: "f".to_owned(),
                state: "running".to_owned(),
                version: 1,
                offsets: Some(offsets),
            })
        };
        assert_eq!(text(vec![offset(0, 4)]), "f goes on at offset 4\n");
        let two = text(vec![offset(0, 4), offset(1, 17)]);
        assert_eq!(two.lines().count(), 3, "{two}");
        assert!(two.contains("17"), "{two}");
    }

    #[test]
    fn a_transform_goes_on_where_every_partition_has_a_place() {
        for (text, target) in [
            ("start", "start"),
            ("end", "end"),
            ("17", "17"),
            ("@1970-01-02", "@86400000"),
        ] {
            assert_eq!(rewind_target(text).as_deref(), Ok(target));
        }
        for text in ["+5", "-5", "@soon", ""] {
            assert!(rewind_target(text).is_err(), "{text}");
        }
    }
}
