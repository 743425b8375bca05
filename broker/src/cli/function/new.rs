//! `tidemill fn new`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::exit::{Failure, command};
use super::super::output::{OutputArgs, counted, note};
use super::templates::{Language, NAME};

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Its name, and that of the directory.
    #[arg(value_parser = name)]
    name: String,
    /// In which it is written.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Language,
}

/// What was written.
#[derive(Debug, Serialize)]
struct Written {
    directory: PathBuf,
    files: Vec<PathBuf>,
}

/// A name that Cargo, npm and make take, and a topic could have.
fn name(text: &str) -> Result<String, String> {
    const LETTERS_MAX: usize = 64;
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    // Its own copy of the SDK is a package of that name.
    if text == "tidemill-sdk" {
        return Err("it is the name of the SDK".to_owned());
    }
    let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
    match begins && text.len() <= LETTERS_MAX && text.chars().all(is_allowed) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "write a small letter and then small letters, digits, - and _, at most {LETTERS_MAX}"
        )),
    }
}

pub(super) fn run(args: &NewArgs, output: OutputArgs) -> Result<(), Failure> {
    let directory = PathBuf::from(&args.name);
    // Fails where there is anything of this name, so nothing is written over.
    std::fs::create_dir(&directory).map_err(|error| {
        let failure = Failure::new(format!("cannot make the directory {}", args.name));
        match error.kind() {
            io::ErrorKind::AlreadyExists => failure
                .cause("there is something of this name, and it stays as it is")
                .next("choose another name, or another directory to be in"),
            _ => failure.because(&error),
        }
    })?;
    let mut files = Vec::new();
    for (below, templates) in args.lang.project() {
        for (path, text) in *templates {
            let path = directory.join(below).join(path);
            write(&path, &text.replace(NAME, &args.name)).map_err(|error| {
                Failure::new(format!("cannot write {}", path.display())).because(&error)
            })?;
            files.push(path);
        }
    }
    let written = Written { directory, files };
    output.print(&written, |written| {
        let files = counted(written.files.len() as u64, "file");
        format!("{}: {files}\n", written.directory.display())
    })?;
    let name = &args.name;
    note(&format!("next:  {}", command(&format!("fn test {name}"))))?;
    let deploy = format!("fn deploy {name} --artifact FILE --source TOPIC --sink TOPIC");
    note(&format!(
        "next:  {} says the FILE",
        command(&format!("fn build {name}"))
    ))?;
    Ok(note(&format!("next:  {}", command(&deploy)))?)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a person's project is not the broker's data"
)]
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_for_every_tool() {
        for good in ["delays", "a", "late-flights_2"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "Delays",
            "2x",
            "../x",
            "a/b",
            "a b",
            "-x",
            "é",
            "tidemill-sdk",
            &"x".repeat(65),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
