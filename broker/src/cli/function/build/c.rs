//! C, with clang and LLVM's linker.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::super::exit::Failure;
use super::{files, is_there, newest_artifact, run_step};

/// As the header's first page says.
const FLAGS: [&str; 8] = [
    "--target=wasm32",
    "-mbulk-memory",
    "-O2",
    "-ffreestanding",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-all",
    "-Wl,--export=tidemill_progress",
];

pub(super) fn build(project: &Path) -> Result<PathBuf, Failure> {
    if let Some(missing) = ["clang", "wasm-ld"]
        .into_iter()
        .find(|name| !is_there(name))
    {
        return Err(Failure::new(format!("{missing} is missing"))
            .cause("C becomes WebAssembly with clang and LLVM's linker")
            .next("apt-get install clang lld"));
    }
    if project.join("Makefile").is_file() {
        if !is_there("make") {
            return Err(Failure::new("make is missing")
                .cause("the project has a Makefile")
                .next("apt-get install make"));
        }
        run_step(Command::new("make").current_dir(project))?;
        return newest_artifact(project);
    }
    let output = project.join("build");
    std::fs::create_dir_all(&output)?;
    let artifact = output.join("function.wasm");
    run_step(
        Command::new("clang")
            .args(FLAGS)
            .arg("-o")
            .arg(&artifact)
            .args(files(project, "c")?)
            .current_dir(project),
    )?;
    Ok(artifact)
}
