//! The function of the conformance kit, whose README.md in `wasm-sdk/conformance` says what it does.

use tidemill_sdk::{
    Config, Draft, Failure, Header, Output, Record, Sink, Transform, log, transform,
};

/// The function.
pub struct Conform {
    first: Sink,
    second: Sink,
    echo: Option<Vec<u8>>,
}

impl Transform for Conform {
    fn new(config: &Config) -> Result<Self, Failure> {
        match config.get("refuse") {
            Some(refusal) => Err(failure(refusal.as_bytes())),
            None => Ok(Self {
                first: config.sink("first")?,
                second: config.sink("second")?,
                echo: config.get("echo").map(|echo| echo.as_bytes().to_vec()),
            }),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let mut changes = Vec::new();
        for step in record.headers() {
            match step.name {
                b"fail" => return Err(failure(value(&step))),
                b"log" => line(value(&step)),
                b"pass" | b"edit" | b"new" => {
                    self.emit(step.name, &changes, record, out);
                    changes.clear();
                }
                _ => changes.push(step),
            }
        }
        Ok(())
    }
}

impl Conform {
    fn emit(&self, kind: &[u8], changes: &[Header<'_>], record: &Record<'_>, out: &mut Output<'_>) {
        let named = changes.iter().rfind(|change| change.name == b"sink");
        let sink = match named.map(value) {
            None => Sink::default(),
            Some(b"second") => self.second,
            Some(_) => self.first,
        };
        let draft = match kind {
            b"pass" => return out.pass_to(sink),
            b"edit" => out.edit(),
            _ => out.new_record(),
        };
        let change = |draft, change| self.change(draft, change, record);
        changes.iter().fold(draft.sink(sink), change).send();
    }

    fn change<'a>(&self, draft: Draft<'a>, change: &Header<'_>, record: &Record<'_>) -> Draft<'a> {
        let text = value(change);
        let (name, content) = pair(text);
        match (change.name, content) {
            (b"key", _) => match change.value {
                Some(key) => draft.key(key),
                None => draft.null_key(),
            },
            (b"value", _) => give(draft, change.value),
            (b"read", _) => give(draft, self.read(text, record).as_deref()),
            (b"timestamp", _) => draft.timestamp(number(text)),
            (b"partition", _) if text == b"source" => draft.same_partition(),
            (b"partition", _) => draft.partition(number(text)),
            (b"append", Some(content)) => draft.header(name, content),
            (b"append", None) => draft.null_header(name),
            (b"set", Some(content)) => draft.set_header(name, content),
            (b"set", None) => draft.remove_header(name).null_header(name),
            (b"remove", _) => draft.remove_header(text),
            (b"clear", _) => draft.clear_headers(),
            _ => draft,
        }
    }

    fn read(&self, what: &[u8], record: &Record<'_>) -> Option<Vec<u8>> {
        match what {
            b"key" => record.key().map(<[u8]>::to_vec),
            b"value" => record.value().map(<[u8]>::to_vec),
            b"config" => self.echo.clone(),
            b"topic" => Some(record.topic().into()),
            b"partition" => Some(record.partition().to_string().into()),
            b"offset" => Some(record.offset().to_string().into()),
            b"timestamp" => Some(record.timestamp().unwrap_or(-1).to_string().into()),
            _ => None,
        }
    }
}

fn give<'a>(draft: Draft<'a>, value: Option<&[u8]>) -> Draft<'a> {
    match value {
        Some(value) => draft.value(value),
        None => draft.tombstone(),
    }
}

fn value<'a>(step: &Header<'a>) -> &'a [u8] {
    step.value.unwrap_or_default()
}

/// `name=content`; without `=` the content is null.
fn pair(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn number<N: std::str::FromStr<Err: std::fmt::Debug>>(text: &[u8]) -> N {
    let text = str::from_utf8(text).expect("digits are text");
    text.parse().expect("the kit gives numbers")
}

/// A word and the text behind the space that follows it.
fn split(text: &[u8]) -> (&[u8], String) {
    let mut parts = text.splitn(2, |byte| *byte == b' ');
    let word = parts.next().unwrap_or_default();
    let rest = parts.next().unwrap_or_default();
    (word, String::from_utf8_lossy(rest).into_owned())
}

fn failure(text: &[u8]) -> Failure {
    let (code, message) = split(text);
    Failure::new(number(code), message)
}

fn line(text: &[u8]) {
    let (level, message) = split(text);
    match level {
        b"error" => log::error(&message),
        b"warn" => log::warn(&message),
        b"info" => log::info(&message),
        _ => log::debug(&message),
    }
}

transform!(Conform);
