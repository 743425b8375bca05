//! Sends records to the sinks that their JSON values name.
//!
//! | key | meaning |
//! |---|---|
//! | `by` | JSON pointer to what decides |
//! | `to.X` | the sink, by its topic's name, of records with X there; any number of such keys |
//! | `default` | all others: a sink, `drop` or `fail` (default) |
//! | `invalid` | what happens to a value that is not JSON: `fail` (default), `drop`, `default` |
//!
//! Strings are compared unescaped, other kinds as they stand. Tombstones and values without anything at `by`
//! are others, too.

use tidemill_sdk::json::{self, Pointer};
use tidemill_sdk::{Config, Failure, Output, Record, Sink, Transform, transform};

/// The code of a record that has no route.
pub const NO_ROUTE: u32 = 4;

/// The function.
pub struct Route {
    by: Pointer,
    /// Sorted.
    routes: Vec<(String, Sink)>,
    default: Default,
    invalid: Invalid,
}

#[derive(Clone, Copy)]
enum Default {
    To(Sink),
    Drop,
    Fail,
}

#[derive(Clone, Copy)]
enum Invalid {
    Fail,
    Drop,
    Default,
}

impl Transform for Route {
    fn new(config: &Config) -> Result<Self, Failure> {
        config.allow(&["by", "to.", "default", "invalid"])?;
        Ok(Self {
            by: config.require_parsed("by")?,
            routes: routes(config)?,
            default: match config.get("default") {
                None | Some("fail") => Default::Fail,
                Some("drop") => Default::Drop,
                Some(topic) => Default::To(config.sink(topic)?),
            },
            invalid: config.choose(
                "invalid",
                &[
                    ("fail", Invalid::Fail),
                    ("drop", Invalid::Drop),
                    ("default", Invalid::Default),
                ],
            )?,
        })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let value = match (record.value().map(json::parse).transpose(), self.invalid) {
            (Ok(value), _) => value,
            (Err(error), Invalid::Fail) => return Err(error.into()),
            (Err(_), Invalid::Drop) => return Ok(()),
            (Err(_), Invalid::Default) => None,
        };
        let found = value
            .and_then(|value| value.at(&self.by))
            .map(|found| found.plain());
        let route = found.as_deref().and_then(|found| {
            let place = self
                .routes
                .binary_search_by(|(value, _)| value.as_str().cmp(found));
            place.ok().map(|place| self.routes[place].1)
        });
        match (route, self.default) {
            (Some(sink), _) | (None, Default::To(sink)) => out.pass_to(sink),
            (None, Default::Drop) => {}
            (None, Default::Fail) => {
                let found = found.as_deref().unwrap_or("a value without it");
                return Err(Failure::new(NO_ROUTE, format!("no route for {found}")));
            }
        }
        Ok(())
    }
}

fn routes(config: &Config) -> Result<Vec<(String, Sink)>, Failure> {
    let mut routes = Vec::new();
    for (key, topic) in config.entries() {
        if let Some(value) = key.strip_prefix("to.") {
            let topic = topic.ok_or_else(|| {
                Failure::configuration(format!("`{key}` must name a sink of this deployment"))
            })?;
            routes.push((value.to_owned(), config.sink(topic)?));
        }
    }
    if routes.is_empty() {
        return Err(Failure::configuration(
            "there is no route: give keys such as `to.VALUE=TOPIC`",
        ));
    }
    routes.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(routes)
}

transform!(Route);
