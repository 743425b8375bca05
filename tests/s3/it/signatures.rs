//! Who may ask.

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use tidemill_test_s3::{S3Double, Settings};

use crate::client::{ask, settings, start, store, store_with_secret};

#[tokio::test]
async fn the_right_key_pair_passes() {
    let double = S3Double::start(Settings {
        accept_unsigned: false,
        ..settings()
    })
    .await
    .unwrap();
    store(&double)
        .put(&Path::from("a"), "a".into())
        .await
        .unwrap();
    let unsigned = ask(double.s3_address(), "GET", "/tidemill/a", &[], "")
        .await
        .unwrap();
    assert_eq!(unsigned.status, 403);
    assert!(unsigned.text().contains("<Code>AccessDenied</Code>"));
    assert_eq!(double.requests().by_op["GetObject"]["403"], 1);
}

#[tokio::test]
async fn a_wrong_secret_never_passes() {
    let double = start().await;
    let store = store_with_secret(&double, "wrong");
    let refusal = store.put(&Path::from("a"), "a".into()).await.unwrap_err();
    assert!(
        matches!(refusal, Error::PermissionDenied { .. }),
        "{refusal}"
    );
    assert!(
        refusal.to_string().contains("SignatureDoesNotMatch"),
        "{refusal}"
    );
    assert_eq!(double.requests().by_op["Refused"]["403"], 1);
    assert!(double.objects("").is_empty());
}
