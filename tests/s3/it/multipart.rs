//! Multipart uploads.

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};

use crate::client::{BUCKET, ask, start, store};

#[tokio::test]
async fn parts_become_an_object() {
    let double = start().await;
    let store = store(&double);
    let path = Path::from("large");
    let mut upload = store.put_multipart(&path).await.unwrap();
    for part in ["first ", "second ", "third"] {
        upload.put_part(part.into()).await.unwrap();
    }
    assert!(double.objects("").is_empty());
    upload.complete().await.unwrap();
    let body = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(body.as_ref(), b"first second third");
    assert!(double.objects("large")[0].etag.ends_with("-3"));
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let double = start().await;
    let mut upload = store(&double)
        .put_multipart(&Path::from("large"))
        .await
        .unwrap();
    upload.put_part("part".into()).await.unwrap();
    upload.abort().await.unwrap();
    let late = upload.put_part("late".into()).await.unwrap_err();
    assert!(late.to_string().contains("NoSuchUpload"), "{late}");
    assert!(double.objects("").is_empty());
}

#[tokio::test]
async fn completion_is_conditional_and_checks_its_parts() {
    let double = start().await;
    let address = double.s3_address();
    let path = format!("/{BUCKET}/large");
    let created = ask(address, "POST", &format!("{path}?uploads"), &[], "")
        .await
        .unwrap();
    let (_, id) = created.text().split_once("<UploadId>").unwrap();
    let (id, _) = id.split_once('<').unwrap();
    let part = format!("{path}?partNumber=1&uploadId={id}");
    let etag = ask(address, "PUT", &part, &[], "hello")
        .await
        .unwrap()
        .header("etag")
        .to_owned();
    let upload = format!("{path}?uploadId={id}");
    let complete = async |etag: &str| {
        let body = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
             </CompleteMultipartUpload>"
        );
        let headers = [("if-none-match", "*")];
        ask(address, "POST", &upload, &headers, body).await.unwrap()
    };
    let wrong = complete("\"other\"").await;
    assert!(
        wrong.text().contains("<Code>InvalidPart</Code>"),
        "{}",
        wrong.text()
    );
    assert_eq!(
        ask(address, "PUT", &path, &[], "earlier")
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(complete(&etag).await.status, 412);
    assert_eq!(
        ask(address, "DELETE", &path, &[], "").await.unwrap().status,
        204
    );
    assert_eq!(complete(&etag).await.status, 200);
    assert_eq!(complete(&etag).await.status, 404);
}
