//! The binary, and files that outlive it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tidemill_test_s3::{S3Double, Settings};

use crate::client::{BUCKET, ask, get, put, settings};

/// Killed when dropped.
struct Process {
    child: Child,
    s3: SocketAddr,
    control: SocketAddr,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_s3-double"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--bucket",
                BUCKET,
                "--accept-unsigned",
                "--dir",
            ])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        let (s3, control) = ready
            .trim_end()
            .strip_prefix("ready s3=")
            .and_then(|rest| rest.split_once(" control="))
            .unwrap_or_else(|| panic!("{ready:?}"));
        Self {
            child,
            s3: s3.parse().unwrap(),
            control: control.parse().unwrap(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn objects_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = format!("/{BUCKET}/deep/er");
    let headers = [
        ("x-amz-meta-id", "7"),
        ("content-type", "text/plain"),
        ("x-amz-checksum-crc32c", "4waSgw=="),
    ];
    let first = Process::start(dir.path());
    for (path, body) in [
        (path.as_str(), "123456789"),
        ("/tidemill/gone", "123456789"),
    ] {
        assert_eq!(
            ask(first.s3, "PUT", path, &headers, body)
                .await
                .unwrap()
                .status,
            200
        );
    }
    assert_eq!(
        ask(first.s3, "DELETE", "/tidemill/gone", &[], "")
            .await
            .unwrap()
            .status,
        204
    );
    let before = ask(first.s3, "GET", &path, &[], "").await.unwrap();
    drop(first);
    let second = Process::start(dir.path());
    let headers = [("x-amz-checksum-mode", "ENABLED")];
    let after = ask(second.s3, "GET", &path, &headers, "").await.unwrap();
    assert_eq!((after.status, after.text()), (200, "123456789"));
    for name in ["etag", "last-modified", "content-type", "x-amz-meta-id"] {
        assert_eq!(after.header(name), before.header(name), "{name}");
    }
    assert_eq!(after.header("x-amz-checksum-crc32c"), "4waSgw==");
    let objects = ask(second.control, "GET", "/objects?prefix=", &[], "")
        .await
        .unwrap();
    assert_eq!(
        objects.text().matches("\"key\"").count(),
        1,
        "{}",
        objects.text()
    );
    // A condition sees what came before the kill.
    let headers = [("if-none-match", "*")];
    assert_eq!(
        ask(second.s3, "PUT", &path, &headers, "")
            .await
            .unwrap()
            .status,
        412
    );
}

#[tokio::test]
async fn a_stopped_double_starts_again_on_its_port() {
    let dir = tempfile::tempdir().unwrap();
    let with_dir = Settings {
        dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let first = S3Double::start(with_dir.clone()).await.unwrap();
    put(&first, "a", "one").await;
    let port = first.s3_address().port();
    first.stop().await;
    let second = S3Double::start(Settings { port, ..with_dir })
        .await
        .unwrap();
    assert_eq!(get(&second, "a", &[]).await.unwrap().text(), "one");
}

#[tokio::test]
async fn a_file_that_is_no_object_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = dir.path().join(BUCKET);
    std::fs::create_dir(&bucket).unwrap();
    std::fs::write(bucket.join("junk"), "no head\n").unwrap();
    let with_dir = Settings {
        dir: Some(dir.path().to_owned()),
        ..settings()
    };
    let refusal = S3Double::start(with_dir).await.unwrap_err().to_string();
    assert!(
        refusal.contains("junk") && refusal.contains("delete it"),
        "{refusal}"
    );
}

#[test]
fn flags_are_checked() {
    for (args, said) in [
        (vec!["--listen", "0.0.0.0:0"], "is not 127.0.0.1"),
        (vec!["--listen"], "--listen needs a value"),
        (vec!["--nothing"], "unknown flag --nothing"),
        (vec!["--bucket", "../x"], "../x is no name for a bucket"),
        (
            vec!["--bucket", "x", "--memory-bytes-max", "many"],
            "--memory-bytes-max",
        ),
    ] {
        let run = Command::new(env!("CARGO_BIN_EXE_s3-double"))
            .args(args)
            .output()
            .unwrap();
        assert!(!run.status.success());
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(stderr.contains(said), "{stderr}");
    }
}
