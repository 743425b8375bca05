//! One client connection: requests in, responses out, in order.
//!
//! A request starts when the one before it has been answered, as in Kafka, with one exception: produce
//! requests of one connection start one after the other without waiting for the disk, so that a producer
//! with five in flight costs one fdatasync and not five. Their answers keep their order.

use std::collections::VecDeque;
use std::io;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::poll;
use std::task::Poll;
use tidemill_client::net::{OwnedReadHalf, OwnedWriteHalf, TcpStream};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::context::{ConnectionContext, ListenerName, Principal};
use super::frame::{FrameError, FrameReader, RequestFrame};
use crate::api::{self, Reply};
use crate::broker::Broker;

/// At most this many chunks go into one write.
const CHUNKS_PER_WRITE_MAX: usize = 64;
/// A quiet connection gives its buffer back after this.
const QUIET_AFTER: Duration = Duration::from_secs(5);
/// Logs that have no room for longer than this stand on a disk that is full or broken, and a producer wants to
/// know.
const ROOM_WITHIN: Duration = Duration::from_secs(5);

/// Why a connection was closed; logged once, by the one who accepted it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Request(#[from] api::Refusal),
    #[error("no request for {0:?}")]
    Idle(Duration),
    #[error("no progress inside a frame for {0:?}")]
    Stalled(Duration),
    #[error("the peer did not take its response for {0:?}")]
    SlowReader(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ConnectionError {
    /// A short name for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Frame(FrameError::TooLarge { .. }) => "frame_too_large",
            Self::Frame(FrameError::Truncated) => "frame_truncated",
            Self::Frame(FrameError::Io(_)) | Self::Io(_) => "io",
            Self::Request(refusal) => refusal.reason(),
            Self::Idle(_) => "idle",
            Self::Stalled(_) => "stalled",
            Self::SlowReader(_) => "slow_reader",
        }
    }
}

struct Pending {
    reply: api::ReplyFuture,
    is_produce: bool,
    is_fetch: bool,
}

struct Connection {
    broker: Arc<Broker>,
    context: Arc<ConnectionContext>,
    reader: FrameReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// Requests that have started, oldest first.
    pending: VecDeque<Pending>,
    /// A frame that must wait for the pending ones to be answered.
    held: Option<RequestFrame>,
    /// Since when the logs have had no room for this connection's records.
    without_room_since: Option<Instant>,
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    stream: TcpStream,
    listener: ListenerName,
    broker: Arc<Broker>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    let local_addr = stream.local_addr()?;
    let peer = stream.peer_addr()?;
    let context = Arc::new(ConnectionContext {
        principal: Principal("User:ANONYMOUS".into()),
        listener,
        local_addr,
        client_host: format!("/{}", peer.ip()).into(),
    });
    let (read, writer) = stream.into_split();
    let budget = broker.request_memory.clone();
    let reader = FrameReader::new(read, budget, broker.config.network.request_bytes_max);
    let pending = VecDeque::new();
    Connection {
        broker,
        context,
        reader,
        writer,
        pending,
        held: None,
        without_room_since: None,
    }
    .run(shutdown)
    .await
}

impl Connection {
    async fn run(mut self, mut shutdown: watch::Receiver<bool>) -> Result<(), ConnectionError> {
        let network = self.broker.config.network.clone();
        let mut progress = Instant::now();
        let mut timer = Box::pin(tokio::time::sleep_until(progress + QUIET_AFTER));
        loop {
            // An answer makes room for a request that is buffered already, and that nothing else would wake.
            loop {
                self.start_what_may_start().await?;
                let has_answered = self.answer_what_is_ready().await?;
                if !has_answered {
                    break;
                }
            }
            let is_stopping = *shutdown.borrow();
            if is_stopping && self.may_end() {
                return Ok(());
            }
            let has_room = self.held.is_none() && self.pending.len() < network.pipelined_max;
            let may_read = has_room && !is_stopping;
            tokio::select! {
                biased;
                reply = front(&mut self.pending), if !self.pending.is_empty() => {
                    self.pending.pop_front();
                    progress = Instant::now();
                    self.write(reply).await?;
                }
                more = self.reader.read_some(), if may_read && !self.reader.is_frame_buffered() => {
                    let count = more?;
                    if count == 0 {
                        return self.finish().await;
                    }
                    self.broker.metrics.bytes_received(count);
                    progress = Instant::now();
                    if self.reader.is_inside_frame() && !self.reader.is_frame_buffered() {
                        timer.as_mut().reset(progress + network.stall_max.min(QUIET_AFTER));
                    }
                }
                () = &mut timer => {
                    let is_inside_frame = self.reader.is_inside_frame() && self.held.is_none();
                    let quiet_for = progress.elapsed();
                    if is_inside_frame && quiet_for >= network.stall_max {
                        return Err(ConnectionError::Stalled(network.stall_max));
                    }
                    let is_idle = self.pending.is_empty() && !is_inside_frame;
                    if is_idle && quiet_for >= network.idle_max {
                        return Err(ConnectionError::Idle(network.idle_max));
                    }
                    let next = if is_idle && quiet_for >= QUIET_AFTER {
                        self.reader.go_idle();
                        progress + network.idle_max
                    } else if is_inside_frame {
                        progress + network.stall_max
                    } else {
                        Instant::now() + QUIET_AFTER
                    };
                    timer.as_mut().reset(next.max(Instant::now() + Duration::from_millis(10)));
                }
                told = shutdown.changed(), if !is_stopping => {
                    if told.is_err() {
                        // The broker is gone without a word: a crash, as far as this connection goes.
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether a broker that stops can leave this connection: nothing is under way but a fetch that would
    /// wait for records which do not come any more.
    fn may_end(&self) -> bool {
        match self.pending.front() {
            Some(pending) => pending.is_fetch,
            None => self.held.is_none(),
        }
    }

    /// Starts every buffered request whose turn it is. A produce request appends at its first poll, so the
    /// order of starting is the order in the log.
    async fn start_what_may_start(&mut self) -> Result<(), ConnectionError> {
        loop {
            if self.pending.len() >= self.broker.config.network.pipelined_max {
                return Ok(());
            }
            let frame = match self.held.take() {
                Some(frame) => frame,
                None => match self.reader.cut()? {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
            };
            let is_produce = api::is_produce(&frame.bytes);
            let is_fetch = api::is_fetch(&frame.bytes);
            let may_start = self.pending.is_empty()
                || (is_produce && self.pending.iter().all(|pending| pending.is_produce));
            if !may_start {
                self.held = Some(frame);
                return Ok(());
            }
            let RequestFrame { bytes, charge } = frame;
            // Here and not in the handler: a request that waits must not be overtaken by the next one.
            let has_room = !is_produce || self.wait_for_room().await;
            let mut reply = api::dispatch(&self.broker, &self.context, bytes, charge, has_room)?;
            match poll!(&mut reply) {
                Poll::Ready(reply) if self.pending.is_empty() => self.write(reply).await?,
                Poll::Ready(done) => {
                    let reply = Box::pin(std::future::ready(done));
                    self.pending.push_back(Pending {
                        reply,
                        is_produce,
                        is_fetch,
                    });
                }
                Poll::Pending => self.pending.push_back(Pending {
                    reply,
                    is_produce,
                    is_fetch,
                }),
            }
        }
    }

    /// Waits until the logs have room; false when they have had none for too long. Once a request was refused, those
    /// behind it are too, at once, for as long as there is no room.
    async fn wait_for_room(&mut self) -> bool {
        let broker = &self.broker;
        let admit = async {
            broker.disk.admit().await;
            broker.logs.admit().await
        };
        tokio::pin!(admit);
        // A log that has failed says so when it is appended to. Mostly there is room, and no timer is needed.
        let has_room = match poll!(&mut admit) {
            Poll::Ready(_) => true,
            Poll::Pending => {
                let since = *self.without_room_since.get_or_insert_with(Instant::now);
                let deadline = since + ROOM_WITHIN;
                tokio::time::timeout_at(deadline, admit).await.is_ok()
            }
        };
        if has_room {
            self.without_room_since = None;
        }
        has_room
    }

    /// Writes all answers that are ready, in order, gathered into as few writes as possible. False when there were none.
    async fn answer_what_is_ready(&mut self) -> Result<bool, ConnectionError> {
        let pending_before = self.pending.len();
        let mut chunks = VecDeque::new();
        while let Some(pending) = self.pending.front_mut() {
            let Poll::Ready(reply) = poll!(&mut pending.reply) else {
                break;
            };
            self.pending.pop_front();
            match reply {
                Reply::Frame(frame) => chunks.extend(frame.chunks),
                Reply::Nothing => {}
                Reply::Close(refusal) => {
                    self.write_all(chunks).await?;
                    return Err(refusal.into());
                }
            }
        }
        self.write_all(chunks).await?;
        Ok(self.pending.len() < pending_before)
    }

    /// The peer will send no more: what it has produced is still answered.
    async fn finish(&mut self) -> Result<(), ConnectionError> {
        if self.reader.is_inside_frame() && self.held.is_none() {
            return Err(FrameError::Truncated.into());
        }
        while let Some(mut pending) = self.pending.pop_front() {
            if !pending.is_produce {
                // A long poll or a rebalance that nobody waits for any more.
                return Ok(());
            }
            let reply = (&mut pending.reply).await;
            self.write(reply).await?;
        }
        Ok(())
    }

    async fn write(&mut self, reply: Reply) -> Result<(), ConnectionError> {
        match reply {
            Reply::Frame(frame) => self.write_all(frame.chunks.into()).await,
            Reply::Nothing => Ok(()),
            Reply::Close(refusal) => Err(refusal.into()),
        }
    }

    async fn write_all(&mut self, mut chunks: VecDeque<Bytes>) -> Result<(), ConnectionError> {
        let stall_max = self.broker.config.network.stall_max;
        while !chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE_MAX];
            let mut count = 0;
            for (slice, chunk) in slices.iter_mut().zip(&chunks) {
                *slice = IoSlice::new(chunk);
                count += 1;
            }
            let write = self.writer.write_vectored(&slices[..count]);
            tokio::pin!(write);
            // Most writes end at once; only one that must wait pays for a timer.
            let written = match poll!(&mut write) {
                Poll::Ready(written) => written?,
                Poll::Pending => tokio::time::timeout(stall_max, write)
                    .await
                    .map_err(|_| ConnectionError::SlowReader(stall_max))??,
            };
            if written == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            self.broker.metrics.bytes_sent(written);
            consume(&mut chunks, written);
        }
        Ok(())
    }
}

async fn front(pending: &mut VecDeque<Pending>) -> Reply {
    match pending.front_mut() {
        Some(pending) => (&mut pending.reply).await,
        None => std::future::pending().await,
    }
}

fn consume(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(chunk) = chunks.front_mut() {
        if chunk.len() > written {
            chunk.advance(written);
            return;
        }
        written -= chunk.len();
        chunks.pop_front();
    }
}
