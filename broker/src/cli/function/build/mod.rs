//! `tidemill fn build`: from the sources of a function to an artifact that brokers take.

mod c;
mod javascript;
mod rust;
mod toolchain;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde::Serialize;

use super::super::exit::{Failure, command};
use super::super::output::{OutputArgs, human_bytes, note, printable};
use super::artifact::{self, carrier_name, from_here};

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The project.
    #[arg(default_value = ".", value_name = "DIR")]
    directory: PathBuf,
    /// For Rust: fetch what builds WebAssembly, if it is not there. With rustup, or else, on Debian, from its packages,
    /// into ~/.cache/tidemill.
    #[arg(long)]
    install_toolchain: bool,
}

/// What was built.
#[derive(Debug, Serialize)]
struct Built {
    artifact: PathBuf,
    size_bytes: usize,
    carrier: &'static str,
}

/// What a function is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    JavaScript,
    C,
}

pub(super) fn run(args: &BuildArgs, output: OutputArgs) -> Result<(), Failure> {
    let artifact = build(&args.directory, args.install_toolchain)?;
    let bytes = artifact::read(&artifact)?;
    let carrier = artifact::check(&artifact, &bytes)?;
    let built = Built {
        artifact,
        size_bytes: bytes.len(),
        carrier: carrier_name(carrier),
    };
    output.print(&built, |built| {
        let size = human_bytes(built.size_bytes as u64);
        format!("{}  {size}  {}\n", built.artifact.display(), built.carrier)
    })?;
    let artifact = built.artifact.display();
    for next in [
        format!("fn test --artifact {artifact} --from-topic TOPIC"),
        format!("fn deploy NAME --artifact {artifact} --source TOPIC --sink TOPIC"),
    ] {
        note(&format!("next:  {}", command(&next)))?;
    }
    Ok(())
}

/// Builds the project of a directory, and says where its artifact is.
pub(super) fn build(directory: &Path, install_toolchain: bool) -> Result<PathBuf, Failure> {
    let project = directory.canonicalize().map_err(|error| {
        Failure::new(format!("cannot look into {}", directory.display()))
            .because(&error)
            .next(command("fn new NAME"))
    })?;
    let artifact = match language(&project)? {
        Language::Rust => rust::build(&project, install_toolchain)?,
        Language::JavaScript => javascript::build(&project)?,
        Language::C => c::build(&project)?,
    };
    Ok(from_here(artifact))
}

/// As `fn new` makes projects: what builds one stands beside the SDK of its language. Anything else may be no function,
/// and nothing of it is run.
fn language(directory: &Path) -> Result<Language, Failure> {
    let has = |name: &str| directory.join(name).is_file();
    if manifest(directory)?.contains("tidemill-sdk") {
        return Ok(Language::Rust);
    }
    if has("package.json") && has("tidemill.js") {
        return Ok(Language::JavaScript);
    }
    if has("Makefile") && has("tidemill.h") {
        return Ok(Language::C);
    }
    Err(Failure::new(format!(
        "{} is no project of a function",
        directory.display()
    ))
    .cause(
        "a project has a Cargo.toml that names tidemill-sdk, a package.json beside tidemill.js, \
         or a Makefile beside tidemill.h",
    )
    .next(command("fn new NAME"))
    .next("or build it yourself, and give the .wasm file with --artifact"))
}

/// What Cargo.toml says; nothing where there is none.
fn manifest(directory: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(directory.join("Cargo.toml")) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::new("cannot read Cargo.toml").because(&error)),
    }
}

/// The files of a directory whose names end so, sorted.
fn files(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The artifact that a project's own build has left: the newest, should there be several.
fn newest_artifact(project: &Path) -> Result<PathBuf, Failure> {
    let mut found = Vec::new();
    for directory in [
        project.to_owned(),
        project.join("build"),
        project.join("dist"),
    ] {
        if directory.is_dir() {
            found.extend(files(&directory, "wasm")?);
        }
    }
    let changed = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).ok();
    found.into_iter().max_by_key(changed).ok_or_else(|| {
        Failure::new("the build left no .wasm file")
            .cause("it is looked for in the project and in its directories build and dist")
    })
}

/// Whether a program can be started.
fn is_there(program: &str) -> bool {
    version(program).is_ok()
}

/// Asks a program for its version; what it says instead, or none where it is not there.
fn version(program: &str) -> Result<(), Option<String>> {
    let asked = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(answer) if answer.status.success() => Ok(()),
        Ok(answer) => Err(Some(printable(
            String::from_utf8_lossy(&answer.stderr).trim(),
        ))),
        Err(_) => Err(None),
    }
}

/// Runs a step of a build; what it says is chatter.
fn run_step(step: &mut Command) -> Result<(), Failure> {
    step.stdin(Stdio::null()).stdout(io::stderr());
    let program = step.get_program().to_string_lossy().into_owned();
    let status = step
        .status()
        .map_err(|error| Failure::new(format!("cannot start {program}")).because(&error))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("{program} failed"))
            .cause(format!("it ended with {status}; what it says stands above"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "files of a test")]
    fn a_language_is_known_by_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            std::fs::write(directory.path().join(file), text).unwrap();
        };
        // What builds other programs, too.
        for file in ["function.c", "Makefile", "package.json", "Cargo.toml"] {
            let failure = language(directory.path()).unwrap_err();
            assert!(failure.mentions("no project") && failure.proposes("fn new"));
            write(file, "");
        }
        for (file, text, expected) in [
            ("tidemill.h", "", Language::C),
            ("tidemill.js", "", Language::JavaScript),
            ("Cargo.toml", "tidemill-sdk = {}", Language::Rust),
        ] {
            write(file, text);
            assert_eq!(language(directory.path()).unwrap(), expected);
        }
    }
}
