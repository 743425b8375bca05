//! The command line. stdout is data, stderr is chatter; exit codes are in `exit.rs`.

mod api;
mod bench;
mod check;
mod consume;
mod demo;
mod exit;
mod function;
mod group;
mod http;
mod input;
mod output;
mod position;
mod produce;
mod progress;
mod record_json;
mod serve;
mod stop;
mod tier;
mod topic;

use std::future::Future;
use std::io::{self, IsTerminal};
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tidemill_client::{Client, ClientConfig};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::ConfigError;
use exit::{Exit, Failure};

/// A Kafka-compatible streaming broker in one binary.
#[derive(Debug, Parser)]
#[command(name = "tidemill", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a broker until SIGTERM or ^C.
    Serve(serve::ServeArgs),
    /// Show the whole on real records: produce, kill -9, recover, read back.
    Demo(demo::DemoArgs),
    /// Create, list, describe, alter, delete and trim topics.
    Topic(topic::TopicArgs),
    /// Write lines of stdin or a file as records.
    Produce(produce::ProduceArgs),
    /// Print records.
    Consume(consume::ConsumeArgs),
    /// List, describe, seek and delete consumer groups.
    Group(group::GroupArgs),
    /// Write, test, deploy and watch functions that run between topics.
    Fn(function::FnArgs),
    /// Show the object tier, or try a store for one.
    Tier(tier::TierArgs),
    /// Verify the data directory of a broker that is stopped.
    Check(check::CheckArgs),
    /// Measure a broker, this one or another Kafka.
    Bench(bench::BenchArgs),
}

/// Where the broker is.
#[derive(Debug, Clone, Args)]
struct ClientArgs {
    /// Brokers to begin with.
    #[arg(
        long,
        global = true,
        env = "TIDEMILL_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        value_parser = host_port,
        value_name = "H:P,…"
    )]
    bootstrap: Vec<String>,
    /// The broker's HTTP address: functions are deployed there, and it is asked for its state when nobody answers at
    /// --bootstrap.
    #[arg(
        long,
        global = true,
        env = "TIDEMILL_ADMIN",
        default_value = "127.0.0.1:9644",
        value_parser = admin_address,
        value_name = "H:P"
    )]
    admin: String,
}

fn host_port(text: &str) -> Result<String, String> {
    match is_host_and_port(text) {
        true => Ok(text.to_owned()),
        false => Err("write HOST:PORT, as in 127.0.0.1:9092".to_owned()),
    }
}

/// A broker's HTTP address, which may be written as the URL that brokers print.
fn admin_address(text: &str) -> Result<String, String> {
    let url = text.strip_prefix("http://");
    let address = url.map_or(text, |url| url.strip_suffix('/').unwrap_or(url));
    match is_host_and_port(address) {
        true => Ok(address.to_owned()),
        false => Err("write HOST:PORT or http://HOST:PORT, as in localhost:9644".to_owned()),
    }
}

fn is_host_and_port(address: &str) -> bool {
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(literal) => literal
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-._".contains(c))
        }
    };
    let is_port = |port: &str| {
        port.bytes().all(|digit| digit.is_ascii_digit())
            && port.parse().is_ok_and(|port: u16| port > 0)
    };
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| is_host(host) && is_port(port))
}

impl ClientArgs {
    fn client(&self) -> Arc<Client> {
        Arc::new(Client::new(ClientConfig::new(self.bootstrap.clone())))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            let usage_error = answer.use_stderr();
            // A closed pipe is no reason to fail.
            let _ = answer.print();
            return if usage_error {
                Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let serves = matches!(cli.command, Command::Serve(_));
    // Raft explains every step of an election at info, and warns of messages that come too late in one;
    // whoever wants that sets TIDEMILL_LOG.
    let default_filter = match serves {
        true => "info,openraft=error,object_store=warn",
        false => "error",
    };
    if let Err(failure) = log_to_stderr(default_filter) {
        return failure.report();
    }
    let result = match cli.command {
        Command::Serve(args) => run_broker(args),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Topic(args) => with_client(&args.client.clone(), topic::run(args)),
        Command::Produce(args) => with_client(&args.client.clone(), produce::run(args)),
        Command::Consume(args) => with_client(&args.client.clone(), consume::run(args)),
        Command::Group(args) => with_client(&args.client.clone(), group::run(args)),
        Command::Fn(args) => with_client(&args.client.clone(), function::run(args)),
        Command::Tier(args) => block_on(tier::run(args)),
        Command::Check(args) => block_on(check::run(args)),
        Command::Bench(args) => with_client(&args.client.clone(), bench::run(args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run_broker(args: serve::ServeArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve::run(args)).map_err(|error| {
        let mut causes = error.chain();
        let text = causes.next().map(ToString::to_string).unwrap_or_default();
        let is_usage = error.is::<ConfigError>();
        let failure = if is_usage {
            let help = exit::command("serve --help");
            Failure::usage(text).next(format!("{help}, or docs/configuration.md for all settings"))
        } else {
            Failure::new(text)
        };
        causes.next().into_iter().fold(failure, Failure::because)
    })
}

/// Runs a client's command on one thread; threads that still read stdin do not hold up the end.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// [`block_on`], and when nobody answers, a look at what the broker's HTTP address says.
fn with_client(
    client: &ClientArgs,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    const STATE_WAIT: Duration = Duration::from_secs(1);
    block_on(async {
        match command.await {
            Err(failure) if failure.is_unreachable() => {
                match http::get(&client.admin, "/readyz", STATE_WAIT).await {
                    Ok(answer) => Err(failure.next(format!(
                        "http://{}/readyz says {}: {}",
                        client.admin,
                        answer.status,
                        answer.body.trim()
                    ))),
                    Err(_) => Err(failure),
                }
            }
            result => result,
        }
    })
}

/// Logs go to stderr; `TIDEMILL_LOG` filters them as `RUST_LOG` does elsewhere.
fn log_to_stderr(default_filter: &str) -> Result<(), Failure> {
    let wanted = std::env::var("TIDEMILL_LOG").unwrap_or_default();
    let filter = match wanted.is_empty() {
        true => EnvFilter::new(default_filter),
        false => filter(&wanted).map_err(|cause| {
            Failure::usage(format!("TIDEMILL_LOG={wanted}: {cause}"))
                .next("write a level, or TARGET=LEVEL, as in info,tidemill_log=debug")
        })?,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}

/// The filter takes any word for the name of a target; a lone word that is no level is a mistyped level here.
fn filter(wanted: &str) -> Result<EnvFilter, String> {
    let lone = |part: &&str| !part.contains(['=', '[']);
    let no_level = |part: &&str| part.trim().parse::<LevelFilter>().is_err();
    if let Some(word) = wanted.split(',').filter(lone).find(no_level) {
        return Err(format!("{word:?} is not a level"));
    }
    EnvFilter::try_new(wanted).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_admin_address_is_a_host_and_port_or_their_url() {
        for (text, address) in [
            ("127.0.0.1:9644", "127.0.0.1:9644"),
            ("localhost:9644", "localhost:9644"),
            ("http://127.0.0.1:9644", "127.0.0.1:9644"),
            ("http://broker-1.example:80/", "broker-1.example:80"),
            ("http://[::1]:9644", "[::1]:9644"),
        ] {
            assert_eq!(admin_address(text).as_deref(), Ok(address));
        }
        for text in [
            "",
            "localhost",
            ":9644",
            "localhost:port",
            "localhost:99999",
            "https://localhost:9644",
            "http://localhost",
            "http://localhost:9644/v1",
            "http://me@localhost:9644",
            "::1:9644",
            "[]:9644",
            "[localhost]:9644",
            "localhost:+9644",
            "localhost:0",
        ] {
            let refused = admin_address(text).expect_err(text);
            assert!(refused.contains("localhost:9644"), "{refused}");
        }
    }

    #[test]
    fn a_log_filter_is_levels_and_targets_with_levels() {
        for good in [
            "info",
            "WARN,tidemill_log=debug",
            "off",
            "error,openraft=info",
        ] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["infoo", "tidemill_log=loud", "info,verbose"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "tidemill fn deploy f --source a --sink b",
            "tidemill fn deploy f --stock x --artifact y --source a --sink b",
            "tidemill fn deploy f --stock x --source a --sink b --from 17",
            "tidemill fn delete",
            "tidemill fn delete f --function 0123456789",
            "tidemill fn test DIR --stock x",
            "tidemill fn test --stock x --input a --from-topic t",
            "tidemill fn test --stock x --from-topic t --expect e",
            "tidemill fn test --stock x --from-topic t --update",
            "tidemill fn rewind f --to +5",
            "tidemill fn dlq f --to t",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn flags_may_stand_behind_the_subcommand() {
        for line in [
            "tidemill topic list --bootstrap a:1,b:2 --format json",
            "tidemill topic --bootstrap a:1,b:2 --format json list",
            "tidemill group lag g --format yaml",
            "tidemill consume t --from -5",
            "tidemill consume t --from +5 --count 3 --until-end",
            "tidemill topic trim t --to -10",
            "tidemill serve --set num.partitions=3",
            "tidemill fn list --admin a:1 --format yaml",
            "tidemill fn deploy f --stock filter --source a --sink b,c --config k=v=w --from @2013-01-01",
            "tidemill fn rewind f --to 17",
            "tidemill fn dlq f --from -5 --replay --to t",
            "tidemill fn test --stock filter --input - --sink a,b --expect e.ndjson --update",
            "tidemill fn test",
            "tidemill fn test delays --update",
            "tidemill fn test --artifact a.wasm --from-topic t --limit 3 --partition 0",
        ] {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                panic!("{line}: {error}");
            }
        }
    }
}
