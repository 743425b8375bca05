//! The golden frames: files that this SDK writes byte for byte and reads as their descriptions say.
//! `TIDEMILL_GOLDEN=write cargo test` writes them anew, for a change of the ABI only.

#![allow(clippy::disallowed_methods, reason = "the golden frames are files")]

use std::path::Path;
use std::sync::atomic::AtomicU32;

use tidemill_sdk::guest::Instance;
use tidemill_sdk::json;
use tidemill_sdk::testing::Input;
use tidemill_sdk::testing::frame::{
    self, Action, Changes, Growth, HeaderChange, Partition, Source,
};
use tidemill_sdk::{Config, Failure, Output, Record, Sink, Transform};

/// Compares a frame and its description with the files of that name.
fn golden(name: &str, frame: &[u8], description: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let (frame_path, text_path) = (
        directory.join(format!("{name}.bin")),
        directory.join(format!("{name}.json")),
    );
    json::parse(description.as_bytes()).expect("descriptions are JSON");
    if std::env::var_os("TIDEMILL_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(&frame_path, frame).unwrap();
        std::fs::write(&text_path, description).unwrap();
    }
    assert_eq!(std::fs::read(&frame_path).unwrap(), frame, "{name}.bin");
    assert_eq!(
        std::fs::read_to_string(&text_path).unwrap(),
        description,
        "{name}.json"
    );
}

/// `null`, a string, or `{"hex": ..}` for what is not UTF-8.
fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(std::str::from_utf8) {
        None => "null".to_owned(),
        Some(Ok(text)) => json::quote(text),
        Some(Err(_)) => {
            let hex: String = bytes
                .unwrap()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("{{\"hex\": \"{hex}\"}}")
        }
    }
}

/// An array, with `line` (a break and indentation, or nothing) before each item.
fn array(items: impl IntoIterator<Item = String>, line: &str) -> String {
    let items: Vec<String> = items.into_iter().collect();
    match (items.is_empty(), line.is_empty()) {
        (true, _) => "[]".to_owned(),
        (_, true) => format!("[{}]", items.join(", ")),
        (_, false) => format!("[{line}  {}{line}]", items.join(&format!(",{line}  "))),
    }
}

/// Answers every configuration with its description, and every record with its own.
struct Describe;

impl Transform for Describe {
    fn new(config: &Config) -> Result<Self, Failure> {
        if config.sinks() == ["describe"] {
            return Ok(Self);
        }
        let entries = config.entries().map(|(key, value)| {
            format!(
                "[{}, {}]",
                json::quote(key),
                bytes(value.map(str::as_bytes))
            )
        });
        let sinks = config.sinks().iter().map(|sink| json::quote(sink));
        let (entries, sinks) = (array(entries, "\n  "), array(sinks, ""));
        Err(format!(
            "{{\n  \"frame\": \"config\",\n  \"entries\": {entries},\n  \"sinks\": {sinks}\n}}\n"
        )
        .into())
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        let headers = record
            .headers()
            .map(|header| format!("[{}, {}]", bytes(Some(header.name)), bytes(header.value)));
        let description = format!(
            "{{\"offset\": {}, \"timestamp\": {}, \"append_time\": {}, \"key\": {}, \"value\": {}, \"headers\": {}}}",
            record.offset(),
            record
                .timestamp()
                .map_or("null".to_owned(), |timestamp| timestamp.to_string()),
            record.is_append_time(),
            bytes(record.key()),
            bytes(record.value()),
            array(headers, ""),
        );
        let source = format!(
            "  \"topic\": {},\n  \"partition\": {},\n  \"leader_epoch\": {},\n",
            json::quote(record.topic()),
            record.partition(),
            record.leader_epoch(),
        );
        out.edit().key(source).value(description).send();
        Ok(())
    }
}

fn describe_config(frame: &[u8]) -> String {
    let answer = Instance::<Describe>::new().init(frame).to_vec();
    frame::read_answer(&answer)
        .unwrap_err()
        .message()
        .to_owned()
}

fn describe_input(frame: &[u8]) -> String {
    let mut instance = Instance::<Describe>::new();
    frame::read_answer(instance.init(&frame::config(&[], &["describe"]))).unwrap();
    let operations = match frame::read_output(instance.process(frame, &AtomicU32::new(0))) {
        Ok(operations) => operations,
        Err(failure) => {
            let fault = json::quote(failure.message());
            return format!("{{\n  \"frame\": \"input\",\n  \"fault\": {fault}\n}}\n");
        }
    };
    let described: Vec<(String, String)> = operations
        .into_iter()
        .map(|operation| match operation.action {
            Action::Edit(Changes {
                key: Some(Some(key)),
                value: Some(Some(value)),
                ..
            }) => (
                String::from_utf8(key).unwrap(),
                String::from_utf8(value).unwrap(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    let source = described[0].0.clone();
    let records = array(described.into_iter().map(|(_, record)| record), "\n  ");
    format!("{{\n  \"frame\": \"input\",\n{source}  \"records\": {records}\n}}\n")
}

fn describe_answer(frame: &[u8]) -> String {
    let (status, message) = match frame::read_answer(frame) {
        Ok(()) => (0, String::new()),
        Err(failure) => (failure.code(), failure.message().to_owned()),
    };
    let message = json::quote(&message);
    format!(
        "{{\n  \"frame\": \"answer\",\n  \"status\": {status},\n  \"features\": 0,\n  \"message\": {message}\n}}\n"
    )
}

fn describe_output(frame: &[u8]) -> String {
    let operations = frame::read_output(frame)
        .unwrap()
        .into_iter()
        .map(|operation| {
            let rest = match operation.action {
                Action::Pass { sink, partition } => {
                    format!(
                        "\"pass\", \"sink\": {sink}, \"partition\": {}",
                        describe_partition(partition)
                    )
                }
                Action::Drop => "\"drop\"".to_owned(),
                Action::Edit(changes) => format!("\"edit\", {}", describe_changes(&changes)),
                Action::New { inherit, changes } => {
                    format!(
                        "\"new\", \"inherit\": {inherit}, {}",
                        describe_changes(&changes)
                    )
                }
                Action::Fail { code, message } => {
                    format!(
                        "\"fail\", \"code\": {code}, \"message\": {}",
                        json::quote(&message)
                    )
                }
            };
            format!("{{\"record\": {}, \"kind\": {rest}}}", operation.record)
        });
    let operations = array(operations, "\n  ");
    format!("{{\n  \"frame\": \"output\",\n  \"operations\": {operations}\n}}\n")
}

fn describe_partition(partition: Partition) -> String {
    match partition {
        Partition::ByKey => "\"key\"".to_owned(),
        Partition::Source => "\"source\"".to_owned(),
        Partition::Explicit(partition) => partition.to_string(),
    }
}

fn describe_changes(changes: &Changes) -> String {
    let mut out = format!(
        "\"sink\": {}, \"partition\": {}",
        changes.sink,
        describe_partition(changes.partition)
    );
    for (name, field) in [("key", &changes.key), ("value", &changes.value)] {
        if let Some(field) = field {
            out += &format!(", \"{name}\": {}", bytes(field.as_deref()));
        }
    }
    if let Some(timestamp) = changes.timestamp {
        out += &format!(", \"timestamp\": {timestamp}");
    }
    let headers = changes.headers.iter().map(|change| {
        let (kind, name, value) = match change {
            HeaderChange::Append(name, value) => ("append", name, Some(value)),
            HeaderChange::Remove(name) => ("remove", name, None),
            HeaderChange::Set(name, value) => ("set", name, Some(value)),
            HeaderChange::Clear => return "[\"clear\"]".to_owned(),
        };
        let value = value.map_or(String::new(), |value| {
            format!(", {}", bytes(value.as_deref()))
        });
        format!("[\"{kind}\", {}{value}]", bytes(Some(name)))
    });
    out + &format!(", \"headers\": {}", array(headers, ""))
}

#[test]
fn configurations() {
    let filled = [
        ("where", Some("/dep_delay")),
        ("empty", Some("")),
        ("nothing", None),
        ("größe", Some("60 \"min\"")),
    ];
    let cases = [
        ("config-empty", frame::config(&[], &[])),
        (
            "config-filled",
            frame::config(&filled, &["delays", "delays.late"]),
        ),
    ];
    for (name, frame) in cases {
        golden(name, &frame, &describe_config(&frame));
    }
}

#[test]
fn inputs() {
    let source = Source {
        topic: "flights".to_owned(),
        partition: 3,
        leader_epoch: 12,
        base_offset: 5_000_000_000,
    };
    let event = 1_357_034_400_000;
    let shapes = [
        Input::new().timestamp(-1),
        Input::new().key("").value("").timestamp(event),
        Input::new()
            .key([0xff, 0, 0x80])
            .value("{\"dep_delay\": 61}")
            .timestamp(event),
        Input::new()
            .value("headers")
            .header("trace", "a1")
            .null_header("gone")
            .header("", "")
            .header("trace", [0xfe, 1])
            .append_time(),
        Input::new().key("tombstone").timestamp(0),
    ];
    let gaps = [0, 1, 70_000, u32::MAX].map(|delta| {
        Input::new()
            .key(format!("after {delta}"))
            .offset_delta(delta)
    });
    let many: Vec<Input> = (0..100)
        .map(|n| {
            Input::new()
                .key(format!("{n}"))
                .value("x".repeat(n % 11))
                .timestamp(event + n as i64)
        })
        .collect();
    let grown = Growth {
        header: 16,
        record: 8,
        sections: vec![(7, vec![1, 2, 3])],
    };
    let strange = Growth {
        sections: vec![(1 << 31 | 7, vec![1, 2, 3])],
        ..Growth::default()
    };
    let cases = [
        (
            "input-one",
            frame::input(
                &source,
                &[Input::new().key("EWR").value("61").timestamp(event)],
            ),
        ),
        ("input-shapes", frame::input(&source, &shapes)),
        (
            "input-gaps",
            frame::input(
                &Source {
                    partition: 0,
                    ..source.clone()
                },
                &gaps,
            ),
        ),
        ("input-many", frame::input(&source, &many)),
        ("input-grown", frame::input_with(&source, &shapes, &grown)),
        (
            "input-must-understand",
            frame::input_with(&source, &shapes, &strange),
        ),
    ];
    for (name, frame) in cases {
        golden(name, &frame, &describe_input(&frame));
    }
}

/// Emits one case for each record.
struct Emit {
    last: Sink,
}

impl Transform for Emit {
    fn new(config: &Config) -> Result<Self, Failure> {
        match config.get("refuse") {
            None => Ok(Self {
                last: config.sink(config.sinks().last().map_or("", |sink| sink))?,
            }),
            Some(reason) => Err(Failure::new(7, reason.to_owned())),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), Failure> {
        match record.offset() {
            0 => out.pass_to(self.last),
            1 => out.drop(),
            2 => out.edit().key("EWR").send(),
            3 => out
                .edit()
                .tombstone()
                .null_key()
                .timestamp(-1)
                .same_partition()
                .send(),
            4 => out
                .edit()
                .value([0xff, 0])
                .partition(2)
                .clear_headers()
                .header("a", "1")
                .null_header("b")
                .set_header("a", "2")
                .remove_header("c")
                .send(),
            5 => {
                out.new_record()
                    .key("")
                    .value("first")
                    .timestamp(1_357_034_400_000)
                    .send();
                out.pass();
                out.pass();
                out.edit().value("third").header("n", "3").send();
            }
            6 => return Err(Failure::new(42, "no “destination”")),
            _ => return Err(Failure::new(u32::MAX, "")),
        }
        Ok(())
    }
}

#[test]
fn outputs() {
    let mut instance = Instance::<Emit>::new();
    let ready = frame::read_answer(instance.init(&frame::config(&[], &["first", "second"])));
    ready.unwrap();
    let records: Vec<Input> = (0..8).map(|n| Input::new().value(format!("{n}"))).collect();
    let one = frame::input(&Source::default(), &records[..1]);
    let all = frame::input(&Source::default(), &records);
    for (name, input) in [("output-one", one), ("output-all", all)] {
        let frame = instance.process(&input, &AtomicU32::new(0));
        golden(name, frame, &describe_output(frame));
    }
}

#[test]
fn answers() {
    let mut instance = Instance::<Emit>::new();
    let done = instance.init(&frame::config(&[], &["first"])).to_vec();
    golden("answer-done", &done, &describe_answer(&done));
    let refused = instance.init(&frame::config(
        &[("refuse", Some("the key `größe` is missing"))],
        &[],
    ));
    golden("answer-refused", refused, &describe_answer(refused));
}
