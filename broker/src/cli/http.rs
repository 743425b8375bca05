//! The HTTP requests that commands make: one a connection, which closes behind the answer.

use std::io;
use std::time::Duration;

use tidemill_client::net;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest answer that is taken.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// A broker that does not even take the connection is not waited for as long as an answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'static str,
    /// With its query; what a person gave stands in it as [`escaped`].
    pub(super) path: &'a str,
    /// The type of the body, and the body.
    pub(super) body: Option<(&'static str, &'a [u8])>,
}

/// Gets `path` from `address` within `limit`.
pub(super) async fn get(address: &str, path: &str, limit: Duration) -> io::Result<Answer> {
    let request = Request {
        method: "GET",
        path,
        body: None,
    };
    send(address, request, limit).await
}

/// Asks `address` and waits for the answer, at most for `limit`.
pub(super) async fn send(
    address: &str,
    request: Request<'_>,
    limit: Duration,
) -> io::Result<Answer> {
    let exchange = async {
        let stream = net::connect(address, limit.min(CONNECT_WITHIN)).await?;
        let (mut read, mut write) = stream.into_split();
        let sent = async {
            write.write_all(head(address, request).as_bytes()).await?;
            match request.body {
                Some((_, body)) => write.write_all(body).await,
                None => Ok(()),
            }
        }
        .await;
        let mut answer = Vec::new();
        let received = (&mut read)
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await;
        // Whoever refuses a body answers before it has read all of it; the answer says more than the broken pipe.
        if let Some(answer) = parse(&answer) {
            return Ok(answer);
        }
        sent?;
        received?;
        Err(io::Error::other("not an HTTP answer"))
    };
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Version 1.0, so that the answer's body is neither chunked nor followed by anything.
fn head(address: &str, request: Request<'_>) -> String {
    let Request { method, path, body } = request;
    let body = body.map_or(String::new(), |(content_type, body)| {
        let length = body.len();
        format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n")
    });
    format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n{body}\r\n")
}

/// `text` as one segment of a path, or one value of a query.
pub(super) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
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

    #[test]
    fn a_body_has_its_type_and_length() {
        let request = Request {
            method: "POST",
            path: "/v1/functions",
            body: Some(("application/wasm", b"\0asm")),
        };
        let head = head("h:1", request);
        assert!(
            head.starts_with("POST /v1/functions HTTP/1.0\r\n"),
            "{head}"
        );
        assert!(head.contains("Content-Length: 4\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn nothing_that_a_person_types_ends_a_segment() {
        assert_eq!(escaped("delays-v1.x_~"), "delays-v1.x_~");
        assert_eq!(
            escaped("a/b?c#d e%\r\né"),
            "a%2Fb%3Fc%23d%20e%25%0D%0A%C3%A9"
        );
    }
}
