//! `tidemill serve`: runs a broker until SIGTERM or ^C.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tidemill_storage::clock::SystemClock;
use tidemill_storage::fs::RealFs;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::command;
use crate::broker::{Environment, RunningBroker};
use crate::config::{self, ConfigError, Flag};

/// Flags of `serve`; every one is a TOML key and an environment variable as well.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// TOML file with settings.
    #[arg(long, value_name = "FILE", env = "TIDEMILL_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of segments, write-ahead log and metadata [default: ./tidemill-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address for Kafka clients [default: 127.0.0.1:9092].
    #[arg(long, value_name = "H:P")]
    listen: Option<String>,
    /// Address that clients are told [default: the one they came to].
    #[arg(long, value_name = "H:P")]
    advertise: Option<String>,
    /// Address for HTTP: metrics and health [default: 127.0.0.1:9644].
    #[arg(long, value_name = "H:P")]
    admin_listen: Option<String>,
    /// Address for other brokers, which cannot join yet [default: 127.0.0.1:9093].
    #[arg(long, value_name = "H:P")]
    internal_listen: Option<String>,
    /// Id of this broker [default: 1].
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// Failure domain of this broker.
    #[arg(long, value_name = "R")]
    rack: Option<String>,
    /// Object storage for sealed data: s3://BUCKET/PREFIX or file:///PATH [default: none].
    #[arg(long, value_name = "URL")]
    tier_url: Option<String>,
    /// URL of an S3-compatible store [default: AWS].
    #[arg(long, value_name = "URL")]
    tier_endpoint: Option<String>,
    /// Nobody else ever writes to the tier: it needs no atomic conditional PUT.
    #[arg(long)]
    tier_sole_owner: bool,
    /// Allow what loses records at a restart, such as a tier in memory://.
    #[arg(long)]
    dev: bool,
    /// Any other setting, as NAME=VALUE.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl ServeArgs {
    fn flags(&self) -> Result<Vec<Flag<'_>>, ConfigError> {
        let named = [
            ("data-dir", &self.data_dir),
            ("listen", &self.listen),
            ("advertise", &self.advertise),
            ("admin-listen", &self.admin_listen),
            ("internal-listen", &self.internal_listen),
            ("node-id", &self.node_id),
            ("rack", &self.rack),
            ("tier-url", &self.tier_url),
            ("tier-endpoint", &self.tier_endpoint),
        ];
        let switches = [("tier-sole-owner", self.tier_sole_owner), ("dev", self.dev)];
        let mut flags = Vec::new();
        flags.extend(
            switches
                .into_iter()
                .filter(|(_, is_on)| *is_on)
                .map(|(name, _)| Flag {
                    written: format!("--{name}"),
                    name,
                    value: "true",
                }),
        );
        for pair in &self.set {
            let (name, value) = pair.split_once('=').ok_or_else(|| ConfigError::Value {
                name: pair.clone(),
                place: "flag --set".to_owned(),
                cause: "write NAME=VALUE".to_owned(),
            })?;
            flags.push(Flag {
                written: format!("--set {name}"),
                name,
                value,
            });
        }
        flags.extend(named.into_iter().filter_map(|(name, value)| {
            Some(Flag {
                written: format!("--{name}"),
                name,
                value: value.as_deref()?,
            })
        }));
        Ok(flags)
    }
}

/// Buffers from this size on go back to the system when they are freed. Left to itself, glibc raises the bound to
/// 32 MiB after the first large buffer, and each thread keeps that much of what one hostile batch made it decompress.
#[cfg(target_env = "gnu")]
const RETURNED_BYTES_MIN: libc::c_int = 1 << 20;
/// What the heap keeps for the next small buffers.
#[cfg(target_env = "gnu")]
const HEAP_SPARE_BYTES: libc::c_int = 8 << 20;

#[cfg(target_env = "gnu")]
fn give_large_buffers_back() {
    // SAFETY: mallopt takes numbers only; no other thread allocates by settings that it is half way through.
    let is_set = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, RETURNED_BYTES_MIN) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, HEAP_SPARE_BYTES) == 1
    };
    if !is_set {
        tracing::warn!("the allocator took no settings, it may keep more memory than it needs");
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_large_buffers_back() {}

/// Connections and segment files are open files, and what a shell allows by default is far too few.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "cannot raise the limit on open files");
    }
}

/// Runs until told to stop; everything acked is on disk when it returns.
pub(super) async fn run(args: ServeArgs) -> anyhow::Result<()> {
    give_large_buffers_back();
    raise_open_files_limit();
    let flags = args.flags()?;
    let config = config::load(args.config.as_deref(), std::env::vars(), &flags)?;
    // Before the broker starts, so that an early signal is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let environment = Environment {
        fs: Arc::new(RealFs),
        clock: Arc::new(SystemClock::new()),
        seed: uuid::Uuid::new_v4().as_u64_pair().0,
    };
    let data_dir = config.data_dir.clone();
    let broker = tokio::select! {
        broker = RunningBroker::start(config, environment) => broker?,
        // Nothing was acknowledged yet, and a start can be ended anywhere.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    announce(&broker, &data_dir)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("interrupted: draining"),
    }
    broker.shutdown().await?;
    tracing::info!("stopped");
    Ok(())
}

/// The line that scripts parse on stdout, and three next commands for people on stderr.
fn announce(broker: &RunningBroker, data_dir: &std::path::Path) -> anyhow::Result<()> {
    let addresses = broker.addresses();
    let (kafka, admin, internal) = (addresses.kafka, addresses.admin, addresses.internal);
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "ready kafka={kafka} admin={admin} internal={internal}"
    )?;
    stdout.flush()?;
    let mut stderr = std::io::stderr().lock();
    writeln!(
        stderr,
        "tidemill serves Kafka clients on {kafka}, data in {}",
        data_dir.display()
    )?;
    writeln!(stderr, "  metrics  http://{admin}/metrics")?;
    let bootstrap = if kafka.port() == 9092 {
        String::new()
    } else {
        format!(" --bootstrap {kafka}")
    };
    let create = command("topic create hello");
    let produce = command("produce hello");
    let consume = command("consume hello --from start");
    writeln!(stderr, "  next     {create}{bootstrap}")?;
    writeln!(stderr, "           echo world | {produce}{bootstrap}")?;
    writeln!(stderr, "           {consume}{bootstrap}")?;
    Ok(())
}
