//! PUT, GET, HEAD and DELETE without faults.

use object_store::path::Path;
use object_store::{Attribute, ObjectStore, ObjectStoreExt, PutOptions};
use tidemill_test_s3::S3Double;

use crate::client::{Answer, BUCKET, ask, get, put, start, store};

async fn range(double: &S3Double, range: &str) -> Answer {
    get(double, "a", &[("range", range)]).await.unwrap()
}

#[tokio::test]
async fn ranges() {
    let double = start().await;
    put(&double, "a", "0123456789").await;
    for (asked, bytes, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-30", "0123456789", "bytes 0-9/10"),
        ("bytes=8-30", "89", "bytes 8-9/10"),
        ("bytes=0-0", "0", "bytes 0-0/10"),
    ] {
        let answer = range(&double, asked).await;
        assert_eq!((answer.status, answer.text()), (206, bytes), "{asked}");
        assert_eq!(answer.header("content-range"), content_range);
    }
    for unsatisfiable in ["bytes=10-", "bytes=-0"] {
        let answer = range(&double, unsatisfiable).await;
        assert_eq!(answer.status, 416, "{unsatisfiable}");
        assert!(answer.text().contains("<Code>InvalidRange</Code>"));
    }
    put(&double, "a", "").await;
    assert_eq!(range(&double, "bytes=-1").await.status, 416);
    assert_eq!(get(&double, "a", &[]).await.unwrap().text(), "");
}

#[tokio::test]
async fn head_and_conditional_reads() {
    let double = start().await;
    put(&double, "a", "hello").await;
    let path = format!("/{BUCKET}/a");
    let head = ask(double.s3_address(), "HEAD", &path, &[], "")
        .await
        .unwrap();
    assert_eq!(
        (head.status, head.header("content-length"), head.text()),
        (200, "5", "")
    );
    // The MD5 of "hello".
    let etag = "\"5d41402abc4b2a76b9719d911017c592\"";
    assert_eq!(head.header("etag"), etag);
    for (name, value, status) in [
        ("if-match", etag, 200),
        ("if-match", "\"other\"", 412),
        ("if-none-match", etag, 304),
        ("if-none-match", "\"other\"", 200),
        ("if-modified-since", head.header("last-modified"), 304),
        ("if-unmodified-since", head.header("last-modified"), 200),
        ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT", 412),
    ] {
        let answer = get(&double, "a", &[(name, value)]).await.unwrap();
        assert_eq!(answer.status, status, "{name}: {value}");
    }
    let missing = ask(
        double.s3_address(),
        "HEAD",
        &format!("/{BUCKET}/b"),
        &[],
        "",
    )
    .await;
    assert_eq!(missing.unwrap().status, 404);
}

#[tokio::test]
async fn checksums_are_verified_and_told() {
    let double = start().await;
    let path = format!("/{BUCKET}/a");
    // The check values of both CRCs, of "123456789", in base64.
    for (name, right) in [
        ("x-amz-checksum-crc32c", "4waSgw=="),
        ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
    ] {
        let address = double.s3_address();
        let headers = [(name, right)];
        let stored = ask(address, "PUT", &path, &headers, "123456789")
            .await
            .unwrap();
        assert_eq!(stored.status, 200);
        let answer = get(&double, "a", &[("x-amz-checksum-mode", "ENABLED")])
            .await
            .unwrap();
        assert_eq!(answer.header(name), right);
        let refusal = ask(address, "PUT", &path, &headers, "123456780")
            .await
            .unwrap();
        assert_eq!(refusal.status, 400);
        assert!(refusal.text().contains("<Code>BadDigest</Code>"));
        assert_eq!(get(&double, "a", &[]).await.unwrap().text(), "123456789");
    }
}

#[tokio::test]
async fn missing_things() {
    let double = start().await;
    let missing = get(&double, "a", &[]).await.unwrap();
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("<Code>NoSuchKey</Code>"));
    let elsewhere = ask(double.s3_address(), "GET", "/elsewhere/a", &[], "")
        .await
        .unwrap();
    assert!(elsewhere.text().contains("<Code>NoSuchBucket</Code>"));
    let path = format!("/{BUCKET}/a");
    let deleted = ask(double.s3_address(), "DELETE", &path, &[], "")
        .await
        .unwrap();
    assert_eq!(deleted.status, 204);
}

#[tokio::test]
async fn several_are_deleted_at_once() {
    let double = start().await;
    for key in ["a", "b", "c"] {
        put(&double, key, key).await;
    }
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object>\
                <Object><Key>unknown</Key></Object></Delete>";
    let path = format!("/{BUCKET}?delete");
    let answer = ask(double.s3_address(), "POST", &path, &[], body)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.text().matches("<Deleted>").count(),
        3,
        "{}",
        answer.text()
    );
    let left: Vec<_> = double
        .objects("")
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(left, ["c"]);
}

#[tokio::test]
async fn object_store_stores_and_reads() {
    let double = start().await;
    let store = store(&double);
    let path = Path::from("data/01.obj");
    let mut options = PutOptions::default();
    options
        .attributes
        .insert(Attribute::Metadata("id".into()), "7".into());
    store
        .put_opts(&path, "0123456789".into(), options)
        .await
        .unwrap();
    let read = store.get(&path).await.unwrap();
    let id = read
        .attributes
        .get(&Attribute::Metadata("id".into()))
        .unwrap();
    assert_eq!(id.as_ref(), "7");
    assert_eq!(read.bytes().await.unwrap().as_ref(), b"0123456789");
    assert_eq!(store.get_range(&path, 2..5).await.unwrap().as_ref(), b"234");
    assert_eq!(store.head(&path).await.unwrap().size, 10);
    store.delete(&path).await.unwrap();
    let missing = store.head(&path).await.unwrap_err();
    assert!(
        matches!(missing, object_store::Error::NotFound { .. }),
        "{missing}"
    );
}
