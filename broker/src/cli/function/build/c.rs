//! C, with the Makefile of its project, clang and LLVM's linker.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::super::exit::Failure;
use super::{is_there, newest_artifact, run_step};

pub(super) fn build(project: &Path) -> Result<PathBuf, Failure> {
    let tools = ["make", "clang", "wasm-ld"];
    if let Some(missing) = tools.into_iter().find(|name| !is_there(name)) {
        return Err(Failure::new(format!("{missing} is missing"))
            .cause("C becomes WebAssembly with make, clang and LLVM's linker")
            .next("apt-get install make clang lld"));
    }
    run_step(Command::new("make").current_dir(project))?;
    newest_artifact(project)
}
