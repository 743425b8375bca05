//! Rust, with cargo and one of the toolchains of `toolchain.rs`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::super::super::exit::Failure;
use super::toolchain::{self, TARGET};
use super::version;

/// What cargo says of something that it has built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

pub(super) fn build(project: &Path, install: bool) -> Result<PathBuf, Failure> {
    version("cargo").map_err(|said| match said {
        None => Failure::new("cargo is missing")
            .cause("Rust is built with it")
            .next("install Rust: https://rustup.rs, or apt-get install cargo"),
        Some(said) => Failure::new("cargo does not run").cause(said),
    })?;
    let toolchain = toolchain::find(project, install)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--target", TARGET]);
    cargo.arg("--message-format=json-render-diagnostics");
    cargo.envs(toolchain.variables());
    cargo
        .current_dir(project)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let cannot = |error| Failure::new("cannot run cargo").because(&error);
    let mut child = cargo.spawn().map_err(cannot)?;
    let mut artifact = None;
    if let Some(said) = child.stdout.take() {
        for line in BufReader::new(said).lines() {
            // The project's own artifact comes last, behind those of what it depends on.
            artifact = artifact_of(&line.map_err(cannot)?).or(artifact);
        }
    }
    let status = child.wait().map_err(cannot)?;
    if !status.success() {
        return Err(Failure::new("cargo failed")
            .cause(format!("it ended with {status}; what it says stands above")));
    }
    artifact.ok_or_else(|| {
        Failure::new("the project builds no .wasm file")
            .cause("a function is a library of the type cdylib")
            .next("add to Cargo.toml: [lib] with crate-type = [\"cdylib\"]")
    })
}

/// The .wasm file that a line of cargo's tells of.
fn artifact_of(line: &str) -> Option<PathBuf> {
    let message: Message = serde_json::from_str(line).ok()?;
    let is_wasm = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| extension == "wasm")
    };
    let mut files = message.filenames.into_iter();
    files
        .find(is_wasm)
        .filter(|_| message.reason == "compiler-artifact")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tells_where_the_artifact_is() {
        let line =
            r#"{"reason":"compiler-artifact","filenames":["/t/f.d","/t/f.wasm"],"fresh":true}"#;
        assert_eq!(artifact_of(line), Some("/t/f.wasm".into()));
        for line in [
            r#"{"reason":"build-finished","success":true}"#,
            r#"{"reason":"compiler-artifact","filenames":["/t/libf.rlib"]}"#,
            "not JSON",
        ] {
            assert_eq!(artifact_of(line), None, "{line}");
        }
    }
}
