//! Connections to the API server, as few as can be.
//!
//! kube's own client speaks HTTP/1.1, where every watch has a connection for itself: a node agent that follows the
//! config maps and secrets of its pods has hundreds. This one speaks HTTP/2 with a server that does, as client-go, and
//! HTTP/1.1 with others. What is not for it: upgrades (exec, attach, port-forward), which HTTP/2 does not have; whoever
//! makes them takes a [`kube::Client`] of kube's.
//!
//! A server limits how many requests a connection carries at once. hyper lets those above wait for a place, and watches
//! never leave theirs: one watch too many would hold up everything after it, the node's heartbeat too. So requests are
//! counted here, and a further connection is made when one is full.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt as _, RustlsTlsError, retry::RetryPolicy};
use kube::{Client, Config};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, Service, ServiceBuilder, retry::RetryLayer};

/// How many requests one connection carries at once. Upstream's API server admits no more.
const STREAMS_MAX: usize = 100;
/// A process that has this many full connections has lost its way.
const CONNECTIONS_MAX: usize = 100;
/// A connection on which nothing was read for so long is asked whether it is alive, and given up when no answer comes.
/// As client-go's `HTTP2_READ_IDLE_TIMEOUT_SECONDS` and `HTTP2_PING_TIMEOUT_SECONDS`.
const PATIENCE: Patience = Patience { silence: Duration::from_secs(30), answer: Duration::from_secs(15) };
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Answers that nobody reads must not hold up the others.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * 100;
/// Connections that are kept for the next request when the server has no HTTP/2, as client-go.
const IDLE_MAX: usize = 25;

type Connector = TimeoutConnector<HttpsConnector<HttpConnector>>;
type Pool = legacy::Client<Connector, Body>;

#[derive(Debug, Clone, Copy)]
struct Patience {
    silence: Duration,
    answer: Duration,
}

/// A client of a configuration. Its clones share its connections.
///
/// # Errors
/// When the configuration's certificates, names or credentials cannot be used.
pub fn connect(config: Config) -> kube::Result<Client> {
    // Refused, with kube's words: it is built without proxies.
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    with_patience(&config, PATIENCE)
}

fn with_patience(config: &Config, patience: Patience) -> kube::Result<Client> {
    let retry = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retry)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .service(Connections::new(connector(config)?, patience));
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn connector(config: &Config) -> kube::Result<Connector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(PATIENCE.silence));
    tcp.set_keepalive_interval(Some(PATIENCE.answer));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone())
            .map_err(|error| kube::Error::RustlsTls(RustlsTlsError::InvalidServerName(error)))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let mut connector = TimeoutConnector::new(builder.enable_all_versions().wrap_connector(tcp));
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    Ok(connector)
}

/// Every pool has one connection to a server that speaks HTTP/2. It is made on the first request, and anew after its end.
fn pool(connector: Connector, patience: Patience) -> Pool {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        // One that carries watches and no new requests is not idle. What is idle the server closes.
        .pool_idle_timeout(None)
        .pool_max_idle_per_host(IDLE_MAX)
        .http2_keep_alive_interval(patience.silence)
        .http2_keep_alive_timeout(patience.answer)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .build(connector)
}

/// A pool, and how many more requests it takes.
struct Lane {
    pool: Pool,
    room: Arc<Semaphore>,
}

/// Sends requests over the first connection that has room. Clones share the connections.
#[derive(Clone)]
struct Connections {
    connector: Connector,
    patience: Patience,
    lanes: Arc<Mutex<Vec<Lane>>>,
}

impl Connections {
    fn new(connector: Connector, patience: Patience) -> Self {
        Self { connector, patience, lanes: Arc::default() }
    }

    /// A pool to send one request over, and the request's place.
    fn take(&self) -> Option<(Pool, OwnedSemaphorePermit)> {
        let mut lanes = self.lanes.lock();
        let free = lanes.iter().find_map(|lane| {
            let place = lane.room.clone().try_acquire_owned().ok()?;
            Some((lane.pool.clone(), place))
        });
        if free.is_some() || lanes.len() == CONNECTIONS_MAX {
            return free;
        }
        let room = Arc::new(Semaphore::new(STREAMS_MAX));
        let place = room.clone().try_acquire_owned().ok()?;
        let pool = pool(self.connector.clone(), self.patience);
        lanes.push(Lane { pool: pool.clone(), room });
        Some((pool, place))
    }
}

impl Service<Request<Body>> for Connections {
    type Response = Response<Placed>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Placed>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let taken = self.take();
        Box::pin(async move {
            let (pool, place) = taken.ok_or_else(|| format!("{CONNECTIONS_MAX} connections are full"))?;
            let answer = pool.request(request).await?;
            Ok(answer.map(|body| Placed { body, _place: place }))
        })
    }
}

/// An answer's body, which takes a place on its connection until it is dropped.
struct Placed {
    body: Incoming,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Placed {
    type Data = hyper::body::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
