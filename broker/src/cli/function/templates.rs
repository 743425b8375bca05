//! What `fn new` writes: the templates of `functions/templates`, and the SDK that each language needs.

use clap::ValueEnum;

/// A file: its path in the project, and its text.
pub(super) type File = (&'static str, &'static str);

/// Files of a directory of the repository, by their paths in it.
macro_rules! files {
    ($directory:literal: $($path:literal),+ $(,)?) => {
        &[$((
            $path,
            include_str!(concat!("../../../../", $directory, "/", $path)),
        )),+]
    };
}

/// In which a function is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    C,
    #[value(alias = "js")]
    Javascript,
}

/// Stands for the function's name in templates.
pub(super) const NAME: &str = "{{name}}";

const RUST: &[File] = files!("functions/templates/rust":
    ".gitignore",
    "Cargo.toml",
    "README.md",
    "expected.ndjson",
    "fixtures.ndjson",
    "src/lib.rs",
);
const RUST_SDK: &[File] = files!("wasm-sdk":
    "Cargo.toml",
    "src/aligned.rs",
    "src/answer.rs",
    "src/batch.rs",
    "src/config.rs",
    "src/draft.rs",
    "src/export.rs",
    "src/failure.rs",
    "src/guest.rs",
    "src/json/mod.rs",
    "src/json/pointer.rs",
    "src/json/scan.rs",
    "src/json/selection.rs",
    "src/json/tests.rs",
    "src/json/text.rs",
    "src/json/value.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/output.rs",
    "src/sections.rs",
    "src/testing/frame.rs",
    "src/testing/host.rs",
    "src/testing/input.rs",
    "src/testing/mod.rs",
    "src/wire.rs",
);
const C: &[File] = files!("functions/templates/c":
    ".gitignore",
    "Makefile",
    "README.md",
    "expected.ndjson",
    "fixtures.ndjson",
    "function.c",
);
const C_SDK: &[File] = files!("wasm-sdk/c": "tidemill.h");
const JAVASCRIPT: &[File] = files!("functions/templates/javascript":
    ".gitignore",
    "README.md",
    "build.js",
    "expected.ndjson",
    "fixtures.ndjson",
    "function.js",
    "package.json",
);
const JAVASCRIPT_SDK: &[File] = files!("wasm-sdk/js": "tidemill.js");
const WIT: &[File] = files!("wasm-sdk": "tidemill.wit");

impl Language {
    /// The files of a project, as directories below it with what lies in them.
    pub(super) fn project(self) -> &'static [(&'static str, &'static [File])] {
        match self {
            Language::Rust => &[("", RUST), ("tidemill-sdk", RUST_SDK)],
            Language::C => &[("", C), ("", C_SDK)],
            Language::Javascript => &[("", JAVASCRIPT), ("", JAVASCRIPT_SDK), ("", WIT)],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(directory: &Path, found: &mut BTreeSet<PathBuf>, root: &Path) {
        for entry in directory.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match path.is_dir() {
                true if name == "target" || name == "node_modules" => {}
                true => below(&path, found, root),
                false => {
                    found.insert(path.strip_prefix(root).unwrap().to_owned());
                }
            }
        }
    }

    /// A file that somebody adds to a template or to the SDK must not be missing in projects.
    #[test]
    fn nothing_is_left_out() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for (directory, prefix, files) in [
            ("functions/templates/rust", "", RUST),
            ("functions/templates/c", "", C),
            ("functions/templates/javascript", "", JAVASCRIPT),
            ("wasm-sdk/src", "src", RUST_SDK),
        ] {
            let mut found = BTreeSet::new();
            let root = repository.join(directory);
            below(&root, &mut found, &root);
            let listed = files.iter().filter_map(|(path, _)| {
                let path = Path::new(path).strip_prefix(prefix).ok()?;
                Some(path.to_owned())
            });
            assert_eq!(listed.collect::<BTreeSet<_>>(), found, "{directory}");
        }
    }

    #[test]
    fn every_project_has_its_name_and_its_fixtures() {
        for language in [Language::Rust, Language::C, Language::Javascript] {
            let files: Vec<&File> = language
                .project()
                .iter()
                .flat_map(|(_, files)| *files)
                .collect();
            assert!(files.iter().any(|(_, text)| text.contains(NAME)));
            for name in [".gitignore", "fixtures.ndjson", "expected.ndjson"] {
                assert!(files.iter().any(|(path, _)| *path == name), "{language:?}");
            }
        }
    }
}
