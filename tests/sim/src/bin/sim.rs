//! `sim SEED [LIVES] [--lie|--lie-acks]`: a broker and its clients on a simulated machine and network. Prints figures and a hash
//! over everything that happened; ends with 1 when the broker did not keep what it had acknowledged,
//! as it must when the disk lies about syncs.
#![expect(clippy::print_stdout, reason = "figures are the output")]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tidemill_sim::chain::Report;
use tidemill_sim::disk::Lie;
use tidemill_sim::{broker, determinism};

/// Lives of the broker, unless told otherwise.
const LIVES: u64 = 8;

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
    let (seed, lives) = match arguments.as_slice() {
        [seed] => (seed, LIVES),
        [seed, lives] => (seed, lives.parse().context("LIVES")?),
        _ => bail!("usage: sim SEED [LIVES] [--lie|--lie-acks]"),
    };
    let seed = seed.parse().context("SEED")?;
    determinism::begin(seed);
    determinism::run_simulated(|| broker::run(seed, lives, lie))
}
