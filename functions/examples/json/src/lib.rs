//! Reads a JSON value as a whole, each string and number of it, and writes its first two members in a new
//! object: what a light JSON function costs.

use tidemill_sdk::json::{self, Kind, Value};
use tidemill_sdk::{Config, Failure, Output, Record, Transform, transform};

/// The function.
pub struct Json {
    text: Vec<u8>,
}

impl Transform for Json {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&[])?;
        Ok(Self { text: Vec::new() })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let value = json::parse(record.value().ok_or("the value is null")?)?;
        if value.kind() != Kind::Object {
            return Err("the value is not an object".into());
        }
        self.text.clear();
        self.text.push(b'{');
        for member in value.children().take(2) {
            if member.index > 0 {
                self.text.push(b',');
            }
            self.text
                .extend(member.name.map_or("", |name| name.raw()).as_bytes());
            self.text.push(b':');
            self.text.extend(member.value.raw().as_bytes());
        }
        self.text
            .extend(format!(",\"sum\":{}}}", sum(&value)).as_bytes());
        out.edit().value(&self.text).send();
        Ok(())
    }
}

/// Of all numbers, and of the bytes of all strings.
fn sum(value: &Value<'_>) -> f64 {
    match value.kind() {
        Kind::Number => value.number().unwrap_or_default(),
        Kind::String => value.string().map_or(0.0, |text| text.len() as f64),
        _ => value.children().map(|child| sum(&child.value)).sum(),
    }
}

transform!(Json);
