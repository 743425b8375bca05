//! Uploading: what is a function and what is not, and what is kept.

use serde_json::json;
use tidemill_tests::request;

use super::{DELAYS, HOSTILE, IDENTITY, Rig};

#[tokio::test]
async fn what_is_no_function_is_refused_with_the_reason() {
    let rig = Rig::start().await;
    let mut cut = DELAYS.to_vec();
    cut.truncate(DELAYS.len() / 2);
    // An empty module, and one that imports what nobody offers.
    let empty = b"\0asm\x01\0\0\0".to_vec();
    let importing = [
        &empty[..],
        b"\x01\x04\x01\x60\0\0",
        b"\x02\x0b\x01\x04wasi\x02go\0\0",
    ]
    .concat();
    for (artifact, said) in [
        (Vec::new(), "no WebAssembly"),
        (b"#!/bin/sh".to_vec(), "no WebAssembly"),
        (b"\0asm\x09\0\0\0".to_vec(), "unknown version"),
        (cut, "not valid"),
        (empty, "does not export `memory`"),
        (importing, "imports `wasi.go`"),
    ] {
        let (status, answer) = rig.call("POST", "/v1/functions", &artifact).await;
        assert_eq!(
            (status, &answer["code"]),
            (422, &json!("artifact_refused")),
            "{answer}"
        );
        assert!(
            answer["message"].as_str().unwrap().contains(said),
            "{answer}"
        );
        assert!(answer["hint"].is_string());
    }
    let (_, functions) = rig.call("GET", "/v1/functions", b"").await;
    assert_eq!(functions, json!([]));
}

#[tokio::test]
async fn a_function_too_large_to_compile_is_refused_with_the_bound() {
    let rig = Rig::start().await;
    // One function of the type () -> (), with 49,000 locals.
    let artifact = [
        &b"\0asm\x01\0\0\0"[..],
        b"\x01\x04\x01\x60\0\0",
        b"\x03\x02\x01\0",
        b"\x0a\x08\x01\x06\x01\xe8\xfe\x02\x7f\x0b",
    ]
    .concat();
    let (status, answer) = rig.call("POST", "/v1/functions", &artifact).await;
    assert_eq!(
        (status, &answer["code"]),
        (413, &json!("artifact_too_large")),
        "{answer}"
    );
    let message = answer["message"].as_str().unwrap();
    assert!(
        message.contains("function 0 has 49000 locals; 10000 are allowed"),
        "{answer}"
    );
    assert!(answer["hint"].is_string());
}

#[tokio::test]
async fn an_artifact_is_kept_once_and_deleted_when_nobody_uses_it() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    let (status, first) = rig.call("POST", "/v1/functions?label=mine", IDENTITY).await;
    assert_eq!(status, 201);
    let (status, again) = rig.call("POST", "/v1/functions", IDENTITY).await;
    assert_eq!(
        (status, &again["id"], &again["label"]),
        (200, &first["id"], &json!("mine"))
    );
    let form = [
        &b"--xx\r\nContent-Disposition: form-data; name=\"f\"; filename=\"h.wasm\"\r\n\r\n"[..],
        HOSTILE,
        b"\r\n--xx--\r\n",
    ]
    .concat();
    let kind = "Content-Type: multipart/form-data; boundary=xx\r\n";
    let admin = rig.broker.addresses().admin;
    let (status, body) = request(admin, "POST", "/v1/functions", kind, &form).await;
    assert_eq!(status, 201, "{body}");
    let id = first["id"].as_str().unwrap();
    rig.deploy(IDENTITY, "copy", json!({})).await;
    let (status, answer) = rig
        .call("DELETE", &format!("/v1/functions/{id}"), b"")
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (409, &json!("function_in_use")),
        "{answer}"
    );
    rig.restart().await;
    let (_, functions) = rig.call("GET", "/v1/functions", b"").await;
    assert_eq!(functions.as_array().unwrap().len(), 2);
    let (status, _) = rig.call("DELETE", "/v1/transforms/copy", b"").await;
    assert_eq!(status, 200);
    let (status, _) = rig
        .call("DELETE", &format!("/v1/functions/{}", &id[..8]), b"")
        .await;
    assert_eq!(status, 200);
    let (_, functions) = rig.call("GET", "/v1/functions", b"").await;
    assert_eq!(functions.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_artifact_of_many_chunks_comes_back_whole() {
    let mut rig = Rig::start().await;
    rig.wire.must_create("in", 1, &[]).await;
    // A custom section makes it large, and changes nothing else.
    let mut large = IDENTITY.to_vec();
    let filling: Vec<u8> = (0..1_500_000u32)
        .map(|at| at as u8 ^ (at >> 8) as u8)
        .collect();
    let content = filling.len() as u32 + 2;
    large.push(0);
    let mut rest = content;
    while rest >= 0x80 {
        large.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    large.push(rest as u8);
    large.extend([1, b'x']);
    large.extend(filling);
    rig.deploy(&large, "copy", json!({})).await;
    rig.broker.stop().await;
    // Without the cache it has to be read back.
    std::fs::remove_dir_all(rig.broker.data_dir().join("cache")).unwrap();
    rig.broker.start_again().await;
    rig.wire = rig.broker.wire().await;
    rig.produce(0, &["through"]).await;
    rig.caught_up("copy").await;
    assert_eq!(rig.values("out").await, ["through"]);
}
