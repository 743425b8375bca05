//! One request, from its first byte to the last of its answer.
//!
//! A request is received whole before it is looked at: then an operation happens entirely or not at all,
//! and a client that sends much reads an early refusal instead of a reset connection. Faults of
//! connections and bodies act here; faults of operations act in `s3`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response};
use s3s::service::S3Service;
use s3s::{HttpResponse, S3Error, s3_error};

use crate::answer::{AnswerBody, cut_after, paced, whole, with_wrong_bit};
use crate::budget::{Budget, Charge};
use crate::fault::Fault;
use crate::journal::{Journal, Outcome};
use crate::s3::gate::Slot;
use crate::tasks::Tasks;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Exchanges {
    pub(crate) service: S3Service,
    pub(crate) journal: Arc<Journal>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) is_down: Arc<AtomicBool>,
    pub(crate) object_bytes_max: usize,
}

/// Makes hyper close the connection without an answer.
#[derive(Debug)]
pub(crate) struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the double closes this connection without an answer")
    }
}

impl std::error::Error for Closed {}

/// What the gate found out about a request, with the size of its body.
struct Asked<'a> {
    op: &'a str,
    key: &'a str,
    fault: Option<&'a Fault>,
    is_head: bool,
    bytes_in: u64,
}

/// An answer whose body is in memory.
struct Answer {
    head: Parts,
    body: Bytes,
}

impl Answer {
    async fn read(response: HttpResponse) -> Result<Self, Closed> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| Closed)?;
        Ok(Self {
            head,
            body: body.to_bytes(),
        })
    }

    async fn error(error: S3Error) -> Result<Self, Closed> {
        Self::read(error.to_http_response().map_err(|_| Closed)?).await
    }
}

impl Exchanges {
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Closed> {
        if self.is_down.load(Ordering::Relaxed) {
            return Err(Closed);
        }
        let (parts, body) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let slot = Slot::default();
        let received = self.receive(body).await?;
        let bytes_in = received.as_ref().map_or(0, |(body, _)| body.len() as u64);
        let answer = match received {
            Err(refusal) => Answer::error(refusal).await?,
            Ok((body, charge)) => {
                let mut request = Request::from_parts(parts, s3s::Body::from(body));
                request.extensions_mut().insert(slot.clone());
                let service = self.service.clone();
                let call = async move {
                    let response = service.call(request).await;
                    // The operation had the body until here, whether or not its client is gone.
                    drop(charge);
                    response
                };
                let Some(Ok(response)) = self.tasks.run(call).await else {
                    return Err(Closed);
                };
                Answer::read(response).await?
            }
        };
        let (op, key, fault) = slot.admitted().map_or(("Refused", "", None), |admitted| {
            (&admitted.op, &admitted.key, admitted.fault.as_ref())
        });
        self.finish(
            &Asked {
                op,
                key,
                fault,
                is_head,
                bytes_in,
            },
            answer,
        )
        .await
    }

    /// The whole body, or why it is refused; what is refused is read all the same.
    async fn receive(
        &self,
        mut body: Incoming,
    ) -> Result<Result<(Bytes, Charge), S3Error>, Closed> {
        let expected = body.size_hint().lower().min(self.object_bytes_max as u64);
        let mut kept = self
            .budget
            .charge(0)
            .map(|charge| (BytesMut::new(), charge));
        if let Ok((buffer, _)) = &mut kept {
            buffer.reserve(expected as usize);
        }
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Closed)?.into_data() else {
                continue;
            };
            kept = kept.and_then(|kept| self.keep(kept, &data));
        }
        Ok(kept.map(|(buffer, charge)| (buffer.freeze(), charge)))
    }

    fn keep(
        &self,
        (mut buffer, mut charge): (BytesMut, Charge),
        data: &Bytes,
    ) -> Result<(BytesMut, Charge), S3Error> {
        if buffer.len() + data.len() > self.object_bytes_max {
            let max = self.object_bytes_max;
            return Err(s3_error!(
                EntityTooLarge,
                "the double takes bodies of at most {max} bytes"
            ));
        }
        charge.grow(data.len() as u64)?;
        buffer.extend_from_slice(data);
        Ok((buffer, charge))
    }

    /// Applies the faults that come after the operation, and sends what is left of the answer.
    async fn finish(
        &self,
        asked: &Asked<'_>,
        answer: Answer,
    ) -> Result<Response<AnswerBody>, Closed> {
        match asked.fault {
            Some(Fault::Hang { hang_ms } | Fault::TimeoutAfterCommit { hang_ms }) => {
                self.record(asked, None, asked.fault, 0);
                tokio::time::sleep(Duration::from_millis(*hang_ms)).await;
                Err(Closed)
            }
            Some(Fault::LatePut { answer: None, .. }) => {
                self.record(asked, None, asked.fault, 0);
                Err(Closed)
            }
            Some(
                Fault::StatusAfterCommit(error)
                | Fault::LatePut {
                    answer: Some(error),
                    ..
                },
            ) => {
                let answer = Answer::error(error.to_error()).await?;
                Ok(self.send(asked, answer).await)
            }
            _ => Ok(self.send(asked, answer).await),
        }
    }

    async fn send(&self, asked: &Asked<'_>, answer: Answer) -> Response<AnswerBody> {
        let Answer { mut head, body } = answer;
        let is_body = head.status.is_success() && !body.is_empty();
        let fault = asked.fault.filter(|fault| is_body || !is_of_body(fault));
        if !asked.is_head && !body.is_empty() {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let (body, bytes_out) = shape(fault, body);
        let bytes_out = if asked.is_head { 0 } else { bytes_out };
        self.record(asked, Some(head.status.as_u16()), fault, bytes_out);
        if let Some(Fault::Slow { first_byte_ms, .. }) = fault {
            tokio::time::sleep(Duration::from_millis(*first_byte_ms)).await;
        }
        Response::from_parts(head, body)
    }

    fn record(
        &self,
        asked: &Asked<'_>,
        status: Option<u16>,
        fault: Option<&Fault>,
        bytes_out: u64,
    ) {
        self.journal.record(&Outcome {
            op: asked.op,
            key: asked.key,
            status,
            fault: fault.map(Fault::name),
            bytes_in: asked.bytes_in,
            bytes_out,
        });
    }
}

/// Whether the fault can only strike an answer that has a body.
fn is_of_body(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::TruncatedBody { .. } | Fault::WrongBytes { .. } | Fault::ShortBody { .. }
    )
}

/// The body as the fault leaves it, with how many of its bytes are sent.
fn shape(fault: Option<&Fault>, body: Bytes) -> (AnswerBody, u64) {
    let size = body.len() as u64;
    match fault {
        Some(Fault::TruncatedBody { keep_bytes }) => {
            let kept = keep_bytes.unwrap_or(size / 2).min(size.saturating_sub(1));
            (cut_after(body.slice(..kept as usize)), kept)
        }
        Some(Fault::WrongBytes { seed }) => (whole(with_wrong_bit(&body, *seed)), size),
        Some(Fault::Slow {
            bytes_per_s: Some(rate),
            ..
        }) if size > 0 => (paced(body, *rate), size),
        _ => (whole(body), size),
    }
}
