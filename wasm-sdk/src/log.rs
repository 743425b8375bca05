//! Lines for the function's log: in the broker the topic `_tidemill.function_logs`, in native tests
//! standard error.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum Level {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

/// Something is lost or wrong.
pub fn error(message: &str) {
    line(Level::Error, message);
}

/// Something may be wrong.
pub fn warn(message: &str) {
    line(Level::Warn, message);
}

/// Something that an operator may want to know.
pub fn info(message: &str) {
    line(Level::Info, message);
}

/// Something for whoever writes the function.
pub fn debug(message: &str) {
    line(Level::Debug, message);
}

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "the one import of the ABI")]
fn line(level: Level, message: &str) {
    #[link(wasm_import_module = "tidemill")]
    unsafe extern "C" {
        fn log(level: i32, address: *const u8, length: i32);
    }
    // SAFETY: the host reads these bytes before it returns, and writes none.
    unsafe { log(level as i32, message.as_ptr(), message.len() as i32) }
}

#[cfg(not(target_family = "wasm"))]
fn line(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}
