//! ListObjectsV2 on the wire.

use futures_util::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::client::{BUCKET, ask, put, start, store};

#[tokio::test]
async fn pages_on_the_wire() {
    let double = start().await;
    for key in ["a/1", "a/2", "a/3", "b/1"] {
        put(&double, key, key).await;
    }
    let list = async |query: &str| {
        let path = format!("/{BUCKET}?list-type=2&{query}");
        let answer = ask(double.s3_address(), "GET", &path, &[], "")
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().to_owned()
    };
    let first = list("prefix=a/&max-keys=2").await;
    assert!(
        first.contains("<Key>a/1</Key>") && first.contains("<Key>a/2</Key>"),
        "{first}"
    );
    assert!(first.contains("<IsTruncated>true</IsTruncated>"), "{first}");
    let (_, token) = first.split_once("<NextContinuationToken>").unwrap();
    let (token, _) = token.split_once('<').unwrap();
    let second = list(&format!("prefix=a/&max-keys=2&continuation-token={token}")).await;
    assert!(
        second.contains("<Key>a/3</Key>") && !second.contains("<Key>a/2</Key>"),
        "{second}"
    );
    assert!(
        second.contains("<IsTruncated>false</IsTruncated>"),
        "{second}"
    );
    let after = list("start-after=a/3").await;
    assert_eq!(after.matches("<Key>").count(), 1, "{after}");
    let common = list("delimiter=/").await;
    assert_eq!(common.matches("<CommonPrefixes>").count(), 2, "{common}");
}

#[tokio::test]
async fn object_store_lists_over_pages() {
    let double = start().await;
    for number in 0..1_005 {
        put(&double, &format!("many/{number:04}"), "").await;
    }
    put(&double, "other/1", "").await;
    let store = store(&double);
    let listed: Vec<_> = store
        .list(Some(&Path::from("many")))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(listed.len(), 1_005);
    assert!(listed.is_sorted_by_key(|object| object.location.clone()));
    assert_eq!(double.requests().by_op["ListObjectsV2"]["200"], 2);
    let top = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(
        top.common_prefixes,
        [Path::from("many"), Path::from("other")]
    );
}
