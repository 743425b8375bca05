//! The one HTTP request that commands make: a plain GET.

use std::io;
use std::time::Duration;

use tidemill_client::net;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest answer that is taken.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Gets `path` from `address` within `limit`. The connection closes behind the answer.
pub(super) async fn get(address: &str, path: &str, limit: Duration) -> io::Result<Answer> {
    let exchange = async {
        let mut stream = net::connect(address, limit).await?;
        // Version 1.0, so that the body is neither chunked nor followed by anything.
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        parse(&answer).ok_or_else(|| io::Error::other("not an HTTP answer"))
    };
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head
        .strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()?;
    Some(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_found() {
        let answer = parse(b"HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nstarting\n").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 503,
                body: "starting\n".to_owned()
            }
        );
        for junk in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"\0\0\0\0",
            b"HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(parse(junk), None);
        }
    }
}
