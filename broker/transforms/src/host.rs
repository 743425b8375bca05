//! The engine that compiles and runs functions.

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::{Config, Engine, Module};

use crate::artifact::{self, ArtifactError, Carrier};
use crate::function::{Function, Linkers, invalid};
use crate::instances::Instances;
use crate::workers::Workers;

/// Stack of a guest.
const STACK_BYTES: usize = 1 << 20;

/// Compiles functions, and runs them on threads of its own.
pub struct Host {
    engine: Engine,
    linkers: Linkers,
    workers: Arc<Workers>,
    instances: Arc<Instances>,
}

/// Compiled code of either carrier.
enum Code {
    Module(Module),
    Component(Component),
}

/// The engine cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
#[error("WebAssembly cannot run on this machine")]
pub struct HostError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Host {
    /// A host that keeps at most `instances_max` instances alive. The caller runs [`Workers::work`] on as many threads as functions may
    /// have, and [`Workers::tick`] on one.
    pub fn new(instances_max: usize) -> Result<Self, HostError> {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES)
            // The host's own frames stand on it too.
            .async_stack_size(2 * STACK_BYTES)
            .wasm_memory64(false)
            .relaxed_simd_deterministic(true)
            .memory_init_cow(true);
        let engine = Engine::new(&config).map_err(|error| HostError(error.into()))?;
        let linkers = Linkers::new(&engine).map_err(|error| HostError(error.into()))?;
        let workers = Workers::new(engine.clone());
        Ok(Self {
            engine,
            linkers,
            workers,
            instances: Instances::new(instances_max),
        })
    }

    /// The threads' side.
    pub fn workers(&self) -> &Arc<Workers> {
        &self.workers
    }

    /// The instances that are alive.
    pub fn instances(&self) -> &Arc<Instances> {
        &self.instances
    }

    /// Compiles an artifact (seconds of processor time for large ones) and holds it against the ABI. The result can be kept in a file and
    /// loaded with [`Host::load`] by a host with the same [`Host::compatibility`].
    pub fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, ArtifactError> {
        let code = self.code(bytes)?;
        self.link(&code)?;
        let serialized = match &code {
            Code::Module(module) => module.serialize(),
            Code::Component(component) => component.serialize(),
        };
        serialized.map_err(invalid)
    }

    /// Loads what [`Host::compile`] gave.
    ///
    /// # Safety
    /// The bytes of the file must be those that `compile` gave, and must not change while the function lives: they are machine code.
    pub unsafe fn load(
        &self,
        carrier: Carrier,
        path: &Path,
    ) -> Result<Arc<Function>, ArtifactError> {
        let code = match carrier {
            // SAFETY: the caller's promise.
            Carrier::CoreModule => {
                unsafe { Module::deserialize_file(&self.engine, path) }.map(Code::Module)
            }
            // SAFETY: the caller's promise.
            Carrier::Component => {
                unsafe { Component::deserialize_file(&self.engine, path) }.map(Code::Component)
            }
        };
        self.link(&code.map_err(|error| ArtifactError::Compiled(error.into()))?)
    }

    /// Compiles an artifact for use in this process alone.
    pub fn compile_here(&self, bytes: &[u8]) -> Result<Arc<Function>, ArtifactError> {
        self.link(&self.code(bytes)?)
    }

    fn code(&self, bytes: &[u8]) -> Result<Code, ArtifactError> {
        let code = match artifact::compilable(bytes)? {
            Carrier::CoreModule => Module::new(&self.engine, bytes).map(Code::Module),
            Carrier::Component => Component::new(&self.engine, bytes).map(Code::Component),
        };
        code.map_err(invalid)
    }

    fn link(&self, code: &Code) -> Result<Arc<Function>, ArtifactError> {
        let function = match code {
            Code::Module(module) => self.linkers.module(module),
            Code::Component(component) => self.linkers.component(&self.engine, component),
        };
        function.map(Arc::new)
    }

    /// Changes with whatever makes compiled code of one host useless to another: release, settings, processor.
    pub fn compatibility(&self) -> u64 {
        // Fixed keys: the same on each start.
        let mut hasher = std::hash::DefaultHasher::new();
        self.engine
            .precompile_compatibility_hash()
            .hash(&mut hasher);
        hasher.finish()
    }
}
