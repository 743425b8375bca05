//! What keeps the double small.

use std::time::Duration;

use tidemill_test_s3::{S3Double, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{BUCKET, ask, put, settings};

#[tokio::test]
async fn the_memory_limit_says_so() {
    let limits = Settings {
        memory_bytes_max: 1_000,
        ..settings()
    };
    let double = S3Double::start(limits).await.unwrap();
    put(&double, "a", vec![0; 400]).await;
    let path = format!("/{BUCKET}/b");
    let full = ask(double.s3_address(), "PUT", &path, &[], vec![0; 601])
        .await
        .unwrap();
    assert_eq!(full.status, 507);
    assert!(
        full.text().contains("<Code>StorageFull</Code>"),
        "{}",
        full.text()
    );
    assert!(
        full.text().contains("--memory-bytes-max"),
        "{}",
        full.text()
    );
    let gone = ask(
        double.s3_address(),
        "DELETE",
        &format!("/{BUCKET}/a"),
        &[],
        "",
    )
    .await
    .unwrap();
    assert_eq!(gone.status, 204);
    // Once on its way and once stored.
    put(&double, "b", vec![0; 500]).await;
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let limits = Settings {
        object_bytes_max: 100,
        ..settings()
    };
    let double = S3Double::start(limits).await.unwrap();
    let path = format!("/{BUCKET}/a");
    let refusal = ask(double.s3_address(), "PUT", &path, &[], vec![0; 4 << 20])
        .await
        .unwrap();
    assert_eq!(refusal.status, 400);
    assert!(
        refusal.text().contains("<Code>EntityTooLarge</Code>"),
        "{}",
        refusal.text()
    );
    put(&double, "a", vec![0; 100]).await;
}

#[tokio::test]
async fn a_refused_body_is_read_to_its_end() {
    let limits = Settings {
        object_bytes_max: 100,
        ..settings()
    };
    let double = S3Double::start(limits).await.unwrap();
    let mut stream = TcpStream::connect(double.s3_address()).await.unwrap();
    let head = format!(
        "PUT /{BUCKET}/a HTTP/1.1\r\nHost: double\r\nContent-Length: {}\r\n\r\n",
        16 << 20
    );
    // A client that reads nothing before it has written everything.
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![0; 16 << 20]).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 400");
}

#[tokio::test]
async fn connections_above_the_limit_wait() {
    let limits = Settings {
        connections_max: 1,
        ..settings()
    };
    let double = S3Double::start(limits).await.unwrap();
    let held = TcpStream::connect(double.s3_address()).await.unwrap();
    let path = format!("/{BUCKET}/a");
    let mut waiting = Box::pin(ask(double.s3_address(), "GET", &path, &[], ""));
    let first = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(first.is_err());
    drop(held);
    assert_eq!(waiting.await.unwrap().status, 404);
}
