//! The control port.

use serde_json::json;

use crate::client::{BUCKET, ask, control, get, put, start};

#[tokio::test]
async fn faults_come_and_go() {
    let double = start().await;
    let faults = json!({"rules": [
        {"op": "GetObject", "fault": {"kind": "status", "status": 503, "code": "SlowDown"}},
    ]});
    assert_eq!(
        control(&double, "POST", "/faults", &faults.to_string())
            .await
            .0,
        204
    );
    assert_eq!(get(&double, "a", &[]).await.unwrap().status, 503);
    assert_eq!(control(&double, "DELETE", "/faults", "").await.0, 204);
    assert_eq!(get(&double, "a", &[]).await.unwrap().status, 404);
}

#[tokio::test]
async fn mistakes_are_named() {
    let double = start().await;
    let address = double.control_address();
    for (body, named) in [
        (
            json!({"rules": [{"op": "*", "fault": {"kind": "gremlin"}}]}),
            "gremlin",
        ),
        (
            json!({"rules": [{"op": "*", "often": 3, "fault": {"kind": "lost_put"}}]}),
            "often",
        ),
        (json!({"rule": []}), "rule"),
        (
            json!({"rules": [{"op": "*", "fault": {"kind": "status", "status": 200, "code": ""}}]}),
            "use 400 to 599",
        ),
        (
            json!({"rules": [{"op": "*", "fault": {"kind": "hang", "hangs": 1}}]}),
            "hangs",
        ),
    ] {
        let answer = ask(address, "POST", "/faults", &[], body.to_string())
            .await
            .unwrap();
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(named), "{}", answer.text());
    }
    assert_eq!(control(&double, "GET", "/nowhere", "").await.0, 404);
}

#[tokio::test]
async fn requests_log_and_objects() {
    let double = start().await;
    put(&double, "a/b%20c", "12345").await;
    assert_eq!(get(&double, "a/b%20c", &[]).await.unwrap().text(), "12345");
    get(&double, "missing", &[]).await.unwrap();
    let (_, requests) = control(&double, "GET", "/requests", "").await;
    let by_op = json!({"PutObject": {"200": 1}, "GetObject": {"200": 1, "404": 1}});
    assert_eq!(requests["by_op"], by_op);
    assert_eq!(requests["bytes_in"], 5);
    assert!(requests["bytes_out"].as_u64().unwrap() > 5);
    let (_, log) = control(&double, "GET", "/log", "").await;
    let last = json!(
        {"number": 2, "op": "GetObject", "key": "missing", "status": 404, "fault": null}
    );
    assert_eq!(log[2], last);
    let objects = json!([
        {"bucket": BUCKET, "key": "a/b c", "size": 5, "etag": "827ccb0eea8a706c4c34a16891f84e7b"},
    ]);
    assert_eq!(
        control(&double, "GET", "/objects?prefix=a%2Fb", "").await,
        (200, objects)
    );
    assert_eq!(
        control(&double, "GET", "/objects?prefix=b", "").await,
        (200, json!([]))
    );
    assert_eq!(control(&double, "POST", "/requests/reset", "").await.0, 204);
    assert_eq!(control(&double, "GET", "/log", "").await, (200, json!([])));
}

#[tokio::test]
async fn down_and_up() {
    let double = start().await;
    assert_eq!(
        control(&double, "POST", "/down", r#"{"down": true}"#)
            .await
            .0,
        204
    );
    assert!(get(&double, "a", &[]).await.is_none());
    assert_eq!(
        control(&double, "POST", "/down", r#"{"down": false}"#)
            .await
            .0,
        204
    );
    assert_eq!(get(&double, "a", &[]).await.unwrap().status, 404);
}
