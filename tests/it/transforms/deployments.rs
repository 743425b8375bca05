//! What is refused when it is deployed, with the reason, and leaves nothing behind.

use serde_json::{Value, json};

use super::{HOSTILE, IDENTITY, Rig, with};

async fn refused(rig: &Rig, wanted: Value) -> (u16, String, String) {
    let (status, answer) = rig.post("/v1/transforms", &wanted).await;
    let text = |field: &str| answer[field].as_str().unwrap_or_default().to_owned();
    (
        status,
        text("code"),
        format!("{} / {}", text("message"), text("hint")),
    )
}

#[tokio::test]
async fn wrong_deployments_are_refused_with_the_reason() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    let id = rig.upload(HOSTILE).await;
    let good = json!({ "name": "t", "function": id, "source": "in", "sinks": ["out"] });
    for (change, status, code, said) in [
        (
            json!({ "source": "nowhere" }),
            404,
            "unknown_topic",
            "nowhere",
        ),
        (
            json!({ "function": "0123456789abcdef" }),
            404,
            "unknown_function",
            "0123456789abcdef",
        ),
        (
            json!({ "function": null, "stock": "nothing" }),
            404,
            "unknown_function",
            "filter, project, redact, route",
        ),
        (json!({ "stock": "filter" }), 400, "bad_request", "either"),
        (
            json!({ "delivery": "exactly-once" }),
            422,
            "no_transactions",
            "at-least-once",
        ),
        (json!({ "delivery": "twice" }), 400, "bad_delivery", "twice"),
        (
            json!({ "on_error": "panic" }),
            400,
            "bad_policy",
            "dlq, skip or stop",
        ),
        (
            json!({ "on_error": "skip", "dlq": "d" }),
            400,
            "bad_policy",
            "dlq",
        ),
        (
            json!({ "dlq": "out" }),
            400,
            "bad_dead_letters",
            "out cannot be the topic for dead letters: it is a sink",
        ),
        (
            json!({ "dlq": "in" }),
            400,
            "bad_dead_letters",
            "it is the source",
        ),
        (
            json!({ "sinks": ["t.dlq"] }),
            400,
            "bad_dead_letters",
            "t.dlq cannot be",
        ),
        (
            json!({ "from": "yesterday" }),
            400,
            "bad_position",
            "yesterday",
        ),
        (
            json!({ "from": "17" }),
            400,
            "bad_position",
            "start, end or a time",
        ),
        (json!({ "sinks": [] }), 400, "refused", "sink"),
        (json!({ "sinks": ["in"] }), 400, "refused", "in"),
        (json!({ "sinks": ["out", "out"] }), 400, "refused", "out"),
        (
            json!({ "sinks": ["__consumer_offsets"] }),
            400,
            "refused",
            "__consumer_offsets",
        ),
        (json!({ "sinks": ["a b"] }), 400, "bad_topic", "a b"),
        (
            json!({ "sinks": ["a.b", "a_b"] }),
            400,
            "bad_topic",
            "collides",
        ),
        (json!({ "name": "no/name" }), 400, "", "name"),
        (
            json!({ "limits": { "time_ms": 0 } }),
            400,
            "refused",
            "time",
        ),
        (
            json!({ "limits": { "memory_bytes": 1u64 << 40 } }),
            400,
            "refused",
            "memory",
        ),
        (
            json!({ "config": { "first": "refuse" } }),
            422,
            "function_refused",
            "refused on request",
        ),
        (
            json!({ "config": { "first": "trap" } }),
            422,
            "function_refused",
            "trapped",
        ),
        (
            json!({ "config": { "first": "garbage" } }),
            422,
            "function_refused",
            "frame",
        ),
        (
            json!({ "config": { "first": "loop" }, "limits": { "time_ms": 20 } }),
            422,
            "function_refused",
            "20 ms",
        ),
        (json!({ "colour": "blue" }), 400, "bad_json", "colour"),
    ] {
        let wanted = with(good.clone(), change.clone());
        let (found, found_code, told) = refused(&rig, wanted).await;
        assert_eq!(found, status, "{change}: {told}");
        assert!(
            code.is_empty() || found_code == code,
            "{change}: {found_code} {told}"
        );
        assert!(told.contains(said), "{change}: {told}");
        // Each refusal says what to do next.
        assert!(!told.ends_with(" / "), "{change}: {told}");
    }
    let (_, transforms) = rig.call("GET", "/v1/transforms", b"").await;
    assert_eq!(transforms, json!([]));
    rig.must_post("/v1/transforms", &good).await;
}

#[tokio::test]
async fn records_cannot_go_round() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.deploy(IDENTITY, "first", json!({ "sinks": ["b"] }))
        .await;
    rig.deploy(IDENTITY, "second", json!({ "source": "b", "sinks": ["c"] }))
        .await;
    let id = rig.upload(IDENTITY).await;
    for source in ["c", "first.dlq"] {
        let wanted = json!({ "name": "third", "function": id, "source": source, "sinks": ["in"] });
        let (status, code, told) = refused(&rig, wanted).await;
        assert_eq!((status, &*code), (409, "cycle"), "{told}");
        assert!(
            told.contains(&format!("{source} -> in")) || told.contains("in -> "),
            "{told}"
        );
    }
    let (status, code, told) = refused(
        &rig,
        json!({ "name": "first", "function": id, "source": "b", "sinks": ["x"] }),
    )
    .await;
    assert_eq!((status, &*code), (409, "other_source"), "{told}");
}

#[tokio::test]
async fn clients_cannot_move_a_transforms_offsets_or_write_its_topics() {
    use tidemill_protocol::offset_commit::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &["a", "b"]).await;
    rig.deploy(IDENTITY, "copy", json!({})).await;
    rig.caught_up("copy").await;
    let request = OffsetCommitRequest {
        group_id: "_tidemill.transform.copy".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "in".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: 0,
                committed_leader_epoch: -1,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = rig.wire.call(8, &request).await;
    let refused = tidemill_protocol::ErrorCode::GroupAuthorizationFailed.code();
    assert_eq!(answer.topics[0].partitions[0].error_code, refused);
    let batch = tidemill_tests::records::batch(&["forged"]);
    let answer = rig.wire.produce("_tidemill.functions", 0, &batch).await;
    let refused = tidemill_protocol::ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!(answer.error_code, refused);
    assert_eq!(rig.wire.delete("_tidemill.functions").await, refused);
    let answer = rig.wire.create("_tidemill.other", 1, &[]).await;
    assert_eq!(answer.topics[0].error_code, refused);
}
