//! Connections: TLS with optional client certificates, HTTP/2 and HTTP/1.1 with upgrades, and the same requests from inside
//! of this process.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use daemon::Tasks;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::answer::{Body, Request, Response};
use crate::authenticate::{Peer, certificate_user};
use crate::front::{Front, Origin};
use crate::request::User;

/// A client that does not finish its handshake in this time is dropped.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests one connection carries at once.
const STREAMS_MAX: u32 = 250;
/// A watch that nobody reads must not hold up the others on its connection.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// An answer's buffer on its way out, per stream.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(15);
/// An idle HTTP/1.1 client that has not sent a request's head is dropped after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long open requests may go on once the drain has started.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A pause after the system has refused a connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until the drain, then lets the open ones end.
pub(crate) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, front: Arc<Front>, tasks: &Tasks) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let drain = tasks.drain().clone();
    while let Some(accepted) = drain.run(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, front, watcher, drain) = (acceptor.clone(), front.clone(), graceful.watcher(), drain.clone());
        tasks.spawn("connection", async move {
            let shaken = drain.run(handshake(stream, peer, &acceptor, &front)).await;
            if let Some(Some(stream)) = shaken {
                connection(stream, peer, front, watcher).await;
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::info!("ended with requests still open");
    }
}

/// A client that has not finished it has no request open: the drain does not wait for it.
async fn handshake(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: &TlsAcceptor,
    front: &Front,
) -> Option<TlsStream<TcpStream>> {
    // A small event on a watch has to leave at once.
    let _ = stream.set_nodelay(true);
    let outcome = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    if !matches!(outcome, Ok(Ok(_))) {
        front.metrics.handshake_failed();
    }
    match outcome {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(%peer, "TLS handshake takes too long"),
    }
    None
}

async fn connection(stream: TlsStream<TcpStream>, peer: SocketAddr, front: Arc<Front>, watcher: Watcher) {
    let certified = stream.get_ref().1.peer_certificates().and_then(|chain| {
        let certificate = pki::Certificate::from_der(chain.first()?).ok()?;
        Some(Peer { user: certificate_user(&certificate)?.into(), not_after: certificate.not_after })
    });
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let (front, certified) = (front.clone(), certified.clone());
        async move { Ok::<_, Infallible>(front.answer(request.map(Body::new), Origin::Connection(certified)).await) }
    });
    let builder = builder();
    let served = watcher.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
    if let Err(error) = served.await {
        tracing::debug!(%peer, error, "connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// The server as a service inside of this process, with an identity: the same filters and handlers, no socket.
#[derive(Clone)]
pub struct InProcess {
    front: Arc<Front>,
    user: Arc<User>,
}

impl InProcess {
    /// Requests are made as `user`.
    pub fn new(front: Arc<Front>, user: User) -> Self {
        Self { front, user: Arc::new(user) }
    }
}

impl tower::Service<http::Request<kube::client::Body>> for InProcess {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        let (front, user) = (self.front.clone(), self.user.clone());
        let request: Request = request.map(Body::new);
        Box::pin(async move { Ok(front.answer(request, Origin::Process(user)).await) })
    }
}
