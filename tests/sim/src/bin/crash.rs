//! `crash log|meta SEED LIVES [--lie|--lie-acks] [--cuts] [--unlogged]`: one chain of lives of a part of the
//! broker on a disk that loses what was not synced. Prints figures; ends with 1 when something acknowledged was
//! lost or recovery went wrong, as it must when the disk lies about syncs. With `--cuts` logs are cut at their
//! end too, with `--unlogged` some skip the write-ahead log.
#![expect(clippy::print_stdout, reason = "figures are the output")]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tidemill_sim::chain::Report;
use tidemill_sim::disk::Lie;
use tidemill_sim::{determinism, logdir, metadata};

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAIL {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Report> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let lie = Lie::take(&mut arguments);
    let scope = logdir::Scope::take(&mut arguments);
    let [part, seed, lives] = arguments.as_slice() else {
        bail!("usage: crash log|meta SEED LIVES [--lie|--lie-acks] [--cuts] [--unlogged]")
    };
    let (seed, lives) = (
        seed.parse().context("SEED")?,
        lives.parse().context("LIVES")?,
    );
    determinism::begin(seed);
    match part.as_str() {
        "log" => determinism::run_simulated(|| {
            determinism::run_local(logdir::run(seed, lives, scope, lie))
        }),
        "meta" => determinism::run_simulated(|| metadata::run(seed, lives, lie)),
        other => bail!("{other} is neither log nor meta"),
    }
}
