//! Passes the records whose JSON values meet a condition.
//!
//! | key | meaning |
//! |---|---|
//! | `where` | JSON pointer to what is compared |
//! | `op` | `gt`, `ge`, `lt`, `le`, `eq`, `ne`, `prefix`, `contains`, `exists`, `missing` |
//! | `value` | what it is compared with; not with `exists` and `missing` |
//! | `key` | optional: JSON pointer to what becomes the record's key |
//! | `missing` | what happens where a pointer finds nothing: `drop` (default), `pass`, `fail` |
//! | `invalid` | what happens to a value that is not JSON: `fail` (default), `drop`, `pass` |
//!
//! A number is compared as a number, a string, unescaped, as text. Whatever else is found, `null` too, equals
//! the `value` that is written like it and is neither greater nor less than any. A tombstone has
//! nothing at any pointer.

mod condition;

use condition::Condition;
use tidemill_sdk::json::{self, Pointer, Value};
use tidemill_sdk::{Config, Failure, Output, Record, Transform, transform};

/// The code of a record that lacks what a pointer names.
pub const MISSING: u32 = 4;

/// The function.
pub struct Filter {
    place: Pointer,
    condition: Condition,
    key: Option<Pointer>,
    missing: Policy,
    invalid: Policy,
}

/// What happens to a record that the condition does not fit.
#[derive(Clone, Copy)]
enum Policy {
    Drop,
    Pass,
    Fail,
}

const DROP: (&str, Policy) = ("drop", Policy::Drop);
const PASS: (&str, Policy) = ("pass", Policy::Pass);
const FAIL: (&str, Policy) = ("fail", Policy::Fail);

impl Transform for Filter {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&["where", "op", "value", "key", "missing", "invalid"])?;
        Ok(Self {
            place: config.require_parsed("where")?,
            condition: Condition::new(config)?,
            key: config.parse("key")?,
            missing: config.choose("missing", &[DROP, PASS, FAIL])?,
            invalid: config.choose("invalid", &[FAIL, DROP, PASS])?,
        })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let value = match record.value().map(json::parse).transpose() {
            Ok(value) => value,
            Err(error) => return self.invalid.apply(out, || error.into()),
        };
        let at = |pointer| value.and_then(|value: Value<'_>| value.at(pointer));
        match self.condition.holds(at(&self.place)) {
            None => return self.missing.apply(out, || nothing("where")),
            Some(false) => return Ok(()),
            Some(true) => {}
        }
        match self.key.as_ref().map(at) {
            None => out.pass(),
            Some(None) => return self.missing.apply(out, || nothing("key")),
            Some(Some(key)) => out.edit().key(key.plain().as_bytes()).send(),
        }
        Ok(())
    }
}

impl Policy {
    fn apply(self, out: &mut Output<'_>, why: impl FnOnce() -> Failure) -> Result<(), Failure> {
        match self {
            Self::Drop => Ok(()),
            Self::Pass => {
                out.pass();
                Ok(())
            }
            Self::Fail => Err(why()),
        }
    }
}

fn nothing(key: &str) -> Failure {
    Failure::new(
        MISSING,
        format!("the value has nothing at the pointer of `{key}`"),
    )
}

transform!(Filter);
