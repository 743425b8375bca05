//! `tidemill fn test`: a function on records of a file or a topic, without deploying it.

mod difference;
mod engine;
mod expectation;
mod fixtures;
mod live;
mod outcome;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, value_parser};
use tidemill_transforms::{Limits, Manifest};

use super::super::ClientArgs;
use super::super::exit::{Failure, command};
use super::super::output::OutputArgs;
use super::super::position::Position;
use super::super::topic::key_value;
use super::deploy::{LimitArgs, config};
use super::{artifact, build};
use engine::Engine;

#[derive(Debug, Args)]
pub(in super::super) struct TestArgs {
    #[command(flatten)]
    function: TestedFunction,
    /// Something for the function itself; can be repeated.
    #[arg(long = "config", value_name = "K=V", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// What the function takes for its sinks, in order. Nothing is written there.
    #[arg(
        long = "sink",
        value_name = "TOPIC,…",
        value_delimiter = ',',
        default_value = "sink"
    )]
    sinks: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Records as `consume --format json` prints them, - for stdin. A record without a timestamp has 0, one without a
    /// partition is in 0. [default: fixtures.ndjson of the project]
    #[arg(long, value_name = "FILE", conflicts_with = "from_topic")]
    input: Option<PathBuf>,
    /// What should come out, as it is printed without this: another outcome is shown field by field, and is a failure.
    /// Fields that a line leaves out are not compared. [default: expected.ndjson of the project]
    #[arg(long, value_name = "FILE", conflicts_with = "from_topic")]
    expect: Option<PathBuf>,
    /// Write what comes out to the file of --expect.
    #[arg(long, conflicts_with = "from_topic")]
    update: bool,
    /// Take real records: what goes in is shown beside what comes out.
    #[arg(long, value_name = "TOPIC")]
    from_topic: Option<String>,
    #[command(flatten)]
    live: LiveArgs,
}

/// Which function.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct TestedFunction {
    /// The project of a function, which is built first [default: this directory].
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// A file of WebAssembly, - for stdin.
    #[arg(long, value_name = "FILE")]
    artifact: Option<PathBuf>,
    /// A function that is built in.
    #[arg(long, value_name = "ID")]
    stock: Option<String>,
}

/// Which records of a topic.
#[derive(Debug, Args)]
struct LiveArgs {
    /// So many records.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        conflicts_with = "input",
        value_parser = value_parser!(u64).range(1..)
    )]
    limit: u64,
    /// Only of this partition.
    #[arg(long, value_name = "P", conflicts_with = "input")]
    partition: Option<i32>,
    /// Where to begin [default: with the newest records].
    #[arg(
        long,
        value_name = "POSITION",
        conflicts_with = "input",
        allow_hyphen_values = true
    )]
    from: Option<Position>,
}

pub(super) async fn run(
    args: TestArgs,
    client: &ClientArgs,
    output: OutputArgs,
) -> Result<(), Failure> {
    let config = config(&args.configs)?.into_iter();
    let manifest = Arc::new(Manifest {
        config: config
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        sinks: args.sinks.iter().map(|sink| sink.as_str().into()).collect(),
    });
    let limits = limits(&args.limits);
    let engine = match (&args.function.artifact, &args.function.stock) {
        (_, Some(id)) => Engine::start(id.as_ref(), artifact::of_stock(id)?, manifest, limits)?,
        (Some(path), None) => Engine::start(path, &artifact::read(path)?, manifest, limits)?,
        (None, None) => {
            let path = build::build(args.function.project(), false)?;
            Engine::start(&path, &artifact::read(&path)?, manifest, limits)?
        }
    };
    match &args.from_topic {
        Some(topic) => {
            let client = client.client();
            live::run(&engine, &client, topic, &args.live, output).await
        }
        None => {
            let (input, expect) = files(&args)?;
            fixtures::run(&engine, &input, expect.as_deref(), args.update, output).await
        }
    }
}

/// The files of records and of what should come of them: those that were named, or else the project's.
fn files(args: &TestArgs) -> Result<(PathBuf, Option<PathBuf>), Failure> {
    let function = &args.function;
    let is_project = function.artifact.is_none() && function.stock.is_none();
    match (&args.input, &args.expect) {
        (Some(input), expect) => {
            match args.update && expect.is_none() {
                true => Err(Failure::usage("--update has no file to write")
                    .next("name it with --expect FILE")),
                false => Ok((input.clone(), expect.clone())),
            }
        }
        (None, expect) if is_project => {
            let expected = || function.project().join("expected.ndjson");
            let expect = expect.clone().unwrap_or_else(expected);
            // A project that expects nothing yet shows what comes out.
            let is_there = args.expect.is_some() || args.update || expect.is_file();
            let input = function.project().join("fixtures.ndjson");
            Ok((input, Some(expect).filter(|_| is_there)))
        }
        (None, _) => Err(
            Failure::usage("there are no records to run the function on")
                .next("give --input FILE or --from-topic TOPIC")
                .next(format!("or a project: {}", command("fn test DIR"))),
        ),
    }
}

impl TestedFunction {
    fn project(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new("."))
    }
}

/// What a transform would have, with the bounds that were given.
fn limits(args: &LimitArgs) -> Limits {
    let default = Limits::default();
    let time = args.time_max_ms.map(Duration::from_millis);
    Limits {
        memory_bytes: args.memory_max.unwrap_or(default.memory_bytes),
        time: time.unwrap_or(default.time),
        output_bytes: args.output_bytes_max.unwrap_or(default.output_bytes),
        output_records: args
            .output_records_max
            .map_or(default.output_records, |records| records as u32),
    }
}
