//! Records that a function does not get through, and sinks that do not take what it makes.

use serde_json::json;
use tidemill_records::{Compression, Headers, RecordBatch, RecordBatchBuilder};
use tidemill_tests::until;

use super::{HOSTILE, IDENTITY, Rig, batch, headers, text};

const QUICK: u32 = 50;

#[tokio::test]
async fn exactly_the_poison_becomes_dead_letters_with_full_context() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    let bad = [
        "trap",
        "loop",
        "fail because",
        "answer",
        "flood",
        "frame:magic",
    ];
    let mut found = Vec::new();
    let mut good = Vec::new();
    for (at, value) in bad.iter().enumerate() {
        good.push(format!("before {at}"));
        found.push((
            1_000 + at as i64,
            Some("k"),
            Some(*value),
            &[("own", Some("kept"))][..],
        ));
    }
    for (before, bad) in good.iter().zip(&found) {
        let first: (i64, Option<&str>, Option<&str>, &[(&str, Option<&str>)]) =
            (1, None, Some(before), &[]);
        rig.wire.must_produce("in", 0, &batch(&[first, *bad])).await;
    }
    let version = json!({ "limits": { "time_ms": QUICK }, "backoff_ms": 1 });
    rig.deploy(HOSTILE, "guarded", version).await;
    rig.caught_up("guarded").await;
    assert_eq!(rig.values("out").await, good);
    let letters = rig.all("guarded.dlq", 0).await;
    let kinds = ["trap", "time", "failed", "refused", "output", "frame"];
    assert_eq!(letters.len(), bad.len());
    let function = rig.status("guarded").await["function"]
        .as_str()
        .unwrap()
        .to_owned();
    for (at, (letter, kind)) in letters.iter().zip(kinds).enumerate() {
        let told = headers(letter);
        assert_eq!(
            (text(&letter.key).as_deref(), text(&letter.value).as_deref()),
            (Some("k"), Some(bad[at]))
        );
        assert_eq!(
            (letter.timestamp, told["own"].as_str()),
            (1_000 + at as i64, "kept")
        );
        for (header, expected) in [
            ("topic", "in"),
            ("partition", "0"),
            ("offset", &(2 * at + 1).to_string()),
            ("timestamp", &(1_000 + at).to_string()),
            ("transform", "guarded"),
            ("version", "1"),
            ("function", &function),
            ("kind", kind),
        ] {
            assert_eq!(
                told[&format!("tidemill.dlq.{header}")],
                expected,
                "{} {header}: {told:?}",
                bad[at]
            );
        }
        assert!(!told["tidemill.dlq.error"].is_empty());
    }
    assert_eq!(headers(&letters[2])["tidemill.dlq.code"], "42");
    assert!(headers(&letters[2])["tidemill.dlq.error"].contains("because"));
    let status = rig.status("guarded").await;
    assert_eq!(status["dead_letters"], json!(bad.len()));
}

#[tokio::test]
async fn the_policies_skip_and_stop_do_what_they_say() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &["a", "trap", "b"]).await;
    rig.wire.must_create("fails", 1, &[]).await;
    let refused = tidemill_tests::records::batch(&["a", "fail", "b"]);
    rig.wire.must_produce("fails", 0, &refused).await;
    rig.deploy(
        HOSTILE,
        "skips",
        json!({ "on_error": "skip", "sinks": ["skipped"], "retries": 0 }),
    )
    .await;
    rig.caught_up("skips").await;
    assert_eq!(rig.values("skipped").await, ["a", "b"]);
    assert_eq!(rig.status("skips").await["skipped"], json!(1));
    rig.deploy(
        HOSTILE,
        "stops",
        json!({ "on_error": "stop", "retries": 0 }),
    )
    .await;
    let status = rig.in_state("stops", "stopped").await;
    assert_eq!((&status["lag"], &status["dlq"]), (&json!(2), &json!(null)));
    assert!(
        status["last_error"].as_str().unwrap().contains("offset 1"),
        "{status}"
    );
    let created_at = status["created_at_ms"].as_i64();
    assert!(
        status["last_error_at_ms"].as_i64() >= created_at,
        "{status}"
    );
    assert_eq!(rig.values("out").await, ["a"]);
    // A record that the function refuses in the middle of a frame, too.
    let wanted = json!({ "on_error": "stop", "source": "fails", "sinks": ["before"] });
    rig.deploy(HOSTILE, "refuses", wanted).await;
    let status = rig.in_state("refuses", "stopped").await;
    assert_eq!(status["lag"], json!(2), "{status}");
    assert_eq!(rig.values("before").await, ["a"]);
    rig.must_post("/v1/transforms/stops/resume", &json!({}))
        .await;
    rig.in_state("stops", "stopped").await;
    // A version that gets through it.
    rig.deploy(IDENTITY, "stops", json!({ "on_error": "stop" }))
        .await;
    rig.caught_up("stops").await;
    assert_eq!(rig.values("out").await, ["a", "trap", "b"]);
}

#[tokio::test]
async fn a_record_that_the_sink_does_not_take_is_a_dead_letter() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.wire
        .must_create("out", 1, &[("max.message.bytes", "1000")])
        .await;
    rig.wire
        .must_create("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let large = "x".repeat(2_000);
    rig.produce(0, &["small", &large, "small too"]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.deploy(IDENTITY, "keyed", json!({ "sinks": ["compacted"] }))
        .await;
    for name in ["copy", "keyed"] {
        rig.caught_up(name).await;
    }
    assert_eq!(rig.values("out").await, ["small", "small too"]);
    assert_eq!(rig.values("copy.dlq").await, std::slice::from_ref(&large));
    assert_eq!(
        rig.values("keyed.dlq").await,
        ["small".to_owned(), large, "small too".to_owned()]
    );
    let letter = rig.all("keyed.dlq", 0).await.remove(0);
    assert_eq!(headers(&letter)["tidemill.dlq.kind"], "sink");
}

#[tokio::test]
async fn an_output_for_a_sink_or_partition_that_is_not_there_fails_its_record() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    for value in ["frame:sink", "frame:partition"] {
        rig.produce(0, &[value]).await;
        if value == "frame:sink" {
            rig.deploy(HOSTILE, "guarded", json!({})).await;
        }
        rig.caught_up("guarded").await;
    }
    assert_eq!(rig.values("out").await, [""; 0]);
    let letters = rig.all("guarded.dlq", 0).await;
    let told: Vec<_> = letters.iter().map(headers).collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|told| told["tidemill.dlq.kind"] == "sink"));
    assert!(
        told[0]["tidemill.dlq.error"].contains("sink 65535"),
        "{told:?}"
    );
    assert!(
        told[1]["tidemill.dlq.error"].contains("partition"),
        "{told:?}"
    );
}

/// What compresses well is larger in memory than anywhere else.
#[tokio::test]
async fn a_record_that_is_small_only_when_it_is_compressed_goes_through() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.wire
        .must_create("small-segments", 1, &[("segment.bytes", "100000")])
        .await;
    let mut builder = RecordBatchBuilder::new(Compression::Zstd);
    let large = "x".repeat(3 << 20);
    for value in ["before", &large, "behind"] {
        builder.push(5, None, Some(value.as_bytes()), &Headers::default());
    }
    let compressed = builder.build().expect("a batch");
    rig.wire.must_produce("in", 0, &compressed).await;
    let many: Vec<String> = (0..300).map(|at| format!("{at:01000}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    rig.produce(0, &many).await;
    rig.deploy(
        IDENTITY,
        "copy",
        json!({ "sinks": ["out", "small-segments"] }),
    )
    .await;
    rig.deploy(IDENTITY, "small", json!({ "sinks": ["small-segments"] }))
        .await;
    for name in ["copy", "small"] {
        rig.caught_up(name).await;
    }
    let out = rig.values("out").await;
    assert_eq!((out.len(), out[1].len()), (303, 3 << 20));
    assert_eq!(rig.values("small-segments").await.len(), 303);
}

#[tokio::test]
async fn a_frame_has_one_codec() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &["small"]).await;
    let large = "x".repeat(2_000_000);
    let mut compressed = RecordBatchBuilder::new(Compression::Zstd);
    compressed.push(5, None, Some(large.as_bytes()), &Headers::default());
    let compressed = compressed.build().unwrap();
    rig.wire.must_produce("in", 0, &compressed).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["small".to_owned(), large]);
}

#[tokio::test]
async fn a_codec_that_makes_a_record_too_large_is_left_out() {
    const BYTES_MAX: usize = 100_000;
    let bytes_max = BYTES_MAX.to_string();
    let bounded = [("max.message.bytes", &*bytes_max)];
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &bounded).await;
    // Bytes that no codec makes fewer.
    let mut state = 1u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 56) as u8
    });
    let value: Vec<u8> = noise.take(BYTES_MAX - 101).collect();
    let mut full = RecordBatchBuilder::new(Compression::None);
    full.push(5, None, Some(&value), &Headers::default());
    rig.wire.must_produce("in", 0, &full.build().unwrap()).await;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let sink = format!("out-{codec}");
        let configs = [bounded[0], ("compression.type", codec)];
        rig.wire.must_create(&sink, 1, &configs).await;
        rig.deploy(IDENTITY, codec, json!({ "sinks": [sink] }))
            .await;
        rig.caught_up(codec).await;
        assert_eq!(rig.all(&sink, 0).await[0].value.as_deref(), Some(&*value));
    }
}

/// A record from the future goes to neither the sink nor, with its own time, the topic for dead letters.
#[tokio::test]
async fn a_dead_letter_is_taken_whatever_the_time_of_its_record() {
    const LATE: i64 = 95_617_584_000_000;
    let mut rig = Rig::start().await;
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807")];
    rig.wire.must_create("in", 1, &any_time).await;
    let found = [
        (5, None, Some("before"), &[][..]),
        (LATE, None, Some("late"), &[]),
        (5, None, Some("behind"), &[]),
    ];
    rig.wire.must_produce("in", 0, &batch(&found)).await;
    // Its name is before that of the dead letters, as the order of writing is.
    rig.deploy(IDENTITY, "t", json!({ "sinks": ["a-sink"] }))
        .await;
    rig.caught_up("t").await;
    assert_eq!(rig.values("a-sink").await, ["before", "behind"]);
    let letters = rig.all("t.dlq", 0).await;
    assert_eq!(text(&letters[0].value).as_deref(), Some("late"));
    assert_eq!(
        headers(&letters[0])["tidemill.dlq.timestamp"],
        LATE.to_string()
    );
    assert!(letters[0].timestamp < LATE);
    let status = rig.status("t").await;
    assert_eq!((&status["dead_letters"], letters.len()), (&json!(1), 1));
}

#[tokio::test]
async fn a_sink_that_is_gone_is_waited_for_and_nothing_is_lost() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    assert_eq!(rig.wire.delete("out").await, 0);
    rig.produce(0, &["a", "b"]).await;
    let status = rig.in_state("copy", "waiting").await;
    assert!(
        status["last_error"]
            .as_str()
            .unwrap()
            .contains("no topic out"),
        "{status}"
    );
    rig.wire.must_create("out", 1, &[]).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["a", "b"]);
}

/// A batch whose checksum is right and whose records are none.
fn unreadable() -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(Compression::Zstd);
    builder.push(5, None, Some(b"never seen"), &Headers::default());
    let whole = builder.build().expect("a batch").to_bytes();
    let mut bytes = whole.to_vec();
    let at = tidemill_records::HEADER_BYTES;
    bytes[at..].fill(0xaa);
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&sum.to_be_bytes());
    let (batch, _) = RecordBatch::parse(&bytes.into(), tidemill_records::BatchRules::Produced)
        .expect("its header is right");
    batch
}

#[tokio::test]
async fn a_batch_that_nobody_can_open_is_one_dead_letter() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &["before"]).await;
    let broken = unreadable();
    rig.wire.must_produce("in", 0, &broken).await;
    rig.produce(0, &["behind"]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["before", "behind"]);
    let letters = rig.all("copy.dlq", 0).await;
    assert_eq!(letters.len(), 1);
    let told = headers(&letters[0]);
    assert_eq!(
        (
            told["tidemill.dlq.kind"].as_str(),
            told["tidemill.dlq.offset"].as_str()
        ),
        ("batch", "1")
    );
    assert_eq!(
        letters[0].value.as_ref().map(|value| value.len()),
        Some(broken.size_bytes())
    );
}

#[tokio::test]
async fn a_function_that_says_too_much_is_cut_short_and_told_so() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &["log everything"]).await;
    rig.deploy(
        HOSTILE,
        "loud",
        json!({ "limits": { "log_lines_per_second": 10 } }),
    )
    .await;
    rig.caught_up("loud").await;
    rig.produce(0, &["quiet"]).await;
    rig.caught_up("loud").await;
    let wire = &mut rig.wire;
    let lines = until("lines in the log", async || {
        let known = wire.metadata(&["_tidemill.function_logs"], false).await;
        if known.topics[0].error_code != 0 {
            return None;
        }
        let lines = wire.values("_tidemill.function_logs", 0).await;
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert!((10..1_000).contains(&lines.len()), "{}", lines.len());
    let first: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(
        (
            &first["level"],
            &first["message"],
            &first["transform"],
            &first["version"]
        ),
        (
            &json!("info"),
            &json!("log everything"),
            &json!("loud"),
            &json!(1)
        )
    );
}
