//! `tidemill fn deploy` and `tidemill fn upload`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, value_parser};
use tidemill_metadata::limits::{
    TRANSFORM_BACKOFF_MS, TRANSFORM_LOG_LINES_PER_SECOND, TRANSFORM_MEMORY_BYTES,
    TRANSFORM_OUTPUT_BYTES, TRANSFORM_OUTPUT_RECORDS, TRANSFORM_RETRIES, TRANSFORM_TIME_MS,
};

use super::super::api::{self, Api};
use super::super::exit::{Failure, command};
use super::super::http::escaped;
use super::super::output::{OutputArgs, human_bytes, note, printable};
use super::super::position::Position;
use super::super::topic::key_value;
use super::artifact;
use super::wire::{Deployment, FUNCTIONS, TRANSFORMS, short_id, transform_path};
use crate::transform::{Deployed, FunctionStatus, TransformDetails, VersionStatus};

#[derive(Debug, Args)]
pub(super) struct DeployArgs {
    /// The transform; if there is one of this name, this becomes its next version.
    name: String,
    #[command(flatten)]
    function: DeployedFunction,
    /// The topic to read.
    #[arg(long, value_name = "TOPIC")]
    source: String,
    /// The topics to write, in the order in which the function counts them. Missing ones are created.
    #[arg(
        long = "sink",
        value_name = "TOPIC,…",
        required = true,
        value_delimiter = ','
    )]
    sinks: Vec<String>,
    /// Something for the function itself; can be repeated.
    #[arg(long = "config", value_name = "K=V", value_parser = key_value)]
    configs: Vec<(String, String)>,
    /// Where a new transform begins: start, end, or @TIMESTAMP [default: end].
    #[arg(long, value_name = "POSITION", value_parser = begin)]
    from: Option<String>,
    /// What a failure in between may do to the sinks [default: the broker's].
    #[arg(long, value_enum)]
    delivery: Option<Delivery>,
    /// What becomes of a record that the function does not get through [default: dlq].
    #[arg(long, value_enum)]
    on_error: Option<OnError>,
    /// The topic for dead letters [default: NAME.dlq].
    #[arg(long, value_name = "TOPIC")]
    dlq: Option<String>,
    /// How often a record is tried again before that, 0 to 100 [default: 1].
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(TRANSFORM_RETRIES))]
    retries: Option<u64>,
    /// How long to wait before the first time, up to 60000; each further time waits twice as long [default: 100].
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(TRANSFORM_BACKOFF_MS))]
    backoff_ms: Option<u64>,
    #[command(flatten)]
    limits: LimitArgs,
    /// Lines that the function may log in a second, up to 10000 [default: 100].
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(TRANSFORM_LOG_LINES_PER_SECOND))]
    log_lines_per_second: Option<u64>,
}

/// Which function.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct DeployedFunction {
    /// A file of WebAssembly, - for stdin.
    #[arg(long, value_name = "FILE")]
    artifact: Option<PathBuf>,
    /// A function that is built in.
    #[arg(long, value_name = "ID")]
    stock: Option<String>,
    /// A function that was uploaded; 8 digits of its id are enough.
    #[arg(long, value_name = "ID")]
    function: Option<String>,
}

/// What one call of a function may use.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct LimitArgs {
    /// Bytes of memory, 65536 to 1073741824 [default: 67108864].
    #[arg(long, value_name = "BYTES", value_parser = value_parser!(u64).range(TRANSFORM_MEMORY_BYTES))]
    pub(super) memory_max: Option<u64>,
    /// Milliseconds of processor time for about 1,000 records, 1 to 60000 [default: 1000].
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(TRANSFORM_TIME_MS))]
    pub(super) time_max_ms: Option<u64>,
    /// Bytes that it may make of them, 1024 to 67108864 [default: 16777216].
    #[arg(long, value_name = "BYTES", value_parser = value_parser!(u64).range(TRANSFORM_OUTPUT_BYTES))]
    pub(super) output_bytes_max: Option<u64>,
    /// Records that it may make of them, 1 to 100000 [default: 10000].
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(TRANSFORM_OUTPUT_RECORDS))]
    pub(super) output_records_max: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Delivery {
    ExactlyOnce,
    AtLeastOnce,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnError {
    /// It goes to the topic for dead letters.
    Dlq,
    /// It is counted and left out.
    Skip,
    /// The partition stops before the record, until a version is deployed that takes it; `fn resume` tries it again.
    Stop,
}

#[derive(Debug, Args)]
pub(super) struct UploadArgs {
    /// A file of WebAssembly, - for stdin.
    file: PathBuf,
    /// What to call it in lists.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

/// Where a new transform begins, as the HTTP interface says it.
fn begin(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(Position::Start) => Ok("start".to_owned()),
        Ok(Position::End) => Ok("end".to_owned()),
        Ok(Position::Timestamp(ms)) => Ok(format!("@{ms}")),
        Err(error) if text.starts_with('@') => Err(error),
        _ => Err("write start, end or @TIMESTAMP; `fn rewind` takes offsets".to_owned()),
    }
}

pub(super) async fn deploy(
    args: DeployArgs,
    api: Api<'_>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let config = config(&args.configs)?;
    let limits = limits(&args);
    let mut function = args.function.function;
    if let Some(path) = &args.function.artifact {
        let uploaded = store(path, None, api).await?;
        note(&format!(
            "{} is function {}",
            path.display(),
            short_id(&uploaded.id)
        ))?;
        function = Some(uploaded.id);
    }
    let deployment = Deployment {
        name: args.name,
        function,
        stock: args.function.stock,
        source: args.source,
        sinks: args.sinks,
        config,
        from: args.from,
        delivery: args.delivery.map(|delivery| match delivery {
            Delivery::ExactlyOnce => "exactly-once",
            Delivery::AtLeastOnce => "at-least-once",
        }),
        on_error: args.on_error.map(|policy| match policy {
            OnError::Dlq => "dlq",
            OnError::Skip => "skip",
            OnError::Stop => "stop",
        }),
        dlq: args.dlq,
        retries: args.retries,
        backoff_ms: args.backoff_ms,
        limits,
    };
    let before = current(api, &deployment.name).await;
    let answer = api.post(TRANSFORMS, &deployment).await.map_err(|error| {
        Failure::from(error).trying(format!("cannot deploy {}", deployment.name))
    })?;
    let deployed: Deployed = api::read(&answer)?;
    output.print(&deployed, |deployed| deployed_text(deployed, &deployment))?;
    if let (Some(before), Some(now)) = (before, current(api, &deployed.name).await) {
        for change in changes(&before, &now) {
            note(&format!("changed {change}"))?;
        }
    }
    if deployed.version > 1 && deployment.from.is_some() {
        note("--from is for a new transform: this one goes on where it was")?;
        let rewind = format!("fn rewind {} --to POSITION", deployed.name);
        note(&format!("next:  {}", command(&rewind)))?;
    }
    let describe = command(&format!("fn describe {}", deployed.name));
    note(&format!("next:  {describe}"))?;
    if let Some(sink) = deployment.sinks.first() {
        let consume = command(&format!("consume {sink} --from start"));
        note(&format!("next:  {consume}"))?;
    }
    Ok(())
}

/// The version that runs; none where there is no transform yet.
async fn current(api: Api<'_>, name: &str) -> Option<VersionStatus> {
    let found: TransformDetails = api.get(&transform_path(name)).await.ok()?;
    found
        .versions
        .into_iter()
        .find(|version| version.is_current)
}

/// What is set otherwise than in the version before, which nobody may have meant: a deployment says all.
fn changes(before: &VersionStatus, now: &VersionStatus) -> Vec<String> {
    let (before, now) = (settings(before), settings(now));
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("(none)".to_owned(), |text| printable(text));
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| {
            let (before, now) = (shown(before.get(name)), shown(now.get(name)));
            format!("{}: {before} -> {now}", printable(name))
        })
        .collect()
}

fn settings(version: &VersionStatus) -> BTreeMap<String, String> {
    let config = version.config.iter();
    let config = config.map(|(key, value)| (format!("config {key}"), value.clone()));
    let limits = version.limits.iter();
    let limits = limits.map(|(name, limit)| (name.clone(), limit.to_string()));
    let dlq = version
        .dlq
        .iter()
        .map(|topic| ("dlq".to_owned(), topic.clone()));
    let others = [
        ("sinks", version.sinks.join(",")),
        ("on_error", version.on_error.clone()),
        ("retries", version.retries.to_string()),
        ("backoff_ms", version.backoff_ms.to_string()),
    ];
    let others = others.map(|(name, value)| (name.to_owned(), value));
    config.chain(limits).chain(dlq).chain(others).collect()
}

fn deployed_text(deployed: &Deployed, deployment: &Deployment) -> String {
    let Deployed { name, version, .. } = deployed;
    let mut text = match version {
        1 => {
            let from = deployment.from.as_deref().unwrap_or("end");
            let source = &deployment.source;
            format!("deployed {name}, version 1, which reads {source} from: {from}\n")
        }
        _ => format!("deployed {name}, version {version}\n"),
    };
    for topic in &deployed.created_topics {
        text += &format!("created topic {topic}\n");
    }
    text
}

/// The pairs as a map. The same key twice is a slip: neither value is surely the one that was meant.
pub(super) fn config(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut config = BTreeMap::new();
    for (key, value) in pairs {
        if config.insert(key.clone(), value.clone()).is_some() {
            return Err(
                Failure::usage(format!("--config {key} is given twice")).next("give each key once")
            );
        }
    }
    Ok(config)
}

fn limits(args: &DeployArgs) -> BTreeMap<&'static str, u64> {
    let limits = args.limits;
    let given = [
        ("memory_bytes", limits.memory_max),
        ("time_ms", limits.time_max_ms),
        ("output_bytes", limits.output_bytes_max),
        ("output_records", limits.output_records_max),
        ("log_lines_per_second", args.log_lines_per_second),
    ];
    let given = given.into_iter();
    given
        .filter_map(|(name, limit)| Some((name, limit?)))
        .collect()
}

pub(super) async fn upload(
    args: &UploadArgs,
    api: Api<'_>,
    output: OutputArgs,
) -> Result<(), Failure> {
    let function = store(&args.file, args.label.as_deref(), api).await?;
    output.print(&function, |function| {
        let size = human_bytes(function.size_bytes);
        format!("{}  {size}  {}\n", function.id, function.carrier)
    })?;
    let deploy = format!(
        "fn deploy NAME --function {} --source TOPIC --sink TOPIC",
        short_id(&function.id)
    );
    Ok(note(&format!("next:  {}", command(&deploy)))?)
}

/// Gives an artifact to the broker, which looks at it and keeps it. The label is by default the file's name.
async fn store(path: &Path, label: Option<&str>, api: Api<'_>) -> Result<FunctionStatus, Failure> {
    let bytes = artifact::read(path)?;
    let of_file = path.file_stem().filter(|_| path.as_os_str() != "-");
    let of_file = of_file.map(|name| name.to_string_lossy().into_owned());
    let label = label.map(str::to_owned).or(of_file).unwrap_or_default();
    let target = format!("{FUNCTIONS}?label={}", escaped(&label));
    let answer = api.post_bytes(&target, "application/wasm", &bytes).await;
    let answer = answer.map_err(|error| {
        Failure::from(error).trying(format!("cannot upload {}", path.display()))
    })?;
    Ok(api::read(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_begins_at_an_end_or_at_a_time() {
        assert_eq!(begin("start").as_deref(), Ok("start"));
        assert_eq!(begin("@1970-01-02").as_deref(), Ok("@86400000"));
        for text in ["17", "-5", "+5", "@soon", "beginning"] {
            assert!(begin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_configured_once() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let taken = config(&[pair("a", "1"), pair("b", "x=y")]).unwrap();
        assert_eq!(taken["b"], "x=y");
        let failure = config(&[pair("a", "1"), pair("a", "1")]).unwrap_err();
        assert!(failure.mentions("--config a"));
    }
}
