//! The configuration of a deployment: keys with values, and the sinks.

use std::fmt;
use std::str::FromStr;

use crate::Failure;
use crate::sections;
use crate::wire::{CONFIG_HEADER, CONFIG_MAGIC, Malformed, PAIR, open, range, size_at, table};

/// A topic that the deployment writes to. The default is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sink(pub(crate) u16);

impl Sink {
    /// Its place among the deployment's sinks.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What a deployment says to its function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    entries: Vec<(String, Option<String>)>,
    sinks: Vec<String>,
}

impl Config {
    pub(crate) fn read(frame: &[u8]) -> Result<Self, Malformed> {
        let (frame, header) = open::<CONFIG_HEADER>(frame, CONFIG_MAGIC)?;
        sections::check(frame, size_at(header, 32))?;
        let entries = table(frame, size_at(header, 16), size_at(header, 12), PAIR)?;
        let sinks = table(frame, size_at(header, 24), size_at(header, 20), PAIR / 2)?;
        let text = |row: &[u8], field| match range(frame, row, field)? {
            None => Ok(None),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => Err(Malformed("the configuration is not UTF-8")),
            },
        };
        let name = |row: &[u8]| text(row, 0)?.ok_or(Malformed("a name is null"));
        Ok(Self {
            entries: entries
                .chunks_exact(PAIR)
                .map(|row| Ok((name(row)?, text(row, 8)?)))
                .collect::<Result<_, Malformed>>()?,
            sinks: sinks
                .chunks_exact(PAIR / 2)
                .map(name)
                .collect::<Result<_, Malformed>>()?,
        })
    }

    /// The value of a key; `None` where the key is missing or its value null. Of a key that is given
    /// twice the last counts.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .rev()
            .find(|(name, _)| name == key)?
            .1
            .as_deref()
    }

    /// The value of a key that must be there.
    pub fn require(&self, key: &str) -> Result<&str, Failure> {
        self.get(key)
            .ok_or_else(|| Failure::configuration(format!("the key `{key}` is missing")))
    }

    /// The value of a key as a number, a [`Pointer`](crate::json::Pointer) or whatever else has a text
    /// form.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<Option<T>, Failure> {
        self.get(key).map(|_| self.require_parsed(key)).transpose()
    }

    /// As [`parse`](Self::parse), of a key that must be there.
    pub fn require_parsed<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<T, Failure> {
        let text = self.require(key)?;
        text.parse()
            .map_err(|error| Failure::configuration(format!("`{key}={text}`: {error}")))
    }

    /// The value of a key that allows some words only; `choices` are the words with what they mean,
    /// the first is the default.
    pub fn choose<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, Failure> {
        let Some(text) = self.get(key) else {
            return Ok(choices[0].1);
        };
        let choice = choices.iter().find(|(word, _)| *word == text);
        choice.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            Failure::configuration(format!("`{key}={text}` is not one of {}", words.join(", ")))
        })
    }

    /// Refuses keys that are not in `keys`. A key that ends with a dot allows all that begin with it.
    pub fn allow(&self, keys: &[&str]) -> Result<(), Failure> {
        let known = |name: &str| {
            keys.iter()
                .any(|key| *key == name || key.ends_with('.') && name.starts_with(key))
        };
        match self.entries.iter().find(|(name, _)| !known(name)) {
            None => Ok(()),
            Some((name, _)) if keys.is_empty() => Err(Failure::configuration(format!(
                "the key `{name}` is unknown; there are none"
            ))),
            Some((name, _)) => Err(Failure::configuration(format!(
                "the key `{name}` is unknown; there are {}",
                keys.join(", ")
            ))),
        }
    }

    /// All keys with their values, in the deployment's order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// The names of the sinks, in the order of their indices.
    pub fn sinks(&self) -> &[String] {
        &self.sinks
    }

    /// The sink that is the topic `topic`.
    pub fn sink(&self, topic: &str) -> Result<Sink, Failure> {
        let index = self.sinks.iter().position(|name| name == topic);
        match index.and_then(|index| u16::try_from(index).ok()) {
            Some(index) => Ok(Sink(index)),
            None => Err(Failure::configuration(format!(
                "the topic `{topic}` is not a sink of this deployment; there are {}",
                self.sinks.join(", ")
            ))),
        }
    }
}
