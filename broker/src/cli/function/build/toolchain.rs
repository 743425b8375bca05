//! What compiles Rust to WebAssembly: the compiler that is there if it has the target, or one that was prepared from
//! Debian's packages, where rustup's downloads are out of reach.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::super::exit::{Failure, command};
use super::super::super::output::note;
use super::{is_there, run_step};

pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// Prepares a toolchain in the directory that it is given.
const PREPARE: &str = include_str!("guest-toolchain.sh");

/// A compiler with the standard library of the target.
#[derive(Debug)]
pub(super) enum Toolchain {
    /// That of the project, or of the machine.
    Own,
    /// That of this directory.
    Prepared(PathBuf),
}

/// Looks for one; with `install`, sees to it that there is one.
pub(super) fn find(project: &Path, install: bool) -> Result<Toolchain, Failure> {
    if own_has_target(project) {
        return Ok(Toolchain::Own);
    }
    let prepared = directory()?;
    if prepared.join("rustc").exists() {
        return Ok(Toolchain::Prepared(prepared));
    }
    if !install {
        return Err(missing());
    }
    if is_there("rustup") {
        note(&format!("rustup target add {TARGET}"))?;
        let mut add = Command::new("rustup");
        add.args(["target", "add", TARGET]).current_dir(project);
        if run_step(&mut add).is_ok() {
            return Ok(Toolchain::Own);
        }
        note("rustup could not; Debian's packages are next")?;
    }
    if !is_there("apt-get") {
        return Err(missing().cause("without apt-get there is no other way than rustup"));
    }
    prepare(&prepared)?;
    Ok(Toolchain::Prepared(prepared))
}

fn missing() -> Failure {
    Failure::new(format!("the Rust compiler has no library for {TARGET}"))
        .next(format!("rustup target add {TARGET}"))
        .next(format!(
            "without rustup, or where its downloads are out of reach: {}",
            command("fn build --install-toolchain")
        ))
}

/// Whether the compiler that cargo would call in the project has the target's library.
fn own_has_target(project: &Path) -> bool {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut asked = Command::new(compiler);
    asked.args(["--print", "target-libdir", "--target", TARGET]);
    asked
        .current_dir(project)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let Ok(answer) = asked.output() else {
        return false;
    };
    let library = String::from_utf8_lossy(&answer.stdout);
    let library = Path::new(library.trim());
    answer.status.success()
        && library
            .read_dir()
            .is_ok_and(|mut files| files.next().is_some())
}

/// Where a prepared toolchain lies.
fn directory() -> Result<PathBuf, Failure> {
    let given = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty());
    let cache = given.map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").filter(|path| !path.is_empty())?;
        Some(Path::new(&home).join(".cache"))
    });
    let cache = cache.ok_or_else(|| {
        Failure::new("there is no place for a toolchain")
            .cause("neither XDG_CACHE_HOME nor HOME is set")
    })?;
    Ok(cache.join("tidemill").join("guest-toolchain"))
}

fn prepare(directory: &Path) -> Result<(), Failure> {
    note(&format!(
        "preparing a compiler from Debian's packages in {}: about 200 MB to download, and a minute or two",
        directory.display()
    ))?;
    let mut bash = Command::new("bash");
    bash.args(["-s", "--"]).arg(directory);
    bash.stdin(Stdio::piped()).stdout(std::io::stderr());
    let cannot = |error| Failure::new("cannot run bash").because(&error);
    let mut child = bash.spawn().map_err(cannot)?;
    if let Some(mut script) = child.stdin.take() {
        script.write_all(PREPARE.as_bytes()).map_err(cannot)?;
    }
    match child.wait().map_err(cannot)?.success() {
        true => Ok(()),
        false => Err(
            Failure::new("no toolchain could be prepared from Debian's packages")
                .cause("what failed stands above")
                .next("apt-get update, and once more")
                .next(format!("or rustup target add {TARGET}")),
        ),
    }
}

impl Toolchain {
    /// What makes cargo use it.
    pub(super) fn variables(&self) -> Vec<(&'static str, OsString)> {
        let Toolchain::Prepared(directory) = self else {
            return Vec::new();
        };
        vec![
            ("RUSTC", directory.join("rustc").into()),
            (
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
                directory.join("linker").into(),
            ),
        ]
    }
}
