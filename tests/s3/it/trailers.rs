//! Checksums that follow the body, as AWS's own clients send them.
//!
//! `object_store` sends its checksums ahead, so these requests are signed here: SigV4 with the payload
//! `STREAMING-UNSIGNED-PAYLOAD-TRAILER` ("Signature calculations for the Authorization header", AWS).

use std::time::SystemTime;

use ring::digest::{SHA256, digest};
use ring::hmac::{HMAC_SHA256, Key, sign};
use s3s::dto::{Timestamp, TimestampFormat};
use tidemill_test_s3::S3Double;

use crate::client::{Answer, BUCKET, ask, get, start};

const PAYLOAD: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const TRAILER: &str = "x-amz-checksum-crc64nvme";
const SIGNED: &str =
    "host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-trailer";

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    sign(&Key::new(HMAC_SHA256, key), text.as_bytes())
        .as_ref()
        .to_vec()
}

/// Such as 20130524T000000Z.
fn now() -> String {
    let mut text = Vec::new();
    Timestamp::from(SystemTime::now())
        .format(TimestampFormat::DateTime, &mut text)
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    let (seconds, _) = text.split_once('.').unwrap();
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

fn authorization(path: &str, length: usize, time: &str) -> String {
    let canonical = format!(
        "PUT\n{path}\n\nhost:double\nx-amz-content-sha256:{PAYLOAD}\nx-amz-date:{time}\n\
         x-amz-decoded-content-length:{length}\nx-amz-trailer:{TRAILER}\n\n{SIGNED}\n{PAYLOAD}"
    );
    let day = &time[..8];
    let scope = format!("{day}/us-east-1/s3/aws4_request");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        hex(digest(&SHA256, canonical.as_bytes()))
    );
    let key = [day, "us-east-1", "s3", "aws4_request"]
        .iter()
        .fold(b"AWS4testtest".to_vec(), |key, text| hmac(&key, text));
    let signature = hex(hmac(&key, &to_sign));
    format!(
        "AWS4-HMAC-SHA256 Credential=test/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
    )
}

async fn put_with_trailer(double: &S3Double, body: &str, checksum: &str) -> Answer {
    let path = format!("/{BUCKET}/a");
    let (time, length) = (now(), body.len().to_string());
    let authorization = authorization(&path, body.len(), &time);
    let headers = [
        ("authorization", authorization.as_str()),
        ("x-amz-content-sha256", PAYLOAD),
        ("x-amz-date", &time),
        ("x-amz-decoded-content-length", &length),
        ("x-amz-trailer", TRAILER),
        ("content-encoding", "aws-chunked"),
    ];
    let framed = format!(
        "{:x}\r\n{body}\r\n0\r\n{TRAILER}:{checksum}\r\n\r\n",
        body.len()
    );
    ask(double.s3_address(), "PUT", &path, &headers, framed)
        .await
        .unwrap()
}

#[tokio::test]
async fn trailing_checksums_are_verified() {
    let double = start().await;
    // The check value of CRC64NVME, in base64.
    let right = "rosUhgp5mIg=";
    let stored = put_with_trailer(&double, "123456789", right).await;
    assert_eq!(stored.status, 200, "{stored:?}");
    let read = get(&double, "a", &[("x-amz-checksum-mode", "ENABLED")])
        .await
        .unwrap();
    assert_eq!((read.text(), read.header(TRAILER)), ("123456789", right));
    let refusal = put_with_trailer(&double, "123456780", right).await;
    assert_eq!(refusal.status, 400);
    assert!(
        refusal.text().contains("<Code>BadDigest</Code>"),
        "{}",
        refusal.text()
    );
}
