//! Does whatever a record's value says that a function must not do, and passes all other records. A test deploys
//! it and gives it one record in many.
//!
//! | value begins with | the guest |
//! |---|---|
//! | `trap` | traps |
//! | `loop` | never returns |
//! | `slow` | takes some tenths of a millisecond, then passes the record |
//! | `fail` | fails the record: code 42, the rest of the value as message |
//! | `answer` | fails the frame: status 43 |
//! | `grow` | takes memory until it is denied, then passes the record |
//! | `flood` | emits 100,000 copies of 1 KiB |
//! | `log` | writes 100,000 lines |
//! | `frame:KIND` | answers with a wrong frame; see [`frames`] |
//!
//! The configuration's first value can be `trap`, `loop`, `refuse` (status 7) or `garbage` (no answer
//! frame), which `init` then does.

#![cfg(target_family = "wasm")]

mod frames;

use std::cell::RefCell;

#[link(wasm_import_module = "tidemill")]
unsafe extern "C" {
    fn log(level: i32, address: *const u8, length: i32);
}

/// What the host writes to and reads from.
struct Memory {
    input: Vec<u64>,
    output: Vec<u8>,
}

thread_local! {
    static MEMORY: RefCell<Memory> =
        const { RefCell::new(Memory { input: Vec::new(), output: Vec::new() }) };
}

#[unsafe(no_mangle)]
extern "C" fn tidemill_abi_1() {}

#[unsafe(no_mangle)]
extern "C" fn buf(bytes: i32) -> i32 {
    MEMORY.with_borrow_mut(|memory| {
        memory.input.resize((bytes as usize).div_ceil(8).max(1), 0);
        memory.input.as_mut_ptr().addr() as i32
    })
}

#[unsafe(no_mangle)]
extern "C" fn init(bytes: i32) -> i64 {
    respond(bytes, |config| {
        let word = match number(config, 12) {
            0 => &[][..],
            _ => {
                let entry = number(config, 16) as usize;
                range(config, entry + 8)
            }
        };
        match word {
            b"refuse" => Response::Bytes(frames::answer(7, b"refused on request")),
            b"garbage" => Response::Bytes(b"garbage".to_vec()),
            _ => {
                misbehave(word);
                Response::Bytes(frames::answer(0, b""))
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn process(bytes: i32) -> i64 {
    respond(bytes, |input| {
        let mut output = frames::Output::new();
        for record in 0..number(input, 12) {
            let at = (number(input, 16) + record * number(input, 20)) as usize;
            let value = range(input, at + 20);
            misbehave(value);
            if let Some(kind) = value.strip_prefix(b"frame:") {
                return frames::wrong(kind, number(input, 12));
            } else if value.starts_with(b"answer") {
                return Response::Bytes(frames::answer(43, b"on request"));
            } else if let Some(message) = value.strip_prefix(b"fail") {
                output.fail(record, 42, message);
            } else {
                output.pass(record);
                if value.starts_with(b"flood") {
                    output.flood(record);
                }
            }
        }
        Response::Bytes(output.finish())
    })
}

/// What `process` returns.
enum Response {
    Bytes(Vec<u8>),
    /// Address and length as they are.
    Raw(i64),
}

fn respond(bytes: i32, work: impl FnOnce(&[u8]) -> Response) -> i64 {
    MEMORY.with_borrow_mut(|memory| {
        let input: Vec<u8> = memory
            .input
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        match work(&input[..bytes as usize]) {
            Response::Raw(place) => place,
            Response::Bytes(output) => {
                memory.output = output;
                (memory.output.as_ptr().addr() as i64) << 32 | memory.output.len() as i64
            }
        }
    })
}

fn misbehave(word: &[u8]) {
    if word.starts_with(b"trap") {
        core::arch::wasm32::unreachable();
    } else if word.starts_with(b"loop") {
        loop {
            std::hint::spin_loop();
        }
    } else if word.starts_with(b"slow") {
        let mut turns = 0;
        while turns < 1_000_000 {
            // SAFETY: of a local; volatile, so that the loop stays.
            unsafe { (&raw mut turns).write_volatile(turns + 1) };
        }
    } else if word.starts_with(b"grow") {
        // Pages, so that the guest's own allocator has no say.
        while core::arch::wasm32::memory_grow::<0>(16) != usize::MAX {}
    } else if word.starts_with(b"log") {
        for _ in 0..100_000 {
            // SAFETY: the host reads these bytes before it returns.
            unsafe { log(3, word.as_ptr(), word.len() as i32) };
        }
    }
}

fn number(frame: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

/// The bytes that the pair at `at` means; null is empty.
fn range(frame: &[u8], at: usize) -> &[u8] {
    match number(frame, at + 4) as i32 {
        -1 => &[],
        length => &frame[number(frame, at) as usize..][..length as usize],
    }
}
