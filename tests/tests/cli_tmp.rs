#[path = "../it/cli.rs"]
mod cli;
