//! `crash log|meta SEED LIVES`: one chain of lives of a part of the broker on a disk that loses what was not
//! synced. Prints figures; ends with 1 when something acknowledged was lost or recovery went wrong.
#![expect(clippy::print_stdout, reason = "figures are the output")]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tidemill_sim::chain::Report;
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [part, seed, lives] = arguments.as_slice() else {
        bail!("usage: crash log|meta SEED LIVES")
    };
    let (seed, lives) = (
        seed.parse().context("SEED")?,
        lives.parse().context("LIVES")?,
    );
    determinism::begin(seed);
    match part.as_str() {
        "log" => determinism::run_simulated(|| determinism::run_local(logdir::run(seed, lives))),
        "meta" => determinism::run_simulated(|| metadata::run(seed, lives)),
        other => bail!("{other} is neither log nor meta"),
    }
}
