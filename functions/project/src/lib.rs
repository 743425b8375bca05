//! Keeps or removes parts of JSON values; all other bytes stay as they are.
//!
//! | key | meaning |
//! |---|---|
//! | `keep` | JSON pointers, separated by commas: what stays of the value |
//! | `remove` | instead of `keep`: what goes |
//! | `key` | optional: JSON pointer into the whole value, to what becomes the record's key |
//! | `invalid` | what happens to a value that is not JSON: `fail` (default), `drop`, `pass` |
//!
//! Parts that are not there are fine, but a missing `key` fails the record. Tombstones pass.

use tidemill_sdk::json::{self, Pointer, Selection};
use tidemill_sdk::{Config, Failure, Output, Record, Transform, transform};

/// The code of a record that lacks what the pointer of `key` names.
pub const MISSING: u32 = 4;

/// The function.
pub struct Project {
    mode: Mode,
    selection: Selection,
    key: Option<Pointer>,
    invalid: Invalid,
    projected: Vec<u8>,
}

enum Mode {
    Keep,
    Remove,
}

#[derive(Clone, Copy)]
enum Invalid {
    Fail,
    Drop,
    Pass,
}

impl Transform for Project {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&["keep", "remove", "key", "invalid"])?;
        let (mode, key) = match (config.get("keep"), config.get("remove")) {
            (Some(_), None) => (Mode::Keep, "keep"),
            (None, Some(_)) => (Mode::Remove, "remove"),
            _ => {
                return Err(Failure::configuration(
                    "one of `keep` and `remove` must be given",
                ));
            }
        };
        Ok(Self {
            mode,
            selection: config.require_parsed(key)?,
            key: config.parse("key")?,
            invalid: config.choose(
                "invalid",
                &[
                    ("fail", Invalid::Fail),
                    ("drop", Invalid::Drop),
                    ("pass", Invalid::Pass),
                ],
            )?,
            projected: Vec::new(),
        })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let Some(value) = record.value() else {
            out.pass();
            return Ok(());
        };
        let value = match (json::parse(value), self.invalid) {
            (Ok(value), _) => value,
            (Err(error), Invalid::Fail) => return Err(error.into()),
            (Err(_), Invalid::Drop) => return Ok(()),
            (Err(_), Invalid::Pass) => {
                out.pass();
                return Ok(());
            }
        };
        self.projected.clear();
        match self.mode {
            Mode::Keep => self.selection.keep(&value, &mut self.projected),
            Mode::Remove => self.selection.remove(&value, &mut self.projected),
        }
        let mut edit = out.edit().value(&self.projected);
        if let Some(pointer) = &self.key {
            let key = value.at(pointer).ok_or_else(|| {
                Failure::new(MISSING, "the value has nothing at the pointer of `key`")
            })?;
            edit = edit.key(key.plain().as_bytes());
        }
        edit.send();
        Ok(())
    }
}

transform!(Project);
