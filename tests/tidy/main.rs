//! Style as a test: the rules of ARCHITECTURE.md and CONTRIBUTING.md that a machine can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the project")
        .to_owned()
}

/// Every source file below a directory, build output left out.
fn sources(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        let mut entries: Vec<_> = fs::read_dir(&directory)
            .expect("a directory of ours")
            .map(|e| e.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    open.push(path);
                }
            } else if name.ends_with(".rs") {
                let relative = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((relative, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

/// Names under `[dependencies]`, `[build-dependencies]` or `[dev-dependencies]` of a manifest.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let table: toml::Table = text.parse().unwrap();
    table
        .get(section)
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn ours(manifest: &str) -> BTreeSet<String> {
    let is_ours = |name: &String| name.starts_with("tidemill");
    dependencies(manifest, "dependencies")
        .into_iter()
        .filter(is_ours)
        .collect()
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("records", [].as_slice()),
        ("storage", &[]),
        ("protocol", &["tidemill-records"]),
        ("log", &["tidemill-records", "tidemill-storage"]),
        ("metadata", &["tidemill-records", "tidemill-storage"]),
        ("client", &["tidemill-protocol", "tidemill-records"]),
        ("transforms", &["tidemill-records"]),
        ("../tiered-store", &["tidemill-records"]),
    ]);
    for (name, allowed) in allowed {
        for found in ours(&format!("broker/{name}/Cargo.toml")) {
            assert!(
                allowed.contains(&&*found),
                "{name} may not depend on {found}"
            );
        }
    }
}

#[test]
fn some_crates_have_one_user() {
    let users = [
        ("openraft", "broker/metadata/Cargo.toml"),
        ("prometheus", "broker/Cargo.toml"),
        ("object_store", "tiered-store/Cargo.toml"),
        ("foyer", "tiered-store/Cargo.toml"),
        ("wasmtime", "broker/transforms/Cargo.toml"),
        ("turmoil", "broker/client/Cargo.toml"),
        ("kafka-protocol", "broker/protocol/Cargo.toml"),
    ];
    for manifest in manifests() {
        for (dependency, user) in users {
            let names = dependencies(&manifest, "dependencies");
            let is_allowed = manifest == user || manifest == "tests/sim/Cargo.toml";
            assert!(
                !names.contains(dependency) || is_allowed,
                "{manifest} uses {dependency}"
            );
        }
    }
    for (path, text) in sources("broker/src") {
        assert!(
            !text.contains("prometheus::")
                || path == "broker/src/metrics.rs"
                || path.starts_with("broker/src/metrics/"),
            "{path}: only metrics.rs uses prometheus"
        );
    }
}

#[test]
fn dependencies_are_declared_once_in_the_workspace() {
    for manifest in manifests() {
        let text = fs::read_to_string(root().join(&manifest)).unwrap();
        let table: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(names) = table.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for (name, value) in names {
                let is_inherited = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(
                    is_inherited,
                    Some(true),
                    "{manifest}: {name} has a version of its own"
                );
            }
        }
    }
}

#[test]
fn handlers_are_called_and_never_call_back() {
    for (path, text) in sources("broker/src") {
        let is_below = path.starts_with("broker/src/group/")
            || path == "broker/src/partition.rs"
            || path == "broker/src/partitions.rs";
        assert!(
            !is_below || !text.contains("crate::api::"),
            "{path}: partitions and coordinators do not know the handlers"
        );
    }
}

#[test]
fn every_handler_says_what_it_does() {
    for (path, text) in sources("broker/src/api") {
        let is_table = path.ends_with("/mod.rs") || path.ends_with("/error.rs");
        let is_test = path.ends_with("tests.rs");
        if is_table || is_test || path.matches('/').count() > 3 {
            continue;
        }
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! ") && first.contains("(key "),
            "{path}: begin with behaviour and key"
        );
        assert!(
            text.contains("//! Version"),
            "{path}: say which versions and what they changed"
        );
    }
}

#[test]
fn files_have_one_subject() {
    // Longer than the bound, each for a reason.
    let allowed = [(
        "broker/protocol/src/error_code.rs",
        "one table: every error code of Kafka",
    )];
    const LINES_MAX: usize = 700;
    for directory in ["broker", "tiered-store", "tests", "wasm-sdk", "functions"] {
        for (path, text) in sources(directory) {
            if path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
            {
                continue;
            }
            let lines = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default()
                .lines()
                .count();
            let is_allowed = allowed.iter().any(|(name, _)| *name == path);
            assert!(
                lines <= LINES_MAX || is_allowed,
                "{path} has {lines} lines: what is its second subject?"
            );
        }
    }
}

#[test]
fn no_file_is_a_drawer() {
    for directory in ["broker", "tiered-store", "tests", "wasm-sdk", "functions"] {
        for (path, _) in sources(directory) {
            for name in ["utils", "util", "common", "helpers", "helper", "misc"] {
                let is_drawer =
                    path.ends_with(&format!("/{name}.rs")) || path.contains(&format!("/{name}/"));
                assert!(!is_drawer, "{path}: name it after its subject");
            }
        }
    }
}

#[test]
fn library_crates_document_what_is_public() {
    for name in [
        "broker/records",
        "broker/protocol",
        "broker/storage",
        "broker/log",
        "broker/metadata",
        "broker/client",
        "broker/transforms",
        "tiered-store",
    ] {
        let text = fs::read_to_string(root().join(format!("{name}/src/lib.rs"))).unwrap();
        assert!(
            text.contains("missing_docs"),
            "{name} does not ask for missing docs"
        );
    }
}

/// Names in backticks in the first column of a table of a document.
fn documented(document: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let first = |line: &str| {
        let cell = line.strip_prefix("| `")?;
        Some(cell.split('`').next()?.to_owned())
    };
    text.lines().filter_map(first).collect()
}

#[test]
fn every_setting_is_documented() {
    let documented = documented("docs/configuration.md");
    let mut names = BTreeSet::new();
    for path in [
        "broker/src/config/settings.rs",
        "broker/src/topic_config.rs",
    ] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        for call in text.split("setting(").skip(1) {
            let Some(rest) = call.trim_start().strip_prefix('"') else {
                continue;
            };
            names.insert(rest.split('"').next().unwrap_or_default().to_owned());
        }
    }
    assert!(names.len() > 60, "the settings were not found: {names:?}");
    let missing: Vec<_> = names.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&names).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing {missing:?}, stale {stale:?}"
    );
}

#[test]
fn every_metric_is_documented() {
    let documented = documented("docs/metrics.md");
    let mut names = BTreeSet::new();
    for (path, text) in sources("broker/src") {
        if !path.starts_with("broker/src/metrics") {
            continue;
        }
        for piece in text.split('"').skip(1).step_by(2) {
            let is_metric = (piece.starts_with("tidemill_") || piece.starts_with("kafka_"))
                && piece
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
            if is_metric {
                names.insert(piece.to_owned());
            }
        }
    }
    assert!(names.len() > 5, "the metrics were not found: {names:?}");
    let missing: Vec<_> = names.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&names).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing {missing:?}, stale {stale:?}"
    );
}

fn manifests() -> Vec<String> {
    let mut manifests = vec![
        "broker/Cargo.toml".to_owned(),
        "tests/Cargo.toml".to_owned(),
        "tests/s3/Cargo.toml".to_owned(),
        "tests/sim/Cargo.toml".to_owned(),
        "tiered-store/Cargo.toml".to_owned(),
    ];
    for name in [
        "records",
        "protocol",
        "storage",
        "log",
        "metadata",
        "client",
        "transforms",
    ] {
        manifests.push(format!("broker/{name}/Cargo.toml"));
    }
    manifests
}
