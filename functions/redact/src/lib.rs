//! Masks or removes parts of JSON values; all other bytes stay as they are.
//!
//! | key | meaning |
//! |---|---|
//! | `fields` | JSON pointers, separated by commas |
//! | `mode` | `mask` (default): a string takes their place; `remove`: they go |
//! | `with` | the string for `mode=mask`, `***` unless given |
//! | `invalid` | what happens to a value that is not JSON: `fail` (default), `drop` |
//!
//! Fields that are not there are fine, and of a field that is there twice both go. Tombstones pass.
//! Keys and headers stay: what is secret in a value should not be in them.

use tidemill_sdk::json::{self, Selection};
use tidemill_sdk::{Config, Failure, Output, Record, Transform, transform};

/// The function.
pub struct Redact {
    fields: Selection,
    /// JSON in place of the fields; `None` removes them.
    mask: Option<String>,
    drop_invalid: bool,
    redacted: Vec<u8>,
}

impl Transform for Redact {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&["fields", "mode", "with", "invalid"])?;
        let masks = config.choose("mode", &[("mask", true), ("remove", false)])?;
        if !masks && config.get("with").is_some() {
            return Err(Failure::configuration("`mode=remove` takes no `with`"));
        }
        Ok(Self {
            fields: config.require_parsed("fields")?,
            mask: masks.then(|| json::quote(config.get("with").unwrap_or("***"))),
            drop_invalid: config.choose("invalid", &[("fail", false), ("drop", true)])?,
            redacted: Vec::new(),
        })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let Some(value) = record.value() else {
            out.pass();
            return Ok(());
        };
        let value = match json::parse(value) {
            Ok(value) => value,
            Err(_) if self.drop_invalid => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.redacted.clear();
        match &self.mask {
            Some(mask) => self.fields.replace(&value, mask, &mut self.redacted),
            None => self.fields.remove(&value, &mut self.redacted),
        }
        out.edit().value(&self.redacted).send();
        Ok(())
    }
}

transform!(Redact);
