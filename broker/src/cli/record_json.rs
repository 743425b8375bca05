//! Records as JSON lines, the same form in and out: what `consume --format json` prints,
//! `produce --format-in ndjson` reads.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tidemill_client::FetchedPartition;
use tidemill_records::{Headers, PartitionId, Record, RecordHeader};

use crate::timestamp::parse_timestamp;

/// A record as a line of input says it. Keys and values that are not JSON strings are taken as their JSON
/// text; bytes that are not UTF-8 come as base64.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: InputHeaders<'a>,
    #[serde(default)]
    partition: Option<i32>,
    /// Printed by consume, and without meaning here.
    #[serde(default, rename = "topic")]
    _topic: IgnoredAny,
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    /// Printed by fn dlq: mended records go from there to `produce` as they are.
    #[serde(default, rename = "dead_letter")]
    _dead_letter: IgnoredAny,
}

/// A list of headers; or, as people write them, an object of names and values.
#[derive(Debug, Default)]
struct InputHeaders<'a>(Vec<InputHeader<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for InputHeaders<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = InputHeaders<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of headers with key and value, or an object of names and values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::new();
        while let Some(header) = list.next_element()? {
            headers.push(header);
        }
        Ok(InputHeaders(headers))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut headers = Vec::new();
        while let Some((key, value)) = object.next_entry()? {
            headers.push(InputHeader {
                key,
                value,
                value_base64: None,
            });
        }
        Ok(InputHeaders(headers))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputHeader<'a> {
    key: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_base64: Option<Cow<'a, str>>,
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedRecord {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) timestamp: Option<i64>,
    pub(super) headers: Headers,
    pub(super) partition: Option<PartitionId>,
}

/// Reads one line.
pub(super) fn parse(line: &[u8]) -> Result<ParsedRecord, String> {
    let input: Input<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let headers = input.headers.0.iter().map(|header| {
        let value = bytes_of(header.value, header.value_base64.as_deref())?;
        let key = Bytes::copy_from_slice(header.key.as_bytes());
        Ok(RecordHeader {
            key,
            value: value.map(Bytes::from),
        })
    });
    Ok(ParsedRecord {
        key: bytes_of(input.key, input.key_base64.as_deref())?,
        value: bytes_of(input.value, input.value_base64.as_deref())?,
        timestamp: input.timestamp.map(timestamp_of).transpose()?,
        headers: headers.collect::<Result<Headers, String>>()?,
        partition: input.partition.map(PartitionId),
    })
}

fn bytes_of(json: Option<&RawValue>, base64: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    match (json, base64) {
        (None, None) => Ok(None),
        (None, Some(text)) => BASE64
            .decode(text)
            .map(Some)
            .map_err(|error| error.to_string()),
        (Some(json), None) => match json.get().starts_with('"') {
            true => {
                let text: String = serde_json::from_str(json.get()).map_err(|e| e.to_string())?;
                Ok(Some(text.into_bytes()))
            }
            false => Ok(Some(json.get().as_bytes().to_vec())),
        },
        (Some(_), Some(_)) => Err("a field is given both as text and as base64".to_owned()),
    }
}

fn timestamp_of(json: &RawValue) -> Result<i64, String> {
    let text = json.get().trim_matches('"');
    parse_timestamp(text).ok_or_else(|| {
        format!("timestamp {text} is neither milliseconds nor a time like 2013-01-01T05:00:00Z")
    })
}

/// A record as a line of output says it.
#[derive(Debug, Serialize)]
struct Output<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(flatten)]
    fields: Fields<'a>,
}

/// What a record holds, wherever it lies.
#[derive(Debug, Serialize)]
pub(super) struct Fields<'a> {
    timestamp: i64,
    #[serde(flatten)]
    key: Key<'a>,
    #[serde(flatten)]
    value: Value<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<OutputHeader>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Key<'a> {
    Key(Option<&'a str>),
    KeyBase64(String),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Value<'a> {
    Value(Option<&'a str>),
    ValueBase64(String),
}

#[derive(Debug, Serialize)]
struct OutputHeader {
    key: String,
    #[serde(flatten)]
    value: OwnedValue,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum OwnedValue {
    Value(Option<String>),
    ValueBase64(String),
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        timestamp: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: &Headers,
    ) -> Fields<'a> {
        let key = match key.map(|bytes| str::from_utf8(bytes).map_err(|_| bytes)) {
            None => Key::Key(None),
            Some(Ok(text)) => Key::Key(Some(text)),
            Some(Err(bytes)) => Key::KeyBase64(BASE64.encode(bytes)),
        };
        let value = match value.map(|bytes| str::from_utf8(bytes).map_err(|_| bytes)) {
            None => Value::Value(None),
            Some(Ok(text)) => Value::Value(Some(text)),
            Some(Err(bytes)) => Value::ValueBase64(BASE64.encode(bytes)),
        };
        Fields {
            timestamp,
            key,
            value,
            headers: headers.iter().map(output_header).collect(),
        }
    }

    pub(super) fn has_no_headers(&self) -> bool {
        self.headers.is_empty()
    }

    pub(super) fn of(record: &'a Record) -> Fields<'a> {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        Fields::new(record.timestamp, key, value, &record.headers)
    }
}

/// Appends the record as one line.
pub(super) fn write(out: &mut Vec<u8>, of: &FetchedPartition, record: &Record) {
    let line = Output {
        topic: &of.partition.topic,
        partition: of.partition.partition.0,
        offset: record.offset.0,
        fields: Fields::of(record),
    };
    serde_json::to_writer(&mut *out, &line).expect("strings and numbers are JSON");
    out.push(b'\n');
}

fn output_header(header: RecordHeader) -> OutputHeader {
    let value = match header.value.map(|bytes| String::from_utf8(bytes.to_vec())) {
        None => OwnedValue::Value(None),
        Some(Ok(text)) => OwnedValue::Value(Some(text)),
        Some(Err(binary)) => OwnedValue::ValueBase64(BASE64.encode(binary.as_bytes())),
    };
    OutputHeader {
        key: String::from_utf8_lossy(&header.key).into_owned(),
        value,
    }
}

#[cfg(test)]
mod tests {
    use tidemill_records::{
        Compression, DecodeLimit, LeaderEpoch, Offset, RecordBatchBuilder, TopicPartition,
    };

    use super::*;

    fn header(key: &str, value: Option<&[u8]>) -> RecordHeader {
        let value = value.map(Bytes::copy_from_slice);
        RecordHeader {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value,
        }
    }

    #[test]
    fn json_values_keep_their_text_and_strings_lose_their_quotes() {
        let line =
            br#"{"key":"UA","value":{"b": 1,  "a":null},"timestamp":"2013-01-01T10:00:00Z"}"#;
        let record = parse(line).unwrap();
        assert_eq!(record.key.unwrap(), b"UA");
        assert_eq!(record.value.unwrap(), br#"{"b": 1,  "a":null}"#);
        assert_eq!(record.timestamp, Some(1_357_034_400_000));
        assert_eq!(parse(b"{}").unwrap().value, None);
        assert_eq!(parse(br#"{"value":null}"#).unwrap().value, None);
        assert_eq!(
            parse(br#"{"value":"\u00e9\n"}"#).unwrap().value.unwrap(),
            "é\n".as_bytes()
        );
    }

    #[test]
    fn headers_are_a_list_or_an_object() {
        let list = parse(br#"{"headers":[{"key":"b","value":"1"},{"key":"a","value":null}]}"#);
        let object = parse(br#"{"headers":{"b":"1","a":null}}"#);
        assert_eq!(list, object);
        assert_eq!(list.unwrap().headers.len(), 2);
        assert!(parse(br#"{"headers":{}}"#).unwrap().headers.is_empty());
    }

    #[test]
    fn mistakes_are_said() {
        for (line, part) in [
            (&b"not json"[..], "expected"),
            (br#"{"vlaue":1}"#, "vlaue"),
            (br#"{"value":1,"value_base64":"AA=="}"#, "both"),
            (br#"{"value_base64":"?"}"#, ""),
            (br#"{"timestamp":"soon"}"#, "soon"),
            (br#"{"partition":"one"}"#, "i32"),
            (br#"{"headers":"a"}"#, "list of headers"),
            (br#"{"headers":[{"kye":"a"}]}"#, "kye"),
            (b"\xff", ""),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let headers: Headers = [
            header("plain", Some(b"x")),
            header("plain", None),
            header("binary", Some(&[0xff, 0])),
        ]
        .into_iter()
        .collect();
        let mut builder = RecordBatchBuilder::new(Compression::None);
        builder.push(5, Some(b"k"), Some(b"{\"a\": 1}"), &headers);
        builder.push(6, Some(&[0xfe]), Some(&[0xff]), &Headers::default());
        builder.push(7, None, None, &Headers::default());
        let mut batch = builder.build().unwrap();
        batch.assign(Offset(40), LeaderEpoch(0));
        let of = FetchedPartition {
            partition: TopicPartition::new("t", PartitionId(2)),
            from: Offset(40),
            high_watermark: Offset(43),
            log_start_offset: Offset(0),
            batches: vec![batch.clone()],
        };
        for (at, record) in batch.records(DecodeLimit(1 << 20)).unwrap().enumerate() {
            let record = record.unwrap();
            let mut line = Vec::new();
            write(&mut line, &of, &record);
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            let read = parse(&line).unwrap();
            assert_eq!(read.key.as_deref(), record.key.as_deref(), "{at}");
            assert_eq!(read.value.as_deref(), record.value.as_deref(), "{at}");
            assert_eq!(read.timestamp, Some(record.timestamp));
            assert_eq!(read.headers, record.headers);
            assert_eq!(read.partition, Some(PartitionId(2)));
        }
    }
}
