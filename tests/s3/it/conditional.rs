//! Conditional PUTs: atomic without a fault, and as some stores have them with one.

use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutOptions, UpdateVersion};
use serde_json::json;
use tidemill_test_s3::S3Double;
use tokio::task::JoinSet;

use crate::client::{start, start_with_fault, store};

const RACERS: usize = 50;

/// Who created the object, of all that tried at once.
async fn winners(double: &S3Double) -> Vec<usize> {
    let store = store(double);
    let mut racers = JoinSet::new();
    for racer in 0..RACERS {
        let store = store.clone();
        racers.spawn(async move {
            let options = PutOptions::from(PutMode::Create);
            let body = racer.to_string().into();
            match store.put_opts(&Path::from("claim"), body, options).await {
                Ok(_) => Some(racer),
                Err(Error::AlreadyExists { .. }) => None,
                Err(other) => panic!("{other}"),
            }
        });
    }
    racers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creates() {
    for _ in 0..10 {
        let double = start().await;
        let winners = winners(&double).await;
        assert_eq!(winners.len(), 1);
        let body = store(&double)
            .get_opts(&Path::from("claim"), Default::default())
            .await;
        let body = body.unwrap().bytes().await.unwrap();
        assert_eq!(body.as_ref(), winners[0].to_string().as_bytes());
        let statuses = &double.requests().by_op["PutObject"];
        assert_eq!((statuses["200"], statuses["412"]), (1, RACERS as u64 - 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_create_where_it_is_not_atomic() {
    let fault = json!({"kind": "non_atomic_conditional_put", "pause_ms": 200});
    let double = start_with_fault("PutObject", fault).await;
    assert!(winners(&double).await.len() > 1);
    // The check itself still happens.
    let options = PutOptions::from(PutMode::Create);
    let late = store(&double)
        .put_opts(&Path::from("claim"), "late".into(), options)
        .await;
    assert!(matches!(late, Err(Error::AlreadyExists { .. })));
}

#[tokio::test]
async fn updates_need_the_latest_etag() {
    let double = start().await;
    let store = store(&double);
    let path = Path::from("a");
    let first = store
        .put_opts(&path, "1".into(), PutMode::Create.into())
        .await
        .unwrap();
    let version = UpdateVersion {
        e_tag: first.e_tag,
        version: first.version,
    };
    let update = async |body: &'static str| {
        store
            .put_opts(&path, body.into(), PutMode::Update(version.clone()).into())
            .await
    };
    update("2").await.unwrap();
    let stale = update("3").await.unwrap_err();
    assert!(matches!(stale, Error::Precondition { .. }), "{stale}");
    assert_eq!(double.objects("a")[0].size, 1);
}
