//! What an artifact must be before anybody compiles it into a deployment.

mod code_size;

use std::error::Error;

use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, ExternType, FuncType, Module, ValType};

/// The largest artifact that is taken.
pub const ARTIFACT_BYTES_MAX: usize = 64 << 20;

/// The module whose imports the host offers to core modules.
pub(crate) const HOST_MODULE: &str = "tidemill";
/// Its one function.
pub(crate) const LOG: &str = "log";
/// The marker of ABI 1.
pub(crate) const ABI_1: &str = "tidemill_abi_1";

/// In which of the two ways an artifact speaks the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A core module.
    CoreModule,
    /// A component.
    Component,
}

/// Why an artifact is no function.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// It does not begin as WebAssembly does.
    #[error("this is no WebAssembly: it begins with {0:02x?}, not with 00 61 73 6d")]
    NotWasm(Vec<u8>),
    /// It is larger than anybody's function.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// WebAssembly of a kind that is neither a module nor a component of today.
    #[error("this is WebAssembly of the unknown version {0:02x?}")]
    UnknownVersion([u8; 4]),
    /// It does not compile.
    #[error("the artifact is not valid")]
    Invalid(#[source] Box<dyn Error + Send + Sync>),
    /// An export of the ABI is missing.
    #[error("the artifact does not export `{name}`, {what}")]
    MissingExport {
        /// Its name.
        name: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// An export is something else than the ABI says.
    #[error("the artifact's export `{name}` is not {what}")]
    WrongExport {
        /// Its name.
        name: &'static str,
        /// What it should be.
        what: &'static str,
    },
    /// It wants something that nobody offers.
    #[error(
        "the artifact imports `{0}`, which tidemill does not offer: a function has no files, sockets, clock or \
         random source"
    )]
    UnknownImport(String),
    /// Its code was compiled by another release, or is damaged.
    #[error("the compiled code cannot be loaded")]
    Compiled(#[source] Box<dyn Error + Send + Sync>),
}

/// What of an artifact is too large to be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The artifact itself.
    #[error("the artifact has {0} bytes; {ARTIFACT_BYTES_MAX} are allowed")]
    Bytes(usize),
    /// The number of its functions.
    #[error("the artifact has more than {0} functions")]
    Functions(u64),
    /// The bytes of its functions.
    #[error("the functions of the artifact have more than {0} bytes together")]
    Code(u64),
    /// What its functions call.
    #[error(
        "the functions of the artifact have calls with more than {0} parameters and results together"
    )]
    Calls(u64),
    /// One of its functions.
    #[error("function {function} has {size}; {bound} are allowed")]
    Function {
        /// Which one; they count from 0, without imports, on from module to module of a component.
        function: u64,
        /// What it has.
        size: String,
        /// What it may have.
        bound: String,
    },
}

/// Tells the carrier by the first eight bytes.
pub fn carrier(artifact: &[u8]) -> Result<Carrier, ArtifactError> {
    if artifact.len() > ARTIFACT_BYTES_MAX {
        return Err(TooLarge::Bytes(artifact.len()).into());
    }
    let Some((b"\0asm", version)) = artifact.split_first_chunk::<4>() else {
        let start = artifact.iter().take(4).copied().collect();
        return Err(ArtifactError::NotWasm(start));
    };
    match version.first_chunk::<4>() {
        Some([1, 0, 0, 0]) => Ok(Carrier::CoreModule),
        Some([_, _, 1, 0]) => Ok(Carrier::Component),
        Some(other) => Err(ArtifactError::UnknownVersion(*other)),
        None => Err(ArtifactError::UnknownVersion([0; 4])),
    }
}

/// Tells the carrier of an artifact that may be compiled: one whose code is not too large for that.
pub(crate) fn compilable(artifact: &[u8]) -> Result<Carrier, ArtifactError> {
    let carrier = carrier(artifact)?;
    code_size::check(artifact)?;
    Ok(carrier)
}

/// Holds a compiled module against ABI.md.
pub(crate) fn check_module(engine: &Engine, module: &Module) -> Result<(), ArtifactError> {
    let log = FuncType::new(engine, [ValType::I32, ValType::I32, ValType::I32], []);
    for import in module.imports() {
        let is_log = import.module() == HOST_MODULE
            && import.name() == LOG
            && matches!(import.ty(), ExternType::Func(found) if FuncType::eq(&found, &log));
        if !is_log {
            let name = format!("{}.{}", import.module(), import.name());
            return Err(ArtifactError::UnknownImport(name));
        }
    }
    let (i32_, i64_) = (ValType::I32, ValType::I64);
    let memory = module.get_export("memory");
    match memory.ok_or(missing("memory", "its 32-bit memory"))? {
        ExternType::Memory(memory) if !memory.is_64() && !memory.is_shared() => {}
        _ => return Err(wrong("memory", "a 32-bit memory")),
    }
    let func = |name, what, parameters: &[ValType], results: &[ValType]| {
        let wanted = FuncType::new(engine, parameters.to_vec(), results.to_vec());
        match module.get_export(name) {
            None => Err(missing(name, what)),
            Some(ExternType::Func(found)) if FuncType::eq(&found, &wanted) => Ok(()),
            Some(_) => Err(wrong(name, what)),
        }
    };
    func(ABI_1, "the marker of ABI 1, a function () -> ()", &[], &[])?;
    let call = "a function (i32) -> i64";
    func(
        "buf",
        "a function (i32) -> i32",
        std::slice::from_ref(&i32_),
        std::slice::from_ref(&i32_),
    )?;
    func(
        "init",
        call,
        std::slice::from_ref(&i32_),
        std::slice::from_ref(&i64_),
    )?;
    func("process", call, &[i32_], &[i64_])
}

/// Holds a compiled component against the world of tidemill.wit: what it imports and exports by name. Types are checked when it is
/// linked.
pub(crate) fn check_component(
    engine: &Engine,
    component: &wasmtime::component::Component,
) -> Result<(), ArtifactError> {
    let ty = component.component_type();
    for (name, _) in ty.imports(engine) {
        if name != LOG {
            return Err(ArtifactError::UnknownImport(name.to_owned()));
        }
    }
    for (name, what) in [
        ("init", "a function (list<u8>) -> result<u32, fault>"),
        (
            "process",
            "a function (list<u8>) -> result<list<u8>, fault>",
        ),
    ] {
        let export = ty.exports(engine).find(|(found, _)| *found == name);
        let (_, export) = export.ok_or(missing(name, what))?;
        if !matches!(export.ty, ComponentItem::ComponentFunc(_)) {
            return Err(wrong(name, what));
        }
    }
    Ok(())
}

fn missing(name: &'static str, what: &'static str) -> ArtifactError {
    ArtifactError::MissingExport { name, what }
}

pub(crate) fn wrong(name: &'static str, what: &'static str) -> ArtifactError {
    ArtifactError::WrongExport { name, what }
}
