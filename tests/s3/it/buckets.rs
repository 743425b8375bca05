//! Operations on buckets.

use crate::client::{BUCKET, ask, start};

#[tokio::test]
async fn create_head_and_location() {
    let double = start().await;
    let address = double.s3_address();
    assert_eq!(
        ask(address, "HEAD", "/second", &[], "")
            .await
            .unwrap()
            .status,
        404
    );
    assert_eq!(
        ask(address, "PUT", "/second", &[], "")
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        ask(address, "HEAD", "/second", &[], "")
            .await
            .unwrap()
            .status,
        200
    );
    let again = ask(address, "PUT", "/second", &[], "").await.unwrap();
    assert_eq!(again.status, 409);
    assert!(
        again
            .text()
            .contains("<Code>BucketAlreadyOwnedByYou</Code>")
    );
    let location = ask(address, "GET", "/second?location", &[], "")
        .await
        .unwrap();
    assert_eq!(location.status, 200);
    assert!(
        location.text().contains("LocationConstraint"),
        "{}",
        location.text()
    );
}

#[tokio::test]
async fn lifecycle_rules_are_kept() {
    let double = start().await;
    let path = format!("/{BUCKET}?lifecycle");
    let none = ask(double.s3_address(), "GET", &path, &[], "")
        .await
        .unwrap();
    assert_eq!(none.status, 404);
    let rules = "<LifecycleConfiguration><Rule><ID>stale</ID><Status>Enabled</Status>\
                 <Filter><Prefix></Prefix></Filter><AbortIncompleteMultipartUpload>\
                 <DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>\
                 </Rule></LifecycleConfiguration>";
    let put = ask(double.s3_address(), "PUT", &path, &[], rules)
        .await
        .unwrap();
    assert_eq!(put.status, 200, "{put:?}");
    let got = ask(double.s3_address(), "GET", &path, &[], "")
        .await
        .unwrap();
    assert!(
        got.text()
            .contains("<DaysAfterInitiation>7</DaysAfterInitiation>"),
        "{}",
        got.text()
    );
}
