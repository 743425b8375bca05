//! A compiled function, linked to what the host offers.

use wasmtime::component::{Component, ComponentExportIndex};
use wasmtime::{Caller, Engine, Module, StoreContextMut};

use crate::artifact::{ArtifactError, HOST_MODULE, LOG, check_component, check_module, wrong};
use crate::instance::{State, component_log};

/// The ABI's optional export that says which record is being worked on.
pub(crate) const PROGRESS: &str = "tidemill_progress";

/// A compiled function; instances of it are made by a [`crate::Runner`].
pub struct Function(pub(crate) Linked);

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Linked::Module { .. } => "Function(module)",
            Linked::Component { .. } => "Function(component)",
        })
    }
}

pub(crate) enum Linked {
    Module {
        pre: wasmtime::InstancePre<State>,
        has_progress: bool,
    },
    Component {
        pre: wasmtime::component::InstancePre<State>,
        init: ComponentExportIndex,
        process: ComponentExportIndex,
    },
}

/// What the host offers to each carrier.
pub(crate) struct Linkers {
    module: wasmtime::Linker<State>,
    component: wasmtime::component::Linker<State>,
}

impl Linkers {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut module = wasmtime::Linker::new(engine);
        module.func_wrap(
            HOST_MODULE,
            LOG,
            |mut caller: Caller<'_, State>, level: i32, address: i32, length: i32| {
                let memory = caller
                    .get_export("memory")
                    .and_then(|memory| memory.into_memory());
                let memory = memory.ok_or(wasmtime::Trap::MemoryOutOfBounds)?;
                let (data, state) = memory.data_and_store_mut(&mut caller);
                let start = address as u32 as usize;
                let text = data
                    .get(start..)
                    .and_then(|rest| rest.get(..length as u32 as usize));
                state.log(level as u32, text.ok_or(wasmtime::Trap::MemoryOutOfBounds)?);
                Ok::<_, wasmtime::Error>(())
            },
        )?;
        let mut component = wasmtime::component::Linker::new(engine);
        component
            .root()
            .func_wrap(LOG, |store: StoreContextMut<'_, State>, arguments| {
                component_log(store, arguments)
            })?;
        Ok(Self { module, component })
    }

    pub(crate) fn module(&self, module: &Module) -> Result<Function, ArtifactError> {
        check_module(module.engine(), module)?;
        let pre = self.module.instantiate_pre(module).map_err(invalid)?;
        let has_progress = matches!(
            module.get_export(PROGRESS),
            Some(wasmtime::ExternType::Global(global)) if global.content().is_i32()
        );
        Ok(Function(Linked::Module { pre, has_progress }))
    }

    pub(crate) fn component(
        &self,
        engine: &Engine,
        component: &Component,
    ) -> Result<Function, ArtifactError> {
        check_component(engine, component)?;
        let pre = self.component.instantiate_pre(component).map_err(invalid)?;
        let index = |name: &'static str| component.get_export_index(None, name);
        let init = index("init").ok_or(wrong("init", "a function"))?;
        let process = index("process").ok_or(wrong("process", "a function"))?;
        Ok(Function(Linked::Component { pre, init, process }))
    }
}

pub(crate) fn invalid(error: wasmtime::Error) -> ArtifactError {
    ArtifactError::Invalid(error.into())
}
