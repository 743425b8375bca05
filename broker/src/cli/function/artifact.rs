//! Artifacts: where a command takes one from, and whether a broker would.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidemill_transforms::{ARTIFACT_BYTES_MAX, ArtifactError, Carrier, Host, carrier};

use super::super::exit::{Failure, command};
use crate::config::nearest;
use crate::transform::stock;

/// A file of WebAssembly, or stdin for `-`. What is in it, nobody looks at yet.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    if path.is_dir() {
        let build = command(&format!("fn build {}", path.display()));
        return Err(
            Failure::new(format!("{} is a directory, no artifact", path.display()))
                .next(format!("build it first: {build}")),
        );
    }
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that it is too large, and no more has to be read of it.
    let bytes_max = ARTIFACT_BYTES_MAX as u64 + 1;
    let source = open(path).and_then(|source| source.take(bytes_max).read_to_end(&mut bytes));
    match source {
        Ok(_) if bytes.len() > ARTIFACT_BYTES_MAX => {
            let mib = ARTIFACT_BYTES_MAX >> 20;
            Err(Failure::new(format!(
                "{} is larger than the {mib} MiB that a function may have",
                path.display()
            )))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::new(format!("cannot read {}", path.display()))
            .because(&error)
            .next(format!(
                "{} says where the artifact of a project is",
                command("fn build DIR")
            ))),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "a file that a person names is not the broker's data"
)]
fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    Ok(match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(std::fs::File::open(path)?),
    })
}

/// A function of this release.
pub(super) fn of_stock(id: &str) -> Result<&'static [u8], Failure> {
    let found = stock().iter().find(|function| function.id == id);
    found.map(|function| function.wasm).ok_or_else(|| {
        let failure = Failure::new(format!("no stock function is called {id:?}"));
        match nearest(id, stock().iter().map(|function| function.id)) {
            Some(meant) => failure.next(format!("did you mean {meant}?")),
            None => failure.next(command("fn list --stock")),
        }
    })
}

/// What a broker would find out about an artifact before it takes it.
pub(super) fn check(path: &Path, bytes: &[u8]) -> Result<Carrier, Failure> {
    let host = Host::new(1).map_err(|error| Failure::new(error.to_string()).because(&error))?;
    host.compile_here(bytes)
        .and_then(|_| carrier(bytes))
        .map_err(|error| refused(path, &error))
}

/// No broker takes it.
pub(super) fn refused(path: &Path, error: &ArtifactError) -> Failure {
    let failure = Failure::new(format!("{} is no function", path.display())).because(error);
    match error {
        ArtifactError::NotWasm(_) | ArtifactError::UnknownVersion(_) => failure.next(format!(
            "give the .wasm file that {} prints",
            command("fn build DIR")
        )),
        ArtifactError::UnknownImport(_) => {
            failure.next("leave out what needs it, or build for a target without WASI, as the projects of `fn new` do")
        }
        ArtifactError::MissingExport { .. } | ArtifactError::WrongExport { .. } => {
            failure.next("export it with the SDK of your language; wasm-sdk/ABI.md has the whole list")
        }
        ArtifactError::TooLarge(_) | ArtifactError::Invalid(_) | ArtifactError::Compiled(_) => {
            failure
        }
    }
}

/// The name of a carrier, as the HTTP interface says it.
pub(super) fn carrier_name(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::CoreModule => "module",
        Carrier::Component => "component",
    }
}

/// A path as seen from here, where that is shorter.
pub(super) fn from_here(path: PathBuf) -> PathBuf {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    below
        .filter(|below| !below.as_os_str().is_empty())
        .unwrap_or(path)
}
