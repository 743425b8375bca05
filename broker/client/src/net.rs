//! The socket seam: the only place that names a TCP type.
//!
//! A server and a client use these types; under the feature `sim` they are turmoil's, so that the same
//! code runs on a simulated network. Both kinds are `AsyncRead`/`AsyncWrite` and split into owned halves.

use std::io;
use std::time::Duration;

#[cfg(not(feature = "sim"))]
pub use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(not(feature = "sim"))]
pub use tokio::net::{TcpListener, TcpStream};
#[cfg(feature = "sim")]
pub use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
#[cfg(feature = "sim")]
pub use turmoil::net::{TcpListener, TcpStream};

/// Binds `address` (`host:port`; port 0 picks a free one). SO_REUSEADDR is set, so that a restarted
/// server can take its port back at once.
///
/// # Errors
/// As the operating system gives them; `AddrInUse` when somebody else listens there.
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Connects to `address` (`host:port`) within `limit` and prepares the socket as [`prepare`] does.
///
/// # Errors
/// `TimedOut` when `limit` passes first, else as the operating system gives them.
#[allow(clippy::disallowed_methods, reason = "this is the seam")]
pub async fn connect(address: &str, limit: Duration) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no connection within {limit:?}"),
            )
        })??;
    prepare(&stream)?;
    Ok(stream)
}

/// Sets what every connection of ours has, accepted or dialled: no Nagle delay, and keepalive probes, so
/// that a peer that vanished without a FIN is noticed within about two minutes.
///
/// # Errors
/// As the operating system gives them; a socket that is already reset can refuse.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(not(feature = "sim"))]
    {
        const IDLE_BEFORE_PROBE: Duration = Duration::from_secs(60);
        const BETWEEN_PROBES: Duration = Duration::from_secs(10);
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(IDLE_BEFORE_PROBE)
            .with_interval(BETWEEN_PROBES);
        socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    Ok(())
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_has_nodelay_and_keepalive() {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let stream = connect(&address, Duration::from_secs(5)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        assert!(socket2::SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_dead_port_is_refused_not_waited_for() {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = connect(&address, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
