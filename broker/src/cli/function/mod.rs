//! `tidemill fn …`: functions from the first line to running on live records.

mod artifact;
mod build;
mod control;
mod dead_letters;
mod deploy;
mod describe;
mod list;
mod logs;
mod new;
mod reader;
mod templates;
mod test;
mod wire;

use clap::{Args, Subcommand};

use super::ClientArgs;
use super::api::Api;
use super::exit::Failure;
use super::output::OutputArgs;
use super::position::POSITIONS;
use control::Control;

#[derive(Debug, Args)]
pub(super) struct FnArgs {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: FnCommand,
}

#[derive(Debug, Subcommand)]
enum FnCommand {
    /// Write the project of a new function.
    New(new::NewArgs),
    /// Build the project in a directory, and check that brokers take what comes out.
    Build(build::BuildArgs),
    /// Run a function here, on records of a file or a topic, with the code that runs it in a broker.
    #[command(after_help = POSITIONS)]
    Test(test::TestArgs),
    /// Run a function between topics: as a new transform, or as a new version of one.
    Deploy(deploy::DeployArgs),
    /// Store an artifact without running it.
    Upload(deploy::UploadArgs),
    /// List transforms, or the functions that they run.
    List(list::ListArgs),
    /// Show a transform with its settings, versions and tasks.
    Describe {
        /// Its name.
        name: String,
    },
    /// List what a transform has run, and when.
    Versions {
        /// Its name.
        name: String,
    },
    /// Run an earlier version again.
    Rollback {
        /// The transform.
        name: String,
        /// The version [default: the one before].
        #[arg(long, value_name = "N")]
        to: Option<u32>,
    },
    /// Stop after the records under way, until resume.
    Pause {
        /// The transform.
        name: String,
    },
    /// Go on, after a pause or after a failure that stopped it.
    Resume {
        /// The transform.
        name: String,
    },
    /// Go on elsewhere in the source, with the same version.
    Rewind {
        /// The transform.
        name: String,
        /// The next record to run on: start, end, @TIMESTAMP, or an offset.
        #[arg(long, value_name = "POSITION", value_parser = control::rewind_target)]
        to: String,
    },
    /// End a transform; its topics stay. Or forget an artifact that nothing uses.
    Delete(control::DeleteArgs),
    /// Print what a function says.
    #[command(after_help = POSITIONS)]
    Logs(logs::LogsArgs),
    /// Print the records that a function did not get through, or write them back to their topic.
    #[command(after_help = POSITIONS)]
    Dlq(dead_letters::DeadLettersArgs),
}

pub(super) async fn run(args: FnArgs) -> Result<(), Failure> {
    let FnArgs {
        client,
        output,
        command,
    } = args;
    let api = Api {
        address: &client.admin,
    };
    match command {
        FnCommand::New(args) => new::run(&args, output),
        FnCommand::Build(args) => build::run(&args, output),
        FnCommand::Test(args) => test::run(args, &client, output).await,
        FnCommand::Deploy(args) => deploy::deploy(args, api, output).await,
        FnCommand::Upload(args) => deploy::upload(&args, api, output).await,
        FnCommand::List(args) => list::run(&args, api, output).await,
        FnCommand::Describe { name } => describe::describe(&name, api, output).await,
        FnCommand::Versions { name } => describe::versions(&name, api, output).await,
        FnCommand::Rollback { name, to } => {
            control::run(&name, Control::Rollback { version: to }, api, output).await
        }
        FnCommand::Pause { name } => control::run(&name, Control::Pause, api, output).await,
        FnCommand::Resume { name } => control::run(&name, Control::Resume, api, output).await,
        FnCommand::Rewind { name, to } => {
            control::run(&name, Control::Rewind { to }, api, output).await
        }
        FnCommand::Delete(args) => control::delete(&args, api, output).await,
        FnCommand::Logs(args) => logs::run(&args, &client, output).await,
        FnCommand::Dlq(args) => dead_letters::run(&args, &client, output).await,
    }
}
