//! The `/v1/` interface on a broker's HTTP address (docs/http.md): JSON in, JSON out.

use std::io;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exit::{Failure, command, start_or_name};
use super::http::{self, Answer, Request};

/// Brokers answer most requests from memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A change goes through Raft, and an artifact is compiled before the broker takes it.
const CHANGE_WITHIN: Duration = Duration::from_secs(120);

/// A broker, by its HTTP address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api<'a> {
    pub(super) address: &'a str,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Nobody answers there.
    Unreachable { address: String, error: io::Error },
    /// The broker says no.
    Refused(Refusal),
    /// The answer is not what docs/http.md says.
    Unreadable(serde_json::Error),
}

/// A broker's no.
#[derive(Debug)]
pub(super) struct Refusal {
    /// None of what is no error of docs/http.md.
    code: Option<String>,
    message: String,
    hint: Option<String>,
}

/// An error as `/v1/` tells it.
#[derive(Deserialize)]
struct Said {
    code: String,
    message: String,
    hint: Option<String>,
}

impl Api<'_> {
    pub(super) async fn get<T: DeserializeOwned>(self, path: &str) -> Result<T, ApiError> {
        let request = Request {
            method: "GET",
            path,
            body: None,
        };
        read(&self.send(request, ANSWER_WITHIN).await?)
    }

    /// Posts `body`, and says what the broker answers, which may be nothing.
    pub(super) async fn post(self, path: &str, body: &impl Serialize) -> Result<Answer, ApiError> {
        let body = serde_json::to_vec(body).map_err(ApiError::Unreadable)?;
        self.post_bytes(path, "application/json", &body).await
    }

    pub(super) async fn post_bytes(
        self,
        path: &str,
        content_type: &'static str,
        body: &[u8],
    ) -> Result<Answer, ApiError> {
        let request = Request {
            method: "POST",
            path,
            body: Some((content_type, body)),
        };
        self.send(request, CHANGE_WITHIN).await
    }

    pub(super) async fn delete(self, path: &str) -> Result<(), ApiError> {
        let request = Request {
            method: "DELETE",
            path,
            body: None,
        };
        self.send(request, CHANGE_WITHIN).await.map(|_| ())
    }

    async fn send(self, request: Request<'_>, limit: Duration) -> Result<Answer, ApiError> {
        let answer = http::send(self.address, request, limit).await;
        let answer = answer.map_err(|error| ApiError::Unreachable {
            address: self.address.to_owned(),
            error,
        })?;
        match answer.status {
            200..=299 => Ok(answer),
            _ => Err(ApiError::Refused(refusal(answer))),
        }
    }
}

/// The JSON of an answer.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T, ApiError> {
    serde_json::from_str(&answer.body).map_err(ApiError::Unreadable)
}

fn refusal(answer: Answer) -> Refusal {
    match serde_json::from_str::<Said>(&answer.body) {
        Ok(said) => Refusal {
            code: Some(said.code),
            message: said.message,
            hint: said.hint,
        },
        // A proxy in between, or a broker of before this interface.
        Err(_) => Refusal {
            code: None,
            message: format!(
                "the HTTP address says {}: {}",
                answer.status,
                answer.body.trim()
            ),
            hint: Some("name a broker's own HTTP address with --admin HOST:PORT".to_owned()),
        },
    }
}

impl ApiError {
    /// Whether this is why the broker says no.
    pub(super) fn has_code(&self, code: &str) -> bool {
        matches!(self, ApiError::Refused(refusal) if refusal.code.as_deref() == Some(code))
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        match error {
            ApiError::Unreachable { address, error } => {
                Failure::unreachable(format!("no broker answers at http://{address}"))
                    .because(&error)
                    .next(start_or_name("--admin"))
            }
            ApiError::Refused(Refusal { message, hint, .. }) => {
                // Commands are named as this one was called, so that they can be pasted.
                let hint = hint.unwrap_or_default();
                let hint = hint.replace("`tidemill ", &format!("`{}", command("")));
                // A hint of several lines is several things to do.
                let hints = hint.lines();
                hints.fold(Failure::new(message), |failure, hint| failure.next(hint))
            }
            ApiError::Unreadable(error) => {
                Failure::new("the broker's answer cannot be read").because(&error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidemill_client::net;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Takes one request with `body_bytes` of body, answers, and says what was asked.
    async fn answer_once(listener: net::TcpListener, body_bytes: usize, answer: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        loop {
            let head = asked.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if head.is_some_and(|head| asked.len() == head + 4 + body_bytes) {
                break;
            }
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    }

    #[tokio::test]
    async fn what_is_posted_arrives_and_is_answered() {
        let listener = net::listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let api = Api { address: &address };
        let said =
            "HTTP/1.1 409 Conflict\r\n\r\n{\"code\":\"X\",\"message\":\"in use\",\"hint\":null}";
        let body = vec![b'w'; 1 << 20];
        let (asked, answer) = tokio::join!(
            answer_once(listener, body.len(), said),
            api.post_bytes("/v1/functions", "application/wasm", &body)
        );
        assert!(asked.starts_with("POST /v1/functions HTTP/1.0\r\n"));
        assert!(Failure::from(answer.unwrap_err()).mentions("in use"));
        // Nobody listens any more.
        let gone = api.get::<Said>("/v1/functions").await.err().unwrap();
        let gone = Failure::from(gone);
        assert!(gone.is_unreachable() && gone.mentions(&address));
        assert!(gone.proposes(&command("serve")) && gone.proposes("--admin"));
    }

    fn refused(status: u16, body: &str) -> ApiError {
        ApiError::Refused(refusal(Answer {
            status,
            body: body.to_owned(),
        }))
    }

    #[test]
    fn an_error_says_what_the_broker_says() {
        let error = refused(
            422,
            r#"{"code":"X","message":"no export","hint":"export init\nor `tidemill fn new x`"}"#,
        );
        assert!(error.has_code("X") && !error.has_code("Y"));
        let failure = Failure::from(error);
        assert!(failure.mentions("no export") && !failure.is_unreachable());
        assert!(failure.proposes("export init") && failure.proposes(&command("fn new x")));
    }

    #[test]
    fn what_is_no_error_of_ours_is_shown_as_it_is() {
        let error = refused(404, "not here\n");
        assert!(!error.has_code(""));
        let failure = Failure::from(error);
        assert!(failure.mentions("says 404: not here") && failure.proposes("--admin"));
    }
}
