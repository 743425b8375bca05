//! The condition: an operator and what it compares with.

use std::cmp::Ordering::{self, Equal, Greater, Less};

use tidemill_sdk::json::{Kind, Value};
use tidemill_sdk::{Config, Failure};

pub(crate) struct Condition {
    test: Test,
    operand: Operand,
}

#[derive(Clone, Copy)]
enum Test {
    /// Whether it accepts how what is found is to the operand; `None` is neither less, equal nor
    /// greater.
    Order(fn(Option<Ordering>) -> bool),
    Prefix,
    Contains,
    Exists,
    Missing,
}

const TESTS: [(&str, Test); 10] = [
    ("gt", Test::Order(|order| order == Some(Greater))),
    (
        "ge",
        Test::Order(|order| matches!(order, Some(Greater | Equal))),
    ),
    ("lt", Test::Order(|order| order == Some(Less))),
    (
        "le",
        Test::Order(|order| matches!(order, Some(Less | Equal))),
    ),
    ("eq", Test::Order(|order| order == Some(Equal))),
    ("ne", Test::Order(|order| order != Some(Equal))),
    ("prefix", Test::Prefix),
    ("contains", Test::Contains),
    ("exists", Test::Exists),
    ("missing", Test::Missing),
];

#[derive(Default)]
struct Operand {
    text: String,
    integer: Option<i64>,
    number: Option<f64>,
}

impl Condition {
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        config.require("op")?;
        let test = config.choose("op", &TESTS)?;
        let operand = match (test, config.get("value")) {
            (Test::Exists | Test::Missing, None) => Operand::default(),
            (Test::Exists | Test::Missing, Some(_)) => {
                return Err(Failure::configuration(
                    "`op=exists` and `op=missing` take no `value`",
                ));
            }
            _ => Operand::new(config.require("value")?),
        };
        Ok(Self { test, operand })
    }

    /// Whether it holds for what is found; `None` where nothing is found that it could hold for.
    pub(crate) fn holds(&self, found: Option<Value<'_>>) -> Option<bool> {
        match (self.test, found) {
            (Test::Exists, found) => Some(found.is_some()),
            (Test::Missing, found) => Some(found.is_none()),
            (_, None) => None,
            (Test::Order(accepts), Some(found)) => Some(accepts(self.operand.order(&found))),
            (Test::Prefix, Some(found)) => Some(found.plain().starts_with(&self.operand.text)),
            (Test::Contains, Some(found)) => Some(found.plain().contains(&self.operand.text)),
        }
    }
}

impl Operand {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            integer: text.parse().ok(),
            number: text.parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }

    /// How `found` is to the operand. Integers are exact beyond what an `f64` holds.
    fn order(&self, found: &Value<'_>) -> Option<Ordering> {
        if let (Some(found), Some(integer)) = (found.integer(), self.integer) {
            return Some(found.cmp(&integer));
        }
        match (found.kind(), self.number) {
            (Kind::Number, Some(number)) => found.number()?.partial_cmp(&number),
            (Kind::String, _) => Some(found.string()?.as_ref().cmp(&self.text)),
            _ => (found.raw() == self.text).then_some(Equal),
        }
    }
}
