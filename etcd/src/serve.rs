//! Connections: TCP, TLS, HTTP.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use daemon::{Drain, Tasks};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use pki::Credential;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::{Error, Listen, Server, Tls, route};

/// How long a client may take for its handshake, for its first bytes after that, and for a request's header.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at one time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// Calls at one time on one connection. Each watch of an API server may be one.
const STREAMS_MAX: u32 = 1 << 16;

/// What a client may send before it is read.
const WINDOW_BYTES: u32 = 1 << 20;

/// How often an idle connection is asked whether it is still there, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long to wait after a connection could not be accepted, as for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What an address is for.
#[derive(Clone)]
struct Door {
    secure: Option<Secure>,
    metrics: bool,
}

#[derive(Clone)]
struct Secure {
    acceptor: TlsAcceptor,
    client_required: bool,
}

/// Listens on an address and serves it until the drain starts.
pub(crate) async fn listen(tasks: &Tasks, server: Arc<Server>, listen: Listen, tls: Option<&Tls>) -> Result<(), Error> {
    let secure = match tls.filter(|_| listen.secure) {
        None => None,
        Some(tls) => Some(Secure {
            acceptor: TlsAcceptor::from(Arc::new(tls_config(tls).map_err(Error::Tls)?)),
            client_required: tls.client_required && !listen.metrics,
        }),
    };
    let door = Door { secure, metrics: listen.metrics };
    let failed = |source| Error::Listen { address: listen.address.clone(), source };
    let listener = TcpListener::bind(&listen.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, tls = door.secure.is_some(), metrics = door.metrics, "serving etcd's clients");
    tasks.spawn("accept", accept(tasks.clone(), listener, server, door));
    Ok(())
}

fn tls_config(tls: &Tls) -> Result<ServerConfig, pki::Error> {
    let credential = Credential::load(&tls.certificate, &tls.key)?;
    let client_ca = tls.client_ca.as_deref().map(pki::read).transpose()?;
    pki::tls::server(&credential, client_ca.as_deref())
}

async fn accept(tasks: Tasks, listener: TcpListener, server: Arc<Server>, door: Door) {
    let drain = tasks.drain().clone();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = drain.run(async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        });
        match accepted.await {
            None => return,
            Some((Ok(permit), Ok((stream, _)))) => {
                let connection = connection(stream, server.clone(), door.clone(), drain.clone());
                tasks.spawn("connection", async move {
                    connection.await;
                    drop(permit);
                });
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Some((Err(_), _)) => return,
        }
    }
}

async fn connection(stream: TcpStream, server: Arc<Server>, door: Door, drain: Drain) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let Some(secure) = door.secure else { return serve(stream, server, door.metrics, drain).await };
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, secure.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    if secure.client_required && stream.get_ref().1.peer_certificates().is_none() {
        return tracing::warn!("turned away a client without a certificate");
    }
    serve(stream, server, door.metrics, drain).await;
}

/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it shows which HTTP is spoken. What follows has timeouts of its own; this has none in hyper.
async fn first_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(PREFACE.len());
    while read.len() < PREFACE.len() && PREFACE.starts_with(&read) {
        let left = PREFACE.len() - read.len();
        if (&mut *stream).take(left as u64).read_buf(&mut read).await? == 0 {
            break;
        }
    }
    Ok(read)
}

async fn serve<S>(mut stream: S, server: Arc<Server>, metrics: bool, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let server = server.clone();
        async move {
            Ok::<_, Infallible>(if metrics {
                route::plain(&server, &request)
            } else {
                route::route(server, request).await
            })
        }
    });
    let first = drain.run(tokio::time::timeout(HANDSHAKE_TIMEOUT, first_bytes(&mut stream)));
    let first = match first.await {
        None => return,
        Some(Ok(Ok(first))) => first,
        Some(Ok(Err(error))) => return tracing::debug!(%error, "connection ended"),
        Some(Err(_)) => return tracing::debug!("the first bytes took too long"),
    };
    let (reader, writer) = tokio::io::split(stream);
    let stream = tokio::io::join(Cursor::new(first).chain(reader), writer);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).adaptive_window(false);
    http2.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES * 4);
    http2.keep_alive_interval(KEEPALIVE.0).keep_alive_timeout(KEEPALIVE.1);
    let graceful = GracefulShutdown::new();
    let served = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
    tokio::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => ended,
        () = drain.cancelled() => {
            let (_, ended) = tokio::join!(graceful.shutdown(), served);
            ended
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

#[cfg(test)]
mod tests;
