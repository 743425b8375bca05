//! {{name}}: passes the records whose JSON value has an `amount` above a limit.

use tidemill_sdk::{Config, Failure, Output, Record, Transform, json, transform};

/// The function.
pub struct Function {
    limit: f64,
}

impl Transform for Function {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&["limit"])?;
        Ok(Self { limit: config.parse("limit")?.unwrap_or(100.0) })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let Some(value) = record.value() else { return Ok(()) };
        let amount = json::find(value, "/amount")?.and_then(|amount| amount.number());
        if amount.is_some_and(|amount| amount > self.limit) {
            out.pass();
        }
        Ok(())
    }
}

transform!(Function);

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_sdk::testing::{Harness, Input};

    #[test]
    fn passes_large_amounts() {
        let mut harness = Harness::<Function>::new(&[("limit", "50")], &["sink"]).unwrap();
        let outcome = harness.process(&[
            Input::new().value(r#"{"amount": 51}"#),
            Input::new().value(r#"{"amount": 50}"#),
            Input::new().value("no JSON"),
        ]);
        let passed: Vec<usize> = outcome.written.iter().map(|written| written.input).collect();
        assert_eq!(passed, [0]);
        assert_eq!(outcome.refused[0].code, Failure::NOT_JSON);
    }
}
