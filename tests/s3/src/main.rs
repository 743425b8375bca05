//! The double as a process: prints one line when it is ready and runs until it is killed.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use tidemill_test_s3::{S3Double, Settings};

const USAGE: &str = "\
s3-double [--listen 127.0.0.1:PORT] [--dir DIR] [--bucket NAME]... [--accept-unsigned]
          [--memory-bytes-max N]

An S3 server for tests that fails on demand. Prints `ready s3=HOST:PORT control=HOST:PORT`.

  --listen            where to serve S3; port 0, the default, takes a free one
  --dir               also keep objects as files here, for the next start
  --bucket            create this bucket if it is not there
  --accept-unsigned   let requests without a signature pass (key pair: test, testtest)
  --memory-bytes-max  bytes of objects and bodies; 1073741824 by default
";

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match parse(std::env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => return print(USAGE),
        Err(problem) => return fail(&format!("{problem}\n\n{USAGE}")),
    };
    let double = match S3Double::start(settings).await {
        Ok(double) => double,
        Err(error) => return fail(&error.to_string()),
    };
    let (s3, control) = (double.s3_address(), double.control_address());
    if print(&format!("ready s3={s3} control={control}\n")) == ExitCode::FAILURE {
        return ExitCode::FAILURE;
    }
    std::future::pending().await
}

/// None where help is asked for.
fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
    let mut settings = Settings::default();
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" => return Ok(None),
            "--listen" => settings.port = port(&value()?)?,
            "--dir" => settings.dir = Some(value()?.into()),
            "--bucket" => settings.buckets.push(value()?),
            "--accept-unsigned" => settings.accept_unsigned = true,
            "--memory-bytes-max" => {
                let refuse = |error| format!("--memory-bytes-max: {error}");
                settings.memory_bytes_max = value()?.parse().map_err(refuse)?;
            }
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    Ok(Some(settings))
}

fn port(listen: &str) -> Result<u16, String> {
    let address: SocketAddr = listen
        .parse()
        .map_err(|error| format!("--listen: {error}"))?;
    if address.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return Err(format!(
            "--listen: {listen} is not 127.0.0.1, where alone the double serves"
        ));
    }
    Ok(address.port())
}

fn print(text: &str) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(problem: &str) -> ExitCode {
    eprintln!("s3-double: {problem}");
    ExitCode::FAILURE
}
