//! `tidemill tier`: what is in the object tier, and whether a store can carry one.

use clap::{Args, Subcommand};
use serde::Serialize;
use tidemill_tiered_store::{Check, StoreConfig, TierMemory, TierUrl, TieredStore, parse_endpoint};
use uuid::Uuid;

use super::api::Api;
use super::exit::{Failure, command};
use super::output::{OutputArgs, Table, human_bytes};
use crate::tiering::TierStatus;

#[derive(Debug, Args)]
pub(super) struct TierArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: TierCommand,
}

#[derive(Debug, Subcommand)]
enum TierCommand {
    /// Show what a running broker has in its tier, what waits, and what fails.
    Status {
        /// The broker's HTTP address.
        #[arg(
            long,
            env = "TIDEMILL_ADMIN",
            default_value = "127.0.0.1:9644",
            value_parser = super::admin_address,
            value_name = "H:P"
        )]
        admin: String,
    },
    /// Try every request that a broker makes of its store, and name the permission that is missing.
    Verify {
        /// The tier: s3://BUCKET/PREFIX or file:///PATH.
        #[arg(long, value_name = "URL", env = "TIDEMILL_TIER_URL")]
        tier_url: TierUrl,
        /// URL of an S3-compatible store [default: AWS].
        #[arg(long, value_name = "URL", env = "TIDEMILL_TIER_ENDPOINT", value_parser = parse_endpoint)]
        tier_endpoint: Option<String>,
        /// Create the bucket first, and have it drop parts of uploads that never ended.
        #[arg(long)]
        create_bucket: bool,
    },
}

pub(super) async fn run(args: TierArgs) -> Result<(), Failure> {
    match args.command {
        TierCommand::Status { admin } => status(&admin, args.output).await,
        TierCommand::Verify {
            tier_url,
            tier_endpoint,
            create_bucket,
        } => {
            let config = StoreConfig {
                url: tier_url,
                endpoint: tier_endpoint,
            };
            verify(&config, create_bucket, args.output).await
        }
    }
}

async fn status(admin: &str, output: OutputArgs) -> Result<(), Failure> {
    let api = Api { address: admin };
    let status: TierStatus = api.get("/v1/tier").await?;
    output.print(&status, status_text)
}

fn status_text(status: &TierStatus) -> String {
    let state = match (&status.last_error, status.is_claimed) {
        (Some(error), _) => format!("failing: {error}"),
        (None, true) => "up".to_owned(),
        (None, false) => "not claimed yet".to_owned(),
    };
    let mut text = format!(
        "{}\n{state}\n{} prepared, {} to be deleted; requests since the start: ${:.6}\n",
        status.url, status.prepared_objects, status.garbage_objects, status.requests_dollars
    );
    let mut table = Table::new([
        "TOPIC",
        "REMOTE",
        "REMOTE ONLY",
        "WAITING",
        "FOR",
        "EXTENTS",
        "$/MONTH",
    ]);
    for topic in &status.topics {
        table.row([
            topic.topic.clone(),
            human_bytes(topic.remote_bytes),
            human_bytes(topic.remote_only_bytes),
            human_bytes(topic.waiting_bytes),
            format!("{:.0} s", topic.waiting_seconds),
            topic.extents.to_string(),
            format!("{:.4}", topic.dollars_per_month),
        ]);
    }
    if !status.topics.is_empty() {
        text.push_str(&table.render());
    }
    text
}

/// One check as it is printed.
#[derive(Debug, Serialize)]
struct Checked {
    check: &'static str,
    permission: &'static str,
    result: &'static str,
    error: Option<String>,
    hint: Option<&'static str>,
}

async fn verify(
    config: &StoreConfig,
    create_bucket: bool,
    output: OutputArgs,
) -> Result<(), Failure> {
    let store = TieredStore::open(config, Uuid::nil(), TierMemory::default())
        .map_err(|error| Failure::new(format!("cannot use {}", config.url)).because(&error))?;
    // Two people who verify at the same time must not meet.
    let random = Uuid::new_v4().as_u128() as u64;
    let checks = store.verify(random, create_bucket).await;
    let missing = checks
        .iter()
        .any(|check| !check.is_optional && !matches!(check.result, Some(Ok(()))));
    let checked: Vec<Checked> = checks.iter().map(checked).collect();
    output.print(&checked, |checked| verify_text(checked))?;
    match missing {
        false => Ok(()),
        true => {
            let failure = Failure::new(format!("{} cannot carry a tier yet", config.url));
            let hints = checked.iter().filter_map(|check| check.hint);
            let failure = hints.fold(failure, |failure, hint| failure.next(hint));
            let endpoint = config.endpoint.as_ref();
            let endpoint = endpoint.map(|endpoint| format!(" --tier-endpoint {endpoint}"));
            let again = format!(
                "tier verify --tier-url {}{}",
                config.url,
                endpoint.unwrap_or_default()
            );
            Err(failure.next(format!("then again: {}", command(&again))))
        }
    }
}

fn checked(check: &Check) -> Checked {
    let error = check
        .result
        .as_ref()
        .and_then(|result| result.as_ref().err());
    Checked {
        check: check.what,
        permission: check.permission,
        result: match &check.result {
            None => "not tried",
            Some(Ok(())) => "ok",
            Some(Err(_)) if check.is_optional => "not supported",
            Some(Err(_)) => "failed",
        },
        error: error.map(|error| error.to_string().lines().collect::<Vec<_>>().join(" ")),
        hint: error.and_then(|error| error.hint()),
    }
}

fn verify_text(checks: &[Checked]) -> String {
    let mut table = Table::new(["CHECK", "PERMISSION", "RESULT", "ERROR"]);
    for check in checks {
        table.row([
            check.check.to_owned(),
            check.permission.to_owned(),
            check.result.to_owned(),
            check.error.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}
