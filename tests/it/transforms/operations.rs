//! What operators do while records flow: versions, pauses, rewinds, the end.

use serde_json::json;
use tidemill_tests::until;

use super::{HOSTILE, IDENTITY, Rig, batch};

async fn started() -> Rig {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    rig
}

/// The stock filter that keeps one value.
fn keeping(value: &str) -> serde_json::Value {
    json!({
        "name": "t", "stock": "filter", "source": "in", "sinks": ["out"], "from": "start",
        "config": { "where": "/v", "op": "eq", "value": value, "missing": "pass" },
    })
}

#[tokio::test]
async fn versions_are_swapped_and_rolled_back_between_records() {
    let mut rig = started().await;
    assert_eq!(
        rig.must_post("/v1/transforms", &keeping("1")).await["version"],
        1
    );
    rig.produce(0, &[r#"{"v":1,"n":1}"#, r#"{"v":2,"n":1}"#])
        .await;
    rig.caught_up("t").await;
    assert_eq!(
        rig.must_post("/v1/transforms", &keeping("2")).await["version"],
        2
    );
    until("the second version's task", async || {
        (rig.status("t").await["tasks"][0]["version"] == 2).then_some(())
    })
    .await;
    rig.produce(0, &[r#"{"v":1,"n":2}"#, r#"{"v":2,"n":2}"#])
        .await;
    rig.caught_up("t").await;
    assert_eq!(
        rig.must_post("/v1/transforms/t/rollback", &json!({})).await["version"],
        1
    );
    until("the first version's task", async || {
        (rig.status("t").await["tasks"][0]["version"] == 1).then_some(())
    })
    .await;
    rig.produce(0, &[r#"{"v":1,"n":3}"#, r#"{"v":2,"n":3}"#])
        .await;
    rig.caught_up("t").await;
    assert_eq!(
        rig.values("out").await,
        [r#"{"v":1,"n":1}"#, r#"{"v":2,"n":2}"#, r#"{"v":1,"n":3}"#]
    );
    let (status, answer) = rig.post("/v1/transforms/t/rollback", &json!({})).await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("no_version")),
        "{answer}"
    );
    let (status, answer) = rig
        .post("/v1/transforms/t/rollback", &json!({ "version": 9 }))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (404, &json!("unknown_version")),
        "{answer}"
    );
    let versions = rig.status("t").await["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 2);
    assert_eq!(
        (&versions[0]["is_current"], &versions[1]["is_current"]),
        (&json!(true), &json!(false))
    );
}

#[tokio::test]
async fn a_pause_holds_everything_back_until_it_ends() {
    let mut rig = started().await;
    rig.deploy(IDENTITY, "t", json!({})).await;
    rig.produce(0, &["a"]).await;
    rig.caught_up("t").await;
    rig.must_post("/v1/transforms/t/pause", &json!({})).await;
    rig.in_state("t", "paused").await;
    until("the task's own pause", async || {
        (rig.status("t").await["tasks"][0]["state"] == "paused").then_some(())
    })
    .await;
    rig.produce(0, &["b"]).await;
    assert_eq!(rig.status("t").await["lag"], 1);
    rig.restart().await;
    until("the lag after the restart", async || {
        (rig.in_state("t", "paused").await["lag"] == 1).then_some(())
    })
    .await;
    assert_eq!(rig.values("out").await, ["a"]);
    rig.must_post("/v1/transforms/t/resume", &json!({})).await;
    rig.caught_up("t").await;
    assert_eq!(rig.values("out").await, ["a", "b"]);
}

#[tokio::test]
async fn a_rewind_begins_again_at_an_offset_or_a_time() {
    let mut rig = started().await;
    for at in 1..=4 {
        let value = format!("v{at}");
        rig.wire
            .must_produce("in", 0, &batch(&[(at * 1_000, None, Some(&value), &[])]))
            .await;
    }
    rig.deploy(IDENTITY, "t", json!({})).await;
    rig.caught_up("t").await;
    let mut expected: Vec<&str> = vec!["v1", "v2", "v3", "v4"];
    for (to, offset, again) in [
        ("2", 2, &["v3", "v4"][..]),
        ("@4000", 3, &["v4"]),
        ("start", 0, &["v1", "v2", "v3", "v4"]),
        ("end", 4, &[]),
        // Cut at the end of the log.
        ("99", 4, &[]),
    ] {
        let answer = rig
            .must_post("/v1/transforms/t/rewind", &json!({ "to": to }))
            .await;
        let offsets = json!([{ "partition": 0, "offset": offset }]);
        assert_eq!(answer, json!({ "offsets": offsets }), "{to}");
        expected.extend(again);
        let wire = &mut rig.wire;
        until("the records again", async || {
            (wire.values("out", 0).await.len() >= expected.len()).then_some(())
        })
        .await;
        rig.caught_up("t").await;
    }
    assert_eq!(rig.values("out").await, expected);
    let (status, answer) = rig
        .post("/v1/transforms/t/rewind", &json!({ "to": "-1" }))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (400, &json!("bad_position")),
        "{answer}"
    );
    // What a rewind has committed survives.
    rig.restart().await;
    rig.produce(0, &["v5"]).await;
    rig.caught_up("t").await;
    expected.push("v5");
    assert_eq!(rig.values("out").await, expected);
}

#[tokio::test]
async fn a_deleted_transform_is_gone_and_its_name_begins_anew() {
    let mut rig = started().await;
    rig.produce(0, &["a", "b"]).await;
    rig.deploy(IDENTITY, "t", json!({})).await;
    rig.caught_up("t").await;
    let (status, _) = rig.call("DELETE", "/v1/transforms/t", b"").await;
    assert_eq!(status, 200);
    for (method, path) in [
        ("GET", "/v1/transforms/t"),
        ("DELETE", "/v1/transforms/t"),
        ("POST", "/v1/transforms/t/pause"),
        ("POST", "/v1/transforms/t/rollback"),
    ] {
        let (status, answer) = rig.call(method, path, b"").await;
        assert_eq!(
            (status, &answer["code"]),
            (404, &json!("unknown_transform")),
            "{method} {path}"
        );
    }
    rig.produce(0, &["c"]).await;
    rig.deploy(IDENTITY, "t", json!({})).await;
    rig.caught_up("t").await;
    assert_eq!(rig.values("out").await, ["a", "b", "a", "b", "c"]);
}

#[tokio::test]
async fn what_is_no_request_of_ours_is_refused_as_json() {
    let rig = started().await;
    for (method, path, status, code) in [
        ("GET", "/v1/nonsense", 404, "unknown_path"),
        ("POST", "/v1/nonsense", 404, "unknown_path"),
        ("POST", "/v1/transforms/t/fly", 404, "unknown_path"),
        ("GET", "/v1/transforms/t/pause/now", 404, "unknown_path"),
        ("PUT", "/v1/transforms", 405, "method_not_allowed"),
        ("GET", "/v1/transforms/t/pause", 405, "method_not_allowed"),
        ("GET", "/v1/functions/", 404, "unknown_path"),
        ("GET", "/v1/functions/0123456789", 404, "unknown_function"),
        ("GET", "/v1/functions/0123", 400, "bad_id"),
        ("PUT", "/v1/functions/0123456789", 405, "method_not_allowed"),
        ("POST", "/v1/tier", 405, "method_not_allowed"),
    ] {
        let (found, answer) = rig.call(method, path, b"").await;
        assert_eq!(
            (found, &answer["code"]),
            (status, &json!(code)),
            "{method} {path}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_task_that_loops_is_paused_and_deleted_like_any_other() {
    let mut rig = started().await;
    rig.produce(0, &["loop"]).await;
    // Nobody waits for the end of the call, which would take a minute of processor time.
    let patient = json!({ "limits": { "time_ms": 60_000 } });
    rig.deploy(HOSTILE, "t", patient).await;
    until("its first attempt", async || {
        (rig.status("t").await["cpu_seconds"].as_f64() > Some(0.1)).then_some(())
    })
    .await;
    rig.must_post("/v1/transforms/t/pause", &json!({})).await;
    rig.in_state("t", "paused").await;
    let (status, _) = rig.call("DELETE", "/v1/transforms/t", b"").await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_source_that_was_made_anew_is_read_from_its_start() {
    let mut rig = started().await;
    rig.produce(0, &["a", "b", "c"]).await;
    rig.deploy(IDENTITY, "t", json!({})).await;
    rig.caught_up("t").await;
    assert_eq!(rig.wire.delete("in").await, 0);
    rig.wire.must_create("in", 1, &[]).await;
    rig.produce(0, &["new"]).await;
    let wire = &mut rig.wire;
    until("the new topic's record", async || {
        (wire.values("out", 0).await.len() == 4).then_some(())
    })
    .await;
    assert_eq!(rig.values("out").await, ["a", "b", "c", "new"]);
}

#[tokio::test]
async fn swaps_under_load_repeat_and_lose_nothing() {
    const RECORDS: i64 = 4_000;
    let mut rig = started().await;
    rig.deploy(IDENTITY, "t", json!({})).await;
    let mut expected = Vec::new();
    for round in 0..RECORDS / 100 {
        let values: Vec<String> = (0..100).map(|at| format!("{}", round * 100 + at)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        rig.produce(0, &values).await;
        expected.extend(values.iter().map(ToString::to_string));
        if round % 4 == 0 {
            rig.deploy(IDENTITY, "t", json!({ "retries": round % 3 }))
                .await;
        }
        if round % 7 == 0 {
            rig.must_post("/v1/transforms/t/pause", &json!({})).await;
            rig.must_post("/v1/transforms/t/resume", &json!({})).await;
        }
    }
    rig.caught_up("t").await;
    assert_eq!(rig.values("out").await, expected);
}
