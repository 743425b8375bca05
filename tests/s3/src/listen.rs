//! Accepting connections on both ports.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::control::{self, Control};
use crate::exchange::Exchanges;

/// So many tests may use the control port at once.
const CONTROL_CONNECTIONS_MAX: usize = 16;

/// Serves S3 until its task is aborted. While the double is down, new connections are closed at once.
pub(crate) async fn serve_s3(
    listener: TcpListener,
    connections_max: usize,
    is_down: Arc<AtomicBool>,
    exchanges: Arc<Exchanges>,
) {
    let connection = move |stream: TcpStream| {
        let exchanges = Arc::clone(&exchanges);
        let is_down = is_down.load(Ordering::Relaxed);
        async move {
            if is_down {
                return;
            }
            let service = service_fn(|request| exchanges.answer(request));
            // An error is a client that went, or a fault that closed the connection.
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        }
    };
    accept(listener, connections_max, connection).await
}

/// Serves the control port until its task is aborted.
pub(crate) async fn serve_control(listener: TcpListener, control: Arc<Control>) {
    let connection = move |stream: TcpStream| {
        let control = Arc::clone(&control);
        async move {
            let service = service_fn(|request| async {
                Ok::<_, Infallible>(control::answer(&control, request).await)
            });
            // An error is a client that went.
            drop(
                http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        }
    };
    accept(listener, CONTROL_CONNECTIONS_MAX, connection).await
}

/// Runs each connection in a task; those above the limit wait in the listener's backlog.
async fn accept<F>(
    listener: TcpListener,
    connections_max: usize,
    connection: impl Fn(TcpStream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely; others may close some.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let served = connection(stream);
        connections.spawn(async move {
            served.await;
            drop(permit);
        });
    }
}
