//! The task that owns a connection's socket.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::frame::{FrameError, FrameReader, write_all};
use super::{Outgoing, Pending, State};
use crate::error::ConnectionError;
use crate::net::{OwnedReadHalf, OwnedWriteHalf, TcpStream};

/// Requests on the wire, oldest first. Their number is bounded by the connection's in-flight permits.
type PendingQueue = Mutex<VecDeque<Pending>>;

pub(super) struct Task {
    pub(super) address: Arc<str>,
    pub(super) response_bytes_max: usize,
    pub(super) state: Arc<State>,
}

impl Task {
    /// Runs until the socket fails, a handle closes it, or the last handle is dropped.
    pub(super) async fn run(self, stream: TcpStream, mut queue: mpsc::Receiver<Outgoing>) {
        let (reader, writer) = stream.into_split();
        let pending = PendingQueue::default();
        let error = tokio::select! {
            biased;
            error = self.read_answers(reader, &pending) => error,
            error = self.write_requests(writer, &mut queue, &pending) => error,
            () = self.state.close_now.notified() => self.closed(),
        };
        self.state.close(error);
        let error = self
            .state
            .closed
            .get()
            .cloned()
            .unwrap_or_else(|| self.closed());
        tracing::debug!(address = %self.address, %error, "connection ended");
        queue.close();
        let unsent = std::iter::from_fn(|| queue.try_recv().ok()).filter_map(|out| out.pending);
        for pending in pending.into_inner().into_iter().chain(unsent) {
            // A receiver that is gone belongs to a call that was dropped.
            let _ = pending.answer.send(Err(error.clone()));
        }
    }

    async fn write_requests(
        &self,
        mut writer: OwnedWriteHalf,
        queue: &mut mpsc::Receiver<Outgoing>,
        pending: &PendingQueue,
    ) -> ConnectionError {
        while let Some(Outgoing {
            chunks,
            pending: request,
        }) = queue.recv().await
        {
            if let Some(request) = request {
                pending.lock().push_back(request);
            }
            if let Err(source) = write_all(&mut writer, &chunks).await {
                return ConnectionError::Io {
                    address: self.address.clone(),
                    source: Arc::new(source),
                };
            }
        }
        self.closed()
    }

    async fn read_answers(&self, reader: OwnedReadHalf, pending: &PendingQueue) -> ConnectionError {
        let mut frames = FrameReader::new(reader, self.response_bytes_max);
        loop {
            let (got, frame) = match frames.next().await {
                Ok(frame) => frame,
                Err(error) => return self.frame_error(error),
            };
            let oldest = pending.lock().pop_front();
            match oldest {
                Some(request) if request.correlation_id == got => {
                    // A receiver that is gone belongs to a call that was dropped.
                    let _ = request.answer.send(Ok(frame));
                }
                other => {
                    let expected = other.as_ref().map(|request| request.correlation_id);
                    let error = ConnectionError::Correlation {
                        address: self.address.clone(),
                        expected,
                        got,
                    };
                    if let Some(request) = other {
                        let _ = request.answer.send(Err(error.clone()));
                    }
                    return error;
                }
            }
        }
    }

    fn frame_error(&self, error: FrameError) -> ConnectionError {
        let address = self.address.clone();
        match error {
            FrameError::End => ConnectionError::Closed { address },
            FrameError::Io(source) => ConnectionError::Io {
                address,
                source: Arc::new(source),
            },
            FrameError::Length(length) => ConnectionError::FrameLength {
                address,
                length,
                limit: self.response_bytes_max,
            },
        }
    }

    fn closed(&self) -> ConnectionError {
        ConnectionError::Closed {
            address: self.address.clone(),
        }
    }
}
