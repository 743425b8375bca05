//! Generates the messages from `schema/`: one module for each API (`schema/NNN_name.schema`), one for
//! each folder or file of record layouts (`schema/records/`), and the table of all APIs.
//!
//! The generated files lie in `OUT_DIR`, are meant to be read, and are:
//! `messages.rs` (modules and table), `MODULE.rs` for each module, and `arbitrary.rs`, which only the
//! tests include, as they do `everything.rs` (`src/everything`).

#[path = "build/emit.rs"]
mod emit;
#[path = "build/emit_arbitrary.rs"]
mod emit_arbitrary;
#[path = "build/emit_read.rs"]
mod emit_read;
#[path = "build/emit_table.rs"]
mod emit_table;
#[path = "build/emit_write.rs"]
mod emit_write;
#[path = "build/parse.rs"]
mod parse;
#[path = "build/resolve.rs"]
mod resolve;
#[path = "build/schema.rs"]
mod schema;

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use schema::{Kind, Module};

fn main() {
    println!("cargo::rerun-if-changed=schema");
    println!("cargo::rerun-if-changed=src/everything/everything.schema");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=build.rs");
    if let Err(error) = generate() {
        // One line `file:line: what is wrong` is all that the author of a schema needs.
        println!("cargo::error={error}");
        process::exit(1);
    }
}

fn generate() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let modules = read_modules(Path::new("schema"))?;
    for module in &modules {
        write(
            &out.join(format!("{}.rs", module.name)),
            &emit::module(module),
        )?;
    }
    let everything = Path::new("src/everything/everything.schema");
    let everything = record_module(everything, vec![everything.to_owned()])?;
    write(&out.join("everything.rs"), &emit::module(&everything))?;
    write(&out.join("messages.rs"), &emit_table::messages(&modules))?;
    write(
        &out.join("arbitrary.rs"),
        &emit_arbitrary::arbitrary(&modules),
    )
}

/// Reads the whole schema folder; APIs come first, by key, and then the record layouts, by name.
fn read_modules(root: &Path) -> Result<Vec<Module>, String> {
    let mut modules = Vec::new();
    for path in list(root)? {
        if is_schema(&path) {
            modules.push(api_module(&path)?);
        }
    }
    modules.sort_by_key(Module::api_key);
    for pair in modules.windows(2) {
        if pair[0].api_key() == pair[1].api_key() {
            return Err(format!(
                "{} and {} have the same API key",
                pair[0].name, pair[1].name
            ));
        }
    }
    for path in list(&root.join("records"))? {
        if path.is_dir() {
            let files = list(&path)?
                .into_iter()
                .filter(|file| is_schema(file))
                .collect();
            modules.push(record_module(&path, files)?);
        } else if is_schema(&path) {
            modules.push(record_module(&path, vec![path.clone()])?);
        }
    }
    Ok(modules)
}

fn api_module(path: &Path) -> Result<Module, String> {
    let schema = resolve::resolve(path, parse::parse(path, &read(path)?)?)?;
    let Kind::Api { name, key } = &schema.kind else {
        return Err(format!(
            "{}: record layouts belong into schema/records",
            path.display()
        ));
    };
    let name = emit::snake_case(name);
    let expected = format!("{key:03}_{name}");
    if path
        .file_stem()
        .is_none_or(|stem| stem != expected.as_str())
    {
        return Err(format!(
            "{}: should be called {expected}.schema",
            path.display()
        ));
    }
    Ok(Module {
        name,
        schemas: vec![schema],
    })
}

fn record_module(path: &Path, files: Vec<PathBuf>) -> Result<Module, String> {
    let stem = path.file_stem().expect("a listed file has a name");
    let mut module = Module {
        name: stem.to_string_lossy().into_owned(),
        schemas: Vec::new(),
    };
    for file in files {
        let schema = resolve::resolve(&file, parse::parse(&file, &read(&file)?)?)?;
        if let Kind::Api { .. } = schema.kind {
            return Err(format!(
                "{}: APIs belong into schema/ itself",
                file.display()
            ));
        }
        module.schemas.push(schema);
    }
    module.check_names_unique()?;
    Ok(module)
}

fn is_schema(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "schema")
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a build script runs before there are seams"
)]
fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
