//! How much code an artifact may have, so that compiling it takes about 1 GiB of memory at most.
//!
//! What the compiler takes is not in proportion to an artifact's bytes: it may keep each local once more at each place where paths meet,
//! and may work for minutes on 16 KB of loops in loops. What is malformed is left to the compiler, and so is everything but size.

use wasmparser::{
    BinaryReaderError, BlockType, CompositeInnerType, FunctionBody, Operator, Parser, Payload,
    TypeRef,
};

use super::TooLarge;

/// Functions of all core modules of an artifact together. An empty one takes 6 KB to compile.
const FUNCTIONS_MAX: u64 = 50_000;
/// Bytes of one function's body.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Bytes of all bodies together.
const CODE_BYTES_MAX: u64 = 32 << 20;
/// Parameters and locals of one function.
const LOCALS_MAX: u64 = 10_000;
/// Locals of a function times its branches.
const LOCALS_AT_BRANCHES_MAX: u64 = 5_000_000;
/// Locals of a function times its loops, where each loop counts once more for each loop around it.
const LOCALS_IN_LOOPS_MAX: u64 = 1_000_000;
/// Calls of one function, and blocks that have a type, each with its parameters and results.
const VALUES_MAX: u64 = 200_000;
/// The same of all functions together: 200 bytes for each stay until the artifact is compiled.
const ALL_VALUES_MAX: u64 = 2_000_000;

/// Walks the functions of an artifact.
pub(super) fn check(artifact: &[u8]) -> Result<(), TooLarge> {
    match Walk::default().all(artifact) {
        Err(Stopped::TooLarge(found)) => Err(found),
        Ok(()) | Err(Stopped::Malformed) => Ok(()),
    }
}

enum Stopped {
    Malformed,
    TooLarge(TooLarge),
}

impl From<BinaryReaderError> for Stopped {
    fn from(_: BinaryReaderError) -> Self {
        Self::Malformed
    }
}

/// What a module has said before its code.
#[derive(Default)]
struct Module {
    /// Parameters, and parameters with results, of each type; none for what is no function.
    types: Vec<(u64, u64)>,
    /// The type of each function, imports first.
    functions: Vec<u32>,
    /// Imported functions, and those whose bodies have passed.
    passed: usize,
}

impl Module {
    fn values(&self, ty: u32) -> (u64, u64) {
        self.types.get(ty as usize).copied().unwrap_or_default()
    }

    fn of_function(&self, function: usize) -> (u64, u64) {
        let ty = self.functions.get(function);
        ty.map_or((0, 0), |ty| self.values(*ty))
    }
}

/// What has been seen of an artifact.
#[derive(Default)]
struct Walk {
    functions: u64,
    code_bytes: u64,
    values: u64,
}

impl Walk {
    fn all(&mut self, artifact: &[u8]) -> Result<(), Stopped> {
        // A core module has no modules in itself, so that the sections of one are never between those of another.
        let mut module = Module::default();
        for payload in Parser::new(0).parse_all(artifact) {
            match payload? {
                Payload::Version { .. } => module = Module::default(),
                Payload::TypeSection(groups) => {
                    for group in groups {
                        for ty in group?.types() {
                            let CompositeInnerType::Func(ty) = &ty.composite_type.inner else {
                                module.types.push((0, 0));
                                continue;
                            };
                            let parameters = ty.params().len() as u64;
                            let values = parameters + ty.results().len() as u64;
                            module.types.push((parameters, values));
                        }
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import?.ty {
                            module.functions.push(ty);
                        }
                    }
                    module.passed = module.functions.len();
                }
                Payload::FunctionSection(types) => {
                    for ty in types {
                        module.functions.push(ty?);
                    }
                }
                // Each makes a function that the host compiles.
                Payload::ComponentCanonicalSection(functions) => {
                    self.count(u64::from(functions.count()))?;
                }
                Payload::CodeSectionEntry(body) => {
                    // Others may still be compiled where one is malformed.
                    match self.body(&module, &body) {
                        Ok(()) | Err(Stopped::Malformed) => module.passed += 1,
                        too_large => return too_large,
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn count(&mut self, functions: u64) -> Result<(), Stopped> {
        self.functions += functions;
        match self.functions > FUNCTIONS_MAX {
            true => Err(Stopped::TooLarge(TooLarge::Functions(FUNCTIONS_MAX))),
            false => Ok(()),
        }
    }

    fn body(&mut self, module: &Module, body: &FunctionBody<'_>) -> Result<(), Stopped> {
        let function = self.functions;
        let within = |size: u64, bound: u64, told: &dyn Fn() -> (String, String)| {
            if size <= bound {
                return Ok(());
            }
            let (size, bound) = told();
            Err(Stopped::TooLarge(TooLarge::Function {
                function,
                size,
                bound,
            }))
        };
        self.count(1)?;
        let bytes = body.as_bytes().len() as u64;
        within(bytes, BODY_BYTES_MAX, &|| {
            (format!("{bytes} bytes"), BODY_BYTES_MAX.to_string())
        })?;
        self.code_bytes += bytes;
        if self.code_bytes > CODE_BYTES_MAX {
            return Err(Stopped::TooLarge(TooLarge::Code(CODE_BYTES_MAX)));
        }
        let (mut locals, _) = module.of_function(module.passed);
        for declared in body.get_locals_reader()? {
            locals += u64::from(declared?.0);
        }
        within(locals, LOCALS_MAX, &|| {
            (format!("{locals} locals"), LOCALS_MAX.to_string())
        })?;
        let Paths {
            branches,
            nested_loops,
            values,
        } = Paths::of(module, body)?;
        within(locals * branches, LOCALS_AT_BRANCHES_MAX, &|| {
            let bound = format!("{LOCALS_AT_BRANCHES_MAX}, one times the other,");
            (format!("{locals} locals and {branches} branches"), bound)
        })?;
        within(locals * nested_loops, LOCALS_IN_LOOPS_MAX, &|| {
            let size =
                format!("{locals} locals and {nested_loops} loops, inner ones counted again");
            let bound = format!("{LOCALS_IN_LOOPS_MAX}, one times the other,");
            (size, bound)
        })?;
        within(values, VALUES_MAX, &|| {
            let size = format!("calls and blocks with {values} parameters and results");
            (size, VALUES_MAX.to_string())
        })?;
        self.values += values;
        match self.values > ALL_VALUES_MAX {
            true => Err(Stopped::TooLarge(TooLarge::Calls(ALL_VALUES_MAX))),
            false => Ok(()),
        }
    }
}

/// Where the control of a function goes.
#[derive(Default)]
struct Paths {
    /// Blocks, loops, ifs and jumps; those of a table count one by one.
    branches: u64,
    /// Loops, each counted once more for each loop around it.
    nested_loops: u64,
    /// Calls and blocks, each with its parameters and results.
    values: u64,
}

impl Paths {
    fn of(module: &Module, body: &FunctionBody<'_>) -> Result<Self, BinaryReaderError> {
        let mut paths = Self::default();
        // Whether each block that is open is a loop.
        let mut open = Vec::new();
        let mut depth: u64 = 0;
        for operator in body.get_operators_reader()? {
            // The compiler too comes as far as here.
            let Ok(operator) = operator else { break };
            match &operator {
                Operator::Block { blockty }
                | Operator::Loop { blockty }
                | Operator::If { blockty } => {
                    let is_loop = matches!(operator, Operator::Loop { .. });
                    open.push(is_loop);
                    if is_loop {
                        depth += 1;
                        paths.nested_loops += depth;
                    }
                    paths.branches += 1;
                    if let BlockType::FuncType(ty) = blockty {
                        paths.values += 1 + module.values(*ty).1;
                    }
                }
                Operator::End => depth -= u64::from(open.pop().unwrap_or(false)),
                Operator::Else | Operator::Br { .. } | Operator::BrIf { .. } => paths.branches += 1,
                Operator::BrTable { targets } => paths.branches += 1 + u64::from(targets.len()),
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    paths.values += 1 + module.of_function(*function_index as usize).1;
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. } => {
                    paths.values += 1 + module.values(*type_index).1;
                }
                _ => {}
            }
        }
        Ok(paths)
    }
}
