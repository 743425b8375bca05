//! The golden frames of `wasm-sdk/golden`, as a host reads them.

use serde_json::Value;
use tidemill_records::PartitionId;

use super::{record, with_headers};
use crate::frame::{Answer, OutputBounds, parse_outputs};
use crate::{Content, PartitionChoice};

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => serde_json::json!({
            "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        }),
    }
}

#[test]
fn answers_are_read_as_described() {
    let done = Answer::parse(include_bytes!(
        "../../../../wasm-sdk/golden/answer-done.bin"
    ))
    .unwrap();
    assert_eq!((done.status, done.features, &*done.message), (0, 0, ""));
    let refused = Answer::parse(include_bytes!(
        "../../../../wasm-sdk/golden/answer-refused.bin"
    ));
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, &*refused.message),
        (7, "the key `größe` is missing")
    );
}

#[test]
fn outputs_are_read_as_described() {
    let described = include_str!("../../../../wasm-sdk/golden/output-all.json");
    let described: Value = serde_json::from_str(described).unwrap();
    let operations = described["operations"].as_array().unwrap();
    let parent = |at| {
        with_headers(
            record(at, Some("key"), Some("value")),
            &[("a", Some("0")), ("c", None)],
        )
    };
    let records: Vec<_> = (0..8).map(parent).collect();
    let bounds = OutputBounds {
        bytes_max: 1 << 20,
        records_max: 100,
        sinks: 2,
    };
    let frame = include_bytes!("../../../../wasm-sdk/golden/output-all.bin");
    let found = parse_outputs(frame, &records, bounds).unwrap();
    let mut outputs = found.outputs.iter();
    let mut failed = found.failed.iter();
    for operation in operations {
        let kind = operation["kind"].as_str().unwrap();
        let index = operation["record"].as_u64().unwrap() as u32;
        if kind == "fail" {
            let failed = failed.next().unwrap();
            assert_eq!(failed.record, index);
            assert_eq!(
                u64::from(failed.code.unwrap()),
                operation["code"].as_u64().unwrap()
            );
            assert_eq!(*failed.message, *operation["message"].as_str().unwrap());
            continue;
        }
        if kind == "drop" {
            continue;
        }
        let output = outputs.next().unwrap();
        assert_eq!(
            (output.record, u64::from(output.sink)),
            (index, operation["sink"].as_u64().unwrap())
        );
        let partition: Value = match output.partition {
            PartitionChoice::Key => "key".into(),
            PartitionChoice::Source => "source".into(),
            PartitionChoice::Explicit(PartitionId(chosen)) => chosen.into(),
        };
        assert_eq!(partition, operation["partition"]);
        let Content::Changed(changed) = &output.content else {
            assert_eq!(kind, "pass");
            continue;
        };
        let inherits = kind == "edit" || operation["inherit"] == true;
        let expected = |name: &str, own: &str| match operation.get(name) {
            Some(given) => given.clone(),
            None if inherits => own.into(),
            None => Value::Null,
        };
        let shown = |bytes: &Option<bytes::Bytes>| bytes.as_deref().map_or(Value::Null, text);
        assert_eq!(shown(&changed.key), expected("key", "key"));
        assert_eq!(shown(&changed.value), expected("value", "value"));
        let timestamp = operation.get("timestamp").and_then(Value::as_i64);
        assert_eq!(
            changed.timestamp,
            timestamp.unwrap_or(records[index as usize].timestamp)
        );
        let mut headers: Vec<(Value, Value)> = match inherits {
            true => vec![("a".into(), "0".into()), ("c".into(), Value::Null)],
            false => Vec::new(),
        };
        for change in operation["headers"].as_array().unwrap() {
            let name = change.get(1).cloned().unwrap_or_default();
            let value = change.get(2).cloned().unwrap_or_default();
            match change[0].as_str().unwrap() {
                "clear" => headers.clear(),
                "remove" => headers.retain(|header| header.0 != name),
                "append" => headers.push((name, value)),
                _ => {
                    headers.retain(|header| header.0 != name);
                    headers.push((name, value));
                }
            }
        }
        let found = changed
            .headers
            .iter()
            .map(|header| (text(&header.key), shown(&header.value)));
        assert_eq!(found.collect::<Vec<_>>(), headers);
    }
    assert!(outputs.next().is_none() && failed.next().is_none());
}
