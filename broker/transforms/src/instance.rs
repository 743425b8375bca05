//! One instance of a function, and one call of it.

use std::sync::Arc;
use std::time::Duration;

use tidemill_records::{Record, TimestampType};
use wasmtime::component::{ComponentType, Lift, WasmStr};
use wasmtime::{
    Memory, ResourceLimiter, Store, StoreContextMut, Trap, TypedFunc, UpdateDeadline, WasmBacktrace,
};

use crate::fault::Fault;
use crate::frame::{
    Answer, FrameFault, InputFrame, Manifest, OutputBounds, Outputs, Source, is_answer,
    parse_outputs,
};
use crate::function::{Function, Linked, PROGRESS};
use crate::limits::Limits;
use crate::log::{LogLevel, LogSink};
use crate::workers::Share;

/// An element of a table is a pointer.
const TABLE_ELEMENT_BYTES: usize = 8;
/// Tables, memories and inner instances of one instance.
const PARTS_MAX: usize = 64;
/// What is kept of one line of a function's log.
const LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// How many functions of a trap's backtrace are told.
const BACKTRACE_FRAMES: usize = 4;
/// The first buffer that a guest is asked for.
const BUFFER_BYTES_MIN: usize = 64 << 10;

/// What the host keeps for an instance.
pub(crate) struct State {
    memory: MemoryLimit,
    share: Arc<Share>,
    time_max: Duration,
    /// What the share had used when the call began.
    call_began_ns: u64,
    is_out_of_time: bool,
    log: LogSink,
}

impl State {
    pub(crate) fn log(&self, level: u32, text: &[u8]) {
        let kept = &text[..text.len().min(LOG_LINE_BYTES_MAX)];
        (self.log)(LogLevel::of(level), &String::from_utf8_lossy(kept));
    }
}

/// The log of components.
pub(crate) fn component_log(
    store: StoreContextMut<'_, State>,
    (level, message): (u32, WasmStr),
) -> wasmtime::Result<()> {
    let text = message.to_str(&store)?;
    store.data().log(level, text.as_bytes());
    Ok(())
}

struct MemoryLimit {
    bytes_max: usize,
    bytes: usize,
    is_denied: bool,
}

impl MemoryLimit {
    /// Whether so many bytes more are within the limit; they count from now on.
    fn grow(&mut self, more: usize) -> bool {
        let bytes = self.bytes.saturating_add(more);
        self.is_denied |= bytes > self.bytes_max;
        if bytes <= self.bytes_max {
            self.bytes = bytes;
        }
        bytes <= self.bytes_max
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current);
        Ok(self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// What an instance is made with.
#[derive(Clone)]
pub(crate) struct InstanceSettings {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) limits: Limits,
    pub(crate) share: Arc<Share>,
    pub(crate) log: LogSink,
}

/// A function that is ready to take frames.
pub(crate) struct Instance {
    store: Store<State>,
    guest: Guest,
    bounds: OutputBounds,
}

enum Guest {
    Module {
        memory: Memory,
        buf: TypedFunc<i32, i32>,
        process: TypedFunc<i32, i64>,
        buffer: usize,
        buffer_bytes: usize,
        /// Where the guest notes which record it works on.
        progress: Option<usize>,
    },
    Component {
        process: wasmtime::component::TypedFunc<(Vec<u8>,), (Result<Vec<u8>, GuestFault>,)>,
    },
}

/// `fault` of tidemill.wit.
#[derive(ComponentType, Lift)]
#[component(record)]
struct GuestFault {
    code: u32,
    message: String,
}

/// A call that failed.
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    /// The record that the guest worked on, if it says so.
    pub(crate) at: Option<u32>,
}

impl Instance {
    /// Makes an instance and configures it.
    pub(crate) async fn new(
        function: &Function,
        settings: &InstanceSettings,
    ) -> Result<Self, Fault> {
        let limits = settings.limits;
        let state = State {
            memory: MemoryLimit {
                bytes_max: usize::try_from(limits.memory_bytes).unwrap_or(usize::MAX),
                bytes: 0,
                is_denied: false,
            },
            share: settings.share.clone(),
            time_max: limits.time,
            call_began_ns: settings.share.used_with_slice_ns(),
            is_out_of_time: false,
            log: settings.log.clone(),
        };
        let pre = match &function.0 {
            Linked::Module { pre, .. } => pre.module().engine(),
            Linked::Component { pre, .. } => pre.engine(),
        };
        let mut store = Store::new(pre, state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            let used = state.share.used_with_slice_ns() - state.call_began_ns;
            if u128::from(used) > state.time_max.as_nanos() {
                state.is_out_of_time = true;
                return Ok(UpdateDeadline::Interrupt);
            }
            Ok(UpdateDeadline::Yield(1))
        });
        let bounds = OutputBounds {
            bytes_max: limits.output_bytes,
            records_max: limits.output_records,
            sinks: settings.manifest.sinks.len().min(usize::from(u16::MAX)) as u16,
        };
        let config = settings.manifest.frame();
        let guest = match &function.0 {
            Linked::Module { pre, has_progress } => {
                module(&mut store, pre, *has_progress, &config).await?
            }
            Linked::Component { pre, init, process } => {
                let made = pre.instantiate_async(&mut store).await;
                let made = made.map_err(|error| not_made(&store, error))?;
                let wrong = |error: wasmtime::Error| Fault::Instantiate(text(&error));
                let init: wasmtime::component::TypedFunc<(Vec<u8>,), (Result<u32, GuestFault>,)> =
                    made.get_typed_func(&mut store, *init).map_err(wrong)?;
                let process = made.get_typed_func(&mut store, *process).map_err(wrong)?;
                let answer = init.call_async(&mut store, (config,)).await;
                match answer.map_err(|error| fault_of(&store, error))?.0 {
                    Ok(0) => Guest::Component { process },
                    Ok(features) => return Err(Fault::Features(features)),
                    Err(GuestFault { code, message }) => {
                        let message = crate::frame::message(message.as_bytes());
                        return Err(Fault::Configuration { code, message });
                    }
                }
            }
        };
        Ok(Self {
            store,
            guest,
            bounds,
        })
    }

    /// Gives the records to the function. After an error the instance is not to be used again.
    pub(crate) async fn process(
        &mut self,
        source: &Source,
        records: &[Record],
        stamped: TimestampType,
    ) -> Result<Outputs, Failed> {
        let began = self.store.data().share.used_with_slice_ns();
        let state = self.store.data_mut();
        state.call_began_ns = began;
        state.memory.is_denied = false;
        let frame = InputFrame::new(source, records, stamped);
        match &self.guest {
            Guest::Module { .. } => self.process_in_module(frame).await,
            Guest::Component { process } => {
                let mut input = vec![0; frame.bytes()];
                frame.write(&mut input);
                let answer = process.call_async(&mut self.store, (input,)).await;
                let answer = answer.map_err(|error| fault_of(&self.store, error));
                let outputs = answer.and_then(|(answer,)| match answer {
                    Ok(output) => Ok(parse_outputs(&output, records, self.bounds)?),
                    Err(GuestFault { code, message }) => {
                        let message = crate::frame::message(message.as_bytes());
                        Err(Fault::Refused { code, message })
                    }
                });
                outputs.map_err(|fault| Failed { fault, at: None })
            }
        }
    }

    async fn process_in_module(&mut self, frame: InputFrame<'_>) -> Result<Outputs, Failed> {
        let store = &mut self.store;
        let Guest::Module {
            memory,
            buf,
            process,
            buffer,
            buffer_bytes,
            progress,
        } = &mut self.guest
        else {
            unreachable!("the caller has looked");
        };
        let bytes = frame.bytes();
        let unknown = |fault| Failed { fault, at: None };
        if bytes > *buffer_bytes {
            let wanted = bytes.next_power_of_two().max(BUFFER_BYTES_MIN);
            let grown = grow(store, *memory, buf, wanted).await.map_err(unknown)?;
            (*buffer, *buffer_bytes) = (grown, wanted);
        }
        let data = memory.data_mut(&mut *store);
        if let Some(progress) = progress {
            data[*progress..*progress + 4].fill(0);
        }
        frame.write(&mut data[*buffer..*buffer + bytes]);
        let called = process.call_async(&mut *store, bytes as i32).await;
        let data = memory.data(&*store);
        let at = |_: &Fault| {
            let at = data[(*progress)?..].first_chunk::<4>()?;
            Some(u32::from_le_bytes(*at)).filter(|at| (*at as usize) < frame.records().len())
        };
        let outputs = match called {
            Err(error) => Err(fault_of(store, error)),
            Ok(answer) => slice(data, answer).map_err(Fault::from).and_then(|output| {
                if is_answer(output) {
                    return Err(refusal(Answer::parse(output)?));
                }
                Ok(parse_outputs(output, frame.records(), self.bounds)?)
            }),
        };
        outputs.map_err(|fault| match fault {
            // Only what stopped the guest in the middle tells where it was.
            Fault::Trap(_) | Fault::Time(_) | Fault::Memory(_) => Failed {
                at: at(&fault),
                fault,
            },
            fault => Failed { fault, at: None },
        })
    }
}

/// Instantiates and configures a core module.
async fn module(
    store: &mut Store<State>,
    pre: &wasmtime::InstancePre<State>,
    has_progress: bool,
    config: &[u8],
) -> Result<Guest, Fault> {
    let made = pre.instantiate_async(&mut *store).await;
    let made = made.map_err(|error| not_made(store, error))?;
    let wrong = |error: wasmtime::Error| Fault::Instantiate(text(&error));
    let memory = made.get_memory(&mut *store, "memory");
    let memory = memory.expect("checked when the artifact was compiled");
    let buf = made.get_typed_func::<i32, i32>(&mut *store, "buf");
    let init = made.get_typed_func::<i32, i64>(&mut *store, "init");
    let process = made.get_typed_func::<i32, i64>(&mut *store, "process");
    let (buf, init, process) = (
        buf.map_err(wrong)?,
        init.map_err(wrong)?,
        process.map_err(wrong)?,
    );
    if let Ok(start) = made.get_typed_func::<(), ()>(&mut *store, "_initialize") {
        let started = start.call_async(&mut *store, ()).await;
        started.map_err(|error| fault_of(store, error))?;
    }
    let wanted = config.len().max(BUFFER_BYTES_MIN);
    let buffer = grow(store, memory, &buf, wanted).await?;
    memory.data_mut(&mut *store)[buffer..buffer + config.len()].copy_from_slice(config);
    let called = init.call_async(&mut *store, config.len() as i32).await;
    let answer = called.map_err(|error| fault_of(store, error))?;
    let answer = Answer::parse(slice(memory.data(&*store), answer)?)?;
    if answer.status != 0 {
        return Err(Fault::Configuration {
            code: answer.status,
            message: answer.message,
        });
    }
    if answer.features != 0 {
        return Err(Fault::Features(answer.features));
    }
    let progress = match has_progress {
        true => made.get_global(&mut *store, PROGRESS),
        false => None,
    };
    let progress = progress.and_then(|global| global.get(&mut *store).i32());
    let progress = progress.map(|address| address as u32 as usize);
    let is_inside = |address: &usize| address.saturating_add(4) <= memory.data_size(&*store);
    Ok(Guest::Module {
        memory,
        buf,
        process,
        buffer,
        buffer_bytes: wanted,
        progress: progress.filter(is_inside),
    })
}

/// Asks the guest for a buffer of so many bytes.
async fn grow(
    store: &mut Store<State>,
    memory: Memory,
    buf: &TypedFunc<i32, i32>,
    bytes: usize,
) -> Result<usize, Fault> {
    let address = buf.call_async(&mut *store, bytes as i32).await;
    let address = address.map_err(|error| fault_of(store, error))? as u32;
    if address == 0 {
        return Err(Fault::Memory(store.data().memory.bytes_max as u64));
    }
    let end = u64::from(address) + bytes as u64;
    if end > memory.data_size(&*store) as u64 || !address.is_multiple_of(8) {
        let length = bytes as u32;
        return Err(FrameFault::Outside { address, length }.into());
    }
    Ok(address as usize)
}

/// The bytes that a guest answers with.
fn slice(memory: &[u8], answer: i64) -> Result<&[u8], FrameFault> {
    let (address, length) = ((answer as u64 >> 32) as u32, answer as u32);
    let end = u64::from(address) + u64::from(length);
    match end <= memory.len() as u64 {
        true => Ok(&memory[address as usize..end as usize]),
        false => Err(FrameFault::Outside { address, length }),
    }
}

fn refusal(answer: Answer) -> Fault {
    match answer.status {
        0 => FrameFault::NoOutputs.into(),
        code => Fault::Refused {
            code,
            message: answer.message,
        },
    }
}

fn not_made(store: &Store<State>, error: wasmtime::Error) -> Fault {
    if store.data().memory.is_denied {
        return Fault::Memory(store.data().memory.bytes_max as u64);
    }
    match error.is::<Trap>() {
        true => fault_of(store, error),
        false => Fault::Instantiate(text(&error)),
    }
}

fn fault_of(store: &Store<State>, error: wasmtime::Error) -> Fault {
    let state = store.data();
    if state.is_out_of_time {
        return Fault::Time(state.time_max);
    }
    if state.memory.is_denied {
        return Fault::Memory(state.memory.bytes_max as u64);
    }
    Fault::Trap(text(&error))
}

/// An engine's error in one line: the cause, and where the guest was.
fn text(error: &wasmtime::Error) -> Box<str> {
    let mut text = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let frames = backtrace.map_or(&[][..], |backtrace| backtrace.frames());
    let names = frames.iter().filter_map(|frame| frame.func_name());
    for (index, name) in names.take(BACKTRACE_FRAMES).enumerate() {
        text += if index == 0 { ", in " } else { " < " };
        text += name;
    }
    text.into()
}
