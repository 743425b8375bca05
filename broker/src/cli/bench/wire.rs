//! A connection for load: blocking calls, frames that are built before, one reused buffer for answers.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tidemill_protocol::{Frame, Request, encode_request};

use super::super::exit::Failure;

/// Where the correlation id stands in a request: behind the length, the API key and the version.
const CORRELATION_ID_AT: usize = 8;
/// Longest answer that is taken.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// No answer for this long is a failure.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// A request that can be sent again and again.
#[derive(Debug, Clone)]
pub(super) struct PreparedRequest {
    head: Vec<u8>,
    rest: Vec<Bytes>,
}

impl PreparedRequest {
    /// Encodes once.
    pub(super) fn new<R: Request>(request: &R, version: i16) -> Result<PreparedRequest, Failure> {
        let frame = encode(request, version)?;
        let mut chunks = frame.chunks.into_iter();
        let head = chunks
            .next()
            .map(|chunk| chunk.to_vec())
            .unwrap_or_default();
        Ok(PreparedRequest {
            head,
            rest: chunks.collect(),
        })
    }
}

fn encode<R: Request>(request: &R, version: i16) -> Result<Frame, Failure> {
    let client_id = Some("tidemill-bench".into());
    encode_request(0, client_id, version, request)
        .map_err(|error| Failure::new("the request cannot be encoded").because(&error))
}

/// One broker, one thread.
#[derive(Debug)]
pub(super) struct Wire {
    address: String,
    stream: TcpStream,
    /// Initialised as far as the longest answer so far, so that a read overwrites and never clears.
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) fn connect(address: &str) -> Result<Wire, Failure> {
        let connect = || {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
            stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error: io::Error| {
            Failure::unreachable(format!("cannot connect to {address}")).because(&error)
        })?;
        Ok(Wire {
            address: address.to_owned(),
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends a prepared request under this correlation id, in one system call as a rule.
    pub(super) fn send(
        &mut self,
        request: &mut PreparedRequest,
        correlation_id: i32,
    ) -> Result<(), Failure> {
        request.head[CORRELATION_ID_AT..][..4].copy_from_slice(&correlation_id.to_be_bytes());
        let mut slices = Vec::with_capacity(request.rest.len() + 1);
        slices.push(IoSlice::new(&request.head));
        slices.extend(request.rest.iter().map(|chunk| IoSlice::new(chunk)));
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match self.stream.write_vectored(left) {
                Ok(0) => return Err(self.failure(&io::ErrorKind::WriteZero.into())),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failure(&error)),
            }
        }
        Ok(())
    }

    /// Encodes and sends.
    pub(super) fn send_new<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        correlation_id: i32,
    ) -> Result<(), Failure> {
        self.send(&mut PreparedRequest::new(request, version)?, correlation_id)
    }

    /// Whether an answer has begun to arrive, waiting for one up to `wait`.
    pub(super) fn readable(&self, wait: Duration) -> Result<bool, Failure> {
        let mut ready = [PollFd::new(&self.stream, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        match poll(&mut ready, Some(&wait)) {
            Ok(count) => Ok(count > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(self.failure(&error.into())),
        }
    }

    /// Waits for one answer and lends it to `read`: the frame, correlation id first.
    pub(super) fn receive<T>(
        &mut self,
        read: impl FnOnce(Bytes) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut length = [0; 4];
        self.stream
            .read_exact(&mut length)
            .map_err(|error| self.failure(&error))?;
        let length = usize::try_from(i32::from_be_bytes(length))
            .ok()
            .filter(|length| *length <= ANSWER_BYTES_MAX)
            .ok_or_else(|| Failure::new(format!("{} sent a wrong frame length", self.address)))?;
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let filled = self.stream.read_exact(&mut self.buffer[..length]);
        filled.map_err(|error| self.failure(&error))?;
        let whole = Bytes::from(std::mem::take(&mut self.buffer));
        let result = read(whole.slice(..length));
        // The answer is gone by now, so this takes the memory back without copying.
        self.buffer = Vec::from(whole);
        result
    }

    fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(format!("the connection to {} broke", self.address)).because(error)
    }
}
