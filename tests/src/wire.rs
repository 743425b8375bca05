//! One connection to a broker on which a test says exactly what it wants: any version, any bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidemill_protocol::{Request, Str, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::LIMIT;

/// The name that the requests carry.
const CLIENT_ID: &str = "wire";

/// A connection without any cleverness.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Wire {
    /// Connects; says nothing.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("a connection")
    }

    /// Connects, if the peer lets it.
    pub async fn try_connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
        let stream = stream.expect("a connection in time")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            next_correlation_id: 1,
        })
    }

    /// A whole request frame, length included, as [`Wire::send`] would send it next.
    pub fn frame<R: Request>(&mut self, version: i16, request: &R) -> (i32, Bytes) {
        let id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let frame = encode_request(id, Some(Str::from(CLIENT_ID)), version, request);
        let frame = frame.expect("the request fits the version");
        let mut bytes = BytesMut::new();
        frame
            .chunks
            .iter()
            .for_each(|chunk| bytes.extend_from_slice(chunk));
        (id, bytes.freeze())
    }

    /// Sends a request and does not wait; returns the correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let (id, bytes) = self.frame(version, request);
        self.write(&bytes).await;
        id
    }

    /// Waits for the answer to the request of this id, which must be the next one to come.
    pub async fn receive<R: Request>(&mut self, id: i32, version: i16) -> R::Response {
        let frame = self
            .read_frame()
            .await
            .expect("an answer, not the end of the connection");
        let (header, response) =
            decode_response::<R>(frame, version).expect("a well-formed answer");
        assert_eq!(
            header.correlation_id, id,
            "answers come in the order of the requests"
        );
        response
    }

    /// One request and its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request).await;
        self.receive::<R>(id, version).await
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes)
            .await
            .expect("the peer takes the bytes");
    }

    /// Writes bytes as they are, to a peer that may have closed.
    pub async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let written = tokio::time::timeout(LIMIT, self.stream.write_all(bytes)).await;
        written.expect("the peer takes the bytes in time")
    }

    /// The next frame without its length; none when the peer has closed.
    pub async fn read_frame(&mut self) -> Option<Bytes> {
        self.read_frame_within(LIMIT).await
    }

    /// The same with a deadline of its own, after which it panics.
    pub async fn read_frame_within(&mut self, limit: Duration) -> Option<Bytes> {
        let read = async {
            let length = self.stream.read_i32().await?;
            let length = usize::try_from(length).expect("a length of no less than nothing");
            let mut frame = vec![0; length];
            self.stream.read_exact(&mut frame).await?;
            std::io::Result::Ok(Bytes::from(frame))
        };
        let read = tokio::time::timeout(limit, read).await;
        read.expect("a frame, or the end of the connection, in time")
            .ok()
    }

    /// Waits, however long that takes, until the peer has closed.
    pub async fn ended(&mut self) {
        while self.stream.read_u8().await.is_ok() {}
    }

    /// The peer has closed, or closes now, without another frame.
    pub async fn is_closed(&mut self) -> bool {
        self.read_frame().await.is_none()
    }

    /// Says that nothing more will come.
    pub async fn finish_writing(&mut self) {
        self.try_finish_writing()
            .await
            .expect("a connection that can be shut");
    }

    /// Says that nothing more will come, to a peer that may have closed.
    pub async fn try_finish_writing(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }
}
