//! JavaScript, with the build script that the project itself names.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::super::exit::Failure;
use super::{is_there, newest_artifact, run_step};

pub(super) fn build(project: &Path) -> Result<PathBuf, Failure> {
    if let Some(missing) = ["node", "npm"].into_iter().find(|name| !is_there(name)) {
        return Err(Failure::new(format!("{missing} is missing"))
            .cause(
                "the engine that runs JavaScript is put into the artifact by a package for Node.js",
            )
            .next("apt-get install nodejs npm, or https://nodejs.org"));
    }
    if !project.join("node_modules").is_dir() {
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund"]);
        run_step(install.current_dir(project))?;
    }
    run_step(
        Command::new("npm")
            .args(["run", "build"])
            .current_dir(project),
    )?;
    newest_artifact(project)
}
